"""Output spaces: images of the model's template, resampled onto another template at 1 mm."""

from __future__ import annotations

from functools import cached_property

import nibabel as nib
import numpy as np
from scipy.ndimage import map_coordinates

from bids_interp.anatomical.spaces.template_transform import TemplateTransform, template_transform
from bids_interp.anatomical.templates import brain_template, flow_home
from bids_interp.errors import TemplateError
from bids_interp.nifti import TEMPLATE_CODE, make_image
from bids_interp.spatial import Grid


class OutputSpace:
    """Grid of another template, and the place of each of its voxels in the model's template.

    Parameters
    ----------
    grid : Grid
        Grid of the other template.
    source : Grid
        Grid of the images to resample, in the model's template.
    transform : TemplateTransform
        Map from points of the other template to those of the model's.
    """

    def __init__(self, grid: Grid, source: Grid, transform: TemplateTransform) -> None:
        self.grid, self.source, self._transform = grid, source, transform

    @cached_property
    def _places(self) -> np.ndarray:
        """Return the voxel coordinates (3, N) float32 in the source of every voxel of the grid."""
        points = self._transform(self.grid.world_coordinates().reshape(3, -1))
        to_voxels = np.linalg.inv(self.source.affine)
        places = to_voxels[:3, :3] @ points + to_voxels[:3, 3:]
        return places.astype(np.float32)

    def take(self, data: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Return an image (X, Y, Z) of the model's template on the grid of the other one.

        Parameters
        ----------
        data : numpy.ndarray
            Image (X', Y', Z') on the grid of the source.
        inside : numpy.ndarray
            Voxels (X', Y', Z') with values. The others do not darken the rim, and are 0.

        Returns
        -------
        numpy.ndarray
            float32, by linear interpolation.
        """
        share = self._sampled(inside)
        values = self._sampled(np.where(inside, data, 0)) / np.maximum(share, 0.5)
        return np.where(share >= 0.5, values, 0).astype(np.float32).reshape(self.grid.shape)

    def take_mask(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask (X', Y', Z') on the grid of the other template, uint8."""
        share = self._sampled(mask)
        return (share >= 0.5).astype(np.uint8).reshape(self.grid.shape)

    def image(self, data: np.ndarray) -> nib.Nifti1Image:
        """Return an image on the grid of the other template."""
        return make_image(data, self.grid.affine, TEMPLATE_CODE)

    def _sampled(self, data: np.ndarray) -> np.ndarray:
        values = np.ascontiguousarray(data, dtype=np.float32)
        return map_coordinates(values, self._places, order=1, output=np.float32)


def open_output_space(
    name: str, template: str, source: Grid, *, offline: bool = True, threads: int = 1
) -> OutputSpace:
    """Return the space of another template.

    Parameters
    ----------
    name, template : str
        Names of the other template and of that of the model.
    source : Grid
        Grid of the images to resample, in the model's template.
    offline : bool
        Never download a template.
    threads : int
        Threads of a registration between the templates.

    Raises
    ------
    TemplateError
        If a template is not available, or the two are not alike.
    """
    grid = Grid.from_image(brain_template(name, offline=offline), name)
    transform = template_transform(name, template, offline=offline, threads=threads)
    return OutputSpace(grid, source, transform)


def check_output_space(name: str, *, offline: bool = True) -> None:
    """Check that a template for outputs is available.

    Raises
    ------
    TemplateError
        If TemplateFlow does not have it on this machine, and it cannot be downloaded.
    """
    try:
        brain_template(name, offline=offline)
    except TemplateError as error:
        here = sorted(path.name.removeprefix('tpl-') for path in flow_home().glob('tpl-*'))
        raise TemplateError(
            f'--output-spaces {name}: {error.message}',
            'Check the name. Download brain and mask of the template once with a network '
            'connection, without --offline, or set TEMPLATEFLOW_HOME. Templates there: '
            f'{", ".join(here) or "none"}.',
        ) from error
