"""Sham check: a classifier must not detect a sham warp alone."""

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
    """Builder of a unit in which our classifier must distinguish sham-warped from untouched images.

    Parameters
    ----------
    benchmark, files, run, scenario, seed, provenance
        See :class:`bids_interp.workflows.bench_unit.BenchUnit`; shams follow this scenario.
    """

    @property
    def name(self) -> str:
        """Name of the unit in results and nodes."""
        return SHAM

    def build(self) -> Workflow:
        """Return the workflow."""
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
        """Return the folder of the checkpoints, which depends on the scenario of the sham."""
        return super().folder(f'{method}-{self.scenario}')

    def _design(self) -> ScenarioDesign:
        return replace(
            super()._design(),
            purpose='sham-warped against untouched images; a classifier must not distinguish them',
            changes={},
            methods=[],
        )
