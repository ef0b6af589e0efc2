"""Randomness that a resumed training repeats: every draw is a function of (seed, stage, step)."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from anything that can be written down.

    Examples
    --------
    >>> derived_seed(1, 'classifier', 7) == derived_seed(1, 'classifier', 7)
    True
    >>> derived_seed(1, 'classifier', 7) == derived_seed(1, 'classifier', 8)
    False
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], 'little') >> 1


def step_generators(*parts: object) -> tuple[np.random.Generator, torch.Generator]:
    """Generators for one training step; also seeds torch's own, which dropout draws from."""
    seed = derived_seed(*parts)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    return np.random.default_rng(seed), generator
