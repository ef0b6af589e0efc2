"""Cohorts of made-up derivatives for each test, and the choice among their images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bids_interp.group.analysis import AnalysisChoices, GroupAnalysis, folder_name
from bids_interp.group.covariates import read_group_variables
from bids_interp.group.scans import choose_summarised_model, find_scans, select_scans
from bids_interp.settings import Settings
from helpers.cohorts import DIGEST, MODEL, Cohort, write_cohort


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


@pytest.fixture
def analysis_of(chosen):
    """Return the analysis of a cohort, as the group level prepares it."""

    def make(cohort, **options) -> GroupAnalysis:
        settings = Settings(cohort.bids, cohort.out, 'group', **options)
        scans = chosen(cohort.out, include_training=settings.include_training)
        target = scans[0].prediction.target
        columns = read_group_variables(settings, scans, target)
        choices = AnalysisChoices(
            random_seed=1,
            include_training=settings.include_training,
            permutations=300,
            tfce=settings.tfce,
            group_asked=settings.group_by is not None,
        )
        model = (MODEL, DIGEST)
        folder = cohort.out / 'group' / folder_name(model)
        return GroupAnalysis(cohort.out, folder, scans, columns, model, choices)

    return make


@pytest.fixture
def patients(make_cohort):
    return make_cohort(
        ['patient', 'control'] * 10,
        folds=[(0,), (0,), (1,), (1,)] * 5,
        in_training=True,
        expression={'patient': 0.6},
    )
