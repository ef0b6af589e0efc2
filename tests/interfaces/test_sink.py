"""The sink: planned files and sidecars, nothing else, again and again."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.bids.explain_files import realised_files
from bids_interp.bids.write.scan_outputs import PlannedOutput
from bids_interp.errors import OutputError
from bids_interp.interfaces.sink import DerivativesSink

PLAN = {
    'maps': [
        PlannedOutput(
            f'sub-01/anat/sub-01_desc-{name}_T1w.nii.gz',
            {'Description': name},
            runtime_fields=(('#', 'facts'), ('SkullStripped', 'stripped')),
            label=name,
        )
        for name in ('a', 'b')
    ],
    'answer': [PlannedOutput('sub-01/anat/sub-01_desc-explain_prediction.json', {'Sources': []})],
    'matrix': [PlannedOutput('sub-01/anat/sub-01_from-a_to-b_mode-image_xfm.txt', {'X': 1})],
}


@pytest.fixture
def sink(tmp_path):
    """A sink with everything connected."""
    maps = []
    for value in (1, 2):
        image = nib.Nifti1Image(np.full((3, 3, 3), value, np.float32), np.diag([-2, 2, 2, 1]))
        maps.append(str(tmp_path / f'{value}.nii.gz'))
        image.to_filename(maps[-1])
    (tmp_path / 'facts.json').write_text('{"a": {"Folded": 0}, "b": {"Folded": 7}}')
    (tmp_path / 'answer.json').write_text('{"Logit": 1.5}')
    (tmp_path / 'matrix.txt').write_text('#Insight Transform File V1.0\n')
    return DerivativesSink(
        plan=PLAN,
        out_dir=str(tmp_path / 'out'),
        maps=maps,
        facts=str(tmp_path / 'facts.json'),
        stripped=True,
        answer=str(tmp_path / 'answer.json'),
        matrix=str(tmp_path / 'matrix.txt'),
    )


def test_files_and_sidecars_are_where_they_were_planned(tmp_path, sink):
    written = sink.run(cwd=str(tmp_path)).outputs.out_files
    anat = tmp_path / 'out' / 'sub-01' / 'anat'
    assert sorted(os.listdir(anat)) == [
        'sub-01_desc-a_T1w.json',
        'sub-01_desc-a_T1w.nii.gz',
        'sub-01_desc-b_T1w.json',
        'sub-01_desc-b_T1w.nii.gz',
        'sub-01_desc-explain_prediction.json',
        'sub-01_from-a_to-b_mode-image_xfm.json',
        'sub-01_from-a_to-b_mode-image_xfm.txt',
    ]
    assert len(written) == 4
    image = nib.load(anat / 'sub-01_desc-b_T1w.nii.gz')
    assert (image.get_fdata() == 2).all()
    assert (image.header['sform_code'], image.header['qform_code']) == (1, 1)
    sidecar = json.loads((anat / 'sub-01_desc-b_T1w.json').read_text())
    assert sidecar == {'Description': 'b', 'Folded': 7, 'SkullStripped': True}
    answer = json.loads((anat / 'sub-01_desc-explain_prediction.json').read_text())
    assert answer == {'Sources': [], 'Logit': 1.5}


def test_a_second_run_touches_nothing_and_brings_back_what_was_removed(tmp_path, sink):
    anat = tmp_path / 'out' / 'sub-01' / 'anat'
    sink.run(cwd=str(tmp_path))
    before = {name: (anat / name).stat().st_ino for name in os.listdir(anat)}
    removed = 'sub-01_desc-a_T1w.nii.gz'
    (anat / removed).unlink()
    sink.run(cwd=str(tmp_path))
    after = {name: (anat / name).stat().st_ino for name in os.listdir(anat)}
    assert set(after) == set(before)
    assert {k: v for k, v in after.items() if k != removed} == {
        k: v for k, v in before.items() if k != removed
    }


def test_fewer_files_than_planned_are_an_error(tmp_path, sink):
    sink.inputs.maps = sink.inputs.maps[:1]
    with pytest.raises(ValueError, match=r'\bmaps\b.*\b1\b.*\b2\b'):
        sink.run(cwd=str(tmp_path))


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def corrupt(path):
    """Change one voxel behind the checksum's back."""
    data = bytearray(path.read_bytes())
    data[-5] ^= 255  # the checksum of gzip
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b'')


