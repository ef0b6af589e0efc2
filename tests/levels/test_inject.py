from __future__ import annotations

import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest

from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.errors import OutputError, UsageError
from bids_interp.levels.inject import run_inject
from bids_interp.levels.inject_request import Injection, fit_injection, read_effect
from bids_interp.phantom.change.effects import parse_effect
from bids_interp.phantom.inject.scenarios import SCENARIOS, custom_scenario
from bids_interp.phantom.regions.atlas import Atlas
from bids_interp.settings import Settings
from bids_interp.spatial import Grid
from helpers import skeletons


def rows(path):
    lines = path.read_text('utf-8').splitlines()
    return [dict(zip(lines[0].split('\t'), line.split('\t'), strict=True)) for line in lines[1:]]


def test_real_brain_and_a_damaged_one(shared_data, tmp_path, validate_bids, capsys):
    source, bids = shared_data / 'data' / 'ds002748-2mm', tmp_path / 'bids'
    shutil.copytree(source / 'sub-01', bids / 'sub-01')
    for name in ('dataset_description.json', 'participants.tsv', 'participants.json'):
        shutil.copy(source / name, bids / name)
    damaged = bids / 'sub-03' / 'anat' / 'sub-03_T1w.nii.gz'
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b'no image')
    out = tmp_path / 'out'
    settings = Settings(bids, out, work_dir=tmp_path / 'work', nprocs=2, offline=True)
    injection = Injection(SCENARIOS['S3'], replicates=2, seed=4, anatomy_mm=1.0)
    assert run_inject(settings, injection) == 1
    said = capsys.readouterr().out
    assert re.search(r'sub-03: failed .*\bconform: .*sub-03_T1w\.nii\.gz', said)
    people = rows(out / 'participants.tsv')
    assert [person['participant_id'] for person in people] == ['sub-01r1', 'sub-01r2']
    assert sorted(person['group'] for person in people) == ['control', 'patient']
    assert {(p['family'], p['age'], p['source_group']) for p in people} == {('01', '39', 'depr')}
    assert validate_bids(out) == ''
    truth_root = out / 'derivatives' / 'truth'
    assert validate_bids(truth_root) == ''
    original = nib.load(source / 'sub-01' / 'anat' / 'sub-01_T1w.nii.gz')
    for person in people:
        label = person['participant_id']
        image = nib.load(out / label / 'anat' / f'{label}_T1w.nii.gz')
        np.testing.assert_allclose(image.affine, original.affine, atol=1e-4)
        known = np.corrcoef(image.get_fdata().ravel(), original.get_fdata().ravel())[0, 1]
        assert 0.8 < known < 0.999
        direction, sign = {'patient': ('remove', 1), 'control': ('inject', -1)}[person['group']]
        anat = truth_root / label / 'anat'
        pose = json.loads(
            (anat / f'{label}_from-T1w_to-{EMBEDDED_TEMPLATE}_mode-image_xfm.json').read_text()
        )
        native = nib.load(anat / f'{label}_desc-truth{direction}_logjacobian.nii.gz')
        to_voxel = np.linalg.inv(pose['NativeToTemplate'] @ native.affine)
        for x, low, high in ((-12, 0.1, 0.35), (12, -0.05, 0.05)):
            place = np.rint(to_voxel @ [x, -18, 8, 1])[:3].astype(int)
            near = native.get_fdata()[tuple(slice(i - 1, i + 2) for i in place)]
            assert low < (sign * near).mean() < high
    kept = (out / 'participants.tsv').read_bytes()
    with pytest.raises(OutputError, match='--overwrite'):
        run_inject(settings, Injection(SCENARIOS['S4'], replicates=2, seed=4))
    assert (out / 'participants.tsv').read_bytes() == kept


def test_images_with_one_output_name_are_refused_and_the_others_go_on(tmp_path, capsys):
    names = ('sub-10_T1w.nii', 'sub-10_T1w.nii.gz', 'sub-CTRL-01_T1w.nii')
    bids = skeletons.make_dataset(tmp_path / 'in', *names)
    skeletons.make_dataset(bids, 'sub-20_T1w.nii', empty=True)
    settings = Settings(bids, tmp_path / 'out', work_dir=tmp_path / 'work', nprocs=1, offline=True)
    assert run_inject(settings, Injection(SCENARIOS['S3'], replicates=2)) == 1
    said = capsys.readouterr().out
    failed = re.findall(r'(sub-\S+): failed .*\bcheck_input: (.*)', said)
    assert [name for name, _ in failed] == ['sub-10', 'sub-10', 'sub-CTRL-01']
    for _, problem in failed[:2]:
        assert all(f'{name} ' in problem for name in names[:2])
    assert ' CTRL-01 ' in failed[2][1]
    # It was tried: what is wrong with it is another matter.
    assert re.search(r'sub-20: failed .*\bconform: ', said)


def test_places_are_checked_before_anything_is_computed(tmp_path):
    bids = skeletons.make_dataset(tmp_path / 'in', 'sub-01_T1w.nii.gz', 'sub-02_T1w.nii.gz')
    injection = Injection(SCENARIOS['S1'], replicates=2)
    with pytest.raises(OutputError, match='out/work.*--work-dir'):
        run_inject(Settings(bids, tmp_path / 'out', work_dir=tmp_path / 'out/work'), injection)
    with pytest.raises(OutputError, match=rf'{re.escape(str(bids))}/out .*{re.escape(str(bids))} '):
        run_inject(Settings(bids, bids / 'out', work_dir=tmp_path / 'work'), injection)
    one = Settings(bids, tmp_path / 'out', work_dir=tmp_path / 'work', participant_label=('01',))
    with pytest.raises(UsageError, match=r'^1 .*\b2 replicates'):
        run_inject(one, injection)
    assert not (tmp_path / 'out').exists()


def test_atlas_of_another_space_stops_the_run_before_planning(tmp_path):
    labels = np.zeros((20, 20, 20), np.int32)
    labels[2:9, 2:9, 2:9] = 1
    elsewhere = np.diag([4.0, 4, 4, 1]) + np.outer([80, 60, 90, 0], [0, 0, 0, 1])
    atlas = Atlas(tmp_path / 'a.nii.gz', labels, Grid(labels.shape, elsewhere), {'x': 1})
    scenario = custom_scenario(parse_effect(['x=-10%'], ['x']))
    with pytest.raises(UsageError, match=r'\d+% .*a\.nii\.gz'):
        fit_injection(Settings('/in', '/out'), Injection(scenario, atlas=atlas))


def test_an_atlas_of_templateflow_brings_its_template(tmp_path, monkeypatch):
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    folder = tmp_path / 'tpl-Other'
    folder.mkdir()
    image = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4))
    nib.save(image, folder / 'tpl-Other_res-01_atlas-A_dseg.nii.gz')
    (folder / 'tpl-Other_atlas-A_dseg.tsv').write_text('index\tname\n1\tall\n')
    planted, template, atlas = read_effect(['all=-5%'], 'Other:A')
    assert planted.changes == {'all': -0.05}
    assert template == 'Other'
    assert atlas is not None
    assert atlas.index == {'all': 1}
