from __future__ import annotations

import json
import re

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from bids_interp.cli.tools.command import tools
from bids_interp.cli.tools.phantom import phantom
from bids_interp.errors import OutputError, UsageError
from bids_interp.phantom.change.effects import EFFECTS, parse_effect
from bids_interp.phantom.heads.head_dataset import make_phantom_dataset


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp('phantom') / 'bids'
    return make_phantom_dataset(folder, n=4, seed=3, spacing_mm=4.0)


def rows(path):
    lines = path.read_text('utf-8').splitlines()
    return [dict(zip(lines[0].split('\t'), line.split('\t'), strict=True)) for line in lines[1:]]


def load(path):
    image = nib.load(path)
    return image, np.asarray(image.dataobj)


def test_dataset_has_scans_labels_and_truth(dataset):
    people = rows(dataset / 'participants.tsv')
    assert [person['participant_id'] for person in people] == [f'sub-{i:02d}' for i in range(1, 5)]
    assert sorted(person['group'] for person in people) == ['control'] * 2 + ['patient'] * 2
    directions = {
        row['participant_id']: row['direction']
        for row in rows(dataset / 'derivatives/truth/truth.tsv')
    }
    for person in people:
        label = person['participant_id']
        image, data = load(dataset / label / 'anat' / f'{label}_T1w.nii.gz')
        assert image.get_data_dtype() == np.int16
        assert np.allclose(image.get_sform(), image.get_qform(), atol=1e-4)
        anat = dataset / 'derivatives' / 'truth' / label / 'anat'
        _, mask = load(anat / f'{label}_desc-brain_mask.nii.gz')
        litres = mask.sum() * np.prod(image.header.get_zooms()) / 1e6
        assert 1.4 < litres < 2.4
        assert np.median(data[mask > 0]) > 5 * np.median(data[:4])
        expected = 'remove' if person['group'] == 'patient' else 'inject'
        assert directions[label] == expected
        sidecar = json.loads((anat / f'{label}_desc-truth{expected}_logjacobian.json').read_text())
        assert sidecar['Direction'] == expected
        assert 'positive' in sidecar['Sign']


def test_truth_has_its_sign_where_the_hippocampus_is(dataset):
    for row in rows(dataset / 'derivatives' / 'truth' / 'truth.tsv'):
        label, sign = row['participant_id'], {'inject': -1, 'remove': 1}[row['direction']]
        anat = dataset / 'derivatives' / 'truth' / label / 'anat'
        stem = f'desc-truth{row["direction"]}_logjacobian.nii.gz'
        pose = json.loads(
            (anat / f'{label}_from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.json').read_text()
        )
        place = np.linalg.inv(pose['NativeToTemplate']) @ [28, -15, -14, 1]
        for name, point in (
            (f'{label}_{stem}', place),
            (f'{label}_space-MNI152NLin2009aSym_{stem}', [28, -15, -14, 1]),
        ):
            image, data = load(anat / name)
            index = np.rint(np.linalg.inv(image.affine) @ point)[:3].astype(int)
            near = data[tuple(slice(i - 2, i + 3) for i in index)]
            assert sign * near.max() > 0 or sign * near.min() > 0
            assert (sign * near).max() > 0.2, name


def test_same_seed_same_files(dataset, tmp_path):
    again = make_phantom_dataset(tmp_path / 'again', n=4, seed=3, spacing_mm=4.0)
    for path in sorted(dataset.rglob('*')):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(dataset)).read_bytes(), path.name
    other = make_phantom_dataset(tmp_path / 'other', n=1, seed=4, spacing_mm=4.0)
    name = 'sub-01/anat/sub-01_T1w.nii.gz'
    assert (other / name).read_bytes() != (dataset / name).read_bytes()


def test_validator_finds_no_error(dataset, validate_bids):
    assert validate_bids(dataset) == ''
    assert validate_bids(dataset / 'derivatives' / 'truth') == ''


def test_stripped_null_dataset_replaces_only_its_own_kind(tmp_path):
    out = tmp_path / 'bids'
    options = {'n': 1, 'effect': 'none', 'spacing_mm': 4.0, 'stripped': True, 'fraction': 1.0}
    make_phantom_dataset(out, **options)
    _, data = load(out / 'sub-01' / 'anat' / 'sub-01_T1w.nii.gz')
    _, mask = load(out / 'derivatives/truth/sub-01/anat/sub-01_desc-brain_mask.nii.gz')
    assert not data[mask == 0].any()
    assert data[mask > 0].mean() > 100
    assert not list(out.rglob('*logjacobian*'))
    with pytest.raises(OutputError, match='--overwrite'):
        make_phantom_dataset(out, **options)
    make_phantom_dataset(out, **options, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bids']
    precious = tmp_path / 'precious'
    precious.mkdir()
    (precious / 'thesis.txt').write_text('years of work')
    with pytest.raises(OutputError, match=re.escape(str(precious))):
        make_phantom_dataset(precious, **options, overwrite=True)
    assert (precious / 'thesis.txt').exists()


@pytest.mark.parametrize(
    ('options', 'word'),
    [
        ({'n': 0}, r'\b0 '),
        ({'fraction': 1.5}, r'^1\.5 '),
        ({'severity': (1.3, 0.7)}, r'^1\.3 \w+ 0\.7 '),
        ({'seed': -1}, r'seed\b.* -1 '),
        ({'spacing_mm': 0.1}, r'\b0\.1 mm'),
        ({'effect': 'hippocampus_total'}, 'hippocampus_mild'),
        ({'effect': 'hippocampus=much'}, "'much'.*hippocampus"),
        ({'effect': 'hippocampo=-0.1'}, "'hippocampo'"),
    ],
)
def test_impossible_requests_are_refused_before_anything_is_written(tmp_path, options, word):
    with pytest.raises(UsageError, match=word):
        make_phantom_dataset(tmp_path / 'bids', **options)
    assert not list(tmp_path.iterdir())


def test_every_named_effect_can_be_read():
    for name, effect in EFFECTS.items():
        assert parse_effect(name) is effect
    made = parse_effect('caudate_left=-0.2, thalamus=0.1, absorb=csf')
    assert made.changes == {'caudate_left': -0.2, 'thalamus': 0.1}
    assert made.absorb == 'csf'


def test_command_line(tmp_path):
    def run(*arguments):
        return CliRunner().invoke(tools, ['phantom', str(tmp_path / 'x'), *arguments])

    wrong = run('--effect', 'nonsense')
    assert wrong.exit_code == 2
    assert 'hippocampus' in wrong.output
    made = run('--n', '1', '--spacing', '4', '--severity', '0.5', '1')
    assert made.exit_code == 0, made.output
    assert (tmp_path / 'x' / 'sub-01' / 'anat' / 'sub-01_T1w.nii.gz').is_file()
    again = run('--n', '1')
    assert again.exit_code == 2
    assert '--overwrite' in again.output


def test_help_names_every_effect():
    text = CliRunner().invoke(phantom, ['--help']).output
    for name in EFFECTS:
        assert name in text
