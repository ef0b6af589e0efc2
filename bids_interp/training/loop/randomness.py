"""Randomness that a resumed training repeats: each draw depends on (seed, stage, step) alone."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derived_seed(*parts: object) -> int:
    """Derive a 63-bit seed from the representation of any values.

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
    """Return generators for one training step and seed torch's own, which dropout uses."""
    seed = derived_seed(*parts)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    return np.random.default_rng(seed), generator
