"""The synthetic head that the tests of this folder share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import nibabel as nib


@pytest.fixture(scope='session')
def phantom_head(template_brain: nib.Nifti1Image) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """A synthetic head at 3 mm and its brain mask."""
    from bids_interp.phantom.heads.head import synthetic_head

    return synthetic_head(template_brain, spacing_mm=3.0)
