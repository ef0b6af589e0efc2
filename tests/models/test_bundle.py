from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from bids_interp.cli.tools.command import tools
from bids_interp.errors import ModelError
from bids_interp.models.bundle.contents import sha256_of, verify_bundle
from bids_interp.models.bundle.fingerprint import (
    BITS,
    image_fingerprint,
    salted,
    scan_sketch,
    sketch_distance,
    subject_keys,
)
from bids_interp.models.bundle.fold_metrics import FoldMetrics
from bids_interp.models.bundle.reader import ModelBundle, default_bundle_path, load_bundle
from bids_interp.models.bundle.schema import ClassifierConfig, GivenClassifier
from bids_interp.models.bundle.writer import TrainedFold, save_bundle
from bids_interp.models.external import loader
from bids_interp.models.external.card import ClassifierCard
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target


@pytest.fixture
def copied(tiny_bundle: ModelBundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / 'copy'))


def edit(path: Path, **changes: object) -> None:
    config = json.loads((path / 'config.json').read_text())
    config.update(changes)
    (path / 'config.json').write_text(json.dumps(config))


def a_brain(bundle: ModelBundle, seed: int, noise: float = 0.0) -> torch.Tensor:
    """A classifier input of a person, measured with noise."""
    person, session = (np.random.default_rng([seed, place]) for place in (0, 1))
    shape = bundle.grid.shape
    image = bundle.mean_image[0, 0].numpy() + 0.1 * person.normal(size=shape)
    return torch.tensor(image + noise * session.normal(size=shape), dtype=torch.float32)[None, None]


def test_loads_what_was_saved(tiny_bundle: ModelBundle):
    again = load_bundle(tiny_bundle.path)
    assert again.version_hash == tiny_bundle.version_hash
    assert again.n_folds == 2
    assert again.brain_mask.shape == again.grid.shape
    image = torch.rand(1, 1, *again.grid.shape)
    one, two = (again.fold(index).classifier(image) for index in range(2))
    assert one != two
    assert not any(p.requires_grad for p in again.fold(0).simulator.parameters())


def gate(auc: float) -> dict[str, object]:
    recognised = {'control': 9, 'patient': 7}
    return {
        'contrast': 'control-patient',
        'auc': auc,
        'least_auc': 0.85,
        'recognised': recognised,
    }


@pytest.mark.parametrize(
    ('areas', 'explains', 'folds'),
    [((0.9, 0.8), [True, False], (0,)), ((0.8, 0.8), [False, False], (0, 1))],
)
def test_new_subjects_are_explained_by_trained_simulators(copied, areas, explains, folds):
    """A training subject still has only the fold that held it out."""
    config = json.loads((copied / 'config.json').read_text())
    for fold, auc in zip(config['folds'], areas, strict=True):
        fold['metrics']['simulator'] = {'gates': [gate(auc)]}
    new, known = a_brain(load_bundle(copied), 1), a_brain(load_bundle(copied), 2)
    scan = {'sketch': load_bundle(copied).sketch(known), 'folds': [1]}
    edit(copied, folds=config['folds'], training_scans=[scan])
    bundle = load_bundle(copied)
    assert [bundle.explains(index) for index in range(2)] == explains
    assert bundle.membership(new, 'voxels', 'dataset', '99').folds == folds
    assert bundle.membership(known, 'voxels', 'dataset', '01').folds == (1,)


@pytest.mark.parametrize('name', ['context.safetensors', 'fold-1_simulator.safetensors'])
def test_damage_is_found_and_the_file_named(copied: Path, name: str):
    data = bytearray((copied / name).read_bytes())
    data[-1] ^= 1
    (copied / name).write_bytes(data)
    assert name in verify_bundle(copied)[0]
    with pytest.raises(ModelError, match=name):
        load_bundle(copied)


