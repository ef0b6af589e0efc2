"""Templates of TemplateFlow if they are installed, otherwise the one packaged with nilearn."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.container import home_dir
from bids_interp.errors import TemplateError
from bids_interp.nifti import TEMPLATE_CODE, make_image
from bids_interp.settings import Settings

logger = logging.getLogger('bids_interp')

# Whole heads with a brain mask, in the order of preference.
HEAD_TEMPLATES = ('OASIS30ANTs', 'MNI152NLin2009cAsym', 'MNI152NLin6Asym')


@dataclass(frozen=True, eq=False)
class StripTemplate:
    """A whole-head template for brain extraction.

    Attributes
    ----------
    name : str
        TemplateFlow identifier.
    head, mask : Nifti1Image
        The head and its brain mask on one grid.
    source : {'templateflow', 'synthetic'}
        ``synthetic``: a head modelled around the embedded brain.
    """

    name: str
    head: nib.Nifti1Image
    mask: nib.Nifti1Image
    source: str


def head_template_name(name: str | None = None) -> str:
    """Return the name of the whole-head template: the requested one, otherwise the best available.

    Parameters
    ----------
    name : str, optional
        TemplateFlow identifier; by default the first installed one of `HEAD_TEMPLATES`, or the
        embedded one if none is installed.
    """
    installed = (found for found in HEAD_TEMPLATES if _head_files(found, offline=True) is not None)
    return name or next(installed, EMBEDDED_TEMPLATE)


def with_head_template(settings: Settings) -> Settings:
    """Return the settings with the name of the whole-head template.

    The best available template may change between two runs, but intermediate and finished files
    are only valid for the template that they were made with.
    """
    return settings.replace(template=head_template_name(settings.template))


def strip_template(name: str | None = None, *, offline: bool = True) -> StripTemplate:
    """Return the whole-head template for brain extraction.

    Parameters
    ----------
    name : str, optional
        TemplateFlow identifier; by default that of :func:`head_template_name`.
        ``MNI152NLin2009aSym`` gives the embedded brain in a synthetic head.
    offline : bool
        Never download. Only a template given by name is ever downloaded.

    Raises
    ------
    TemplateError
        If a template given by name is not available.
    """
    chosen = head_template_name(name)
    if chosen != EMBEDDED_TEMPLATE:
        files = _head_files(chosen, offline=offline or name is None)
        if files is None:
            raise TemplateError(
                f'The whole-head template {chosen} with its brain mask is not in {flow_home()}.'
            )
        head, mask = (nib.load(f) for f in files)
        return StripTemplate(chosen, *_checked(head, mask, files), 'templateflow')
    from bids_interp.phantom.heads.head import synthetic_head

    head, mask = synthetic_head(brain_template(EMBEDDED_TEMPLATE), spacing_mm=2.0)
    return StripTemplate(EMBEDDED_TEMPLATE, head, mask, 'synthetic')


def brain_template(name: str = EMBEDDED_TEMPLATE, *, offline: bool = True) -> nib.Nifti1Image:
    """Return the brain of a template at 1 mm: float32, 0 outside the brain, RAS+ axes.

    If only 2 mm are installed and nothing can be downloaded, they are interpolated.

    Raises
    ------
    TemplateError
        If it is neither embedded nor in the TemplateFlow folder.
    """
    if name == EMBEDDED_TEMPLATE:
        return _embedded_brain()
    has_coarse = _head_files(name, offline=True) is not None
    try:
        files = _flow_files(name, ('res-01', 'res-1'), offline)
    except TemplateError:
        if not has_coarse:
            raise
        files = None
    if files is None and has_coarse:
        logger.warning('The template %s is installed at 2 mm only.', name)
        return _at_1_mm(coarse_brain(name))
    if files is None:
        raise TemplateError(
            f'The brain of template {name} at 1 mm is not in {flow_home()}.',
            'Download it once with a network connection, or use a model made for '
            f'{EMBEDDED_TEMPLATE}, which needs no download.',
        )
    return _flow_brain(files)


def _flow_brain(files: tuple[Path, Path]) -> nib.Nifti1Image:
    """Return the brain of a head and its mask."""
    head, mask = _checked(nib.load(files[0]), nib.load(files[1]), files)
    data = np.asarray(head.dataobj, dtype=np.float32) * (np.asarray(mask.dataobj) > 0.5)
    return make_image(data, head.affine, TEMPLATE_CODE)


def _at_1_mm(brain: nib.Nifti1Image) -> nib.Nifti1Image:
    import torch

    from bids_interp.spatial import Grid, resample

    own = Grid.from_image(brain)
    grid = own.with_spacing(1.0)
    data = torch.from_numpy(np.asarray(brain.dataobj, np.float32))[None, None]
    return make_image(resample(data, own, grid)[0, 0].numpy(), grid.affine, TEMPLATE_CODE)


def coarse_brain(name: str, *, offline: bool = True) -> nib.Nifti1Image:
    """Return the brain of a template, at 2 mm if there is a choice: float32, 0 outside, RAS+ axes.

    Raises
    ------
    TemplateError
        If it is neither embedded nor in the TemplateFlow folder.
    """
    if name == EMBEDDED_TEMPLATE:
        return _embedded_brain()
    files = _head_files(name, offline)
    if files is None:
        raise TemplateError(
            f'The template {name} with its brain mask is not in {flow_home()}.',
            'Download it once with a network connection, or give something in the space of the '
            'model.',
        )
    return _flow_brain(files)


def flow_home() -> Path:
    """Return the TemplateFlow folder."""
    home = os.environ.get('TEMPLATEFLOW_HOME')
    return Path(home) if home else home_dir() / '.cache' / 'templateflow'


def _embedded_brain() -> nib.Nifti1Image:
    from bids_interp.phantom.heads.head import embedded_brain

    image = embedded_brain()
    return make_image(np.asarray(image.dataobj, dtype=np.float32), image.affine, TEMPLATE_CODE)


def _head_files(name: str, offline: bool) -> tuple[Path, Path] | None:
    return _flow_files(name, ('res-02', 'res-2', 'res-01', 'res-1'), offline)


def _flow_files(name: str, resolutions: tuple[str, ...], offline: bool) -> tuple[Path, Path] | None:
    """Return head and mask from the TemplateFlow folder; download them only if allowed."""
    for resolution in resolutions:
        stem = flow_home() / f'tpl-{name}' / f'tpl-{name}_{resolution}'
        head, mask = (Path(f'{stem}_{end}.nii.gz') for end in ('T1w', 'desc-brain_mask'))
        # TemplateFlow represents files that are not downloaded yet by empty files.
        if all(f.is_file() and f.stat().st_size > 0 for f in (head, mask)):
            return head, mask
    return None if offline else _fetched(name, resolutions)


def _fetched(name: str, resolutions: tuple[str, ...]) -> tuple[Path, Path] | None:
    os.environ['TEMPLATEFLOW_AUTOUPDATE'] = '0'
    resolution = int(resolutions[0].removeprefix('res-'))
    try:
        from templateflow import api

        found = [
            api.get(name, resolution=resolution, desc=desc, suffix=suffix, extension='.nii.gz')
            for desc, suffix in ((None, 'T1w'), ('brain', 'mask'))
        ]
    except Exception as error:  # the client raises whatever its transport raises
        raise TemplateError(f'Template {name} could not be downloaded: {error}.') from error
    files = [Path(f) for f in found if isinstance(f, Path)]
    return (files[0], files[1]) if len(files) == 2 else None


def _checked(
    head: nib.Nifti1Image, mask: nib.Nifti1Image, files: tuple[Path, Path]
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    if head.shape != mask.shape or not np.allclose(head.affine, mask.affine, atol=1e-3):
        raise TemplateError(f'{files[0]} and {files[1]} are not on the same grid.')
    head, mask = nib.as_closest_canonical(head), nib.as_closest_canonical(mask)
    data = np.asarray(head.dataobj, dtype=np.float32)
    brain = np.asarray(mask.dataobj) > 0.5
    return make_image(data, head.affine, TEMPLATE_CODE), make_image(
        brain.astype(np.float32), mask.affine, TEMPLATE_CODE
    )
