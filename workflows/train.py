"""The train workflow: from T1w images with labels to a model bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.bids.read.prepared import PreparedBrain, prepared_with
from bids_interp.bids.read.query import T1wRecord
from bids_interp.bids.write.provenance import common_fields
from bids_interp.bids.write.scan_outputs import ImageOutputs, plan_anatomical, sink_inputs
from bids_interp.execution.run import Run, send_crashes, workflow_name
from bids_interp.interfaces.sink import DerivativesSink
from bids_interp.interfaces.train import (
    AssembleModel,
    GatherCohort,
    TakePrepared,
    TrainFold,
    TrainingInput,
)
from bids_interp.records import to_plain
from bids_interp.settings import Settings
from bids_interp.workflows.anatomical import anatomical_wf_of
from bids_interp.workflows.train_sanity import add_sanity

if TYPE_CHECKING:
    from bids_interp.models.bundle.schema import ModelFacts


@dataclass(frozen=True)
class TrainPlan:
    """What the nodes of a training need besides the settings.

    Parameters
    ----------
    recipe : dict
        Arguments of :func:`bids_interp.training.recipe.make_recipe`.
    recipe_digest : str
        Of the recipe that they make.
    n_folds : int
        Folds.
    context, table : pathlib.Path
        Grid, mask and intensities; labels, families, keys and covariates.
    inputs : list of pathlib.Path
        Inputs of the classifier, in the order of the table.
    checkpoints : pathlib.Path
        Folder for checkpoints.
    bundle, report_dir : pathlib.Path
        Where the model and what describes it go.
    facts : ModelFacts
        Of the configuration of the bundle.
    classifier : dict, optional
        Source of a given classifier.
    """

    recipe: dict[str, Any]
    recipe_digest: str
    n_folds: int
    context: Path
    table: Path
    inputs: list[Path]
    checkpoints: Path
    bundle: Path
    report_dir: Path
    facts: ModelFacts
    classifier: dict[str, Any] | None = None


def init_training_inputs_wf(
    *,
    settings: Settings,
    records: Sequence[T1wRecord],
    prepared: dict[str, PreparedBrain],
    template: str,
    context: Path,
    inputs_dir: Path,
    run: Run,
    base_dir: Path,
    name: str = 'training_inputs_wf',
) -> Workflow:
    """Bring every T1w image onto the grid of the model, each on its own.

    Parameters
    ----------
    settings : Settings
        Choices of the user.
    records : sequence of T1wRecord
        Images.
    prepared : dict
        Prefix of an image to what an earlier run has left of it in the output directory.
    template : str
        Template of the model.
    context : pathlib.Path
        Grid, mask and intensities of the model.
    inputs_dir : pathlib.Path
        Where the inputs are kept, ``<prefix>.safetensors``.
    run : Run
        Share of the machine.
    base_dir : pathlib.Path
        Work directory of nipype.
    name : str
        Name of the workflow.
    """
    workflow = Workflow(name=name)
    workflow.base_dir = str(base_dir)
    for record in records:
        single_wf = _init_single_input_wf(
            settings, record, prepared.get(record.prefix), template, context, inputs_dir, run
        )
        crash_dir = run.log_dir(record.subject)
        send_crashes(single_wf, crash_dir)
        workflow.add_nodes([single_wf])
    return workflow


def _init_single_input_wf(
    settings: Settings,
    record: T1wRecord,
    prepared: PreparedBrain | None,
    template: str,
    context: Path,
    inputs_dir: Path,
    run: Run,
) -> Workflow:
    workflow = Workflow(name=workflow_name(record.prefix))
    place = pe.Node(
        TrainingInput(
            context=str(context), out_file=str(inputs_dir / f'{record.prefix}.safetensors')
        ),
        name='training_input',
        mem_gb=1.0,
    )
    if prepared is not None:
        take = pe.Node(
            TakePrepared(
                t1w=str(prepared.t1w), mask=str(prepared.mask), transform=str(prepared.transform)
            ),
            name='take_prepared',
            mem_gb=0.5,
        )
        fields = [('brain', 'brain'), ('native_to_template', 'native_to_template')]
        workflow.connect([(take, place, fields)])
        return workflow
    inputnode = pe.Node(
        niu.IdentityInterface(fields=['t1w', 't1w_derivative', 'mask']), name='inputnode'
    )
    inputnode.inputs.t1w = str(record.path)
    for field, path in (
        ('t1w_derivative', record.derivative_t1w),
        ('mask', record.derivative_mask),
    ):
        if path is not None:
            setattr(inputnode.inputs, field, str(path))
    anatomical_wf = anatomical_wf_of(settings, template, run.omp_nthreads)
    plan = plan_anatomical(
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
    sink = pe.Node(
        DerivativesSink(plan=plan, out_dir=str(settings.output_dir)),
        name='ds_anatomical',
        mem_gb=0.5,
    )
    workflow.connect([
        (inputnode, anatomical_wf, [
            ('t1w', 'inputnode.t1w'),
            ('t1w_derivative', 'inputnode.t1w_derivative'),
            ('mask', 'inputnode.mask'),
        ]),
        (anatomical_wf, place, [
            ('outputnode.brain', 'brain'),
            ('outputnode.native_to_template', 'native_to_template'),
        ]),
        (anatomical_wf, sink, [
            (f'outputnode.{field}', field) for field in sorted(sink_inputs(plan))
        ]),
    ])  # fmt: skip
    return workflow


def init_train_wf(
    *,
    settings: Settings,
    plan: TrainPlan,
    run: Run,
    base_dir: Path,
    name: str = 'train_wf',
) -> Workflow:
    """Train every fold, each a node of its own, and put them together.

    Workflow Graph
        Each fold waits for the cohort alone, so that MultiProc or a batch system trains them side
        by side; on GPUs one fold a device.

    Parameters
    ----------
    settings : Settings
        Choices of the user.
    plan : TrainPlan
        What is trained.
    run : Run
        Share of the machine.
    base_dir : pathlib.Path
        Work directory of nipype.
    name : str
        Name of the workflow.
    """
    workflow = Workflow(name=name)
    workflow.base_dir = str(base_dir)
    gather_cohort = pe.Node(
        GatherCohort(
            inputs=[str(path) for path in plan.inputs],
            context=str(plan.context),
            table=str(plan.table),
            n_folds=plan.n_folds,
            random_seed=settings.random_seed,
        ),
        name='gather_cohort',
        mem_gb=2.0,
    )
    given: dict[str, Any] = {}
    if plan.classifier is not None:
        given = {'classifier': plan.classifier}
    assemble_model = pe.Node(
        AssembleModel(
            table=str(plan.table),
            facts=to_plain(plan.facts),
            checkpoints=str(plan.checkpoints),
            bundle=str(plan.bundle),
            report_dir=str(plan.report_dir),
            overwrite=settings.overwrite,
            random_seed=settings.random_seed,
            **given,
        ),
        name='assemble_model',
        mem_gb=2.0,
    )
    merge_results = pe.Node(niu.Merge(plan.n_folds), name='merge_results')
    if settings.classifier_card is not None:
        given['classifier_card'] = str(settings.classifier_card)
    threads = max(1, run.nprocs // plan.n_folds)
    computed: dict[str, Any] = {
        'recipe': plan.recipe,
        'recipe_digest': plan.recipe_digest,
        'allow_code': settings.allow_code,
        'device': run.device,
        'use_gpu': run.device.startswith('cuda'),
        'n_devices': settings.devices_per_fold,
        'num_threads': threads,
        'random_seed': settings.random_seed,
        **given,
    }
    n_procs = min(run.nprocs, threads * settings.devices_per_fold)
    share: dict[str, Any] = {'mem_gb': 2.5, 'n_procs': n_procs}
    for index in range(plan.n_folds):
        train_fold = pe.Node(
            TrainFold(index=index, directory=str(plan.checkpoints), **computed),
            name=f'train_fold_{index}',
            **share,
        )
        workflow.connect([
            (gather_cohort, train_fold, [('cohort', 'cohort'), ('folds', 'folds')]),
            (train_fold, merge_results, [('result', f'in{index + 1}')]),
        ])  # fmt: skip
    workflow.connect([
        (gather_cohort, assemble_model, [('cohort', 'cohort'), ('folds', 'folds')]),
        (merge_results, assemble_model, [('out', 'results')]),
    ])  # fmt: skip
    if settings.sanity:
        add_sanity(workflow, 0, plan.checkpoints.with_name('sanity'), computed, share)
    crash_dir = settings.output_dir / 'logs' / f'{run.uuid}_crashes'
    send_crashes(workflow, crash_dir)
    return workflow