@pytest.mark.parametrize(
    'name',
    ['fold-1_classifier.safetensors', 'fold-0_simulator.safetensors', 'context.safetensors'],
)
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_weights_that_are_not_finite(copied: Path, name: str, value: float):
    weights = load_file(copied / name)
    key = next(key for key, one in weights.items() if one.is_floating_point())
    weights[key].view(-1)[0] = value
    save_file(weights, copied / name)
    assert_refused(rehashed(copied, name), name)


def rehashed(path: Path, name: str) -> Path:
    config = json.loads((path / 'config.json').read_text())
    edit(path, files={**config['files'], name: sha256_of(path / name)})
    return path


def assert_refused(path: Path, named: str) -> None:
    """Opening and verifying agree, and both name the file."""
    assert named in ' '.join(verify_bundle(path))
    with pytest.raises(ModelError, match=re.escape(named)) as caught:
        load_bundle(path)
    assert caught.value.exit_code == 5
    said = CliRunner().invoke(tools, ['model', 'verify', str(path)])
    assert said.exit_code == 5
    assert named in said.output


def test_a_given_classifier_that_is_not_finite(
    tiny_bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
):
    network = torch.nn.Linear(1, 1)
    network.weight.data.fill_(float('nan'))
    monkeypatch.setattr(loader, 'load_external', lambda *given: network)
    config = tiny_bundle.config
    card = ClassifierCard('x', 'logit', config.grid, Preprocessing(), 'dx', ('a', 'b'))
    given = ClassifierConfig(external=GivenClassifier('export'), card=card)
    bundle = ModelBundle(tiny_bundle.path, replace(config, classifier=given))
    with pytest.raises(ModelError, match=config.folds[0].classifier):
        bundle.fold(0)


def test_a_good_bundle_is_never_replaced_by_a_damaged_one(copied: Path, tiny_bundle: ModelBundle):
    means = np.full(tiny_bundle.grid.shape, np.nan)
    before = sorted(copied.parent.rglob('*'))
    with pytest.raises(ModelError):
        save_bundle(
            copied, tiny_bundle.config, [], tiny_bundle.brain_mask, means, '', overwrite=True
        )
    assert sorted(copied.parent.rglob('*')) == before
    assert verify_bundle(copied) == []


def test_a_file_that_is_no_safetensors(copied: Path):
    name = 'fold-0_classifier.safetensors'
    (copied / name).write_bytes(b'\x80\x04pickle')
    assert_refused(rehashed(copied, name), name)


def test_a_context_without_a_mask(copied: Path):
    save_file({'mean_image': torch.zeros(2)}, copied / 'context.safetensors')
    assert_refused(rehashed(copied, 'context.safetensors'), 'brain_mask')


@pytest.mark.parametrize('files', [{}, {'README.md': ''}])
def test_files_without_a_hash(copied: Path, files: dict[str, str]):
    edit(copied, files={name: sha256_of(copied / name) for name in files})
    for name in ('context.safetensors', 'fold-1_simulator.safetensors'):
        assert_refused(copied, name)


@pytest.mark.parametrize('what', ['classifier', 'simulator'])
@pytest.mark.parametrize('absolute', [True, False])
def test_a_fold_outside_the_folder(copied: Path, what: str, absolute: bool):
    """Even with the right hash."""
    config = json.loads((copied / 'config.json').read_text())
    inside = copied / config['folds'][0][what]
    outside = shutil.copy(inside, copied.parent / 'outside.safetensors')
    name = str(outside) if absolute else '../outside.safetensors'
    config['folds'][0][what] = name
    edit(copied, folds=config['folds'], files={**config['files'], name: sha256_of(inside)})
    assert_refused(copied, name)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('temperature', float('nan')),
        ('temperature', 0.0),
        ('temperature', []),
        ('class_gap', [1.0, float('inf')]),
        ('intercept', float('nan')),
    ],
)
def test_a_calibration_that_is_not_possible(copied: Path, key: str, value: object):
    config = json.loads((copied / 'config.json').read_text())
    config['folds'][1][key] = value
    edit(copied, folds=config['folds'])
    assert_refused(copied, f'folds[1].{key}')


