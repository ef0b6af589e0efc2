"""Registration of a native brain to the model's template by an affine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from bids_interp.anatomical import ants_tools
from bids_interp.anatomical.ants_process import captured, scratch_folder
from bids_interp.anatomical.checks.contrast import Contrast, measure_contrast
from bids_interp.anatomical.checks.coverage import (
    Gap,
    cut_faces,
    largest_gap,
    missing_regions,
    region_coverage,
)
from bids_interp.anatomical.checks.orientation import Orientation, Pose, find_orientation
from bids_interp.anatomical.itk import itk_text
from bids_interp.errors import ImageError
from bids_interp.nifti import image_like

WORK_MM = 2.0
DETERMINANT_RANGE = (0.4, 2.5)
# Real brains have 0.43 or more; orientation and contrast are checked on their own.
MIN_CORRELATION = 0.35
MIN_DICE = 0.8
RIM_MM = 6.0  # around the brain, where the outline shows
COMMON_FITS = 3  # at most, if a part is missing
WINSORISED = 99.5  # percentile of the brain
_GC = 'GC[%s,%s,1,1,Regular,0.25]'
#: Advantage of an orientation below which the second one is registered, too.
CLEAR_MARGIN = 0.08
#: Difference of two registrations in correlation below which both fit alike.
ALIKE = 0.02

_ADVICE = (
    'Check the brain mask in the report: it should show a whole T1w brain. Check the orientation '
    'of the image in a viewer, and convert it again from the original data if it is wrong. You can '
    'supply your own mask with --derivatives.'
)


@dataclass(frozen=True, eq=False)
class AffineResult:
    """An affine registration and its quality.

    Attributes
    ----------
    native_to_template : ndarray (4, 4)
        Matrix from native to template world points, RAS mm.
    correlation : float
        Pearson correlation of brain and template in the union of both, after registration.
    dice : float
        Dice overlap of the two brains.
    inside : float
        Correlation in the intersection of both, which does not depend on the outline.
    contrast : Contrast, optional
        Contrast of the brain in the tissue of the template.
    coverage : dict
        Share of each region of the template that the brain covers.
    gap : Gap, optional
        Largest gap within the brain.
    warnings : tuple of str
        Cautions for the user.
    """

    native_to_template: np.ndarray
    correlation: float
    dice: float
    inside: float = 1.0
    contrast: Contrast | None = None
    coverage: dict[str, float] = field(default_factory=dict)
    gap: Gap | None = None
    warnings: tuple[str, ...] = ()

    @property
    def determinant(self) -> float:
        """Volume of the registered brain divided by its native volume."""
        return float(np.linalg.det(self.native_to_template[:3, :3]))

    @property
    def sane(self) -> bool:
        """True if the result is plausible for two brains."""
        return (
            DETERMINANT_RANGE[0] <= self.determinant <= DETERMINANT_RANGE[1]
            and self.correlation >= MIN_CORRELATION
            and self.dice >= MIN_DICE
        )

    def to_dict(self) -> dict[str, object]:
        """Return plain types, for JSON."""
        return {
            'native_to_template': self.native_to_template.tolist(),
            'convention': 'world RAS mm of the native image to world RAS mm of the template',
            'determinant': self.determinant,
            'correlation': self.correlation,
            'dice': self.dice,
            'correlation_inside': self.inside,
            'contrast': None if self.contrast is None else asdict(self.contrast),
            'coverage': self.coverage,
            'missing_regions': missing_regions(self.coverage),
            'largest_gap': None if self.gap is None else asdict(self.gap),
            'warnings': list(self.warnings),
        }


def register_brain(
    brain: nib.Nifti1Image,
    template: nib.Nifti1Image,
    *,
    name: str = 'the image',
    threads: int = 1,
    seed: int = 0,
    fast: bool = False,
) -> AffineResult:
    """Find the 12-parameter affine from a native brain to a template brain.

    A rigid stage and an affine stage maximise the global correlation on a regular sampling at 2 mm
    (ANTs; Avants et al. 2011). They start from the orientation that fits best, whatever the header
    says. Beyond a flat face at which the brain was cut, nothing is compared. The result is
    reproducible for a fixed number of threads.

    Parameters
    ----------
    brain, template : Nifti1Image
        Brains, 0 outside.
    name : str
        File name for messages.
    threads, seed : int
        Threads and seed of ANTs.
    fast : bool
        Skip the finest level.

    Raises
    ------
    ImageError
        If no orientation leads to a plausible result, or two fit alike.
    """
    ants_tools.load_ants(threads)
    faces = cut_faces(brain_outline(np.asarray(brain.dataobj)), brain.affine)
    moving = ants_tools.at_spacing(winsorised(brain).slicer[faces.box], WORK_MM)
    fixed = ants_tools.at_spacing(template, WORK_MM)
    levels = ('500x250', '4x2', '2x1') if fast else ('500x250x40', '4x2x1', '2x1x0')
    stages = [
        ants_tools.Stage('Rigid[0.1]', _GC, '500x100', '6x4', '3x2'),
        ants_tools.Stage('Affine[0.1]', _GC, *levels),
    ]
    pair = _Pair(fixed, moving, stages, seed)
    result, pose = _best_attempt(pair, find_orientation(pair.brain, pair.template), name)
    if result.contrast is not None and not result.contrast.is_t1w:
        raise ImageError(
            f'{name} does not have the contrast of a whole T1w brain (white over grey matter '
            f'{result.contrast.white_over_grey:.2f}, grey matter over fluid '
            f'{result.contrast.grey_over_fluid:.2f}, details {result.contrast.local:.2f}).',
            'Check that it is a T1w magnitude image of a whole brain, not a T2w or phase image, '
            'a mask or a map of labels.',
        )
    said = (*_orientation_warnings(pose), *_part_warnings(result, faces.sides))
    return replace(result, warnings=said)


def _best_attempt(pair: _Pair, orientation: Orientation, name: str) -> tuple[AffineResult, Pose]:
    """Register from the best orientation, and from the second one if it may be the right one."""
    poses = [orientation.best]
    if orientation.other is not None and orientation.margin < CLEAR_MARGIN:
        poses.append(orientation.other)
    attempts = [
        (result, pose)
        for pose in poses
        if (result := pair.fit(pose.template_to_native)) is not None
    ]
    # The outline of a brain hardly depends on its orientation, so what is inside decides.
    attempts.sort(key=lambda attempt: -attempt[0].inside)
    if not attempts:
        raise _implausible(name, None)
    result, pose = attempts[0]
    result = pair.fit_common(result)
    if not result.sane:
        raise _implausible(name, result)
    second = attempts[1][0] if len(attempts) > 1 else None
    if second is not None and second.sane and result.inside < second.inside + ALIKE:
        raise ImageError(
            f'{name} fits the template alike in two orientations (correlation inside the brain '
            f'{result.inside:.2f} and {second.inside:.2f}).',
            _ADVICE,
        )
    return result, pose


def _implausible(name: str, best: AffineResult | None) -> ImageError:
    detail = (
        'ANTs failed'
        if best is None
        else f'volume ratio {best.determinant:.2f}, correlation {best.correlation:.2f}, '
        f'overlap {best.dice:.2f}'
    )
    return ImageError(
        f'The brain of {name} could not be registered to the template ({detail}).', _ADVICE
    )


def _orientation_warnings(pose: Pose) -> tuple[str, ...]:
    """Return the caution about a pose that contradicts the header."""
    if not pose.contradicts_header:
        return ()
    return (
        f'The brain fits the template when it is turned by {pose.degrees:.0f} degrees against the '
        'orientation in its header, so the header is probably wrong. It was registered that way. '
        'Left and right may be swapped, because a brain hardly differs from its mirror image.',
    )


def _part_warnings(result: AffineResult, sides: Sequence[str]) -> tuple[str, ...]:
    """Return the cautions about missing parts of the brain."""
    missing, gap = missing_regions(result.coverage), result.gap
    if sides and not missing:
        missing = [
            f'the {side} of the image, where the brain ends at a flat face' for side in sides
        ]
    if missing:
        return (
            f'Parts of the brain are missing: {", ".join(missing)}. The registration used the '
            'rest. Do not interpret the maps there.',
        )
    if gap is not None and gap.is_large:
        return (
            f'A part of the brain is missing or as dark as fluid: a ball with a radius of '
            f'{gap.radius_mm:.0f} mm around {", ".join(f"{v:.0f}" for v in gap.place)} mm in the '
            'template, such as a lesion or a wide ventricle. Do not interpret the maps there.',
        )
    return ()


def winsorised(brain: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return a brain, 0 outside, whose brightest voxels are clipped; they would drive the fit."""
    data = np.asarray(brain.dataobj, dtype=np.float32)
    inside = data[data > 0]
    if inside.size == 0:
        return brain
    return image_like(np.minimum(data, np.percentile(inside, WINSORISED)), brain)


