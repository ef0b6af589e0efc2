"""Head around a skull-stripped template brain.

The head has cerebrospinal fluid, skull with marrow, scalp, face with eyes and air cavities, and
neck. It is the phantom subject, and the whole-head template if no other one is available.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.errors import TemplateError, UsageError
from bids_interp.phantom.heads import parts
from bids_interp.phantom.regions.coarse import Ellipsoid
from bids_interp.spatial import Grid, resample

#: File of the template brain that nilearn contains.
_BRAIN_FILE = 'mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz'
#: Field of view of the head in MNI152 mm: low and high corner.
FIELD_OF_VIEW = ((-94.0, -128.0, -154.0), (94.0, 118.0, 96.0))
#: Voxel size at which the geometry is computed before interpolation.
_GEOMETRY_MM = 3.0
#: Radius of the closing that turns the brain surface into the inner surface of the skull.
_CLOSING_MM = 18.0


def embedded_brain() -> nib.Nifti1Image:
    """Load the 1 mm T1w brain of MNI152NLin2009aSym that ships with nilearn."""
    import nilearn

    # nilearn.datasets takes seconds to import and rescales the same file.
    path = Path(nilearn.__file__).parent / 'datasets' / 'data' / _BRAIN_FILE
    if not path.is_file():
        raise TemplateError(f'{path} is missing.', 'Reinstall nilearn.')
    return nib.load(path)


def head_grid(spacing_mm: float) -> Grid:
    """Return the grid of the synthetic head: MNI152 world, axes i, j, k along +x, +y, +z.

    Parameters
    ----------
    spacing_mm : float
        Voxel size; 0.8 to 4.
    """
    if not 0.8 <= spacing_mm <= 4:
        raise UsageError(
            f'A synthetic head cannot have voxels of {spacing_mm} mm.', 'Choose 0.8 to 4 mm.'
        )
    low, high = (np.array(corner) for corner in FIELD_OF_VIEW)
    sizes = np.floor((high - low) / spacing_mm).astype(int) + 1
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = low
    return Grid((int(sizes[0]), int(sizes[1]), int(sizes[2])), affine, EMBEDDED_TEMPLATE)


def synthetic_head(
    brain_img: nib.Nifti1Image | None = None, spacing_mm: float = 2.0
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Build a T1w head around a brain in MNI152 space.

    Parameters
    ----------
    brain_img : nibabel.Nifti1Image, optional
        Skull-stripped T1w brain in MNI152 space with background 0 [default: the brain that ships
        with nilearn].
    spacing_mm : float
        Voxel size of the head.

    Returns
    -------
    head : nibabel.Nifti1Image
        float32, white matter about 1, air about 0.02, no noise.
    mask : nibabel.Nifti1Image
        uint8 brain mask on the same grid: the filled support of `brain_img`.

    Raises
    ------
    UsageError
        If the voxel size is out of range, or the image does not contain a brain.
    """
    image = embedded_brain() if brain_img is None else brain_img
    grid = head_grid(spacing_mm)
    brain, inside = _brain_on(image, grid)
    points = grid.world_coordinates()
    surface = _surface_distance(image, grid)
    head = _outer_layers(points, surface, spacing_mm)
    head += _share(_cord(image, points), spacing_mm) * (parts.CORD - head)
    # Partial volume at the edge of the brain is mixed with the surrounding fluid.
    head = head * (1 - inside) + brain
    return grid.to_image(head.astype(np.float32)), grid.to_image((inside >= 0.5).astype(np.uint8))