@pytest.mark.parametrize(
    'known',
    [{'subjects': {'ab': [1, 2]}}, {'training_scans': [{'sketch': 'ab' * 32, 'folds': [2]}]}],
)
def test_a_subject_of_a_fold_that_does_not_exist(copied: Path, known: dict[str, object]):
    edit(copied, **known)
    assert_refused(copied, next(iter(known)))


def test_missing_file(copied: Path):
    (copied / 'fold-0_classifier.safetensors').unlink()
    with pytest.raises(ModelError, match='fold-0_classifier.safetensors'):
        load_bundle(copied)


def test_other_grid(copied: Path):
    config = json.loads((copied / 'config.json').read_text())
    config['grid']['shape'][0] += 1
    edit(copied, grid=config['grid'])
    with pytest.raises(ModelError, match='context.safetensors'):
        load_bundle(copied)


def test_weights_of_another_architecture(copied: Path):
    edit(copied, classifier={'architecture': 'sfcn'}, version='0.0.7')
    # The file, and the version whose networks it fits.
    with pytest.raises(ModelError, match=r'fold-0_classifier.safetensors.*\b0\.0\.7\b'):
        load_bundle(copied).fold(0)


def test_other_format(copied: Path):
    edit(copied, format=99)
    with pytest.raises(ModelError, match='99') as caught:
        load_bundle(copied)
    assert caught.value.exit_code == 5


def test_no_bundle(tmp_path: Path):
    with pytest.raises(ModelError, match='none'):
        load_bundle(tmp_path / 'none')
    with pytest.raises(ModelError, match='config.json'):
        load_bundle(tmp_path)
    (tmp_path / 'config.json').write_text('{')
    with pytest.raises(ModelError, match='config.json'):
        load_bundle(tmp_path)
    (tmp_path / 'config.json').write_text('{"format": 1}')
    with pytest.raises(ModelError, match='name'):
        load_bundle(tmp_path)


def test_never_overwrites_unasked(copied: Path, tiny_bundle: ModelBundle):
    arguments = (tiny_bundle.config, [], tiny_bundle.brain_mask, np.zeros(1), '')
    before = sorted(p.name for p in copied.parent.iterdir())
    with pytest.raises(ModelError, match='copy'):
        save_bundle(copied, *arguments)
    assert sorted(p.name for p in copied.parent.iterdir()) == before


NUMBER = Target('regression', 'age', mean=50.0, sd=9.0)
SEVERAL = Target('multiclass', 'dx', ('CN', 'MCI', 'AD'))


def with_means(bundle: ModelBundle, path: Path, target: Target, means: np.ndarray) -> Path:
    """Bundle without networks for another target."""
    config = replace(bundle.config, target=target)
    folds = [TrainedFold({}, {}, 1.0, 1.0, FoldMetrics(1, 1, 1))]
    return save_bundle(path, config, folds, bundle.brain_mask, means, '').path


@pytest.mark.parametrize(
    ('contrast', 'value', 'of'), [('CN-MCI', 1, 'CN'), ('CN-AD', 1, 'CN'), ('MCI-AD', 2, 'MCI')]
)
def test_the_mean_image_is_of_the_negative_class_of_the_contrast(
    tiny_bundle: ModelBundle, tmp_path: Path, contrast: str, value: float, of: str
):
    means = np.stack([np.full(tiny_bundle.grid.shape, level) for level in (1.0, 2.0)])
    bundle = load_bundle(with_means(tiny_bundle, tmp_path / 'm', SEVERAL, means), contrast)
    assert bundle.mean_image.shape == (1, 1, *bundle.grid.shape)
    assert bundle.mean_image.unique().tolist() == [value]
    assert bundle.mean_image_name == f'mean image of the class {of}'


