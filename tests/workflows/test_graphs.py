"""Graphs are complete: nodes, connections and counts, without a run."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_interp.bids.read.query import T1wRecord
from bids_interp.errors import ImageError
from bids_interp.execution.progress import Progress, count_nodes
from bids_interp.execution.run import Run
from bids_interp.levels.image_reports import is_done
from bids_interp.levels.labels import LabelledImage
from bids_interp.levels.train_inputs import image_table
from bids_interp.settings import Settings
from bids_interp.workflows.group import init_group_wf
from bids_interp.workflows.inject import init_inject_wf
from bids_interp.workflows.train_sanity import add_sanity


def _group_wf(folder: Path, voxelwise: list[str], null_models: bool) -> pe.Workflow:
    for name in ('analysis.json', 'grid_regions.npz'):
        (folder / name).touch()
    return init_group_wf(
        analysis=folder / 'analysis.json',
        grid_regions=folder / 'grid_regions.npz',
        maps=['inject100', 'remove100'],
        voxelwise=voxelwise,
        null_models=null_models,
        nprocs=3,
        crash_dir=folder / 'crash',
        base_dir=folder / 'work',
    )


@pytest.mark.parametrize(
    ('voxelwise', 'null_models', 'inputs'),
    [
        ([], False, {'summaries', 'tables', 'scores'}),
        (['age', 'sex'], True, {'summaries', 'tables', 'scores', 'voxelwise', 'pattern'}),
    ],
)
def test_the_group_report_waits_for_every_result(
    tmp_path: Path, voxelwise: list[str], null_models: bool, inputs: set[str]
) -> None:
    workflow = _group_wf(tmp_path, voxelwise, null_models)
    report = workflow.get_node('report')
    edges = workflow._graph.in_edges(report, data=True)
    assert {target for *_, data in edges for _, target in data['connect']} == inputs
    tests = [name for name in workflow.list_node_names() if name.startswith('test_voxels')]
    assert len(tests) == len(voxelwise)
    assert all(workflow.get_node(name).n_procs == 3 for name in tests)


def _double(x: int) -> int:
    return 2 * x


def test_nodes_that_only_pass_fields_on_are_not_counted() -> None:
    part = pe.Workflow('part')
    inputnode = pe.Node(niu.IdentityInterface(fields=['x']), name='inputnode')
    steps = [pe.Node(niu.Function(function=_double), name=name) for name in ('one', 'two')]
    part.connect([(inputnode, step, [('x', 'x')]) for step in steps])
    whole = pe.Workflow('whole')
    whole.add_nodes([part])
    assert count_nodes(whole) == {'part': 2}


class _Node:
    def __init__(self, step: str) -> None:
        self.fullname, self.name = f'whole.part.{step}', step


def test_an_image_is_done_when_all_its_nodes_are(tmp_path: Path) -> None:
    progress = Progress({'part': 'sub-01_T1w'}, {'part': 2})
    progress.update(_Node('one'), 'start')
    progress.update(_Node('one'), 'end')
    assert progress.outcome('part', tmp_path).problem
    progress.update(_Node('two'), 'end')
    assert progress.outcome('part', tmp_path).problem == ''
    assert (progress.n_done['part'], progress.n_cached['part']) == (2, 1)


def test_the_first_failure_and_its_crash_file_are_kept(tmp_path: Path) -> None:
    progress = Progress({'part': 'sub-01_T1w'}, {'part': 2})
    for step in ('one', 'two'):
        progress.update(_Node(step), 'start')
        progress.update(_Node(step), 'exception')
    crash = tmp_path / 'crash-1-one-x.txt'
    crash.write_text('Traceback (most recent call last):\n  ...\nValueError: too small\n')
    (tmp_path / 'crash-1-two-x.txt').touch()
    outcome = progress.outcome('part', tmp_path)
    assert (outcome.step, outcome.crash_file) == ('one', crash)
    assert 'too small' in outcome.problem


def _inject_wf(folder: Path, records: list[T1wRecord]) -> pe.Workflow:
    run = Run(Settings(folder, folder / 'out'), folder / 'work', 'cpu', 1, 1, 8.0, 'now')
    return init_inject_wf(
        run=run,
        records=records,
        replicates={},
        injection={},
        model_template='MNI152NLin2009aSym',
        base_dir=folder / 'work',
    )


def test_images_with_the_same_name_share_one_node_that_fails(tmp_path: Path) -> None:
    entities = {'sub': '01'}
    records = [
        T1wRecord(tmp_path / name, '01', None, entities, problem=name) for name in ('a', 'b')
    ]
    (name,) = _inject_wf(tmp_path, records).list_node_names()
    node = _inject_wf(tmp_path, records).get_node(name)
    with pytest.raises(ImageError) as found:
        node.interface.run()
    assert found.value.message == 'a'


def test_an_image_is_done_when_its_prediction_is_written(tmp_path: Path) -> None:
    settings = Settings(tmp_path, tmp_path / 'out')
    folder = tmp_path / 'out' / 'sub-01' / 'ses-a' / 'anat'
    folder.mkdir(parents=True)
    (folder / 'sub-01_ses-a_desc-explain_prediction.json').touch()
    assert is_done(settings, 'sub-01_ses-a')
    assert not is_done(settings, 'sub-01_ses-b')
    assert not is_done(settings, 'sub-02')


def test_sanity_checks_wait_for_their_fold(tmp_path: Path) -> None:
    fields = {'gather_cohort': ['cohort', 'folds'], 'assemble_model': ['sanity']}
    fields |= {f'train_fold_{index}': ['result'] for index in (0, 1)}
    workflow = pe.Workflow('train_wf')
    workflow.add_nodes(
        [pe.Node(niu.IdentityInterface(fields=names), name=name) for name, names in fields.items()]
    )
    add_sanity(workflow, 1, tmp_path, {}, {'mem_gb': 2.5})
    node = workflow.get_node('sanity_fold_1')
    assert node.mem_gb == 2.5
    assert node.inputs.index == 1
    sources = {source.name for source, _ in workflow._graph.in_edges(node)}
    targets = {target.name for _, target in workflow._graph.out_edges(node)}
    assert (sources, targets) == ({'gather_cohort', 'train_fold_1'}, {'assemble_model'})


def _labelled(path: Path, subject: str, family: str, age: str) -> LabelledImage:
    record = T1wRecord(path, subject, None, {'sub': subject}, 'ds')
    return LabelledImage(record, 1.0, family, {'age': age, 'site': 'x'})


def test_a_copied_scan_has_the_key_of_its_original(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = []
    for subject in ('01', '02'):
        path = tmp_path / f'{subject}.nii'
        nib.Nifti1Image(rng.random((4, 5, 6), np.float32), np.eye(4)).to_filename(path)
        images.append(_labelled(path, subject, f'f{subject}', '30'))
    copy = tmp_path / 'copy.nii.gz'
    nib.load(tmp_path / '01.nii').to_filename(copy)
    images.append(_labelled(copy, '03', 'f01', '31'))
    settings = Settings(tmp_path, tmp_path / 'out', covariates=('age', 'site'), nprocs=1)
    known = image_table(settings, images)
    voxels = [key[0] for key in known['keys']]
    assert voxels[0] == voxels[2] != voxels[1]
    assert len({key[1] for key in known['keys']}) == 3
    assert known['families'] == ['f01', 'f02', 'f01']
    assert known['covariates']['age'] == ['30', '30', '31']
    assert known['site'] == 'site'
