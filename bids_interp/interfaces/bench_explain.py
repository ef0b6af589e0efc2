"""Benchmark interfaces that explain held-out images."""

from __future__ import annotations

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
    from bids_interp.training.cohort.cohort import Cohort
    from bids_interp.training.cohort.folds import Fold


class _ExplainInputSpec(BaseInterfaceInputSpec):
    cohort = File(exists=True, mandatory=True, desc='output of PlantScenario')
    folds = File(exists=True, mandatory=True, desc='output of PlantScenario')
    index = traits.Int(mandatory=True, desc='number of the fold')
    explained = traits.Int(mandatory=True, desc='images per class and brain')
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of PyTorch')
    random_seed = traits.Int(mandatory=True, desc='seed')
    # Chooses the images; only the scores and the methods without a classifier read more of it.
    ground_truth = File(exists=True, mandatory=True, desc='output of PlantScenario')


class _ExplainOutputSpec(TraitedSpec):
    maps = File(exists=True, desc='maps of the explained images')


class _Explain(SimpleInterface):
    """Base of the interfaces that explain images of a fold."""

    def open(self) -> tuple[Cohort, Fold, np.ndarray]:
        """Return the cohort, the fold, and indices of the images to explain."""
        import torch

        from bids_interp.bench.planted_cohort import explained_images, load_ground_truth
        from bids_interp.training.cohort.storage import load_cohort, load_folds

        inputs = self.inputs
        torch.set_num_threads(inputs.num_threads)
        torch.manual_seed(inputs.random_seed)
        cohort = load_cohort(Path(inputs.cohort))
        fold = load_folds(Path(inputs.folds))[inputs.index]
        (subtypes,) = load_ground_truth(Path(inputs.ground_truth), 'subtypes')
        chosen = explained_images(cohort, inputs.explained, inputs.random_seed, subtypes)
        return cohort, fold, np.intersect1d(chosen, fold.test)

    def keep(self, runtime: Any, maps: Any) -> None:
        """Write the maps."""
        path = Path(runtime.cwd) / 'maps.safetensors'
        maps.save(path)
        self._results['maps'] = str(path)


class _SimulateInputSpec(_ExplainInputSpec):
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
        from bids_interp.bench.trained_networks import load_networks, scaled_classifier
        from bids_interp.training.cohort.storage import load_cohort, load_result

        inputs = self.inputs
        cohort, fold, images = self.open()
        truths, pull_backs, motions = load_ground_truth(
            Path(inputs.ground_truth), 'truths', 'pull_backs', 'motions'
        )
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
                motions[image].astype(np.float32),
            )
            maps.append(log_j[cohort.mask])
            rows.append(replace(row, method=inputs.method, fold=inputs.index))
        values = {inputs.method: np.stack(maps)}
        kinds, own_network = {inputs.method: LOG_JACOBIAN}, {inputs.method: inputs.method}
        self.keep(runtime, FoldMaps(inputs.index, images, values, kinds, own_network))
        self._results['rows'] = str(write_json(Path(runtime.cwd) / 'rows.json', to_plain(rows)))
        return runtime


class _SaliencyInputSpec(_ExplainInputSpec):
    method = traits.Str(mandatory=True, desc='saliency method')
    result = File(exists=True, mandatory=True, desc='output of TrainFold')
    recipe = traits.Dict(mandatory=True, desc='arguments of make_recipe')
    stride_mm = traits.Float(desc='distance between the cubes of occlusion')


class SaliencyFold(_Explain):
    """Compute saliency maps of the same classifier for the same images.

    A method that does not apply to the classifier has no map, only a reason.
    """

    input_spec = _SaliencyInputSpec
    output_spec = _ExplainOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.bench.method_maps import OURS, FoldMaps
        from bids_interp.saliency.captum_methods import SaliencyUnsupported

        method = self.inputs.method
        cohort, fold, images = self.open()
        maps = FoldMaps(self.inputs.index, images, {})
        try:
            maps.values[method] = self._explain(cohort, fold, images)
            maps.classifiers[method] = OURS
        except SaliencyUnsupported as error:
            maps.skipped[method] = error.message
        self.keep(runtime, maps)
        return runtime

    def _explain(self, cohort: Cohort, fold: Fold, images: np.ndarray) -> np.ndarray:
        """Maps (N, V) of our classifier."""
        from bids_interp.bench.trained_networks import load_networks
        from bids_interp.saliency.maps import saliency_values
        from bids_interp.training.cohort.storage import load_result

        result = load_result(Path(self.inputs.result))
        classifier, _ = load_networks(result, self.inputs.recipe, cohort)
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


