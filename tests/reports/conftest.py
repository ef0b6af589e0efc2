"""Derivatives of one scan made from the template and a velocity known in closed form."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from nilearn.datasets import load_mni152_template
from scipy.ndimage import binary_dilation

from bids_interp.reports import draw_figures
from bids_interp.spatial import Grid, exponential, log_jacobian, resample, warp

TEMPLATE = 'MNI152NLin2009aSym'
PREFIX = 'sub-01_run-1'
PREPARATION = {
    'SkullStripped': False,
    'Sources': ['bids:raw:sub-01/anat/sub-01_run-1_T1w.nii.gz'],
    'Conformation': {
        'Shape': [160, 192, 192],
        'VoxelSizes': [1.0, 1.3333, 1.3333],
        'Orientation': 'LAS',
        'BrainMask': 'extracted',
        'HeadTemplate': 'MNI152NLin6Asym',
        'BrainVolumeLitres': 1.4481,
        'Warnings': ['The qform was missing and was taken from the sform.'],
    },
}
ANSWER = {
    'LogitMean': -0.92,
    'LogitSD': 0.42,
    'ProbabilityMean': 0.29,
    'ProbabilitySD': 0.08,
    'Folds': [],
}
#: Centre in mm, strength and width in mm of each swelling; negative shrinks.
SPOTS = (
    ((-28, -18, -14), -0.11, 9.0),
    ((28, -18, -14), -0.11, 9.0),
    ((-12, -8, 22), 0.08, 9.0),
    ((12, -8, 22), 0.08, 9.0),
)


def velocity_on(grid: Grid) -> np.ndarray:
    """(3, X, Y, Z) in mm: radial flow around each spot; its divergence at the centre is 3 a."""
    world = grid.world_coordinates().astype(np.float64)
    total = np.zeros_like(world)
    for centre, strength, width in SPOTS:
        offset = world - np.array(centre)[:, None, None, None]
        total += strength * offset * np.exp(-(offset**2).sum(0) / (2 * width**2))
    return total.astype(np.float32)


def write(path: Path, grid: Grid, data: np.ndarray, **meta: object) -> None:
    """Write an image and its sidecar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.to_image(data).to_filename(path)
    (path.parent / (path.name.split('.')[0] + '.json')).write_text(json.dumps(meta))


def make_derivatives(
    output_dir: Path, prefix: str = PREFIX, spacing: int = 4, flips: bool = True
) -> None:
    """Write what the participant level writes for one scan, at a coarse voxel size."""
    subject = prefix.split('_')[0]
    anat = output_dir / subject / 'anat'
    template = load_mni152_template(resolution=spacing)
    grid = Grid.from_image(template, TEMPLATE)
    brain = template.get_fdata(dtype=np.float32)
    native = Grid(grid.shape, grid.affine, 'T1w')
    # A shell around the brain plays the skull.
    inside = brain > 0.05 * brain.max()
    brain = brain * inside
    far, near = binary_dilation(inside, iterations=4), binary_dilation(inside, iterations=2)
    head = brain + 0.7 * brain.max() * (far & ~near)
    write(anat / f'{prefix}_desc-preproc_T1w.nii.gz', native, head, **PREPARATION)
    write(anat / f'{prefix}_desc-brain_mask.nii.gz', native, inside, Type='Brain')
    spaced = anat / f'{prefix}_space-{TEMPLATE}'
    write(Path(f'{spaced}_res-1_desc-brain_T1w.nii.gz'), grid, brain)
    write(Path(f'{spaced}_res-1_desc-brain_mask.nii.gz'), grid, inside, Type='Brain')
    coarse = grid.with_spacing(6.0)
    field = torch.from_numpy(velocity_on(coarse))[None]
    tensor = torch.from_numpy(brain)[None, None]
    seen = resample(tensor, grid, coarse, np.eye(4))[0, 0].numpy()
    write(Path(f'{spaced}_res-model_desc-input_T1w.nii.gz'), coarse, seen)
    for direction, sign in (('inject', 1.0), ('remove', -1.0)):
        vectors = sign * np.moveaxis(field[0].numpy(), 0, -1)[..., None, :]
        write(Path(f'{spaced}_res-model_desc-{direction}_velocity.nii.gz'), coarse, vectors)
        fine = sign * torch.from_numpy(velocity_on(grid))[None]
        moved = warp(tensor, exponential(-fine, grid), grid)[0, 0].numpy()
        change = log_jacobian(exponential(fine, grid), grid)[0, 0].numpy() * inside
        name = f'{spaced}_res-1_desc-{direction}100'
        write(Path(f'{name}_T1w.nii.gz'), grid, moved)
        write(Path(f'{name}_logjacobian.nii.gz'), grid, change)
    _write_tables(anat, prefix, 2.5 if flips else 0.4)


def _write_tables(anat: Path, prefix: str, slope: float) -> None:
    lines = ['direction\tdose\tfold\tlogit\tprobability\tshift\tshift_over_class_gap']
    base = (-1.1, -0.6, -0.9, -1.6, -0.4)
    for direction, sign in (('none', 0), ('inject', 1), ('remove', -1)):
        for dose in (0.0,) if direction == 'none' else (0.25, 0.5, 0.75, 1.0):
            for fold, start in enumerate(base):
                shift = slope * sign * dose * (1 + 0.1 * fold)
                chance = 1 / (1 + np.exp(-(start + shift)))
                row = (direction, dose, fold, start + shift, chance, shift, shift / 2.6)
                lines.append('\t'.join(str(cell) for cell in row))
    (anat / f'{prefix}_desc-doseresponse_stats.tsv').write_text('\n'.join(lines) + '\n')
    prediction = {
        'ModelName': 'demonstration',
        'ModelHash': 'abc123def456',
        'Demonstration': True,
        'Target': {'kind': 'binary', 'negative': 'control', 'positive': 'patient'},
        'InTrainingSet': False,
        'ExplanationWarranted': True,
        'FoldsUsed': [0, 1, 2, 3, 4],
        'Observed': ANSWER,
        'Simulated': {},
    }
    (anat / f'{prefix}_desc-explain_prediction.json').write_text(json.dumps(prediction))
    rows = ['direction\tdose\tprobability\tshift\tflipped\tn_folded\tmean_abs_log_jacobian']
    rows += ['inject\t1\t0.83\t3\ttrue\t0\t0.021', 'remove\t1\t0.04\t-3\ttrue\t0\t0.022']
    (anat / f'{prefix}_desc-counterfactual_stats.tsv').write_text('\n'.join(rows) + '\n')


@pytest.fixture(scope='session')
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Derivatives of one scan with all their figures; not to be changed."""
    out = tmp_path_factory.mktemp('reports') / 'out'
    make_derivatives(out)
    draw_figures(out, PREFIX)
    return out


@pytest.fixture
def derivatives(drawn: Path, tmp_path: Path) -> Path:
    """A copy of the derivatives and figures that a test may change."""
    return Path(shutil.copytree(drawn, tmp_path / 'out'))
