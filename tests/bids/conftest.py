"""Skeletons of datasets, for the tests of this folder."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[1] / 'skeletons.py'


@pytest.fixture(scope='session')
def skeletons():
    """The module with ``make_dataset`` and ``make_image``."""
    spec = spec_from_file_location('skeletons', _PATH)
    module = module_from_spec(spec)
    sys.modules['skeletons'] = module
    spec.loader.exec_module(module)
    return module
