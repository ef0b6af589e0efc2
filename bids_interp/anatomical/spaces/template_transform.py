"""Template transform: from one MNI template to another, computed once and cached.

Atlases and results of another template than that of the model are reached through it. TemplateFlow
has transforms between some templates. Otherwise the two brains are registered (SyN). Templates in
MNI space lie within millimetres of each other, so the registration starts from the identity.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy.ndimage import map_coordinates

from bids_interp.anatomical import ants_tools
from bids_interp.anatomical.ants_process import captured, scratch_folder
from bids_interp.anatomical.itk import itk_text
from bids_interp.anatomical.templates import coarse_brain, flow_home
from bids_interp.container import home_dir
from bids_interp.errors import TemplateError
from bids_interp.spatial import Grid, resample

logger = logging.getLogger('bids_interp')

#: Voxel size of the registration and of the field.
FIELD_MM = 3.0
#: Correlation of two registered templates below which the transform is refused. The templates of
#: MNI152 reach 0.97 and more.
ENOUGH = 0.9
_SYN = ants_tools.Stage('SyN[0.2,3,0]', 'CC[%s,%s,1,1]', '40x10', '2x1', '1x0')
#: Raised when the registration changes, so that older files of the cache are not used.
_VERSION = 1


@dataclass(frozen=True, eq=False)
class TemplateTransform:
    """Map from points of one template to those of another.

    Parameters
    ----------
    grid : Grid
        Grid of the displacement, in the template whose points are mapped.
    displacement : numpy.ndarray
        (3, X, Y, Z) mm along world axes, RAS+.
    source : str
        ``'identity'``, ``'TemplateFlow'`` or ``'SyN'``.
    """

    grid: Grid
    displacement: np.ndarray
    source: str

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Map world points (3, N) in mm; beyond the grid, by the displacement of its border."""
        places = nib.affines.apply_affine(np.linalg.inv(self.grid.affine), points.T).T
        return points + np.stack(
            [map_coordinates(part, places, order=1, mode='nearest') for part in self.displacement]
        )


def template_transform(
    origin: str, target: str, *, offline: bool = True, threads: int = 1
) -> TemplateTransform:
    """Return the map from points of a template to the same anatomy in another.

    Parameters
    ----------
    origin, target : str
        TemplateFlow names, or the embedded template.
    offline : bool
        Never download.
    threads : int
        Threads of ANTs.

    Raises
    ------
    TemplateError
        If a template is not available, or the two are not alike.
    """
    fixed = coarse_brain(origin, offline=offline)
    grid = Grid.from_image(fixed, origin).with_spacing(FIELD_MM)
    if origin == target:
        return TemplateTransform(grid, np.zeros((3, *grid.shape), np.float32), 'identity')
    own = flow_home() / f'tpl-{origin}' / f'tpl-{origin}_from-{target}_mode-image_xfm.h5'
    if own.is_file() and own.stat().st_size:
        ants_tools.load_ants(threads)
        return TemplateTransform(grid, _composed([str(own)], grid), 'TemplateFlow')
    moving = coarse_brain(target, offline=offline)
    path = _cache_file(origin, target, fixed, moving)
    found = _read(path, grid)
    if found is None:
        logger.info('Registering the template %s to %s, once.', target, origin)
        found = _registered(fixed, moving, grid, f'template {target}', threads)
        _write(path, found)
    return TemplateTransform(grid, found, 'SyN')


def _registered(
    fixed: nib.Nifti1Image, moving: nib.Nifti1Image, grid: Grid, name: str, threads: int
) -> np.ndarray:
    """Return the displacement (3, X, Y, Z) from the fixed to the moving brain."""
    ants_tools.load_ants(threads)
    images = [_at_field_spacing(image) for image in (fixed, moving)]
    ours, other = (ants_tools.to_ants(image) for image in images)
    with scratch_folder() as folder:
        start = folder / 'identity.txt'
        start.write_text(itk_text(np.eye(4)))
        try:
            with ants_tools.run_registration(
                ours, other, [_SYN], seed=0, initial=str(start)
            ) as found:
                displacement = _composed(found[0], grid)
        except RuntimeError as error:
            raise TemplateError(f'The {name} could not be registered: {error}.') from error
    points = grid.world_coordinates().reshape(3, -1)
    places = TemplateTransform(grid, displacement, 'SyN')(points)
    moved = _sampled(images[1], places)
    like = float(np.corrcoef(moved, np.asarray(images[0].dataobj).ravel())[0, 1])
    if like < ENOUGH:
        raise TemplateError(
            f'The {name} was registered with a correlation of {like:.2f} only; at least {ENOUGH} '
            'is needed. The templates are too different.'
        )
    return displacement


def _sampled(image: nib.Nifti1Image, points: np.ndarray, order: int = 1) -> np.ndarray:
    """Return the values (N,) of an image at world points (3, N), 0 outside."""
    places = nib.affines.apply_affine(np.linalg.inv(image.affine), points.T).T
    return map_coordinates(np.asarray(image.dataobj), places, order=order)


def _at_field_spacing(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return a brain with the voxels of the field."""
    own = Grid.from_image(image)
    grid = own.with_spacing(FIELD_MM)
    data = torch.from_numpy(np.asarray(image.dataobj, np.float32))[None, None]
    return grid.to_image(resample(data, own, grid, antialias=True)[0, 0].numpy())


def _composed(transforms: list[str], grid: Grid) -> np.ndarray:
    """Return transforms of ANTs as one displacement (3, X, Y, Z) of the points of a grid."""
    import ants

    reference = ants_tools.to_ants(grid.to_image(np.zeros(grid.shape, np.float32)))
    with scratch_folder() as folder, captured():
        path = ants.apply_transforms(
            reference, reference, transforms, compose=f'{folder}/composed-'
        )
        field = np.asarray(nib.load(path).dataobj, np.float32)
    # ITK's vectors are LPS; the voxels of the file are those of the grid.
    flip = np.array([-1.0, -1.0, 1.0], np.float32).reshape(3, 1, 1, 1)
    return np.ascontiguousarray(np.moveaxis(field[..., 0, :], -1, 0) * flip)


def _cache_file(origin: str, target: str, fixed: nib.Nifti1Image, moving: nib.Nifti1Image) -> Path:
    digest = hashlib.sha256(f'{_VERSION} {FIELD_MM} {_SYN}'.encode())
    for image in (fixed, moving):
        digest.update(np.ascontiguousarray(image.affine).tobytes())
        digest.update(np.ascontiguousarray(image.dataobj).tobytes())
    home = os.environ.get('XDG_CACHE_HOME') or home_dir() / '.cache'
    name = f'from-{origin}_to-{target}_{digest.hexdigest()[:12]}.npz'
    return Path(home) / 'bids_interp' / 'transforms' / name


def _read(path: Path, grid: Grid) -> np.ndarray | None:
    """Return the displacement in a file of the cache; None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            found = kept['displacement']
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    is_whole = found.shape == (3, *grid.shape) and bool(np.isfinite(found).all())
    return found if is_whole else None


def _write(path: Path, displacement: np.ndarray) -> None:
    """Keep a displacement, if the cache can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix='.part', delete=False) as stream:
            np.savez_compressed(stream, displacement=displacement)
        os.replace(stream.name, path)
    except OSError as error:
        logger.warning('The transform between templates cannot be kept: %s', error)
