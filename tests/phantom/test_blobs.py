from __future__ import annotations

import json
import re

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from bids_interp.cli.tools.command import tools
from bids_interp.errors import OutputError, UsageError
from bids_interp.phantom.blobs.blob_dataset import make_blobs_dataset
from bids_interp.phantom.blobs.blob_image import CHANGE, VARIANTS, design_blobs, draw_blobs


def rows(path):
    lines = path.read_text('utf-8').splitlines()
    return [dict(zip(lines[0].split('\t'), line.split('\t'), strict=True)) for line in lines[1:]]


def draw(made, seed, patient, severity=1.0):
    return draw_blobs(made, np.random.default_rng(seed), patient, severity)


@pytest.fixture(scope='module')
def plain():
    return design_blobs(2, 'plain', 1.3)


def test_patients_have_two_smaller_blobs_and_the_truth_says_by_how_much(plain):
    ratios = []
    for seed in range(12):
        healthy, ill = draw(plain, seed, False), draw(plain, seed, True)
        assert healthy.image.shape == (64, 64, 1)
        assert (healthy.small, ill.small) == ((), (1, 2))
        for number in (1, 2):
            before, after = healthy.labels == number, ill.labels == number
            told = np.expm1(healthy.truths['inject'][before].astype(np.float64)).mean()
            ratios.append((after.sum() / before.sum() - 1, told))
            # Taking away what was planted gives the healthy size back.
            back = np.expm1(ill.truths['remove'][after].astype(np.float64)).mean()
            assert (1 + back) * after.sum() == pytest.approx(before.sum(), rel=0.1)
        for number in (3, 4):
            assert (ill.labels == number).sum() == pytest.approx(
                (healthy.labels == number).sum(), rel=0.1
            )
    observed, told = np.mean(ratios, axis=0)
    assert told == pytest.approx(CHANGE, abs=0.03)
    assert observed == pytest.approx(told, abs=0.03)


def test_label_is_the_exclusive_or_of_two_sizes_each_of_which_says_nothing():
    made = design_blobs(2, 'xor', 1.0)
    small = {True: [], False: []}
    for seed in range(24):
        for patient in (True, False):
            blobs = draw(made, seed, patient)
            assert len(blobs.small) % 2 == patient
            small[patient].append(1 in blobs.small)
            direction = 'remove' if patient else 'inject'
            assert set(blobs.truths) == {f'{direction}blob1', f'{direction}blob2'}
            for number in (1, 2):
                values = blobs.truths[f'{direction}blob{number}'][blobs.labels == number]
                # A small blob would grow, a large one would shrink.
                assert (values.mean() > 0.2) == (number in blobs.small)
                assert (values.mean() < -0.2) == (number not in blobs.small)
    assert abs(np.mean(small[True]) - np.mean(small[False])) < 0.35


def test_intensity_and_null_change_no_shape():
    made = design_blobs(2, 'intensity')
    healthy, ill = draw(made, 1, False), draw(made, 1, True)
    np.testing.assert_array_equal(healthy.labels, ill.labels)
    assert healthy.truths == ill.truths == {}
    for number, factor in ((1, 0.75), (3, 1.0)):
        inside = healthy.labels == number
        ratio = ill.image[inside].mean() / healthy.image[inside].mean()
        assert ratio == pytest.approx(factor, abs=0.06)
    null = design_blobs(2, 'null')
    np.testing.assert_array_equal(draw(null, 1, False).image, draw(null, 1, True).image)


def test_three_dimensional_blobs_are_exact_too():
    blobs = draw(design_blobs(3, 'plain'), 0, patient=False)
    assert blobs.image.shape == (64, 64, 64)
    assert set(np.unique(blobs.labels)) == set(range(9))
    told = np.expm1(blobs.truths['inject'][blobs.labels == 1].astype(np.float64)).mean()
    assert told == pytest.approx(CHANGE, abs=0.06)


@pytest.mark.parametrize('variant', VARIANTS)
def test_dataset_has_images_labels_and_truth(tmp_path, variant):
    out = make_blobs_dataset(tmp_path / 'bids', n=4, variant=variant, seed=2)
    people = rows(out / 'participants.tsv')
    assert sorted(person['group'] for person in people) == ['control'] * 2 + ['patient'] * 2
    image = nib.load(out / 'sub-01' / 'anat' / 'sub-01_T1w.nii.gz')
    assert image.shape == (64, 64, 1)
    assert image.get_data_dtype() == np.int16
    maps = sorted((out / 'derivatives' / 'truth').rglob('*_logjacobian.nii.gz'))
    assert len(maps) == {'plain': 4, 'xor': 8}.get(variant, 0)
    assert len(rows(out / 'derivatives' / 'truth' / 'truth.tsv')) == len(maps)
    for path in maps:
        facts = json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text())
        assert f'truth{facts["Direction"]}_' in path.name
    again = make_blobs_dataset(tmp_path / 'again', n=4, variant=variant, seed=2)
    for path in out.rglob('*.nii.gz'):
        assert path.read_bytes() == (again / path.relative_to(out)).read_bytes()


def test_validator_finds_no_error(tmp_path, validate_bids):
    out = make_blobs_dataset(tmp_path / 'bids', n=2, seed=2)
    assert validate_bids(out) == ''
    assert validate_bids(out / 'derivatives' / 'truth') == ''


def test_impossible_blobs_are_refused(tmp_path):
    with pytest.raises(UsageError, match='--dim'):
        make_blobs_dataset(tmp_path / 'x', dim=4)
    with pytest.raises(UsageError, match="'odd'.*: plain"):
        make_blobs_dataset(tmp_path / 'x', variant='odd')
    with pytest.raises(UsageError, match=r' 40(\.0)?\b'):
        make_blobs_dataset(tmp_path / 'x', severity=(1.0, 40.0))
    assert not list(tmp_path.iterdir())
    (tmp_path / 'x').mkdir()
    (tmp_path / 'x' / 'thesis.txt').write_text('years of work')
    with pytest.raises(OutputError, match=re.escape(str(tmp_path / 'x'))):
        make_blobs_dataset(tmp_path / 'x', overwrite=True)


def test_command_line(tmp_path):
    def run(*arguments):
        return CliRunner().invoke(tools, ['phantom', str(tmp_path / 'b'), *arguments])

    mixed = run('--kind', 'blobs', '--effect', 'hippocampus')
    assert mixed.exit_code == 2
    assert re.search('--effect .*--kind blobs', mixed.output)
    mixed = run('--variant', 'xor')
    assert mixed.exit_code == 2
    assert re.search('--variant .*--kind head', mixed.output)
    made = run('--kind', 'blobs', '--n', '2', '--variant', 'null')
    assert made.exit_code == 0, made.output
    assert (tmp_path / 'b' / 'sub-02' / 'anat' / 'sub-02_T1w.nii.gz').is_file()
