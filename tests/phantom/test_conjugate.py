"""The change as it is seen from the image of a subject."""

from __future__ import annotations

import numpy as np
import torch

from bids_interp.phantom.change.conjugate import (
    conjugate_displacement,
    conjugate_log_jacobian,
)
from bids_interp.spatial import Grid

GRID = Grid((24, 24, 24), np.diag([3.0, 2.0, 2.5, 1.0]))
INNER = (slice(8, 16),) * 3


def scaling(factors: tuple[float, float, float]) -> torch.Tensor:
    """Displacement (1, 3, X, Y, Z) of a scaling about the centre of the grid, mm."""
    points = GRID.world_coordinates()
    centre = points[:, 12, 12, 12][:, None, None, None]
    field = (np.array(factors)[:, None, None, None] - 1) * (points - centre)
    return torch.from_numpy(field.astype(np.float32))[None]


def test_an_anatomy_does_not_change_the_volume_of_a_scaling() -> None:
    anatomy, back = scaling((1.1, 1.0, 1.0)), scaling((1 / 1.1, 1.0, 1.0))
    found = conjugate_log_jacobian(anatomy, back, scaling((0.9, 1.0, 0.95)), GRID)
    assert found.shape == GRID.shape
    np.testing.assert_allclose(found[INNER], np.log(0.9 * 0.95), atol=2e-3)


def test_without_a_change_the_map_is_zero() -> None:
    anatomy, back = scaling((1.1, 0.9, 1.0)), scaling((1 / 1.1, 1 / 0.9, 1.0))
    found = conjugate_log_jacobian(anatomy, back, scaling((1.0, 1.0, 1.0)), GRID)
    np.testing.assert_allclose(found[INNER], 0, atol=1e-3)


def test_the_displacement_is_that_of_the_conjugate() -> None:
    """A stretch does not change a scaling along its own axes; a shift moves the fixed point."""
    shift = torch.tensor([4.0, -2.0, 3.0]).view(1, 3, 1, 1, 1).expand(1, 3, *GRID.shape)
    change = scaling((0.9, 1.0, 0.95))
    found = conjugate_displacement(shift, -shift, change, GRID)
    wanted = change + torch.tensor([-0.1 * 4.0, 0.0, -0.05 * 3.0]).view(1, 3, 1, 1, 1)
    middle = (..., *(slice(8, 16),) * 3)
    np.testing.assert_allclose(found[middle].numpy(), wanted[middle].numpy(), atol=2e-3)
    stretched = conjugate_displacement(
        scaling((1.1, 1.0, 1.0)), scaling((1 / 1.1, 1.0, 1.0)), change, GRID
    )
    np.testing.assert_allclose(stretched[middle].numpy(), change[middle].numpy(), atol=2e-3)
