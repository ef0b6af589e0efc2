"""Personal share: maps that are equal, partly equal, and of different models."""

from __future__ import annotations

import numpy as np
import pytest

from bids_interp.constants import COMMON_SHARE
from bids_interp.evaluation.personal_share import (
    ROUNDING_SHARE,
    personal_share,
    typical_share,
)


def test_the_share_of_a_pattern_with_a_personal_part() -> None:
    """A common part of length 4, and personal parts of length 3 that have nothing in common."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((200, 41)))[0].T
    maps = 4 * axes[0] + 3 * axes[1:]
    # Each person is one of the forty whom the mean is taken over.
    wanted = 3 / 5 * np.sqrt(1 - 1 / 40)
    np.testing.assert_allclose(personal_share(maps), wanted, rtol=1e-9)
    np.testing.assert_allclose(personal_share(-7 * maps), wanted, rtol=1e-9)


def test_equal_maps_have_no_personal_share() -> None:
    pattern = np.random.default_rng(0).standard_normal(500).astype(np.float32)
    assert personal_share(np.stack([pattern] * 5)).max() < 1e-6
    noise = 1e-3 * np.random.default_rng(1).standard_normal((5, 500))
    shares = personal_share(pattern * (1 + noise))
    assert (shares < ROUNDING_SHARE).all()
    assert (personal_share(pattern * (1 + 20 * noise)) < COMMON_SHARE).all()
    assert (personal_share(pattern * (1 + 100 * noise)) > COMMON_SHARE).all()


def test_differences_between_models_are_not_personal() -> None:
    maps = np.repeat(np.eye(2, 50), 3, axis=0)
    assert personal_share(maps).min() > 0.5
    np.testing.assert_array_equal(personal_share(maps, np.array(list('aaabbb'))), 0)


def test_people_without_a_share() -> None:
    maps = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [1.0, 1.0]])
    found = personal_share(maps, np.array(list('aaab')))
    assert np.isfinite(found).tolist() == [True, True, False, False]
    assert typical_share(found) == pytest.approx(np.median(found[:2]))
    assert typical_share(np.array([np.nan])) is None
    assert np.isnan(personal_share(maps[:1])).all()
