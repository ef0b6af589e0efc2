"""The graph of the benchmark: its parts, and what they wait for."""

from __future__ import annotations

from pathlib import Path

import pytest
from nipype.pipeline import engine as pe

from bids_interp.bench.design import SHAM, BenchRequest, make_benchmark
from bids_interp.bench.records import Provenance
from bids_interp.execution.run import Run
from bids_interp.phantom.inject.scenarios import SCENARIOS
from bids_interp.settings import Settings
from bids_interp.workflows.bench import init_bench_wf
from bids_interp.workflows.bench_sham import ShamCheck
from bids_interp.workflows.bench_unit import BenchFiles, BenchUnit
from bids_interp.workflows.bench_volumes import VolumeRegressions

PROVENANCE = Provenance('run', 'table', 'command', '1', 'machine', 'software', 'today')


def bench_files(folder: Path) -> BenchFiles:
    (folder / 'brains.json').write_text('[]')
    (folder / 'space.safetensors').touch()
    return BenchFiles(
        folder / 'brains.json', folder / 'space.safetensors', folder, folder / 'out', 'MNI'
    )


def one_run(folder: Path) -> Run:
    return Run(Settings('/bids', '/out'), folder, 'cpu', 2, 1, 8.0, 'run')


def build(folder: Path, **request: object) -> pe.Workflow:
    return init_bench_wf(
        benchmark=make_benchmark(BenchRequest(methods=('ours', 'gradient'), **request)),
        files=bench_files(folder),
        run=one_run(folder),
        base_dir=folder / 'work',
        crash_dir=folder / 'crashes',
        provenance=PROVENANCE,
    )


def steps(workflow: pe.Workflow, part: str) -> set[str]:
    return {name.rpartition('.')[2] for name in workflow.list_node_names() if part in name}


def test_every_scenario_and_seed_has_images_folds_and_scores(tmp_path: Path) -> None:
    workflow = build(tmp_path, scenarios=('S1', 'S3'), seeds=(0, 1))
    names = workflow.list_node_names()
    assert sum(name.endswith('_plant') for name in names) == 4
    assert {name for name in names if name.startswith('fit')} == {
        'fit_changes_S1',
        'fit_changes_S3',
    }


@pytest.mark.parametrize('check', [False, True])
def test_the_check_of_the_sham_explains_nothing(tmp_path: Path, check: bool) -> None:
    workflow = build(tmp_path, scenarios=('S1',), seeds=(0,), check_sham=check)
    planted = [name for name in workflow.list_node_names() if name.endswith('plant')]
    assert len(planted) == 1 + check
    if check:
        (sham,) = [name for name in planted if not name.startswith('S1')]
        own = steps(workflow, sham.partition('.')[0])
        assert any(step.startswith('train') or '_train_' in step for step in own)
        assert not any('simulate' in step or 'saliency' in step for step in own)


def test_shams_after_two_scenarios_share_no_checkpoints(tmp_path: Path) -> None:
    benchmark = make_benchmark(BenchRequest(scenarios=('S1', 'S3'), methods=('ours',)))
    parts = (benchmark, bench_files(tmp_path), one_run(tmp_path))
    checks = [ShamCheck(*parts, scenario, 0, PROVENANCE) for scenario in ('S1', 'S3')]
    assert {check.name for check in checks} == {SHAM}
    assert checks[0].folder('ours') != checks[1].folder('ours')


def test_another_family_judges_only_on_request(tmp_path: Path) -> None:
    for steps, is_there in ((None, False), (5, True)):
        workflow = build(tmp_path, scenarios=('S1',), seeds=(0,), judge_steps=steps)
        judges = [name for name in workflow.list_node_names() if 'train_judge' in name]
        assert bool(judges) is is_there


def test_only_the_oracle_of_subtypes_needs_them(tmp_path: Path) -> None:
    benchmark = make_benchmark(BenchRequest(scenarios=('S1', 'S9'), methods=('ours', 'oracle')))
    parts = (benchmark, bench_files(tmp_path), one_run(tmp_path))
    units = {name: BenchUnit(*parts, name, 0, PROVENANCE) for name in ('S1', 'S9')}
    assert units['S1'].methods == ['ours']
    assert units['S9'].methods == ['ours', 'oracle']
    changed = {
        name: next(n for n in unit.build()._get_all_nodes() if 'simulate_ours_0' in n.name)
        for name, unit in units.items()
    }
    assert changed['S9'].inputs.changed == ['hippocampus', 'amygdala', 'caudate', 'putamen']


def test_volumes_are_regressed_for_each_region_and_fold(tmp_path: Path) -> None:
    benchmark = make_benchmark(
        BenchRequest(scenarios=('S11',), methods=('ours', 'tbm', 'gradient'))
    )
    unit = VolumeRegressions(
        benchmark, bench_files(tmp_path), one_run(tmp_path), 'S11', 0, PROVENANCE
    )
    names = unit.build().list_node_names()
    assert sum('_regress_' in name for name in names) == 10 * benchmark.n_folds
    assert sum('_correlate_' in name for name in names) == benchmark.n_folds
    assert not any('saliency' in name or 'simulate' in name for name in names)
    assert len({unit.folder(f'ours-{region}') for region in SCENARIOS['S11'].regressed}) == 10
    kinds = build(tmp_path, scenarios=('S11', 'S1'), seeds=(0,)).list_node_names()
    assert any('S1_0_simulate_ours' in name for name in kinds)
    assert any('S11_0_regress_thalamus_0' in name for name in kinds)
