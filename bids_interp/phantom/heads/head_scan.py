"""Scan one phantom subject: pose, anatomy and disease in a single interpolation, then the scanner.

Native world -> template world is an affine A (``native_to_template``). The scan at a native point
p is the head at q + u(q), q = A p, with the pull-back u of anatomy and disease.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from bids_interp.phantom.change.anatomy import sample_anatomy
from bids_interp.phantom.change.atrophy import AtrophyField
from bids_interp.phantom.change.sham import sham
from bids_interp.phantom.heads.appearance import bias_field, rician_noise, vary_contrast
from bids_interp.phantom.heads.subject import subject_pull_back, subject_truth
from bids_interp.spatial import Grid, resample, sample

#: Field of view of the scanner in mm, x, y, z.
FIELD_OF_VIEW_MM = (192.0, 252.0, 240.0)
#: Intensity that white matter gets in the int16 images.
WHITE = 600


@dataclass(frozen=True, eq=False)
class Studio:
    """What all subjects of a dataset share.

    Parameters
    ----------
    head, mask : numpy.ndarray
        T1w head (white matter 1) and its brain mask (0/1) on `head_grid`, float32.
    head_grid : Grid
        Template world.
    plan : AtrophyField
        The disease, or what shams are drawn after; on the grid of the deformations.
    null : bool
        Patients get a sham too.
    spacing_mm : float
        Voxel size of the scans.
    """

    head: np.ndarray
    mask: np.ndarray
    head_grid: Grid
    plan: AtrophyField
    null: bool
    spacing_mm: float


@dataclass(frozen=True, eq=False)
class Scan:
    """One scanned subject and what is known about it."""

    #: T1w image, int16, on `grid`.
    image: np.ndarray
    #: Brain mask, uint8, on `grid`.
    brain_mask: np.ndarray
    grid: Grid
    #: 4 x 4, native world -> template world.
    native_to_template: np.ndarray
    #: Truth on the plan's (template) grid and on `grid`, in the observed subject's anatomy; None
    #: where nothing is planted.
    truth_template: np.ndarray | None
    truth_native: np.ndarray | None
    #: 'remove' for a patient, 'inject' for a control.
    direction: str
    #: Severity of a patient; for a control that of the injection whose truth is given (1).
    severity: float


def scan_subject(
    studio: Studio,
    rng: np.random.Generator,
    patient: bool,
    severity: float,
    stripped: bool = False,
) -> Scan:
    """Make one subject.

    Parameters
    ----------
    studio : Studio
        Head, disease and voxel size.
    rng : numpy.random.Generator
        All randomness of this subject; patients and controls draw the same numbers.
    patient : bool
        Whether the disease is planted; otherwise a sham of the same severity is.
    severity : float
        Factor on the planned velocity.
    stripped : bool
        Set everything outside of the brain to 0.

    Returns
    -------
    Scan
        Image, mask, geometry and truth.
    """
    plan, grid = studio.plan, studio.plan.grid
    anatomy = sample_anatomy(grid, rng)
    decoy = sham(plan, rng)
    diseased = patient and not studio.null
    shift = subject_pull_back(anatomy, plan if diseased else decoy, severity)
    native, pose = _native_grid(studio.spacing_mm), _random_pose(rng)
    image, mask = _photograph(studio, torch.from_numpy(shift)[None], native, pose)
    bias = _transport(bias_field(grid, rng), grid, native, pose, 'border')
    image = rician_noise(vary_contrast(image, rng) * bias, rng)
    if stripped:
        image = image * (mask >= 0.5)
    counts = np.clip(np.rint(image * WHITE), 0, np.iinfo(np.int16).max).astype(np.int16)
    direction, known = ('remove', severity) if patient else ('inject', 1.0)
    truth = None if studio.null else subject_truth(anatomy, plan, known, direction)
    return Scan(
        counts,
        (mask >= 0.5).astype(np.uint8),
        native,
        pose,
        truth,
        None if truth is None else _transport(truth, grid, native, pose, 'zeros'),
        direction,
        known,
    )


def _native_grid(spacing: float) -> Grid:
    sizes = np.round(np.array(FIELD_OF_VIEW_MM) / spacing).astype(int)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    # The centre of the scanner lies near the centre of the head, not of the brain's template.
    affine[:3, 3] = np.array([0.0, -5.0, -15.0]) - spacing * (sizes - 1) / 2
    return Grid((int(sizes[0]), int(sizes[1]), int(sizes[2])), affine, 'T1w')


def _random_pose(rng: np.random.Generator) -> np.ndarray:
    """Native -> template: turned by a few degrees, moved by a few mm, scaled by a few percent."""
    angles = np.clip(rng.normal(0, [4, 3, 3]), -9, 9)
    shift = np.clip(rng.normal(0, 3, size=3), -6, 6)
    scale = np.exp(np.clip(rng.normal(0, 0.03) + rng.normal(0, 0.015, size=3), -0.08, 0.08))
    pose = np.eye(4)
    pose[:3, :3] = np.diag(scale) @ Rotation.from_euler('xyz', angles, degrees=True).as_matrix()
    pose[:3, 3] = shift
    return pose


def _photograph(
    studio: Studio, field: torch.Tensor, native: Grid, pose: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The one interpolation of head and mask; everything else is evaluated, not resampled."""
    plan_grid = studio.plan.grid
    shift = resample(field, plan_grid, native, pose, padding='border')
    points = np.einsum('ij,jxyz->ixyz', pose[:3, :3], native.world_coordinates())
    points = torch.from_numpy((points + pose[:3, 3, None, None, None]).astype(np.float32))[None]
    to_voxels = np.linalg.inv(studio.head_grid.affine)
    linear = torch.from_numpy(to_voxels[:3, :3].astype(np.float32))
    offset = torch.from_numpy(to_voxels[:3, 3].astype(np.float32)).view(1, 3, 1, 1, 1)
    voxels = torch.einsum('ij,bjxyz->bixyz', linear, points + shift) + offset
    stack = torch.from_numpy(np.stack([studio.head, studio.mask]))[None]
    image, mask = sample(stack, voxels)[0].numpy()
    return image, mask


def _transport(
    data: np.ndarray, source: Grid, native: Grid, pose: np.ndarray, padding: str
) -> np.ndarray:
    """Carry a scalar map into native space: plain resampling, no determinant."""
    tensor = torch.from_numpy(data)[None, None]
    return resample(tensor, source, native, pose, padding=padding)[0, 0].numpy()