def _brain_on(image: nib.Nifti1Image, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Resample the brain, with white matter 1 and multiplied by its support, and the support."""
    data = np.asarray(image.dataobj, np.float32)
    support = ndimage.binary_fill_holes(data > 0.02 * data.max())
    if data.ndim != 3 or support.sum() * abs(np.linalg.det(image.affine[:3, :3])) < 1e5:
        raise UsageError('The image does not contain a brain.', 'Check the template.')
    white = float(np.percentile(data[support], 80))
    stack = torch.from_numpy(np.stack([data / white * support, support.astype(np.float32)]))
    moved = resample(stack[None], Grid.from_image(image), grid, antialias=True)[0].numpy()
    return moved[0], np.clip(moved[1], 0, 1)


def _cord_axis(image: nib.Nifti1Image) -> tuple[np.ndarray, float]:
    """Return the centre (mm) of the lowest brain slices, where the cord begins, and its radius."""
    data = np.asarray(image.dataobj) > 0
    world = np.array(np.nonzero(data), dtype=np.float64)
    world = image.affine[:3, :3] @ world + image.affine[:3, 3:]
    lowest = world[:, world[2] < world[2].min() + 4]
    # Only voxels near the midline, because the cerebellum may reach as low as the cut.
    lowest = lowest[:, (abs(lowest[0]) < 12) & (lowest[1] > np.median(lowest[1]) - 12)]
    return lowest.mean(axis=1), 6.0


def _cord(image: nib.Nifti1Image, points: np.ndarray) -> np.ndarray:
    """Return the signed distance to the spinal cord, which slopes slightly backwards."""
    centre, radius = _cord_axis(image)
    below = centre[2] - points[2]
    y = centre[1] - 0.12 * below
    across = np.hypot((points[0] - centre[0]) / 1.25, points[1] - y)
    return np.maximum(across - radius, -below - 4.0)


def _surface_distance(image: nib.Nifti1Image, grid: Grid) -> np.ndarray:
    """Signed distances (2, X, Y, Z) in mm to the closed surface of brain and cord.

    The first follows the inner skull; the second is smoother, like the scalp.
    """
    coarse = head_grid(_GEOMETRY_MM)
    core = (_brain_on(image, coarse)[1] > 0.5) | (_cord(image, coarse.world_coordinates()) <= 0)
    # Padding, so that the closing does not round off the cord at the border.
    pad = int(_CLOSING_MM / _GEOMETRY_MM) + 6
    core = np.pad(np.pad(core, [(pad, pad)] * 2 + [(0, pad)]), [(0, 0)] * 2 + [(pad, 0)], 'edge')
    grown = ndimage.distance_transform_edt(~core) * _GEOMETRY_MM < _CLOSING_MM
    closed = ndimage.distance_transform_edt(grown) * _GEOMETRY_MM > _CLOSING_MM
    closed |= core
    signed = ndimage.distance_transform_edt(~closed) - ndimage.distance_transform_edt(closed)
    both = [
        ndimage.gaussian_filter(signed * _GEOMETRY_MM, sigma_mm / _GEOMETRY_MM)
        for sigma_mm in (2.5, 9.0)
    ]
    inner = np.stack(both)[:, pad:-pad, pad:-pad, pad:-pad].astype(np.float32)
    return resample(torch.from_numpy(inner)[None], coarse, grid, padding='border')[0].numpy()


def _share(distance: np.ndarray, spacing: float) -> np.ndarray:
    """Return the share of a voxel inside a surface, given the signed distance."""
    return 1 / (1 + np.exp(np.clip(distance / (0.35 * spacing + 0.2), -30, 30)))


def _paint(
    head: np.ndarray, distance: np.ndarray, value: np.ndarray | float, spacing: float
) -> None:
    """Paint the inside of a surface with a contrast, in place."""
    head += _share(distance, spacing) * (value - head)


def _outer_layers(points: np.ndarray, surface: np.ndarray, spacing: float) -> np.ndarray:
    """Build all tissues around the brain, from the skin inwards."""
    skull, scalp = surface
    skin = _outline(points, np.maximum(scalp, skull - 3) - parts.SCALP_END)
    texture = _texture(points)
    head = np.full(skull.shape, parts.AIR, np.float32)
    _paint(head, skin, parts.SKIN, spacing)
    _paint(head, skin + parts.SKIN_DEPTH, parts.FAT * (1 + 0.08 * texture), spacing)
    # Over the vault the scalp is only fat; muscle fills face and neck.
    deep = np.maximum(skin + parts.FAT_DEPTH, parts.SKULL_END + 1.0 - skull)
    _paint(head, deep, parts.MUSCLE * (1 + 0.2 * texture), spacing)
    for part in parts.PARTS:
        sides = (part.shape, part.shape.mirrored()) if part.both else (part.shape,)
        for shape in sides:
            box = _bounding_box(shape, points, 4 * spacing)
            distance = np.maximum(
                shape.distance(points[(slice(None), *box)]), skin[box] + part.depth_mm
            )
            _paint(
                head[box],
                np.maximum(distance, parts.SKULL_END - skull[box]),
                part.contrast,
                spacing,
            )
    _paint(head, skull - parts.SKULL_END, parts.BONE, spacing)
    _paint(head, skull - parts.MARROW_END, parts.MARROW * (1 + 0.3 * texture), spacing)
    _paint(head, skull - parts.INNER_TABLE_END, parts.BONE, spacing)
    _paint(head, skull - parts.CSF_END, parts.CSF, spacing)
    return head


def _bounding_box(
    shape: Ellipsoid, points: np.ndarray, margin: float
) -> tuple[slice, slice, slice]:
    """Return the slices of the (axis-aligned, ascending) head grid that contain a shape."""
    reach = max(shape.radii) + margin
    box = []
    for axis in range(3):
        line = points[axis][tuple(slice(None) if other == axis else 0 for other in range(3))]
        low, high = np.searchsorted(line, [shape.centre[axis] - reach, shape.centre[axis] + reach])
        box.append(slice(int(low), max(int(high), int(low) + 1)))
    return box[0], box[1], box[2]


def _outline(points: np.ndarray, scalp: np.ndarray) -> np.ndarray:
    """Return the signed distance to the skin, with face, nose, ears and neck joined smoothly."""
    total = np.exp(np.clip(-scalp / parts.JOINT_MM, -30, 30))
    for shape in parts.OUTLINE:
        total += np.exp(np.clip(-shape.distance(points) / parts.JOINT_MM, -30, 30))
    return (-parts.JOINT_MM * np.log(total)).astype(np.float32)


def _texture(points: np.ndarray) -> np.ndarray:
    """Return waves of height about 1 that give soft tissue a grain, the same on every grid."""
    x, y, z = (axis / 6.0 for axis in points)
    waves = np.sin(x + 0.7 * y) * np.cos(1.3 * z - 0.4 * y) + np.sin(1.7 * y - 0.5 * x + z)
    return 0.4 * waves + 0.3 * np.sin(2.3 * x + 0.9 * z) * np.cos(2.1 * y - 1.1 * z + 0.6 * x)
