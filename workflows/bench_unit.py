"""Benchmark unit: the workflow of one scenario with one seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.bench.design import Benchmark
from bids_interp.constants import SALIENCY_METHODS
from bids_interp.execution.run import Run
from bids_interp.interfaces.bench import PlantScenario, TrainJudge
from bids_interp.interfaces.bench_explain import BaselineFold, SaliencyFold, SimulateFold
from bids_interp.interfaces.bench_scores import ScoreScenario, WriteScenario
from bids_interp.interfaces.train import TrainFold
from bids_interp.phantom.inject.scenarios import scenario as named_scenario
from bids_interp.records import to_plain
from bids_interp.training.recipe import PRESETS, make_recipe

if TYPE_CHECKING:
    from bids_interp.bench.records import Provenance, ScenarioDesign
    from bids_interp.phantom.inject.scenarios import Scenario

#: Added to the seed of a repeated training.
OTHER_SEED = 1000
SIMULATORS = ('ours', 'otherseed', 'ipmi2021')
BASELINES = ('difference', 'tbm', 'exact', 'oracle')


@dataclass(frozen=True)
class BenchFiles:
    """Files and folders of a benchmark.

    Parameters
    ----------
    brains : pathlib.Path
        JSON: label, t1w, mask, transform and digest of each brain.
    input_space : pathlib.Path
        Grid, mask and intensities of our model.
    checkpoints : pathlib.Path
        Folder for checkpoints, specific to the images.
    out_dir : pathlib.Path
        Output directory.
    template : str
        Name of the brain template.
    """

    brains: Path
    input_space: Path
    checkpoints: Path
    out_dir: Path
    template: str


def unit_name(scenario: str, seed: int, strength: str) -> str:
    """Return the name of a scenario with a seed in file names.

    Examples
    --------
    >>> unit_name('S3', 0, 'moderate'), unit_name('S3', 1, 'mild')
    ('S3_seed-0', 'S3mild_seed-1')
    """
    return f'{scenario}{"" if strength == "moderate" else strength}_seed-{seed}'


def applicable_methods(scenario: Scenario, methods: Sequence[str]) -> list[str]:
    """Return the methods that say something about a scenario.

    Examples
    --------
    >>> methods = ('ours', 'tbm', 'gradient', 'oracle')
    >>> [applicable_methods(named_scenario(name), methods) for name in ('S1', 'S7', 'S11')]
    [['ours', 'tbm', 'gradient'], ['ours'], ['ours', 'tbm']]
    >>> applicable_methods(named_scenario('S9'), methods)
    ['ours', 'tbm', 'gradient', 'oracle']
    """
    if scenario.regressed:
        return [name for name in methods if name in ('ours', 'difference', 'tbm', 'exact')]
    if scenario.null:
        # Without a truth only simulations are measured.
        return [name for name in methods if name in SIMULATORS]
    return [name for name in methods if name != 'oracle' or scenario.subtypes]


class BenchUnit:
    """Builder of the workflow of one scenario with one seed: images, networks, maps and scores.

    Parameters
    ----------
    benchmark : Benchmark
        Design of the benchmark.
    files : BenchFiles
        Files and folders.
    run : Run
        Device, processes and threads.
    scenario, seed : str, int
        Scenario and seed.
    provenance : Provenance
        Origin of the scores.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        files: BenchFiles,
        run: Run,
        scenario: str,
        seed: int,
        provenance: Provenance,
    ) -> None:
        self.benchmark, self.files, self.run = benchmark, files, run
        self.scenario, self.seed, self.provenance = scenario, seed, provenance
        self.methods = applicable_methods(
            named_scenario(scenario, benchmark.strength), benchmark.methods
        )
        self.label = unit_name(self.name, seed, benchmark.strength)
        # Part of the node names, so that log lines and crash files name the unit.
        self.short = f'{self.name}_{seed}'
        self.threads = max(1, run.nprocs // benchmark.n_folds)
        self.workflow = Workflow(name=f'{self.label.replace("-", "_")}_wf')
        self.maps: list[pe.Node] = []
        self.rows: list[pe.Node] = []
        self.trained: dict[str, list[pe.Node]] = {}

    @property
    def name(self) -> str:
        """Name of the unit in results and nodes."""
        return self.scenario

    def build(self) -> Workflow:
        """Return the workflow."""
        self.plant = self._node(PlantScenario, 'plant', 4.0, **self._plant_inputs())
        saliency = [name for name in self.methods if name in SALIENCY_METHODS]
        baselines = [name for name in self.methods if name in BASELINES]
        simulators = [name for name in self.methods if name in SIMULATORS]
        if 'ours' in simulators or saliency:
            self._train('ours', self.benchmark.recipe, self.seed)
        if 'otherseed' in simulators:
            self._train('otherseed', self.benchmark.recipe, self.seed + OTHER_SEED)
        if 'ipmi2021' in simulators:
            self._train('ipmi2021', self.benchmark.paper, self.seed, 'paper_cohort')
        if simulators and self.benchmark.judge is not None:
            self._train_judge()
        for index in range(self.benchmark.n_folds):
            for method in simulators:
                self._simulate(method, index)
            for method in saliency:
                self._explain_by_saliency(method, index)
            if baselines:
                self._explain_by_baselines(baselines, index)
        self._score()
        return self.workflow

    def _plant_inputs(self) -> dict[str, Any]:
        benchmark = self.benchmark
        return {
            'brains': str(self.files.brains),
            'input_space': str(self.files.input_space),
            'scenario': self.scenario,
            'strength': benchmark.strength,
            'replicates': benchmark.replicates,
            'anatomy_mm': benchmark.anatomy_mm,
            'n_folds': benchmark.n_folds,
            'paper': PRESETS['ipmi2021'].preprocessing.to_dict(),
        }

    def _node(
        self, interface: Any, name: str, mem_gb: float, threads: int = 1, **inputs: Any
    ) -> pe.Node:
        inputs.setdefault('random_seed', self.seed)
        made = interface(num_threads=threads, **inputs)
        return pe.Node(made, name=f'{self.short}_{name}', mem_gb=mem_gb, n_procs=threads)

    def _train(
        self, method: str, recipe: dict[str, Any], seed: int, images: str = 'cohort'
    ) -> None:
        """Add classifier and simulator of each fold."""
        self.trained[method] = []
        for index in range(self.benchmark.n_folds):
            node = self._node(
                TrainFold, f'train_{method}_{index}', 3.0, self.threads,
                index=index, random_seed=seed, **self._training(method, recipe),
            )  # fmt: skip
            self.workflow.connect([
                (self.plant, node, [(images, 'cohort'), ('folds', 'folds')]),
            ])  # fmt: skip
            self.trained[method].append(node)

    def _train_judge(self) -> None:
        """Add a classifier of another family for each fold."""
        recipe = self.benchmark.judge or {}
        self.trained['sfcn'] = []
        for index in range(self.benchmark.n_folds):
            node = self._node(
                TrainJudge, f'train_judge_{index}', 3.0, self.threads,
                index=index, **self._training('sfcn', recipe),
            )  # fmt: skip
            self.workflow.connect([
                (self.plant, node, [('cohort', 'cohort'), ('folds', 'folds')]),
            ])  # fmt: skip
            self.trained['sfcn'].append(node)

    def _training(self, method: str, recipe: dict[str, Any]) -> dict[str, Any]:
        """Inputs of all nodes that train."""
        device = self.run.device
        return {
            'recipe': recipe,
            'recipe_digest': make_recipe(**recipe).digest(),
            'directory': str(self.folder(method)),
            'device': device,
            'use_gpu': device.startswith('cuda'),
        }

    def folder(self, method: str) -> Path:
        """Return the folder of the checkpoints of a method."""
        path = self.files.checkpoints / self.label / method
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _explain(self, interface: Any, name: str, index: int, **inputs: Any) -> pe.Node:
        """Add a node that explains images of a fold."""
        explained = self.benchmark.explained
        node = self._node(interface, name, 2.5, index=index, explained=explained, **inputs)
        fields = [(field, field) for field in ('cohort', 'folds', 'ground_truth')]
        self.workflow.connect([(self.plant, node, fields)])
        self.maps.append(node)
        return node

    def _simulate(self, method: str, index: int) -> None:
        is_paper = method == 'ipmi2021'
        scenario = named_scenario(self.scenario, self.benchmark.strength)
        node = self._explain(
            SimulateFold, f'simulate_{method}_{index}', index,
            method=method,
            recipe=self.benchmark.paper if is_paper else self.benchmark.recipe,
            judge_recipe=self.benchmark.judge or {},
            changed=[name for effect in scenario.effects for name in effect.changes],
        )  # fmt: skip
        images = 'paper_cohort' if is_paper else 'cohort'
        self.workflow.connect([
            (self.plant, node, [(images, 'own_cohort')]),
            (self.trained[method][index], node, [('result', 'result')]),
        ])  # fmt: skip
        if 'sfcn' in self.trained:
            self.workflow.connect([(self.trained['sfcn'][index], node, [('result', 'judge')])])
        self.rows.append(node)

    def _explain_by_saliency(self, method: str, index: int) -> None:
        more = {'stride_mm': self.benchmark.stride_mm} if method == 'occlusion' else {}
        node = self._explain(
            SaliencyFold, f'saliency_{method}_{index}', index,
            method=method, recipe=self.benchmark.recipe, **more,
        )  # fmt: skip
        self.workflow.connect([(self.trained['ours'][index], node, [('result', 'result')])])

    def _explain_by_baselines(self, methods: list[str], index: int) -> None:
        self._explain(BaselineFold, f'baselines_{index}', index, methods=methods)

    def _score(self) -> None:
        """Add the nodes that score the unit and write the results."""
        order = [node for nodes in self.trained.values() for node in nodes]
        numbers = {
            method: [order.index(node) for node in nodes] for method, nodes in self.trained.items()
        }
        inputs: dict[str, Any] = {
            'classifiers': numbers,
            'recipe': self.benchmark.recipe,
            'draws': self.benchmark.draws,
            'design': to_plain(self._design()),
            'random_seed': self.seed,
        }
        score = pe.Node(ScoreScenario(**inputs), name=f'{self.short}_score', mem_gb=4.0)
        self._add_score(
            score,
            ('cohort', 'folds', 'ground_truth'),
            {
                'maps': ('maps', self.maps),
                'rows': ('rows', self.rows),
                'results': ('result', order),
            },
        )

    def _add_score(
        self,
        score: pe.Node,
        planted: Sequence[str],
        merged: Mapping[str, tuple[str, list[pe.Node]]],
    ) -> None:
        """Add a node that scores, and the one that writes its results.

        Parameters
        ----------
        score : nipype.pipeline.engine.Node
            The node.
        planted : sequence of str
            Outputs of the node that plants, which are its inputs.
        merged : mapping
            Other inputs: the output and the nodes that it is taken from.
        """
        write = pe.Node(
            WriteScenario(
                out_dir=str(self.files.out_dir),
                name=self.label,
                provenance=to_plain(self.provenance),
            ),
            name=f'{self.short}_write',
            mem_gb=0.5,
        )
        self.workflow.connect([
            (self.plant, score, [(field, field) for field in planted]),
            (score, write, [(field, field) for field in ('scores', 'images', 'pictures')]),
        ])  # fmt: skip
        for field, (output, nodes) in merged.items():
            if not nodes:
                continue
            merge = pe.Node(niu.Merge(len(nodes)), name=f'{self.short}_merge_{field}')
            for number, node in enumerate(nodes, 1):
                self.workflow.connect([(node, merge, [(output, f'in{number}')])])
            self.workflow.connect([(merge, score, [('out', field)])])

    def _design(self) -> ScenarioDesign:
        from bids_interp.bench.records import ScenarioDesign

        benchmark, scenario = self.benchmark, named_scenario(self.scenario, self.benchmark.strength)
        recipes = {'ours': benchmark.recipe}
        if 'ipmi2021' in self.methods:
            recipes['ipmi2021'] = benchmark.paper
        if benchmark.judge is not None:
            recipes['sfcn'] = benchmark.judge
        return ScenarioDesign(
            scenario=self.name,
            seed=self.seed,
            strength=benchmark.strength,
            purpose=scenario.purpose,
            changes=scenario.changes,
            replicates=benchmark.replicates,
            anatomy_mm=benchmark.anatomy_mm,
            spacing_mm=benchmark.spacing_mm,
            stride_mm=benchmark.stride_mm,
            n_folds=benchmark.n_folds,
            draws=benchmark.draws,
            methods=self.methods,
            recipes={name: asdict(make_recipe(**recipe)) for name, recipe in recipes.items()},
        )
