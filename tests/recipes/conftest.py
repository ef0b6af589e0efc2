"""A folder to follow a recipe in, and what all recipes must keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bids_interp.levels.labels import LabelTable, strata
from bids_interp.training.cohort.folds import make_folds
from helpers.recipes import Kitchen


@pytest.fixture
def kitchen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    """The current folder of a reader; the test puts ``BIDS_DIR`` into it."""
    monkeypatch.chdir(tmp_path)
    return Kitchen(tmp_path, monkeypatch)


@pytest.fixture(scope='session')
def recipe(repository: Path) -> Callable[[str], str]:
    """Text of a page by its name."""
    return lambda name: (repository / 'docs' / 'recipes' / f'{name}.md').read_text()


@pytest.fixture(scope='session')
def count() -> Callable[[LabelTable], dict[str, int]]:
    """Number of images of each class."""

    def by_class(table: LabelTable) -> dict[str, int]:
        found = Counter(table.target.classes[int(image.label)] for image in table.images)
        return dict(found)

    return by_class


@pytest.fixture(scope='session')
def fold_of() -> Callable[..., dict[str, int]]:
    """Test fold of each image, by its prefix; every image must be in exactly one."""

    def divide(table: LabelTable, covariates: tuple[str, ...] = (), n_folds: int = 5):
        classes = np.array([int(image.label) for image in table.images])
        families = np.array([image.family for image in table.images])
        codes = strata(table.images, covariates)
        folds: dict[str, int] = {}
        for number, fold in enumerate(make_folds(classes, families, n_folds, 0, codes)):
            names = [table.images[index].record.prefix for index in fold.test]
            assert not set(names) & set(folds)
            folds |= dict.fromkeys(names, number)
        assert len(folds) == len(table.images)
        return folds

    return divide
