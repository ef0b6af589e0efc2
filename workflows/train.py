"""Train workflow: from T1w images with labels to a model bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.bids.read.prepared import PreparedFiles, prepared_with
from bids_interp.bids.read.query import T1wRecord
from bids_interp.bids.write.provenance import common_fields
from bids_interp.bids.write.scan_outputs import (
    ImageOutputs,
    OutputPlan,
    plan_anatomical,
    sink_inputs,
)
from bids_interp.execution.run import Run, send_crashes, workflow_name
from bids_interp.interfaces.sink import DerivativesSink
from bids_interp.interfaces.train import (
    AssembleModel,
    ChooseClassifier,
    GatherCohort,
    TakePrepared,
    TrainClassifiers,
    TrainFold,
    TrainingInput,
)
from bids_interp.records import to_plain
from bids_interp.settings import Settings
from bids_interp.workflows.anatomical import ANATOMICAL_INPUTS, anatomical_wf_of, t1w_inputnode
from bids_interp.workflows.train_sanity import add_sanity

if TYPE_CHECKING:
    from bids_interp.models.bundle.schema import ModelFacts


@dataclass(frozen=True)
class Candidate:
    """One of the classifiers among which a training chooses.

    Parameters
    ----------
    recipe, recipe_digest, facts
        See :class:`TrainInputs`.
    """

    recipe: dict[str, Any]
    recipe_digest: str
    facts: ModelFacts


@dataclass(frozen=True)
class TrainInputs:
    """Inputs, recipe and outputs of a training.

    Parameters
    ----------
    recipe : dict
        Arguments of :func:`bids_interp.training.recipe.make_recipe`.
    recipe_digest : str
        Digest of that recipe.
    n_folds : int
        Number of folds.
    input_space, table : pathlib.Path
        Grid, mask and intensities; labels, families, keys and covariates.
    inputs : list of pathlib.Path
        Inputs of the classifier, in the order of the table.
    checkpoints : pathlib.Path
        Folder for checkpoints.
    bundle, report_dir : pathlib.Path
        Folders of the model and of its report.
    facts : ModelFacts
        Name, networks and settings, for the configuration of the bundle.
    classifier : dict, optional
        Source of a given classifier.
    candidates : tuple of Candidate
        Classifiers to compare, the preferred one first. The best one replaces ``recipe``,
        ``recipe_digest`` and ``facts``.
    left_out : dict
        Reason for each classifier that is not a candidate.
    """

    recipe: dict[str, Any]
    recipe_digest: str
    n_folds: int
    input_space: Path
    table: Path
    inputs: list[Path]
    checkpoints: Path
    bundle: Path
    report_dir: Path
    facts: ModelFacts
    classifier: dict[str, Any] | None = None
    candidates: tuple[Candidate, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)


def init_training_inputs_wf(
    *,
    settings: Settings,
    records: Sequence[T1wRecord],
    prepared: dict[str, PreparedFiles],
    template: str,
    input_space: Path,
    inputs_dir: Path,
    run: Run,
    base_dir: Path,
    name: str = 'training_inputs_wf',
) -> Workflow:
    """Resample every T1w image to the grid of the model, independently of the others.

    Parameters
    ----------
    settings : Settings
        Settings of the user.
    records : sequence of T1wRecord
        Images.
    prepared : dict
        Brains in the output directory that an earlier run has prepared, by the prefix of the image.
    template : str
        Template of the model.
    input_space : pathlib.Path
        Grid, mask and intensities of the model.
    inputs_dir : pathlib.Path
        Folder of the inputs, ``<prefix>.safetensors``.
    run : Run
        Device, processes and threads.
    base_dir : pathlib.Path
        Work directory of nipype.
    name : str
        Name of the workflow.
    """
    workflow = Workflow(name=name)
    workflow.base_dir = str(base_dir)
    for record in records:
        training_input = pe.Node(
            TrainingInput(
                input_space=str(input_space),
                out_file=str(inputs_dir / f'{record.prefix}.safetensors'),
            ),
            name='training_input',
            mem_gb=1.0,
        )
        found = prepared.get(record.prefix)
        if found is None:
            single_wf = _init_new_input_wf(settings, record, training_input, template, run)
        else:
            single_wf = _init_prepared_input_wf(found, training_input, workflow_name(record.prefix))
        send_crashes(single_wf, run.log_dir(record.subject))
        workflow.add_nodes([single_wf])
    return workflow


def _init_prepared_input_wf(
    prepared: PreparedFiles, training_input: pe.Node, name: str
) -> Workflow:
    """Use a brain that an earlier run has prepared."""
    workflow = Workflow(name=name)
    take_prepared = pe.Node(
        TakePrepared(
            t1w=str(prepared.t1w), mask=str(prepared.mask), transform=str(prepared.transform)
        ),
        name='take_prepared',
        mem_gb=0.5,
    )
    fields = [(name, name) for name in ('brain', 't1w_preproc', 'native_to_template')]
    workflow.connect([(take_prepared, training_input, fields)])
    return workflow


def _init_new_input_wf(
    settings: Settings, record: T1wRecord, training_input: pe.Node, template: str, run: Run
) -> Workflow:
    """Prepare a brain and write its derivatives."""
    workflow = Workflow(name=workflow_name(record.prefix))
    inputnode = t1w_inputnode(record)
    anatomical_wf = anatomical_wf_of(settings, template, run.omp_nthreads)
    plan = _anatomical_plan(settings, record, template)
    ds_anatomical = pe.Node(
        DerivativesSink(plan=plan, out_dir=str(settings.output_dir)),
        name='ds_anatomical',
        mem_gb=0.5,
    )
    workflow.connect([
        (inputnode, anatomical_wf, [(field, f'inputnode.{field}') for field in ANATOMICAL_INPUTS]),
        (anatomical_wf, training_input, [
            ('outputnode.brain', 'brain'),
            ('outputnode.t1w_preproc', 't1w_preproc'),
            ('outputnode.native_to_template', 'native_to_template'),
        ]),
        (anatomical_wf, ds_anatomical, [
            (f'outputnode.{field}', field) for field in sink_inputs(plan)
        ]),
    ])  # fmt: skip
    return workflow


def _anatomical_plan(settings: Settings, record: T1wRecord, template: str) -> OutputPlan:
    return plan_anatomical(
        ImageOutputs(
            source=record.path,
            out_dir=settings.output_dir,
            roots={'raw': settings.bids_dir, **dict(settings.derivatives)},
            template=template,
            model_resolution='',
            common=common_fields(None, settings.random_seed),
            derivative_t1w=record.derivative_t1w,
            derivative_mask=record.derivative_mask,
            prepared_with=prepared_with(settings),
        )
    )


def init_train_wf(
    *,
    settings: Settings,
    training: TrainInputs,
    run: Run,
    base_dir: Path,
    name: str = 'train_wf',
) -> Workflow:
    """Train every fold in a node of its own, and assemble the model.

    Workflow Graph
        Each fold waits for the cohort only, so that the plugin can train the folds in parallel; on
        GPUs, one fold per device. If there are candidates, the classifiers of all folds come first,
        then one choice for all folds, then the simulators of this choice.

    Parameters
    ----------
    settings : Settings
        Settings of the user.
    training : TrainInputs
        Inputs, recipe and outputs of the training.
    run : Run
        Device, processes and threads.
    base_dir : pathlib.Path
        Work directory of nipype.
    name : str
        Name of the workflow.
    """
    workflow = Workflow(name=name)
    workflow.base_dir = str(base_dir)
    gather_cohort = pe.Node(
        GatherCohort(
            inputs=[str(path) for path in training.inputs],
            input_space=str(training.input_space),
            table=str(training.table),
            n_folds=training.n_folds,
            random_seed=settings.random_seed,
        ),
        name='gather_cohort',
        mem_gb=2.0,
    )
    assemble_model = _assemble_model_node(settings, training)
    merge_results = pe.Node(niu.Merge(training.n_folds), name='merge_results')
    fold_inputs = _fold_inputs(settings, training, run)
    n_procs = min(run.nprocs, fold_inputs['num_threads'] * settings.devices_per_fold)
    resources: dict[str, Any] = {'mem_gb': 2.5, 'n_procs': n_procs}
    for index in range(training.n_folds):
        train_fold = pe.Node(
            TrainFold(index=index, directory=str(training.checkpoints), **fold_inputs),
            name=f'train_fold_{index}',
            **resources,
        )
        workflow.connect([
            (gather_cohort, train_fold, [('cohort', 'cohort'), ('folds', 'folds')]),
            (train_fold, merge_results, [('result', f'in{index + 1}')]),
        ])  # fmt: skip
    workflow.connect([
        (gather_cohort, assemble_model, [('cohort', 'cohort'), ('folds', 'folds')]),
        (merge_results, assemble_model, [('out', 'results')]),
    ])  # fmt: skip
    if training.candidates:
        _choose_classifier(workflow, training, fold_inputs, resources)
    if settings.sanity:
        add_sanity(workflow, 0, training.checkpoints.with_name('sanity'), fold_inputs, resources)
    send_crashes(workflow, settings.output_dir / 'logs' / f'{run.uuid}_crashes')
    return workflow


def _choose_classifier(
    workflow: Workflow,
    training: TrainInputs,
    fold_inputs: dict[str, Any],
    resources: dict[str, Any],
) -> None:
    """Train the classifiers of all candidates before the folds, which continue with the best."""
    gather_cohort, assemble_model = map(workflow.get_node, ('gather_cohort', 'assemble_model'))
    choose_classifier = pe.Node(
        ChooseClassifier(
            candidates=[to_plain(candidate) for candidate in training.candidates],
            left_out=training.left_out,
        ),
        name='choose_classifier',
        mem_gb=2.5,
    )
    count = len(training.candidates) * training.n_folds
    merge_classifiers = pe.Node(niu.Merge(count), name='merge_classifiers')
    for number, candidate in enumerate(training.candidates):
        own = {'recipe': candidate.recipe, 'recipe_digest': candidate.recipe_digest}
        for index in range(training.n_folds):
            train_classifiers = pe.Node(
                TrainClassifiers(
                    index=index, directory=str(training.checkpoints), **{**fold_inputs, **own}
                ),
                name=f'train_classifiers_{number}_{index}',
                **resources,
            )
            place = number * training.n_folds + index + 1
            workflow.connect([
                (gather_cohort, train_classifiers, [('cohort', 'cohort'), ('folds', 'folds')]),
                (train_classifiers, merge_classifiers, [('classifiers', f'in{place}')]),
            ])  # fmt: skip
    workflow.connect([
        (gather_cohort, choose_classifier, [('cohort', 'cohort'), ('folds', 'folds')]),
        (merge_classifiers, choose_classifier, [('out', 'classifiers')]),
        (choose_classifier, assemble_model, [('facts', 'facts'), ('choice', 'choice')]),
    ])  # fmt: skip
    for index in range(training.n_folds):
        workflow.connect([
            (choose_classifier, workflow.get_node(f'train_fold_{index}'), [
                ('recipe', 'recipe'),
                ('recipe_digest', 'recipe_digest'),
                ('classifiers', 'classifiers'),
            ]),
        ])  # fmt: skip


def _assemble_model_node(settings: Settings, training: TrainInputs) -> pe.Node:
    given = {} if training.classifier is None else {'classifier': training.classifier}
    return pe.Node(
        AssembleModel(
            table=str(training.table),
            facts=to_plain(training.facts),
            checkpoints=str(training.checkpoints),
            bundle=str(training.bundle),
            report_dir=str(training.report_dir),
            overwrite=settings.overwrite,
            random_seed=settings.random_seed,
            **given,
        ),
        name='assemble_model',
        mem_gb=2.0,
    )


def _fold_inputs(settings: Settings, training: TrainInputs, run: Run) -> dict[str, Any]:
    """Inputs that all folds share."""
    given: dict[str, Any] = {}
    if training.classifier is not None:
        given['classifier'] = training.classifier
    if settings.classifier_card is not None:
        given['classifier_card'] = str(settings.classifier_card)
    return {
        'recipe': training.recipe,
        'recipe_digest': training.recipe_digest,
        'allow_code': settings.allow_code,
        'device': run.device,
        'use_gpu': run.device.startswith('cuda'),
        'n_devices': settings.devices_per_fold,
        'num_threads': max(1, run.nprocs // training.n_folds),
        'random_seed': settings.random_seed,
        **given,
    }
