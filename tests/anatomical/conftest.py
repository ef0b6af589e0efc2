"""Small brains on any grid, for the tests of this folder."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import nibabel as nib


@pytest.fixture(scope='session')
def shapes() -> ModuleType:
    """The module with ``rotation``, ``affine_for`` and ``seen_on``."""
    spec = spec_from_file_location('shapes', Path(__file__).with_name('shapes.py'))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def phantom_head(template_brain: nib.Nifti1Image) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """A synthetic head at 3 mm and its brain mask."""
    from bids_interp.phantom.head import synthetic_head

    return synthetic_head(template_brain, spacing_mm=3.0)
