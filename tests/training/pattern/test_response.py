"""The response of measured volumes to random smooth changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from bids_interp.models.networks.morphometric import VolumeMeasure
from bids_interp.phantom.change.smooth_noise import draw_smooth_change
from bids_interp.spatial import Grid, exponential, flow_log_jacobian, jacobian_determinant
from bids_interp.training.pattern import response
from bids_interp.training.pattern.response import measure_response

GRID = Grid((32, 36, 28), np.diag([4.0, 4.0, 4.0, 1.0]))
MASK = np.zeros(GRID.shape, bool)
MASK[4:-4, 4:-4, 4:-4] = True


def people(count: int = 3) -> torch.Tensor:
    """Images that share half of their texture."""
    rng = np.random.default_rng(3)
    textures = [gaussian_filter(rng.standard_normal(GRID.shape), 1.5) for _ in range(count + 1)]
    images = [0.7 + 2.0 * (textures[0] + 0.5 * own) for own in textures[1:]]
    return torch.from_numpy(np.stack(images)[:, None] * MASK).float()


def measure(images: torch.Tensor, kind: type[VolumeMeasure] = VolumeMeasure) -> VolumeMeasure:
    volumes = kind(GRID.shape).eval()
    volumes.mean.copy_(images.mean(dim=0, keepdim=True))
    return volumes


class Halved(VolumeMeasure):
    """Shows half of what the registration shows."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 0.5 * super().forward(image)


@pytest.fixture(scope='module')
def few() -> object:
    """Fewer changes, for speed."""
    patch = pytest.MonkeyPatch()
    patch.setattr(response, 'GRAINS_MM', (9.0, 14.0))
    patch.setattr(response, 'N_IMAGES', 2)
    yield
    patch.undo()


def test_noise_has_the_grain_and_the_spread_that_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    velocity = torch.from_numpy(draw_smooth_change(GRID, MASK, 10.0, 0.1, rng))[None]
    change = flow_log_jacobian(velocity, GRID)[0, 0].numpy()
    assert change[MASK].std() == pytest.approx(0.1, rel=0.2)
    inner = change[6:-6, 6:-6, 6:-6]
    # Neighbours of white noise smoothed by s correlate by exp(-h^2 / 4 s^2).
    found = np.corrcoef(inner[1:].ravel(), inner[:-1].ravel())[0, 1]
    assert found == pytest.approx(np.exp(-(4.0**2) / (4 * 10.0**2)), abs=0.03)


def test_the_gain_is_the_slope_of_measured_on_true(few) -> None:
    images = people()
    whole = measure_response(measure(images), images, GRID, MASK, 1)
    half = measure_response(measure(images, Halved), images, GRID, MASK, 1)
    assert 0.3 < whole.gain < 1.1
    assert 0.6 < whole.ncc < 1.0
    assert half.gain == pytest.approx(0.5 * whole.gain, rel=1e-4)
    assert half.ncc == pytest.approx(whole.ncc, rel=1e-4)
    assert whole.grains[14.0][0] > whole.grains[9.0][0]


def test_a_measured_change_divided_by_the_gain_has_the_true_size(few) -> None:
    images = people()
    volumes = measure(images)
    gain = measure_response(volumes, images, GRID, MASK, 1).gain
    rng = np.random.default_rng(77)
    velocity = torch.from_numpy(draw_smooth_change(GRID, MASK, 11.0, 0.1, rng))[None]
    with torch.no_grad():
        found = response.respond(volumes, images[:1], velocity, GRID)[0, 0]
    exact = F.avg_pool3d(jacobian_determinant(exponential(velocity, GRID), GRID).log(), 2)[0, 0]
    inner = (slice(3, -3),) * 3
    slope = np.polyfit(exact[inner].ravel(), found[inner].ravel() / gain, 1)[0]
    assert slope == pytest.approx(1.0, abs=0.25)


def test_the_seed_decides(few) -> None:
    images = people()
    volumes = measure(images)
    first, again, other = (measure_response(volumes, images, GRID, MASK, s) for s in (1, 1, 2))
    assert first == again
    assert first.gain != other.gain
