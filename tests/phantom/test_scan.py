"""One made-up scan: geometry, mask, truth, and a phantom without a disease."""

from __future__ import annotations

import numpy as np
import pytest

from bids_interp.phantom.change.atrophy import fit_atrophy
from bids_interp.phantom.heads.head_scan import PhantomScan, ScanSetup, scan_subject
from bids_interp.spatial import Grid

GRID = Grid(
    (48, 48, 48),
    np.array([[4, 0, 0, -94.0], [0, 4, 0, -112], [0, 0, 4, -80], [0, 0, 0, 1]]),
    'MNI152NLin2009aSym',
)


@pytest.fixture(scope='module')
def scan_setup() -> ScanSetup:
    offsets = GRID.world_coordinates() - np.array([0, -20, 10.0])[:, None, None, None]
    mask = (np.linalg.norm(offsets, axis=0) < 70).astype(np.float32)
    atrophy = fit_atrophy(GRID, {'hippocampus': -0.3})
    return ScanSetup(0.2 + 0.8 * mask, mask, GRID, atrophy, null=False, spacing_mm=5.0)


def _scan(
    scan_setup: ScanSetup, patient: bool, null: bool = False, stripped: bool = False
) -> PhantomScan:
    used = ScanSetup(
        scan_setup.head, scan_setup.mask, GRID, scan_setup.atrophy, null, scan_setup.spacing_mm
    )
    return scan_subject(used, np.random.default_rng(1), patient, 1.0, stripped)


def test_patients_and_controls_of_a_null_phantom_are_the_same(scan_setup: ScanSetup) -> None:
    patient, control = (_scan(scan_setup, patient, null=True) for patient in (True, False))
    assert np.array_equal(patient.image, control.image)
    assert patient.truth_native is None
    planted = _scan(scan_setup, True)
    assert not np.array_equal(patient.image, planted.image)
    assert (planted.direction, planted.severity) == ('remove', 1.0)
    assert planted.truth_native.shape == planted.image.shape


def test_a_stripped_scan_is_zero_outside_of_its_mask(scan_setup: ScanSetup) -> None:
    whole, stripped = (_scan(scan_setup, False, stripped=stripped) for stripped in (False, True))
    inside = stripped.brain_mask > 0
    assert stripped.image.dtype == np.int16
    assert not stripped.image[~inside].any()
    assert whole.image[~inside].any()
    assert np.array_equal(whole.image[inside], stripped.image[inside])
