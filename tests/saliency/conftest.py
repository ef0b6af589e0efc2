"""A score whose saliency maps are known."""

from __future__ import annotations

import pytest

from helpers.scores import Linear, noise


@pytest.fixture
def linear():
    """Score, image, baseline."""
    return Linear(), noise(2), noise(3)
