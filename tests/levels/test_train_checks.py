"""What is refused at the train level before anything is computed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bids_interp.bids.read.query import T1wRecord
from bids_interp.errors import ModelError, TrainingError, UsageError
from bids_interp.levels.given_classifier import apply_card_target
from bids_interp.levels.labels import LabelledImage, LabelTable
from bids_interp.levels.train_checks import (
    FAMILIES_FOR_NETWORK,
    bundle_path,
    check_class_sizes,
    check_contrasts,
    check_grid,
    smallest_p,
    training_recipes,
    training_summary,
)
from bids_interp.models.target import Target
from bids_interp.settings import Settings

BINARY = Target('binary', 'group', ('control', 'patient'))
CARD = {
    'name': 'given',
    'output': 'logit',
    'input_shape': [16, 16, 16],
    'voxel_size': [8, 8, 8],
    'origin': [-60, -70, -50],
    'template': 'MNI152NLin2009aSym',
    'preprocessing': {'normalisation': 'percentile'},
    'label': 'dx',
    'classes': ['control', 'patient'],
}


def a_table(target: Target, labels: list[float]) -> LabelTable:
    images = tuple(
        LabelledImage(T1wRecord(Path('x'), str(n), None, {'sub': str(n)}), label, str(n), {})
        for n, label in enumerate(labels)
    )
    return LabelTable(target, images, {})


def settings(tmp_path: Path, **choices: Any) -> Settings:
    choices = {'label': 'group', 'positive': 'patient', **choices}
    return Settings(tmp_path / 'bids', tmp_path / 'out', 'train', **choices)


def with_card(tmp_path: Path, **changes: Any) -> Settings:
    file = tmp_path / 'card.json'
    file.write_text(json.dumps({**CARD, **changes}))
    return settings(tmp_path, classifier='given.pt2', classifier_card=file)


def test_the_card_and_the_labels_speak_of_the_same(tmp_path: Path) -> None:
    labels = a_table(BINARY, [0, 1])
    # The name of the column may be another one: it is that of this dataset.
    assert apply_card_target(labels, with_card(tmp_path)).target == BINARY
    assert apply_card_target(labels, settings(tmp_path)) is labels


@pytest.mark.parametrize(
    ('changes', 'remedy'),
    [
        ({'classes': ['patient', 'control']}, '--negative patient --positive control'),
        ({'classes': ['CN', 'MCI', 'AD'], 'output': 'multiclass'}, '--classes CN MCI AD'),
        ({'classes': [], 'output': 'regression'}, '--regression'),
    ],
)
def test_a_card_of_something_else(tmp_path: Path, changes: dict[str, Any], remedy: str) -> None:
    with pytest.raises(UsageError, match=remedy):
        apply_card_target(a_table(BINARY, [0, 1]), with_card(tmp_path, **changes))


def test_units_of_a_regression_are_those_of_the_card(tmp_path: Path) -> None:
    own = Target('regression', 'age', (), 40.0, 7.0)
    changes = {'classes': [], 'output': 'regression', 'target_mean': 60.0, 'target_sd': 12.0}
    target = apply_card_target(a_table(own, [30, 50]), with_card(tmp_path, **changes)).target
    assert (target.label, target.mean, target.sd) == ('age', 60.0, 12.0)


def test_too_few_families(tmp_path: Path) -> None:
    check_class_sizes(a_table(BINARY, [0] * 5 + [1] * 5), 3)
    with pytest.raises(TrainingError, match=r'\bpatient\b.*\b2 .*\b3 folds'):
        check_class_sizes(a_table(BINARY, [0] * 9 + [1] * 2), 3)
    with pytest.raises(TrainingError, match=r'\bpatient\.'):
        check_class_sizes(a_table(BINARY, [0] * 9), 3)


@pytest.mark.parametrize('target', [BINARY, Target('multiclass', 'group', ('a', 'b', 'c'))])
def test_a_perfect_classifier_of_very_few_people_is_no_finding(
    target: Target,
) -> None:
    """With one family per class and fold, each fold has two orders of its labels."""
    kinds = len(target.classes)
    few = a_table(target, list(range(kinds)) * 3)
    many = a_table(target, list(range(kinds)) * 30)
    if kinds == 2:
        # Eight equally likely sets of labels, whose deviations are stretched.
        assert 0.1 < smallest_p(few, 3) < 0.15
    assert smallest_p(many, 3) < 0.01


def test_the_summary_warns_where_no_map_can_be_a_finding(tmp_path: Path) -> None:
    options = training_recipes(settings(tmp_path), 12, 'cpu')
    warned = [
        ' p = ' in training_summary(a_table(BINARY, [0, 1] * count), options, tmp_path)
        for count in (6, 10)
    ]
    assert warned == [True, False]


def candidates(chosen: Settings, n_families: int = 168, device: str = 'cpu') -> list[str]:
    options = training_recipes(chosen, n_families, device)
    return [recipe.classifier.architecture for recipe in options.recipes]


def test_which_classifiers_are_compared(tmp_path: Path) -> None:
    both = ['morphometric', 'robust']
    chosen = settings(tmp_path)
    few = training_recipes(chosen, 168, 'cpu')
    assert (candidates(chosen), few.is_choice) == (['morphometric'], True)
    assert list(few.left_out) == ['robust']
    # Where a network is affordable, or wanted.
    assert candidates(chosen, FAMILIES_FOR_NETWORK - 1) == ['morphometric']
    assert candidates(chosen, FAMILIES_FOR_NETWORK) == both
    assert candidates(chosen, device='cuda:1') == both
    wanted = replace(chosen, classifier_steps=7)
    assert candidates(wanted) == both
    assert training_recipes(wanted, 168, 'cpu').recipes[1].classifier.steps == 7
    assert training_recipes(wanted, 168, 'cpu').left_out == {}


@pytest.mark.parametrize(
    ('choices', 'names'),
    [
        ({'preset': 'fast'}, ['morphometric']),
        ({'preset': 'fast', 'classifier': 'auto'}, ['morphometric', 'robust']),
        ({'preset': 'ipmi2021'}, ['ipmi2021']),
        ({'classifier': 'robust'}, ['robust']),
    ],
)
def test_each_preset_has_its_classifier(
    tmp_path: Path, choices: dict[str, Any], names: list[str]
) -> None:
    chosen = settings(tmp_path, **choices)
    assert candidates(chosen, device='cuda') == names
    assert training_recipes(chosen, 40, 'cuda').is_choice is (len(names) > 1)


def test_candidates_share_all_but_classifier_and_simulator(tmp_path: Path) -> None:
    one, two = training_recipes(
        settings(tmp_path, folds=4, capacity='template'), 40, 'cuda'
    ).recipes
    assert one.simulator != two.simulator
    assert replace(one, classifier=two.classifier, simulator=two.simulator) == two


def test_the_published_method_has_classes(tmp_path: Path) -> None:
    several = Target('multiclass', 'dx', ('CN', 'MCI', 'AD'))
    published = settings(tmp_path, preset='ipmi2021')
    check_contrasts(a_table(several, [0, 1, 2]), published)
    number = a_table(Target('regression', 'age', (), 50.0, 10.0), [40.0, 50.0, 60.0])
    with pytest.raises(UsageError, match='--preset ipmi2021 .*--positive'):
        check_contrasts(number, published)
    check_contrasts(number, settings(tmp_path))


def test_the_published_method_needs_a_grid_that_it_can_halve(tmp_path: Path) -> None:
    def check(chosen: Settings, **choices: Any) -> None:
        chosen = replace(chosen, **choices)
        check_grid(chosen, training_recipes(chosen, 40, 'cpu').recipes[0])

    own = settings(tmp_path)
    check(own, preset='ipmi2021')
    check(own, preset='ipmi2021', grid_size=48)
    check(own, preset='fast', grid_size=40)
    with pytest.raises(UsageError, match=r'\b16\b.*\b40 x 40 x 40\b'):
        check(own, preset='ipmi2021', grid_size=40)
    # The card sets the grid of a trained classifier; --grid-size has no effect.
    check(with_card(tmp_path), preset='ipmi2021')
    with pytest.raises(UsageError, match='--grid-size'):
        replace(with_card(tmp_path), grid_size=48)
    with pytest.raises(UsageError, match=r'\b16 x 16 x 24\b'):
        check(with_card(tmp_path, input_shape=[16, 16, 24]), preset='ipmi2021')


@pytest.mark.parametrize('label', ['DX/visit 1', 'visit 1', '../x', '.hidden'])
def test_a_label_that_is_no_file_name_needs_the_name_of_the_model(
    tmp_path: Path, label: str
) -> None:
    """In a folder of a folder the participant level would not find the model."""
    with pytest.raises(UsageError, match=r'--label .*--model-name'):
        settings(tmp_path, label=label)
    named = settings(tmp_path, label=label, model_name='dx')
    assert bundle_path(named) == tmp_path / 'out' / 'models' / 'dx'


def test_a_model_is_not_overwritten(tmp_path: Path) -> None:
    place = bundle_path(settings(tmp_path))
    assert place == tmp_path / 'out' / 'models' / 'group'
    place.mkdir(parents=True)
    with pytest.raises(ModelError, match=rf'{re.escape(str(place))} .*--overwrite'):
        bundle_path(settings(tmp_path))
    assert bundle_path(settings(tmp_path, overwrite=True)) == place
