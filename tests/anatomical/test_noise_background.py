"""Uniform images of MP2RAGE: the noise around the head goes, everything else stays."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical.raw.conform import conform
from bids_interp.anatomical.raw.noise_background import suppress_noise_background
from bids_interp.anatomical.strip_evidence import stripped_evidence

SPACING = (3.0, 4.0, 3.0)


def ball(tissues: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Values 1500 and 2700 of a ball of 70 mm with tissues in shells, and the ball."""
    shape = (60, 45, 60)
    steps = np.indices(shape) - (np.array(shape) / 2 - 0.5)[:, None, None, None]
    radius = np.linalg.norm(steps * np.array(SPACING)[:, None, None, None], axis=0)
    inside = radius < 70
    shells = 1500 + 1200 * ((radius / 20).astype(int) % tissues)
    return (shells * inside).astype(np.float32), inside


def with_noise(data: np.ndarray, inside: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 4096, data.shape)
    return np.where(inside, data, noise).astype(np.float32)


@pytest.mark.parametrize('factor', [1.0, 1e12, 1e-9])
def test_noise_goes_and_tissue_stays(factor: float) -> None:
    data, inside = ball()
    noisy = with_noise(data, inside) * np.float32(factor)
    found, share = suppress_noise_background(noisy, SPACING)
    assert share == pytest.approx(1 - inside.mean(), abs=0.02)
    wrong = (found == 0) == inside
    assert wrong.sum() < 0.08 * inside.sum()  # the outermost voxels of a coarse grid
    kept = inside & (found != 0)
    assert np.array_equal(found[kept], noisy[kept])


def test_other_images_are_left_as_they_are() -> None:
    data, inside = ball()
    rng = np.random.default_rng(1)
    rician = np.abs(data + rng.normal(0, 150, data.shape)).astype(np.float32)
    for image in (data, rician, np.where(inside, data, np.float32(4095)), np.zeros_like(data)):
        found, share = suppress_noise_background(image, SPACING)
        assert share == 0
        assert found is image
    nothing = rng.uniform(0, 4095, data.shape)
    assert suppress_noise_background(nothing, SPACING)[1] == 0


def test_a_uniform_image_is_conformed_with_a_note(tmp_path: Path) -> None:
    data, inside = ball()
    path = tmp_path / 'sub-01_UNIT1.nii.gz'
    affine = np.diag([*SPACING, 1])
    nib.save(nib.Nifti1Image(with_noise(data, inside).astype(np.int16), affine), path)
    img, report = conform(path)
    assert len(report.warnings) == 1
    assert stripped_evidence(img).background_share == pytest.approx(1 - inside.mean(), abs=0.02)
