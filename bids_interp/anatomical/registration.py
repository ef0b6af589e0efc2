"""Affine of a native brain to the model's template; ITK text in both directions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
    """

    native_to_template: np.ndarray
    correlation: float
    dice: float

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


def _attempt(fixed, moving, stages, seed: int, pitch: float) -> AffineResult | None:
    import ants

    initial = None if pitch == 0 else _pitched(fixed, moving, pitch)
    try:
        with ants_tools.run_registration(fixed, moving, stages, seed=seed, initial=initial) as (
            forward,
            _,
        ):
            template_to_native = ants_tools.read_affine(forward[0])
            warped = ants.apply_transforms(fixed, moving, forward, 'linear').numpy()
    except RuntimeError:
        return None
    finally:
        if initial:
            Path(initial).unlink(missing_ok=True)
    correlation, dice = similarity(warped, fixed.numpy())
    return AffineResult(np.linalg.inv(template_to_native), correlation, dice)


def _pitched(fixed, moving, degrees: float) -> str:
    """Write a start that aligns the centres of mass and turns about the left-right axis."""
    import tempfile

    centre, goal = (np.asarray(i.get_center_of_mass()) for i in (fixed, moving))
    angle = np.radians(degrees)
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = turn, goal - turn @ centre
    with tempfile.NamedTemporaryFile('w', suffix='.txt', delete=False) as handle:
        handle.write(itk_text(ants_tools.FLIP @ lps @ ants_tools.FLIP))
    return handle.name


def similarity(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return correlation (where either is not 0) and Dice overlap of two brains on one grid."""
    masks = [ndimage.binary_fill_holes(a > 0.05 * np.percentile(a, 99)) for a in (first, second)]
    either, total = masks[0] | masks[1], masks[0].sum() + masks[1].sum()
    if not masks[0].any() or not masks[1].any():
        return 0.0, 0.0
    dice = 2.0 * float((masks[0] & masks[1]).sum()) / float(total)
    return float(np.corrcoef(first[either], second[either])[0, 1]), dice


def itk_text(matrix: np.ndarray) -> str:
    """Return an ITK affine text for a 4 x 4 matrix that maps fixed to moving points, RAS mm.

    ITK transforms pull back: the file that brings a T1w image to a template holds the map from
    template points to T1w points.
    """
    lps = ants_tools.FLIP @ np.asarray(matrix, dtype=np.float64) @ ants_tools.FLIP
    numbers = ' '.join(repr(float(v)) for v in [*lps[:3, :3].ravel(), *lps[:3, 3]])
    return (
        '#Insight Transform File V1.0\n#Transform 0\n'
        'Transform: AffineTransform_double_3_3\n'
        f'Parameters: {numbers}\nFixedParameters: 0 0 0\n'
    )


def parse_itk_text(text: str) -> np.ndarray:
    """Read what :func:`itk_text` writes, or any ITK text with one affine.

    Examples
    --------
    >>> matrix = np.eye(4)
    >>> matrix[:3, 3] = 1, 2, 3
    >>> bool(np.allclose(parse_itk_text(itk_text(matrix)), matrix))
    True
    """
    lines = dict(line.split(':', 1) for line in text.splitlines() if ':' in line)
    try:
        parameters = np.array([float(v) for v in lines['Parameters'].split()])
        centre = np.array([float(v) for v in lines['FixedParameters'].split()])
    except (KeyError, ValueError) as error:
        raise ValueError('This is no ITK text of an affine.') from error
    if parameters.size != 12 or centre.size != 3:
        raise ValueError('This is no ITK text of a three-dimensional affine.')
    return ants_tools.lps_parameters_to_ras(parameters, centre)
