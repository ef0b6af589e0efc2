"""Benchmark workflow: one unit for every scenario and seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.bench.design import Benchmark
from bids_interp.execution.run import Run, send_crashes
from bids_interp.interfaces.bench import FitChanges
from bids_interp.phantom.inject.scenarios import scenario as named_scenario
from bids_interp.workflows.bench_sham import ShamCheck
from bids_interp.workflows.bench_unit import BenchFiles, BenchUnit
from bids_interp.workflows.bench_volumes import VolumeRegressions

if TYPE_CHECKING:
    from bids_interp.bench.records import Provenance


def init_bench_wf(
    *,
    benchmark: Benchmark,
    files: BenchFiles,
    run: Run,
    base_dir: Path,
    crash_dir: Path,
    provenance: Provenance,
    name: str = 'bench_wf',
) -> Workflow:
    """Train, explain and score every scenario with every seed.

    Workflow Graph
        Folds wait only for the images, and every method only for its own networks, so that the
        plugin can run them in parallel.

    Parameters
    ----------
    benchmark : Benchmark
        Design of the benchmark.
    files : BenchFiles
        Files and folders.
    run : Run
        Device, processes and threads.
    base_dir, crash_dir : pathlib.Path
        Work directory of nipype, and folder of the crash files.
    provenance : Provenance
        Origin of the scores.
    name : str
        Name of the workflow.
    """
    workflow = Workflow(name=name)
    workflow.base_dir = str(base_dir)
    for scenario in benchmark.scenarios:
        fit_changes = pe.Node(
            FitChanges(
                scenario=scenario,
                strength=benchmark.strength,
                template=files.template,
                spacing_mm=benchmark.spacing_mm,
                offline=run.settings.offline,
            ),
            name=f'fit_changes_{scenario}',
            mem_gb=2.0,
        )
        kind = VolumeRegressions if named_scenario(scenario).regressed else BenchUnit
        units = [
            kind(benchmark, files, run, name, seed, provenance)
            for name, seed in benchmark.plan
            if name == scenario
        ]
        if benchmark.check_sham and scenario == benchmark.scenarios[0]:
            seed = benchmark.seeds[0]
            units.append(ShamCheck(benchmark, files, run, scenario, seed, provenance))
        for unit in units:
            workflow.connect(
                [(fit_changes, unit.build(), [('changes', f'{unit.short}_plant.changes')])]
            )
    send_crashes(workflow, crash_dir)
    return workflow
