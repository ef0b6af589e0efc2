"""Benchmark interfaces that score a scenario and write the results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_interp.bids.write.atomic import write_json, write_tsv
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.errors import OutputError
from bids_interp.records import from_plain, read_record, to_plain

if TYPE_CHECKING:
    from bids_interp.bench.scenario_scores import ScenarioScores
    from bids_interp.training.cohort.cohort import Cohort
    from bids_interp.training.cohort.folds import Fold


class _ScoreInputSpec(BaseInterfaceInputSpec):
    cohort = File(exists=True, mandatory=True, desc='output of PlantScenario')
    folds = File(exists=True, mandatory=True, desc='output of PlantScenario')
    ground_truth = File(exists=True, mandatory=True, desc='output of PlantScenario')
    maps = InputMultiObject(File(exists=True), desc='outputs of the nodes that explain')
    rows = InputMultiObject(File(exists=True), desc='outputs of SimulateFold')
    classifiers = traits.Dict(mandatory=True, desc='indices of the results by classifier')
    results = InputMultiObject(File(exists=True), desc='results of all trained folds')
    recipe = traits.Dict(mandatory=True, desc='arguments of make_recipe')
    draws = traits.Int(1000, usedefault=True, desc='number of bootstrap draws')
    design = traits.Dict(mandatory=True, desc='ScenarioDesign as plain types')
    random_seed = traits.Int(mandatory=True, desc='seed of the bootstrap')


class _ScoreOutputSpec(TraitedSpec):
    scores = File(exists=True, desc='JSON of ScenarioRecord')
    images = File(exists=True, desc='JSON: metrics of each image')
    pictures = File(exists=True, desc='group maps and mean image')


class ScoreScenario(SimpleInterface):
    """Compare all methods of a scenario with the truth."""

    input_spec = _ScoreInputSpec
    output_spec = _ScoreOutputSpec

    def _run_interface(self, runtime):
        from safetensors.numpy import save_file

        from bids_interp.bench.method_maps import FoldMaps, join_folds
        from bids_interp.bench.planted_cohort import load_ground_truth
        from bids_interp.bench.records import ImageScores, ScenarioDesign, ScenarioRecord
        from bids_interp.bench.scenario_scores import GroundTruth, score_scenario
        from bids_interp.training.cohort.storage import load_cohort, load_folds

        inputs = self.inputs
        cohort = load_cohort(Path(inputs.cohort))
        folds = load_folds(Path(inputs.folds))
        truths, subtypes = load_ground_truth(Path(inputs.ground_truth), 'truths', 'subtypes')
        reference = GroundTruth(
            cohort.labels, cohort.families, truths, cohort.grid, cohort.mask, subtypes
        )
        found, files = (
            list(given) if isdefined(given) else [] for given in (inputs.maps, inputs.rows)
        )
        parts = [FoldMaps.load(Path(path)) for path in found]
        images = [
            from_plain(ImageScores, row)
            for path in files
            for row in json.loads(Path(path).read_text('utf-8'))
        ]
        by_method: dict[str, list[ImageScores]] = {}
        for row in images:
            by_method.setdefault(row.method, []).append(row)
        joined = join_folds(parts)
        metrics = self._classifier_metrics(cohort, folds)
        scores = score_scenario(
            joined,
            by_method,
            reference,
            draws=inputs.draws,
            seed=inputs.random_seed,
            warranted={name: one['explanation_warranted'] for name, one in metrics.items()},
        )
        _add_classifiers(scores, metrics)
        if not reference.null and 'ours' in joined:
            self._add_ceiling(scores, cohort)
        reasons = {name: why for part in parts for name, why in part.skipped.items()}
        folder = Path(runtime.cwd)
        record = ScenarioRecord(
            **vars(from_plain(ScenarioDesign, inputs.design)),
            null=reference.null,
            n_images=len(cohort),
            n_brains=len(np.unique(cohort.families)),
            n_explained=max((len(one.images) for one in joined.values()), default=0),
            grid=cohort.grid,
            skipped={name: why for name, why in reasons.items() if name not in joined},
            rows=scores.rows,
        )
        named = [_named(to_plain(row), cohort.names) for row in images]
        self._results['scores'] = str(write_json(folder / 'scores.json', to_plain(record)))
        self._results['images'] = str(write_json(folder / 'images.json', named))
        brain = cohort.images[:, 0].mean(dim=0).numpy()
        save_file({**scores.maps, 'brain': brain}, folder / 'pictures.safetensors')
        self._results['pictures'] = str(folder / 'pictures.safetensors')
        return runtime

    def _classifier_metrics(self, cohort: Cohort, folds: list[Fold]) -> dict[str, dict[str, Any]]:
        """Metrics of the out-of-fold predictions of every classifier."""
        from bids_interp.training.cohort.storage import load_result

        found = {}
        for name, numbers in self.inputs.classifiers.items():
            files = [Path(self.inputs.results[number]) for number in numbers]
            outputs = [load_result(path).test_outputs for path in files]
            found[name] = classifier_metrics(cohort, folds, outputs, self.inputs.random_seed)
        return found

    def _add_ceiling(self, scores: ScenarioScores, cohort: Cohort) -> None:
        """Add the largest NCC that our simulator can reach, if its velocity is free."""
        from bids_interp.bench.truth_scores import basis_ceiling
        from bids_interp.evaluation.scores import Estimate
        from bids_interp.models.networks.simulator import Simulator
        from bids_interp.training.recipe import make_recipe
        from bids_interp.training.simulator import SimulatorRecipe

        recipe = make_recipe(**self.inputs.recipe).simulator
        if not isinstance(recipe, SimulatorRecipe):
            # A pattern has no basis.
            return
        arguments = recipe.network_arguments()
        simulator = Simulator(cohort.grid, cohort.mask, **arguments)
        for row in [row for row in scores.rows if (row.method, row.metric) == _OURS]:
            direction = row.direction
            if f'truth.{direction}' not in scores.maps:
                continue
            ceiling = basis_ceiling(scores.maps[f'truth.{direction}'], cohort.mask, simulator)
            scores.add('ours', 'ceiling', direction, ceiling)
            share = Estimate(*(number / ceiling for number in (row.value, row.low, row.high)))
            scores.add('ours', 'ncc_over_ceiling', direction, share)


_OURS = ('ours', 'ncc_group')


def _named(row: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Row of an image with its name instead of its index."""
    number = row.pop('image')
    return {**row, 'name': names[number]}