@pytest.mark.parametrize('damage', [cut, corrupt, empty])
@pytest.mark.parametrize('stamped', [True, False])
def test_a_damaged_map_never_replaces_a_good_one(tmp_path, sink, damage, stamped):
    good = tmp_path / 'out' / 'sub-01' / 'anat' / 'sub-01_desc-b_T1w.nii.gz'
    sink.run(cwd=str(tmp_path))
    before = good.read_bytes()
    source = Path(sink.inputs.maps[1])
    if stamped:  # copied as it is, without a change of the header
        source.write_bytes(before)
    damage(source)
    with pytest.raises(OutputError, match=re.escape(str(source))):
        sink.run(cwd=str(tmp_path))
    assert good.read_bytes() == before
    assert sorted(good.parent.glob('.*')) == []


@pytest.mark.parametrize(
    ('name', 'content'),
    [('answer.json', '{"Logit": '), ('facts.json', ''), ('matrix.txt', '#Insight Tr')],
)
def test_a_damaged_text_never_replaces_a_good_one(tmp_path, sink, name, content):
    sink.run(cwd=str(tmp_path))
    out = tmp_path / 'out'
    before = {path: path.read_bytes() for path in out.rglob('*.*')}
    (tmp_path / name).write_text(content)
    with pytest.raises(OutputError, match=re.escape(str(tmp_path / name))):
        sink.run(cwd=str(tmp_path))
    assert {path: path.read_bytes() for path in out.rglob('*.*')} == before


def test_something_that_is_not_connected_is_an_error(tmp_path, sink):
    unconnected = DerivativesSink(plan=PLAN, out_dir=str(tmp_path / 'out'))
    with pytest.raises(ValueError, match=r'\bmaps\b\D*$'):
        unconnected.run(cwd=str(tmp_path))


def explain_plan(tmp_path) -> dict[str, list[PlannedOutput]]:
    files = realised_files('logjacobian', 'native', [1.0])
    return {
        'logjacobian_native': [
            PlannedOutput(
                f'sub-01/anat/sub-01_desc-{file.label}_logjacobian.nii.gz',
                {'Direction': file.direction},
                runtime_fields=(('#', 'native_facts'),),
                stem=file.stem,
                label=file.label,
            )
            for file in files
        ]
    }


def explain_sink(tmp_path, names: list[str]) -> DerivativesSink:
    paths = []
    for value, name in enumerate(names):
        image = nib.Nifti1Image(np.full((3, 3, 3), value, np.float32), np.diag([-2, 2, 2, 1]))
        paths.append(str(tmp_path / f'{name}.nii.gz'))
        image.to_filename(paths[-1])
    # The order of the keys is not that of the files.
    (tmp_path / 'facts.json').write_text(
        '{"remove100": {"VoxelsFolded": 3}, "inject100": {"VoxelsFolded": 1}}'
    )
    return DerivativesSink(
        plan=explain_plan(tmp_path),
        out_dir=str(tmp_path / 'out'),
        logjacobian_native=paths,
        native_facts=str(tmp_path / 'facts.json'),
    )


def test_facts_go_to_the_map_that_they_are_about(tmp_path):
    sink = explain_sink(tmp_path, ['logjacobian_native_inject100', 'logjacobian_native_remove100'])
    sink.run(cwd=str(tmp_path))
    anat = tmp_path / 'out' / 'sub-01' / 'anat'
    for direction, folded in (('inject', 1), ('remove', 3)):
        sidecar = json.loads((anat / f'sub-01_desc-{direction}100_logjacobian.json').read_text())
        assert sidecar == {'Direction': direction, 'VoxelsFolded': folded}


@pytest.mark.parametrize(
    'names',
    [
        ['logjacobian_native_remove100', 'logjacobian_native_inject100'],
        ['simulated_native_inject100', 'simulated_native_remove100'],
        ['logjacobian_template_inject100', 'logjacobian_template_remove100'],
        ['logjacobian_native_inject050', 'logjacobian_native_remove050'],
    ],
)
def test_files_of_another_order_direction_dose_or_space_are_an_error(tmp_path, names):
    sink = explain_sink(tmp_path, names)
    with pytest.raises(ValueError, match=names[0]):
        sink.run(cwd=str(tmp_path))
    assert not (tmp_path / 'out').exists()
