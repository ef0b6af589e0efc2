from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bids_interp.bench.design import (
    DEFAULT_METHODS,
    METHODS,
    SHAM,
    BenchRequest,
    make_benchmark,
)
from bids_interp.cli.tools.bench_options import read_recipe
from bids_interp.cli.tools.command import tools
from bids_interp.errors import InputDatasetError, UsageError
from bids_interp.levels import bench as benching
from bids_interp.phantom.inject.scenarios import SCENARIOS
from bids_interp.training.recipe import make_recipe


@pytest.fixture
def run(monkeypatch):
    """Parse a command line; what would be run is returned."""
    seen = []
    monkeypatch.setattr(benching, 'run_bench', lambda *given: seen.append(given) or 0)

    def call(*words: str):
        seen.clear()
        result = CliRunner().invoke(tools, ['bench', 'truth', *words])
        return result, *(seen[0] if seen else (None, None, None))

    return call


def test_the_choices_are_handed_on(run):
    words = '/in --out /out --scenarios S3 S1 --methods ours gradient --seeds 2 0 --strength mild'
    words += ' --replicates 4 --explained 2 --participant-label sub-01 03 --nprocs 2 --offline'
    result, settings, benchmark, _ = run(*words.split())
    assert result.exit_code == 0, result.output
    assert (settings.bids_dir, settings.output_dir) == (Path('/in'), Path('/out/derivatives'))
    assert settings.participant_label == ('01', '03')
    assert (settings.nprocs, settings.offline) == (2, True)
    assert benchmark.scenarios == ('S3', 'S1')
    assert benchmark.methods == ('ours', 'gradient')
    assert benchmark.seeds == (2, 0)
    assert (benchmark.strength, benchmark.replicates, benchmark.explained) == ('mild', 4, 2)
    assert benchmark.units() == [('S3', 2), ('S3', 0), ('S1', 2), ('S1', 0)]


def test_lists_may_stand_before_the_folder(run):
    result, settings, benchmark, _ = run('--out', '/out', '--scenarios', 'S1', 'S7', '/in')
    assert result.exit_code == 0, result.output
    assert settings.bids_dir == Path('/in')
    assert benchmark.scenarios == ('S1', 'S7')


def test_the_output_is_asked_for(run):
    result = run('/in')[0]
    assert result.exit_code == 2
    assert '--out' in result.output


@pytest.mark.parametrize(
    ('option', 'value', 'named'),
    [
        ('--scenarios', 'S99', 'S9'),
        ('--judge-steps', '-1', '--judge-steps'),
        ('--methods', 'gradcamm', 'gradcam'),
        ('--size', 'smal', 'small'),
        ('--strength', 'wild', 'mild'),
        ('--seeds', '-1', '-1'),
        ('--replicates', '1', '--replicates'),
        ('--resolution', '40', '--resolution'),
        ('--recipe', '{"steps": 3}', 'steps'),
        ('--recipe', '[1]', '--recipe'),
        ('--recipe', '{"preset": "quick"}', 'quick'),
        ('--paper-recipe', '{"capacity": "template"}', 'ipmi2021'),
    ],
)
def test_impossible_requests_are_refused(run, option, value, named):
    result = run('/in', '--out', '/out', option, value)[0]
    assert result.exit_code == 2
    assert named in result.output


def test_a_recipe_may_be_a_file(tmp_path):
    path = tmp_path / 'recipe.json'
    path.write_text('{"classifier_steps": 7}')
    assert read_recipe(str(path), '--recipe') == {'classifier_steps': 7}
    assert read_recipe(None, '--recipe') == {}
    with pytest.raises(UsageError, match='none.json'):
        read_recipe(str(tmp_path / 'none.json'), '--recipe')


def test_small_is_what_fits_into_an_evening():
    small = make_benchmark(BenchRequest())
    assert small.scenarios == tuple(SCENARIOS)
    assert sorted(small.units()) == sorted(
        [*((name, 0) for name in SCENARIOS)]
        + [(name, seed) for name in ('S1', 'S3', 'S4', 'S9') for seed in (1, 2)]
    )
    assert (small.recipe['cube'], small.n_folds) == (48, 3)
    assert set(DEFAULT_METHODS) - set(small.methods) == {'ipmi2021'}
    assert small.judge is None
    assert make_benchmark(BenchRequest(judge_steps=7)).judge['classifier_steps'] == 7
    assert make_benchmark(BenchRequest(methods=('all',))).methods == METHODS


def test_scenarios_keep_the_seeds_of_their_size():
    some = make_benchmark(BenchRequest(scenarios=('S9', 'S2')))
    assert some.units() == [('S9', 0), ('S9', 1), ('S9', 2), ('S2', 0)]
    assert make_benchmark(BenchRequest(scenarios=('S2',), seeds=(4,))).units() == [('S2', 4)]
    every = make_benchmark(BenchRequest(seeds=(3,), check_sham=True)).units()
    assert every == [*((name, 3) for name in SCENARIOS), (SHAM, 3)]


def test_full_is_the_whole_grid():
    full = make_benchmark(BenchRequest(size='full'))
    assert len(full.units()) == 5 * len(SCENARIOS)
    assert full.methods == DEFAULT_METHODS
    assert full.recipe['cube'] == 64
    paper = make_recipe(**full.paper)
    assert (paper.simulator.batch, paper.classifier.batch) == (40, 40)


def test_all_recipes_share_grid_and_folds():
    benchmark = make_benchmark(
        BenchRequest(
            recipe={'capacity': 'template', 'n_folds': 4, 'simulator_steps': 9},
            spacing_mm=6.0,
            judge_steps=3,
        )
    )
    made = [make_recipe(**r) for r in (benchmark.recipe, benchmark.paper, benchmark.judge)]
    assert {(one.n_folds, one.spacing_mm, one.cube) for one in made} == {(4, 6.0, 32)}
    assert made[0].simulator.template_steps == 9
    assert [one.classifier.architecture for one in made] == ['morphometric', 'ipmi2021', 'sfcn']
    assert made[2].classifier.gradient_penalty == 0.0
    penalised = make_recipe('fast', gradient_penalty=1e-3)
    assert penalised.classifier.gradient_penalty == 1e-3


def test_too_few_brains_are_refused():
    benching.check_brains(6, 3)
    with pytest.raises(InputDatasetError, match='6 are needed'):
        benching.check_brains(5, 3)


def test_a_folder_that_is_no_dataset_ends_with_its_message(tmp_path):
    result = CliRunner().invoke(
        tools, ['bench', 'truth', str(tmp_path / 'none'), '--out', str(tmp_path / 'out')]
    )
    assert result.exit_code == 4
    assert 'none' in result.output


def test_every_participant_counts_once():
    class Record:
        def __init__(self, subject: str, session: str) -> None:
            self.subject, self.session = subject, session

    records = [Record('01', 'a'), Record('01', 'b'), Record('02', 'a')]
    first = benching.first_images(records)
    assert [(one.subject, one.session) for one in first] == [('01', 'a'), ('02', 'a')]


def test_help_and_a_missing_folder():
    result = CliRunner().invoke(tools, ['bench', 'truth', '--help'])
    assert result.exit_code == 0
    assert '--scenarios' in result.output
    result = CliRunner().invoke(tools, ['bench', 'truth', '--out', '/out'])
    assert result.exit_code == 2
    assert 'BIDS_DIR' in result.output
