"""Report interfaces: figures and page of one T1w image."""

from __future__ import annotations

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
    out_files = traits.List(traits.Str, desc='figures, in sub-<label>/figures')


class Figures(SimpleInterface):
    """Draw all figures of one T1w image from its derivatives."""

    input_spec = _FiguresInputSpec
    output_spec = _FiguresOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.reports import draw_figures

        figures = draw_figures(self.inputs.out_dir, self.inputs.prefix)
        self._results['out_files'] = [str(path) for path in figures]
        return runtime


class _ReportInputSpec(BaseInterfaceInputSpec):
    out_dir = traits.Str(mandatory=True, desc='root of the derivatives')
    prefix = traits.Str(mandatory=True, desc='source entities of the image, without suffix')
    figures = traits.List(traits.Str, desc='figures')
    crash_dir = traits.Str(desc='folder of crash files to show')
    run_uuid = traits.Str('', usedefault=True, desc='identifier of the run')


class _ReportOutputSpec(TraitedSpec):
    out_report = File(exists=True, desc='the report')


class Report(SimpleInterface):
    """Write the report of one T1w image; missing figures are drawn again."""

    input_spec = _ReportInputSpec
    output_spec = _ReportOutputSpec
    always_run = True

    def _run_interface(self, runtime):
        from bids_interp.reports import build_report, draw_figures
        from bids_interp.reports.common.crashes import read_crashes

        figures = self.inputs.figures if isdefined(self.inputs.figures) else []
        if not all(Path(figure).is_file() for figure in figures):
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
