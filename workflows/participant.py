"""Participant workflow: one workflow per T1w image, and the workflow that contains them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.anatomical.spaces.atlas import scan_atlas
from bids_interp.bids.read.prepared import prepared_with
from bids_interp.bids.read.query import T1wRecord
from bids_interp.execution.run import Run, send_crashes, workflow_name
from bids_interp.models.bundle.choice import output_spaces
from bids_interp.settings import Settings
from bids_interp.version import __version__
from bids_interp.workflows.anatomical import ANATOMICAL_INPUTS, anatomical_wf_of, t1w_inputnode
from bids_interp.workflows.derivatives import init_derivatives_wf
from bids_interp.workflows.explain import init_explain_wf
from bids_interp.workflows.report import init_report_wf

if TYPE_CHECKING:
    from bids_interp.models.bundle.reader import ModelBundle


def work_key(settings: Settings, bundle: ModelBundle) -> str:
    """Return the name of the work folder of this dataset and these settings.

    Settings that change intermediate files give another folder. Doses, output spaces and the
    location of the dataset do not, so that changing them costs no rerun.
    """
    description = settings.bids_dir / 'dataset_description.json'
    parts = [
        description.read_text(encoding='utf-8-sig'),
        settings.skull_strip_t1w,
        settings.template,
        settings.fast,
        settings.random_seed,
        [name for name, _ in settings.derivatives],
        bundle.version_hash,
        __version__,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]


def init_bids_interp_wf(
    *,
    run: Run,
    bundle: ModelBundle,
    records: Sequence[T1wRecord],
    base_dir: Path,
    on_error: Callable[[T1wRecord, Exception], None] | None = None,
    name: str = 'bids_interp_wf',
) -> Workflow:
    """Process every T1w image independently of the others.

    Parameters
    ----------
    run : Run
        Settings of the user, device, processes and threads.
    bundle : ModelBundle
        Model bundle.
    records : sequence of T1wRecord
        Images; each gets a workflow named by :func:`workflow_name`.
    base_dir : Path
        Work directory of nipype.
    on_error : callable, optional
        Called if the workflow of one image cannot be built; the others are built. Without it the
        error is raised.
    name : str
        Name of the workflow.
    """
    workflow = Workflow(name=name)
    workflow.base_dir = str(base_dir)
    for record in records:
        try:
            single_wf = init_single_t1w_wf(
                run=run,
                bundle=bundle,
                record=record,
                name=workflow_name(record.prefix),
            )
        except Exception as error:
            if on_error is None:
                raise
            on_error(record, error)
            continue
        send_crashes(single_wf, run.log_dir(record.subject))
        workflow.add_nodes([single_wf])
    return workflow


def init_single_t1w_wf(*, run: Run, bundle: ModelBundle, record: T1wRecord, name: str) -> Workflow:
    """Process one T1w image up to its derivatives and report.

    Parameters
    ----------
    run : Run
        Settings of the user, device, processes and threads.
    bundle : ModelBundle
        Model bundle.
    record : T1wRecord
        The image.
    name : str
        Name of the workflow.
    """
    settings = run.settings
    spaces = output_spaces(settings, bundle.template)
    atlas = scan_atlas(settings, bundle.template, record.segmentation)
    workflow = Workflow(name=name)
    inputnode = t1w_inputnode(record)
    anatomical_wf = anatomical_wf_of(settings, bundle.template, run.omp_nthreads)
    explain_wf = init_explain_wf(
        bundle=bundle,
        dataset_key=record.dataset_key,
        participant=record.subject,
        doses=settings.doses,
        output_spaces=spaces,
        saliency=settings.saliency,
        remeasure=settings.remeasure,
        atlas=atlas,
        device=run.device,
        omp_nthreads=run.omp_nthreads,
        random_seed=settings.random_seed,
        offline=settings.offline,
    )
    derivatives_wf = init_derivatives_wf(
        source=record.path,
        out_dir=settings.output_dir,
        roots={'raw': settings.bids_dir, **dict(settings.derivatives)},
        bundle=bundle,
        doses=settings.doses,
        output_spaces=spaces,
        saliency=settings.saliency,
        remeasure=settings.remeasure,
        atlas=atlas,
        derivative_t1w=record.derivative_t1w,
        derivative_mask=record.derivative_mask,
        random_seed=settings.random_seed,
        prepared_with=prepared_with(settings),
    )
    # Without the name of the run, which would make nipype write every report again.
    report_wf = init_report_wf(out_dir=settings.output_dir, prefix=record.prefix)
    workflow.connect([
        (inputnode, anatomical_wf, [(field, f'inputnode.{field}') for field in ANATOMICAL_INPUTS]),
        (inputnode, explain_wf, [('t1w', 'inputnode.t1w')]),
    ])  # fmt: skip
    _connect_all(workflow, anatomical_wf, explain_wf)
    _connect_all(workflow, anatomical_wf, derivatives_wf)
    _connect_all(workflow, explain_wf, derivatives_wf)
    _connect_all(workflow, derivatives_wf, report_wf)
    return workflow


def _connect_all(workflow: Workflow, source: Workflow, target: Workflow) -> None:
    """Connect every output of a workflow to the input of another with the same name."""
    outputs = source.get_node('outputnode').outputs.copyable_trait_names()
    inputs = target.get_node('inputnode').inputs.copyable_trait_names()
    shared = [name for name in inputs if name in outputs]
    workflow.connect([
        (source, target, [(f'outputnode.{name}', f'inputnode.{name}') for name in shared]),
    ])  # fmt: skip
