"""Group workflow: summaries, scores, tests and report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.execution.run import send_crashes
from bids_interp.interfaces.group import (
    ComparePattern,
    DescribeMaps,
    GroupReport,
    ScoreExpression,
    TestVoxels,
    WriteTables,
)


def init_group_wf(
    *,
    analysis: Path,
    grid_regions: Path,
    maps: Sequence[str],
    voxelwise: Sequence[str],
    null_models: bool,
    nprocs: int,
    crash_dir: Path,
    base_dir: Path,
    name: str = 'group_wf',
) -> Workflow:
    """Summarise the maps, score the subjects, test, and report.

    Workflow Graph
        One node per direction and dose reads the maps, another one computes the scores; the report
        waits for all of them.

    Parameters
    ----------
    analysis, grid_regions : pathlib.Path
        Group analysis (JSON); mask and regions (.npz).
    maps : sequence of str
        Directions and doses.
    voxelwise : sequence of str
        Columns of the voxel-wise model, on the first of the maps.
    null_models : bool
        True if there are models of permuted labels.
    nprocs : int
        Processes that the permutations of the voxel-wise model may use.
    crash_dir, base_dir : pathlib.Path
        Folders of crash files and of intermediate results.
    name : str
        Name of the workflow.
    """
    workflow = Workflow(name=name)
    workflow.base_dir = str(base_dir)
    shared = {'analysis': str(analysis), 'grid_regions': str(grid_regions)}
    merge_maps = pe.Node(niu.Merge(len(maps)), name='merge_maps')
    write_tables = pe.Node(WriteTables(**shared), name='write_tables', mem_gb=1.0)
    score_expression = pe.Node(ScoreExpression(**shared), name='score_expression', mem_gb=1.0)
    report = pe.Node(GroupReport(**shared), name='report', mem_gb=1.5)
    for index, map_name in enumerate(maps):
        describe = pe.Node(
            DescribeMaps(map_name=map_name, **shared), name=f'describe_{map_name}', mem_gb=1.5
        )
        workflow.connect(describe, 'result', merge_maps, f'in{index + 1}')
    workflow.connect([
        (merge_maps, write_tables, [('out', 'summaries')]),
        (merge_maps, report, [('out', 'summaries')]),
        (write_tables, report, [('result', 'tables')]),
        (score_expression, report, [('result', 'scores')]),
    ])  # fmt: skip
    if voxelwise:
        merge_voxelwise = pe.Node(niu.Merge(len(voxelwise)), name='merge_voxelwise')
        for index, column in enumerate(voxelwise):
            test_voxels = pe.Node(
                TestVoxels(map_name=maps[0], column=column, **shared),
                name=f'test_voxels_{index}',
                mem_gb=3.0,
                n_procs=nprocs,
            )
            workflow.connect(test_voxels, 'result', merge_voxelwise, f'in{index + 1}')
        workflow.connect(merge_voxelwise, 'out', report, 'voxelwise')
    if null_models:
        compare_pattern = pe.Node(ComparePattern(**shared), name='compare_pattern', mem_gb=2.0)
        workflow.connect(compare_pattern, 'result', report, 'pattern')
    send_crashes(workflow, crash_dir)
    return workflow
