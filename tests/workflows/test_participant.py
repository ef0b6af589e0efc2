"""Every combination of options builds its graph; runs that compute nothing do what they say."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import networkx as nx
import nibabel as nib
import numpy as np
import pytest
from nipype.pipeline.engine.utils import generate_expanded_graph

from bids_interp.anatomical.templates import with_head_template
from bids_interp.bids.read.query import collect
from bids_interp.errors import ModelError, NothingToDoError, TemplateError
from bids_interp.execution.run import Run, workflow_name
from bids_interp.levels import participant as running
from bids_interp.levels.participant import run_participant
from bids_interp.settings import Settings
from bids_interp.workflows.participant import init_bids_interp_wf, work_key
from helpers import skeletons

NAMES = ('sub-01_ses-a_run-1_T1w.nii.gz', 'sub-01_ses-a_run-2_T1w.nii.gz', 'sub-02_T1w.nii')
OPTIONS = {
    'skull_strip_t1w': ('auto', 'force', 'skip'),
    'output_spaces': (('T1w',), ('template',), ('T1w', 'template')),
    # Neither changes the graph, so they need not be crossed.
    'doses, fast': (((1.0,), False), ((0.5, 1.0), True)),
    'given': ((), ('T1w',), ('mask',), ('T1w', 'mask')),
    'device': ('cpu', 'cuda:0'),
}


@pytest.fixture(scope='module')
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return skeletons.make_dataset(tmp_path_factory.mktemp('bids'), *NAMES)


@pytest.fixture(scope='module')
def derivatives(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple, Path]:
    """Folders with every choice of precomputed files of sub-02."""
    root = tmp_path_factory.mktemp('derivatives')
    endings = {'T1w': 'desc-preproc_T1w', 'mask': 'desc-brain_mask'}
    for given in OPTIONS['given']:
        anat = root / '-'.join(('with', *given)) / 'sub-02' / 'anat'
        anat.mkdir(parents=True)
        for kind in given:
            (anat / f'sub-02_{endings[kind]}.nii.gz').write_bytes(skeletons.make_image().to_bytes())
    return {given: root / '-'.join(('with', *given)) for given in OPTIONS['given']}


def build(settings: Settings, bundle, device: str, tmp_path: Path):
    run = Run(with_head_template(settings), tmp_path / 'work', device, 2, 1, 8.0, 'run')
    return init_bids_interp_wf(run=run, bundle=bundle, records=collect(settings), base_dir=tmp_path)


def test_a_brain_is_written_before_its_registration(dataset: Path, tiny_bundle, tmp_path) -> None:
    """Where the registration fails, mask and brain are there to be looked at."""
    settings = Settings(dataset, tmp_path / 'out', participant_label=('02',))
    graph = build(settings, tiny_bundle, 'cpu', tmp_path)._create_flat_graph()
    graph = generate_expanded_graph(graph)
    by_name = {node.name: node for node in graph.nodes()}
    before = {node.name for node in nx.ancestors(graph, by_name['ds_brain'])}
    assert 'prepare_brain' in before
    assert 'register_brain' not in before
    after = {node.name for node in nx.ancestors(graph, by_name['report'])}
    assert {'ds_brain', 'ds_registration', 'ds_explain'} <= after


@pytest.mark.parametrize(
    'chosen',
    [dict(zip(OPTIONS, values, strict=True)) for values in itertools.product(*OPTIONS.values())],
    ids=lambda chosen: '-'.join(str(value) for value in chosen.values()).replace(' ', ''),
)
def test_every_combination_builds(
    chosen: dict, dataset: Path, derivatives: dict, tiny_bundle, tmp_path: Path
) -> None:
    chosen = dict(chosen)
    given, device = chosen.pop('given'), chosen.pop('device')
    chosen['doses'], chosen['fast'] = chosen.pop('doses, fast')
    settings = Settings(
        dataset,
        tmp_path / 'out',
        participant_label=('02',),
        derivatives=(('prep', derivatives[given]),),
        **chosen,
    )
    workflow = build(settings, tiny_bundle, device, tmp_path)
    graph = generate_expanded_graph(workflow._create_flat_graph())
    names = {node.name for node in graph.nodes()}
    assert ('realise_native' in names) == ('T1w' in settings.output_spaces)
    assert ('realise_template' in names) == ('template' in settings.output_spaces)
    assert {'conform', 'prepare_brain', 'simulate', 'ds_explain', 'report'} <= names
    assert len(names) <= 16
    on_gpu = {node.name for node in graph.nodes() if node.is_gpu_node()}
    assert bool(on_gpu) == device.startswith('cuda')
    inputnode = workflow.get_node('sub_02_wf.inputnode').inputs
    assert (str(inputnode.mask) != '<undefined>') == ('mask' in given)
    assert (str(inputnode.t1w_derivative) != '<undefined>') == ('T1w' in given)


def test_one_workflow_per_image(dataset: Path, tiny_bundle, tmp_path: Path) -> None:
    workflow = build(Settings(dataset, tmp_path / 'out'), tiny_bundle, 'cpu', tmp_path)
    parts = {name.split('.')[0] for name in workflow.list_node_names()}
    prefixes = [name.removesuffix('.gz').removesuffix('_T1w.nii') for name in NAMES]
    assert parts == {workflow_name(prefix) for prefix in prefixes}
    node = workflow.get_node('sub_02_wf.anatomical_wf.conform')
    crash_dir = node.config['execution']['crashdump_dir']
    assert crash_dir == str(tmp_path / 'out' / 'sub-02' / 'log' / 'run')


def test_one_image_that_cannot_be_built_leaves_the_others(
    dataset: Path, tiny_bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bids_interp.workflows import participant as base

    original = base.init_single_t1w_wf

    def broken(*, record, **others):
        if record.subject == '02':
            raise ValueError('cannot be built')
        return original(record=record, **others)

    monkeypatch.setattr(base, 'init_single_t1w_wf', broken)
    settings = Settings(dataset, tmp_path / 'out')
    failed = []
    workflow = base.init_bids_interp_wf(
        run=Run(with_head_template(settings), tmp_path / 'work', 'cpu', 1, 1, 8.0, 'run'),
        bundle=tiny_bundle,
        records=collect(settings),
        base_dir=tmp_path,
        on_error=lambda record, error: failed.append(record.prefix),
    )
    assert failed == ['sub-02']
    assert len({name.split('.')[0] for name in workflow.list_node_names()}) == 2


def test_the_work_directory_depends_on_what_changes_it(dataset: Path, tiny_bundle) -> None:
    settings = Settings(dataset, '/out')
    key = work_key(settings, tiny_bundle)
    for same in ({'doses': (0.5,)}, {'output_dir': '/b'}, {'nprocs': 3}, {'work_dir': '/w'}):
        assert work_key(settings.replace(**same), tiny_bundle) == key
    for other in ({'fast': True}, {'skull_strip_t1w': 'force'}, {'random_seed': 1}):
        assert work_key(settings.replace(**other), tiny_bundle) != key


@pytest.fixture
def settings(dataset: Path, tiny_bundle, tmp_path: Path) -> Settings:
    return Settings(
        dataset,
        tmp_path / 'out',
        model=tiny_bundle.path,
        work_dir=tmp_path / 'work',
        skull_strip_t1w='skip',
        skip_bids_validation=True,
        nprocs=1,
    )


def test_a_template_that_is_not_there_is_found_before_computing(settings: Settings) -> None:
    with pytest.raises(TemplateError, match='MNI152NLin6Asym') as caught:
        run_participant(settings.replace(template='MNI152NLin6Asym', offline=True, dry_run=True))
    assert caught.value.exit_code == 2
    assert not settings.output_dir.exists()


def test_output_spaces_and_atlas_are_checked_before_computing(settings: Settings) -> None:
    for changes, name in (
        ({'output_spaces': ('T1w', 'MNI152NLin6Asym')}, 'MNI152NLin6Asym'),
        ({'atlas': 'Nowhere'}, 'Nowhere'),
    ):
        with pytest.raises(TemplateError, match=name):
            run_participant(settings.replace(offline=True, dry_run=True, **changes))
    assert not settings.output_dir.exists()


def test_a_segmentation_of_one_scan_is_measured_in_that_scan(
    dataset: Path, tiny_bundle, tmp_path: Path
) -> None:
    folder = tmp_path / 'fs' / 'sub-02' / 'mri'
    folder.mkdir(parents=True)
    nib.save(nib.MGHImage(np.ones((4, 4, 4), np.int32), np.eye(4)), folder / 'aparc+aseg.mgz')
    settings = Settings(
        dataset, tmp_path / 'out', derivatives=(('fs', tmp_path / 'fs'),), atlas='aparc+aseg'
    )
    workflow = build(settings, tiny_bundle, 'cpu', tmp_path)
    measured = [name for name in workflow.list_node_names() if name.endswith('measure_regions')]
    assert measured == ['sub_02_wf.explain_wf.measure_regions']
    inputs = workflow.get_node(measured[0]).inputs
    assert (inputs.atlas, inputs.atlas_space) == (str(folder / 'aparc+aseg.mgz'), 'T1w')
    plan = workflow.get_node('sub_02_wf.derivatives_wf.ds_explain').inputs.plan
    (table,) = plan['regions']
    assert table['name'] == 'sub-02/anat/sub-02_seg-aparcaseg_desc-regions_stats.tsv'
    assert 'bids:fs:sub-02/mri/aparc+aseg.mgz' in table['metadata']['Sources']
    other = workflow.get_node('sub_01_ses_a_run_1_wf.derivatives_wf.ds_explain').inputs.plan
    assert 'regions' not in other


def test_transforms_between_templates_are_computed_before_the_workers_start(
    settings: Settings, tiny_bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []
    monkeypatch.setattr(
        'bids_interp.anatomical.spaces.template_transform.template_transform',
        lambda *pair, **_: asked.append(pair),
    )
    image = nib.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4))
    nib.save(image, tmp_path / 'labels.nii.gz')
    changed = settings.replace(
        output_spaces=('Colin27', 'template'), atlas=f'NKI:{tmp_path / "labels.nii.gz"}'
    )
    run = Run(changed, tmp_path / 'work', 'cpu', 1, 1, 8.0, 'run')
    running._prepare_transforms(run, tiny_bundle)
    assert asked == [('Colin27', tiny_bundle.template), (tiny_bundle.template, 'NKI')]


def test_a_dry_run_shows_the_table_and_writes_nothing(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_participant(settings.replace(dry_run=True)) == 0
    assert capsys.readouterr().out.count('4x4x4') == 3
    assert not settings.output_dir.exists()
    assert not settings.work_dir.exists()


def test_boilerplate_only(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_participant(settings.replace(boilerplate_only=True, write_graph=True)) == 0
    logs = settings.output_dir / 'logs'
    assert 'tiny' in (logs / 'CITATION.md').read_text()
    assert (logs / 'CITATION.html').is_file()
    assert list(logs.glob('*_graph*'))
    assert not list(settings.output_dir.glob('sub-*/anat'))
    kept = list(settings.output_dir.glob('sub-02/log/*/bids_interp.toml'))
    assert Settings.from_toml(kept[0].read_text()).bids_dir == settings.bids_dir
    assert run_participant(settings.replace(boilerplate_only=True, md_only_boilerplate=True)) == 0
    assert not (logs / 'CITATION.html').exists()


def test_reports_only_without_derivatives(settings: Settings) -> None:
    assert run_participant(settings.replace(reports_only=True)) == 1


def test_only_bad_images(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = skeletons.make_dataset(tmp_path / 'bad', 'sub-01_T1w.nii.gz', empty=True)
    assert run_participant(settings.replace(bids_dir=root)) == 4
    report = settings.output_dir / 'sub-01.html'
    assert 'sub-01_T1w.nii.gz' in report.read_text()
    assert 'exit code 4' in capsys.readouterr().out


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Prefixes of the images that would be processed; nothing is."""
    prefixes: list[str] = []

    def execute(run, workflow, records):
        prefixes.extend(record.prefix for record in records)
        return running.RunOutcome([running.Outcome(record.prefix) for record in records])

    monkeypatch.setattr(running, 'execute', execute)
    return prefixes


