"""Prepared brain: a bias-corrected image with a brain mask, extracted, given or derived."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_interp.anatomical.bias import correct_bias
from bids_interp.anatomical.brain_extraction import BRAIN_LITRES, extract_brain
from bids_interp.anatomical.brain_masks import brain_mask_of, volume_litres
from bids_interp.anatomical.checks.contrast import measure_values
from bids_interp.anatomical.given_mask import load_mask
from bids_interp.anatomical.strip_evidence import (
    SOFT_RATIO,
    is_stripped,
    solid_tissue,
    tissue,
)
from bids_interp.anatomical.templates import strip_template
from bids_interp.errors import ImageError
from bids_interp.nifti import image_like

#: Ratio of the strongest to the weakest receive field from which one correction is not enough.
STRONG_FIELD = 3.0

#: Origin of the mask of a skull-stripped input, as written to the sidecar.
NOT_BACKGROUND = 'voxels that are not background'


@dataclass(frozen=True)
class BrainOptions:
    """Options of the brain extraction.

    Attributes
    ----------
    skull_strip : {'auto', 'force', 'skip'}
        Extract unless the image is skull-stripped; always extract; never extract.
    template : str, optional
        TemplateFlow name of the whole-head template.
    offline : bool
        Never download a template.
    threads, seed : int
        Threads and seed of ANTs.
    fast : bool
        Lower accuracy in less time.
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
        Images on the grid of the conformed image; ``brain`` is the image within the mask, 0 outside
        and not negative.
    stripped_input : bool
        The input was skull-stripped.
    facts : dict
        Origin of the mask, for the sidecar.
    """

    image: nib.Nifti1Image
    mask: nib.Nifti1Image
    brain: nib.Nifti1Image
    stripped_input: bool
    facts: dict[str, str | float]


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
        Options of the extraction.
    given_mask : Path, optional
        Brain mask of another tool in the same world; used unless extraction is forced.
    corrected : bool
        The image is already bias-corrected, so N4 is skipped.
    name : str
        File name for messages.

    Raises
    ------
    ImageError
        If no brain is found, or the given mask does not fit.
    """
    original = img
    stripped = options.skull_strip == 'skip'
    if options.skull_strip == 'auto':
        stripped = is_stripped(img, options.threads)
    facts: dict[str, str | float] = {} if corrected else {'BiasCorrection': 'N4'}
    mask: nib.Nifti1Image | None = None
    if given_mask is not None and options.skull_strip != 'force':
        mask, facts['BrainMask'] = load_mask(given_mask, img), 'given'
    if stripped and mask is None:
        img, mask = _stripped_brain(img, name, None if corrected else options.threads)
        facts['BrainMask'] = NOT_BACKGROUND
    elif not corrected:
        img = correct_bias(img, mask=mask, threads=options.threads)
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
    _check_values(original, mask, name)
    facts['BrainVolumeLitres'] = round(volume_litres(mask), 4)
    inside = np.asarray(mask.dataobj) > 0.5
    data = np.clip(np.asarray(img.dataobj, dtype=np.float32), 0, None) * inside
    brain = image_like(data, img)
    return PreparedBrain(img, mask, brain, stripped, facts)


def _stripped_brain(
    img: nib.Nifti1Image, name: str, threads: int | None
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Return a skull-stripped brain, bias-corrected unless ``threads`` is None, and its mask.

    The bias field is fitted twice if the brain has a soft edge, which is only seen after it.
    """
    mask = _closed_mask(tissue(np.asarray(img.dataobj)), img)
    even = img if threads is None else _even(img, mask, threads)
    solid = _closed_mask(solid_tissue(np.asarray(even.dataobj)), img)
    if volume_litres(mask) > SOFT_RATIO * volume_litres(solid):
        mask = solid
        even = img if threads is None else _even(img, mask, threads)
    litres = volume_litres(mask)
    if not BRAIN_LITRES[0] <= litres <= BRAIN_LITRES[1]:
        raise ImageError(
            f'{name} was treated as skull-stripped, but its foreground has {litres:.2f} litres.',
            'Use --skull-strip-t1w auto or force.',
        )
    return even, mask


def _even(img: nib.Nifti1Image, mask: nib.Nifti1Image, threads: int) -> nib.Nifti1Image:
    """Correct the bias of a stripped brain; twice if its field is strong, of which a part stays."""
    even = correct_bias(img, mask=mask, threads=threads)
    inside = (np.asarray(mask.dataobj) > 0.5) & (np.asarray(even.dataobj) > 0)
    field = np.asarray(img.dataobj)[inside] / np.asarray(even.dataobj)[inside]
    low, high = np.percentile(field, (1, 99)) if field.size else (1.0, 1.0)
    return correct_bias(even, mask=mask, threads=threads) if high > STRONG_FIELD * low else even


def _check_values(img: nib.Nifti1Image, mask: nib.Nifti1Image, name: str) -> None:
    """Refuse a mask or a map of labels; bias correction would hide that its values repeat."""
    values = measure_values(np.asarray(img.dataobj), np.asarray(mask.dataobj) > 0.5)
    if not values.are_a_scan:
        raise ImageError(
            f'{name} has {values.count} values, and {100 * values.equal_share:.0f} % of '
            'neighbouring voxels in the brain are equal: it is a mask or a map of labels, not a '
            'T1w scan.',
            'Remove the suffix T1w from its name, and provide the T1w scan.',
        )


def _closed_mask(foreground: np.ndarray, img: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return the mask of a foreground (X, Y, Z), with sulci and holes closed."""
    return brain_mask_of(image_like(foreground.astype(np.float32), img))
