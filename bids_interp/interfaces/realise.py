"""Interfaces that realise simulations at full resolution, and put them into other templates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    OutputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_interp.bids.explain_files import realised_field, realised_files, stem_of
from bids_interp.bids.prediction import MapFacts
from bids_interp.bids.write.atomic import write_json
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.interfaces.model_inputs import load_fields, load_image, load_matrix
from bids_interp.records import to_plain


class _RealiseInputSpec(BaseInterfaceInputSpec):
    velocity = InputMultiObject(File(exists=True), mandatory=True, desc='inject, remove')
    doses = traits.List(traits.Float, mandatory=True, desc='doses')
    image = File(exists=True, mandatory=True, desc='brain on the output grid, zero outside')
    mask = File(exists=True, mandatory=True, desc='its brain mask, 0 and 1')
    to_template = File(exists=True, desc='JSON: 4 x 4 to the template, for native images')
    field_kind = traits.Enum('velocity', 'displacement', usedefault=True, desc='kind of the fields')
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of PyTorch')


class _RealiseOutputSpec(TraitedSpec):
    simulated = OutputMultiObject(File(exists=True), desc='simulated brains')
    log_jacobian = OutputMultiObject(File(exists=True), desc='log-Jacobian maps')
    facts = File(exists=True, desc='JSON: an object for each direction and dose')


class Realise(SimpleInterface):
    """Realise simulations on one grid, in template or native space.

    :func:`bids_interp.bids.explain_files.realised_files` defines names and order of the files.
    """

    input_spec = _RealiseInputSpec
    output_spec = _RealiseOutputSpec

    def _run_interface(self, runtime):
        import torch

        from bids_interp.models.explain.explainer import realise

        torch.set_num_threads(self.inputs.num_threads)
        is_native = isdefined(self.inputs.to_template)
        matrix = load_matrix(self.inputs.to_template) if is_native else None
        image, grid = load_image(self.inputs.image)
        inside = load_image(self.inputs.mask)[0] > 0.5
        fields = load_fields(self.inputs.velocity)
        space = 'native' if is_native else 'template'
        simulated = realised_files('simulated', space, self.inputs.doses)
        maps = realised_files('logjacobian', space, self.inputs.doses)
        paths: dict[str, list[str]] = {'simulated': [], 'log_jacobian': []}
        facts: dict[str, MapFacts] = {}
        for image_file, map_file in zip(simulated, maps, strict=True):
            velocity, velocity_grid = fields[map_file.direction]
            done = realise(
                velocity,
                velocity_grid,
                map_file.dose,
                image,
                grid,
                matrix,
                self.inputs.field_kind,
                inside,
            )
            for name, file, data in (
                ('simulated', image_file, done.image),
                ('log_jacobian', map_file, done.log_jacobian),
            ):
                path = Path(runtime.cwd) / f'{file.stem}.nii.gz'
                write_nifti(path, data, grid.affine, template=not is_native)
                paths[name].append(str(path))
            facts[map_file.label] = MapFacts(done.n_folded, done.displacement_max_mm)
        facts_path = write_json(Path(runtime.cwd) / 'facts.json', to_plain(facts))
        self._results = {**paths, 'facts': str(facts_path)}
        return runtime


class _ResampleInputSpec(BaseInterfaceInputSpec):
    space = traits.Str(mandatory=True, desc='other template')
    template = traits.Str(mandatory=True, desc='template of the model')
    doses = traits.List(traits.Float, mandatory=True, desc='doses')
    brain = File(exists=True, mandatory=True, desc='brain in the template of the model')
    mask = File(exists=True, mandatory=True, desc='its brain mask, 0 and 1')
    simulated = InputMultiObject(File(exists=True), mandatory=True, desc='simulated brains')
    log_jacobian = InputMultiObject(File(exists=True), mandatory=True, desc='log-Jacobian maps')
    offline = traits.Bool(True, usedefault=True, nohash=True, desc='do not download templates')
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of ANTs')


class _ResampleOutputSpec(TraitedSpec):
    brain = File(exists=True, desc='brain in the other template')
    mask = File(exists=True, desc='its brain mask, 0 and 1')
    simulated = OutputMultiObject(File(exists=True), desc='simulated brains')
    log_jacobian = OutputMultiObject(File(exists=True), desc='log-Jacobian maps')


class ResampleToSpace(SimpleInterface):
    """Resample brain, simulations and maps of the model's template onto another template."""

    input_spec = _ResampleInputSpec
    output_spec = _ResampleOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.anatomical.spaces.output_space import open_output_space
        from bids_interp.bids.write.nifti import save_image

        inputs = self.inputs
        brain, grid = load_image(inputs.brain, inputs.template)
        mask = load_image(inputs.mask)[0] > 0.5
        other = open_output_space(
            inputs.space,
            inputs.template,
            grid,
            offline=inputs.offline,
            threads=inputs.num_threads,
        )

        def save(stem, data):
            return str(save_image(other.image(data), Path(runtime.cwd) / f'{stem}.nii.gz'))

        self._results['brain'] = save('brain', other.take(brain, mask))
        self._results['mask'] = save('mask', other.take_mask(mask))
        for quantity, name in (('simulated', 'simulated'), ('logjacobian', 'log_jacobian')):
            paths = {stem_of(path): path for path in getattr(inputs, name)}
            self._results[name] = []
            for file in realised_files(quantity, 'template', inputs.doses):
                data = load_image(paths[file.stem])[0]
                # Tissue of a simulation may lie outside the mask of the scan.
                inside = data > 0 if quantity == 'simulated' else mask
                stem = replace(file, field=realised_field(quantity, inputs.space)).stem
                self._results[name].append(save(stem, other.take(data, inside)))
        return runtime
