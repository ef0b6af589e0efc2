"""Region volumes: volume of each region in the scan and in its simulation, in native space."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np

from bids_interp.anatomical.spaces.atlas import Atlas, nearest_values, split_side
from bids_interp.errors import ImageError
from bids_interp.settings import NATIVE_SPACE
from bids_interp.spatial import Grid


@dataclass(frozen=True)
class RegionVolume:
    """Volume of one region in the scan and in its simulation.

    Parameters
    ----------
    index : int
        Label in the atlas.
    region, side : str
        Name; ``left``, ``right`` or ``midline``.
    volume_mm3 : float
        Volume in the scan.
    simulated_mm3 : float
        Volume in the simulation: the integral of the Jacobian determinant over the region.
    logj : float
        Mean log-Jacobian.
    pct : float
        Change of the volume in percent.
    """

    index: int
    region: str
    side: str
    volume_mm3: float
    simulated_mm3: float
    logj: float
    pct: float


@dataclass(frozen=True, eq=False)
class LabelledVoxels:
    """Voxels of all regions in the world of a scan.

    Parameters
    ----------
    labels : numpy.ndarray
        (N,) labels, none of them 0.
    points : numpy.ndarray
        (3, N) centres in the world of the scan, RAS+ mm.
    voxel_mm3 : float
        Volume of a voxel in the scan.
    """

    labels: np.ndarray
    points: np.ndarray
    voxel_mm3: float


def label_scan(
    atlas: Atlas,
    mask: nib.Nifti1Image,
    to_template: np.ndarray,
    template: str,
    *,
    offline: bool = True,
    threads: int = 1,
) -> LabelledVoxels:
    """Return the labelled voxels of a scan.

    The segmentation of a scan is used on its own grid, so that its volumes are those of the tool
    that made it. An atlas of a template is looked up at the voxels of the scan inside its brain
    mask.

    Parameters
    ----------
    atlas : Atlas
        Atlas in the space of a template, or segmentation of this scan (space ``T1w``).
    mask : nibabel.Nifti1Image
        Brain mask of the scan (X, Y, Z), 0 and 1.
    to_template : numpy.ndarray
        4 x 4 from the world of the scan to that of the template, RAS+ mm.
    template : str
        Template of the model.
    offline : bool
        Do not download the template of the atlas.
    threads : int
        Threads of a registration between templates.

    Raises
    ------
    TemplateError
        If there is no transform between the template and that of the atlas.
    ImageError
        If no region lies in the brain.
    """
    if atlas.space == NATIVE_SPACE:
        grid = Grid.from_image(atlas.image)
        found = np.asarray(atlas.image.dataobj)
        inside = found != 0
        points, labels = grid.world_coordinates()[:, inside], found[inside]
    else:
        grid = Grid.from_image(mask)
        points = grid.world_coordinates()[:, np.asarray(mask.dataobj) > 0.5]
        placed = nib.affines.apply_affine(to_template, points.T).T
        labels = atlas.at(placed, template, offline=offline, threads=threads)
        points, labels = points[:, labels != 0], labels[labels != 0]
    if not labels.size:
        raise ImageError(
            f'--atlas {atlas.path} has no region inside this brain.',
            f'Check its space ({atlas.space}); TEMPLATE:FILE names another one.',
        )
    return LabelledVoxels(labels, points, grid.voxel_volume)


def region_volumes(
    voxels: LabelledVoxels, log_jacobian: nib.Nifti1Image, atlas: Atlas
) -> list[RegionVolume]:
    """Measure every region in one simulation of the scan.

    Parameters
    ----------
    voxels : LabelledVoxels
        Labelled voxels of the scan.
    log_jacobian : nibabel.Nifti1Image
        Log-Jacobian of the simulation in the world of the scan (X, Y, Z), 0 outside the brain.
    atlas : Atlas
        Names of the labels.

    Returns
    -------
    list of RegionVolume
        Regions that the scan has, by label.
    """
    values = nearest_values(log_jacobian, voxels.points).astype(np.float64)
    found, of_voxel, sizes = np.unique(voxels.labels, return_inverse=True, return_counts=True)
    means = np.bincount(of_voxel, values) / sizes
    ratios = np.bincount(of_voxel, np.exp(values)) / sizes
    volumes = sizes * voxels.voxel_mm3
    rows = []
    for label, volume, ratio, mean in zip(found, volumes, ratios, means, strict=True):
        region, side = split_side(atlas.name(int(label)))
        change = 100 * (ratio - 1)
        rows.append(
            RegionVolume(
                int(label),
                region,
                side,
                float(volume),
                float(volume * ratio),
                float(mean),
                float(change),
            )
        )
    return rows
