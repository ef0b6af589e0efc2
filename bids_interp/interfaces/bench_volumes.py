"""Benchmark interfaces that regress the volumes of regions on scans without a planted change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from bids_interp.bids.write.atomic import write_json
from bids_interp.errors import ModelError
from bids_interp.interfaces.bench import read_brains
from bids_interp.interfaces.train import TrainFold, _FoldInputSpec
from bids_interp.records import from_plain, to_plain


class _MeasureInputSpec(BaseInterfaceInputSpec):
    brains = File(exists=True, mandatory=True, desc='JSON of the prepared brains')
    cohort = File(exists=True, mandatory=True, desc='output of PlantScenario')
    ground_truth = File(exists=True, mandatory=True, desc='output of PlantScenario')
    regions = traits.List(traits.Str, mandatory=True, desc='names of the regions')
    template = traits.Str(mandatory=True, desc='name of the brain template')
    offline = traits.Bool(True, usedefault=True, nohash=True, desc='do not download templates')
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of ANTs')
    random_seed = traits.Int(mandatory=True, desc='seed')


class _MeasureOutputSpec(TraitedSpec):
    volumes = File(exists=True, desc='JSON: log-volumes of each image by region')


class MeasureVolumes(SimpleInterface):
    """Measure the regions of the brains by SyN, and add the exact anatomy of each image."""

    input_spec = _MeasureInputSpec
    output_spec = _MeasureOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.anatomical.templates import brain_template
        from bids_interp.bench.planted_cohort import load_ground_truth
        from bids_interp.bench.volume_regression import image_volumes
        from bids_interp.training.cohort.storage import load_cohort

        inputs, regions = self.inputs, list(self.inputs.regions)
        template = brain_template(inputs.template, offline=inputs.offline)
        brains = np.stack(
            [self._measure(brain, template) for brain in read_brains(Path(inputs.brains))]
        )
        cohort = load_cohort(Path(inputs.cohort))
        (pull_backs,) = load_ground_truth(Path(inputs.ground_truth), 'pull_backs')
        volumes = image_volumes(pull_backs, cohort.families, brains, regions, cohort.grid)
        content = {name: volumes[:, number].tolist() for number, name in enumerate(regions)}
        self._results['volumes'] = str(write_json(Path(runtime.cwd) / 'volumes.json', content))
        return runtime

    def _measure(self, brain, template):
        """Log-volumes (R,) of the regions of a brain."""
        from bids_interp.anatomical.deformation import measure_anatomy
        from bids_interp.bench.volume_regression import brain_volumes
        from bids_interp.spatial import Grid

        aligned = Grid(brain.grid.shape, brain.native_to_template @ brain.grid.affine)
        measured = measure_anatomy(
            aligned.to_image(np.asarray(brain.data, np.float32)),
            template,
            threads=self.inputs.num_threads,
            seed=self.inputs.random_seed,
        )
        values = np.asarray(measured.dataobj, np.float32)
        return brain_volumes(values, list(self.inputs.regions), Grid.from_image(measured))


class _RegionMapsOutputSpec(TraitedSpec):
    maps = File(exists=True, desc='FoldMaps by <region>.<method>')


class _RegressInputSpec(_FoldInputSpec):
    volumes = File(exists=True, mandatory=True, desc='output of MeasureVolumes')
    region = traits.Str(mandatory=True, desc='region to predict')
    explained = traits.Int(mandatory=True, desc='images per class and brain')


class _RegressOutputSpec(_RegionMapsOutputSpec):
    correlation = traits.Float(desc='correlation of predicted and true volumes of test images')


class RegressRegion(TrainFold):
    """Predict the volume of one region in one fold, and map how it grows."""

    input_spec = _RegressInputSpec
    output_spec = _RegressOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.bench.planted_cohort import explained_images
        from bids_interp.bench.trained_networks import load_networks
        from bids_interp.bench.volume_regression import mean_growth, regression_cohort
        from bids_interp.training.fold import train_fold

        inputs, arguments = self.inputs, self.fold_arguments()
        images, fold = arguments['cohort'], arguments['fold']
        values = read_volumes(inputs.volumes)[inputs.region]
        cohort = regression_cohort(images, values, inputs.region)
        result = train_fold(**{**arguments, 'cohort': cohort})
        _, simulator = load_networks(result, inputs.recipe, cohort)
        if simulator is None:
            raise ModelError('The training has made no simulator.')
        chosen = explained_images(images, inputs.explained, inputs.random_seed)
        growth = mean_growth(simulator, cohort, np.intersect1d(chosen, fold.test))
        self._results['maps'] = save_maps(runtime, inputs.index, {f'{inputs.region}.ours': growth})
        predicted = result.test_outputs[:, 0]
        self._results['correlation'] = float(np.corrcoef(predicted, values[fold.test])[0, 1])
        return runtime


class _CorrelateInputSpec(BaseInterfaceInputSpec):
    cohort = File(exists=True, mandatory=True, desc='output of PlantScenario')
    folds = File(exists=True, mandatory=True, desc='output of PlantScenario')
    ground_truth = File(exists=True, mandatory=True, desc='output of PlantScenario')
    volumes = File(exists=True, mandatory=True, desc='output of MeasureVolumes')
    index = traits.Int(mandatory=True, desc='number of the fold')
    methods = traits.List(traits.Str, mandatory=True, desc='tbm, difference, exact')
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of PyTorch')
    random_seed = traits.Int(mandatory=True, desc='seed')


class CorrelateRegions(SimpleInterface):
    """Correlate what the baselines measure with the volume of every region in one fold."""

    input_spec = _CorrelateInputSpec
    output_spec = _RegionMapsOutputSpec

    def _run_interface(self, runtime):
        import torch

        from bids_interp.bench.baselines import exact_volumes, registered_volumes
        from bids_interp.bench.planted_cohort import load_ground_truth
        from bids_interp.bench.volume_regression import correlation_map
        from bids_interp.training.cohort.storage import load_cohort, load_folds

        inputs = self.inputs
        torch.set_num_threads(inputs.num_threads)
        cohort = load_cohort(Path(inputs.cohort))
        fold = load_folds(Path(inputs.folds))[inputs.index]
        train = np.concatenate([fold.train, fold.validation])
        images, measured = cohort.images[train], {}
        if 'difference' in inputs.methods:
            measured['difference'] = images[:, 0].numpy()
        if 'tbm' in inputs.methods:
            measured['tbm'] = registered_volumes(images, images, cohort.grid)
        if 'exact' in inputs.methods:
            (pull_backs,) = load_ground_truth(Path(inputs.ground_truth), 'pull_backs')
            measured['exact'] = exact_volumes(pull_backs[train], cohort.grid)
        maps = {
            f'{region}.{method}': correlation_map(values[:, cohort.mask], volumes[train])
            for method, values in measured.items()
            for region, volumes in read_volumes(inputs.volumes).items()
        }
        self._results['maps'] = save_maps(runtime, inputs.index, maps)
        return runtime


def read_volumes(path: str | Path) -> dict[str, np.ndarray]:
    """Read the log-volumes (N,) of the images by region."""
    content = json.loads(Path(path).read_text(encoding='utf-8'))
    return {region: np.array(values) for region, values in content.items()}


def save_maps(runtime, fold: int, maps: dict[str, np.ndarray]) -> str:
    """Write maps (V,) by region and method, and return the path."""
    from bids_interp.bench.method_maps import FoldMaps

    path = Path(runtime.cwd) / 'maps.safetensors'
    kept = {name: values[None].astype(np.float32) for name, values in maps.items()}
    FoldMaps(fold, np.array([0]), kept).save(path)
    return str(path)


class _ScoreInputSpec(BaseInterfaceInputSpec):
    cohort = File(exists=True, mandatory=True, desc='output of PlantScenario')
    maps = InputMultiObject(File(exists=True), mandatory=True, desc='maps of all folds')
    correlations = traits.List(traits.Float, desc='outputs of RegressRegion')
    design = traits.Dict(mandatory=True, desc='ScenarioDesign as plain types')


class _ScoreOutputSpec(TraitedSpec):
    scores = File(exists=True, desc='JSON of ScenarioRecord')
    images = File(exists=True, desc='JSON: peak of each map')
    pictures = File(exists=True, desc='maps and mean image')


class ScoreRegions(SimpleInterface):
    """Count the regions in which their own map peaks."""

    input_spec = _ScoreInputSpec
    output_spec = _ScoreOutputSpec

    def _run_interface(self, runtime):
        from safetensors.numpy import save_file

        from bids_interp.bench.method_maps import FoldMaps, join_folds
        from bids_interp.bench.records import ScenarioDesign, ScenarioRecord
        from bids_interp.bench.volume_regression import find_peak, region_scores
        from bids_interp.training.cohort.storage import load_cohort

        inputs, folder = self.inputs, Path(runtime.cwd)
        cohort = load_cohort(Path(inputs.cohort))
        joined = join_folds([FoldMaps.load(Path(path)) for path in inputs.maps])
        peaks, pictures = [], {'brain': cohort.images[:, 0].mean(dim=0).numpy()}
        for name, found in joined.items():
            region, _, method = name.partition('.')
            mean = found.values.mean(axis=0)
            peaks.append(find_peak(mean, cohort.mask, cohort.grid, region, method))
            pictures[name] = np.zeros(cohort.mask.shape, np.float32)
            pictures[name][cohort.mask] = mean
        record = ScenarioRecord(
            **vars(from_plain(ScenarioDesign, inputs.design)),
            null=False,
            n_images=len(cohort),
            n_brains=len(np.unique(cohort.families)),
            n_explained=0,
            grid=cohort.grid,
            skipped={},
            rows=region_scores(peaks, list(inputs.correlations or [])),
        )
        self._results['scores'] = str(write_json(folder / 'scores.json', to_plain(record)))
        self._results['images'] = str(write_json(folder / 'images.json', to_plain(peaks)))
        save_file(pictures, folder / 'pictures.safetensors')
        self._results['pictures'] = str(folder / 'pictures.safetensors')
        return runtime
