"""Changes of the second generator: the boundary of a region moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from bids_interp.errors import UsageError
from bids_interp.phantom.change.boundary import BoundaryChange, fit_boundary
from bids_interp.phantom.inject.planted_scan import load_change, save_change
from bids_interp.phantom.inject.warps import draw_warp
from bids_interp.spatial import Grid, compose, curl_free_part, log_jacobian, resample

GRID = Grid(
    (32, 32, 32), np.array([[3.0, 0, 0, -46], [0, 3, 0, -46], [0, 0, 3, -46], [0, 0, 0, 1]])
)
POINTS = GRID.world_coordinates()
#: An ellipsoid, so that nothing depends on the symmetry of a ball.
REGION = (np.linalg.norm(POINTS / np.array([18, 13, 11])[:, None, None, None], axis=0) < 1).astype(
    np.float32
)


@pytest.fixture(scope='module')
def shrunk() -> BoundaryChange:
    return fit_boundary(GRID, 'ellipsoid', REGION, -0.2)


def volume(field: torch.Tensor) -> float:
    """Relative volume change of the region."""
    found = log_jacobian(field, GRID)[0, 0].numpy()
    return float(np.expm1(found[REGION > 0]).mean())


def test_the_region_loses_what_was_asked_for_and_its_surroundings_gain(shrunk) -> None:
    forward = shrunk.displacement(1.0)
    found = log_jacobian(forward, GRID)[0, 0].numpy()
    assert volume(forward) == pytest.approx(-0.2, abs=2e-3)
    assert found.max() > 0.05
    far = np.linalg.norm(POINTS, axis=0) > 40
    assert np.abs(found[far]).max() < 5e-3
    # The region and its surroundings together keep their volume.
    assert np.expm1(found.astype(np.float64)).sum() == pytest.approx(0, abs=3)
    assert volume(fit_boundary(GRID, 'ellipsoid', REGION, 0.3).displacement(1.0)) == pytest.approx(
        0.3, abs=2e-3
    )


def test_severities_are_in_order_and_negative_ones_invert(shrunk) -> None:
    sizes = [volume(shrunk.displacement(severity)) for severity in (-1.0, 0.5, 1.0, 1.3)]
    assert sizes[0] > 0 > sizes[1] > sizes[2] > sizes[3]
    there, back = shrunk.displacement(1.0), shrunk.displacement(-1.0)
    assert float(there.abs().max()) > 0.8
    assert float(compose(there, back, GRID).abs().max()) < 0.15
    assert float(compose(back, there, GRID).abs().max()) < 0.15


def test_the_velocity_is_integrated_in_time() -> None:
    """A turn that becomes a stretch: the two do not commute, so their order matters."""
    turn = 0.4 * np.stack([-POINTS[1], POINTS[0], np.zeros(GRID.shape)])
    stretch = 0.3 * np.stack([POINTS[0], -0.5 * POINTS[1], np.zeros(GRID.shape)])
    change = BoundaryChange(GRID, np.stack([turn, stretch]).astype(np.float32), {})

    def speed(time: float, place: np.ndarray) -> list[float]:
        x, y = place
        first, last = (-0.4 * y, 0.4 * x), (0.3 * x, -0.15 * y)
        return [(1 - time) * a + time * b for a, b in zip(first, last, strict=True)]

    index = (20, 18, 16)
    start = POINTS[(slice(None), *index)]
    for severity, span in ((1.0, (0, 1)), (-1.0, (1, 0))):
        wanted = solve_ivp(speed, span, start[:2], rtol=1e-9, atol=1e-9).y[:, -1] - start[:2]
        found = change.displacement(severity)[0].numpy()[(slice(None), *index)]
        assert found[:2] == pytest.approx(wanted, abs=2e-3)
        assert np.abs(wanted).max() > 1.5


def test_it_is_not_the_gradient_of_a_poisson_equation(shrunk) -> None:
    field = torch.from_numpy(shrunk.velocity)[None]
    rest = field - curl_free_part(field, GRID)
    assert float(rest.square().mean().sqrt() / field.square().mean().sqrt()) > 0.02


def test_impossible_changes_are_refused() -> None:
    with pytest.raises(UsageError):
        fit_boundary(GRID, 'ellipsoid', REGION, -0.95)


def test_a_change_comes_back_from_its_file(shrunk, tmp_path) -> None:
    save_change(tmp_path / 'change.npz', shrunk)
    again = load_change(tmp_path / 'change.npz')
    assert isinstance(again, BoundaryChange)
    assert again.changes == {'ellipsoid': -0.2}
    np.testing.assert_array_equal(again.velocities, shrunk.velocities)
    np.testing.assert_allclose(again.grid.affine, GRID.affine)


def test_it_is_planted_like_any_other_change(shrunk) -> None:
    patient = draw_warp(shrunk, [1], True, 1.0, anatomy_mm=0)
    assert patient.truth is not None
    assert np.expm1(patient.truth[REGION > 0]).mean() > 0.1
    control = draw_warp(shrunk, [1], False, 1.0, anatomy_mm=0)
    assert control.truth is not None
    assert control.motion is not None
    assert np.expm1(control.truth[REGION > 0]).mean() == pytest.approx(-0.2, abs=0.05)
    found = log_jacobian(torch.from_numpy(control.motion)[None], GRID)[0, 0].numpy()
    inner = (slice(6, -6),) * 3
    assert np.corrcoef(found[inner].ravel(), control.truth[inner].ravel())[0, 1] > 0.98


def test_a_region_on_a_finer_grid_changes_as_much_on_the_grid_of_the_velocity() -> None:
    coarse = Grid((20, 20, 20), np.array(
        [[5.0, 0, 0, -47], [0, 5, 0, -47], [0, 0, 5, -47], [0, 0, 0, 1]]
    ))  # fmt: skip
    made = fit_boundary(coarse, 'ellipsoid', REGION, -0.2, GRID)
    assert made.velocities.shape == (2, 3, 20, 20, 20)
    found = log_jacobian(made.displacement(1.0), coarse)
    share = resample(torch.from_numpy(REGION)[None, None], GRID, coarse, antialias=True)
    changed = float((share * torch.expm1(found)).sum() / share.sum())
    assert changed == pytest.approx(-0.2, abs=2e-3)
