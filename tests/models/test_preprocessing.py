from __future__ import annotations

import numpy as np
import pytest
import torch

from bids_interp.errors import ImageError, ModelError
from bids_interp.models.preprocessing import (
    LANDMARK_PERCENTILES,
    NORMALISATIONS,
    Preprocessing,
    as_volume,
    check_head,
    to_model_grid,
)
from bids_interp.spatial import Grid


@pytest.fixture
def brain() -> torch.Tensor:
    """A ball of intensities from 200 to 1000 in empty space."""
    torch.manual_seed(0)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, 14)] * 3, indexing='ij')
    inside = torch.stack(axes).square().sum(dim=0) < 0.8
    return (200 + 800 * torch.rand(14, 14, 14)) * inside


LANDMARKS = tuple(float(10 * n**2) for n in range(1, 14))


def of(name: str, **changes: object) -> Preprocessing:
    return Preprocessing(name, landmarks=LANDMARKS if name == 'histogram' else (), **changes)


@pytest.mark.parametrize('name', NORMALISATIONS)
def test_background_stays_zero(name: str, brain: torch.Tensor):
    normalised = of(name).normalise(brain)
    assert (normalised[brain == 0] == 0).all()
    assert normalised.std() > 0


@pytest.mark.parametrize('name', ['percentile', 'zscore', 'minmax', 'mean', 'histogram'])
def test_the_gain_of_the_scanner_does_not_matter(name: str, brain: torch.Tensor):
    how = of(name)
    torch.testing.assert_close(how.normalise(3.7 * brain), how.normalise(brain))


def test_ranges(brain: torch.Tensor):
    assert Preprocessing('minmax').normalise(brain).max() == 1
    # What is brighter than the percentile is brighter than 1, up to the ceiling.
    assert Preprocessing('percentile').normalise(brain).max() == pytest.approx(1.02, abs=0.01)
    low = Preprocessing('percentile', percentile=20.0).normalise(brain)
    assert low.max() == pytest.approx(1.3)
    inside = Preprocessing('zscore').normalise(brain)[brain > 0]
    torch.testing.assert_close(inside.mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(inside.std(), torch.tensor(1.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(Preprocessing('none').normalise(brain), brain)
    means = Preprocessing('mean').normalise(brain)[brain > 0].mean()
    torch.testing.assert_close(means, torch.tensor(1.0), atol=1e-4, rtol=0)


def test_statistics_of_the_whole_grid(brain: torch.Tensor):
    """As MONAI's NormalizeIntensity() and the published age networks take them."""
    torch.testing.assert_close(of('mean', voxels='all').normalise(brain), brain / brain.mean())
    scored = of('zscore', voxels='all').normalise(brain)
    torch.testing.assert_close(scored, (brain - brain.mean()) / brain.std())
    top = np.percentile(brain.numpy(), 98)
    expected = (brain / float(top)).clamp(max=1.3)
    torch.testing.assert_close(of('percentile', voxels='all').normalise(brain), expected)


def test_a_histogram_is_mapped_to_its_landmarks(brain: torch.Tensor):
    normalised = of('histogram').normalise(brain)[brain > 0].numpy()
    found = np.percentile(normalised, LANDMARK_PERCENTILES)
    np.testing.assert_allclose(found, LANDMARKS, rtol=0.02)
    # The outermost pieces go on beyond the 1st and the 99th percentile.
    assert normalised.min() < LANDMARKS[0]
    assert normalised.max() > LANDMARKS[-1]
    assert (np.argsort(normalised) == np.argsort(brain[brain > 0].numpy())).all()


def test_a_head_keeps_what_lies_outside_the_mask():
    grid = Grid((10, 10, 10), np.diag([2.0, 2.0, 2.0, 1.0]))
    mask = np.zeros(grid.shape, bool)
    mask[3:7, 3:7, 3:7] = True
    head = np.random.default_rng(0).uniform(500, 900, grid.shape).astype(np.float32)
    how = Preprocessing('minmax', skull=True)
    image = to_model_grid(head, grid, np.eye(4), grid, mask, how)[0, 0].numpy()
    np.testing.assert_allclose(image, head / head.max(), rtol=1e-5)
    check_head(head, head * mask)
    with pytest.raises(ImageError):
        check_head(head * mask, head * mask)


def test_what_is_not_finite_is_background():
    image = np.array([[[1.0, np.nan], [np.inf, -np.inf]]])
    volume = as_volume(image)
    assert volume.dtype == np.float32
    assert volume.tolist() == [[[1, 0], [0, 0]]]
    assert np.isnan(image[0, 0, 1])  # the caller's array stays as it is


def test_axes_of_length_1_are_dropped_behind_only():
    assert as_volume(np.ones((1, 2, 3, 1, 1))).shape == (1, 2, 3)


@pytest.mark.parametrize(
    ('image', 'words'),
    [
        (np.ones((3, 4, 5, 2)), r'\(3, 4, 5, 2\)'),
        (np.ones((3, 4)), r'\(3, 4\)'),
        (np.ones((3, 0, 5)), r'\(3, 0, 5\)'),
        (np.full((3, 4, 5), np.nan), r'\b0\.'),
        (np.zeros((3, 4, 5)), r'\b0\.'),
    ],
)
def test_what_is_no_volume_is_refused(image: np.ndarray, words: str):
    with pytest.raises(ImageError, match=words):
        as_volume(image)


def test_unknown_normalisation():
    with pytest.raises(ModelError, match='equalised'):
        Preprocessing('equalised')
    with pytest.raises(ModelError, match='voxels'):
        Preprocessing(voxels='some')


@pytest.mark.parametrize('landmarks', [(), LANDMARKS[:-1], LANDMARKS[::-1]])
def test_landmarks_that_do_not_fit(landmarks: tuple[float, ...]):
    with pytest.raises(ModelError, match='13'):
        Preprocessing('histogram', landmarks=landmarks)
    with pytest.raises(ModelError, match='zscore'):
        Preprocessing('zscore', landmarks=LANDMARKS)


def test_what_lies_outside_the_mask_of_the_model_is_background():
    """A generous mask of the subject is no shortcut."""
    grid = Grid((10, 10, 10), np.diag([2.0, 2.0, 2.0, 1.0]))
    mask = np.zeros(grid.shape, bool)
    mask[2:8, 2:8, 2:8] = True
    rng = np.random.default_rng(0)
    generous = rng.uniform(500, 900, grid.shape).astype(np.float32)
    image = to_model_grid(generous, grid, np.eye(4), grid, mask, Preprocessing())[0, 0].numpy()
    assert ((image > 0) == mask).all()