def _add_classifiers(scores: ScenarioScores, metrics: dict[str, dict[str, Any]]) -> None:
    """Add the out-of-fold metrics of every classifier."""
    from bids_interp.evaluation.scores import Estimate

    for name, found in metrics.items():
        area = found['auc']
        estimate = Estimate(*(as_float(area[key]) for key in ('value', 'low', 'high')))
        scores.add(name, 'auc', 'both', estimate)
        scores.add(name, 'permutation_p', 'both', as_float(found['permutation_p']))


def as_float(value: float | None) -> float:
    """Return a number, NaN if it is missing."""
    return float('nan') if value is None else float(value)


def classifier_metrics(
    cohort: Cohort, folds: list[Fold], outputs: list[np.ndarray], seed: int
) -> dict[str, Any]:
    """Return metrics of out-of-fold logits; ``outputs`` has (n, 1) test logits of each fold."""
    from bids_interp.evaluation.classification import out_of_fold_metrics
    from bids_interp.evaluation.out_of_fold import OutOfFold

    logits = np.zeros((len(cohort), 1))
    fold_of = np.zeros(len(cohort), int)
    for index, (fold, part) in enumerate(zip(folds, outputs, strict=True)):
        logits[fold.test], fold_of[fold.test] = part, index
    positive = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
    return out_of_fold_metrics(
        OutOfFold(
            'binary',
            cohort.target.classes,
            cohort.labels,
            logits,
            np.concatenate([1 - positive, positive], axis=1),
            fold_of,
            cohort.families,
        ),
        seed,
    )


class _WriteInputSpec(BaseInterfaceInputSpec):
    scores = File(exists=True, mandatory=True, desc='output of ScoreScenario')
    images = File(exists=True, mandatory=True, desc='output of ScoreScenario')
    pictures = File(exists=True, mandatory=True, desc='output of ScoreScenario')
    out_dir = Directory(mandatory=True, desc='output directory')
    name = traits.Str(mandatory=True, desc='name of scenario and seed')
    provenance = traits.Dict(mandatory=True, desc='Provenance as plain types')


class _WriteOutputSpec(TraitedSpec):
    scores = File(exists=True, desc='JSON in the output directory')


class WriteScenario(SimpleInterface):
    """Write scores, metrics of the images and group maps into the output directory."""

    input_spec = _WriteInputSpec
    output_spec = _WriteOutputSpec
    # Someone may have removed them since the last run with this work directory.
    _always_run = True

    def _run_interface(self, runtime):
        from safetensors.numpy import load_file

        from bids_interp.bench.records import Provenance, ScenarioRecord

        out, name = Path(self.inputs.out_dir), self.inputs.name
        record = replace(
            read_record(ScenarioRecord, Path(self.inputs.scores), OutputError),
            provenance=from_plain(Provenance, self.inputs.provenance),
        )
        for key, values in load_file(self.inputs.pictures).items():
            path = out / 'maps' / f'{name}_{key.replace(".", "_")}.nii.gz'
            write_nifti(path, values, record.grid.affine, template=True)
        images = json.loads(Path(self.inputs.images).read_text('utf-8'))
        if images:
            write_tsv(out / 'images' / f'{name}.tsv', images)
        # Written last, because it marks the outputs as complete.
        self._results['scores'] = str(write_json(out / 'scores' / f'{name}.json', to_plain(record)))
        return runtime
