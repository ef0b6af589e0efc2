"""Do simulations change the answer, and where? Against cases that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.evaluation.validity import (
    class_centre,
    image_scores,
    mean_log_jacobian,
    simulated_scores,
    validity,
)
from bids_interp.models.target import Target
from bids_interp.spatial import Grid

GRID = Grid((12, 8, 8), np.diag([2.0, 3.0, 4.0, 1.0]))
BINARY = Target('binary', 'group', ('control', 'patient'))
SEVERAL = Target('multiclass', 'dx', ('A', 'B', 'C'))
NUMBER = Target('regression', 'age', (), 50.0, 10.0)


class Reader(nn.Module):
    """Logits are what stands at some voxels of the image."""

    def __init__(self, *places: tuple[int, int, int]) -> None:
        super().__init__()
        self.places = places

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.stack([image[(slice(None), 0, *place)] for place in self.places], dim=1)


class Shifter(nn.Module):
    """Tissue moves along x by ``mm`` times the dose, whatever the image."""

    def __init__(self, *mm: float, field: str = 'velocity') -> None:
        super().__init__()
        self.mm, self.field = mm, field
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor, dose: torch.Tensor, contrast: int = 0) -> torch.Tensor:
        field = image.new_zeros(len(image), 3, *GRID.shape)
        field[:, 0] = self.mm[contrast] * dose.view(-1, 1, 1, 1)
        return field


def ramps(*offsets: float, slope: float = 1.0) -> torch.Tensor:
    """Images that rise by ``slope`` per voxel along x and are ``offset`` at voxel 6."""
    along = slope * (torch.arange(12.0) - 6)
    return torch.stack([(along + o).view(1, 12, 1, 1).expand(1, *GRID.shape) for o in offsets])


READER = Reader((6, 4, 4))


def test_scores_move_by_what_stands_where_the_image_is_pulled_from() -> None:
    # Tissue moves by -4 mm = 2 voxels to the left, so that the value from 2 voxels right is seen.
    before = image_scores(READER, ramps(0.0, 5.0), BINARY.contrasts[0], batch=1)
    after = simulated_scores(
        READER, Shifter(-4.0), ramps(0.0, 5.0), 1.0, BINARY.contrasts[0], 0, GRID, batch=1
    )
    assert before.tolist() == [0, 5]
    np.testing.assert_allclose(after, [2, 7], atol=1e-4)
    after = simulated_scores(READER, Shifter(-4.0), ramps(0.0), -0.5, BINARY.contrasts[0], 0, GRID)
    np.testing.assert_allclose(after, [-1], atol=1e-4)


def test_a_displacement_pulls_back_as_it_is() -> None:
    shifter = Shifter(-4.0, field='displacement')
    after = simulated_scores(READER, shifter, ramps(0.0), 1.0, BINARY.contrasts[0], 0, GRID)
    np.testing.assert_allclose(after, [-2], atol=1e-4)


def test_the_centre_is_between_the_medians() -> None:
    scores, labels = np.array([0.0, 1.0, 9.0, 4.0, 6.0]), np.array([0, 0, 0, 1, 1])
    assert class_centre(scores, labels, BINARY, 0) == pytest.approx((1 + 5) / 2)
    assert class_centre(scores, labels, NUMBER, 0) == 0
    # Of three classes only those of the contrast count: A and C.
    assert class_centre(scores, np.array([0, 1, 1, 2, 2]), SEVERAL, 1) == pytest.approx(2.5)


def test_who_crosses_the_centre() -> None:
    # Scores of controls -3, -1, 0 and of patients 1, 3, 5: medians -1 and 3, so the centre is 1.
    images, labels = ramps(-3, -1, 0, 1, 3, 5), np.array([0, 0, 0, 1, 1, 1])
    (row,) = validity(READER, Shifter(-5.0), images, labels, BINARY, [4.0], GRID)
    assert row.contrast == 'control-patient'
    # All move by 2.5: of -3, -1, 0 the last two cross 1, of 1, 3, 5 the first two.
    assert row.inject.n == row.remove.n == 3
    assert row.inject.validity == pytest.approx(2 / 3)
    assert row.remove.validity == pytest.approx(2 / 3)
    for side in row.sides:
        assert side.effectiveness == pytest.approx(2.5 / 4, abs=1e-4)


def test_the_wrong_way_is_negative() -> None:
    images, labels = ramps(-2, 2), np.array([0, 1])
    (row,) = validity(READER, Shifter(2.0), images, labels, BINARY, [2.0], GRID)
    assert row.inject.validity == row.remove.validity == 0
    assert row.inject.effectiveness == pytest.approx(-0.5, abs=1e-4)


def test_no_image_of_a_class() -> None:
    (row,) = validity(READER, Shifter(-5.0), ramps(0, 1), np.array([0, 0]), BINARY, [1.0], GRID)
    assert row.remove is None
    assert row.inject.n == 2


def test_each_contrast_has_its_own_images_simulator_and_gap() -> None:
    # Logits stand at voxels 3, 6 and 9 of x. A steeper image has a larger difference of them.
    reader = Reader((3, 4, 4), (6, 4, 4), (9, 4, 4))
    images = torch.cat([ramps(0.0, slope=slope) for slope in (-1.0, 0.0, 1.0)])
    rows = validity(
        reader,
        Shifter(-2.0, -4.0, -6.0),
        images**2,
        np.array([0, 1, 2]),
        SEVERAL,
        [1.0, 2.0, 4.0],
        GRID,
    )
    assert [row.contrast for row in rows] == ['A-B', 'A-C', 'B-C']
    # Of (x - 6)^2 the logits are 9, 0, 9; shifted by 1 voxel 4, 1, 16; by 2: 1, 4, 25.
    # A-B (A is injected): -9 becomes 1 - 4 = -3, a shift of 6 over a gap of 1.
    assert rows[0].inject.effectiveness == pytest.approx(6, abs=1e-3)
    # A-C: 0 becomes 25 - 1 = 24 over a gap of 2.
    assert rows[1].inject.effectiveness == pytest.approx(12, abs=1e-3)
    # B-C: B is flat, nothing changes.
    assert rows[2].inject.effectiveness == pytest.approx(0, abs=1e-3)
    assert rows[0].remove.n == rows[2].inject.n == 1


def test_a_regression_moves_everybody_both_ways() -> None:
    # Crossing means half a standard deviation; the steep image moves by 0.75, the flat one by 0.3.
    images = torch.cat([ramps(0.0, slope=0.5), ramps(0.0, slope=0.2)])
    rows = validity(READER, Shifter(-3.0), images, np.array([40.0, 60.0]), NUMBER, [1.0], GRID)
    assert len(rows[0].sides) == 2
    for side in rows[0].sides:
        assert (side.n, side.validity) == (2, 0.5)
        assert side.effectiveness == pytest.approx((0.75 + 0.3) / 2, abs=1e-4)


class Scaler(nn.Module):
    """Expands everything by a factor that the image says; the velocity is linear."""

    field = 'velocity'

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor, dose: torch.Tensor, contrast: int = 0) -> torch.Tensor:
        points = torch.from_numpy(GRID.world_coordinates())[None]
        rate = image.mean(dim=(1, 2, 3, 4)) * dose
        return rate.view(-1, 1, 1, 1, 1) * points


def test_the_mean_map_is_over_images() -> None:
    # exp of a linear velocity: its log-Jacobian is the trace, 3 * rate, everywhere inside.
    images = torch.stack([torch.full((1, *GRID.shape), rate) for rate in (0.02, 0.06)])
    for dose in (1.0, -0.5):
        mean = mean_log_jacobian(Scaler(), images, dose, 0, GRID)
        assert mean.shape == GRID.shape
        assert mean[:6, :4, :4].mean() == pytest.approx(3 * 0.04 * dose, abs=2e-3)
    assert not math.isnan(float(mean.sum()))
