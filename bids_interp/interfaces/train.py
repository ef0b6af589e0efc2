"""Interfaces of the train workflow, which call functions of :mod:`bids_interp.training`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

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

from bids_interp.bids.write.atomic import write_json
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.records import from_plain, to_plain


class _TakePreparedInputSpec(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc='preprocessed image of an earlier run')
    mask = File(exists=True, mandatory=True, desc='its brain mask')
    transform = File(exists=True, mandatory=True, desc='sidecar of its transform')


class _TakePreparedOutputSpec(TraitedSpec):
    t1w_preproc = File(exists=True, desc='native image with the head')
    brain = File(exists=True, desc='native brain, 0 outside')
    native_to_template = File(exists=True, desc='JSON: 4 x 4, world RAS mm')


class TakePrepared(SimpleInterface):
    """Read a prepared brain from the output directory."""

    input_spec = _TakePreparedInputSpec
    output_spec = _TakePreparedOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.interfaces.model_inputs import load_image

        data, grid = load_image(self.inputs.t1w)
        inside, _ = load_image(self.inputs.mask)
        brain = Path(runtime.cwd) / 'brain.nii.gz'
        write_nifti(brain, data * (inside > 0), grid.affine, template=False)
        transform = json.loads(Path(self.inputs.transform).read_text(encoding='utf-8'))
        matrix = write_json(Path(runtime.cwd) / 'matrix.json', transform['Registration'])
        self._results['t1w_preproc'] = self.inputs.t1w
        self._results.update(brain=str(brain), native_to_template=str(matrix))
        return runtime


class _TrainingInputInputSpec(BaseInterfaceInputSpec):
    brain = File(exists=True, mandatory=True, desc='native brain, zero outside')
    t1w_preproc = File(exists=True, mandatory=True, desc='the same image with the head')
    native_to_template = File(exists=True, mandatory=True, desc='JSON: 4 x 4, RAS+ mm')
    input_space = File(exists=True, mandatory=True, desc='grid, mask and intensities of the model')
    out_file = traits.Str(mandatory=True, desc='output file (.safetensors)')


class _TrainingInputOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc='input of the classifier')


class TrainingInput(SimpleInterface):
    """Resample a brain to the grid of the model, as the participant level does."""

    input_spec = _TrainingInputInputSpec
    output_spec = _TrainingInputOutputSpec
    # The file may have been removed since the last run with this work directory.
    _always_run = True

    def _run_interface(self, runtime):
        from bids_interp.interfaces.model_inputs import load_input, load_matrix
        from bids_interp.models.preprocessing import to_model_grid
        from bids_interp.training.cohort.storage import load_input_space, save_input

        grid, mask, preprocessing = load_input_space(Path(self.inputs.input_space))
        head = self.inputs.t1w_preproc
        brain, native = load_input(self.inputs.brain, head, preprocessing.skull, head)
        matrix = load_matrix(self.inputs.native_to_template)
        image = to_model_grid(brain, native, matrix, grid, mask, preprocessing)
        save_input(Path(self.inputs.out_file), image)
        self._results['out_file'] = self.inputs.out_file
        return runtime


class _GatherInputSpec(BaseInterfaceInputSpec):
    inputs = InputMultiObject(File(exists=True), mandatory=True, desc='inputs, in order')
    input_space = File(exists=True, mandatory=True, desc='grid, mask and intensities of the model')
    table = File(exists=True, mandatory=True, desc='JSON: labels, families, keys and covariates')
    n_folds = traits.Int(mandatory=True, desc='number of folds')
    random_seed = traits.Int(mandatory=True, desc='seed of the folds')


class _GatherOutputSpec(TraitedSpec):
    cohort = File(exists=True, desc='images and labels')
    folds = File(exists=True, desc='indices of the folds')


class GatherCohort(SimpleInterface):
    """Gather all images and split them into folds."""

    input_spec = _GatherInputSpec
    output_spec = _GatherOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.training.cohort.gather import gather_cohort, split_cohort
        from bids_interp.training.cohort.storage import save_cohort, save_folds

        table = json.loads(Path(self.inputs.table).read_text(encoding='utf-8'))
        cohort = gather_cohort(
            [Path(path) for path in self.inputs.inputs], Path(self.inputs.input_space), table
        )
        folds = split_cohort(cohort, table, self.inputs.n_folds, self.inputs.random_seed)
        files = {name: Path(runtime.cwd) / f'{name}.safetensors' for name in ('cohort', 'folds')}
        save_cohort(files['cohort'], cohort)
        save_folds(files['folds'], folds)
        self._results.update({name: str(path) for name, path in files.items()})
        return runtime


class _FoldInputSpec(BaseInterfaceInputSpec):
    cohort = File(exists=True, mandatory=True, desc='output of GatherCohort')
    folds = File(exists=True, mandatory=True, desc='output of GatherCohort')
    index = traits.Int(mandatory=True, desc='number of the fold')
    recipe = traits.Dict(mandatory=True, desc='arguments of make_recipe')
    recipe_digest = traits.Str(mandatory=True, desc='digest of the recipe')
    classifier = traits.Dict(desc='source of a trained classifier')
    classifier_card = File(exists=True, desc='JSON card of the classifier')
    allow_code = traits.Bool(
        False, usedefault=True, nohash=True, desc='allow the code of the classifier'
    )
    directory = Directory(mandatory=True, nohash=True, desc='folder for checkpoints')
    device = traits.Str('cpu', usedefault=True, nohash=True, desc='cpu, cuda or cuda:N')
    use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc='wait for a free GPU')
    n_devices = traits.Int(1, usedefault=True, nohash=True, desc='processes that share a batch')
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of PyTorch')
    random_seed = traits.Int(mandatory=True, desc='random seed')


class _TrainFoldInputSpec(_FoldInputSpec):
    classifiers = InputMultiObject(
        File(exists=True), desc='outputs of TrainClassifiers for this recipe, in order'
    )


class _FoldOutputSpec(TraitedSpec):
    result = File(exists=True, desc='networks, predictions and maps')


class TrainFold(SimpleInterface):
    """Train classifier and simulator of one fold; an interrupted training resumes."""

    input_spec = _TrainFoldInputSpec
    output_spec = _FoldOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.training.cohort.storage import load_classifiers, save_result
        from bids_interp.training.fold import train_fold

        arguments, inputs = self.fold_arguments(), self.inputs
        if isdefined(inputs.classifiers):
            file = Path(inputs.classifiers[inputs.index])
            recipe = arguments['recipe'].classifier
            arguments['classifiers'] = load_classifiers(file, recipe, arguments['cohort'])
        path = Path(runtime.cwd) / 'result.safetensors'
        save_result(path, train_fold(**arguments))
        self._results['result'] = str(path)
        return runtime

    def fold_arguments(self) -> dict[str, Any]:
        """Load the arguments that every computation on a fold takes."""
        import torch

        from bids_interp.device import resolve_device
        from bids_interp.training.cohort.storage import load_cohort, load_folds
        from bids_interp.training.fold import FoldWorkspace
        from bids_interp.training.recipe import make_recipe

        inputs = self.inputs
        torch.set_num_threads(inputs.num_threads)
        return {
            'cohort': load_cohort(Path(inputs.cohort)),
            'fold': load_folds(Path(inputs.folds))[inputs.index],
            'index': inputs.index,
            'recipe': make_recipe(**inputs.recipe),
            'workspace': FoldWorkspace(
                Path(inputs.directory) / f'fold-{inputs.index}',
                resolve_device(inputs.device),
                inputs.n_devices,
                _log_line,
            ),
            'seed': inputs.random_seed,
            'external': self._external(),
        }

    def _external(self) -> Any:
        if not isdefined(self.inputs.classifier):
            return None
        from bids_interp.models.external.card import ClassifierCard
        from bids_interp.models.external.loader import ExternalSource, load_external

        source = ExternalSource(**self.inputs.classifier)
        card = ClassifierCard.read(Path(self.inputs.classifier_card))
        return load_external(source, card, self.inputs.allow_code)


class _ClassifiersOutputSpec(TraitedSpec):
    classifiers = File(exists=True, desc='classifiers of the fold')


class TrainClassifiers(TrainFold):
    """Train the classifiers of one fold without a simulator, to compare them with others."""

    input_spec = _FoldInputSpec
    output_spec = _ClassifiersOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.training.cohort.storage import save_classifiers
        from bids_interp.training.fold import FoldRun, train_fold_classifiers

        arguments = self.fold_arguments()
        recipe = arguments.pop('recipe')
        del arguments['external']
        run = FoldRun(**arguments, name=f'fold {self.inputs.index + 1}')
        path = Path(runtime.cwd) / 'classifiers.safetensors'
        save_classifiers(path, train_fold_classifiers(run, recipe))
        self._results['classifiers'] = str(path)
        return runtime


class _ChooseInputSpec(BaseInterfaceInputSpec):
    cohort = File(exists=True, mandatory=True, desc='output of GatherCohort')
    folds = File(exists=True, mandatory=True, desc='output of GatherCohort')
    candidates = traits.List(
        traits.Dict, mandatory=True, desc='recipe, recipe_digest and facts of each candidate'
    )
    classifiers = InputMultiObject(
        File(exists=True),
        mandatory=True,
        desc='outputs of TrainClassifiers: all folds of the first candidate, then of the next',
    )
    left_out = traits.Dict(desc='reason for each classifier that was not trained')


class _ChooseOutputSpec(TraitedSpec):
    recipe = traits.Dict(desc='arguments of make_recipe')
    recipe_digest = traits.Str(desc='digest of the recipe')
    facts = traits.Dict(desc='ModelFacts as plain types')
    classifiers = traits.List(File(exists=True), desc='classifiers of each fold')
    choice = traits.Dict(desc='ClassifierChoice as plain types')


class ChooseClassifier(SimpleInterface):
    """Choose the classifier that is explained in all folds."""

    input_spec = _ChooseInputSpec
    output_spec = _ChooseOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.evaluation.classifier_choice import choose_classifier
        from bids_interp.training.cohort.storage import load_cohort, load_folds
        from bids_interp.training.recipe import make_recipe

        inputs = self.inputs
        cohort, folds = load_cohort(Path(inputs.cohort)), load_folds(Path(inputs.folds))
        scores, files = {}, {}
        for number, candidate in enumerate(inputs.candidates):
            recipe = make_recipe(**candidate['recipe']).classifier
            own = inputs.classifiers[number * len(folds) : (number + 1) * len(folds)]
            files[recipe.architecture] = own
            scores[recipe.architecture] = [
                self._scores(Path(file), recipe, cohort, fold)
                for file, fold in zip(own, folds, strict=True)
            ]
        left_out = inputs.left_out if isdefined(inputs.left_out) else {}
        choice = choose_classifier(scores, cohort.target, left_out)
        chosen = inputs.candidates[list(scores).index(choice.explained)]
        for candidate in choice.candidates:
            _log_line(f'{candidate.classifier}: {candidate.validation:.3f} on validation splits')
        self._results.update(chosen, classifiers=files[choice.explained], choice=to_plain(choice))
        return runtime

    def _scores(self, file: Path, recipe: Any, cohort: Any, fold: Any) -> tuple[float, float]:
        """Return the scores of one fold on its validation and test split."""
        from bids_interp.evaluation.classifier_choice import discrimination_score
        from bids_interp.models.networks.registry import joined
        from bids_interp.training.classifier import predict_outputs
        from bids_interp.training.cohort.storage import load_classifiers

        members = load_classifiers(file, recipe, cohort)
        validation, test = (
            discrimination_score(
                predict_outputs(joined(networks), cohort.images[part]),
                cohort.labels[part],
                cohort.target,
            )
            for networks, part in (
                ([member.held_out for member in members], fold.validation),
                ([member.network for member in members], fold.test),
            )
        )
        return validation, test


def _log_line(line: str) -> None:
    """Write a line from a worker process in the format of the log."""
    sys.stderr.write(f'{time.strftime("%H:%M:%S")} {line}\n')
    sys.stderr.flush()


class _AssembleInputSpec(BaseInterfaceInputSpec):
    cohort = File(exists=True, mandatory=True, desc='output of GatherCohort')
    folds = File(exists=True, mandatory=True, desc='output of GatherCohort')
    results = InputMultiObject(
        File(exists=True), mandatory=True, desc='outputs of TrainFold, in order'
    )
    table = File(exists=True, mandatory=True, desc='JSON: labels, families, keys and covariates')
    facts = traits.Dict(mandatory=True, desc='ModelFacts as plain types')
    checkpoints = Directory(
        exists=True, mandatory=True, nohash=True, desc='checkpoints of TrainFold'
    )
    bundle = traits.Str(mandatory=True, desc='folder of the bundle')
    report_dir = traits.Str(mandatory=True, desc='folder of report and tables')
    overwrite = traits.Bool(False, usedefault=True, nohash=True, desc='replace a bundle')
    classifier = traits.Dict(desc='source of a trained classifier')
    sanity = File(exists=True, desc='output of SanityFold')
    choice = traits.Dict(desc='ClassifierChoice as plain types')
    random_seed = traits.Int(mandatory=True, desc='seed of bootstrap and permutations')


class _AssembleOutputSpec(TraitedSpec):
    bundle = Directory(exists=True, desc='the bundle')
    report = File(exists=True, desc='HTML report of the training')


class AssembleModel(SimpleInterface):
    """Measure the folds together, and write bundle, tables, maps and report."""

    input_spec = _AssembleInputSpec
    output_spec = _AssembleOutputSpec
    _always_run = True

    def _run_interface(self, runtime):
        from bids_interp.models.bundle.schema import ModelFacts
        from bids_interp.reports.training.training_outputs import FinishedTraining, write_model
        from bids_interp.training.cohort.storage import (
            load_cohort,
            load_folds,
            load_result,
            load_sanity,
        )

        inputs = self.inputs
        training = FinishedTraining(
            load_cohort(Path(inputs.cohort)),
            load_folds(Path(inputs.folds)),
            [load_result(Path(path)) for path in inputs.results],
            json.loads(Path(inputs.table).read_text(encoding='utf-8')),
            inputs.random_seed,
            load_sanity(Path(inputs.sanity)) if isdefined(inputs.sanity) else None,
            inputs.choice if isdefined(inputs.choice) else None,
        )
        bundle, report = write_model(
            training,
            from_plain(ModelFacts, inputs.facts),
            bundle=inputs.bundle,
            report_dir=Path(inputs.report_dir),
            checkpoints=Path(inputs.checkpoints),
            classifier=inputs.classifier if isdefined(inputs.classifier) else None,
            overwrite=inputs.overwrite,
        )
        self._results.update(bundle=str(bundle), report=str(report))
        return runtime