@dataclass(frozen=True, eq=False)
class _Pair:
    """A template and a brain on grids of 2 mm, and how they are registered.

    Attributes
    ----------
    fixed, moving : ANTsImage
        Template and brain, 0 outside.
    stages : list of Stage
        Stages of ANTs.
    seed : int
        Seed of ANTs.
    """

    fixed: Any
    moving: Any
    stages: list[ants_tools.Stage]
    seed: int

    @property
    def brain(self) -> nib.Nifti1Image:
        """The brain as a NIfTI image."""
        return nib.Nifti1Image(self.moving.numpy(), ants_tools.affine_of(self.moving))

    @property
    def template(self) -> nib.Nifti1Image:
        """The template as a NIfTI image."""
        return nib.Nifti1Image(self.fixed.numpy(), ants_tools.affine_of(self.fixed))

    def fit(
        self, start: np.ndarray, *, fixed_mask: Any = None, moving_mask: Any = None
    ) -> AffineResult | None:
        """Register from a start (template to native, 4 x 4); return None if ANTs finds nothing."""
        import ants

        with captured(), scratch_folder() as folder:
            initial = folder / 'start.txt'
            initial.write_text(itk_text(start))
            try:
                with ants_tools.run_registration(
                    self.fixed,
                    self.moving,
                    self.stages,
                    seed=self.seed,
                    initial=str(initial),
                    fixed_mask=fixed_mask,
                    moving_mask=moving_mask,
                ) as (forward, _):
                    template_to_native = ants_tools.read_affine(forward[0])
                    warped = ants.apply_transforms(self.fixed, self.moving, forward, 'linear')
            except RuntimeError:
                return None
        seen = None if fixed_mask is None else fixed_mask.numpy()
        return self.judged(template_to_native, warped.numpy(), seen)

    def judged(
        self, template_to_native: np.ndarray, warped: np.ndarray, seen: np.ndarray | None
    ) -> AffineResult:
        """Return a registration with its quality, within what was seen of the template."""
        template = self.fixed.numpy()
        affine = ants_tools.affine_of(self.fixed)
        masks = [brain_outline(image) for image in (warped, template)]
        pair = (warped, template) if seen is None else (warped * seen, template * seen)
        return AffineResult(
            np.linalg.inv(template_to_native),
            *similarity(*pair),
            contrast=measure_contrast(warped, template),
            coverage=region_coverage(masks[0], masks[1], affine),
            gap=largest_gap(warped, template, affine),
        )

    def fit_common(self, first: AffineResult) -> AffineResult:
        """Register again within what both brains have, if a part is missing.

        A part that only the template has stretches the brain towards it. The metric now ignores
        such parts, and points far outside the brain. This is repeated while the insides of both
        agree better.
        """
        import ants

        rim = self.moving.new_image_like(_grown(self.moving, brain_outline(self.moving.numpy())))
        template, found = brain_outline(self.fixed.numpy()), first
        for _ in range(COMMON_FITS):
            if not missing_regions(found.coverage):
                break
            start = np.linalg.inv(found.native_to_template)
            with captured(), scratch_folder() as folder:
                file = folder / 'start.txt'
                file.write_text(itk_text(start))
                reached = ants.apply_transforms(self.fixed, rim, [str(file)], 'linear').numpy()
            lost = ndimage.binary_opening(template & (reached <= 0.5))
            seen = self.fixed.new_image_like(1 - _grown(self.fixed, lost))
            again = replace(self, stages=self.stages[-1:]).fit(
                start, fixed_mask=seen, moving_mask=rim
            )
            if again is None or again.inside <= found.inside:
                break
            found = again
        return found