def test_a_bad_image_leaves_the_good_one(
    settings: Settings, tmp_path: Path, tried: list[str]
) -> None:
    root = skeletons.make_dataset(tmp_path / 'mixed', 'sub-01_T1w.nii.gz', empty=True)
    skeletons.make_dataset(root, 'sub-02_T1w.nii.gz')
    assert run_participant(settings.replace(bids_dir=root)) == 1
    assert tried == ['sub-02']


def test_images_with_one_output_name_leave_the_others(
    settings: Settings,
    tmp_path: Path,
    tried: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ('sub-02_T1w.nii', 'sub-10_T1w.nii', 'sub-10_T1w.nii.gz', 'sub-PD_01_T1w.nii')
    root = skeletons.make_dataset(tmp_path / 'shared', *names[:3])
    place = root / 'sub-PD_01' / 'anat' / names[3]
    place.parent.mkdir(parents=True)
    place.write_bytes((root / 'sub-02' / 'anat' / names[0]).read_bytes())
    assert run_participant(settings.replace(bids_dir=root)) == 1
    assert tried == ['sub-02']
    assert re.search(r'\b1 of 4 ', capsys.readouterr().out)
    reports = {path.name: path.read_text() for path in settings.output_dir.glob('sub-*.html')}
    assert '/sub-10_T1w.nii ' in reports['sub-10.html']
    assert '/sub-10_T1w.nii.gz ' in reports['sub-10.html']
    (other,) = (text for name, text in reports.items() if name != 'sub-10.html')
    assert ' PD_01 ' in other


def test_bad_models_are_found_before_computing(
    settings: Settings, tiny_bundle, tmp_path: Path
) -> None:
    import shutil

    copy = tmp_path / 'copy'
    shutil.copytree(tiny_bundle.path, copy)
    weights = next(copy.glob('*classifier.safetensors'))
    weights.write_bytes(weights.read_bytes()[:-1])
    for model in (tmp_path / 'nowhere', copy):
        with pytest.raises(ModelError) as caught:
            run_participant(settings.replace(model=model))
        assert caught.value.exit_code == 5
        assert str(model) in str(caught.value)


def test_nothing_selected(settings: Settings, tmp_path: Path) -> None:
    query = tmp_path / 'filter.json'
    query.write_text(json.dumps({'t1w': {'acquisition': 'x'}}))
    with pytest.raises(NothingToDoError):
        run_participant(settings.replace(bids_filter_file=query))
