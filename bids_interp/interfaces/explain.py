"""Interfaces of the explain workflow, which call :mod:`bids_interp.models.explain`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    OutputMultiObject,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from bids_interp.bids.explain_files import field_files, realised_files, stem_of
from bids_interp.bids.names import dose_label
from bids_interp.bids.prediction import (
    Answer,
    FieldFacts,
    FoldAnswer,
    Membership,
    Prediction,
    RemeasuredFacts,
)
from bids_interp.bids.write.atomic import write_json, write_tsv
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.constants import ANATOMY_MM, DIRECTIONS
from bids_interp.errors import ImageError, ModelError
from bids_interp.interfaces.model_inputs import (
    ModelInputSpec,
    ModelInterface,
    NetworkInputSpec,
    load_fields,
    load_image,
    load_input,
    load_matrix,
)
from bids_interp.records import read_record, to_plain

if TYPE_CHECKING:
    from bids_interp.evaluation.remeasure import Remeasurement
    from bids_interp.models.explain.explainer import Response
    from bids_interp.spatial import Grid

logger = logging.getLogger('bids_interp')


class _PrepareInputInputSpec(ModelInputSpec):
    t1w = File(exists=True, mandatory=True, desc='source image, to recognise training images')
    dataset_key = traits.Str(mandatory=True, desc='DOI or name of the input dataset')
    participant = traits.Str(mandatory=True, desc='label without sub-')
    brain = File(exists=True, mandatory=True, desc='native brain, zero outside')
    t1w_preproc = File(exists=True, mandatory=True, desc='the same image with the head')
    native_to_template = File(exists=True, mandatory=True, desc='JSON: 4 x 4, RAS+ mm')


class _PrepareInputOutputSpec(TraitedSpec):
    model_input = File(exists=True, desc='brain on the grid of the model, normalised')
    membership = File(exists=True, desc='JSON: InTrainingSet, FoldsUsed, HeldOut')


class PrepareInput(ModelInterface):
    """Resample a brain to the grid of the model, and select the folds that may explain it."""

    input_spec = _PrepareInputInputSpec
    output_spec = _PrepareInputOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.models.bundle.fingerprint import image_fingerprint
        from bids_interp.models.explain.explainer import prepare_input

        bundle = self.open_model()
        inputs, skull = self.inputs, bundle.config.preprocessing.skull
        brain, native = load_input(inputs.brain, inputs.t1w_preproc, skull, inputs.t1w)
        image = prepare_input(brain, native, load_matrix(self.inputs.native_to_template), bundle)
        membership = bundle.membership(
            image,
            image_fingerprint(self.inputs.t1w),
            self.inputs.dataset_key,
            self.inputs.participant,
        )
        self._results['model_input'] = self.path(runtime, 'model_input.nii.gz')
        write_nifti(
            self._results['model_input'], image[0, 0].numpy(), bundle.grid.affine, template=True
        )
        self._results['membership'] = self.path(runtime, 'membership.json')
        write_json(self._results['membership'], to_plain(membership))
        return runtime


class _ClassifyOutputSpec(TraitedSpec):
    observed = File(exists=True, desc='JSON: prediction of every fold, mean and standard deviation')


class Classify(ModelInterface):
    """Classify the observed image with every fold."""

    input_spec = NetworkInputSpec
    output_spec = _ClassifyOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.models.explain.explainer import classify

        bundle = self.open_model()
        image, folds, device = self.network_input()
        answers = []
        for answer in classify(bundle, image, folds, device):
            models = bundle.fold(answer.fold, device)
            answers.append(
                FoldAnswer(
                    answer.fold,
                    answer.logit,
                    answer.probability,
                    temperature=models.temperature,
                    intercept=models.intercept,
                )
            )
        self._results['observed'] = self.path(runtime, 'observed.json')
        write_json(self._results['observed'], to_plain(mean_answer(answers)))
        return runtime


def mean_answer(folds: Sequence[FoldAnswer]) -> Answer:
    """Return the predictions of the folds with their mean and standard deviation.

    Examples
    --------
    >>> mean_answer([FoldAnswer(0, 1.0, 0.75), FoldAnswer(1, 2.0, 0.85)]).logit_mean
    1.5
    """
    logits = np.array([answer.logit for answer in folds])
    probabilities = np.array([answer.probability for answer in folds], dtype=float)
    return Answer(
        logit_mean=float(logits.mean()),
        logit_sd=float(logits.std()),
        probability_mean=float(probabilities.mean()),
        probability_sd=float(probabilities.std()),
        folds=folds,
    )


class _SimulateOutputSpec(TraitedSpec):
    velocity = OutputMultiObject(File(exists=True), desc='velocity fields: inject, remove')
    velocity_facts = File(exists=True, desc='JSON: an object for each direction')


class Simulate(ModelInterface):
    """Compute the velocity fields of every fold, and average them."""

    input_spec = NetworkInputSpec
    output_spec = _SimulateOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.models.explain.explainer import simulate

        bundle = self.open_model()
        simulation = simulate(bundle, *self.network_input())
        spread = simulation.velocity_sd
        paths, facts = [], {}
        for file in field_files():
            direction = file.direction
            velocity = simulation.velocity[direction]
            paths.append(self.path(runtime, f'{file.stem}.nii.gz'))
            write_nifti(paths[-1], velocity, simulation.grid.affine, template=True)
            length = np.sqrt((velocity**2).sum(axis=0))[bundle.brain_mask]
            sd = np.sqrt((spread[direction] ** 2).sum(axis=0))[bundle.brain_mask]
            facts[file.label] = FieldFacts(
                float(length.max()), float(length.mean()), float(sd.mean())
            )
        self._results['velocity'] = paths
        self._results['velocity_facts'] = self.path(runtime, 'velocity_facts.json')
        write_json(self._results['velocity_facts'], to_plain(facts))
        return runtime


class _CounterfactualInputSpec(NetworkInputSpec):
    velocity = InputMultiObject(File(exists=True), mandatory=True, desc='inject, remove')
    observed = File(exists=True, mandatory=True, desc='JSON of Classify')
    doses = traits.List(traits.Float, mandatory=True, desc='doses of the simulated images')


class _CounterfactualOutputSpec(TraitedSpec):
    prediction = File(exists=True, desc='JSON: predictions before and after each simulation')
    dose_response = File(exists=True, desc='TSV: prediction of every fold along the dose')
    counterfactual = File(exists=True, desc='TSV: quality of each simulation')


class Counterfactual(ModelInterface):
    """Measure the effect of the simulations on the prediction, and their quality."""

    input_spec = _CounterfactualInputSpec
    output_spec = _CounterfactualOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.models.explain import explainer
        from bids_interp.models.explain.counterfactuals import counterfactual_metrics
        from bids_interp.models.explain.pattern_facts import pattern_facts

        bundle = self.open_model()
        image, folds, device = self.network_input()
        fields = load_fields(self.inputs.velocity)
        # Only the mean was written; a single fold cannot be judged by others.
        single = explainer.simulate(bundle, image, folds, device) if len(folds) > 1 else None
        simulation = explainer.Simulation(
            bundle.grid,
            {direction: field for direction, (field, _) in fields.items()},
            single.per_fold if single else {},
            folds,
            bundle.field_kind,
        )
        doses = list(self.inputs.doses)
        along = sorted({*explainer.DOSE_GRID, *doses})
        responses = explainer.dose_response(bundle, image, simulation, along, device)
        metrics = counterfactual_metrics(bundle, image, simulation, doses, device, responses)
        for name, rows in (('dose_response', responses), ('counterfactual', metrics)):
            self._results[name] = self.path(runtime, f'{name}.tsv')
            write_tsv(self._results[name], [to_plain(row) for row in rows])
        observed = read_record(Answer, Path(self.inputs.observed), ModelError)
        membership = read_record(Membership, Path(self.inputs.membership), ModelError)
        prediction = Prediction(
            target=bundle.target,
            warranted=bundle.warranted,
            in_training=membership.in_training,
            folds=membership.folds,
            held_out=membership.held_out,
            observed=observed,
            simulated=after_simulation(responses, observed, doses),
            pattern=pattern_facts(bundle, image, folds, device),
        )
        self._results['prediction'] = self.path(runtime, 'prediction.json')
        write_json(self._results['prediction'], to_plain(prediction))
        return runtime


def after_simulation(
    responses: Sequence[Response], observed: Answer, doses: Sequence[float]
) -> Mapping[str, Answer]:
    """Return the predictions after each simulation, by direction and dose as in file names.

    Parameters
    ----------
    responses : sequence of Response
        Responses of :func:`bids_interp.models.explain.explainer.dose_response`.
    observed : Answer
        Prediction for the observed image, with the calibration of each fold.
    doses : sequence of float
        Doses to list.

    Returns
    -------
    mapping
        Predictions by ``inject100`` etc.
    """
    calibrations = {
        answer.fold: (answer.temperature, answer.intercept) for answer in observed.folds
    }
    return {
        dose_label(direction, dose): mean_answer(
            [
                FoldAnswer(
                    row.fold,
                    row.logit,
                    row.probability,
                    row.shift,
                    row.shift_over_class_gap,
                    *calibrations[row.fold],
                )
                for row in responses
                if row.direction == direction and row.dose == dose
            ]
        )
        for direction in DIRECTIONS
        for dose in doses
    }


#: Dose at which simulated images are measured again.
REMEASURED_DOSE = 1.0
REMEASURED_COLUMNS = ('direction', 'dose', 'region', 'side', 'claimed_pct', 'remeasured_pct')


class _RemeasureInputSpec(BaseInterfaceInputSpec):
    brain = File(exists=True, mandatory=True, desc='brain on the 1 mm grid of the template')
    mask = File(exists=True, mandatory=True, desc='its brain mask, 0 and 1')
    simulated = InputMultiObject(File(exists=True), mandatory=True, desc='simulated brains')
    log_jacobian = InputMultiObject(File(exists=True), mandatory=True, desc='log-Jacobian maps')
    template = traits.Str(mandatory=True, desc='name of the template')
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of ANTs')
    random_seed = traits.Int(0, usedefault=True, desc='seed of ANTs')


class _RemeasureOutputSpec(TraitedSpec):
    remeasured = File(exists=True, desc='TSV: claimed and re-measured change of each region')
    remeasured_facts = File(exists=True, desc='JSON: an object for each direction')


class Remeasure(SimpleInterface):
    """Measure the simulated brains at dose 1 by a registration that does not know the model.

    If a registration gives up, its changes are n/a, with a warning. Regions are in MNI space; in
    another template there are none.
    """

    input_spec = _RemeasureInputSpec
    output_spec = _RemeasureOutputSpec

    def _run_interface(self, runtime):
        rows, facts = [], {}
        for label, direction, found in self._measured():
            rows += remeasured_rows(direction, found)
            agreement = found.agreement
            facts[label] = RemeasuredFacts(agreement.slope, agreement.r, len(found.regions))
        folder = Path(runtime.cwd)
        table = write_tsv(folder / 'remeasured.tsv', rows, REMEASURED_COLUMNS)
        content = write_json(folder / 'remeasured_facts.json', to_plain(facts))
        self._results = {'remeasured': str(table), 'remeasured_facts': str(content)}
        return runtime

    def _measured(self) -> Iterator[tuple[str, str, Remeasurement]]:
        """Yield label, direction and changes of each simulation."""
        from bids_interp.evaluation.remeasure import Remeasurement, regional_changes, remeasure
        from bids_interp.phantom.regions.coarse import shown_masks

        brain, grid = self._coarse(self.inputs.brain)
        mask, _ = self._coarse(self.inputs.mask)
        is_mni = self.inputs.template.startswith('MNI')
        regions = {name: one & (mask > 0.5) for name, one in shown_masks(grid).items() if is_mni}
        regions = {name: one for name, one in regions.items() if one.any()}
        paths = {stem_of(path): path for path in self.inputs.simulated + self.inputs.log_jacobian}
        files = [
            realised_files(quantity, 'template', [REMEASURED_DOSE])
            for quantity in ('simulated', 'logjacobian')
        ]
        for image_file, map_file in zip(*files, strict=True):
            simulated, claimed = (
                self._coarse(paths[file.stem])[0] for file in (image_file, map_file)
            )
            try:
                found = remeasure(
                    brain,
                    simulated,
                    claimed,
                    grid,
                    regions,
                    threads=self.inputs.num_threads,
                    seed=self.inputs.random_seed,
                )
            except ImageError as error:
                logger.warning(
                    '%s The simulation %s is not measured again.', error.message, map_file.label
                )
                told = regional_changes(claimed, regions)
                found = Remeasurement(tuple(regions), told, np.full(len(told), np.nan))
            yield map_file.label, map_file.direction, found

    def _coarse(self, path: str) -> tuple[np.ndarray, Grid]:
        """Return an image on the grid on which the volumes of scans are measured."""
        import torch

        from bids_interp.spatial import resample

        data, fine = load_image(path, self.inputs.template)
        grid = fine.with_spacing(ANATOMY_MM)
        volume = torch.from_numpy(data)[None, None]
        return resample(volume, fine, grid, antialias=True)[0, 0].numpy(), grid


def remeasured_rows(direction: str, found: Remeasurement) -> list[dict[str, Any]]:
    """Return one row per region of a simulation at dose 1, in percent."""
    return [
        {
            'direction': direction,
            'dose': REMEASURED_DOSE,
            'region': name.partition(':')[0],
            'side': name.partition(':')[2],
            'claimed_pct': 100 * float(claimed),
            'remeasured_pct': 100 * float(measured),
        }
        for name, claimed, measured in zip(
            found.regions, found.claimed, found.measured, strict=True
        )
    ]
