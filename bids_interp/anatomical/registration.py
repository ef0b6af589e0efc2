"""Affine of a native brain to the model's template; ITK text in both directions."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from bids_interp.anatomical import ants_tools
from bids_interp.errors import ImageError

WORK_MM = 2.0
DETERMINANT_RANGE = (0.4, 2.5)
MIN_CORRELATION = 0.5
MIN_DICE = 0.8
_GC = 'GC[%s,%s,1,1,Regular,0.25]'
# Tried one after the other until the result is sane: pitch of the head in degrees.
PITCHES = (0.0, -30.0, 30.0, -60.0, 60.0)


@dataclass(frozen=True, eq=False)
class AffineResult:
    """An affine registration and how well it fits.

    Attributes
    ----------
    native_to_template : ndarray (4, 4)
        Maps native world points to template world points, RAS mm.
    correlation : float
        Pearson correlation of brain and template where either is, after registration.
    dice : float
        Overlap of the two brains.
    inside : float
        Correlation where both are: the outline, which any object of that shape has, does not count.
    """

    native_to_template: np.ndarray
    correlation: float
    dice: float
    inside: float = 1.0

    @property
    def determinant(self) -> float:
        """Volume of the brain in the template over its native volume."""
        return float(np.linalg.det(self.native_to_template[:3, :3]))

    @property
    def sane(self) -> bool:
        """Whether the result can be a registration of two brains."""
        return (
            DETERMINANT_RANGE[0] <= self.determinant <= DETERMINANT_RANGE[1]
            and self.correlation >= MIN_CORRELATION
            and self.dice >= MIN_DICE
        )

    def to_dict(self) -> dict:
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

    Rigid, then affine, global correlation on a regular sampling at 2 mm (ANTs; Avants et al. 2011):
    the same every time for one number of threads.

    Parameters
    ----------
    brain, template : Nifti1Image
        Brains with 0 outside.
    name : str
        File name for messages.
    threads, seed : int
        Threads and seed of ANTs.
    fast : bool
        Leave out the finest level.

    Raises
    ------
    ImageError
        If no start leads to a sane result.
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
        'ANTs gave up'
        if best is None
        else f'volume ratio {best.determinant:.2f}, correlation {best.correlation:.2f}, '
        f'overlap {best.dice:.2f}'
    )
    raise ImageError(
        f'The brain of {name} could not be registered to the template ({detail}).',
        'Look at its brain mask in the report: is it a whole T1w brain, the right way up? '
        'A mask of your own can be given with --derivatives.',
    )


def _attempt(
    fixed: Any, moving: Any, stages: list[ants_tools.Stage], seed: int, pitch: float
) -> AffineResult | None:
    import ants

    with tempfile.TemporaryDirectory(prefix='bids_interp-') as folder:
        initial = None
        if pitch != 0:
            initial = ants_tools.pitched_start(fixed, moving, pitch, Path(folder))
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
        Correlation where either is not 0; Dice overlap; correlation where both are not 0.
    """
    masks = [ndimage.binary_fill_holes(a > 0.05 * np.percentile(a, 99)) for a in (first, second)]
    either, total = masks[0] | masks[1], masks[0].sum() + masks[1].sum()
    if not masks[0].any() or not masks[1].any():
        return 0.0, 0.0, 0.0
    both = masks[0] & masks[1]
    dice = 2.0 * float(both.sum()) / float(total)
    inside = float(np.corrcoef(first[both], second[both])[0, 1]) if both.sum() > 1 else 0.0
    return float(np.corrcoef(first[either], second[either])[0, 1]), dice, inside
