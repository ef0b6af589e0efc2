"""The blob benchmark: images, scores against hand-made maps, and the command."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bids_interp.bench.blobs import blob_results, blob_unit
from bids_interp.bench.blobs.blob_cohort import BlobCohort, BlobTruth, draw_cohort
from bids_interp.bench.blobs.blob_design import (
    FEWEST,
    PAPER,
    BlobUnit,
    make_blob_benchmark,
)
from bids_interp.bench.blobs.blob_figure import draw_blobs_figure
from bids_interp.bench.blobs.blob_page import OWN_METRICS, write_blob_results
from bids_interp.bench.blobs.blob_results import BlobRecord, finished_units, save_unit
from bids_interp.bench.blobs.blob_scores import BlobMaps, BlobReference, map_scores
from bids_interp.bench.method_maps import LOG_JACOBIAN, OURS, SIZE
from bids_interp.bench.records import Score
from bids_interp.cli.tools.blobs import blobs
from bids_interp.cli.tools.command import tools
from bids_interp.errors import UsageError
from bids_interp.levels.blobs import run_blobs
from bids_interp.models.preprocessing import Preprocessing


@pytest.mark.parametrize(('dim', 'shape'), [(2, (64, 64, 1)), (3, (32, 32, 32))])
def test_images_have_the_truth_of_their_own_anatomy(dim: int, shape: tuple[int, ...]) -> None:
    blobs = draw_cohort('plain', dim, 6, shape[0], seed=1)
    assert blobs.images.shape == (6, 1, *shape)
    assert blobs.labels.sum() == 3
    assert blobs.truth.truths.shape == (6, 1, *shape)
    signs = np.where(blobs.labels == 0, -1, 1)
    # Injecting shrinks two blobs of a control, removing restores those of a patient.
    strongest = [truth[0].ravel()[np.abs(truth[0]).argmax()] for truth in blobs.truth.truths]
    assert (np.sign(strongest) == signs).all()
    assert np.abs(strongest).min() > 0.3
    assert not (np.abs(blobs.truth.truths[:, 0]) > 0.3)[blobs.truth.lookalikes].any()
    assert set(blobs.truth.types[blobs.labels == 1]) == {'1+2'}
    assert (blobs.images[:, 0].numpy()[:, ~blobs.mask] == 0).all()
    cohort = blobs.cohort(Preprocessing())
    assert tuple(cohort.images.shape[2:]) == cohort.grid.shape == shape
    assert len(np.unique(cohort.families)) == 6


def test_types_and_alternatives_of_xor() -> None:
    blobs = draw_cohort('xor', 2, 24, 64, seed=0)
    patients = blobs.labels == 1
    assert set(blobs.truth.types[patients]) == {'1', '2'}
    assert set(blobs.truth.types[~patients]) == {'-', '1+2'}
    assert blobs.truth.truths.shape[1] == 2
    for truths, kind in zip(blobs.truth.truths, blobs.truth.types, strict=True):
        strongest = [part.ravel()[np.abs(part).argmax()] for part in truths]
        # A small blob is restored, and another one shrinks.
        assert [value > 0 for value in strongest] == ['1' in kind, '2' in kind]


def reference_of(types: list[str], labels: list[int], truths: np.ndarray) -> BlobReference:
    lookalikes = np.zeros((len(types), *truths.shape[2:]), bool)
    lookalikes[:, :2] = True
    truth = BlobTruth(truths, np.array(types), lookalikes)
    mask = np.ones(truths.shape[2:], bool)
    return BlobReference.of(truth, np.array(labels), mask, np.full(3, 2.0), draws=40, seed=0)


def planted(alternatives: int) -> tuple[BlobReference, np.ndarray]:
    """Ten images; patients of type 1 and 2 shrink or grow in different places."""
    types = ['-'] * 4 + ['1'] * 3 + ['2'] * 3
    labels = [0] * 4 + [1] * 6
    maps = np.zeros((2, 6, 6, 1), np.float32)
    maps[0, 3, 2:4] = 0.4
    maps[1, 5, 1:3] = 0.5
    strengths = np.linspace(0.7, 1.3, 10).reshape(-1, 1, 1, 1, 1)
    signs = np.array([-1] * 4 + [1] * 6).reshape(-1, 1, 1, 1, 1)
    truths = (signs * strengths * maps).astype(np.float32)
    return reference_of(types, labels, truths[:, :alternatives]), truths


def test_the_truth_itself_scores_one_and_nothing_else() -> None:
    reference, truths = planted(1)
    scores = map_scores(BlobMaps('m', LOG_JACOBIAN, truths[:, 0]), reference)
    for metric in ('ncc_group', 'ncc_single'):
        for direction in ('inject', 'remove', 'both'):
            assert scores[metric, direction].value == pytest.approx(1)
    assert scores['average_precision', 'inject'].value == 1
    assert scores['lookalike_share', 'remove'].value == 0
    assert scores['off_target_percent', 'inject'].value == 0
    wrong = map_scores(BlobMaps('m', LOG_JACOBIAN, -truths[:, 0]), reference)
    assert wrong['ncc_group', 'both'].value == pytest.approx(-1)
    # The size alone is right for a method without a sign.
    size = map_scores(BlobMaps('m', SIZE, -truths[:, 0]), reference)
    assert size['ncc_group', 'both'].value == pytest.approx(1)
    assert ('off_target_percent', 'inject') not in size


def test_energy_on_lookalikes_is_counted() -> None:
    reference, truths = planted(1)
    values = truths[:, 0].copy()
    values[:, 0, 0, 0] = 0.3
    expected = np.mean([0.09 / (0.09 + np.square(one).sum()) for one in truths[:4, 0]])
    found = map_scores(BlobMaps('m', LOG_JACOBIAN, values), reference)
    assert found['lookalike_share', 'inject'].value == pytest.approx(expected)


def test_either_of_two_truths_is_right_in_each_type() -> None:
    reference, truths = planted(2)
    mixed = np.concatenate([truths[:4, 1], truths[4:7, 0], truths[7:, 1]])
    scores = map_scores(BlobMaps('m', LOG_JACOBIAN, mixed), reference)
    assert scores['ncc_group', 'inject'].value == pytest.approx(1)
    assert scores['ncc_group', 'remove'].value == pytest.approx(1)
    assert scores['type_auc', 'remove'].value == 1
    same = np.concatenate([truths[:4, 1], np.repeat(truths[4:5, 0], 6, axis=0)])
    alike = map_scores(BlobMaps('m', LOG_JACOBIAN, same), reference)
    assert alike['type_auc', 'remove'].value == 0.5
    # A map of everybody is right in one of two types.
    assert alike['ncc_group', 'remove'].value == pytest.approx(1)
    swapped = np.concatenate([truths[:4, 1], truths[4:7, 1], truths[7:, 0]])
    wrong = map_scores(BlobMaps('m', LOG_JACOBIAN, swapped), reference)
    assert wrong['type_auc', 'remove'].value == 0


def test_the_first_images_of_each_type_and_class() -> None:
    truth = BlobTruth(
        np.zeros((6, 0, 1, 1, 1)), np.array(['-', '-', '1', '-', '1', '1']), np.zeros(6)
    )
    blobs = BlobCohort(torch.zeros(6), np.array([0, 1, 1, 0, 1, 1]), truth, None, None)  # type: ignore[arg-type]
    images = np.array([5, 4, 3, 2, 1, 0])
    assert blobs.first_of_each_type(images, 1).tolist() == [1, 3, 5]
    assert blobs.first_of_each_type(images, 2).tolist() == [0, 1, 3, 4, 5]


@pytest.mark.parametrize(
    'request_',
    [
        {'n': FEWEST - 1},
        {'variants': ('round',)},
        {'methods': ('magic',)},
        {'paper': {'magic': 1}},
    ],
)
def test_impossible_requests_are_refused(request_: dict) -> None:
    with pytest.raises(UsageError):
        make_blob_benchmark('small', **request_)


def test_the_digest_knows_what_changes_the_scores() -> None:
    first = make_blob_benchmark('small')
    assert {unit.dim for unit in first.units} == {2, 3}
    assert len(first.units) == 2 * 3 * 4
    others = [
        make_blob_benchmark('small', n=164),
        make_blob_benchmark('small', draws=10),
        make_blob_benchmark('small', methods=('ours',)),
        make_blob_benchmark('small', paper={'batch': 6}),
    ]
    assert len({one.digest(2) for one in [first, *others]}) == 5
    assert make_blob_benchmark('small', seeds=(7,)).digest(2) == first.digest(2)


def record(variant: str, seed: int, value: float) -> BlobRecord:
    rows = [
        Score(OURS, OURS, 'ncc_group', 'both', value, value - 0.1, value + 0.1, 'explained brains'),
        Score(PAPER, PAPER, 'auc', 'both', 0.6),
    ]
    return BlobRecord(variant, 2, seed, 'digest', 1.0, rows, {PAPER: 'its AUC is low'})


def test_table_text_and_figure(tmp_path: Path) -> None:
    records = [record('plain', 0, 0.9), record('plain', 1, 0.8)]
    pictures = {name: np.ones((4, 4, 1), np.float32) for name in ('image', 'truth.map', 'ours.map')}
    result = blob_unit.UnitResult(list(records[0].rows), {}, pictures)
    for one in records:
        save_unit(tmp_path, one.unit, 'digest', 1.0, result)
    setup = {'command': 'cmd', 'n': 64, 'size': {2: 64}, 'missing': ['xor_2d_seed-0']}
    text = write_blob_results(tmp_path, records, setup).read_text()
    assert '0.85 (0.80 to 0.90)' in text
    assert 'xor_2d_seed-0' in text
    assert 'its AUC is low' in text
    with (tmp_path / 'table.tsv').open() as stream:
        rows = list(csv.DictReader(stream, delimiter='\t'))
    assert [row['seed'] for row in rows] == ['0', '0', '1', '1']
    levels = json.loads((tmp_path / 'table.json').read_text())['metric']['Levels']
    assert levels == {'auc': OWN_METRICS['auc'], 'ncc_group': levels['ncc_group']}
    assert (tmp_path / 'figure.png').stat().st_size > 1000
    assert draw_blobs_figure(tmp_path / 'one.png', [('x', pictures)]).is_file()


def test_records_of_another_design_do_not_count(tmp_path: Path) -> None:
    benchmark = make_blob_benchmark('small', variants=('null',), dimensions=(2,), seeds=(0,))
    (unit,) = benchmark.units
    assert unit == BlobUnit('null', 2, 0)
    image = {'image': np.zeros((2, 2, 1), np.float32)}
    save_unit(tmp_path, unit, 'other', 1.0, blob_unit.UnitResult(pictures=image))
    assert finished_units(tmp_path, benchmark) == {}
    save_unit(tmp_path, unit, benchmark.digest(2), 1.0, blob_unit.UnitResult(pictures=image))
    assert set(finished_units(tmp_path, benchmark)) == {unit}
    assert blob_results.load_pictures(tmp_path, unit)['image'].shape == (2, 2, 1)
    # Nothing is left to compute, so nothing is.
    assert run_blobs(tmp_path, benchmark, nprocs=1, device='cpu') == 0


def test_wrong_options_are_usage_errors(tmp_path: Path) -> None:
    for words in (['--dims', '4'], ['--seeds', '-1'], ['--nprocs', '0'], ['--size', 'huge']):
        assert CliRunner().invoke(blobs, ['--out', str(tmp_path), *words]).exit_code == 2
    assert CliRunner().invoke(blobs, []).exit_code == 2


@pytest.mark.slow
def test_the_command_finds_the_blobs_and_goes_on_where_it_was(tmp_path: Path) -> None:
    words = ['bench', 'blobs', '--out', str(tmp_path), '--variants', 'plain', '--dims', '2']
    words += ['--seeds', '0', '--n', '96', '--draws', '20', '--nprocs', '1', '--device', 'cpu']
    words += ['--methods', 'ours', 'ipmi2021', 'difference', 'gradcam', 'random']
    recipe = {'classifier_steps': 2, 'simulator_steps': 1, 'batch': 4}
    words += ['--paper-recipe', json.dumps(recipe)]
    first = CliRunner().invoke(tools, words)
    assert first.exit_code == 0, first.output
    with (tmp_path / 'table.tsv').open() as stream:
        rows = list(csv.DictReader(stream, delimiter='\t'))
    found = {
        row['method']: float(row['value'])
        for row in rows
        if (row['metric'], row['direction']) == ('ncc_group', 'both')
    }
    assert set(found) == {'ours', 'ipmi2021', 'difference', 'gradcam', 'random'}
    assert found['ours'] > 0.8
    assert found['ours'] > max(found['difference'], found['random'])
    # With two steps of its classifier there is nothing to explain, and the text says why.
    assert found['ipmi2021'] == 0
    assert '`ipmi2021`, seed 0' in (tmp_path / 'paper.md').read_text()
    made = tmp_path / 'units' / 'plain_2d_seed-0.json'
    before = made.stat().st_mtime_ns
    assert CliRunner().invoke(tools, words).exit_code == 0
    assert made.stat().st_mtime_ns == before
