"""Registration of a native brain to the model's template by an affine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from bids_interp.anatomical import ants_tools
from bids_interp.anatomical.ants_process import captured, scratch_folder
from bids_interp.errors import ImageError

WORK_MM = 2.0
DETERMINANT_RANGE = (0.4, 2.5)
MIN_CORRELATION = 0.5
MIN_DICE = 0.8
_GC = 'GC[%s,%s,1,1,Regular,0.25]'
# Initial pitches of the head in degrees, tried in turn until the result is plausible.
PITCHES = (0.0, -30.0, 30.0, -60.0, 60.0)


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
    """

    native_to_template: np.ndarray
    correlation: float
    dice: float
    inside: float = 1.0

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
    (ANTs; Avants et al. 2011). The result is reproducible for a fixed number of threads.

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
        If no initial pitch leads to a plausible result.
    """
    ants_tools.load_ants(threads)
    moving = ants_tools.at_spacing(brain, WORK_MM)
    fixed = ants_tools.at_spacing(template, WORK_MM)
    levels = ('500x250', '4x2', '2x1') if fast else ('500x250x40', '4x2x1', '2x1x0')
    stages = [
        ants_tools.Stage('Rigid[0.1]', _GC, '500x100', '6x4', '3x2'),
        ants_tools.Stage('Affine[0.1]', _GC, *levels),
    ]
    best: AffineResult | None = None
    for pitch in PITCHES:
        result = _attempt(fixed, moving, stages, seed, pitch)
        if result is not None and (best is None or result.correlation > best.correlation):
            best = result
        if best is not None and best.sane:
            return best
    detail = (
        'ANTs failed'
        if best is None
        else f'volume ratio {best.determinant:.2f}, correlation {best.correlation:.2f}, '
        f'overlap {best.dice:.2f}'
    )
    raise ImageError(
        f'The brain of {name} could not be registered to the template ({detail}).',
        'Check the brain mask in the report: it should show a whole T1w brain with correct '
        'orientation. You can supply your own mask with --derivatives.',
    )


def _attempt(
    fixed: Any, moving: Any, stages: list[ants_tools.Stage], seed: int, pitch: float
) -> AffineResult | None:
    import ants

    with captured(), scratch_folder() as folder:
        initial = None
        if pitch != 0:
            initial = ants_tools.pitched_start(fixed, moving, pitch, folder)
        try:
            with ants_tools.run_registration(fixed, moving, stages, seed=seed, initial=initial) as (
                forward,
                _,
            ):
                template_to_native = ants_tools.read_affine(forward[0])
                warped = ants.apply_transforms(fixed, moving, forward, 'linear').numpy()
        except RuntimeError:
            return None
    return AffineResult(np.linalg.inv(template_to_native), *similarity(warped, fixed.numpy()))


def similarity(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Compare two brains on one grid.

    Returns
    -------
    float, float, float
        Correlation in the union of both brains, their Dice overlap, and the correlation in their
        intersection.
    """
    masks = [ndimage.binary_fill_holes(a > 0.05 * np.percentile(a, 99)) for a in (first, second)]
    either, total = masks[0] | masks[1], masks[0].sum() + masks[1].sum()
    if not masks[0].any() or not masks[1].any():
        return 0.0, 0.0, 0.0
    both = masks[0] & masks[1]
    dice = 2.0 * float(both.sum()) / float(total)
    inside = float(np.corrcoef(first[both], second[both])[0, 1]) if both.sum() > 1 else 0.0
    return float(np.corrcoef(first[either], second[either])[0, 1]), dice, inside
