"""Cohorts of made-up derivatives for each test, and the choice among their images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bids_interp.group.scans import choose_summarised_model, find_scans, select_scans
from helpers.cohorts import Cohort, write_cohort


@pytest.fixture
def make_cohort(tmp_path: Path) -> Callable[..., Cohort]:
    """Make a cohort: ``make_cohort(['patient', 'control'], sessions=('a', 'b'))``."""

    def make(labels: Sequence[str] = ('patient', 'control') * 3, **options: Any) -> Cohort:
        return write_cohort(Cohort(tmp_path, labels, **options))

    return make


@pytest.fixture
def chosen() -> Callable[..., list[Any]]:
    """All images of an output directory with their reasons."""

    def choose(out: Path, n_folds: int | None = None, *, include_training: bool = False):
        scans = find_scans(out)
        return select_scans(scans, choose_summarised_model(scans), n_folds, include_training)

    return choose
