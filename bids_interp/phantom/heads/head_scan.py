"""Head scan of one phantom subject: pose, anatomy and disease in one interpolation.

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
from bids_interp.phantom.change.sham import draw_sham
from bids_interp.phantom.heads.appearance import bias_field, rician_noise, vary_contrast
from bids_interp.phantom.heads.subject import subject_pull_back, subject_truth
from bids_interp.spatial import Grid, resample, sample

#: Field of view of the scanner in mm, x, y, z.
FIELD_OF_VIEW_MM = (192.0, 252.0, 240.0)
#: Intensity of white matter in the int16 images.
WHITE = 600


@dataclass(frozen=True, eq=False)
class ScanSetup:
    """Head, atrophy and voxel size shared by all subjects of a dataset.

    Parameters
    ----------
    head, mask : numpy.ndarray
        T1w head (white matter 1) and its brain mask (0/1) on `head_grid`, float32.
    head_grid : Grid
        Grid of the head in the template world.
    atrophy : AtrophyField
        Disease, and model of the shams, on the grid of the deformations.
    null : bool
        Whether patients get a sham, too.
    spacing_mm : float
        Voxel size of the scans.
    """

    head: np.ndarray
    mask: np.ndarray
    head_grid: Grid
    atrophy: AtrophyField
    null: bool
    spacing_mm: float


@dataclass(frozen=True, eq=False)
class PhantomScan:
    """Scan of one subject, with its geometry and truth."""

    #: T1w image, int16, on `grid`.
    image: np.ndarray
    #: Brain mask, uint8, on `grid`.
    brain_mask: np.ndarray
    grid: Grid
    #: 4 x 4, native world -> template world.
    native_to_template: np.ndarray
    #: Truth on the atrophy's (template) grid and on `grid`, in the observed subject's anatomy; None
    #: where nothing is planted.
    truth_template: np.ndarray | None
    truth_native: np.ndarray | None
    #: 'remove' for a patient, 'inject' for a control.
    direction: str
    #: Severity of a patient; 1 for a control, the severity of the injected truth.
    severity: float


def scan_subject(
    setup: ScanSetup,
    rng: np.random.Generator,
    patient: bool,
    severity: float,
    stripped: bool = False,
) -> PhantomScan:
    """Simulate the scan of one subject.

    Parameters
    ----------
    setup : ScanSetup
        Head, disease and voxel size.
    rng : numpy.random.Generator
        Random generator of this subject; patients and controls draw the same numbers.
    patient : bool
        Whether the disease is planted, instead of a sham of the same severity.
    severity : float
        Factor on the velocity.
    stripped : bool
        Set all voxels outside the brain to 0.

    Returns
    -------
    PhantomScan
        Image, mask, geometry and truth.
    """
    atrophy, grid = setup.atrophy, setup.atrophy.grid
    anatomy = sample_anatomy(grid, rng)
    decoy = draw_sham(atrophy, rng)
    diseased = patient and not setup.null
    shift = subject_pull_back(anatomy, atrophy if diseased else decoy, severity)
    native, pose = _native_grid(setup.spacing_mm), _random_pose(rng)
    image, mask = _interpolate(setup, torch.from_numpy(shift)[None], native, pose)
    bias = _transport(bias_field(grid, rng), grid, native, pose, 'border')
    image = rician_noise(vary_contrast(image, rng) * bias, rng)
    if stripped:
        image = image * (mask >= 0.5)
    counts = np.clip(np.rint(image * WHITE), 0, np.iinfo(np.int16).max).astype(np.int16)
    direction, truth_severity = ('remove', severity) if patient else ('inject', 1.0)
    truth = None if setup.null else subject_truth(anatomy, atrophy, truth_severity, direction)
    return PhantomScan(
        counts,
        (mask >= 0.5).astype(np.uint8),
        native,
        pose,
        truth,
        None if truth is None else _transport(truth, grid, native, pose, 'zeros'),
        direction,
        truth_severity,
    )


def _native_grid(spacing: float) -> Grid:
    sizes = np.round(np.array(FIELD_OF_VIEW_MM) / spacing).astype(int)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    # The field of view is centred on the head instead of the brain.
    affine[:3, 3] = np.array([0.0, -5.0, -15.0]) - spacing * (sizes - 1) / 2
    return Grid((int(sizes[0]), int(sizes[1]), int(sizes[2])), affine, 'T1w')


def _random_pose(rng: np.random.Generator) -> np.ndarray:
    """Draw native -> template: a rotation by degrees, a shift by mm, a scaling by percent."""
    angles = np.clip(rng.normal(0, [4, 3, 3]), -9, 9)
    shift = np.clip(rng.normal(0, 3, size=3), -6, 6)
    scale = np.exp(np.clip(rng.normal(0, 0.03) + rng.normal(0, 0.015, size=3), -0.08, 0.08))
    pose = np.eye(4)
    pose[:3, :3] = np.diag(scale) @ Rotation.from_euler('xyz', angles, degrees=True).as_matrix()
    pose[:3, 3] = shift
    return pose


def _interpolate(
    setup: ScanSetup, field: torch.Tensor, native: Grid, pose: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate head and mask, which is the only interpolation of a scan."""
    field_grid = setup.atrophy.grid
    shift = resample(field, field_grid, native, pose, padding='border')
    points = np.einsum('ij,jxyz->ixyz', pose[:3, :3], native.world_coordinates())
    points = torch.from_numpy((points + pose[:3, 3, None, None, None]).astype(np.float32))[None]
    to_voxels = np.linalg.inv(setup.head_grid.affine)
    linear = torch.from_numpy(to_voxels[:3, :3].astype(np.float32))
    offset = torch.from_numpy(to_voxels[:3, 3].astype(np.float32)).view(1, 3, 1, 1, 1)
    voxels = torch.einsum('ij,bjxyz->bixyz', linear, points + shift) + offset
    stack = torch.from_numpy(np.stack([setup.head, setup.mask]))[None]
    image, mask = sample(stack, voxels)[0].numpy()
    return image, mask


def _transport(
    data: np.ndarray, source: Grid, native: Grid, pose: np.ndarray, padding: str
) -> np.ndarray:
    """Resample a scalar map to native space, without a determinant."""
    tensor = torch.from_numpy(data)[None, None]
    return resample(tensor, source, native, pose, padding=padding)[0, 0].numpy()
