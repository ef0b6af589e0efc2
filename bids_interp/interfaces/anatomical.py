"""Interfaces of the anatomical workflow, which call functions of :mod:`bids_interp.anatomical`."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_interp.bids.write.atomic import no_map, write_json, write_text

logger = logging.getLogger('bids_interp')


class _AntsInputSpec(BaseInterfaceInputSpec):
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of ANTs')
    random_seed = traits.Int(0, usedefault=True, desc='seed of ANTs')


class _PreparationInputSpec(_AntsInputSpec):
    fast = traits.Bool(False, usedefault=True, desc='trade accuracy for time')


class _NodeInterface(SimpleInterface):
    def path(self, runtime: Any, name: str) -> Path:
        """Return the path of a file in the folder of the node."""
        return Path(runtime.cwd) / name

    def save(self, runtime: Any, output: str, img: Any) -> None:
        """Write an image and make it an output."""
        from bids_interp.bids.write.nifti import save_image

        path = save_image(img, self.path(runtime, f'{output}.nii.gz'))
        self._results[output] = str(path)


class _ConformInputSpec(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc='T1w image')
    t1w_derivative = File(exists=True, desc='preprocessed T1w image to use instead')


class _ConformOutputSpec(TraitedSpec):
    conformed = File(exists=True, desc='3-D, float32, closest to RAS+')
    conform_report = File(exists=True, desc='JSON: changes to the image')


class Conform(_NodeInterface):
    """Check a T1w image and convert it to the standard form."""

    input_spec = _ConformInputSpec
    output_spec = _ConformOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.anatomical.raw.conform import conform
        from bids_interp.bids.read.prepared import FINGERPRINT
        from bids_interp.models.bundle.fingerprint import image_fingerprint

        given = self.inputs.t1w_derivative
        img, report = conform(given if isdefined(given) else self.inputs.t1w)
        self.save(runtime, 'conformed', img)
        facts = {**report.to_dict(), FINGERPRINT: image_fingerprint(self.inputs.t1w)}
        path = write_json(self.path(runtime, 'conform_report.json'), facts)
        self._results['conform_report'] = str(path)
        return runtime


class _PrepareBrainInputSpec(_PreparationInputSpec):
    t1w = File(exists=True, mandatory=True, desc='source image, for messages')
    conformed = File(exists=True, mandatory=True, desc='conformed image')
    conform_report = File(exists=True, mandatory=True, desc='JSON of Conform')
    t1w_derivative = File(exists=True, desc='given if the image is already bias-corrected')
    mask = File(exists=True, desc='brain mask of another tool')
    skull_strip = traits.Enum(
        'auto', 'force', 'skip', usedefault=True, desc='use of brain extraction'
    )
    strip_template = traits.Either(None, traits.Str, usedefault=True, desc='whole-head template')
    offline = traits.Bool(True, usedefault=True, nohash=True, desc='do not download templates')


class _PrepareBrainOutputSpec(TraitedSpec):
    t1w_preproc = File(exists=True, desc='bias-corrected image')
    brain_mask = File(exists=True, desc='brain mask, 0 and 1')
    brain = File(exists=True, desc='bias-corrected image within the mask')
    skull_stripped_input = traits.Bool(desc='the input image had no skull')
    conform_report = File(exists=True, desc='JSON of Conform with the origin of the brain mask')


class PrepareBrain(_NodeInterface):
    """Correct the bias field and extract the brain."""

    input_spec = _PrepareBrainInputSpec
    output_spec = _PrepareBrainOutputSpec

    def _run_interface(self, runtime):
        import nibabel as nib

        from bids_interp.anatomical.prepared_brain import BrainOptions, prepare_brain

        inputs = self.inputs
        options = BrainOptions(
            skull_strip=inputs.skull_strip,
            template=inputs.strip_template,
            offline=inputs.offline,
            threads=inputs.num_threads,
            seed=inputs.random_seed,
            fast=inputs.fast,
        )
        prepared = prepare_brain(
            nib.load(inputs.conformed),
            options,
            given_mask=Path(inputs.mask) if isdefined(inputs.mask) else None,
            corrected=isdefined(inputs.t1w_derivative),
            name=inputs.t1w,
        )
        self.save(runtime, 't1w_preproc', prepared.image)
        self.save(runtime, 'brain_mask', prepared.mask)
        self.save(runtime, 'brain', prepared.brain)
        self._results['skull_stripped_input'] = prepared.stripped_input
        report = json.loads(Path(inputs.conform_report).read_text(encoding='utf-8'))
        path = write_json(self.path(runtime, 'report.json'), {**report, **prepared.facts})
        self._results['conform_report'] = str(path)
        return runtime


class _RegisterBrainInputSpec(_PreparationInputSpec):
    t1w = File(exists=True, mandatory=True, desc='source image, for messages')
    brain = File(exists=True, mandatory=True, desc='native brain, 0 outside')
    brain_mask = File(exists=True, mandatory=True, desc='native brain mask, 0 and 1')
    template = traits.Str(mandatory=True, desc='name of the brain template')
    offline = traits.Bool(True, usedefault=True, nohash=True, desc='do not download templates')


class _RegisterBrainOutputSpec(TraitedSpec):
    native_to_template = File(exists=True, desc='JSON: 4 x 4, world RAS mm, and its quality')
    xfm_forward_itk = File(exists=True, desc='ITK text: native images to the template')
    xfm_inverse_itk = File(exists=True, desc='ITK text: template images to native space')
    template_brain = File(exists=True, desc='brain on the 1 mm grid of the template')
    template_mask = File(exists=True, desc='brain mask on the same grid, 0 and 1')


class RegisterBrain(_NodeInterface):
    """Register a brain to a template by an affine, and resample it once."""

    input_spec = _RegisterBrainInputSpec
    output_spec = _RegisterBrainOutputSpec

    def _run_interface(self, runtime):
        import nibabel as nib
        import numpy as np

        from bids_interp.anatomical.cubic_resampler import brain_in_template
        from bids_interp.anatomical.itk import itk_text
        from bids_interp.anatomical.registration import register_brain
        from bids_interp.anatomical.templates import brain_template

        inputs = self.inputs
        template = brain_template(inputs.template, offline=inputs.offline)
        brain = nib.load(inputs.brain)
        result = register_brain(
            brain,
            template,
            name=inputs.t1w,
            threads=inputs.num_threads,
            seed=inputs.random_seed,
            fast=inputs.fast,
        )
        for text in result.warnings:
            logger.warning('%s: %s', Path(inputs.t1w).name, text)
        matrix = result.native_to_template
        path = write_json(self.path(runtime, 'native_to_template.json'), result.to_dict())
        self._results['native_to_template'] = str(path)
        pulls = {'xfm_forward_itk': np.linalg.inv(matrix), 'xfm_inverse_itk': matrix}
        for output, pull in pulls.items():
            path = write_text(self.path(runtime, f'{output}.txt'), itk_text(pull))
            self._results[output] = str(path)
        placed, mask = brain_in_template(brain, nib.load(inputs.brain_mask), template, matrix)
        self.save(runtime, 'template_brain', placed)
        self.save(runtime, 'template_mask', mask)
        return runtime


class _MeasureAnatomyInputSpec(_AntsInputSpec):
    template_brain = File(exists=True, mandatory=True, desc='brain, aligned with the template')
    template = traits.Str(mandatory=True, desc='name of the brain template')
    offline = traits.Bool(True, usedefault=True, nohash=True, desc='do not download templates')


class _MeasureAnatomyOutputSpec(TraitedSpec):
    anatomy = File(
        exists=True,
        desc='log-Jacobian from the template to the brain; an empty file if registration failed',
    )


class MeasureAnatomy(_NodeInterface):
    """Measure local volumes of a brain by a deformable registration to the template.

    Only the group level needs them: if the registration fails, the subject has no expression score.
    """

    input_spec = _MeasureAnatomyInputSpec
    output_spec = _MeasureAnatomyOutputSpec

    def _run_interface(self, runtime):
        import nibabel as nib

        from bids_interp.anatomical.deformation import measure_anatomy
        from bids_interp.anatomical.templates import brain_template
        from bids_interp.errors import ImageError

        inputs = self.inputs
        template = brain_template(inputs.template, offline=inputs.offline)
        brain = nib.load(inputs.template_brain)
        try:
            volumes = measure_anatomy(
                brain, template, threads=inputs.num_threads, seed=inputs.random_seed
            )
        except ImageError as error:
            logger.warning(
                '%s The group level will have no expression score of this image.', error.message
            )
            self._results['anatomy'] = str(no_map(self.path(runtime, 'anatomy.nii.gz')))
            return runtime
        self.save(runtime, 'anatomy', volumes)
        return runtime
