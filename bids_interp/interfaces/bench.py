"""Benchmark interfaces that make the data and the classifiers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    InputMultiObject,
    OutputMultiObject,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from bids_interp.interfaces.model_inputs import load_image


class _ChangesInputSpec(BaseInterfaceInputSpec):
    scenario = traits.Str(mandatory=True, desc='name of the scenario')
    strength = traits.Str(mandatory=True, desc='mild, moderate or strong')
    template = traits.Str(mandatory=True, desc='name of the brain template')
    spacing_mm = traits.Float(mandatory=True, desc='voxel size of the model')
    offline = traits.Bool(True, usedefault=True, nohash=True, desc='do not download templates')


class _ChangesOutputSpec(TraitedSpec):
    changes = OutputMultiObject(File(exists=True), desc='NPZ of the change of each subtype')


class FitChanges(SimpleInterface):
    """Compute the changes of a scenario, which all seeds share."""

    input_spec = _ChangesInputSpec
    output_spec = _ChangesOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.anatomical.templates import brain_template
        from bids_interp.bench.planted_cohort import fit_scenario
        from bids_interp.phantom.inject.planted_scan import save_change
        from bids_interp.phantom.inject.scenarios import scenario
        from bids_interp.spatial import Grid

        template = brain_template(self.inputs.template, offline=self.inputs.offline)
        changes = fit_scenario(
            scenario(self.inputs.scenario, self.inputs.strength),
            Grid.from_image(template, self.inputs.template),
            self.inputs.spacing_mm,
        )
        paths = [Path(runtime.cwd) / f'change-{index}.npz' for index in range(len(changes))]
        for path, change in zip(paths, changes, strict=True):
            save_change(path, change)
        self._results['changes'] = [str(path) for path in paths]
        return runtime


class _PlantInputSpec(BaseInterfaceInputSpec):
    brains = File(
        exists=True, mandatory=True, desc='JSON: label, T1w image, mask and transform of each brain'
    )
    changes = InputMultiObject(File(exists=True), mandatory=True, desc='output of FitChanges')
    input_space = File(exists=True, mandatory=True, desc='grid, mask and intensities of the model')
    scenario = traits.Str(mandatory=True, desc='name of the scenario')
    strength = traits.Str(mandatory=True, desc='mild, moderate or strong')
    replicates = traits.Int(mandatory=True, desc='images per brain')
    anatomy_mm = traits.Float(mandatory=True, desc='size of the random anatomies')
    n_folds = traits.Int(mandatory=True, desc='number of folds')
    paper = traits.Dict(mandatory=True, desc='preprocessing of the preset ipmi2021')
    untouched = traits.Bool(False, usedefault=True, desc='sham warp for patients only')
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of PyTorch')
    random_seed = traits.Int(mandatory=True, desc='seed of groups, warps and folds')


class _PlantOutputSpec(TraitedSpec):
    cohort = File(exists=True, desc='images and labels')
    paper_cohort = File(exists=True, desc='the same images with the preprocessing of ipmi2021')
    folds = File(exists=True, desc='indices of the folds')
    ground_truth = File(exists=True, desc='truths and pull-backs')


class PlantScenario(SimpleInterface):
    """Make the images of a scenario and split their brains into folds."""

    input_spec = _PlantInputSpec
    output_spec = _PlantOutputSpec

    def _run_interface(self, runtime):
        from dataclasses import replace

        import torch

        from bids_interp.bench.planted_cohort import plant_cohort, save_ground_truth
        from bids_interp.models.preprocessing import Preprocessing
        from bids_interp.phantom.inject.planted_scan import load_change
        from bids_interp.phantom.inject.scenarios import scenario
        from bids_interp.training.cohort.folds import make_folds
        from bids_interp.training.cohort.storage import load_input_space, save_cohort, save_folds

        inputs = self.inputs
        torch.set_num_threads(inputs.num_threads)
        grid, mask, preprocessing = load_input_space(Path(inputs.input_space))
        chosen = scenario(inputs.scenario, inputs.strength)
        planted = plant_cohort(
            read_brains(Path(inputs.brains)),
            replace(chosen, null=True) if inputs.untouched else chosen,
            [load_change(path) for path in inputs.changes],
            grid,
            mask,
            Preprocessing(normalisation='none'),
            replicates=inputs.replicates,
            anatomy_mm=inputs.anatomy_mm,
            seed=inputs.random_seed,
            untouched=inputs.untouched,
        )
        raw = planted.cohort
        names = ('cohort', 'paper_cohort', 'folds', 'ground_truth')
        paths = {name: Path(runtime.cwd) / f'{name}.safetensors' for name in names}
        for name, steps in (
            ('cohort', preprocessing),
            ('paper_cohort', Preprocessing(**inputs.paper)),
        ):
            images = torch.cat([steps.normalise(image[None]) for image in raw.images])
            save_cohort(paths[name], replace(raw, images=images, preprocessing=steps))
        folds = make_folds(
            raw.labels, raw.families, inputs.n_folds, inputs.random_seed, names=raw.target.classes
        )
        save_folds(paths['folds'], folds)
        save_ground_truth(paths['ground_truth'], planted)
        self._results.update({name: str(path) for name, path in paths.items()})
        return runtime


def read_brains(path: Path) -> list[Any]:
    """Read the brains of a table, each cropped to its mask."""
    from bids_interp.bench.planted_cohort import Brain

    brains = []
    for entry in json.loads(path.read_text(encoding='utf-8')):
        data, grid = load_image(entry['t1w'], 'T1w')
        inside = load_image(entry['mask'])[0] > 0
        transform = json.loads(Path(entry['transform']).read_text(encoding='utf-8'))
        matrix = np.array(transform['Registration']['native_to_template'])
        voxels = np.argwhere(inside)
        start = np.maximum(voxels.min(axis=0) - 1, 0)
        stop = np.minimum(voxels.max(axis=0) + 2, grid.shape)
        box = tuple(slice(low, high) for low, high in zip(start, stop, strict=True))
        brains.append(Brain(entry['label'], (data * inside)[box], grid.crop(start, stop), matrix))
    return brains


class _JudgeInputSpec(BaseInterfaceInputSpec):
    cohort = File(exists=True, mandatory=True, desc='output of PlantScenario')
    folds = File(exists=True, mandatory=True, desc='output of PlantScenario')
    index = traits.Int(mandatory=True, desc='number of the fold')
    recipe = traits.Dict(mandatory=True, desc='arguments of make_recipe')
    recipe_digest = traits.Str(mandatory=True, desc='digest of the recipe')
    directory = Directory(mandatory=True, nohash=True, desc='folder for checkpoints')
    device = traits.Str('cpu', usedefault=True, nohash=True, desc='cpu, cuda or cuda:N')
    use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc='wait for a free GPU')
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of PyTorch')
    random_seed = traits.Int(mandatory=True, desc='random seed')


class _JudgeOutputSpec(TraitedSpec):
    result = File(exists=True, desc='network and its predictions')


class TrainJudge(SimpleInterface):
    """Train a classifier of another family, which judges the simulations of a fold."""

    input_spec = _JudgeInputSpec
    output_spec = _JudgeOutputSpec

    def _run_interface(self, runtime):
        import torch

        from bids_interp.device import resolve_device
        from bids_interp.interfaces.train import _log_line
        from bids_interp.models.bundle.fold_metrics import FoldMetrics
        from bids_interp.models.bundle.writer import TrainedFold
        from bids_interp.training.calibration import class_gaps
        from bids_interp.training.classifier import predict_outputs
        from bids_interp.training.cohort.storage import load_cohort, load_folds, save_result
        from bids_interp.training.fold import FoldResult, FoldRun, FoldWorkspace, train_classifier
        from bids_interp.training.recipe import make_recipe

        inputs = self.inputs
        torch.set_num_threads(inputs.num_threads)
        cohort = load_cohort(Path(inputs.cohort))
        fold = load_folds(Path(inputs.folds))[inputs.index]
        directory = Path(inputs.directory) / f'fold-{inputs.index}' / inputs.recipe_digest
        workspace = FoldWorkspace(directory, resolve_device(inputs.device), 1, _log_line)
        label = f'fold {inputs.index + 1}, judge'
        run = FoldRun(cohort, fold, inputs.index, workspace, inputs.random_seed, label)
        recipe = make_recipe(**inputs.recipe).classifier
        judge = train_classifier(run, recipe, directory, run.seed_of('judge', inputs.index))
        network = judge.network
        outputs = predict_outputs(judge.held_out, cohort.images[fold.validation])
        gaps = class_gaps(outputs, cohort.labels[fold.validation], cohort.target)
        weights = {name: value.clone() for name, value in network.state_dict().items()}
        sizes = FoldMetrics(len(fold.train), len(fold.validation), len(fold.test))
        trained = TrainedFold(weights, {}, 1.0, gaps[0], sizes)
        path = Path(runtime.cwd) / 'result.safetensors'
        predictions = predict_outputs(network, cohort.images[fold.test])
        save_result(path, FoldResult(trained, predictions, {}))
        self._results['result'] = str(path)
        return runtime
