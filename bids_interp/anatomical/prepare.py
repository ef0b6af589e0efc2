"""From a conformed image to a bias-corrected head with a brain mask, by whatever way applies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_interp.anatomical.bias import correct_bias
from bids_interp.anatomical.brain import BRAIN_LITRES, extract_brain
from bids_interp.anatomical.stripped import foreground_mask, stripped_evidence
from bids_interp.anatomical.templates import brain_mask_of, strip_template
from bids_interp.errors import ImageError
from bids_interp.nifti import make_image

#: Source of the mask, in the sidecar, of a brain that was extracted before.
NOT_BACKGROUND = 'voxels that are not background'


@dataclass(frozen=True)
class BrainOptions:
    """How the brain is found.

    Attributes
    ----------
    skull_strip : {'auto', 'force', 'skip'}
        Look whether the brain was extracted before; always extract; take the image as extracted.
    template : str, optional
        TemplateFlow name of the whole-head template.
    offline : bool
        Never ask the network for a template.
    threads, seed : int
        Threads and seed of ANTs.
    fast : bool
        Trade accuracy for time.
    """

    skull_strip: str = 'auto'
    template: str | None = None
    offline: bool = True
    threads: int = 1
    seed: int = 0
    fast: bool = False


@dataclass(frozen=True, eq=False)
class PreparedBrain:
    """A bias-corrected image and its brain.

    Attributes
    ----------
    image, mask, brain : Nifti1Image
        On the grid of the conformed image; ``brain`` is the image within the mask, 0 outside and
        not negative.
    stripped_input : bool
        Whether the image came without its skull.
    facts : dict
        How the mask was made, for the sidecar.
    """

    image: nib.Nifti1Image
    mask: nib.Nifti1Image
    brain: nib.Nifti1Image
    stripped_input: bool
    facts: dict


def prepare_brain(
    img: nib.Nifti1Image,
    options: BrainOptions,
    *,
    given_mask: Path | None = None,
    corrected: bool = False,
    name: str = 'the image',
) -> PreparedBrain:
    """Correct the bias field and find the brain.

    Parameters
    ----------
    img : Nifti1Image
        Conformed T1w image.
    options : BrainOptions
        How.
    given_mask : Path, optional
        Brain mask of another tool on the same grid; used unless extraction is forced.
    corrected : bool
        The image was bias-corrected before: N4 is left out.
    name : str
        File name for messages.

    Raises
    ------
    ImageError
        If there is no brain, or the given mask does not fit.
    """
    stripped = options.skull_strip == 'skip'
    if options.skull_strip == 'auto':
        stripped = stripped_evidence(img).stripped
    facts: dict = {}
    mask: nib.Nifti1Image | None = None
    if given_mask is not None and options.skull_strip != 'force':
        mask, facts['BrainMask'] = load_mask(given_mask, img), 'given'
    elif stripped:
        mask, facts['BrainMask'] = nonzero_mask(img, name), NOT_BACKGROUND
    if not corrected:
        img = correct_bias(img, mask=mask, threads=options.threads)
        facts['BiasCorrection'] = 'N4'
    if mask is None:
        template = strip_template(options.template, offline=options.offline)
        found = extract_brain(
            img,
            template,
            name=name,
            threads=options.threads,
            seed=options.seed,
            fast=options.fast,
        )
        mask = found.mask
        facts |= {
            'BrainMask': 'extracted',
            'HeadTemplate': found.template,
            'HeadTemplateSource': found.source,
        }
    facts['BrainVolumeLitres'] = round(volume_litres(mask), 4)
    inside = np.asarray(mask.dataobj) > 0.5
    data = np.clip(np.asarray(img.dataobj, dtype=np.float32), 0, None) * inside
    brain = make_image(data.astype(np.float32), img.affine, int(img.header['sform_code']))
    return PreparedBrain(img, mask, brain, stripped, facts)


def nonzero_mask(img: nib.Nifti1Image, name: str) -> nib.Nifti1Image:
    """Return the mask of an extracted brain: what is not background, holes and sulci closed.

    Raises
    ------
    ImageError
        If that is no brain by its volume.
    """
    data = np.asarray(img.dataobj, dtype=np.float32)
    border = np.concatenate([np.take(data, (0, -1), axis=a).ravel() for a in range(3)])
    background = float(np.median(border))
    bright = float(np.percentile(data, 99)) - background
    brain = np.where(np.abs(data - background) > 0.005 * abs(bright), 1, 0).astype(np.float32)
    mask = brain_mask_of(make_image(brain, img.affine, int(img.header['sform_code'])))
    litres = volume_litres(mask)
    if not BRAIN_LITRES[0] <= litres <= BRAIN_LITRES[1]:
        raise ImageError(
            f'{name} is to be taken as skull-stripped, but what is not background in it has '
            f'{litres:.2f} litres.',
            'Use --skull-strip-t1w auto or force.',
        )
    return mask


def load_mask(path: Path, img: nib.Nifti1Image) -> nib.Nifti1Image:
    """Load a brain mask of another tool and check that it lies on the image's grid.

    Raises
    ------
    ImageError
        If it cannot be read, is empty or lies on another grid.
    """
    advice = 'Give the mask that belongs to this image, or leave out --derivatives.'
    try:
        mask = nib.as_closest_canonical(nib.load(path))
        data = np.asarray(mask.dataobj)
    except Exception as error:  # nibabel, zlib and the system each have their own
        raise ImageError(f'The brain mask {path} cannot be read: {error}.', advice) from error
    if mask.shape[:3] != img.shape or not np.allclose(mask.affine, img.affine, atol=1e-2):
        raise ImageError(
            f'The brain mask {path} (shape {mask.shape}) is not on the grid of its T1w image '
            f'(shape {img.shape}).',
            advice,
        )
    inside = foreground_mask(data.reshape(img.shape) > 0.5)
    out = make_image(inside.astype(np.float32), img.affine, int(img.header['sform_code']))
    litres = volume_litres(out)
    if not BRAIN_LITRES[0] <= litres <= BRAIN_LITRES[1]:
        raise ImageError(f'The brain mask {path} has {litres:.2f} litres.', advice)
    return out


def volume_litres(mask: nib.Nifti1Image) -> float:
    """Return the volume of a mask of 0 and 1."""
    voxels = float(np.asarray(mask.dataobj).sum())
    return voxels * float(np.prod(nib.affines.voxel_sizes(mask.affine))) / 1e6
