"""``train --sanity`` adds one node, and changes nothing for who does not ask for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_interp.execution.run import Run
from bids_interp.settings import Settings
from bids_interp.workflows.train import Candidate, TrainInputs, init_train_wf


def build(folder: Path, candidates: tuple[Candidate, ...] = (), **choices):
    settings = Settings(folder / 'bids', folder / 'out', label='group', **choices)
    table, input_space = folder / 'table.json', folder / 'input_space.safetensors'
    inputs = [folder / f'{index}.safetensors' for index in range(2)]
    for path in (table, input_space, *inputs):
        path.write_text('')
    checkpoints = folder / 'checkpoints'
    checkpoints.mkdir(exist_ok=True)
    training = TrainInputs(
        recipe={'preset': 'fast'},
        recipe_digest='abc',
        n_folds=3,
        input_space=input_space,
        table=table,
        inputs=inputs,
        checkpoints=checkpoints,
        bundle=folder / 'out' / 'models' / 'group',
        report_dir=folder / 'out' / 'training' / 'group',
        facts={},
        candidates=candidates,
        left_out={'sfcn': 'too slow'},
    )
    run = Run(settings, folder / 'work', 'cpu', 4, 1, 8.0, 'uuid')
    return init_train_wf(settings=settings, training=training, run=run, base_dir=folder)


def edges_of(workflow) -> dict[tuple[str, str], list[tuple[str, str]]]:
    return {
        (one.name, two.name): sorted(data['connect'])
        for one, two, data in workflow._graph.edges(data=True)
    }


def test_the_classifiers_of_all_folds_are_compared_before_a_simulator_is_trained(
    tmp_path: Path,
) -> None:
    recipes = [{'preset': 'fast', 'architecture': name} for name in ('morphometric', 'robust')]
    candidates = tuple(Candidate(recipe, str(n), {'name': n}) for n, recipe in enumerate(recipes))
    workflow = build(tmp_path, candidates, sanity=True)
    added = set(workflow.list_node_names()) - set(build(tmp_path, sanity=True).list_node_names())
    trainings = [f'train_classifiers_{n}_{index}' for n in range(2) for index in range(3)]
    assert added == {*trainings, 'merge_classifiers', 'choose_classifier'}
    edges = edges_of(workflow)
    for place, name in enumerate(trainings, 1):
        assert edges[name, 'merge_classifiers'] == [('classifiers', f'in{place}')]
        assert workflow.get_node(name).inputs.recipe == recipes[int(name.split('_')[2])]
        assert workflow.get_node(name).inputs.index == int(name[-1])
    recipe = [('recipe', 'recipe'), ('recipe_digest', 'recipe_digest')]
    for index in range(3):
        assert edges['choose_classifier', f'train_fold_{index}'] == [
            ('classifiers', 'classifiers'),
            *recipe,
        ]
    assert edges['choose_classifier', 'sanity_fold_0'] == recipe
    assert edges['choose_classifier', 'assemble_model'] == [
        ('choice', 'choice'),
        ('facts', 'facts'),
    ]
    chosen = workflow.get_node('choose_classifier').inputs
    assert chosen.candidates[1] == {
        'recipe': recipes[1],
        'recipe_digest': '1',
        'facts': {'name': 1},
    }
    assert chosen.left_out == {'sfcn': 'too slow'}


def test_only_who_asks_gets_the_checks(tmp_path: Path) -> None:
    without = set(build(tmp_path).list_node_names())
    assert set(build(tmp_path, sanity=True).list_node_names()) - without == {'sanity_fold_0'}


def test_the_checks_wait_for_the_first_fold_and_the_model_for_them(tmp_path: Path) -> None:
    edges = edges_of(build(tmp_path, sanity=True))
    assert edges['train_fold_0', 'sanity_fold_0'] == [('result', 'result')]
    assert edges['gather_cohort', 'sanity_fold_0'] == [('cohort', 'cohort'), ('folds', 'folds')]
    assert edges['sanity_fold_0', 'assemble_model'] == [('sanity', 'sanity')]
    assert ('train_fold_1', 'sanity_fold_0') not in edges


@pytest.mark.parametrize('name', ['recipe', 'recipe_digest', 'device', 'random_seed'])
def test_the_checks_are_computed_like_the_fold(tmp_path: Path, name: str) -> None:
    workflow = build(tmp_path, sanity=True)
    check, fold = (workflow.get_node(n).inputs for n in ('sanity_fold_0', 'train_fold_0'))
    assert getattr(check, name) == getattr(fold, name)
    assert check.directory != fold.directory
