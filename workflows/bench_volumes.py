"""Volume regressions: the unit of the benchmark without a planted change."""

from __future__ import annotations

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.interfaces.bench import PlantScenario
from bids_interp.interfaces.bench_volumes import (
    CorrelateRegions,
    MeasureVolumes,
    RegressRegion,
    ScoreRegions,
)
from bids_interp.phantom.inject.scenarios import scenario as named_scenario
from bids_interp.records import to_plain
from bids_interp.workflows.bench_unit import BenchUnit


class VolumeRegressions(BenchUnit):
    """Builder of a unit that predicts the volume of each region of a scenario.

    Parameters
    ----------
    benchmark, files, run, scenario, seed, provenance
        See :class:`bids_interp.workflows.bench_unit.BenchUnit`.
    """

    def build(self) -> Workflow:
        """Return the workflow."""
        regions = list(named_scenario(self.scenario).regressed)
        self.plant = self._node(PlantScenario, 'plant', 4.0, **self._plant_inputs())
        self.measure = self._node(
            MeasureVolumes, 'measure', 2.0, self.threads,
            brains=str(self.files.brains), regions=regions, template=self.files.template,
            offline=self.run.settings.offline,
        )  # fmt: skip
        fields = [(field, field) for field in ('cohort', 'ground_truth')]
        self.workflow.connect([(self.plant, self.measure, fields)])
        score = pe.Node(
            ScoreRegions(design=to_plain(self._design())), name=f'{self.short}_score', mem_gb=4.0
        )
        folds = range(self.benchmark.n_folds)
        baselines = [name for name in self.methods if name != 'ours']
        regressions, nodes = [], []
        if 'ours' in self.methods:
            regressions = [self._regress(region, fold) for region in regions for fold in folds]
        if baselines:
            nodes = [self._correlate(baselines, fold) for fold in folds]
        self._add_score(
            score,
            ('cohort',),
            {
                'correlations': ('correlation', regressions),
                'maps': ('maps', [*regressions, *nodes]),
            },
        )
        return self.workflow

    def _regress(self, region: str, index: int) -> pe.Node:
        """Add the regression of one region in one fold."""
        node = self._node(
            RegressRegion, f'regress_{region}_{index}', 3.0, self.threads,
            index=index, region=region, explained=self.benchmark.explained,
            **self._training(f'ours-{region}', self.benchmark.recipe),
        )  # fmt: skip
        self.workflow.connect([
            (self.plant, node, [('cohort', 'cohort'), ('folds', 'folds')]),
            (self.measure, node, [('volumes', 'volumes')]),
        ])  # fmt: skip
        return node

    def _correlate(self, methods: list[str], index: int) -> pe.Node:
        """Add the baselines of all regions in one fold."""
        node = self._node(CorrelateRegions, f'correlate_{index}', 3.0, index=index, methods=methods)
        fields = [(field, field) for field in ('cohort', 'folds', 'ground_truth')]
        self.workflow.connect([
            (self.plant, node, fields),
            (self.measure, node, [('volumes', 'volumes')]),
        ])  # fmt: skip
        return node
