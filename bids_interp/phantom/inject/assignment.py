"""Assignment of replicates to groups: random, balanced and determined by the seed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bids_interp.errors import UsageError
from bids_interp.phantom.dataset_folder import check_draws
from bids_interp.phantom.inject.scenarios import Scenario

#: Smallest number of images per class.
FEWEST = 2


@dataclass(frozen=True)
class Replicate:
    """Settings of one subject of the new dataset.

    Parameters
    ----------
    label : str
        Label of the new subject, ``<original>r<number>``.
    family : str
        Label of the original participant.
    number : int
        Number of the replicate, from 1.
    patient : bool
        Whether the subject is a patient.
    strength : float
        Factor on the velocity of the change or sham.
    severity : float
        Strength of a patient with a planted change, 0 for all others.
    confound : bool
        Whether the intensities are changed.
    scaling : float
        Factor of the global scaling.
    subtype : int
        Number of the change, from 0; the sham of a control imitates it.
    """

    label: str
    family: str
    number: int
    patient: bool
    strength: float
    severity: float
    confound: bool
    scaling: float
    subtype: int = 0

    @property
    def group(self) -> str:
        """``'patient'`` or ``'control'``."""
        return 'patient' if self.patient else 'control'

    def seed(self, seed: int) -> list[int]:
        """Return the seed of the warp, which does not depend on other participants."""
        return [seed, 2, zlib.crc32(self.family.encode()), self.number]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain types."""
        return asdict(self)


def assign_groups(
    families: Sequence[str],
    scenario: Scenario,
    severity: tuple[float, float] = (0.7, 1.3),
    fraction: float = 0.5,
    replicates: int = 1,
    seed: int = 0,
) -> list[Replicate]:
    """Assign group, strength, confound and scaling to every replicate.

    Parameters
    ----------
    families : sequence of str
        Labels of the original participants.
    scenario : Scenario
        Planted change and difficulty.
    severity : tuple of float
        Range from which each replicate's strength is drawn, uniformly.
    fraction : float
        Share of patients among all replicates, distributed over the brains as evenly as possible.
    replicates : int
        Number of replicates per brain.
    seed : int
        Random seed.

    Returns
    -------
    list of Replicate
        Replicates in the order of the families.

    Raises
    ------
    UsageError
        If a number is invalid, or a class has fewer than two images.
    """
    _check_numbers(severity, fraction, replicates, seed)
    rng = np.random.default_rng([seed, 0])
    patients = _choose_patients(len(families), fraction, replicates, rng)
    for count, plural in ((patients.sum(), 'patients'), ((~patients).sum(), 'controls')):
        if count < FEWEST:
            raise UsageError(
                f'{len(families)} participants with {replicates} replicates and a fraction of '
                f'{fraction:g} give {count} {plural}; at least {FEWEST} are needed.',
                'Use more participants, more --replicates or another --fraction.',
            )
    confounded = np.zeros(patients.shape, bool)
    for group, share in zip((patients, ~patients), scenario.confound or (0, 0), strict=True):
        order = rng.permutation(np.flatnonzero(group))
        confounded.flat[order[: round(share * len(order))]] = True
    made = []
    for row, family in enumerate(families):
        subtypes = _draw_subtypes(family, patients[row], len(scenario.effects), seed)
        for column in range(replicates):
            number = column + 1
            own = np.random.default_rng([seed, 1, zlib.crc32(family.encode()), number])
            strength = round(float(own.uniform(*severity)), 4)
            logarithm = float(np.clip(own.normal(), -2, 2)) * scenario.scaling_sd
            patient = bool(patients[row, column])
            made.append(
                Replicate(
                    f'{family}r{number}',
                    family,
                    number,
                    patient,
                    strength,
                    strength if patient and not scenario.null else 0.0,
                    bool(confounded[row, column]),
                    round(float(np.exp(logarithm)), 4),
                    int(subtypes[column]),
                )
            )
    return made


def _draw_subtypes(family: str, patients: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw the subtype of each replicate of a family, equally often in each class."""
    rng = np.random.default_rng([seed, 3, zlib.crc32(family.encode())])
    subtypes = np.zeros(len(patients), int)
    for group in (patients, ~patients):
        order = rng.permutation(np.flatnonzero(group))
        subtypes[order] = (np.arange(len(order)) + rng.integers(count)) % count
    return subtypes


def _check_numbers(
    severity: tuple[float, float], fraction: float, replicates: int, seed: int
) -> None:
    if not 0 < fraction < 1:
        raise UsageError(
            f'{fraction} is not a valid share of patients.', 'Choose a value between 0 and 1.'
        )
    if replicates < 1:
        raise UsageError(f'{replicates} replicates per brain are too few.', 'Choose at least one.')
    check_draws(severity, seed)


def _choose_patients(
    families: int, fraction: float, replicates: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw patients, bool (families, replicates); counts of two families differ by at most 1."""
    total = round(families * replicates * fraction)
    counts = np.full(families, total // families if families else 0)
    counts[rng.permutation(families)[: total - counts.sum()]] += 1
    chosen = np.zeros((families, replicates), bool)
    for row, count in enumerate(counts):
        chosen[row, rng.permutation(replicates)[:count]] = True
    return chosen
