"""Who becomes a patient: random with respect to everything else, balanced, from the seed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bids_interp.errors import UsageError
from bids_interp.phantom.inject.scenarios import Scenario

#: Fewer images of a class make no dataset.
FEWEST = 2


@dataclass(frozen=True)
class Replicate:
    """One subject to be made.

    Parameters
    ----------
    label : str
        Label of the new subject, ``<original>r<number>``.
    family : str
        Label of the original participant.
    number : int
        1 for the first replicate.
    patient : bool
        Group.
    strength : float
        Factor on the velocity of the change, or of the sham.
    severity : float
        The same for patients with a planted change; 0 for everybody else.
    confound : bool
        Whether the intensities are changed.
    scaling : float
        Global scaling.
    """

    label: str
    family: str
    number: int
    patient: bool
    strength: float
    severity: float
    confound: bool
    scaling: float

    @property
    def group(self) -> str:
        """``'patient'`` or ``'control'``."""
        return 'patient' if self.patient else 'control'

    def seed(self, seed: int) -> list[int]:
        """Seed of its warp: depends on the original's label, not on who else is there."""
        return [seed, 2, zlib.crc32(self.family.encode()), self.number]

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


def assign(
    families: Sequence[str],
    scenario: Scenario,
    severity: tuple[float, float] = (0.7, 1.3),
    fraction: float = 0.5,
    replicates: int = 1,
    seed: int = 0,
) -> list[Replicate]:
    """Decide for every replicate of every brain what it gets.

    Parameters
    ----------
    families : sequence of str
        Labels of the original participants.
    scenario : Scenario
        What is planted.
    severity : tuple of float
        Range from which each replicate's strength is drawn, uniformly.
    fraction : float
        Wanted share of patients among all replicates; within each brain it is met as evenly as
        whole numbers allow.
    replicates : int
        Replicates of each brain.
    seed : int
        Seed.

    Returns
    -------
    list of Replicate
        In the order of the families.

    Raises
    ------
    UsageError
        Impossible numbers, or fewer than two images in a class.
    """
    _check_numbers(severity, fraction, replicates, seed)
    rng = np.random.default_rng([seed, 0])
    patients = _choose_patients(len(families), fraction, replicates, rng)
    for count, plural in ((patients.sum(), 'patients'), ((~patients).sum(), 'controls')):
        if count < FEWEST:
            raise UsageError(
                f'{len(families)} participants with {replicates} replicates and a fraction of '
                f'{fraction:g} make {count} {plural}; at least {FEWEST} are needed.',
                'Take more participants or --replicates, or another --fraction.',
            )
    confounded = np.zeros(patients.shape, bool)
    for group, share in zip((patients, ~patients), scenario.confound or (0, 0), strict=True):
        places = rng.permutation(np.flatnonzero(group))
        confounded.flat[places[: round(share * len(places))]] = True
    made = []
    for row, family in enumerate(families):
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
                )
            )
    return made


def _check_numbers(
    severity: tuple[float, float], fraction: float, replicates: int, seed: int
) -> None:
    if not 0 < fraction < 1:
        raise UsageError(f'{fraction} is not a share of patients.', 'Give more than 0, below 1.')
    if not 0 < severity[0] <= severity[1]:
        raise UsageError(
            f'{severity[0]} to {severity[1]} is no range of severities.',
            'Give two positive numbers, the smaller one first.',
        )
    if replicates < 1:
        raise UsageError(f'{replicates} replicates cannot be made.', 'Ask for at least one.')
    if seed < 0:
        raise UsageError(f'The seed {seed} is negative.', 'Give 0 or more.')


def _choose_patients(
    families: int, fraction: float, replicates: int, rng: np.random.Generator
) -> np.ndarray:
    """Boolean (families, replicates); the numbers of patients of two families differ by 1."""
    total = round(families * replicates * fraction)
    counts = np.full(families, total // families if families else 0)
    counts[rng.permutation(families)[: total - counts.sum()]] += 1
    chosen = np.zeros((families, replicates), bool)
    for row, count in enumerate(counts):
        chosen[row, rng.permutation(replicates)[:count]] = True
    return chosen