@pytest.mark.parametrize(
    ('target', 'contrast', 'words'),
    [
        (SEVERAL, 'MCI-AD', 'mean image of the class CN'),
        (NUMBER, None, 'mean image of all training images'),
    ],
)
def test_a_single_mean_image_says_what_it_is(
    tiny_bundle: ModelBundle, tmp_path: Path, target: Target, contrast: str | None, words: str
):
    single = np.ones(tiny_bundle.grid.shape)
    bundle = load_bundle(with_means(tiny_bundle, tmp_path / 'm', target, single), contrast)
    assert bundle.mean_image.shape == (1, 1, *bundle.grid.shape)
    assert bundle.mean_image_name == words


def test_the_packaged_model_has_the_mean_image_of_its_negative_class():
    assert verify_bundle(default_bundle_path()) == []
    bundle = load_bundle(default_bundle_path())
    assert bundle.mean_image.shape == (1, 1, *bundle.grid.shape)
    assert bundle.mean_image_name == f'mean image of the class {bundle.target.negative}'


def test_membership_of_a_bundle_of_version_0_1_0(copied: Path):
    image_key, subject_key = subject_keys('abc', 'ds1', '01')
    subjects = {salted('a grain', image_key): [1], salted('a grain', subject_key): [1]}
    edit(copied, salt='a grain', subjects=subjects)
    bundle = load_bundle(copied)
    image = bundle.mean_image
    by_voxels = bundle.membership(image, 'abc', 'elsewhere', '99')
    assert by_voxels == bundle.membership(image, 'x', 'ds1', '01')
    assert by_voxels.folds == (1,)
    new = bundle.membership(image, 'x', 'ds1', '02')
    assert not new.in_training
    assert new.folds == (0, 1)


@pytest.mark.parametrize(('noise', 'known'), [(0.0, True), (0.03, True), (1.0, False)])
def test_a_training_scan_is_recognised_by_its_likeness(copied: Path, noise: float, known: bool):
    """Until noise hides the person; and whatever labels and voxels are said to be."""
    bundle = load_bundle(copied)
    scans = [
        {'sketch': bundle.sketch(a_brain(bundle, seed)), 'folds': [seed % 2]} for seed in range(8)
    ]
    edit(copied, training_scans=scans)
    bundle = load_bundle(copied)
    for seed in range(8):
        found = bundle.membership(a_brain(bundle, seed, noise), 'x', 'ds', '01')
        assert found.in_training == known
        assert found.folds == ((seed % 2,) if known else (0, 1))
    strangers = [bundle.membership(a_brain(bundle, seed), 'x', 'ds', '01') for seed in range(8, 40)]
    assert not any(stranger.in_training for stranger in strangers)


def test_scans_of_one_person_in_two_folds_leave_none(copied: Path):
    sketch = load_bundle(copied).sketch(a_brain(load_bundle(copied), 3))
    edit(copied, training_scans=[{'sketch': sketch, 'folds': [fold]} for fold in (0, 1)])
    bundle = load_bundle(copied)
    assert bundle.membership(a_brain(bundle, 3), 'x', 'ds', '01').folds == ()


def test_a_sketch_measures_the_angle():
    rng = np.random.default_rng(0)
    shape, mask = (12, 14, 10), np.ones((12, 14, 10), bool)
    mask[:2] = False
    mean, first, second = rng.normal(size=(3, *shape))
    start = scan_sketch(mean + first, mean, mask)
    for degrees in (0, 30, 60, 90, 180):
        turned = np.cos(np.radians(degrees)) * first + np.sin(np.radians(degrees)) * second
        turned[~mask] = 99  # outside of the brain
        distance = sketch_distance(start, scan_sketch(mean + 3 * turned + 5, mean, mask))
        assert distance == pytest.approx(degrees / 180, abs=0.09)
    assert len(bytes.fromhex(start)) * 8 == BITS


