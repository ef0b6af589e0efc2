"""Brain extraction with a whole-head template: registration first, tissue classes second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from bids_interp.anatomical import ants_tools
from bids_interp.anatomical.ants_tools import Stage
from bids_interp.anatomical.conform import make_image
from bids_interp.anatomical.refine import MaskSettings, refine
from bids_interp.anatomical.templates import StripTemplate
from bids_interp.errors import ImageError

WORK_MM = 2.0
MARGIN_MM = 20.0
RIM_MM = 4.0
BRAIN_LITRES = (0.5, 2.4)
_GC = 'GC[%s,%s,1,1,Regular,0.25]'
_CC = 'CC[%s,%s,1,2]'
_LINEAR = (
    Stage('Rigid[0.1]', _GC, '1000x500', '8x4', '3x2'),
    Stage('Affine[0.1]', _GC, '1000x500x100', '8x4x2', '3x2x1'),
)
_SYN = Stage('SyN[0.2,3,0]', _CC, '40x30x0', '4x2x1', '2x1x0')
_SYN_FAST = Stage('SyN[0.25,3,0]', _CC, '30x0', '4x1', '2x0')


@dataclass(frozen=True, eq=False)
class Extraction:
    """A brain mask and how it came about.

    Attributes
    ----------
    mask : Nifti1Image
        float32, 0 or 1, on the grid of the input.
    litres : float
        Its volume.
    template, source : str
        Name and source of the whole-head template.
    """

    mask: nib.Nifti1Image
    litres: float
    template: str
    source: str


def extract_brain(
    img: nib.Nifti1Image,
    template: StripTemplate,
    *,
    name: str = 'the image',
    threads: int = 1,
    seed: int = 0,
    fast: bool = False,
) -> Extraction:
    """Find the brain in a whole head.

    An affine and a coarse diffeomorphic registration (SyN, local correlation; Avants et al. 2008)
    bring the template's mask to the head; tissue classes and morphology then fit its border. With a
    synthetic head, whose skull and scalp are only a model, a second registration of the brain alone
    follows, which they cannot disturb.

    Parameters
    ----------
    img : Nifti1Image
        Bias-corrected head, axes closest to RAS+.
    template : StripTemplate
        Whole-head template with its mask.
    name : str
        File name for messages.
    threads, seed : int
        Threads and seed of ANTs; the same numbers give the same mask.
    fast : bool
        Fewer iterations, a less exact border.

    Raises
    ------
    ImageError
        If no brain of plausible volume is found.
    """
    ants = ants_tools.load_ants(threads)
    low = ants_tools.at_spacing(img, WORK_MM)
    head, brain_mask = ants_tools.to_ants(template.head), ants_tools.to_ants(template.mask)
    syn = _SYN_FAST if fast else _SYN
    native = ants_tools.to_ants(img)
    try:
        synthetic = template.source == 'synthetic'
        first_syn = _SYN_FAST if synthetic else syn
        prior = _first_pass(ants, low, head, brain_mask, native, first_syn, seed)
        if synthetic:
            first = refine(img, prior, MaskSettings.loose())
            prior = _brain_pass(ants, low, head * brain_mask, brain_mask, native, first, syn, seed)
    except RuntimeError as error:
        raise ImageError(
            f'The head of {name} could not be registered to the template ({error}).',
            'Is it a whole T1w head, the right way up? A mask of your own can be given with '
            '--derivatives.',
        ) from error
    mask = refine(img, prior, MaskSettings.tight())
    litres = float(mask.sum() * np.prod(nib.affines.voxel_sizes(img.affine)) / 1e6)
    if not BRAIN_LITRES[0] <= litres <= BRAIN_LITRES[1]:
        raise ImageError(
            f'The brain found in {name} has {litres:.2f} litres.',
            'Is it a whole T1w head, the right way up? A mask of your own can be given with '
            '--derivatives; for an image that is skull-stripped already use '
            '--skull-strip-t1w skip.',
        )
    code = int(img.header['sform_code'])
    out = make_image(mask.astype(np.float32), img.affine, code)
    return Extraction(out, litres, template.name, template.source)


def _first_pass(ants: Any, low, head, brain_mask, native, syn: Stage, seed: int) -> np.ndarray:
    """Warp the template's mask to the head; float array on the native grid, 0 to 1."""
    with ants_tools.run_registration(low, head, _LINEAR, seed=seed) as (affine, _):
        rough = ants.apply_transforms(low, brain_mask, affine, 'linear').numpy() > 0.5
        return _deformed(
            ants, _cropped(ants, low, rough), head, brain_mask, native, affine, syn, seed
        )


def _brain_pass(
    ants: Any, low, brain, brain_mask, native, first: np.ndarray, syn: Stage, seed: int
) -> np.ndarray:
    """Register the brain alone to what the first pass found; return the warped mask."""
    found = native.new_image_like(first.astype(np.float32))
    coarse = ants.resample_image_to_target(found, low, interp_type='linear').numpy()
    # A rim of skull is kept: the step from brain to skull is what the registration must meet.
    near = ndimage.distance_transform_edt(coarse < 0.5, sampling=WORK_MM) <= RIM_MM
    fixed = low.new_image_like((low.numpy() * near).astype(np.float32))
    linear = Stage('Affine[0.1]', _GC, '500x250x50', '6x4x2', '3x2x1')
    with ants_tools.run_registration(fixed, brain, [linear], seed=seed) as (affine, _):
        target = _cropped(ants, fixed, coarse > 0.5)
        return _deformed(ants, target, brain, brain_mask, native, affine, syn, seed)


def _cropped(ants: Any, image, mask: np.ndarray):
    """Return the image around the mask; the rest of the head only costs time."""
    if not mask.any():
        raise RuntimeError('the template does not overlap the image')
    margin = int(MARGIN_MM / WORK_MM)
    where = np.argwhere(mask)
    low = np.maximum(where.min(axis=0) - margin, 0)
    high = np.minimum(where.max(axis=0) + margin, mask.shape)
    return ants.crop_indices(image, [int(v) for v in low], [int(v) for v in high])


def _deformed(
    ants: Any, fixed, moving, brain_mask, native, affine: list[str], syn: Stage, seed: int
) -> np.ndarray:
    with ants_tools.run_registration(
        fixed, moving, [syn], seed=seed, initial=str(Path(affine[0]))
    ) as (forward, _):
        return ants.apply_transforms(native, brain_mask, forward, 'linear').numpy()