class _BaselineInputSpec(_ExplainInputSpec):
    methods = traits.List(traits.Str, mandatory=True, desc='difference, tbm, exact, oracle')


class BaselineFold(_Explain):
    """Compute maps that need no classifier: class difference, morphometry, exact volumes, oracle.

    They are also fitted to other draws of the training brains.
    """

    input_spec = _BaselineInputSpec
    output_spec = _ExplainOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.bench.baselines import contrast_map
        from bids_interp.bench.group_ncc import refit_maps
        from bids_interp.bench.method_maps import SIGNED, FoldMaps

        cohort, fold, images = self.open()
        train = np.concatenate([fold.train, fold.validation])
        labels, families = cohort.labels[train], cohort.families[train]
        # The pattern is injected into controls and removed from patients.
        signs = np.where(cohort.labels[images] == 0, 1.0, -1.0)[:, None]
        maps = FoldMaps(self.inputs.index, images, {}, {})
        for method, values in self._measured(cohort, train).items():

            def estimate(chosen, _, values=values, studentised=method == 'tbm'):
                return contrast_map(values[chosen], labels[chosen], studentised=studentised)

            own = estimate(np.arange(len(train)), families)
            maps.values[method] = (signs * own[None]).astype(np.float32)
            maps.refits[method] = refit_maps(estimate, families, self.inputs.random_seed)
            if method != 'difference':
                maps.kinds[method] = SIGNED
        if 'oracle' in self.inputs.methods:
            maps.values['oracle'] = self._oracle(cohort, train, images)
            maps.kinds['oracle'] = SIGNED
        self.keep(runtime, maps)
        return runtime

    def _measured(self, cohort: Cohort, train: np.ndarray) -> dict[str, np.ndarray]:
        """Values (N, V) of the training images that each method compares."""
        from bids_interp.bench.baselines import exact_volumes
        from bids_interp.bench.planted_cohort import load_ground_truth

        measured = {}
        if 'difference' in self.inputs.methods:
            measured['difference'] = cohort.images[train, 0].numpy()[:, cohort.mask]
        if 'tbm' in self.inputs.methods:
            measured['tbm'] = self._registered(cohort, train, train)
        if 'exact' in self.inputs.methods:
            (pull_backs,) = load_ground_truth(Path(self.inputs.ground_truth), 'pull_backs')
            measured['exact'] = exact_volumes(pull_backs[train], cohort.grid)[:, cohort.mask]
        return measured

    def _registered(self, cohort: Cohort, train: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Measured volumes (N, V) of images, relative to the mean training control."""
        from bids_interp.bench.baselines import registered_volumes

        controls = cohort.images[train[cohort.labels[train] == 0]]
        return registered_volumes(cohort.images[images], controls, cohort.grid)[:, cohort.mask]

    def _oracle(self, cohort: Cohort, train: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Maps (N, V) of a method that knows the truths and subtypes of the training images."""
        from bids_interp.bench.baselines import oracle_maps
        from bids_interp.bench.planted_cohort import load_ground_truth

        truths, subtypes = load_ground_truth(Path(self.inputs.ground_truth), 'truths', 'subtypes')
        patients = train[cohort.labels[train] == 1]
        maps = oracle_maps(
            truths[patients][:, cohort.mask],
            subtypes[patients],
            self._registered(cohort, train, patients),
            self._registered(cohort, train, images),
        )
        controls = train[cohort.labels[train] == 0]
        common = truths[controls][:, cohort.mask].mean(axis=0)
        return np.where(cohort.labels[images][:, None] == 0, common, maps).astype(np.float32)
