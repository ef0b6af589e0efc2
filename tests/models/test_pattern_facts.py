"""Pattern facts: what is written about the pattern of a model and the amounts in a scan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bids_interp.models.bundle.fold_metrics import PatternMetrics, SimulatorMetrics, has_pattern
from bids_interp.models.bundle.schema import SimulatorConfig
from bids_interp.models.explain.pattern_facts import pattern_facts
from bids_interp.models.networks.pattern_simulator import PatternSimulator
from bids_interp.spatial import Grid

GRID = Grid((12, 14, 10), np.diag([4.0, 4.0, 4.0, 1.0]))
MASK = np.zeros(GRID.shape, bool)
MASK[2:-2, 2:-2, 2:-2] = True
IMAGE = torch.rand(1, 1, *GRID.shape, generator=torch.Generator().manual_seed(0))
SOURCES = torch.from_numpy(0.05 * np.random.default_rng(0).normal(size=(2, *GRID.shape)) * MASK)
METRICS = PatternMetrics(
    contrast='a-b',
    consent=8.0,
    pieces=5,
    kept=3,
    subtypes=2,
    held_out_gains=[0.1, 0.4],
    stability=0.9,
    shares=[0.3, 0.7],
    personal_share=0.4,
    weights_ncc=0.2,
    response=0.6,
    measured_dose=0.5,
)


def simulator(order: tuple[int, ...], scores: tuple[float, ...], personal: bool = True):
    """A simulator whose patterns are these sources, of which an image has these scores."""
    count = len(order)
    made = PatternSimulator(GRID, MASK, patterns=count, personal=personal)
    made.source.data.copy_(SOURCES[list(order)].float()[None])
    if personal:
        rows = [[-s for s in scores], [16.0] * count, [0.2] * count, [1 / count] * count]
        made.mixture.data.copy_(torch.tensor(rows)[:, None])
    return made.eval()


@dataclass
class MadeUp:
    """What the function needs of a bundle."""

    simulators: list[object]
    patterns: list[PatternMetrics | None]
    capacity: str = 'pattern'
    contrast: int = 0
    untrained: tuple[int, ...] = ()

    def explains(self, index: int) -> bool:
        return index not in self.untrained

    def fold(self, index: int, device: str = 'cpu') -> SimpleNamespace:
        return SimpleNamespace(simulator=self.simulators[index])

    @property
    def config(self) -> SimpleNamespace:
        known = [row for row in self.patterns if row is not None]
        found = sum(row.found for row in known)
        metrics = {'simulator': {'pattern': {'count': len(known), 'found': found}}} if known else {}
        folds = [
            SimpleNamespace(
                metrics=SimpleNamespace(
                    simulator=SimulatorMetrics(patterns=None if row is None else [row])
                )
            )
            for row in self.patterns
        ]
        return SimpleNamespace(
            simulator=SimulatorConfig(capacity=self.capacity), folds=folds, metrics=metrics
        )


def test_amounts_are_averaged_over_folds_whose_subtypes_have_another_order():
    first, second = simulator((0, 1), (20.0, 0.0)), simulator((1, 0), (2.0, 14.0))
    bundle = MadeUp(
        [first, second],
        [METRICS, replace(METRICS, personal_share=0.2, consent=6.0, stability=0.7)],
    )
    facts = pattern_facts(bundle, IMAGE, (0, 1))
    for direction, amounts in ((-1.0, facts.removed), (1.0, facts.injected)):
        dose = torch.tensor([direction])
        one, two = (s.amounts(IMAGE, dose)[0].numpy() for s in (first, second))
        np.testing.assert_allclose(amounts, (one + two[::-1]) / 2, rtol=1e-5)
    assert facts.removed[0] > 0.8 > 0.2 > facts.removed[1]
    assert sum(facts.injected) == pytest.approx(1)
    assert facts.personal
    assert facts.found
    measured = (facts.personal_share, facts.consent, facts.stability, facts.weights_ncc)
    assert measured == pytest.approx((0.3, 7.0, 0.8, 0.2))
    assert (facts.subtypes, facts.measured_dose) == (2, 0.5)
    # A single fold has its own order.
    alone = pattern_facts(bundle, IMAGE, (1,))
    assert alone.removed[1] > alone.removed[0]
    assert alone.personal_share == 0.2


def test_folds_with_another_number_of_subtypes_do_not_enter_the_amounts():
    made = [simulator((0,), (9.0,)), simulator((0, 1), (20.0, 0.0)), simulator((0, 1), (20.0, 0.0))]
    bundle = MadeUp(made, [replace(METRICS, subtypes=1, shares=[1.0]), METRICS, METRICS])
    facts = pattern_facts(bundle, IMAGE, (0, 1, 2))
    assert facts.subtypes == len(facts.removed) == 2
    expected = made[1].amounts(IMAGE, torch.tensor([-1.0]))[0].numpy()
    np.testing.assert_allclose(facts.removed, expected, rtol=1e-5)


@pytest.mark.parametrize(('depends', 'share'), [(False, 0.4), (True, 0.04)])
def test_a_common_pattern_has_no_amounts(depends, share):
    made = simulator((0,), (9.0,), personal=depends)
    facts = pattern_facts(
        MadeUp([made], [replace(METRICS, subtypes=1, personal_share=share)]), IMAGE, (0,)
    )
    assert not facts.personal
    assert facts.removed is facts.injected is None
    assert facts.personal_share == share


def test_a_pattern_without_consent_is_not_found():
    made = simulator((0, 1), (9.0, 9.0))
    nothing = replace(METRICS, kept=0, subtypes=0)
    assert not pattern_facts(MadeUp([made], [nothing]), IMAGE, (0,)).found
    # The majority of all folds decides, also for a scan whose own fold has a pattern.
    bundle = MadeUp([made] * 3, [METRICS, nothing, nothing])
    assert not pattern_facts(bundle, IMAGE, (0,)).found
    bundle = MadeUp([made] * 3, [METRICS, METRICS, nothing])
    assert pattern_facts(bundle, IMAGE, (0, 1, 2)).found
    assert not pattern_facts(bundle, IMAGE, (2,)).found
    assert not has_pattern(MadeUp([], [METRICS, nothing, nothing]).config.metrics)


@pytest.mark.parametrize(('capacity', 'depends'), [('template', False), ('residual', True)])
def test_a_free_velocity_depends_on_the_scan_unless_it_is_a_template(capacity, depends):
    facts = pattern_facts(MadeUp([object()], [None], capacity), IMAGE, (0,))
    assert (facts.capacity, facts.personal, facts.found) == (capacity, depends, True)
    assert facts.personal_share is facts.removed is facts.consent is None


@pytest.mark.parametrize(
    ('trained', 'folds', 'found'), [(2, (0, 1, 2), True), (2, (2,), False), (1, (0,), False)]
)
def test_an_untrained_published_simulator_has_nothing_to_show(trained, folds, found):
    """Most folds of the model decide, and those that explain the scan."""
    bundle = MadeUp([object()] * 3, [None] * 3, 'ipmi2021', untrained=(2,))
    gate = {'simulator': {'gate': {'count': 3, 'trained': trained, 'least_auc': 0.85}}}

    class Gated(MadeUp):
        @property
        def config(self) -> SimpleNamespace:
            return SimpleNamespace(**{**vars(bundle.config), 'metrics': gate})

    facts = pattern_facts(Gated(**vars(bundle)), IMAGE, folds)
    assert (facts.capacity, facts.found) == ('ipmi2021', found)
