"""The check that a sham warp alone leaves nothing that a classifier could find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.interfaces.bench import PlantScenario, TrainJudge
from bids_interp.workflows.bench_unit import BenchFiles, Unit, unit_name
from bids_interp.workflows.benchmark import SHAM, Benchmark
from bids_interp.workflows.context import Engine


class ShamCheck(Unit):
    """Patients with a sham warp against controls without one, told apart by our classifier.

    Parameters
    ----------
    benchmark, files, engine, scenario, seed, provenance
        As of :class:`bids_interp.workflows.bench_unit.Unit`; shams are drawn after this scenario.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        files: BenchFiles,
        engine: Engine,
        scenario: str,
        seed: int,
        provenance: dict[str, Any],
    ) -> None:
        super().__init__(benchmark, files, engine, scenario, seed, provenance)
        self.label = unit_name(SHAM, seed, benchmark.strength)
        self.short = f'{SHAM}_{seed}'
        self.workflow = Workflow(name=f'{self.label.replace("-", "_")}_wf')

    def build(self) -> Workflow:
        """All nodes, connected."""
        inputs = self._plant_inputs()
        self.plant = self._node(PlantScenario, 'plant', 4.0, untouched=True, **inputs)
        self.trained[SHAM] = []
        for index in range(self.benchmark.n_folds):
            node = self._node(
                TrainJudge, f'train_{index}', 3.0, self.threads,
                index=index, **self._training(SHAM, self.benchmark.recipe),
            )  # fmt: skip
            self.workflow.connect([
                (self.plant, node, [('cohort', 'cohort'), ('folds', 'folds')]),
            ])  # fmt: skip
            self.trained[SHAM].append(node)
        self._score()
        return self.workflow

    def folder(self, method: str) -> Path:
        """Folder of the checkpoints; shams after another scenario are other images."""
        return super().folder(f'{method}-{self.scenario}')

    def _facts(self) -> dict[str, Any]:
        return {
            **super()._facts(),
            'scenario': SHAM,
            'purpose': 'images with a sham warp against untouched ones; no classifier may tell',
            'changes': {},
            'methods': [],
        }
