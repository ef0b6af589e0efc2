"""Benchmark interfaces that explain held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_interp.bids.write.atomic import write_json
from bids_interp.errors import ModelError
from bids_interp.records import to_plain

if TYPE_CHECKING:
    from torch import nn

    from bids_interp.bench.simulations import ScaledClassifier
    from bids_interp.training.cohort.cohort import Cohort
    from bids_interp.training.cohort.folds import Fold
    from bids_interp.training.fold import FoldResult


class _ExplainInputSpec(BaseInterfaceInputSpec):
    cohort = File(exists=True, mandatory=True, desc='output of PlantScenario')
    folds = File(exists=True, mandatory=True, desc='output of PlantScenario')
    index = traits.Int(mandatory=True, desc='number of the fold')
    explained = traits.Int(mandatory=True, desc='images per class and brain')
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of PyTorch')
    random_seed = traits.Int(mandatory=True, desc='seed')


class _TruthInputSpec(_ExplainInputSpec):
    ground_truth = File(exists=True, mandatory=True, desc='output of PlantScenario')


class _ExplainOutputSpec(TraitedSpec):
    maps = File(exists=True, desc='maps of the explained images')


class _Explain(SimpleInterface):
    """Base of the interfaces that explain images of a fold."""

    def open(self) -> tuple[Cohort, Fold, np.ndarray]:
        """Return the cohort, the fold, and indices of the images to explain."""
        import torch

        from bids_interp.bench.planted_cohort import explained_images
        from bids_interp.training.cohort.storage import load_cohort, load_folds

        inputs = self.inputs
        torch.set_num_threads(inputs.num_threads)
        torch.manual_seed(inputs.random_seed)
        cohort = load_cohort(Path(inputs.cohort))
        fold = load_folds(Path(inputs.folds))[inputs.index]
        chosen = explained_images(cohort, inputs.explained, inputs.random_seed)
        return cohort, fold, np.intersect1d(chosen, fold.test)

    def keep(self, runtime: Any, maps: Any) -> None:
        """Write the maps."""
        path = Path(runtime.cwd) / 'maps.safetensors'
        maps.save(path)
        self._results['maps'] = str(path)


class _SimulateInputSpec(_TruthInputSpec):
    method = traits.Str(mandatory=True, desc='name of the method')
    own_cohort = File(
        exists=True, mandatory=True, desc='images with the preprocessing of the classifier'
    )
    result = File(exists=True, mandatory=True, desc='output of TrainFold')
    recipe = traits.Dict(mandatory=True, desc='arguments of make_recipe')
    judge = File(exists=True, desc='output of TrainJudge')
    judge_recipe = traits.Dict(desc='arguments of make_recipe')
    changed = traits.List(traits.Str, mandatory=True, desc='regions with the change')


class _SimulateOutputSpec(_ExplainOutputSpec):
    rows = File(exists=True, desc='JSON: metrics of each image')


class SimulateFold(_Explain):
    """Simulate held-out images of a fold."""

    input_spec = _SimulateInputSpec
    output_spec = _SimulateOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.bench.method_maps import LOG_JACOBIAN, FoldMaps
        from bids_interp.bench.planted_cohort import load_ground_truth
        from bids_interp.bench.simulations import CohortAnatomy, JudgedRegions, explain_image
        from bids_interp.training.cohort.storage import load_cohort, load_result

        inputs = self.inputs
        cohort, fold, images = self.open()
        truths, pull_backs = load_ground_truth(Path(inputs.ground_truth))
        own_cohort = load_cohort(Path(inputs.own_cohort))
        result = load_result(Path(inputs.result))
        classifier, simulator = load_networks(result, inputs.recipe, own_cohort)
        if simulator is None:
            raise ModelError(f'{inputs.result} contains no simulator.')
        own = scaled_classifier(classifier, own_cohort, fold, result)
        other = None
        if isdefined(inputs.judge):
            judged = load_result(Path(inputs.judge))
            network, _ = load_networks(judged, inputs.judge_recipe, cohort)
            other = scaled_classifier(network, cohort, fold, judged)
        regions = JudgedRegions.draw(inputs.changed, cohort.grid)
        anatomy = CohortAnatomy.fit(regions, pull_backs, cohort.labels, fold.train, cohort.grid)
        maps, rows = [], []
        for image in images:
            log_j, row = explain_image(
                simulator,
                own,
                other,
                anatomy,
                int(image),
                int(cohort.labels[image]),
                truths[image],
                cohort.grid,
                cohort.mask,
            )
            maps.append(log_j[cohort.mask])
            rows.append(replace(row, method=inputs.method, fold=inputs.index))
        values = {inputs.method: np.stack(maps)}
        kinds, own_network = {inputs.method: LOG_JACOBIAN}, {inputs.method: inputs.method}
        self.keep(runtime, FoldMaps(inputs.index, images, values, kinds, own_network))
        self._results['rows'] = str(write_json(Path(runtime.cwd) / 'rows.json', to_plain(rows)))
        return runtime


def load_networks(
    result: FoldResult, recipe: dict[str, Any], cohort: Cohort
) -> tuple[nn.Module, nn.Module | None]:
    """Return the frozen classifier and simulator (or None) of a fold."""
    from bids_interp.models.networks.registry import build_classifier
    from bids_interp.models.networks.simulator import build_simulator
    from bids_interp.training.recipe import make_recipe

    made = make_recipe(**recipe)
    classifier = build_classifier(
        made.classifier.architecture,
        cohort.grid.shape,
        made.members,
        **made.classifier.arguments,
        outputs=1,
    )
    classifier.load_state_dict(result.trained.classifier)
    classifier.eval().requires_grad_(False)
    if not result.trained.simulator:
        return classifier, None
    simulator = build_simulator(cohort.grid, cohort.mask, made.simulator.network_arguments())
    simulator.load_state_dict(result.trained.simulator)
    return classifier, simulator.eval().requires_grad_(False)


def scaled_classifier(
    network: nn.Module, cohort: Cohort, fold: Fold, result: FoldResult
) -> ScaledClassifier:
    """Return a classifier with its midpoint and class gap on the validation split."""
    from bids_interp.bench.simulations import ScaledClassifier
    from bids_interp.evaluation.validity import class_centre
    from bids_interp.training.classifier import predict_outputs

    outputs = predict_outputs(network, cohort.images[fold.validation])[:, 0]
    centre = class_centre(outputs, cohort.labels[fold.validation], cohort.target, 0)
    gap = result.trained.class_gap
    first = gap[0] if isinstance(gap, Sequence) else gap
    return ScaledClassifier(network, cohort.images, centre, first)


class _SaliencyInputSpec(_ExplainInputSpec):
    method = traits.Str(mandatory=True, desc='saliency method')
    result = File(exists=True, mandatory=True, desc='output of TrainFold')
    recipe = traits.Dict(mandatory=True, desc='arguments of make_recipe')
    stride_mm = traits.Float(desc='distance between the cubes of occlusion')
    judge = File(exists=True, desc='output of TrainJudge, explained if the classifier cannot be')
    judge_recipe = traits.Dict(desc='arguments of make_recipe')


class SaliencyFold(_Explain):
    """Compute saliency maps of the same classifier for the same images.

    A method that does not apply to the classifier explains the classifier of another family. Its
    maps have the name of that network and are not compared as maps of our classifier.
    """

    input_spec = _SaliencyInputSpec
    output_spec = _ExplainOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.bench.method_maps import JUDGE, OURS, FoldMaps
        from bids_interp.saliency.captum_methods import SaliencyUnsupported

        inputs, method = self.inputs, self.inputs.method
        cohort, fold, images = self.open()
        networks = {OURS: (inputs.result, inputs.recipe)}
        if isdefined(inputs.judge):
            networks[JUDGE] = (inputs.judge, inputs.judge_recipe)
        reasons: dict[str, str] = {}
        maps = FoldMaps(inputs.index, images, {}, skipped=reasons)
        for name, (result, recipe) in networks.items():
            try:
                values = self._explain(result, recipe, cohort, fold, images)
            except SaliencyUnsupported as error:
                # The reason of our classifier is reported, not that of the judge.
                reasons.setdefault(method, error.message)
                continue
            maps = FoldMaps(
                inputs.index, images, {method: values}, {}, {method: name}, replaced=reasons
            )
            break
        self.keep(runtime, maps)
        return runtime

    def _explain(
        self,
        result: str,
        recipe: dict[str, Any],
        cohort: Cohort,
        fold: Fold,
        images: np.ndarray,
    ) -> np.ndarray:
        """Maps (N, V) of a trained classifier."""
        from bids_interp.saliency.maps import saliency_values
        from bids_interp.training.cohort.storage import load_result

        classifier, _ = load_networks(load_result(Path(result)), recipe, cohort)
        given = isdefined(self.inputs.stride_mm)
        stride = {'stride_mm': self.inputs.stride_mm} if given else {}
        controls = fold.train[cohort.labels[fold.train] == 0]
        return saliency_values(
            self.inputs.method,
            classifier,
            cohort.images[images],
            cohort.grid,
            cohort.mask,
            cohort.images[controls].mean(dim=0, keepdim=True),
            self.inputs.random_seed,
            **stride,
        )


class _BaselineInputSpec(_TruthInputSpec):
    methods = traits.List(traits.Str, mandatory=True, desc='difference, tbm, exact')


class BaselineFold(_Explain):
    """Compute maps that need no classifier: class difference and morphometry."""

    input_spec = _BaselineInputSpec
    output_spec = _ExplainOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.bench.baselines import (
            class_difference,
            exact_difference,
            morphometry_t_map,
            registered_volumes,
        )
        from bids_interp.bench.method_maps import SIGNED, FoldMaps
        from bids_interp.bench.planted_cohort import load_ground_truth

        cohort, fold, images = self.open()
        train = np.concatenate([fold.train, fold.validation])
        labels = cohort.labels[train]
        # The pattern is injected into controls and removed from patients.
        signs = np.where(cohort.labels[images] == 0, 1.0, -1.0)[:, None]
        values = {}
        if 'difference' in self.inputs.methods:
            mean = class_difference(cohort.images[train, 0].numpy(), labels)
            values['difference'] = mean
        if 'tbm' in self.inputs.methods:
            controls = cohort.images[train[labels == 0]]
            volumes = registered_volumes(cohort.images[train], controls, cohort.grid)
            values['tbm'] = morphometry_t_map(volumes, labels)
        if 'exact' in self.inputs.methods:
            _, pull_backs = load_ground_truth(Path(self.inputs.ground_truth))
            values['exact'] = exact_difference(pull_backs[train], labels, cohort.grid)
        maps = {
            name: (signs * value[cohort.mask][None]).astype(np.float32)
            for name, value in values.items()
        }
        kinds = {'tbm': SIGNED, 'exact': SIGNED}
        self.keep(runtime, FoldMaps(self.inputs.index, images, maps, kinds))
        return runtime
