"""The report of a training: verdict first, everything inside, also when much is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bids_interp.models.bundle.fold_metrics import FoldMetrics, GateMetrics, SimulatorMetrics
from bids_interp.models.bundle.schema import (
    BundleConfig,
    ClassifierConfig,
    FoldConfig,
    SimulatorConfig,
    TrainingFacts,
)
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.reports.training.answer_figures import mean_roc
from bids_interp.reports.training.training_report import write_training_report
from bids_interp.spatial import Grid
from helpers.pages import Page

N = 24
VALUE = re.compile(r'\d+\.\d+ \(.*?\)')


def estimate(value: float) -> dict[str, float]:
    return {'value': value, 'low': value - 0.1, 'high': value + 0.1}


def answers(kind: str) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for index in range(N):
        row: dict[str, Any] = {'participant_id': f'sub-{index:02d}', 'fold': index % 3}
        if kind == 'regression':
            row |= {'truth': float(index), 'predicted': index + rng.normal(), 'residual': 0.1}
        elif kind == 'multiclass':
            chances = rng.dirichlet([1, 1, 1])
            row |= {'truth': 'abc'[index % 5 % 3], 'predicted': 'a'}
            row |= {f'probability_{name}': chances[i] for i, name in enumerate('abc')}
        else:
            logit = rng.normal()
            row |= {'truth': ('control', 'depr')[index // 3 % 2], 'predicted': 'depr'}
            row |= {'logit': logit, 'probability': 1 / (1 + np.exp(-logit))}
        rows.append(row)
    return rows


def metrics(kind: str, p: float) -> dict[str, Any]:
    bins = [{'low': 0.4, 'high': 0.5, 'n': N, 'probability': 0.45, 'frequency': 0.5}]
    found: dict[str, Any] = {'kind': kind, 'permutation_p': p, 'permutation_p_fixed_models': p}
    found['explanation_warranted'] = p < 0.05
    if kind == 'regression':
        return found | {'pearson_r': estimate(0.7), 'mae': estimate(4.5), 'r2': estimate(0.4)}
    found |= {'auc': estimate(0.62), 'brier': estimate(0.2), 'ece': estimate(0.1)}
    found |= {'reliability': bins, 'ece_bins': 10, 'n_per_class': {'control': 12, 'depr': 12}}
    if kind == 'multiclass':
        found['n_per_class'] = {'a': 10, 'b': 8, 'c': 6}
        found['confusion'] = [[9, 1, 0], [3, 4, 1], [0, 2, 4]]
        found['auc_per_class'] = {name: estimate(0.7) for name in 'abc'}
    found['per_site'] = {
        'Tomsk': {'n': 24, 'n_per_class': {'control': 12, 'depr': 12}, 'auc': None}
    }
    return found


CONFIG = BundleConfig(
    name='mood',
    created='2026-11-22',
    version='0.1.0',
    grid=Grid((4, 5, 6), np.diag([4.0, 4, 4, 1]), 'MNI'),
    template='MNI',
    target=Target('binary', 'group', ('control', 'depr')),
    preprocessing=Preprocessing(),
    classifier=ClassifierConfig('robust'),
    simulator=SimulatorConfig(),
    training=TrainingFacts(seed=0, preset='fast', dataset='ds0 & <1>', n_images=N),
    metrics={},
    folds=[],
    files={},
)
CURVES = {
    f'fold-{fold}/classifier-a{stage}': [
        {'step': step, 'loss': 1 / (1 + step), 'validation_loss': 0.5, 'hinge': 0.1}
        for step in range(0, 200, 25)
    ]
    for fold in range(3)
    for stage in ('', '/template-b')
}
COVARIATES = {
    'auc': estimate(0.75),
    'permutation_p': 0.01,
    'used': ['age', 'sex'],
    'left_out': {'site': 'constant'},
    'per_covariate': {
        name: {'auc': estimate(0.6), 'permutation_p': 0.2} for name in ('age', 'sex')
    },
}


def write(path: Path, kind: str = 'binary', p: float = 0.0005, **changed: Any) -> Page:
    given: dict[str, Any] = {
        'config': CONFIG,
        'metrics': metrics(kind, p),
        'oof': answers(kind),
        'curves': CURVES,
        'folds_table': [{'fold': fold, 'n_train': 13, 'n_test': 8} for fold in range(3)],
    }
    written = write_training_report(path / 'train.html', **{**given, **changed})
    assert written == path / 'train.html'
    return Page(written)


def test_everything_is_inside(tmp_path: Path) -> None:
    page = write(tmp_path, covariates=COVARIATES, maps={'split_half_ncc': {'inject': 0.83}})
    assert len(page.loaded) == 4  # icon, answers, confounds, curves
    assert all(address.startswith('data:') for address in page.loaded)
    assert {address[1:] for address in page.anchors} <= set(page.ids)
    assert (tmp_path / 'train.html').stat().st_size < 1e6
    style = re.search(r'<style>(.*?)</style>', (tmp_path / 'train.html').read_text(), re.DOTALL)
    assert style is not None
    assert not re.search(r'url\(|@import|http', style.group(1))
    assert '<1>' not in (tmp_path / 'train.html').read_text()
    assert 'research' in page.ids
    assert 'mood' in page.find('title').text
    for section, words in (
        ('trained', 'ds0 & <1>'),
        ('trained', '4 x 5 x 6 '),
        ('trained', ' 4 mm, MNI'),
        ('answers', '0.62 (0.52 to 0.72)'),
        ('maps', '(NCC), injected 0.83'),
        ('sites', 'Tomsk 24 12 12 n/a'),
        ('table', 'sub-23'),
    ):
        assert words in page.find(section).text, words
    told = cautions(page)
    assert list(told) == ['covariates', 'left-out']
    assert 'AUC 0.75 (0.65 to 0.85)' in told['covariates']
    assert 'site (constant)' in told['left-out']


def cautions(page: Page) -> dict[str, str]:
    return {e.attributes['data-caution']: e.text for e in page.having('data-caution')}


def test_above_chance_is_said_calmly(tmp_path: Path) -> None:
    page = write(tmp_path)
    assert 'AUC 0.62 (95 % interval 0.52 to 0.72)' in page.find('verdict').text
    assert page.find('verdict').attributes['data-tone'] == 'yes'
    assert len(page.of_class('missing')) == 1  # nothing was measured beside the classifier
    assert 'chance' not in cautions(page)


def test_not_above_chance_is_said_first_and_loudly(tmp_path: Path) -> None:
    page = write(tmp_path, p=0.38, maps={'validity': 0.9})
    assert page.ids.index('verdict') < page.ids.index('title')
    assert page.find('verdict').attributes['data-tone'] == 'no'
    assert 'AUC 0.62' in page.find('verdict').text
    assert 'chance' in cautions(page)
    assert 'maps-unwarranted' in page.ids
    assert 'maps-unwarranted' not in write(tmp_path, maps={'validity': 0.9}).ids


@pytest.mark.parametrize(('found', 'name'), [(0, 'no-pattern'), (2, None)])
def test_a_missing_pattern_is_said(tmp_path: Path, found: int, name: str | None) -> None:
    pattern = {'count': 2, 'found': found, 'personal_share': 0.4}
    given = metrics('binary', 0.01) | {'simulator': {'pattern': pattern}}
    page = write(tmp_path, metrics=given, maps={'validity': 0.9})
    assert ('no-pattern' in cautions(page)) == (name is not None)
    assert 'chance' not in cautions(page)
    assert page.ids.index('pattern') < page.ids.index('maps')
    assert ('maps-unwarranted' in page.ids) == (name is not None)
    assert 'pattern' not in write(tmp_path).ids


@pytest.mark.parametrize(('trained', 'is_missing'), [(0, True), (1, False)])
def test_untrained_published_simulators_are_said(
    tmp_path: Path, trained: int, is_missing: bool
) -> None:
    """With the AUC of each fold, and why its simulator was not trained."""
    areas = [0.9 if index < trained else 0.625 for index in range(2)]
    gates = [GateMetrics('control-depr', area, 0.85, {'control': 9, 'depr': 7}) for area in areas]
    folds = [
        FoldConfig(1.0, 1.0, FoldMetrics(4, 2, 2, SimulatorMetrics(gates=[gate])), '', '')
        for gate in gates
    ]
    counted = {'count': 2, 'trained': trained, 'least_auc': 0.85}
    given = metrics('binary', 0.01) | {'simulator': {'gate': counted}}
    config = replace(CONFIG, folds=folds)
    page = write(tmp_path, metrics=given, maps=given['simulator'], config=config)
    assert ('untrained' in cautions(page)) is is_missing
    assert ('maps-unwarranted' in page.ids) is is_missing
    assert not {'chance', 'no-pattern'} & set(cautions(page))
    assert '0.85' in page.find('gate').text
    text = page.find('maps').text
    assert text.count(gates[1].reason) == 2 - trained
    assert '9 control, 7 depr' in text
    assert 'gate' not in write(tmp_path).ids


def test_useless_probabilities_are_named(tmp_path: Path) -> None:
    worse = metrics('binary', 0.01) | {'brier': estimate(0.26)}
    told = cautions(write(tmp_path, metrics=worse))
    assert re.search(r'0\.26\b.*0\.25\b', told['brier'])
    assert 'brier' not in cautions(write(tmp_path))


def measures(page: Page) -> dict[str, str]:
    """Value with interval of each measure."""
    shown = page.having('data-measure')
    cells = [row.text for row in shown]
    values = [VALUE.search(text) for text in cells]
    return {
        row.attributes['data-measure']: value[0]
        for row, value in zip(shown, values, strict=True)
        if value
    }


def test_more_classes(tmp_path: Path) -> None:
    page = write(tmp_path, 'multiclass')
    assert measures(page)['auc'] == '0.62 (0.52 to 0.72)'
    assert 'a b c a 9 1 0 b 3 4 1 c 0 2 4' in page.of_class('confusion')[0].text
    assert len(page.loaded) == 3  # icon, answers, curves


def test_numbers(tmp_path: Path) -> None:
    page = write(tmp_path, 'regression')
    assert page.find('verdict').attributes['data-tone'] == 'yes'
    assert ' r 0.70 ' in page.find('verdict').text
    assert measures(page)['mae'] == '4.50 (4.40 to 4.60)'
    assert len(page.loaded) == 3  # icon, answers, curves


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    page = write(tmp_path, metrics={}, oof=[], curves={}, folds_table=[])
    assert page.find('verdict').attributes['data-tone'] == 'open'
    # Two figures, what was measured beside the classifier, folds and answers.
    assert len(page.of_class('missing')) == 5
    assert len(page.loaded) == 1


def test_a_figure_that_cannot_be_drawn_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = [{**row, 'logit': 'x'} for row in answers('binary')]
    page = write(tmp_path, oof=broken)
    assert len(page.of_class('missing')) == 2  # this figure, and nothing beside the classifier
    assert len(page.loaded) == 2  # icon, curves
    assert '“answers”' in caplog.text


def test_area_under_the_mean_curve_is_the_area_that_is_told() -> None:
    scores = np.array([0.0, 1, 2, 3, 1, 0])
    labels = np.array([False, False, True, True, False, True])
    folds = np.array(['0', '0', '0', '0', '1', '1'])
    at, mean, curves = mean_roc(scores, labels, folds)
    # Areas 1 of four pairs and 0 of one pair.
    assert np.trapezoid(mean, at) == pytest.approx(4 / 5, abs=0.005)
    assert curves['0'] == pytest.approx(np.ones(201))
    assert list(curves) == ['0', '1']
