"""The check that a sham warp alone leaves nothing that a classifier could find."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.bench.design import SHAM
from bids_interp.interfaces.bench import PlantScenario, TrainJudge
from bids_interp.workflows.bench_unit import BenchUnit

if TYPE_CHECKING:
    from bids_interp.bench.records import ScenarioDesign


class ShamCheck(BenchUnit):
    """Patients with a sham warp against controls without one, told apart by our classifier.

    Parameters
    ----------
    benchmark, files, engine, scenario, seed, provenance
        See :class:`bids_interp.workflows.bench_unit.BenchUnit`; shams follow this scenario.
    """

    @property
    def name(self) -> str:
        """What results and nodes are called after."""
        return SHAM

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

    def _facts(self) -> ScenarioDesign:
        return replace(
            super()._facts(),
            purpose='images with a sham warp against untouched ones; no classifier may tell',
            changes={},
            methods=[],
        )
