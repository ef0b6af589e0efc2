"""The planted truth in the report of a simulated scan."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from bids_interp.bids.read.scan_files import ScanFiles
from bids_interp.phantom.truth import truth_stem
from bids_interp.reports import build_report, draw_figures
from bids_interp.reports.scan import truth_figure
from bids_interp.reports.scan.change_figures import load_changes
from bids_interp.reports.scan.template_rows import map_row
from bids_interp.reports.scan.truth_figure import draw_truth, truth_path

PREFIX = 'sub-01_run-1'
TEMPLATE = 'MNI152NLin2009aSym'


@pytest.fixture
def files(derivatives: Path, tmp_path: Path) -> ScanFiles:
    """Derivatives whose dataset holds a truth: our map, weaker and on a coarser grid."""
    found = ScanFiles(derivatives, PREFIX)
    ours = nib.load(found.template('desc-inject100_logjacobian.nii.gz'))
    place = tmp_path / 'planted' / 'derivatives' / 'truth' / 'sub-01' / 'anat'
    place.mkdir(parents=True)
    coarse = 0.5 * np.asarray(ours.dataobj, np.float32)[::2, ::2, ::2]
    affine = ours.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    nib.save(
        nib.Nifti1Image(coarse, affine),
        place / f'{PREFIX}_{truth_stem("inject", TEMPLATE)}.nii.gz',
    )
    link(derivatives, str(tmp_path / 'planted'))
    return found


@pytest.fixture
def headings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Headings of the rows that are drawn."""
    seen: list[str] = []

    def row(*given):
        seen.append(given[-1])
        return map_row(*given)

    monkeypatch.setattr(truth_figure, 'map_row', row)
    return seen


def score_of(headings: list[str]) -> float:
    """Number at the end of the heading of our map."""
    return float(headings[1].rsplit(' ', 1)[1])


def link(derivatives: Path, raw: str) -> None:
    described = {'DatasetLinks': {'raw': raw}}
    (derivatives / 'dataset_description.json').write_text(json.dumps(described))


def test_truth_is_found_beside_the_input_dataset(files: ScanFiles) -> None:
    assert truth_path(files, 'inject') is not None
    assert truth_path(files, 'remove') is None
    link(files.output_dir, 'doi:10.1/x')
    assert truth_path(files, 'inject') is None


def test_scan_without_truth_has_no_figure(derivatives: Path) -> None:
    found = ScanFiles(derivatives, PREFIX)
    assert draw_truth(found, load_changes(found)) is None


def test_truth_and_map_have_the_same_slices_and_colours(files: ScanFiles, headings) -> None:
    path = draw_truth(files, load_changes(files))
    assert path == files.figure('truth', '.png')
    with Image.open(path) as picture:
        colourful = np.ptp(np.asarray(picture.convert('RGB'), float), axis=-1)
    truth, ours = np.array_split(colourful[: int(0.8 * len(colourful))], 2)
    # The truth is half as strong as the map.
    assert 0 < truth.sum() < 0.8 * ours.sum()
    assert len(headings) == 2
    assert 0.9 < score_of(headings) <= 1


def test_the_correlation_is_that_inside_the_brain(files: ScanFiles, headings) -> None:
    draw_truth(files, load_changes(files))
    before = score_of(headings)
    path = truth_path(files, 'inject')
    image = nib.load(path)
    data = np.asarray(image.dataobj).copy()
    mask = np.asarray(nib.load(files.native('desc-brain_mask.nii.gz')).dataobj)[::2, ::2, ::2]
    data[~binary_dilation(mask > 0, iterations=2)] = 9.0
    nib.save(nib.Nifti1Image(data, image.affine), path)
    headings.clear()
    draw_truth(files, load_changes(files))
    assert score_of(headings) == before


def test_report_shows_the_truth_as_a_section(files: ScanFiles) -> None:
    draw_figures(files.output_dir, PREFIX)
    page = build_report(files.output_dir, PREFIX).read_text()
    assert 'The planted truth' in page
