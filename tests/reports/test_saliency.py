"""Saliency maps in the report: beside ours, on the same slices, and what was left out."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from PIL import Image

from bids_interp.bids.read.scan_files import ScanFiles
from bids_interp.reports import build_report
from bids_interp.reports.common.sections import PAGE
from bids_interp.reports.scan.change_figures import load_changes
from bids_interp.reports.scan.saliency_figure import draw_saliency
from helpers.pages import Page

PREFIX = 'sub-01_run-1'
SKIPPED = [{'Method': 'gradcam', 'Title': 'Grad-CAM', 'Reason': 'no <layer>'}]


@pytest.fixture
def files(derivatives: Path) -> ScanFiles:
    """Derivatives with two maps: a bright spot on the left, and nothing at all."""
    found = ScanFiles(derivatives, PREFIX)
    seen = nib.load(found.template('desc-input_T1w.nii.gz', 'model'))
    places = np.stack(np.meshgrid(*map(np.arange, seen.shape), indexing='ij'), -1)
    world = nib.affines.apply_affine(seen.affine, places)
    spot = np.exp(-((world - [-28, -18, -14]) ** 2).sum(-1) / (2 * 12.0**2))
    for method, title, kind, data in (
        ('gradient', 'Gradient', 'gradient', spot),
        ('deeplift', 'DeepLift', 'attribution', 0 * spot),
    ):
        stem = f'{PREFIX}_space-MNI152NLin2009aSym_res-model_desc-{method}_saliency'
        image = nib.Nifti1Image(data.astype(np.float32), seen.affine)
        image.to_filename(found.anatomical / f'{stem}.nii.gz')
        facts = {'SaliencyMethod': method, 'Title': title, 'Kind': kind}
        (found.anatomical / f'{stem}.json').write_text(json.dumps(facts))
    listed = {'Methods': ['gradient', 'deeplift'], 'Skipped': SKIPPED}
    (found.anatomical / f'{PREFIX}_desc-methods_saliency.json').write_text(json.dumps(listed))
    return found


def orange(path: Path) -> np.ndarray:
    """How much redder than blue each pixel is."""
    with Image.open(path) as picture:
        colours = np.asarray(picture.convert('RGB'), float)
    return (colours[..., 0] - colours[..., 2]).clip(min=0)


def test_each_map_has_a_row_below_ours(files: ScanFiles) -> None:
    path = draw_saliency(files, load_changes(files), 'patient')
    assert path == files.figure('saliency', '.png')
    warm = orange(path)
    ours, gradient, empty = np.array_split(warm, 3)
    assert gradient.sum() > 0
    # The map that is zero everywhere leaves the grey brain as it is.
    assert empty[60:].max() < 3
    assert ours.max() > 20
    # The left of the person is on the left: the spot colours the left half of its tile.
    columns = np.array_split(gradient, 8, axis=1)
    strongest = max(columns[:4], key=lambda tile: tile.sum())
    left, right = np.array_split(strongest, 2, axis=1)
    assert left.sum() > 3 * right.sum()


def test_nothing_is_drawn_where_nothing_was_asked_for(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    assert draw_saliency(files, load_changes(files), 'patient') is None
    assert 'saliency' not in Page(build_report(derivatives, PREFIX)).ids


def test_maps_are_drawn_in_the_template_also_without_our_maps_there(files: ScanFiles) -> None:
    first = draw_saliency(files, load_changes(files), 'patient')
    ours = orange(first)
    spaced = f'{PREFIX}_space-MNI152NLin2009aSym_res-1_'
    for path in files.anatomical.glob(f'{spaced}desc-*[0-9][0-9][0-9]_*'):
        path.rename(files.anatomical / path.name.replace(spaced, f'{PREFIX}_'))
    changes = load_changes(files)
    assert '_space-' not in files.shown_brain.name
    again = orange(draw_saliency(files, changes, 'patient'))
    # Ours comes from the velocity then, a little smoother.
    assert again.shape == ours.shape
    for one, two in zip(np.array_split(again, 3), np.array_split(ours, 3), strict=True):
        if two[60:].max() > 3:
            assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.8


def test_the_page_says_what_they_are_not_and_what_was_left_out(files: ScanFiles) -> None:
    draw_saliency(files, load_changes(files), 'patient')
    page = Page(build_report(files.output_dir, PREFIX))
    order = [name for name in page.ids if name in ('changes', 'saliency', 'simulated')]
    assert order == ['changes', 'saliency', 'simulated']
    # The caption of the specification tells what saliency does not show.
    sections = yaml.safe_load((PAGE / 'report.yml').read_text())['sections']
    (section,) = [one for one in sections if one['name'] == 'saliency']
    assert section['reportlets'][0]['caption'].strip() in page.find('saliency').text
    assert page.values('data-skipped') == ['Grad-CAM']
    assert 'no <layer>' in page.having('data-skipped')[0].text


def test_methods_that_all_fail_are_still_told(files: ScanFiles) -> None:
    path = files.anatomical / f'{PREFIX}_desc-methods_saliency.json'
    path.write_text(json.dumps({'Methods': [], 'Skipped': SKIPPED}))
    assert draw_saliency(files, load_changes(files), 'patient') is not None
    page = Page(build_report(files.output_dir, PREFIX))
    assert page.values('data-skipped') == ['Grad-CAM']
