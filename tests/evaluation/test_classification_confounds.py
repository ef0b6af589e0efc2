"""Covariates and outlines: what they tell is found, what they cannot tell is not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bids_interp.evaluation.classification import OutOfFold
from bids_interp.evaluation.confounds import covariate_metrics, mask_metrics

N = 48
folds = np.arange(N) // 2 % 3
SPLITS = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(3)]


def answers(kind: str, truth: np.ndarray) -> OutOfFold:
    """Targets with empty answers: the functions must not look at them."""
    classes = {'binary': ('f', 'm'), 'multiclass': ('a', 'b', 'c'), 'regression': ()}[kind]
    width = len(classes) if kind == 'multiclass' else 1
    return OutOfFold(
        kind,
        classes,
        truth,
        np.zeros((N, width)),
        np.zeros((N, len(classes))),
        folds,
        np.arange(N),
    )


@pytest.fixture
def people() -> dict[str, Any]:
    """Label 1 is some years older; hand and scanner mean nothing."""
    rng = np.random.default_rng(0)
    label = np.arange(N) % 2
    age = 50 + 12 * label + rng.normal(0, 5, N)
    return {
        'label': label,
        'table': pd.DataFrame(
            {
                'age': age,
                'hand': np.array(['left', 'right'])[np.arange(N) // 6 % 2],
                'site': ['one'] * N,
                'score': [None] * N,
            }
        ),
    }


def test_age_tells_and_hand_does_not(people: dict[str, Any]) -> None:
    found = covariate_metrics(answers('binary', people['label']), people['table'], SPLITS, 0, 100)
    assert found['used'] == ['age', 'hand']
    assert found['left_out'] == {'site': 'constant', 'score': 'no values'}
    assert found['auc']['value'] > 0.85
    assert found['auc']['low'] > 0.7
    assert found['permutation_p'] < 0.01
    alone = found['per_covariate']
    assert alone['age']['auc']['value'] > 0.85
    assert alone['hand']['permutation_p'] > 0.05
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_one_number_alone_ranks_as_it_does(people: dict[str, Any]) -> None:
    age, label = people['table']['age'].to_numpy(), people['label']
    found = covariate_metrics(answers('binary', label), {'age': age}, SPLITS, 0, 20)
    concordant = pairs = 0
    for _, test in SPLITS:
        gaps = age[test][label[test] == 1][:, None] - age[test][label[test] == 0]
        concordant, pairs = concordant + (gaps > 0).sum(), pairs + gaps.size
    assert found['auc']['value'] == pytest.approx(concordant / pairs)


def test_missing_values_can_tell(people: dict[str, Any]) -> None:
    label = people['label']
    ages = ['n/a' if one and index % 3 else 60 for index, one in enumerate(label)]
    found = covariate_metrics(
        answers('binary', label), {'age': [*ages[:-1], 61]}, SPLITS, 0, draws=20
    )
    assert found['n_missing'] == {'age': ages.count('n/a') - (ages[-1] == 'n/a')}
    assert found['auc']['value'] > 0.75


def test_none_written_is_a_level_and_none_there_is_missing() -> None:
    label = np.arange(N) % 2
    drugs = np.where(label, 'none', 'SSRI').tolist()
    found = covariate_metrics(answers('binary', label), {'drug': drugs}, SPLITS, 0, draws=20)
    assert found['n_missing'] == {'drug': 0}
    gaps = [None, *drugs[1:]]
    found = covariate_metrics(answers('binary', label), {'drug': gaps}, SPLITS, 0, draws=20)
    assert found['n_missing'] == {'drug': 1}


def test_nothing_to_use() -> None:
    found = covariate_metrics(answers('binary', np.arange(N) % 2), {'a': [1] * N}, SPLITS, 0)
    assert found == {'used': [], 'left_out': {'a': 'constant'}}


def test_levels_that_training_has_not_seen_tell_nothing() -> None:
    names = [f'sub-{index}' for index in range(N)]
    found = covariate_metrics(answers('binary', np.arange(N) % 2), {'id': names}, SPLITS, 0, 20)
    assert found['auc']['value'] == 0.5
    assert found['permutation_p'] == 1.0


@pytest.mark.parametrize('kind', ['binary', 'regression'])
def test_numbers_of_sites_are_names(kind: str) -> None:
    """Patients come from site 2: no line through 1, 2 and 3 tells them apart, its name does."""
    site = 1 + np.arange(N) // 6 % 3
    oof = answers(kind, (site == 2).astype(int))
    measure = 'pearson_r' if kind == 'regression' else 'auc'

    def told(values: list[str], **given: Any) -> float:
        found = covariate_metrics(oof, {'site': values}, SPLITS, 0, 20, **given)
        return found[measure]['value']

    numbers = [str(value) for value in site]
    named = told(numbers, categories=['site'])
    assert named == told([f'site {value}' for value in site])
    assert named > 0.99
    assert named > told(numbers) + 0.1


def test_scans_of_a_sibling_count_once() -> None:
    """A drug that the ill one of every pair of siblings takes; two of three folds are tested."""
    siblings = np.arange(N) // 4
    families = siblings // 2
    parts = [(np.flatnonzero(families % 3 != f), np.flatnonzero(families % 3 == f)) for f in (0, 1)]
    oof = replace(answers('binary', siblings % 2), families=families, participants=siblings)
    found = covariate_metrics(oof, {'drug': siblings % 2}, parts, 0, 20)
    assert found['auc']['value'] == 1.0
    assert found['permutation_p_fixed_models'] == pytest.approx(1 / 16, abs=0.02)


def test_more_classes_and_numbers() -> None:
    rng = np.random.default_rng(1)
    classes = np.arange(N) // 6 % 3
    colour = [['red', 'green', 'blue'][value] for value in classes]
    found = covariate_metrics(answers('multiclass', classes), {'c': colour}, SPLITS, 0, 20)
    assert found['auc']['value'] == 1.0
    age = rng.normal(50, 10, N)
    weight = age + rng.normal(0, 3, N)
    found = covariate_metrics(answers('regression', age), {'weight': weight}, SPLITS, 0, 20)
    assert found['pearson_r']['value'] > 0.9
    assert found['permutation_p'] < 0.01


def test_outlines() -> None:
    rng = np.random.default_rng(2)
    label = np.arange(N) % 2
    position = np.arange(400)
    width = 200 + 20 * label + rng.normal(0, 5, N)
    masks = position[None] < width[:, None]
    found = mask_metrics(answers('binary', label), masks, SPLITS, 0, 50)
    assert found['auc']['value'] > 0.95
    assert found['n_components'] == [20, 20, 20]
    shuffled = mask_metrics(answers('binary', label), rng.permutation(masks), SPLITS, 0, 50)
    assert shuffled['permutation_p'] > 0.05
    ages = mask_metrics(answers('regression', width), masks.astype(float), SPLITS, 0, 20)
    assert ages['pearson_r']['value'] > 0.9


def test_equal_outlines_tell_nothing() -> None:
    found = mask_metrics(answers('binary', np.arange(N) % 2), np.ones((N, 9), bool), SPLITS, 0)
    assert list(found) == ['left_out']
    assert list(found['left_out']) == ['mask']


def test_only_the_training_part_is_fitted() -> None:
    """Images that are in neither part do not matter; those of the training part do."""
    rng = np.random.default_rng(3)
    label, masks = np.arange(N) % 2, rng.normal(size=(N, 30))
    test, others = SPLITS[0][1], SPLITS[2][1]
    train = np.setdiff1d(SPLITS[0][0], others)
    changed = masks.copy()
    changed[others] += 5.0
    oof = answers('binary', label)
    first = mask_metrics(oof, masks, [(train, test)], 0, 20)
    assert first == mask_metrics(oof, changed, [(train, test)], 0, 20)
    changed[train] = rng.normal(size=(len(train), 30))
    assert first != mask_metrics(oof, changed, [(train, test)], 0, 20)
