"""Least squares, halves and page of the script on real labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import linregress

from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.phantom.regions.coarse import region_mask
from bids_interp.spatial import Grid
from bids_interp.training.cohort.cohort import Cohort
from helpers.scripts import load_script

real_labels = load_script(Path(__file__).parent.parent / 'benchmarks' / 'real_labels.py')

N = 41
GRID = Grid(
    (24, 28, 24), np.array([[8.0, 0, 0, -92], [0, 8, 0, -128], [0, 0, 8, -76], [0, 0, 0, 1]])
)


@pytest.fixture
def study() -> Any:
    """Ventricles grow by 8 % in ten years; nothing else follows age."""
    rng = np.random.default_rng(0)
    ages = rng.uniform(20, 60, N)
    mask = (
        np.linalg.norm(
            GRID.world_coordinates() / np.array([70, 90, 70])[:, None, None, None], axis=0
        )
        < 1
    )
    cohort = Cohort(
        torch.from_numpy(rng.random((N, 1, *GRID.shape), np.float32)) * torch.from_numpy(mask),
        ages,
        np.arange(N),
        tuple((f'subject:{number}',) for number in range(N)),
        GRID,
        mask,
        Preprocessing(),
        Target('regression', 'age', ()),
        tuple(f'image {number}' for number in range(N)),
        rng.normal(size=(N, 1)),
    )  # fmt: skip
    grows = region_mask('ventricles', GRID)[mask]
    volumes = 0.02 * rng.standard_normal((N, int(mask.sum())))
    volumes += np.log(1.08) * (ages[:, None] - 40) / 10 * grows
    metrics = {
        'pearson_r': {'value': 0.5, 'low': 0.25, 'high': 0.75},
        'permutation_p': 0.0125,
    }
    maps = {'inject': grows.astype(float), 'weights': np.zeros(len(grows))}
    return real_labels.Study('age', cohort, volumes, metrics, maps)


def test_least_squares_with_covariates() -> None:
    rng = np.random.default_rng(1)
    values, other = rng.normal(size=(2, N))
    volumes = (0.3 * values + rng.normal(size=N))[:, None]
    slopes, errors, freedom = real_labels.effects(values, np.zeros((N, 0)), volumes)
    line = linregress(values, volumes[:, 0])
    assert (slopes[0], errors[0], freedom) == pytest.approx((line.slope, line.stderr, N - 2))
    # What a covariate explains is not the label's.
    slopes, errors, freedom = real_labels.effects(
        values, other[:, None], volumes + 5 * other[:, None]
    )
    plain = real_labels.effects(values, other[:, None], volumes)
    assert slopes == pytest.approx(plain[0])
    assert freedom == N - 3


def test_halves_have_the_same_labels_and_no_one_in_common() -> None:
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=N), np.repeat([0.0, 1.0], [7, 28])):
        first, second = real_labels.halves(values, rng)
        assert sorted([*first, *second]) == list(range(len(values)))
        assert abs(len(first) - len(second)) <= 1
        assert values[first].mean() == pytest.approx(values[second].mean(), abs=0.2)


def test_the_planted_change_is_on_the_page(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real_labels, 'HALVINGS', 2)
    (ventricles, *_, frontal, _) = real_labels.region_changes(study)
    assert ventricles[1] == pytest.approx(8, abs=1)
    assert ventricles[2] < 8 < ventricles[3]
    assert frontal[2] < 0 < frontal[3]
    page, picture = tmp_path / 'real_labels.md', tmp_path / 'real_labels.png'
    real_labels.draw([study], picture)
    real_labels.write_page([study], page, picture)
    assert picture.stat().st_size > 1000
    row = next(line for line in page.read_text().splitlines() if line.startswith('| age |'))
    cells = [cell.strip() for cell in row.strip('|').split('|')]
    assert cells[1] == 'r 0.50 (0.25 to 0.75), p = 0.0125'
    assert float(cells[2]) > 0.6
    assert cells[3] == 'no pattern'
