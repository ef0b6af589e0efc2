"""A brain of an impossible size, or a registration that fails, is an error of the image."""

from __future__ import annotations

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical import brain_extraction
from bids_interp.errors import ImageError

TEMPLATE = SimpleNamespace(head=None, mask=None, name='MNI', source='synthetic')


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> nib.Nifti1Image:
    """A head of 8 litres at 2 mm; no registration is run."""
    monkeypatch.setattr(
        brain_extraction, 'ants_tools', SimpleNamespace(load_ants=lambda threads: None)
    )
    monkeypatch.setattr(brain_extraction, 'Scene', SimpleNamespace(from_images=lambda *given: None))
    monkeypatch.setattr(brain_extraction, '_prior', lambda *given: None)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return nib.Nifti1Image(np.ones((100, 100, 100), np.float32), affine)


@pytest.mark.parametrize(('slices', 'litres'), [(1, None), (15, 1.2), (90, None)])
def test_the_volume_of_the_mask_decides(
    head: nib.Nifti1Image, monkeypatch: pytest.MonkeyPatch, slices: int, litres: float | None
) -> None:
    mask = np.zeros(head.shape, bool)
    mask[:slices] = True
    monkeypatch.setattr(brain_extraction, 'refine', lambda *given: mask)
    if litres is None:
        with pytest.raises(ImageError):
            brain_extraction.extract_brain(head, TEMPLATE)
    else:
        found = brain_extraction.extract_brain(head, TEMPLATE)
        assert found.litres == pytest.approx(litres)
        assert np.array_equal(np.asarray(found.mask.dataobj) > 0, mask)


def test_a_registration_that_fails_is_an_image_error(
    head: nib.Nifti1Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise RuntimeError('no overlap')

    monkeypatch.setattr(brain_extraction, '_prior', fail)
    with pytest.raises(ImageError):
        brain_extraction.extract_brain(head, TEMPLATE)
