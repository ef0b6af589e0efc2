from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bids_interp.errors import ModelError
from bids_interp.models.external.card import ClassifierCard
from helpers.exports import CARD, SHAPE


def test_grid_of_a_card():
    grid = ClassifierCard.from_dict(CARD).grid
    assert grid.shape == SHAPE
    assert grid.space == 'MNI152NLin2009aSym'
    np.testing.assert_allclose(
        grid.affine, [[8, 0, 0, -36], [0, 8, 0, -44], [0, 0, 8, -28], [0, 0, 0, 1]]
    )


def test_orientation_says_where_the_axes_go():
    turned = {**CARD, 'orientation': 'PIR', 'voxel_size': [2, 3, 4], 'origin': [-1, 5, 7]}
    affine = ClassifierCard.from_dict(turned).grid.affine
    # One step along i is 2 mm to the back, along j 3 mm down, along k 4 mm to the right.
    np.testing.assert_allclose(affine, [[0, 0, 4, -1], [-2, 0, 0, 5], [0, -3, 0, 7], [0, 0, 0, 1]])


def test_an_affine_instead_of_an_origin(tmp_path: Path):
    plain = {key: value for key, value in CARD.items() if key not in ('origin', 'orientation')}
    plain['affine'] = np.diag([8.0, 8.0, 8.0, 1.0]).tolist()
    file = tmp_path / 'card.json'
    file.write_text(json.dumps(plain))
    np.testing.assert_allclose(ClassifierCard.read(file).grid.affine, plain['affine'])


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'output': 'multiclass', 'classes': ['a', 'b', 'c'], 'softmaxed': True},
        {'output': 'regression', 'classes': [], 'target_mean': 55.5, 'target_sd': 12},
        {'axis_order': 'ZYX', 'golden': 'golden.npz', 'training_subjects': ['ds000001/01']},
        {'architecture': 'sfcn', 'arguments': {'channels': [4, 4]}},
        {'skull': True, 'preprocessing': {'normalisation': 'mean', 'voxels': 'all'}},
        {
            'preprocessing': {'normalisation': 'histogram', 'landmarks': list(range(13))},
            'golden_scan': {'file': 'sub-01_T1w.nii.gz', 'output': [0.5], 'tolerance': 0.1},
        },
    ],
)
def test_a_card_survives_json(changes: dict):
    card = ClassifierCard.from_dict({**CARD, **changes})
    again = ClassifierCard.from_dict(json.loads(json.dumps(card.to_dict())))
    assert again.grid.matches(card.grid)
    assert again.to_dict() == card.to_dict()
    assert (again.preprocessing, again.golden_scan) == (card.preprocessing, card.golden_scan)
    for name in ('output', 'classes', 'softmaxed', 'training_subjects', 'arguments', 'target'):
        assert getattr(again, name) == getattr(card, name)


def test_subjects_are_named_with_or_without_sub():
    card = ClassifierCard.from_dict({**CARD, 'training_subjects': ['doi:10/x/sub-01', 'study/02']})
    assert card.training_subjects == ('doi:10/x/01', 'study/02')


def test_two_classes_are_binary_whatever_the_output():
    two = ClassifierCard.from_dict({**CARD, 'output': 'multiclass'})
    assert (two.target.kind, two.n_outputs, two.target.n_outputs) == ('binary', 2, 1)


def test_the_network_may_take_the_axes_in_another_order():
    assert ClassifierCard.from_dict({**CARD, 'axis_order': 'ZXY'}).network_shape == (8, 10, 12)


