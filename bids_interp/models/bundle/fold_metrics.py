"""Metrics of a fold: validity of its simulations, and its pattern, as recorded in a bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DirectionValidity:
    """Effect of held-out simulations of one direction.

    Parameters
    ----------
    n : int
        Number of images.
    validity : float
        Share that crosses the midpoint of the classes.
    effectiveness : float
        Median shift in the requested direction, divided by the class gap.
    """

    n: int
    validity: float
    effectiveness: float


@dataclass(frozen=True)
class ContrastValidity:
    """Effect of held-out simulations for one contrast; None for a direction without images."""

    contrast: str
    inject: DirectionValidity | None
    remove: DirectionValidity | None

    @property
    def sides(self) -> list[DirectionValidity]:
        """Directions that have images."""
        return [side for side in (self.inject, self.remove) if side is not None]


@dataclass(frozen=True)
class Candidate:
    """A weight of minimality that was tried, and its results.

    Parameters
    ----------
    minimality : float
        The weight.
    split_half_ncc : float
        Agreement of the maps of two halves of the training images.
    validity : float
        Mean validity on the validation split.
    """

    minimality: float
    split_half_ncc: float
    validity: float


@dataclass(frozen=True)
class PatternMetrics:
    """Measurements of the pattern of a contrast.

    Parameters
    ----------
    contrast : str
        Name of the contrast.
    consent : float
        Standard score of the classifier's response to the whole pattern, relative to the same
        pieces in other places.
    pieces, kept : int
        Number of pieces of the pattern, and of those that the classifier responds to.
    subtypes : int
        Number of subtypes; 0 without a pattern.
    held_out_gains : sequence of float
        Held-out log-likelihood per patient of 1, 2, ... subtypes.
    stability : float
        Smallest cosine of the direction of a subtype in two halves of the families.
    shares : sequence of float
        Shares of the subtypes.
    personal_share : float
        Root mean square deviation of the patients' amounts from their mean, relative to the root
        mean square amount.
    weights_ncc : float
        Correlation of the pattern with the map of the classifier's weights.
    response : float
        Share of random known changes that the measured volumes show.
    measured_dose : float
        Dose at which the simulation has the measured difference between the classes, corrected for
        ``response``. At dose 1 it has the class gap of the classifier.
    """

    contrast: str
    consent: float
    pieces: int
    kept: int
    subtypes: int
    held_out_gains: Sequence[float]
    stability: float
    shares: Sequence[float]
    personal_share: float
    weights_ncc: float
    response: float
    measured_dose: float

    @property
    def found(self) -> bool:
        """True if there is a pattern to which the classifier responds."""
        return self.kept > 0


@dataclass(frozen=True)
class GateMetrics:
    """Condition for training the published simulator of a contrast.

    Parameters
    ----------
    contrast : str
        Name of the contrast.
    auc : float
        Area under the curve of the classifier on the validation split.
    least_auc : float
        Smallest area with which there is something to explain.
    recognised : dict of int
        Number of training images of each class that the classifier gets right. Only these are
        simulated.
    """

    contrast: str
    auc: float
    least_auc: float
    recognised: dict[str, int]

    @property
    def reason(self) -> str:
        """Why there is nothing to explain; empty if the simulator is trained.

        Examples
        --------
        >>> GateMetrics('a-b', 0.8499, 0.85, {'a': 9, 'b': 7}).reason
        'the validation AUC of its classifier is 0.849, below 0.85'
        >>> GateMetrics('a-b', 0.9, 0.85, {'a': 9, 'b': 0}).reason
        'its classifier recognises no training image of b'
        """
        if self.auc < self.least_auc:
            # Rounded down: 0.8499 is not 0.85.
            area = math.floor(1000 * self.auc) / 1000
            return f'the validation AUC of its classifier is {area:.3f}, below {self.least_auc:g}'
        missing = ' and '.join(name for name, count in self.recognised.items() if not count)
        return f'its classifier recognises no training image of {missing}' if missing else ''


@dataclass(frozen=True)
class SimulatorMetrics:
    """Measurements of the simulator of a fold.

    Parameters
    ----------
    minimality : float, optional
        Chosen weight; None for the published simulator.
    selection : sequence of Candidate, optional
        Weights that were tried.
    audit_ncc : float, optional
        Agreement of the map with that of a simulator trained without transformations.
    patterns : sequence of PatternMetrics, optional
        Measurements of the pattern of each contrast; None for a simulator with a free velocity.
    gates : sequence of GateMetrics, optional
        Condition for training the published simulator of each contrast.
    validity : sequence of ContrastValidity
        Effect of simulations on the validation split, for each contrast with a trained simulator.
    """

    minimality: float | None = None
    selection: Sequence[Candidate] | None = None
    audit_ncc: float | None = None
    patterns: Sequence[PatternMetrics] | None = None
    gates: Sequence[GateMetrics] | None = None
    validity: Sequence[ContrastValidity] = ()

    @property
    def chosen(self) -> Candidate | None:
        """The chosen candidate, if several were tried."""
        return next((c for c in self.selection or () if c.minimality == self.minimality), None)

    def explains(self, contrast: str) -> bool:
        """Return False if the simulator of a contrast was not trained."""
        return not any(gate.reason for gate in self.gates or () if gate.contrast == contrast)


@dataclass(frozen=True)
class FoldMetrics:
    """Measurements of one fold.

    Parameters
    ----------
    n_train, n_validation, n_test : int
        Number of images in each split.
    simulator : SimulatorMetrics, optional
        Measurements of the simulator.
    test_auc : float, optional
        Area under the curve of the classifier on the test split, of two classes.
    """

    n_train: int
    n_validation: int
    n_test: int
    simulator: SimulatorMetrics | None = None
    test_auc: float | None = None


def has_pattern(metrics: Mapping[str, Any]) -> bool:
    """Return False if most fits of a model found no pattern that moves the classifier.

    >>> has_pattern({'simulator': {'pattern': {'count': 5, 'found': 2}}}), has_pattern({})
    (False, True)
    """
    return _in_most(metrics, 'pattern', 'found')


def is_explained(metrics: Mapping[str, Any]) -> bool:
    """Return False if most published simulators were not trained, as nothing is to be explained.

    >>> is_explained({'simulator': {'gate': {'count': 5, 'trained': 2}}}), is_explained({})
    (False, True)
    """
    return _in_most(metrics, 'gate', 'trained')


def _in_most(metrics: Mapping[str, Any], key: str, part: str) -> bool:
    counted = (metrics.get('simulator') or {}).get(key)
    return counted is None or 2 * counted[part] >= counted['count']
