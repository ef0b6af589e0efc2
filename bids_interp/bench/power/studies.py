"""Studies that are drawn from planted volumes, and the power of a classifier in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from sklearn.model_selection import StratifiedKFold

from bids_interp.bench.power.elastic_net import fit_elastic_net
from bids_interp.bench.power.planted_volumes import PlantedVolumes
from bids_interp.errors import InputDatasetError, UsageError
from bids_interp.evaluation.exchange import permutation_test
from bids_interp.evaluation.out_of_fold import within_fold_auc
from bids_interp.evaluation.scores import ncc
from bids_interp.evaluation.verdict import LEVEL
from bids_interp.training.morphometry import MorphometryRecipe
from bids_interp.training.pattern.contrast import ContrastDesign, contrast_volumes
from bids_interp.training.pattern.shrinkage import shrink_effects

#: Penalty of the classifier, in the middle of those that a training chooses from.
PENALTY = 0.15
#: Exchanges of the labels in each permutation test.
EXCHANGES = 1000
#: Shares of the scans in the default studies.
SHARES = (0.5, 0.75, 1.0)
#: Fewest folds.
FEWEST_FOLDS = 2
#: Fewest people of each class per test fold. With one, a perfect area has p > 0.05.
FEWEST_PER_FOLD = 2
#: Fewest people of a study, so that their labels can be exchanged in enough ways.
FEWEST_PEOPLE = 10


@dataclass(frozen=True)
class PowerDesign:
    """Studies to draw.

    Parameters
    ----------
    effects : tuple of float
        Relative volume changes, such as -0.1; 0 plants nothing.
    numbers : tuple of int
        People per study, half of them with the change.
    repeats : int
        Studies for each effect and number.
    folds : int
        Folds of the cross-validation.
    seed : int
        Random seed.
    """

    effects: tuple[float, ...]
    numbers: tuple[int, ...]
    repeats: int = 20
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if any(not -1 < effect < 0.5 for effect in self.effects) or not any(self.effects):
            raise UsageError(
                f'{", ".join(f"{-100 * effect:g}" for effect in self.effects)} are not losses of '
                'volume in percent.',
                'Choose numbers above 0 and below 100, such as --losses 5 10 20 30.',
            )
        if self.repeats < 1 or self.folds < FEWEST_FOLDS:
            raise UsageError(
                f'{self.repeats} repeats with {self.folds} folds are too few.',
                f'Choose at least one repeat and {FEWEST_FOLDS} folds.',
            )
        for number in self.numbers:
            if number % 2 or number < self.fewest:
                raise UsageError(
                    f'A study of {number} people is not possible with {self.folds} folds.',
                    f'Choose an even --n of at least {self.fewest}, or fewer --folds.',
                )

    @property
    def fewest(self) -> int:
        """Smallest number of people per study."""
        return max(FEWEST_PEOPLE, 2 * FEWEST_PER_FOLD * self.folds)


def default_numbers(available: int, folds: int) -> tuple[int, ...]:
    """Return even numbers of people per study, up to all that are available.

    Raises
    ------
    InputDatasetError
        If there are too few people for one study.

    Examples
    --------
    >>> default_numbers(35, 5)
    (20, 26, 34)
    """
    fewest = PowerDesign((-0.1,), (), folds=folds).fewest
    if available < fewest:
        raise InputDatasetError(
            f'{available} people are too few for a study with {folds} folds; {fewest} are needed.',
            'Use more participants or fewer --folds.',
        )
    return tuple(sorted({max(fewest, 2 * int(share * available / 2)) for share in SHARES}))


@dataclass(frozen=True)
class Study:
    """Result of one study.

    Parameters
    ----------
    effect : float
        Planted relative volume change.
    n : int
        People.
    auc : float
        Area under the curve within the test folds.
    p : float
        Its p value by exchange of the labels.
    map_ncc : float
        Correlation of the estimated pattern with the planted change; NaN if nothing is planted.
    """

    effect: float
    n: int
    auc: float
    p: float
    map_ncc: float


@dataclass(frozen=True)
class PowerRow:
    """Power for one effect and number of people.

    Parameters
    ----------
    effect, n, repeats
        Relative volume change, people per study and number of studies.
    power, power_low, power_high : float
        Share of studies whose AUC is above chance, with its 95 % interval over draws.
    auc : float
        Mean area under the curve.
    map_ncc, map_ncc_low, map_ncc_high : float
        Mean correlation of pattern and planted change, and its 5th and 95th percentile over
        studies; NaN if nothing is planted.
    """

    effect: float
    n: int
    repeats: int
    power: float
    power_low: float
    power_high: float
    auc: float
    map_ncc: float
    map_ncc_low: float
    map_ncc_high: float


def run_study(
    volumes: PlantedVolumes, effect: float, number: int, folds: int, seed: Sequence[int]
) -> Study:
    """Draw people into two groups, plant the change into one, and analyse them.

    Studies with the same number and seed have the same people, groups and folds for each effect.

    Parameters
    ----------
    volumes : PlantedVolumes
        Log-volumes, one row per person.
    effect : float
        Relative volume change.
    number : int
        People in the study.
    folds : int
        Folds of the cross-validation.
    seed : sequence of int
        Random seed.
    """
    rng = np.random.default_rng(list(seed))
    people = rng.permutation(len(volumes))[:number]
    labels = np.arange(number) % 2
    amount = labels[:, None] * volumes.strength(effect)
    features, maps = (
        values[0, people] + amount * (values[1, people] - values[0, people])
        for values in (volumes.features, volumes.maps)
    )
    own = int(rng.integers(2**31))
    members = np.arange(number)
    scores, inside = np.zeros(number), np.zeros(number, int)
    absolute = MorphometryRecipe().absolute
    splits = StratifiedKFold(folds, shuffle=True, random_state=own).split(features, labels)
    for fold, (train, test) in enumerate(splits):
        fit = fit_elastic_net(features[train], labels[train], share=PENALTY, absolute=absolute)
        scores[test] = fit.decide(features[test])
        inside[test] = fold
    test_of_area = permutation_test(
        lambda drawn: within_fold_auc(scores, drawn, inside),
        labels,
        members,
        inside,
        own,
        draws=EXCHANGES,
    )
    area = float(within_fold_auc(scores, labels, inside))
    similarity = np.nan
    if effect:
        design = ContrastDesign(labels.astype(float), members, members, np.zeros((number, 0)))
        found = contrast_volumes(maps, design, own)
        pattern = shrink_effects(found.effects, found.errors)
        # The truth of the largest change differs from that of a smaller one by a factor.
        similarity = ncc(pattern, volumes.truth, np.ones(len(pattern), bool))
    return Study(effect, number, area, test_of_area.p, similarity)


def measure_power(
    volumes: PlantedVolumes,
    design: PowerDesign,
    threads: int = 1,
    report: Callable[[PowerRow], object] = lambda row: None,
) -> list[PowerRow]:
    """Return the power for each number of people and effect.

    Parameters
    ----------
    volumes : PlantedVolumes
        Log-volumes, one row per person.
    design : PowerDesign
        Studies to draw.
    threads : int
        Studies that are analysed at the same time.
    report : callable
        Is called with each finished row.

    Raises
    ------
    UsageError
        If a study has more people than there are.
    """
    if max(design.numbers) > len(volumes):
        raise UsageError(
            f'A study of {max(design.numbers)} people cannot be drawn from {len(volumes)}.',
            'Choose a smaller --n; people are drawn without replacement.',
        )
    rows = []
    with ThreadPoolExecutor(threads) as pool:
        for number, effect in _cells(design):
            seeds = [[design.seed, number, repeat] for repeat in range(design.repeats)]
            studies = pool.map(
                lambda seed, n=number, size=effect: run_study(volumes, size, n, design.folds, seed),
                seeds,
            )
            rows.append(summarise(list(studies)))
            report(rows[-1])
    return rows


def _cells(design: PowerDesign) -> Iterator[tuple[int, float]]:
    for number in design.numbers:
        for effect in sorted(design.effects, reverse=True):
            yield number, effect


def summarise(studies: Sequence[Study]) -> PowerRow:
    """Return the power of studies of one effect and number of people.

    Examples
    --------
    >>> row = summarise([Study(-0.1, 20, 0.8, 0.01, 0.5), Study(-0.1, 20, 0.6, 0.05, 0.3)])
    >>> row.power, round(row.auc, 3), round(row.map_ncc, 3)
    (0.5, 0.7, 0.4)
    """
    found = [study.p < LEVEL for study in studies]
    interval = binomtest(sum(found), len(found)).proportion_ci(method='wilson')
    similarities = np.array([study.map_ncc for study in studies])
    low, high = np.quantile(similarities, (0.05, 0.95))
    return PowerRow(
        studies[0].effect,
        studies[0].n,
        len(studies),
        float(np.mean(found)),
        float(interval.low),
        float(interval.high),
        float(np.mean([study.auc for study in studies])),
        float(similarities.mean()),
        float(low),
        float(high),
    )
