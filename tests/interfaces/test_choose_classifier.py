"""Classifiers are trained, compared and explained in nodes of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bids_interp.interfaces.train import (
    AssembleModel,
    ChooseClassifier,
    TrainClassifiers,
    TrainFold,
)
from bids_interp.models.bundle.reader import load_bundle
from bids_interp.training import fold as fit
from bids_interp.training.cohort import storage
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.recipe import make_recipe
from helpers.balls import binary_cohort, folds_of

SMALL = {'preset': 'fast', 'n_folds': 2, 'capacity': 'template', 'simulator_steps': 2, 'batch': 2}
RECIPES: list[dict[str, Any]] = [
    {**SMALL, 'architecture': 'sfcn', 'classifier_steps': 1},
    {**SMALL, 'architecture': 'morphometric'},
]


def candidate(recipe: dict[str, Any]) -> dict[str, Any]:
    made = make_recipe(**recipe)
    facts = {
        'name': 'balls',
        'classifier': {'architecture': made.classifier.architecture, 'arguments': {}},
        'simulator': made.simulator.network_arguments(),
        'training': {'preset': 'fast'},
    }
    return {'recipe': recipe, 'recipe_digest': made.digest(), 'facts': facts}


def mislead(path: Path, cohort: Cohort) -> None:
    """Exchange the classes of a network, which is then always wrong."""
    (member,) = storage.load_classifiers(path, make_recipe(**RECIPES[0]).classifier, cohort)
    for parameter in member.network.head[-1].parameters():
        parameter.data.neg_()
    storage.save_classifiers(path, [member])


@pytest.fixture(scope='module')
def chosen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], Any]:
    """Folder, common inputs and outputs of the choice."""
    folder = tmp_path_factory.mktemp('choice')
    cohort = binary_cohort(24)
    folds = folds_of(cohort)
    storage.save_cohort(folder / 'cohort.safetensors', cohort)
    storage.save_folds(folder / 'folds.safetensors', folds)
    common = {name: str(folder / f'{name}.safetensors') for name in ('cohort', 'folds')}
    files = []
    for number, recipe in enumerate(RECIPES):
        made = candidate(recipe)
        del made['facts']
        for index in range(2):
            where = folder / f'classifiers-{number}-{index}'
            where.mkdir()
            node = TrainClassifiers(
                index=index, directory=str(folder / 'checkpoints'), random_seed=1, **made, **common
            )
            files.append(node.run(cwd=str(where)).outputs.classifiers)
            if number == 0:
                mislead(Path(files[-1]), cohort)
    choice = ChooseClassifier(
        candidates=[candidate(recipe) for recipe in RECIPES],
        classifiers=files,
        left_out={'robust': 'too slow'},
        **common,
    ).run(cwd=str(folder))
    return folder, common, choice.outputs


def test_the_better_one_of_the_validation_splits_is_handed_on(chosen) -> None:
    outputs = chosen[-1]
    assert outputs.choice['explained'] == 'morphometric'
    assert outputs.recipe == RECIPES[1]
    assert outputs.recipe_digest == make_recipe(**RECIPES[1]).digest()
    assert outputs.facts['classifier']['architecture'] == 'morphometric'
    assert [Path(file).parent.name for file in outputs.classifiers] == [
        'classifiers-1-0',
        'classifiers-1-1',
    ]
    first, second = outputs.choice['candidates']
    assert first['validation'] < 0.1
    assert second['validation'] > 0.9
    assert outputs.choice['left_out'] == {'robust': 'too slow'}


def test_the_test_labels_do_not_matter_for_the_choice(chosen, tmp_path: Path) -> None:
    """With test labels exchanged, the test scores turn and the validation scores stay."""
    folder, common, outputs = chosen
    cohort = storage.load_cohort(Path(common['cohort']))
    fold = storage.load_folds(Path(common['folds']))[0]
    labels = cohort.labels.copy()
    labels[fold.test] = 1 - labels[fold.test]
    storage.save_cohort(tmp_path / 'cohort.safetensors', replace(cohort, labels=labels))
    storage.save_folds(tmp_path / 'folds.safetensors', [fold])
    files = [str(folder / f'classifiers-{n}-0' / 'classifiers.safetensors') for n in (0, 1)]
    again = ChooseClassifier(
        cohort=str(tmp_path / 'cohort.safetensors'),
        folds=str(tmp_path / 'folds.safetensors'),
        candidates=[candidate(recipe) for recipe in RECIPES],
        classifiers=files,
    ).run(cwd=str(tmp_path))
    turned = again.outputs.choice['candidates']
    for one, other in zip(turned, outputs.choice['candidates'], strict=True):
        assert one['validation'] == other['validation_per_fold'][0]
        assert one['test'] == pytest.approx(1 - other['test_per_fold'][0])


def test_classifiers_are_read_as_they_were_written(chosen) -> None:
    _, common, outputs = chosen
    cohort = storage.load_cohort(Path(common['cohort']))
    recipe = make_recipe(**RECIPES[1]).classifier
    (member,) = storage.load_classifiers(Path(outputs.classifiers[0]), recipe, cohort)
    assert not torch.equal(member.network.head.weight, member.held_out.head.weight)
    assert not any(p.requires_grad for p in member.network.parameters())


def test_the_folds_continue_with_the_choice(
    chosen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, common, outputs = chosen

    def never(*args: Any) -> None:
        raise AssertionError('The classifiers are trained again.')

    monkeypatch.setattr(fit, 'train_fold_classifiers', never)
    results = []
    for index in range(2):
        where = tmp_path / f'fold-{index}'
        where.mkdir()
        node = TrainFold(
            index=index,
            directory=str(folder / 'checkpoints'),
            recipe=outputs.recipe,
            recipe_digest=outputs.recipe_digest,
            classifiers=outputs.classifiers,
            random_seed=1,
            **common,
        )
        results.append(node.run(cwd=str(where)).outputs.result)
    count = 24
    table = {
        'names': [f'sub-{index:02d}' for index in range(count)],
        'subjects': [f'{index:02d}' for index in range(count)],
        'families': [index // 2 for index in range(count)],
        'covariates': {},
        'site': None,
    }
    (tmp_path / 'table.json').write_text(json.dumps(table))
    done = AssembleModel(
        results=results,
        table=str(tmp_path / 'table.json'),
        facts=outputs.facts,
        choice=outputs.choice,
        checkpoints=str(folder / 'checkpoints'),
        bundle=str(tmp_path / 'models' / 'balls'),
        report_dir=str(tmp_path / 'report'),
        random_seed=1,
        **common,
    ).run(cwd=str(tmp_path))
    config = load_bundle(done.outputs.bundle).config
    assert config.classifier.architecture == 'morphometric'
    assert config.metrics['classifier_choice'] == outputs.choice
    page = Path(done.outputs.report).read_text()
    card = (Path(done.outputs.bundle) / 'README.md').read_text()
    for name in ('morphometric', 'sfcn', 'robust'):
        assert f'data-classifier="{name}"' in page
        assert f'| {name} |' in card
