"""A subject that is known in every detail, on awkward native grids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from nibabel.eulerangles import euler2mat
from scipy.ndimage import binary_fill_holes

from bids_interp.bids.write.atomic import write_json
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.spatial import Grid, resample

_OBLIQUE = euler2mat(0.25, -0.3, 0.2)
#: Linear part of the affine of each native grid: mm along world axes per voxel step.
NATIVE = {
    'RAS': np.diag([4.0, 4.0, 4.0]),
    'LAS': np.diag([-4.0, 4.0, 4.0]),
    'anisotropic PIR': np.array([[0, 0, 3.0], [-4.0, 0, 0], [0, 6.0, 0]]),
    'oblique': _OBLIQUE @ np.diag([4.0, 4.0, 5.0]),
    'oblique LPI': _OBLIQUE @ np.diag([-3.5, -4.0, -5.0]),
}


@dataclass(frozen=True)
class Subject:
    """Files of one subject.

    Parameters
    ----------
    brain, brain_mask, template_brain, template_mask, native_to_template : str
        As the anatomical workflow gives them.
    grid : Grid
        Native grid.
    matrix : numpy.ndarray
        Native world to template world.
    """

    brain: str
    brain_mask: str
    template_brain: str
    template_mask: str
    native_to_template: str
    grid: Grid
    matrix: np.ndarray


def scanner_to_template() -> np.ndarray:
    """An affine with rotation, scaling, shear and a large shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = euler2mat(-0.1, 0.15, 0.05) @ np.array(
        [[1.08, 0.03, 0.0], [0.0, 0.95, 0.02], [0.0, 0.0, 1.1]]
    )
    matrix[:3, 3] = [5.0, 22.0, -14.0]
    return matrix


def native_grid(orientation: str) -> Grid:
    """A grid around the brain."""
    linear = NATIVE[orientation]
    sizes = np.ceil(230 / np.sqrt((linear**2).sum(axis=0))).astype(int)
    middle = np.linalg.inv(scanner_to_template()) @ np.array([0.0, -18.0, 8.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = middle[:3] - linear @ ((sizes - 1) / 2)
    return Grid((int(sizes[0]), int(sizes[1]), int(sizes[2])), affine, 'T1w')


@pytest.fixture(scope='session')
def make_subject(tmp_path_factory, template_brain) -> Callable[[str], Subject]:
    """Make a subject on one of the grids of :data:`NATIVE`; its brain is the template's."""
    fine = Grid.from_image(template_brain, 'MNI152NLin2009aSym')
    template = fine.with_spacing(4.0)
    data = torch.from_numpy(np.asarray(template_brain.dataobj))[None, None]
    placed = resample(data, fine, template, np.eye(4), antialias=True)
    matrix = scanner_to_template()

    @cache
    def make(orientation: str) -> Subject:
        folder = tmp_path_factory.mktemp('subject')
        grid = native_grid(orientation)
        brain = resample(placed, template, grid, matrix)[0, 0].numpy()
        brain[brain < 0.05 * brain.max()] = 0
        in_template = placed[0, 0].numpy()
        inside = binary_fill_holes(in_template > 0.05 * in_template.max())
        in_template = in_template * inside

        def write(name: str, data: np.ndarray, affine: np.ndarray, is_template: bool) -> Path:
            return write_nifti(folder / name, data, affine, template=is_template)

        return Subject(
            str(write('brain.nii.gz', brain, grid.affine, False)),
            str(write('mask.nii.gz', binary_fill_holes(brain > 0), grid.affine, False)),
            str(write('template_brain.nii.gz', in_template, template.affine, True)),
            str(write('template_mask.nii.gz', inside, template.affine, True)),
            str(write_json(folder / 'registration.json', {'native_to_template': matrix})),
            grid,
            matrix,
        )

    return make
