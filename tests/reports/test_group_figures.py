"""Figures of the group report show the numbers that they are given."""

from __future__ import annotations

import numpy as np
import pytest

from bids_interp.reports.common.volumes import Volume
from bids_interp.reports.group.group_figures import (
    colours_of,
    draw_forest,
    draw_responses,
    draw_scores,
)
from bids_interp.reports.group.group_map_figures import template_behind
from bids_interp.spatial import Grid


def _region(name: str, rank: int, pct: float, group: str = 'all') -> dict:
    return {
        'map': 'inject100', 'group': group, 'region': name, 'side': 'left', 'rank': rank,
        'n': 5, 'pct': pct, 'pct_low': pct - 1, 'pct_high': pct + 1,
    }  # fmt: skip


def test_groups_get_different_colours_whatever_their_order() -> None:
    colours = colours_of(['b', 'all', 'a', 'b'])
    assert len(set(colours.values())) == 3
    assert colours == colours_of(['a', 'b', 'all'])


def test_the_forest_shows_regions_of_its_map_by_rank() -> None:
    rows = [_region('amygdala', 2, -3.0), _region('hippocampus', 1, -8.0)]
    rows.append({**_region('thalamus', 3, 9.0), 'map': 'remove100'})
    (axes,) = draw_forest(rows, 'inject100').axes
    shown = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == 'o']
    assert shown == [-8.0, -3.0]
    assert draw_forest(rows, 'inject050') is None


@pytest.mark.parametrize(('probability', 'panels'), [(0.5, 2), (None, 1)])
def test_a_number_has_no_probability_panel(probability: float | None, panels: int) -> None:
    rows = [
        {'group': 'all', 'dose': dose, 'logit': 2 * dose, 'logit_sd': 0.5, 'n': 4,
         'probability': probability, 'probability_sd': 0.1}
        for dose in (-1.0, 0.0, 1.0)
    ]  # fmt: skip
    axes = draw_responses(rows, 'patient').axes
    assert len(axes) == panels
    (line,) = axes[-1].lines
    np.testing.assert_array_equal(line.get_ydata(), [-2.0, 0.0, 2.0])


def test_scores_have_one_panel_for_each_covariate() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {'score': score, 'group': 'ab'[k % 2], 'age': 60.0 + k, 'site': 'xy'[k % 2]}
        for k, score in enumerate(rng.normal(size=8))
    ]
    assert len(draw_scores(rows, 'dx', ['age', 'site'], ['site']).axes) == 3
    assert draw_scores([{**row, 'score': None} for row in rows], 'dx', []) is None


def test_the_template_lies_behind_maps_in_mni_space_only() -> None:
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = [-80, -116, -72]
    shape = (20, 24, 20)
    brains = {
        space: template_behind(
            space, Volume(np.zeros(shape, np.float32), Grid(shape, affine, space))
        )
        for space in ('MNI152NLin2009aSym', 'T1w')
    }
    assert not brains['T1w'].any()
    brain = brains['MNI152NLin2009aSym']
    assert 0.1 < (brain > 0.2 * brain.max()).mean() < 0.6
    assert brain[10, 13, 10] > 0 == brain[0, 0, 0]
