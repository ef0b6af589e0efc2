"""Report interfaces: figures and page of one T1w image."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_interp.version import __version__


class _FiguresInputSpec(BaseInterfaceInputSpec):
    out_dir = traits.Str(mandatory=True, desc='root of the derivatives')
    prefix = traits.Str(mandatory=True, desc='source entities of the image, without suffix')
    # Not read: they make the node wait for the derivatives, and run again if these change.
    brain_files = InputMultiObject(File(exists=True), desc='derivatives')
    registration_files = InputMultiObject(File(exists=True), desc='derivatives')
    explain_files = InputMultiObject(File(exists=True), desc='derivatives')
    version = traits.Str(__version__, usedefault=True, desc='version of the program')


class _FiguresOutputSpec(TraitedSpec):
    # Names instead of files, because a removed figure must not break a cached node.
    figures = traits.Dict(
        traits.Str, traits.Str, desc='SHA-256 of each figure in sub-<label>/figures, by its path'
    )


def _digest(path: str | Path) -> str:
    """Return the SHA-256 of a file; empty if it is missing."""
    try:
        with open(path, 'rb') as stream:
            return hashlib.file_digest(stream, 'sha256').hexdigest()
    except FileNotFoundError:
        return ''


class Figures(SimpleInterface):
    """Draw all figures of one T1w image from its derivatives."""

    input_spec = _FiguresInputSpec
    output_spec = _FiguresOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.reports import draw_figures

        figures = draw_figures(self.inputs.out_dir, self.inputs.prefix)
        self._results['figures'] = {str(path): _digest(path) for path in figures}
        return runtime


class _ReportInputSpec(BaseInterfaceInputSpec):
    out_dir = traits.Str(mandatory=True, desc='root of the derivatives')
    prefix = traits.Str(mandatory=True, desc='source entities of the image, without suffix')
    figures = traits.Dict(traits.Str, traits.Str, desc='SHA-256 of each figure, by its path')
    crash_dir = traits.Str(desc='folder of crash files to show')
    run_uuid = traits.Str('', usedefault=True, desc='identifier of the run')


class _ReportOutputSpec(TraitedSpec):
    out_report = File(exists=True, desc='the report')


class Report(SimpleInterface):
    """Write the report of one T1w image; missing or damaged figures are drawn again."""

    input_spec = _ReportInputSpec
    output_spec = _ReportOutputSpec
    always_run = True

    def _run_interface(self, runtime):
        from bids_interp.reports import build_report, draw_figures
        from bids_interp.reports.common.crashes import read_crashes

        figures = self.inputs.figures if isdefined(self.inputs.figures) else {}
        if any(_digest(path) != digest for path, digest in figures.items()):
            draw_figures(self.inputs.out_dir, self.inputs.prefix)
        folder = self.inputs.crash_dir
        errors = read_crashes(folder) if isdefined(folder) and Path(folder).is_dir() else []
        report = build_report(
            self.inputs.out_dir,
            self.inputs.prefix,
            errors=errors,
            run_uuid=self.inputs.run_uuid,
        )
        self._results['out_report'] = str(report)
        return runtime
