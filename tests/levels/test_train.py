"""The train level from the command line to the bundle, on made-up brains prepared before."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bids_interp.bids.names import sidecar_name
from bids_interp.cli import app as main
from bids_interp.errors import BusyError
from bids_interp.execution.locks import ResultLocks
from bids_interp.execution.run import Run
from bids_interp.models.bundle.contents import verify_bundle
from bids_interp.models.bundle.reader import ModelBundle, load_bundle
from bids_interp.models.explain.explainer import prepare_input
from bids_interp.settings import Settings
from bids_interp.spatial import Grid
from helpers.labelled_brains import TEMPLATE, brain, labels, make_dataset, prepare, template_brain

pytestmark = pytest.mark.slow

COUNT = 12
SUBJECTS = labels(COUNT)
PATTERN_OPTIONS = (
    *('--label', 'group', '--positive', 'patient', '--preset', 'fast', '--folds', '2'),
    *('--nprocs', '1', '--omp-nthreads', '1', '--device', 'cpu', '--offline'),
    *('--skip-bids-validation', '--covariates', 'sex'),
)
SIMULATOR_OPTIONS = (*PATTERN_OPTIONS, '--capacity', 'template', '--simulator-steps', '2')
OPTIONS = (
    *SIMULATOR_OPTIONS,
    *('--classifier', 'robust', '--classifier-steps', '26', '--resolution', '8'),
)


@dataclass(frozen=True)
class Place:
    """A dataset, where its derivatives go, and how to train in it."""

    bids: Path
    out: Path

    def train(self, *options: str | Path, base: tuple[str, ...] = OPTIONS) -> int:
        """Exit code of the command; steps run in this process, which is quick to start."""
        plugin = self.bids.parent / 'plugin.yml'
        plugin.write_text('plugin: Linear\n')
        work = self.out.with_name(f'{self.out.name}-work')
        places = ('--work-dir', work, '--use-plugin', plugin)
        words = [self.bids, self.out, 'train', *base, *places, *options]
        with pytest.raises(SystemExit) as end:
            main.main([str(word) for word in words])
        return end.value.code or 0


@pytest.fixture(scope='module')
def template() -> tuple[np.ndarray, np.ndarray]:
    return template_brain()


@pytest.fixture(scope='module')
def bids(template, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('train') / 'bids'
    make_dataset(root, template, SUBJECTS)
    return root


@pytest.fixture(scope='module')
def new_place(bids: Path):
    """Make further output folders for the dataset."""

    def make(name: str) -> Place:
        place = Place(bids, bids.with_name(name))
        prepare(bids, place.out, SUBJECTS)
        return place

    return make


@pytest.fixture(scope='module')
def first(new_place) -> Place:
    place = new_place('out')
    assert place.train() == 0
    return place


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream, delimiter='\t'))


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob('*.safetensors'))
    }


def test_the_bundle_is_whole(first: Place) -> None:
    path = first.out / 'models' / 'group'
    assert verify_bundle(path) == []
    bundle = load_bundle(path)
    assert (bundle.n_folds, bundle.demonstration, bundle.template) == (2, False, TEMPLATE)
    assert bundle.target.positive == 'patient'
    np.testing.assert_allclose(bundle.grid.spacing, 8)
    assert bundle.config.training.n_per_class == {'control': 6, 'patient': 6}
    assert bundle.config.training.covariates == ['sex']
    assert 'group' in (path / 'README.md').read_text()


def test_training_subjects_are_explained_by_their_test_fold_alone(first: Place, template) -> None:
    bundle = load_bundle(first.out / 'models' / 'group')
    rows = table(first.out / 'training' / 'group' / 'folds.tsv')
    assert [row['participant_id'] for row in rows] == [f'sub-{label}' for label in SUBJECTS]
    assert {row['fold'] for row in rows} == {'0', '1'}
    for row in rows:
        label = row['participant_id'].removeprefix('sub-')
        scan = nib.load(first.bids / f'sub-{label}' / 'anat' / f'sub-{label}_T1w.nii.gz')
        # Known by its likeness, whatever its name and the type of its voxels.
        seen = bundle.membership(model_input(scan, bundle), 'other voxels', 'elsewhere', 'renamed')
        assert seen.in_training
        assert seen.folds == (int(row['fold']),)
        assert row['label'] == ('patient' if int(label) % 2 == 0 else 'control')
        assert row['fold'] not in row['validation_of'].split(',')
    for is_patient in (False, True):
        data, affine = template
        new = nib.Nifti1Image(brain(data, 99, is_patient), affine)
        stranger = bundle.membership(model_input(new, bundle), 'other', 'Made-up brains', '01')
        assert (stranger.in_training, stranger.folds) == (False, (0, 1))


def model_input(scan: nib.Nifti1Image, bundle: ModelBundle) -> torch.Tensor:
    grid = Grid.from_image(scan, 'T1w')
    return prepare_input(scan.get_fdata(dtype=np.float32), grid, np.eye(4), bundle)


def test_tables_maps_and_report(first: Place) -> None:
    folder = first.out / 'training' / 'group'
    answers = table(folder / 'outoffold.tsv')
    folds = table(folder / 'folds.tsv')
    assert [(a['participant_id'], a['fold']) for a in answers] == [
        (f['participant_id'], f['fold']) for f in folds
    ]
    assert [a['truth'] for a in answers] == [f['label'] for f in folds]
    for answer in answers:
        assert answer['predicted'] == (
            'patient' if float(answer['probability']) >= 0.5 else 'control'
        )
    metrics = json.loads((folder / 'metrics.json').read_text())
    assert 0 <= metrics['auc']['value'] <= 1
    assert {'covariates', 'mask', 'simulator', 'verdict'} <= set(metrics)
    report = (folder / 'report.html').read_text()
    verdict, numbers = metrics['verdict'].split(': ', 1)
    assert verdict in report
    assert numbers.split(',')[0].removeprefix('o') in report
    curves = table(folder / 'curves.tsv')
    assert {row['training'].split('/')[0] for row in curves} == {'fold-0', 'fold-1'}
    assert all(float(row['loss']) > 0 for row in curves if row['loss'] not in ('', 'n/a'))
    maps = sorted(folder.glob('*_logjacobian.nii.gz'))
    assert len(maps) == 6
    for path in maps:
        assert np.isfinite(nib.load(path).get_fdata()).all()
        assert sidecar_name(path).is_file()


def test_the_bundle_explains_an_image(first: Place, template) -> None:
    from bids_interp.models.explain.explainer import explain

    data, affine = template
    bundle = load_bundle(first.out / 'models' / 'group')
    image = nib.Nifti1Image(brain(data, 99, False), affine)
    made = explain(image, bundle, direction='inject', device='cpu')
    assert made.map.shape == data.shape
    assert np.isfinite(made.map).all()
    assert np.abs(made.map).max() > 0
    assert len(made.predictions) == 2


def test_a_model_is_not_overwritten_unasked(first: Place, capsys) -> None:
    before = hashes(first.out / 'models' / 'group')
    assert first.train() == 5
    assert '--overwrite' in capsys.readouterr().err
    assert hashes(first.out / 'models' / 'group') == before


def test_the_same_seed_gives_the_same_weights_and_more_steps_others(
    first: Place, new_place
) -> None:
    second = new_place('again')
    assert second.train() == 0
    weights = hashes(first.out / 'models' / 'group')
    assert hashes(second.out / 'models' / 'group') == weights
    assert second.train('--overwrite', '--simulator-steps', '3') == 0
    others = hashes(second.out / 'models' / 'group')
    assert {name for name, digest in others.items() if weights[name] != digest} == {
        f'fold-{index}_simulator.safetensors' for index in range(2)
    }
    assert load_bundle(second.out / 'models' / 'group').n_folds == 2
    assert not list((second.out / 'models').glob('.*'))


def test_a_pattern_is_fitted_by_default(new_place, template) -> None:
    from bids_interp.models.explain.explainer import explain

    place = new_place('pattern')
    assert (
        place.train('--classifier', 'morphometric', '--resolution', '8', base=PATTERN_OPTIONS) == 0
    )
    bundle = load_bundle(place.out / 'models' / 'group')
    assert bundle.config.simulator.capacity == 'pattern'
    training = place.out / 'training' / 'group'
    metrics = json.loads((training / 'metrics.json').read_text())
    pattern = metrics['simulator']['pattern']
    assert pattern['count'] == 2
    # Nothing is shown as a finding without a pattern that the classifiers use.
    if 2 * pattern['found'] < pattern['count']:
        assert not bundle.config.warranted
    assert list(training.glob('*_desc-weights_logjacobian.nii.gz'))
    for fold in bundle.config.folds:
        (own,) = fold.metrics.simulator.patterns
        assert own.contrast == 'control-patient'
        assert own.found == (own.kept > 0) == bool(own.subtypes)
    data, affine = template
    image = nib.Nifti1Image(brain(data, 99, False), affine)
    explanation = explain(image, bundle, direction='inject', device='cpu')
    assert np.isfinite(explanation.map).all()


def test_a_dry_run_writes_nothing(bids: Path, capsys) -> None:
    place = Place(bids, bids.with_name('dry'))
    assert place.train('--dry-run') == 0
    out = capsys.readouterr().out
    assert re.search(r'\b12 \w+ \w+ 12 .*\bgroup: 6 control, 6 patient\b', out)
    assert not place.out.exists()
    assert not place.out.with_name('dry-work').exists()


def test_a_second_training_of_one_model_is_refused(bids: Path, capsys) -> None:
    place = Place(bids, bids.with_name('twice'))
    first = Run(Settings(bids, place.out), bids.with_name('other'), 'cpu', 1, 1, 4.0, 'first')
    with ResultLocks(first, ['model-group']):
        assert place.train() == BusyError.exit_code
    assert 'first' in capsys.readouterr().err
    assert not (place.out / 'models').exists()


def test_too_many_folds_are_found_before_anything_is_computed(bids: Path, capsys) -> None:
    place = Place(bids, bids.with_name('many'))
    assert place.train('--folds', '7') != 0
    assert '7 folds' in capsys.readouterr().err
    assert not list(place.out.rglob('*'))


def test_scans_that_cannot_be_used_are_left_out_and_named(template, tmp_path: Path, capsys) -> None:
    place = Place(tmp_path / 'bids', tmp_path / 'out')
    make_dataset(place.bids, template, SUBJECTS)
    prepare(place.bids, place.out, SUBJECTS)
    scan = place.bids / 'sub-99' / 'anat' / 'sub-99_T1w.nii.gz'
    scan.parent.mkdir(parents=True)
    scan.write_bytes((place.bids / 'sub-01/anat/sub-01_T1w.nii.gz').read_bytes()[:5000])
    # Two images that would be written as one, and a label that BIDS does not allow.
    for name in ('sub-98_T1w.nii', 'sub-98_T1w.nii.gz', 'sub-PD-01_T1w.nii.gz'):
        scan = place.bids / name.split('_')[0] / 'anat' / name
        scan.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.load(place.bids / 'sub-01/anat/sub-01_T1w.nii.gz'), scan)
    with (place.bids / 'participants.tsv').open('a') as stream:
        stream.writelines(f'sub-{label}\tpatient\tF\n' for label in ('98', '99', 'PD-01'))
    assert place.train() == 1
    captured = capsys.readouterr()
    said = ' '.join((captured.out + captured.err).split())
    for words in ('sub-99_T1w.nii.gz', '/sub-98_T1w.nii ', '/sub-98_T1w.nii.gz '):
        assert words in said, words
    assert ' PD-01 ' in said
    config = load_bundle(place.out / 'models' / 'group').config
    assert config.training.n_images == COUNT


def test_a_loss_that_is_no_number_ends_with_its_message(
    new_place, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bids_interp.training.classifier import ClassifierTask

    original = ClassifierTask._loss
    monkeypatch.setattr(
        ClassifierTask, '_loss', lambda *given, **named: original(*given, **named) * float('nan')
    )
    place = new_place('broken')
    assert place.train() != 0
    said = capsys.readouterr().err
    assert 'step 0' in said
    assert 'train_fold_0' in said
    assert not (place.out / 'models' / 'group').exists()


@pytest.mark.parametrize(
    ('words', 'trained'),
    [((), ['morphometric']), (('--classifier-steps', '2'), ['morphometric', 'robust'])],
)
def test_classifiers_are_compared(new_place, words: tuple[str, ...], trained: list[str]) -> None:
    """On a CPU, the network is left out unless its steps are given."""
    place = new_place(f'auto{len(trained)}')
    base = (*SIMULATOR_OPTIONS, '--classifier', 'auto', '--resolution', '8')
    assert place.train(*words, base=base) == 0
    path = place.out / 'models' / 'group'
    assert verify_bundle(path) == []
    config = load_bundle(path).config
    choice = config.metrics['classifier_choice']
    assert [row['classifier'] for row in choice['candidates']] == trained
    assert [*trained, *choice['left_out']] == ['morphometric', 'robust']
    best = max(choice['candidates'], key=lambda row: row['validation'])
    assert config.classifier.architecture == choice['explained'] == best['classifier']
    assert config.training.recipe['classifier']['architecture'] == choice['explained']
    assert all(len(row['validation_per_fold']) == 2 for row in choice['candidates'])
    measured = json.loads((place.out / 'training' / 'group' / 'metrics.json').read_text())
    assert measured['classifier_choice'] == choice


def test_a_classifier_brought_along(new_place, tmp_path: Path) -> None:
    from bids_interp.models.networks.registry import build_classifier

    shape = (24, 28, 24)
    torch.manual_seed(0)
    network = build_classifier('sfcn', shape, channels=(4, 4), dropout=0.0).eval()
    batch = torch.export.Dim('batch')
    program = torch.export.export(
        network, (torch.rand(2, 1, *shape),), dynamic_shapes=({0: batch},)
    )
    torch.export.save(program, tmp_path / 'given.pt2')
    card = {
        'name': 'given',
        'output': 'logit',
        'input_shape': list(shape),
        'voxel_size': [8, 8, 8],
        'origin': [-92, -130, -76],
        'template': TEMPLATE,
        'preprocessing': {'normalisation': 'percentile'},
        'label': 'group',
        'classes': ['control', 'patient'],
    }
    (tmp_path / 'card.json').write_text(json.dumps(card))
    place = new_place('given')
    options = ('--classifier', tmp_path / 'given.pt2', '--classifier-card', tmp_path / 'card.json')
    assert place.train(*options, base=SIMULATOR_OPTIONS) == 0
    path = place.out / 'models' / 'group'
    assert not list(path.glob('*_classifier.safetensors'))
    bundle = load_bundle(path)
    image = torch.rand(2, 1, *shape)
    with torch.no_grad():
        torch.testing.assert_close(
            bundle.fold(1).classifier(image), network(image), atol=1e-4, rtol=1e-4
        )
    metrics = json.loads((place.out / 'training' / 'group' / 'metrics.json').read_text())
    assert -1 <= metrics['simulator']['audit_ncc'] <= 1
    assert list((place.out / 'training' / 'group').glob('*_desc-audit_logjacobian.nii.gz'))
