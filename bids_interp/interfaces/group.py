"""Nodes of the group workflow; each calls functions of :mod:`bids_interp.group`."""

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


class _PlanInputSpec(BaseInterfaceInputSpec):
    plan = traits.Str(mandatory=True, desc='JSON of bids_interp.group.plan.GroupPlan')
    where = traits.Str(mandatory=True, desc='mask and regions (.npz)')


class _FactsOutputSpec(TraitedSpec):
    facts = traits.Str(desc='JSON: what was found')


class _GroupNode(SimpleInterface):
    """The derivatives may have changed since the last run, so that nothing is taken from it."""

    output_spec = _FactsOutputSpec
    _always_run = True

    def _keep(self, runtime, content):
        self._results['facts'] = str(write_json(Path(runtime.cwd) / 'facts.json', content))
        return runtime


class _DescribeMapsInputSpec(_PlanInputSpec):
    map_name = traits.Str(mandatory=True, desc='direction and dose: inject100')


class DescribeMaps(_GroupNode):
    """Read every map of one direction and dose once; write means, spreads, reliable masks."""

    input_spec = _DescribeMapsInputSpec

    def _run_interface(self, runtime):
        from bids_interp.group.maps.descriptive import describe_maps
        from bids_interp.group.maps.map_files import cluster_rows, write_maps
        from bids_interp.group.maps.named_regions import load_where
        from bids_interp.group.maps.region_tables import group_rows
        from bids_interp.group.plan import GroupPlan

        plan = GroupPlan.read(self.inputs.plan)
        places, regions = load_where(self.inputs.where)
        scans = {scan.prefix: scan for scan in plan.included}
        described = describe_maps(plan.included, self.inputs.map_name, places, regions, plan.groups)
        counts = write_maps(plan, described, places)
        content = {
            'name': described.name,
            'images': described.images,
            'without': described.without,
            'failed': described.failed,
            'means': described.means,
            'changes': described.changes,
            'n': {group: running.n for group, running in described.groups.items()},
            'n_reliable': counts,
            'n_voxels': int(places.inside.sum()),
            'regions': group_rows(described, scans, places, regions, plan.groups, plan.seed),
            'clusters': cluster_rows(described, places),
        }
        return self._keep(runtime, content)


class _WriteTablesInputSpec(_PlanInputSpec):
    described = InputMultiObject(traits.Str(), mandatory=True, desc='facts of DescribeMaps')


class WriteTables(_GroupNode):
    """Write the tables of inclusion, regions, clusters and dose response."""

    input_spec = _WriteTablesInputSpec

    def _run_interface(self, runtime):
        from bids_interp.group.maps.named_regions import load_where
        from bids_interp.group.plan import GroupPlan
        from bids_interp.group.tables import write_tables

        described = [json.loads(Path(path).read_text('utf-8')) for path in self.inputs.described]
        _, regions = load_where(self.inputs.where)
        plan = GroupPlan.read(self.inputs.plan)
        return self._keep(runtime, write_tables(plan, described, regions))


class ScoreExpression(_GroupNode):
    """Expression scores, their model, and their change over sessions."""

    input_spec = _PlanInputSpec

    def _run_interface(self, runtime):
        from bids_interp.group.plan import GroupPlan
        from bids_interp.group.tables import write_scores

        return self._keep(runtime, write_scores(GroupPlan.read(self.inputs.plan)))


class _TestVoxelsInputSpec(_DescribeMapsInputSpec):
    column = traits.Str(mandatory=True, desc='number that maps are regressed on')


class TestVoxels(_GroupNode):
    """Exploratory voxel-wise model of the maps."""

    input_spec = _TestVoxelsInputSpec
    __test__ = False  # no test of pytest

    def _run_interface(self, runtime):
        from bids_interp.group.maps.named_regions import load_where
        from bids_interp.group.plan import GroupPlan
        from bids_interp.group.tables import write_voxelwise

        plan = GroupPlan.read(self.inputs.plan)
        places, _ = load_where(self.inputs.where)
        found = write_voxelwise(plan, self.inputs.map_name, self.inputs.column, places)
        return self._keep(runtime, found)


class ComparePattern(_GroupNode):
    """Compare the model with models of permuted labels."""

    input_spec = _PlanInputSpec

    def _run_interface(self, runtime):
        from bids_interp.group.plan import GroupPlan
        from bids_interp.group.tables import write_pattern

        return self._keep(runtime, write_pattern(GroupPlan.read(self.inputs.plan)))


class _GroupReportInputSpec(_PlanInputSpec):
    described = InputMultiObject(traits.Str(), mandatory=True, desc='facts of DescribeMaps')
    tables = traits.Str(mandatory=True, desc='facts of WriteTables')
    scores = traits.Str(mandatory=True, desc='facts of ScoreExpression')
    voxelwise = InputMultiObject(traits.Str(), desc='facts of TestVoxels')
    pattern = traits.Str(desc='facts of ComparePattern')


class GroupReport(_GroupNode):
    """Write the report."""

    input_spec = _GroupReportInputSpec

    def _run_interface(self, runtime):
        from bids_interp.group.maps.named_regions import load_where
        from bids_interp.group.plan import GroupPlan
        from bids_interp.group.tables import report_content
        from bids_interp.reports.group.group_report import write_group_report

        def read(path):
            return json.loads(Path(path).read_text(encoding='utf-8'))

        inputs = self.inputs
        plan = GroupPlan.read(inputs.plan)
        places, regions = load_where(inputs.where)
        content = report_content(
            plan,
            places,
            regions,
            [read(path) for path in inputs.described],
            read(inputs.tables),
            read(inputs.scores),
            [read(path) for path in inputs.voxelwise] if isdefined(inputs.voxelwise) else [],
            read(inputs.pattern) if isdefined(inputs.pattern) else {},
        )
        path = write_group_report(plan.folder / 'report.html', content)
        return self._keep(runtime, {'report': str(path)})