def _grown(image: Any, mask: np.ndarray) -> np.ndarray:
    """Return a mask on the grid of an ANTs image, dilated by `RIM_MM`; float32, 0 or 1."""
    distance = ndimage.distance_transform_edt(~mask, sampling=image.spacing)
    return np.asarray(distance <= RIM_MM, np.float32)


def similarity(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Compare two brains on one grid.

    Returns
    -------
    float, float, float
        Correlation in the union of both brains, their Dice overlap, and the correlation in their
        intersection.
    """
    masks = [brain_outline(image) for image in (first, second)]
    either, total = masks[0] | masks[1], masks[0].sum() + masks[1].sum()
    if not masks[0].any() or not masks[1].any():
        return 0.0, 0.0, 0.0
    both = masks[0] & masks[1]
    dice = 2.0 * float(both.sum()) / float(total)
    inside = float(np.corrcoef(first[both], second[both])[0, 1]) if both.sum() > 1 else 0.0
    return float(np.corrcoef(first[either], second[either])[0, 1]), dice, inside


def brain_outline(image: np.ndarray) -> np.ndarray:
    """Return the mask of a brain (X, Y, Z) that is 0 outside, holes filled."""
    return ndimage.binary_fill_holes(image > 0.05 * np.percentile(image, 99))
