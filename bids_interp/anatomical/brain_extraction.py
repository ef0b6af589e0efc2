"""Brain extraction with a whole-head template: registration, then tissue classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from bids_interp.anatomical import ants_tools
from bids_interp.anatomical.alignment import Scene, align, deform, warped_mask
from bids_interp.anatomical.ants_process import captured, scratch_folder
from bids_interp.anatomical.mask_border import MaskSettings, refine
from bids_interp.anatomical.templates import StripTemplate
from bids_interp.errors import ImageError
from bids_interp.nifti import image_like

BRAIN_LITRES = (0.5, 2.4)
_ADVICE = (
    'Check that it is a whole T1w head with correct orientation. You can supply your own mask with '
    '--derivatives, or use --skull-strip-t1w skip if the image is already skull-stripped.'
)


@dataclass(frozen=True, eq=False)
class Extraction:
    """A brain mask and its origin.

    Attributes
    ----------
    mask : Nifti1Image
        float32, 0 or 1, on the grid of the input.
    litres : float
        Volume of the mask.
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
    warp the template's mask to the head; tissue classes and morphology then fit its border. The
    skull and scalp of a synthetic head are only modelled, so for such a template the border is
    fitted after the affine and the diffeomorphic registration uses the brain alone.

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
        Fewer iterations and a less exact border.

    Raises
    ------
    ImageError
        If no brain of plausible volume is found.
    """
    ants_tools.load_ants(threads)
    with captured(), scratch_folder() as folder:
        scene = Scene.from_images(img, template.head, template.mask, seed, folder)
        try:
            prior = _prior(img, scene, template.source == 'synthetic', fast)
        except RuntimeError as error:
            message = f'The head of {name} could not be registered to the template ({error}).'
            raise ImageError(message, _ADVICE) from error
    mask = refine(img, prior, MaskSettings.tight())
    litres = float(mask.sum() * np.prod(nib.affines.voxel_sizes(img.affine)) / 1e6)
    if not BRAIN_LITRES[0] <= litres <= BRAIN_LITRES[1]:
        raise ImageError(
            f'The brain mask of {name} has an implausible volume of {litres:.2f} litres.', _ADVICE
        )
    out = image_like(mask, img)
    return Extraction(out, litres, template.name, template.source)


def _prior(img: nib.Nifti1Image, scene: Scene, synthetic: bool, fast: bool) -> np.ndarray:
    """Return the template's mask warped to the head, on the native grid, 0 to 1."""
    affine = align(scene, thorough=not fast)
    if not synthetic:
        return deform(scene, affine, scene.mask_on_low(affine), fast=fast)
    rough: Any = warped_mask(scene, [affine], scene.native)
    found = refine(img, rough, MaskSettings.loose())
    return deform(scene.brain_only(found), affine, scene.on_low(found), fast=fast)
