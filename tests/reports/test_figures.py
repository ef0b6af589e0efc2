"""Every figure is drawn, of a modest size, and shows what the maps say."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bids_interp.bids.read.dose_response import flip_dose, read_response
from bids_interp.bids.read.scan_files import MASK, ScanFiles
from bids_interp.errors import ImageError
from bids_interp.reports import build_report, draw_figures
from bids_interp.reports.scan.change_figures import load_changes
from bids_interp.reports.scan.grid_figure import drawn_factor, load_movement
from bids_interp.reports.scan.region_changes import (
    measure_regions,
    read_regions,
    strongest,
    write_regions,
)
from bids_interp.spatial import Grid

PREFIX = 'sub-01_run-1'

PICTURES = (
    'mask', 'registration', 'input', 'injectLogJacobian', 'removeLogJacobian', 'simulated', 'grid',
)  # fmt: skip


def test_all_figures_are_there_and_small(drawn: Path) -> None:
    files = ScanFiles(drawn, PREFIX)
    expected = {files.figure(name, '.png') for name in PICTURES}
    expected |= {files.figure('dose', '.svg'), files.figure('player', '.html')}
    expected |= {files.figures / f'{PREFIX}_desc-regions_stats.tsv'}
    assert set(files.figures.iterdir()) == expected
    assert sum(path.stat().st_size for path in expected) < 8e6
    for path in expected:
        if path.suffix == '.png':
            with Image.open(path) as picture:
                assert picture.width == 1500
                assert np.asarray(picture.convert('L')).std() > 10


def test_colours_of_both_directions_are_opposite(drawn: Path) -> None:
    files = ScanFiles(drawn, PREFIX)

    def balance(direction: str) -> float:
        with Image.open(files.figure(f'{direction}LogJacobian', '.png')) as picture:
            # The colour bar below is the same on both.
            colours = np.asarray(picture.convert('RGB'), float)[: int(picture.height * 0.75)]
        return float((colours[..., 2] - colours[..., 0]).sum())

    # The planted hippocampi are stronger than the ventricles: injecting paints more blue.
    assert balance('inject') > 0 > balance('remove')


def test_peak_lies_in_a_planted_spot(drawn: Path) -> None:
    changes = load_changes(ScanFiles(drawn, PREFIX))
    assert changes is not None
    place = (changes.brain.grid.affine @ np.append(changes.peak, 1))[:3]
    assert np.abs(np.abs(place) - [28, 18, 14]).max() < 5
    assert place[1] < 0
    assert changes.doses == {'inject': 100, 'remove': 100}


def test_grid_follows_the_tissue(drawn: Path) -> None:
    files = ScanFiles(drawn, PREFIX)
    movement = load_movement(files.template('desc-inject_velocity.nii.gz', 'model'), 1.0)
    # Just outside the left hippocampus, on its left: shrinking pulls tissue to the right.
    place = np.linalg.inv(movement.grid.affine) @ [-37, -18, -14, 1]
    assert movement.field[tuple(np.round(place[:3]).astype(int))][0] > 0.1
    back = load_movement(files.template('desc-remove_velocity.nii.gz', 'model'), 1.0)
    assert back.field[tuple(np.round(place[:3]).astype(int))][0] < -0.1
    assert drawn_factor(movement.largest) * movement.largest <= 7


def test_regions_name_the_planted_structures(drawn: Path) -> None:
    regions = read_regions(ScanFiles(drawn, PREFIX))
    shrinking, growing = strongest(regions, 'inject')
    assert {change.label for change in shrinking[:2]} == {'left hippocampus', 'right hippocampus'}
    assert growing[0].region == 'ventricles'
    shrinking, growing = strongest(regions, 'remove')
    assert growing[0].region == 'hippocampus'
    assert shrinking[0].region == 'ventricles'


def test_regions_are_measured_from_the_velocity_alone(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    kept = {(r.label, r.direction): r.volume_change_percent for r in measure_regions(files)}
    for path in files.anatomical.glob('*logjacobian.nii.gz'):
        path.unlink()
    again = {(r.label, r.direction): r.volume_change_percent for r in measure_regions(files)}
    assert again.keys() == kept.keys()
    name = ('left hippocampus', 'inject')
    assert again[name] == pytest.approx(kept[name], rel=0.3)


def test_regions_of_an_atlas_take_the_place_of_coarse_ones(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    coarse = measure_regions(files)
    rows = ['direction\tdose\tindex\tregion\tside\tvolume_mm3\tsimulated_mm3\tlogj\tpct']
    volumes = '7\tHippo_1\tleft\t100\t90'
    rows += [
        f'{direction}\t{dose}\t{volumes}\t{dose * sign / 10}\t{10 * dose * sign}'
        for direction, sign in (('inject', -1), ('remove', 1))
        for dose in (0.25, 0.75)
    ]
    table = files.anatomical / f'{PREFIX}_seg-Mine_desc-regions_stats.tsv'
    table.write_text('\n'.join(rows) + '\n')
    # A table of an earlier run is not of the prediction.
    assert measure_regions(files) == coarse
    prediction = json.loads(files.prediction.read_text())
    files.prediction.write_text(json.dumps({**prediction, 'Atlas': 'Mine'}))
    found = {one.direction: one for one in measure_regions(files)}
    assert {one.label for one in found.values()} == {'left Hippo 1'}
    assert found['inject'].volume_change_percent == -7.5
    assert found['remove'].mean_log_jacobian == 0.075
    write_regions(files, measure_regions(files))
    page = build_report(derivatives, PREFIX).read_text()
    assert 'data-atlas="Mine"' in page
    assert 'left Hippo 1' in page
    assert 'data-atlas=""' in build_report(*_without_atlas(files)).read_text()


def _without_atlas(files: ScanFiles) -> tuple[Path, str]:
    prediction = json.loads(files.prediction.read_text())
    prediction.pop('Atlas')
    files.prediction.write_text(json.dumps(prediction))
    return files.output_dir, files.prefix


def test_regions_and_figures_use_the_brain_mask(derivatives: Path) -> None:
    """A mask without the left half, although brain and maps have one."""
    files = ScanFiles(derivatives, PREFIX)
    path = files.template(MASK)
    image = nib.load(path)
    inside = image.get_fdata() > 0
    right = inside & (Grid.from_image(image).world_coordinates()[0] > 2)
    Grid.from_image(image).to_image(right).to_filename(path)
    assert {change.side for change in measure_regions(files)} == {'right', 'midline'}
    changes = load_changes(files)
    assert changes.inside.sum() == right.sum()
    assert not changes.brain.data[~changes.inside].any()


def test_answer_flips_between_the_doses(drawn: Path) -> None:
    rows = read_response(ScanFiles(drawn, PREFIX))
    assert {row['dose'] for row in rows} == {-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1}
    crossing = flip_dose(rows)
    assert crossing is not None
    assert 0.25 < crossing < 0.5


def test_answer_that_never_turns_has_no_flip() -> None:
    rows = [
        {'dose': dose, 'fold': 0.0, 'probability': 0.2 + 0.1 * dose} for dose in (-1.0, 0.0, 1.0)
    ]
    assert flip_dose(rows) is None


def test_native_maps_are_drawn_where_no_template_maps_are(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    spaced = f'{PREFIX}_space-MNI152NLin2009aSym_res-1_'
    for path in files.anatomical.glob(f'{spaced}desc-*[0-9][0-9][0-9]_*'):
        path.rename(files.anatomical / path.name.replace(spaced, f'{PREFIX}_'))
    for path in files.figures.iterdir():
        path.unlink()
    drawn = {path.name for path in draw_figures(derivatives, PREFIX)}
    assert files.figure('injectLogJacobian', '.png').name in drawn
    assert files.figure('simulated', '.png').name in drawn
    # The grid and the slider need the template's brain with the maps on it.
    assert files.figure('grid', '.png').name not in drawn


def test_one_damaged_map_costs_only_its_figures(
    derivatives: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger('bids_interp'), 'propagate', True)
    files = ScanFiles(derivatives, PREFIX)
    found = files.full_dose('inject')
    assert found is not None
    found[1].write_bytes(b'half a file')
    for path in files.figures.iterdir():
        path.unlink()
    caplog.set_level('DEBUG', 'bids_interp')
    drawn = {path.name for path in draw_figures(derivatives, PREFIX)}
    assert files.figure('mask', '.png').name in drawn
    assert files.figure('dose', '.svg').name in drawn
    assert files.figure('injectLogJacobian', '.png').name not in drawn
    # Handlers of other tests may hear it, too.
    told = dict.fromkeys((r.levelname, r.exc_info is None) for r in caplog.records)
    assert list(told) == [('ERROR', True), ('DEBUG', False)]
    assert found[1].name in caplog.messages[0]
    assert '--reports-only' in caplog.messages[0]


def test_a_damaged_field_is_named_once(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    path = files.field('remove')
    path.write_bytes(path.read_bytes()[:2000])
    errors: list[Exception] = []
    drawn = draw_figures(derivatives, PREFIX, on_error=errors.append)
    assert files.figure('removeLogJacobian', '.png') in drawn
    assert not files.figure('grid', '.png').exists()
    assert len(errors) == 1
    assert isinstance(errors[0], ImageError)
    assert str(path) in errors[0].message


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    assert draw_figures(tmp_path, 'sub-99') == []
