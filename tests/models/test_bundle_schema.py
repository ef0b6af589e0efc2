"""``config.json`` is written and read by one schema."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bids_interp.errors import ModelError
from bids_interp.models.bundle.reader import ModelBundle, default_bundle_path, load_bundle
from bids_interp.models.bundle.schema import CONFIG, read_config

Plain = dict[str, Any]


def test_the_packaged_model_is_written_as_it_was_read() -> None:
    text = (default_bundle_path() / CONFIG).read_text()
    assert read_config(default_bundle_path()).to_json() == text


def test_what_the_first_version_wrote_is_kept(tmp_path: Path, tiny_bundle: ModelBundle) -> None:
    """A given classifier of several classes, with the keys and order of version 0.1.0."""
    written = json.loads((tiny_bundle.path / CONFIG).read_text())
    card = {
        'name': 'theirs',
        'output': 'multiclass',
        'input_shape': written['grid']['shape'],
        'affine': written['grid']['affine'],
        'template': written['template'],
        'preprocessing': {'normalisation': 'zscore', 'percentile': 98.0, 'ceiling': 1.3},
        'label': 'dx',
        'classes': ['CN', 'MCI', 'AD'],
        'training_subjects': ['ds/01'],
    }
    given = {'kind': 'export', 'architecture': '', 'arguments': {}}
    training = {'preset': 'fast', 'doi': '', 'covariates': ['age'], 'n_per_class': {'CN': 3}}
    plain = {
        'format': 1,
        'name': 'theirs',
        'license': '',
        'created': '2026-11-01',
        'classifier': {'external': given, 'card': card},
        'demonstration': False,
        'version': '0.1.0',
        **{name: written[name] for name in ('grid', 'template', 'preprocessing')},
        'target': {'kind': 'multiclass', 'label': 'dx', 'classes': ['CN', 'MCI', 'AD']},
        'simulator': {'capacity': 'template', 'smoothing_mm': 6.0, 'width': 8, 'contrasts': 3},
        'training': training,
        'training_intensities': {'edge_mm': 24.0, 'n': 2, 'mean': [0.5], 'sd': [0.25]},
        'metrics': {'auc': None, 'per_site': {}},
        'salt': 'a grain',
        'subjects': {'ab': [0, 1]},
        'classifier_subjects': ['cd'],
        'folds': [
            {
                'temperature': [1.5, 2.0, 1],
                'class_gap': [2.0, 3.0, 4.0],
                'metrics': {
                    'n_train': 4,
                    'n_validation': 2,
                    'n_test': 2,
                    'simulator': {
                        'minimality': 0.5,
                        'selection': [
                            {'minimality': 0.5, 'split_half_ncc': 0.75, 'validity': 1.0},
                            {'minimality': 1.0, 'split_half_ncc': 0.5, 'validity': 1.0},
                        ],
                        'audit_ncc': 0.25,
                        'validity': [
                            {
                                'contrast': 'CN-MCI',
                                'inject': {'n': 2, 'validity': 0.5, 'effectiveness': 1.5},
                                'remove': None,
                            }
                        ],
                    },
                    'test_auc': 0.875,
                },
                'classifier': 'classifier.pt2',
                'simulator': 'fold-0_simulator.safetensors',
            }
        ],
        'files': {'README.md': 'ef'},
    }
    (tmp_path / CONFIG).write_text(json.dumps(plain))
    config = read_config(tmp_path)
    assert json.loads(config.to_json()) == plain
    assert config.target.contrasts[2].name == 'MCI-AD'
    assert config.folds[0].temperature == [1.5, 2.0, 1]
    assert config.folds[0].metrics.simulator.chosen.split_half_ncc == 0.75


def _set(place: str, value: object) -> Callable[[Plain], None]:
    *around, name = place.split('.')

    def change(config: Plain) -> None:
        inner: Any = config
        for step in around:
            inner = inner[int(step) if step.isdigit() else step]
        inner[name] = value

    return change


def _drop(name: str) -> Callable[[Plain], None]:
    return lambda config: config.pop(name)


@pytest.mark.parametrize(
    ('change', 'place'),
    [
        (_drop('folds'), 'folds'),
        (_drop('files'), 'files'),
        (_drop('metrics'), 'metrics'),
        (_set('folds.1.temperature', 'warm'), 'folds[1].temperature'),
        (_set('folds.0.temperature', True), 'folds[0].temperature'),
        (_set('folds.0.simulator', None), 'folds[0].simulator'),
        (_set('simulator.widht', 3), 'simulator.widht'),
        (_set('simulator.width', 3.5), 'simulator.width'),
        (_set('grid.shape', [4, 5]), 'grid'),
        (_set('grid.spacing', 4), 'grid.spacing'),
        (_set('grid', {'shape': [4, 5, 6]}), 'grid.affine'),
        (_set('target.kind', 'regression'), 'target.negative'),
        (_set('target.kind', 'multiclass'), 'target'),
        (_set('target', {'kind': 'binary', 'negative': 'a'}), 'target.positive'),
        (_set('preprocessing.normalisation', 'bright'), 'preprocessing'),
        (_set('classifier', {}), 'classifier'),
        (_set('classifier', {'external': {'kind': 'export'}}), 'classifier'),
        (_set('subjects', ['ab']), 'subjects'),
        (_set('subjects', {'ab': [0.5]}), 'subjects.ab[0]'),
        (_set('nmae', 'x'), 'nmae'),
        (_set('demonstration', 'no'), 'demonstration'),
    ],
)
def test_what_does_not_fit_is_refused_with_file_key_and_remedy(
    tmp_path: Path, tiny_bundle: ModelBundle, change: Callable[[Plain], None], place: str
) -> None:
    path = Path(shutil.copytree(tiny_bundle.path, tmp_path / 'm'))
    plain = json.loads((path / CONFIG).read_text())
    change(plain)
    (path / CONFIG).write_text(json.dumps(plain))
    with pytest.raises(ModelError) as caught:
        load_bundle(path)
    assert caught.value.exit_code == 5
    assert str(path / CONFIG) in caught.value.message
    assert f' {place}: ' in caught.value.message
    assert caught.value.advice


@pytest.mark.parametrize('text', ['[]', '3', '{"format": 99}', '{"format": "1"}', '{}', '{'])
def test_other_formats_and_no_object(tmp_path: Path, text: str) -> None:
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(ModelError) as caught:
        read_config(tmp_path)
    assert str(tmp_path / CONFIG) in caught.value.message
