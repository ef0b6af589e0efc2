"""Subtypes: found when they are there, and not invented."""

from __future__ import annotations

import numpy as np
import pytest

from bids_interp.training.pattern.mixture import (
    Mixture,
    find_subtypes,
    fit_mixture,
    is_better,
)

FAMILIES = np.repeat(np.arange(30), 3)


def patients(centres: np.ndarray, seed: int, spread: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Patients of equally frequent subtypes, with amounts around 1; and their subtypes."""
    rng = np.random.default_rng(seed)
    own = np.arange(len(FAMILIES)) % len(centres)
    amounts = 1 + spread * rng.normal(size=(len(own), 1))
    return amounts * centres[own] + rng.normal(size=(len(own), centres.shape[1])), own


def test_two_subtypes_are_found():
    centres = np.array([[5.0, 0, 0, 0], [0, 5.0, 0, 0]])
    points, _ = patients(centres, 0)
    found = find_subtypes(points, FAMILIES, 0)
    assert len(found.mixture.shares) == 2
    assert found.stability > 0.9
    order = np.argsort(-found.mixture.centres[:, 0])
    assert np.allclose(found.mixture.centres[order], centres, atol=0.8)
    unseen, truth = patients(centres, 1)
    called = found.mixture.memberships(unseen)[:, order].argmax(axis=1)
    assert (called == truth).mean() > 0.97


@pytest.mark.parametrize('seed', range(5))
def test_one_pattern_stays_one(seed):
    """A strong pattern in very different amounts is not divided into mild and severe."""
    points, _ = patients(np.array([[6.0, 3.0, 0, 0, 0]]), seed, spread=0.4)
    found = find_subtypes(points, FAMILIES, 0)
    assert len(found.mixture.shares) == 1
    assert found.mixture.spreads[0] == pytest.approx(0.16, rel=0.6)


@pytest.mark.parametrize('seed', range(5))
def test_noise_has_no_subtypes(seed):
    points = np.random.default_rng(seed).normal(size=(len(FAMILIES), 6))
    assert len(find_subtypes(points, FAMILIES, 0).mixture.shares) == 1


def test_differences_between_families_are_not_subtypes():
    """Brains differ, and all images of a brain differ alike."""
    rng = np.random.default_rng(7)
    brains = np.repeat(np.arange(8), 12)
    points = rng.normal(size=(8, 4))[brains] + 0.3 * rng.normal(size=(96, 4)) + [3, 0, 0, 0]
    assert len(find_subtypes(points, brains, 0).mixture.shares) == 1


def test_gain_of_one_family_is_not_better():
    """Many images of one brain must not decide on subtypes."""
    families = np.repeat(np.arange(6), [20, 1, 1, 1, 1, 1])
    alone = np.where(families == 0, 1.0, 0.0)
    assert not is_better(alone, np.zeros(25), families)
    assert is_better(np.ones(25), np.zeros(25), np.arange(25)) is True
    assert not is_better(np.zeros(25), np.zeros(25), families)


def test_likelihood_against_the_formula():
    """Relative to the density of controls, for one subtype."""
    mixture = Mixture(np.array([[1.0, 2.0]]), np.array([0.3]), np.ones(1))
    point = np.array([[0.5, -1.0]])
    covariance = np.eye(2) + 0.3 * np.outer([1.0, 2.0], [1.0, 2.0])
    away = point[0] - [1.0, 2.0]
    expected = (
        -0.5 * away @ np.linalg.solve(covariance, away)
        - 0.5 * np.log(np.linalg.det(covariance))
        + 0.5 * point[0] @ point[0]
    )
    assert mixture.likelihood(point)[0] == pytest.approx(expected)


def test_amount_is_shrunk_to_one():
    mixture = fit_mixture(patients(np.array([[2.0, 0.0]]), 3)[0], 1, 0)
    far, near = mixture.amounts(np.array([[20.0, 0.0], [0.0, 0.0]]))[:, 0]
    assert near < 1 < far < 10
