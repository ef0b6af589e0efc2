"""Small brains on any grid, for the tests of this folder."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope='session')
def shapes() -> ModuleType:
    """The module with ``rotation``, ``affine_for`` and ``seen_on``."""
    spec = spec_from_file_location('shapes', Path(__file__).with_name('shapes.py'))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
