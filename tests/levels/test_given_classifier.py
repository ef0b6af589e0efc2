"""A given classifier is checked with the user's own scan, from the file to its output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from bids_interp.anatomical import prepared_brain, registration
from bids_interp.anatomical.prepared_brain import PreparedBrain
from bids_interp.errors import ImageError
from bids_interp.levels.given_classifier import check_given_on_scans, given_classifier
from bids_interp.models.external.checks import Check, CheckError
from bids_interp.models.preprocessing import to_model_grid
from bids_interp.settings import Settings
from bids_interp.spatial import Grid
from bids_interp.training.cohort.storage import save_input
from helpers.exports import CARD, SHAPE, export

#: Covers the brain of the template.
GRID = {'input_shape': [20, 24, 20], 'origin': [-76, -108, -70]}


class Bright(torch.nn.Module):
    """Ten times the mean, which another normalisation changes."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 10 * image.mean((2, 3, 4))


@pytest.fixture
def scan(template_brain: nib.Nifti1Image, tmp_path: Path) -> Path:
    """The brain of the template with voxels of 3 mm, shifted, as a scan."""
    affine = template_brain.affine @ np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] += SHIFT
    data = 700 * np.asarray(template_brain.dataobj)[::3, ::3, ::3]
    nib.save(nib.Nifti1Image(data.astype(np.float32), affine), tmp_path / 'sub-01_T1w.nii.gz')
    return tmp_path / 'sub-01_T1w.nii.gz'


def settings(folder: Path, **changes: Any) -> Settings:
    card = {**CARD, **GRID, **changes}
    (folder / 'card.json').write_text(json.dumps(card))
    export(Bright(), folder / 'bright.pt2', shape=tuple(card['input_shape']))
    return Settings(
        folder / 'bids',
        folder / 'out',
        'train',
        label='group',
        positive='patient',
        classifier=str(folder / 'bright.pt2'),
        classifier_card=folder / 'card.json',
        fast=True,
        offline=True,
        omp_nthreads=1,
    )


SHIFT = np.array([4.0, -6.0, 3.0])


def expected_output(scan: Path) -> float:
    """Output for the scan, whose shift from the template is known."""
    from bids_interp.models.external.card import ClassifierCard

    card = ClassifierCard.from_dict({**CARD, **GRID})
    image = nib.load(scan)
    back = np.eye(4)
    back[:3, 3] = -SHIFT
    whole = np.ones(card.grid.shape, bool)
    data, grid = np.asarray(image.dataobj), Grid.from_image(image)
    inputs = to_model_grid(data, grid, back, card.grid, whole, card.preprocessing)
    return float(Bright()(inputs))


def test_a_golden_scan_is_prepared_as_any_other(scan: Path, tmp_path: Path) -> None:
    golden = {'file': scan.name, 'output': [expected_output(scan)], 'tolerance': 0.3}
    assert given_classifier(settings(tmp_path, golden_scan=golden))['kind'] == 'export'


def test_a_golden_scan_tells_a_wrong_card(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, matrix = nib.load(scan), np.eye(4)
    matrix[:3, 3] = -SHIFT
    mask = nib.Nifti1Image((image.get_fdata() > 0).astype(np.float32), image.affine)
    ready = PreparedBrain(image, mask, image, True, {})
    monkeypatch.setattr(prepared_brain, 'prepare_brain', lambda *_, **__: ready)
    aligned = registration.AffineResult(matrix, 1.0, 1.0)
    monkeypatch.setattr(registration, 'register_brain', lambda *_, **__: aligned)
    golden = {'file': scan.name, 'output': [expected_output(scan)], 'tolerance': 0.05}
    assert given_classifier(settings(tmp_path, golden_scan=golden))
    for wrong in (
        {'preprocessing': {'normalisation': 'zscore'}},
        {'golden_scan': {**golden, 'output': [golden['output'][0] + 0.1]}},
    ):
        with pytest.raises(CheckError) as caught:
            given_classifier(settings(tmp_path, **{'golden_scan': golden, **wrong}))
        assert caught.value.check is Check.GOLDEN
    with pytest.raises(ImageError, match='skull'):
        given_classifier(settings(tmp_path, golden_scan=golden, skull=True))


def test_a_golden_scan_that_is_missing(tmp_path: Path) -> None:
    golden = {'file': 'sub-02_T1w.nii.gz', 'output': [0.0], 'tolerance': 0.05}
    with pytest.raises(ImageError, match=r'sub-02_T1w\.nii\.gz'):
        given_classifier(settings(tmp_path, golden_scan=golden))


def test_the_scans_of_the_cohort_are_checked(tmp_path: Path) -> None:
    chosen = settings(tmp_path, input_shape=list(SHAPE))
    inputs = [tmp_path / f'{number}.safetensors' for number in range(40)]
    for path in inputs:
        save_input(path, torch.rand(1, 1, *SHAPE))
    check_given_on_scans(chosen, inputs)
    save_input(inputs[2], torch.full((1, 1, *SHAPE), torch.nan))
    with pytest.raises(CheckError) as caught:
        check_given_on_scans(chosen, inputs)
    assert caught.value.check is Check.FINITE
