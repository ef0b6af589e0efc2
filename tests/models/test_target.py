from __future__ import annotations

import re

import pytest
import torch

from bids_interp.errors import ModelError
from bids_interp.models.target import Target

BINARY = Target('binary', 'group', ('control', 'patient'))
SEVERAL = Target('multiclass', 'dx', ('CN', 'MCI', 'AD'))
NUMBER = Target('regression', 'age', (), 50.0, 10.0)


@pytest.mark.parametrize('target', [BINARY, SEVERAL, NUMBER], ids=lambda target: target.kind)
def test_plain_types_and_back(target: Target) -> None:
    assert Target.from_dict(target.to_dict()) == target


def test_outputs_and_contrasts() -> None:
    assert [t.n_outputs for t in (BINARY, SEVERAL, NUMBER)] == [1, 3, 1]
    assert BINARY.contrasts[0].name == 'control-patient'
    assert [c.name for c in SEVERAL.contrasts] == ['CN-MCI', 'CN-AD', 'MCI-AD']
    assert (NUMBER.contrasts[0].negative, NUMBER.contrasts[0].positive) == ('lower', 'higher')


def test_the_score_rises_with_the_positive_and_falls_with_the_negative_class() -> None:
    weights = SEVERAL.weights()
    assert weights.tolist() == [[-1, 1, 0], [-1, 0, 1], [0, -1, 1]]
    # Exchanging two classes changes the sign of their contrast.
    logits = torch.tensor([1.0, 4.0, 9.0])
    exchanged = logits[[1, 0, 2]]
    assert (weights @ logits).tolist() == [3, 8, 5]
    assert float((weights @ exchanged)[0]) == -3
    # What all logits have in common does not matter.
    assert torch.equal(weights @ (logits + 7), weights @ logits)


def test_contrasts_are_found_by_name() -> None:
    assert SEVERAL.index_of('MCI-AD') == 2
    assert SEVERAL.index_of(None) == 0
    with pytest.raises(ModelError, match="'AD-CN'") as caught:
        SEVERAL.index_of('AD-CN')
    assert 'CN-MCI, CN-AD, MCI-AD' in (caught.value.advice or '')


@pytest.mark.parametrize(
    'wrong',
    [
        ('binary', 'g', ('a',)),
        ('binary', 'g', ('a', 'b', 'c')),
        ('multiclass', 'g', ('a', 'b')),
        ('regression', 'g', ('a', 'b')),
        ('regression', 'g', (), 0.0, 0.0),
        ('ordinal', 'g', ('a', 'b')),
    ],
)
def test_kinds_and_classes_must_fit(wrong: tuple) -> None:
    with pytest.raises(
        ModelError, match=rf'{re.escape(repr(wrong[0]))}.*{re.escape(repr(wrong[2]))}'
    ):
        Target(*wrong)


def test_an_older_bundle_without_a_kind_is_binary() -> None:
    content = {'label': 'group', 'negative': 'control', 'positive': 'patient'}
    assert Target.from_dict(content) == BINARY
