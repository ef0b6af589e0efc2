"""The checks of ``train --sanity`` from the node to the bundle, the report and the maps."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bids_interp.interfaces.train import AssembleModel, TrainFold
from bids_interp.interfaces.train_sanity import SanityFold
from bids_interp.models.bundle.reader import load_bundle
from bids_interp.models.explain.realism import brain_cubes
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.spatial import Grid
from bids_interp.training.cohort import storage
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.gather import split_cohort
from bids_interp.training.recipe import make_recipe

GRID = Grid((16, 16, 16), np.diag([6.0, 6.0, 6.0, 1.0]), 'made-up')
RECIPE = {
    'preset': 'fast',
    'capacity': 'template',
    'n_folds': 2,
    'classifier_steps': 2,
    'simulator_steps': 2,
    'batch': 2,
}
COUNT = 12


def make_cohort() -> Cohort:
    """Noise; patients have a dark place."""
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT) % 2
    images = rng.uniform(0.8, 1.2, (COUNT, 1, *GRID.shape)).astype(np.float32)
    images[labels == 1, :, 4:7, 4:7, 4:7] = 0.3
    keys = tuple((f'image:{index}',) for index in range(COUNT))
    return Cohort(
        torch.from_numpy(images),
        labels,
        np.arange(COUNT),
        keys,
        GRID,
        np.ones(GRID.shape, bool),
        Preprocessing(),
        Target('binary', 'group', ('control', 'patient')),
        tuple(f'sub-{index:02d}' for index in range(COUNT)),
    )


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folder of bundle and report of a training with its checks."""
    folder = tmp_path_factory.mktemp('training')
    cohort = make_cohort()
    storage.save_cohort(folder / 'cohort.safetensors', cohort)
    folds = split_cohort(cohort, {'strata': []}, 2, seed=0)
    storage.save_folds(folder / 'folds.safetensors', folds)
    table = {
        'subjects': [f'{index:02d}' for index in range(COUNT)],
        'families': list(range(COUNT)),
        'covariates': {},
        'site': None,
    }
    (folder / 'table.json').write_text(json.dumps(table))
    common = {
        'cohort': str(folder / 'cohort.safetensors'),
        'folds': str(folder / 'folds.safetensors'),
        'random_seed': 1,
    }
    recipe = make_recipe(**RECIPE)
    computed = {'recipe': RECIPE, 'recipe_digest': recipe.digest(), **common}
    results = []
    for index in range(2):
        where = folder / f'node-{index}'
        where.mkdir()
        node = TrainFold(index=index, directory=str(folder / 'checkpoints'), **computed)
        results.append(node.run(cwd=str(where)).outputs.result)
    where = folder / 'node-sanity'
    where.mkdir()
    check = SanityFold(
        index=0, directory=str(folder / 'sanity'), result=results[0], **computed
    ).run(cwd=str(where))
    architecture, arguments = recipe.classifier.architecture, recipe.classifier.arguments
    facts = {
        'name': 'noise',
        'classifier': {'architecture': architecture, 'arguments': arguments},
        'simulator': recipe.simulator.network_arguments(),
        'training': {'preset': 'fast'},
    }
    done = AssembleModel(
        results=results,
        table=str(folder / 'table.json'),
        facts=facts,
        checkpoints=str(folder / 'checkpoints'),
        bundle=str(folder / 'models' / 'noise'),
        report_dir=str(folder / 'report'),
        sanity=check.outputs.sanity,
        **common,
    ).run(cwd=str(where))
    return Path(done.outputs.bundle), Path(done.outputs.report)


def test_the_numbers_land_in_the_bundle_the_card_and_the_report(made) -> None:
    path, report = made
    found = load_bundle(path).config.metrics['sanity']
    assert json.loads((report.parent / 'metrics.json').read_text())['sanity'] == found
    assert (found['limit'], found['fold'], found['steps']) == (0.2, 0, 2)
    text, card = report.read_text(), (path / 'README.md').read_text()
    for row in found['randomised']:
        assert f'>{row["ncc"]:.2f}<' in text
        cells = [line.split('|') for line in card.splitlines() if f'| {row["ncc"]:.2f} |' in line]
        # Only where all layers are noise must the map have vanished.
        is_last = row['layers'] == row['of']
        assert any(('-0.2' in wanted) is is_last for _, _, _, wanted, *_ in cells)
    assert f'>{found["permuted_labels"]["ncc"]:.2f}<' in text
    assert 'id="sanity"' in text
    assert 'fold 0' in card
    # Curves are those of the model alone.
    assert 'second_seed' not in (report.parent / 'curves.tsv').read_text()


def test_maps_of_the_checks_and_of_the_agreement_of_the_folds(made) -> None:
    folder = made[1].parent
    stem = 'space-made-up_res-model_desc'
    folds = [
        nib.load(folder / f'{stem}-injectfold{index}_logjacobian.nii.gz').get_fdata()
        for index in range(2)
    ]
    spread = nib.load(folder / f'{stem}-inject_stat-sd_logjacobian.nii.gz')
    expected = np.abs(folds[0] - folds[1]) / np.sqrt(2)
    np.testing.assert_allclose(spread.get_fdata(), expected, atol=1e-6)
    np.testing.assert_allclose(spread.affine, GRID.affine)
    names = {p.name for p in folder.glob('*_logjacobian.nii.gz')}
    for name in ('remove_stat-samesign', 'sanityOriginal', 'sanityPermutedLabels'):
        assert f'{stem}-{name}_logjacobian.nii.gz' in names
    for name in names:
        assert (folder / name.replace('.nii.gz', '.json')).is_file()


def test_the_bundle_describes_the_intensities_of_its_training_images(made) -> None:
    bundle = load_bundle(made[0])
    known = bundle.config.training_intensities
    cubes = brain_cubes(bundle.grid, bundle.brain_mask)
    assert (known.n, len(known.mean)) == (COUNT, cubes.max() + 1)
    images = make_cohort().images[:, 0].numpy()
    assert known.mean[0] == pytest.approx(images[:, cubes == 0].mean(), abs=1e-5)
    assert known.sd[-1] == pytest.approx(
        images[:, cubes == cubes.max()].mean(axis=1).std(ddof=1), abs=1e-5
    )
