"""ANTs tools: registration and conversion with explicit seed, threads and metric.

``ants.registration`` offers fixed presets only; its reproducible ones (``...Repro``) take minutes
at 2 mm and use one thread. The stages here use the same metrics (global and local correlation on a
regular sampling) through the same library function. Results are reproducible for a fixed number of
threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bids_interp.anatomical.ants_process import captured, check_ended, scratch_folder
from bids_interp.anatomical.itk import FLIP, itk_text, lps_parameters_to_ras
from bids_interp.errors import AntsError

THREADS_VARIABLE = 'ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS'


@dataclass(frozen=True)
class Stage:
    """One stage of antsRegistration.

    Attributes
    ----------
    transform : str
        Transform in ANTs notation, e.g. ``Affine[0.1]``.
    metric : str
        Metric with two ``%s`` for the fixed and the moving image.
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

    ITK reads the number when its first filter runs and keeps it for the life of the process.
    Every interface of one worker must therefore pass the same number.
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


def affine_of(image: Any) -> np.ndarray:
    """Return the affine (4 x 4) of an ANTs image to world points, RAS mm."""
    lps = np.eye(4)
    lps[:3, :3] = np.asarray(image.direction) * np.asarray(image.spacing)
    lps[:3, 3] = image.origin
    return FLIP @ lps


@captured()
def at_spacing(img: nib.Nifti1Image, mm: float) -> Any:
    """Return an ANTs image with cubic voxels of ``mm``, smoothed along axes that get coarser."""
    import ants

    image = to_ants(img)
    sigmas = [0.4 * mm if s < 0.75 * mm else 0.0 for s in image.spacing]
    if any(sigmas):
        image = ants.smooth_image(image, sigmas, sigma_in_physical_coordinates=True)
    return ants.resample_image(image, (mm, mm, mm), use_voxels=False, interp_type=0)


@contextmanager
def run_registration(
    fixed: Any,
    moving: Any,
    stages: Sequence[Stage],
    *,
    seed: int,
    initial: str | None = None,
    fixed_mask: Any = None,
    moving_mask: Any = None,
) -> Iterator[tuple[list[str], list[str]]]:
    """Register ``moving`` to ``fixed``; the transform files exist while the block runs.

    Parameters
    ----------
    fixed, moving : ANTsImage
        Three-dimensional images.
    stages : sequence of Stage
        Linear stages, or one deformable stage after an ``initial`` affine file.
    seed : int
        Random seed of the sampling.
    initial : str, optional
        File of an initial transform; by default the centres of mass are aligned.
    fixed_mask, moving_mask : ANTsImage, optional
        Parts of the images that the metric uses.

    Yields
    ------
    forward, inverse : list of str
        Transforms from the moving to the fixed image and back, in the order expected by
        ``ants.apply_transforms`` (for the way back, the first one is to be inverted).

    Raises
    ------
    RuntimeError
        If the registration fails.
    AntsError
        If ANTs cannot run.
    """
    from ants.internal import get_lib_fn, get_pointer_string, process_arguments

    fixed, moving = fixed.clone('float'), moving.clone('float')
    pair = (get_pointer_string(fixed), get_pointer_string(moving))
    with scratch_folder() as folder:
        prefix = f'{folder}/t'
        args = ['--dimensionality', '3', '-r', initial or f'[{pair[0]},{pair[1]},1]']
        args += ['--output', prefix, '--random-seed', str(1 + abs(int(seed)) % 2**31)]
        for stage in stages:
            args += ['--transform', stage.transform, '--metric', stage.metric % pair]
            args += ['--convergence', f'[{stage.iterations},1e-6,10]']
            args += ['--shrink-factors', stage.shrink, '--smoothing-sigmas', f'{stage.sigmas}vox']
        # The clones must live as long as ANTs runs: it gets only their addresses.
        masks = [
            None if mask is None else mask.clone('unsigned char')
            for mask in (fixed_mask, moving_mask)
        ]
        if fixed_mask is not None or moving_mask is not None:
            named = ['NA' if mask is None else get_pointer_string(mask) for mask in masks]
            args += ['-x', f'[{named[0]},{named[1]}]']
        args += ['--float', '1', '--collapse-output-transforms', '1']
        with captured() as messages:
            code = get_lib_fn('antsRegistration')(process_arguments(args))
        check_ended(code, messages.text)
        affine = Path(f'{prefix}0GenericAffine.mat')
        if not affine.exists():
            raise AntsError(f'antsRegistration did not write {affine}.')
        warp, inverse = f'{prefix}1Warp.nii.gz', f'{prefix}1InverseWarp.nii.gz'
        if Path(warp).exists():
            yield [warp, str(affine)], [str(affine), inverse]
        else:
            yield [str(affine)], [str(affine)]


def read_affine(path: str) -> np.ndarray:
    """Return the matrix (4 x 4) of an ITK affine file, fixed to moving world points, RAS mm."""
    import ants

    transform = ants.read_transform(str(path))
    parameters = np.asarray(transform.parameters, dtype=np.float64)
    return lps_parameters_to_ras(parameters, np.asarray(transform.fixed_parameters, dtype=float))


def pitched_start(fixed: Any, moving: Any, degrees: float, folder: Path) -> str:
    """Write an initial transform: centres of mass aligned, rotated about the left-right axis."""
    centre, goal = (np.asarray(i.get_center_of_mass()) for i in (fixed, moving))
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = turn, goal - turn @ centre
    path = folder / f'pitch{degrees:+.0f}.txt'
    path.write_text(itk_text(FLIP @ lps @ FLIP))
    return str(path)
