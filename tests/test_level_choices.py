"""Choices of the levels that contradict each other, and the options that set them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from bids_interp.cli.app import command
from bids_interp.cli.options.execution import machine_options, output_options, run_options
from bids_interp.cli.options.group import group_options
from bids_interp.cli.options.participant import region_options
from bids_interp.cli.options.train import train_options
from bids_interp.errors import UsageError
from bids_interp.settings.group import MIN_PERMUTATIONS, GroupChoices, check_group
from bids_interp.settings.train import TrainChoices, check_target_options, check_train


@pytest.mark.parametrize(
    'choices',
    [
        {'permutations': MIN_PERMUTATIONS - 1},
        {'atlas_labels': Path('labels.tsv')},
        {'tfce': True},
    ],
)
def test_impossible_choices_of_the_group_level(choices) -> None:
    check_group(GroupChoices(permutations=MIN_PERMUTATIONS))
    with pytest.raises(UsageError):
        check_group(GroupChoices(**choices))


def test_null_models_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    choices = GroupChoices(null_models=('null',))
    check_group(choices)
    assert choices.null_models == (str(tmp_path / 'null'),)


@pytest.mark.parametrize(
    'choices',
    [
        {'preset': 'quick'},
        {'capacity': 'large'},
        {'folds': 1},
        {'resolution': 0.0},
        {'batch_size': -1},
        {'devices_per_fold': 0},
        {'model_name': 'a/b'},
        {'model_template': 'MNI152 NLin6Asym'},
        {'model_name': '.hidden'},
    ],
)
def test_impossible_choices_of_the_train_level(choices) -> None:
    check_train(TrainChoices(folds=2, model_name='a-1.b_c'))
    with pytest.raises(UsageError):
        check_train(TrainChoices(**choices))


@pytest.mark.parametrize(
    'choices',
    [
        {},
        {'label': 'a b'},
        {'label': 'dx', 'positive': 'p', 'regression': True},
        {'label': 'dx', 'negative': 'n'},
        {'label': 'dx', 'positive': 'p', 'negative': 'p'},
        {'label': 'dx', 'classes': ('a', 'b')},
        {'label': 'dx', 'classes': ('a', 'b', 'b')},
        {'label': 'dx', 'positive': 'p', 'classifier': 'mine.pt2'},
    ],
)
def test_contradictory_targets_are_refused(choices) -> None:
    check_target_options(TrainChoices(label='dx', classes=('a', 'b', 'c')))
    check_target_options(TrainChoices(label='a b', model_name='ab', positive='p', negative='n'))
    with pytest.raises(UsageError):
        check_target_options(TrainChoices(**choices))


def test_only_an_architecture_is_not_a_given_classifier() -> None:
    assert not TrainChoices(classifier='robust').given_classifier
    assert not TrainChoices(classifier='auto').given_classifier
    assert TrainChoices(classifier='mine.pt2').trained_classifier is None
    assert TrainChoices(classifier='sfcn').trained_classifier == 'sfcn'
    assert TrainChoices(classifier='mine.pt2').given_classifier
    assert TrainChoices(classifier_module='a:b').given_classifier


@pytest.mark.parametrize(
    'options',
    [group_options, region_options, train_options, machine_options, run_options, output_options],
)
def test_options_belong_to_the_command_and_have_a_heading(options) -> None:
    listed = options()
    names = [option.name for option in listed]
    assert len(set(names)) == len(names) > 1
    assert set(names) <= {option.name for option in command.params}
    assert all(option.group and option.help for option in listed)


@pytest.mark.parametrize(
    ('options', 'choices'), [(group_options, GroupChoices), (train_options, TrainChoices)]
)
def test_options_of_a_level_set_its_choices(options, choices) -> None:
    chosen = {field.name for field in fields(choices)}
    assert chosen - {option.name for option in command.params} == set()
    assert {option.name for option in options()} <= chosen
