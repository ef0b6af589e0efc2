"""The few calls of ANTs that are used, with seed, threads and metric always explicit.

``ants.registration`` offers fixed recipes only; its reproducible ones (``...Repro``) take minutes
at 2 mm and fix one thread. The stages here use the same metrics (global and local correlation on a
regular sampling) through the same library function, so that a fixed number of threads gives the
same result every time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bids_interp.anatomical.conform import make_image

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS <-> LPS
THREADS_VARIABLE = 'ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS'


@dataclass(frozen=True)
class Stage:
    """One stage of antsRegistration.

    Attributes
    ----------
    transform : str
        As in ANTs, e.g. ``Affine[0.1]``.
    metric : str
        With two ``%s`` for the fixed and the moving image.
    iterations, shrink, sigmas : str
        One number per level, joined by ``x``; sigmas in voxels.
    """

    transform: str
    metric: str
    iterations: str
    shrink: str
    sigmas: str


def load_ants(threads: int) -> Any:
    """Import ANTs with a fixed number of threads.

    ITK reads the number when its first filter runs, so a process keeps the first one it was given;
    every interface of one worker is therefore given the same.
    """
    os.environ[THREADS_VARIABLE] = str(max(1, int(threads)))
    import ants

    return ants


def to_ants(img: nib.Nifti1Image) -> Any:
    """Return a 3-D image as an ANTs image (float, LPS geometry)."""
    import ants

    affine = FLIP @ img.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return ants.from_numpy(
        np.asarray(img.dataobj, dtype=np.float32),
        origin=[float(v) for v in affine[:3, 3]],
        spacing=[float(v) for v in spacing],
        direction=affine[:3, :3] / spacing,
    )


def to_nifti(image: Any) -> nib.Nifti1Image:
    """Return an ANTs image as NIfTI (float32, RAS+ affine)."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(image.direction) * np.asarray(image.spacing)
    affine[:3, 3] = image.origin
    return make_image(np.asarray(image.numpy(), dtype=np.float32), FLIP @ affine)


def at_spacing(img: nib.Nifti1Image, mm: float) -> Any:
    """Return the image as an ANTs image with cubic voxels of ``mm``, smoothed when made coarser."""
    import ants

    image = to_ants(img)
    sigmas = [0.4 * mm if s < 0.75 * mm else 0.0 for s in image.spacing]
    if any(sigmas):
        image = ants.smooth_image(image, sigmas, sigma_in_physical_coordinates=True)
    return ants.resample_image(image, (mm, mm, mm), use_voxels=False, interp_type=0)


@contextmanager
def run_registration(
    fixed: Any, moving: Any, stages: Sequence[Stage], *, seed: int, initial: str | None = None
) -> Iterator[tuple[list[str], list[str]]]:
    """Register ``moving`` to ``fixed`` and lend the transform files while the block runs.

    Parameters
    ----------
    fixed, moving : ANTsImage
        Both three-dimensional.
    stages : sequence of Stage
        Linear stages, or one deformable stage after an ``initial`` affine file.
    seed : int
        Seed of the sampling.
    initial : str, optional
        File of an initial transform; the centres of mass are aligned if not given.

    Yields
    ------
    forward, inverse : list of str
        Transforms in the order that ``ants.apply_transforms`` takes them, to bring the moving image
        to the fixed one and the fixed one to the moving one (the latter with the first inverted).

    Raises
    ------
    RuntimeError
        If ANTs fails.
    """
    from ants.internal import get_lib_fn, get_pointer_string, process_arguments

    fixed, moving = fixed.clone('float'), moving.clone('float')
    pair = (get_pointer_string(fixed), get_pointer_string(moving))
    with tempfile.TemporaryDirectory(prefix='bids_interp-') as folder:
        prefix = f'{folder}/t'
        args = ['--dimensionality', '3', '-r', initial or f'[{pair[0]},{pair[1]},1]']
        args += ['--output', prefix, '--random-seed', str(1 + abs(int(seed)) % 2**31)]
        for stage in stages:
            args += ['--transform', stage.transform, '--metric', stage.metric % pair]
            args += ['--convergence', f'[{stage.iterations},1e-6,10]']
            args += ['--shrink-factors', stage.shrink, '--smoothing-sigmas', f'{stage.sigmas}vox']
        args += ['--float', '1', '--collapse-output-transforms', '1']
        code = get_lib_fn('antsRegistration')(process_arguments(args))
        affine = Path(f'{prefix}0GenericAffine.mat')
        if code != 0 or not affine.exists():
            raise RuntimeError(f'antsRegistration ended with code {code}')
        warp, inverse = f'{prefix}1Warp.nii.gz', f'{prefix}1InverseWarp.nii.gz'
        if Path(warp).exists():
            yield [warp, str(affine)], [str(affine), inverse]
        else:
            yield [str(affine)], [str(affine)]


def read_affine(path: str) -> np.ndarray:
    """Return an ITK affine file as the 4 x 4 matrix that maps fixed to moving world points, RAS mm.

    ITK stores ``y = M (x - c) + c + t`` in LPS, with ``c`` in the fixed parameters.
    """
    import ants

    transform = ants.read_transform(str(path))
    parameters = np.asarray(transform.parameters, dtype=np.float64)
    return lps_parameters_to_ras(parameters, np.asarray(transform.fixed_parameters, dtype=float))


def lps_parameters_to_ras(parameters: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Turn 12 ITK parameters (matrix by rows, translation) and a centre (3,) into a RAS matrix.

    Examples
    --------
    >>> moved = lps_parameters_to_ras(np.array([1, 0, 0, 0, 1, 0, 0, 0, 1, 5, 0, 2.0]), np.zeros(3))
    >>> moved[:3, 3].tolist()
    [-5.0, 0.0, 2.0]
    """
    lps = np.eye(4)
    lps[:3, :3] = np.asarray(parameters[:9]).reshape(3, 3)
    lps[:3, 3] = np.asarray(parameters[9:12]) + centre - lps[:3, :3] @ centre
    return FLIP @ lps @ FLIP
