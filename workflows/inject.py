"""Inject workflow: registers every T1w image to the template, then makes its replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.bids.read.query import T1wRecord
from bids_interp.bids.write.injected import inherited_sidecar
from bids_interp.execution.run import Run, send_crashes, workflow_name
from bids_interp.interfaces.inject import Inject
from bids_interp.workflows.anatomical import anatomical_wf_of


def init_inject_wf(
    *,
    run: Run,
    records: Sequence[T1wRecord],
    replicates: Mapping[str, Sequence[Mapping[str, Any]]],
    injection: Mapping[str, Any],
    model_template: str,
    base_dir: Path,
    name: str = 'inject_wf',
) -> Workflow:
    """Plant a change into every T1w image, independently of the others.

    Images with a problem fail with that problem.

    Parameters
    ----------
    run : Run
        Settings of the user, device, processes and threads.
    records : sequence of T1wRecord
        Images; each gets a workflow named by
        :func:`bids_interp.execution.run.workflow_name`.
    replicates : mapping
        Replicates by the label of their participant
        (:class:`bids_interp.phantom.inject.assignment.Replicate` as plain types).
    injection : mapping
        Inputs of :class:`bids_interp.interfaces.inject.Inject` that all images share.
    model_template : str
        Name of the brain template.
    base_dir : Path
        Work directory of nipype.
    name : str
        Name of the workflow.
    """
    workflow = Workflow(name=name)
    workflow.base_dir = str(base_dir)
    for record in records:
        single_name = workflow_name(record.prefix)
        if record.problem and workflow.get_node(single_name) is not None:
            continue  # an image with the same name, and so the same problem, came before
        if record.problem:
            single_wf = _init_refusal_wf(record.problem, single_name)
        else:
            single_wf = init_inject_t1w_wf(
                run=run,
                record=record,
                replicates=replicates[record.subject],
                injection=injection,
                model_template=model_template,
                name=single_name,
            )
        send_crashes(single_wf, run.log_dir(record.subject))
        workflow.add_nodes([single_wf])
    return workflow


def _init_refusal_wf(problem: str, name: str) -> Workflow:
    """Fail with a problem that is already known, so that it is reported like any other."""
    workflow = Workflow(name=name)
    refuse = niu.Function(function=_refuse, input_names=['problem'], output_names=['none'])
    refuse.inputs.problem = problem
    check_input = pe.Node(refuse, name='check_input')
    workflow.add_nodes([check_input])
    return workflow


def _refuse(problem: str) -> None:
    from bids_interp.errors import ImageError  # nipype runs this function without its module

    raise ImageError(problem, '')


def init_inject_t1w_wf(
    *,
    run: Run,
    record: T1wRecord,
    replicates: Sequence[Mapping[str, Any]],
    injection: Mapping[str, Any],
    model_template: str,
    name: str,
) -> Workflow:
    """Make all replicates of one T1w image; parameters as in :func:`init_inject_wf`."""
    workflow = Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=['t1w']), name='inputnode')
    inputnode.inputs.t1w = str(record.path)
    anatomical_wf = anatomical_wf_of(run.settings, model_template, run.omp_nthreads)
    inject = pe.Node(
        Inject(
            replicates=[dict(replicate) for replicate in replicates],
            entities=record.entities,
            sidecar=inherited_sidecar(run.settings.bids_dir, record),
            num_threads=run.omp_nthreads,
            **injection,
        ),
        name='inject',
        mem_gb=2.0,
        n_procs=run.omp_nthreads,
    )
    workflow.connect([
        (inputnode, anatomical_wf, [('t1w', 'inputnode.t1w')]),
        (inputnode, inject, [('t1w', 't1w')]),
        (anatomical_wf, inject, [
            ('outputnode.brain_mask', 'brain_mask'),
            ('outputnode.native_to_template', 'native_to_template'),
        ]),
    ])  # fmt: skip
    return workflow
