"""Interfaces of the group workflow, which call functions of :mod:`bids_interp.group`."""

from __future__ import annotations

import json
from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_interp.bids.write.atomic import write_json


class _AnalysisInputSpec(BaseInterfaceInputSpec):
    analysis = traits.Str(mandatory=True, desc='JSON of bids_interp.group.analysis.GroupAnalysis')
    grid_regions = traits.Str(mandatory=True, desc='mask and regions (.npz)')


class _ResultOutputSpec(TraitedSpec):
    result = traits.Str(desc='JSON of the results')


class _GroupNode(SimpleInterface):
    """Base that always runs, because the derivatives may have changed."""

    output_spec = _ResultOutputSpec
    _always_run = True

    def _keep(self, runtime, content):
        self._results['result'] = str(write_json(Path(runtime.cwd) / 'result.json', content))
        return runtime


class _DescribeMapsInputSpec(_AnalysisInputSpec):
    map_name = traits.Str(mandatory=True, desc='direction and dose: inject100')


class DescribeMaps(_GroupNode):
    """Write means, spreads and reliable masks of the maps of one direction and dose."""

    input_spec = _DescribeMapsInputSpec

    def _run_interface(self, runtime):
        from bids_interp.group.analysis import GroupAnalysis
        from bids_interp.group.maps.descriptive import summarise_maps
        from bids_interp.group.maps.map_files import cluster_rows, write_group_maps
        from bids_interp.group.maps.named_regions import load_grid_regions
        from bids_interp.group.maps.region_tables import group_rows

        analysis = GroupAnalysis.read(self.inputs.analysis)
        masked, regions = load_grid_regions(self.inputs.grid_regions)
        scans = {scan.prefix: scan for scan in analysis.included}
        summary = summarise_maps(
            analysis.included, self.inputs.map_name, masked, regions, analysis.groups
        )
        counts = write_group_maps(analysis, summary, masked)
        content = {
            'name': summary.name,
            'images': summary.images,
            'without': summary.without,
            'failed': summary.failed,
            'means': summary.means,
            'changes': summary.changes,
            'shares': summary.shares,
            'personal_share': {g: summary.share_of(analysis.groups, g) for g in summary.groups},
            'n': {group: running.n for group, running in summary.groups.items()},
            'n_reliable': counts,
            'n_voxels': int(masked.inside.sum()),
            'regions': group_rows(
                summary,
                scans,
                masked,
                regions,
                analysis.groups,
                analysis.seed,
                analysis.columns.of_family,
            ),
            'clusters': cluster_rows(summary, masked),
        }
        return self._keep(runtime, content)


class _WriteTablesInputSpec(_AnalysisInputSpec):
    summaries = InputMultiObject(traits.Str(), mandatory=True, desc='result of DescribeMaps')


class WriteTables(_GroupNode):
    """Write the tables of inclusion, regions, clusters and dose response."""

    input_spec = _WriteTablesInputSpec

    def _run_interface(self, runtime):
        from bids_interp.group.analysis import GroupAnalysis
        from bids_interp.group.maps.named_regions import load_grid_regions
        from bids_interp.group.tables import write_group_tables

        summaries = [json.loads(Path(path).read_text('utf-8')) for path in self.inputs.summaries]
        _, regions = load_grid_regions(self.inputs.grid_regions)
        analysis = GroupAnalysis.read(self.inputs.analysis)
        return self._keep(runtime, write_group_tables(analysis, summaries, regions))


class ScoreExpression(_GroupNode):
    """Compute expression scores, their model, and their change over sessions."""

    input_spec = _AnalysisInputSpec

    def _run_interface(self, runtime):
        from bids_interp.group.analysis import GroupAnalysis
        from bids_interp.group.tables import write_scores

        return self._keep(runtime, write_scores(GroupAnalysis.read(self.inputs.analysis)))


class _TestVoxelsInputSpec(_DescribeMapsInputSpec):
    column = traits.Str(mandatory=True, desc='numeric column of the regression')


class TestVoxels(_GroupNode):
    """Compute an exploratory voxel-wise model of the maps."""

    input_spec = _TestVoxelsInputSpec
    __test__ = False  # not a test of pytest

    def _run_interface(self, runtime):
        from bids_interp.group.analysis import GroupAnalysis
        from bids_interp.group.maps.named_regions import load_grid_regions
        from bids_interp.group.tables import write_voxelwise

        analysis = GroupAnalysis.read(self.inputs.analysis)
        masked, _ = load_grid_regions(self.inputs.grid_regions)
        found = write_voxelwise(analysis, self.inputs.map_name, self.inputs.column, masked)
        return self._keep(runtime, found)


class ComparePattern(_GroupNode):
    """Compare the model with models of permuted labels."""

    input_spec = _AnalysisInputSpec

    def _run_interface(self, runtime):
        from bids_interp.group.analysis import GroupAnalysis
        from bids_interp.group.tables import write_pattern

        return self._keep(runtime, write_pattern(GroupAnalysis.read(self.inputs.analysis)))


class _GroupReportInputSpec(_AnalysisInputSpec):
    summaries = InputMultiObject(traits.Str(), mandatory=True, desc='result of DescribeMaps')
    tables = traits.Str(mandatory=True, desc='result of WriteTables')
    scores = traits.Str(mandatory=True, desc='result of ScoreExpression')
    voxelwise = InputMultiObject(traits.Str(), desc='result of TestVoxels')
    pattern = traits.Str(desc='result of ComparePattern')


class GroupReport(_GroupNode):
    """Write the report of the group."""

    input_spec = _GroupReportInputSpec

    def _run_interface(self, runtime):
        from bids_interp.group.analysis import GroupAnalysis
        from bids_interp.group.maps.named_regions import load_grid_regions
        from bids_interp.group.tables import report_content
        from bids_interp.reports.group.group_report import write_group_report

        def read(path):
            return json.loads(Path(path).read_text(encoding='utf-8'))

        inputs = self.inputs
        analysis = GroupAnalysis.read(inputs.analysis)
        masked, regions = load_grid_regions(inputs.grid_regions)
        content = report_content(
            analysis,
            masked,
            regions,
            [read(path) for path in inputs.summaries],
            read(inputs.tables),
            read(inputs.scores),
            [read(path) for path in inputs.voxelwise] if isdefined(inputs.voxelwise) else [],
            read(inputs.pattern) if isdefined(inputs.pattern) else {},
        )
        path = write_group_report(analysis.folder / 'report.html', content)
        return self._keep(runtime, {'report': str(path)})