@pytest.mark.parametrize('sketch', ['', 'zz' * 32, 'ab' * 31, 'AB' * 32])
def test_a_sketch_that_is_none(copied: Path, sketch: str):
    edit(copied, training_scans=[{'sketch': sketch, 'folds': [0]}])
    with pytest.raises(ModelError, match=r'training_scans\[0\]'):
        load_bundle(copied)


def test_labels_cannot_be_found_by_trying_all_of_them():
    """As they could in version 0.1.0: in the packaged model by all that is known of its data."""
    text = (default_bundle_path() / 'config.json').read_text()
    config = json.loads(text)
    assert not {'salt', 'subjects', 'classifier_subjects'} & set(config)
    salts = ['', *(value for value in config.values() if isinstance(value, str))]
    for dataset in ('ds002748', 'doi:10.18112/openneuro.ds002748.v1.0.5', config['name']):
        for label in (f'{number:02d}' for number in range(1, 100)):
            for key in subject_keys('', dataset, label):
                digests = [salted(salt, key) for salt in salts]
                assert not any(digest in text or digest[:16] in text for digest in digests)


def test_fingerprint_sees_voxels_only(tmp_path: Path):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 99, (5, 6, 7)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / 'a.nii.gz')
    nib.save(nib.Nifti1Image(data, np.diag([2, 2, 2, 1])), tmp_path / 'b.nii')
    data[0, 0, 0] += 1
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / 'c.nii.gz')
    a, b, c = (image_fingerprint(tmp_path / name) for name in ('a.nii.gz', 'b.nii', 'c.nii.gz'))
    assert a == b
    assert a != c


def test_whom_a_given_classifier_was_trained_with_is_recognised(tiny_bundle: ModelBundle):
    config = tiny_bundle.config
    card = ClassifierCard(
        'x', 'logit', config.grid, Preprocessing(), 'dx', ('a', 'b'),
        training_subjects=('doi:10.1/x/07',),
    )  # fmt: skip
    given = ClassifierConfig(external=GivenClassifier('export'), card=card)
    bundle = ModelBundle(tiny_bundle.path, replace(config, classifier=given))
    known = bundle.membership(bundle.mean_image, '0' * 64, 'doi:10.1/x', '07')
    # The simulators have not seen it, so every fold may explain it; but it is no new subject.
    assert known.in_training
    assert known.folds == tuple(range(bundle.n_folds))
    assert not bundle.membership(bundle.mean_image, '0' * 64, 'doi:10.1/x', '08').in_training


def test_each_contrast_has_its_own_calibration_and_gap(copied: Path):
    config = json.loads((copied / 'config.json').read_text())
    calibration = {'temperature': [1.5, 2.5, 0.5], 'intercept': [0.5, -1.0, 0.25]}
    folds = [{**fold, **calibration, 'class_gap': [3.0, 7.0, 4.0]} for fold in config['folds']]
    edit(copied, folds=folds, target=SEVERAL.to_dict())
    found = {}
    for name in ('CN-MCI', 'CN-AD', 'MCI-AD'):
        models = load_bundle(copied, name).fold(0)
        found[name] = models.temperature, models.intercept, models.class_gap
    assert found == {
        'CN-MCI': (1.5, -1.5, 3.0),
        'CN-AD': (2.5, -0.25, 7.0),
        'MCI-AD': (0.5, 1.25, 4.0),
    }


def test_a_bundle_without_intercepts_has_intercepts_of_0(copied: Path):
    config = json.loads((copied / 'config.json').read_text())
    for fold in config['folds']:
        del fold['intercept']
    edit(copied, folds=config['folds'])
    models = load_bundle(copied).fold(0)
    assert (models.temperature, models.intercept) == (2.0, 0.0)
    assert models.probability(2.0) == pytest.approx(1 / (1 + np.exp(-1)))