def test_the_golden_sample_lies_beside_the_card():
    card = ClassifierCard.from_dict({**CARD, 'golden': 'golden.npz'})
    assert card.golden_file(Path('/models/card.json')) == Path('/models/golden.npz')
    assert ClassifierCard.from_dict(CARD).golden_file(Path('/models/card.json')) is None


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'voxelsize': [1, 1, 1]}, "'voxelsize'.*'voxel_size'"),
        ({'output': 'logits'}, "'output'.*'logits'.*'logit'"),
        ({'label': None}, "'label'"),
        ({'input_shape': [64, 64]}, "'input_shape'"),
        ({'input_shape': [64, 64, 0]}, "'input_shape'"),
        ({'input_shape': 'big'}, "'input_shape'"),
        ({'voxel_size': [2, 2, -2]}, "'voxel_size'"),
        ({'orientation': 'RAR'}, "'orientation'.*'RAR'"),
        ({'affine': np.eye(4).tolist()}, '"affine".*"origin"'),
        ({'classes': ['only']}, "'classes'"),
        ({'classes': ['a', 'a']}, "'classes'"),
        ({'output': 'regression'}, "'classes'.*regression"),
        ({'output': 'regression', 'classes': [], 'target_sd': 0}, "'target_sd'"),
        ({'target_mean': 'high'}, "'target_mean'"),
        ({'axis_order': 'XYT'}, "'axis_order'"),
        ({'softmaxed': True}, "'softmaxed'"),
        ({'preprocessing': {'normalisation': 'z-score'}}, "'z-score'.*'zscore'"),
        (
            {'preprocessing': {'normalisation': 'zscore', 'ceil': 1}},
            "'preprocessing.ceil'.*'ceiling'",
        ),
        ({'preprocessing': {'normalisation': 'histogram'}}, 'preprocessing.*landmarks'),
        (
            {'preprocessing': {'normalisation': 'percentile', 'ceiling': 'high'}},
            "'preprocessing.ceiling'",
        ),
        ({'skull': 'yes'}, "'skull'"),
        ({'golden_scan': {'file': 'scan.nii', 'output': [1.0]}}, "'golden_scan.tolerance'"),
        (
            {'golden_scan': {'file': 'scan.nii', 'output': [1, 2], 'tolerance': 1}},
            "'golden_scan.output'",
        ),
        ({'preprocessing': 'zscore'}, "'preprocessing'.*normalisation"),
        ({'training_subjects': ['01']}, 'dataset/participant'),
        ({'training_subjects': '01'}, "'training_subjects'"),
    ],
)
def test_mistakes_are_named_with_file_and_key(changes: dict, message: str, tmp_path: Path):
    file = tmp_path / 'card.json'
    file.write_text(json.dumps({**CARD, **changes}))
    with pytest.raises(ModelError, match=message) as caught:
        ClassifierCard.read(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize('key', ['name', 'output', 'template', 'preprocessing', 'voxel_size'])
def test_missing_keys(key: str):
    plain = {name: value for name, value in CARD.items() if name != key}
    with pytest.raises(ModelError, match=f"'{key}'"):
        ClassifierCard.from_dict(plain)


def test_affine_and_voxel_size_must_agree():
    plain = {key: value for key, value in CARD.items() if key != 'origin'}
    plain['affine'] = np.diag([2.0, 2.0, 2.0, 1.0]).tolist()
    with pytest.raises(ModelError, match=r"'voxel_size'.*\[2\.0, 2\.0, 2\.0\]"):
        ClassifierCard.from_dict(plain)
    with pytest.raises(ModelError, match="'orientation'.*'RAS'"):
        ClassifierCard.from_dict({**plain, 'voxel_size': [2, 2, 2], 'orientation': 'LAS'})


def test_no_card(tmp_path: Path):
    with pytest.raises(ModelError, match=r'none\.json'):
        ClassifierCard.read(tmp_path / 'none.json')
    (tmp_path / 'broken.json').write_text('{')
    with pytest.raises(ModelError, match=r'broken\.json.*line 1 column 2'):
        ClassifierCard.read(tmp_path / 'broken.json')
    (tmp_path / 'list.json').write_text('[]')
    with pytest.raises(ModelError, match=r'list\.json.*JSON'):
        ClassifierCard.read(tmp_path / 'list.json')
