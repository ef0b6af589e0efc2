"""Report workflow of one T1w image."""

from __future__ import annotations

from pathlib import Path

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.interfaces.reports import Figures, Report

#: Outputs of the sinks; they make the report wait for the derivatives.
WRITTEN = ('brain_files', 'registration_files', 'explain_files')


def init_report_wf(
    *,
    out_dir: Path | str,
    prefix: str,
    crash_dir: Path | str | None = None,
    run_uuid: str = '',
    name: str = 'report_wf',
) -> Workflow:
    """Draw the figures of one T1w image and write its report.

    Both nodes read the derivatives on disk.

    Workflow Graph
        .. workflow::
            :graph2use: orig
            :simple_form: yes

            from bids_interp.workflows.report import init_report_wf
            wf = init_report_wf(out_dir='out', prefix='sub-01')

    Parameters
    ----------
    out_dir : path
        Root of the derivatives.
    prefix : str
        Source entities of the image, without suffix: ``sub-01_ses-a_run-1``.
    crash_dir : path, optional
        Folder of crash files to show in the report.
    run_uuid : str
        Identifier of the run, shown at the end of the report.
    name : str
        Name of the workflow.

    Inputs
    ------
    brain_files, registration_files, explain_files
        Derivatives of the image; not read, the report only waits for them.

    Outputs
    -------
    out_report
        The report, ``<out_dir>/<prefix>.html``.
    """
    workflow = Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=list(WRITTEN)), name='inputnode')
    outputnode = pe.Node(niu.IdentityInterface(fields=['out_report']), name='outputnode')
    figures = pe.Node(Figures(out_dir=str(out_dir), prefix=prefix), name='figures', mem_gb=1.0)
    report = pe.Node(
        Report(out_dir=str(out_dir), prefix=prefix, run_uuid=run_uuid), name='report', mem_gb=0.5
    )
    if crash_dir is not None:
        report.inputs.crash_dir = str(crash_dir)
    workflow.connect([
        (inputnode, figures, [(name, name) for name in WRITTEN]),
        (figures, report, [('figures', 'figures')]),
        (report, outputnode, [('out_report', 'out_report')]),
    ])  # fmt: skip
    return workflow
