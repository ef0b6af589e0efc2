"""The model card: numbers from the configuration, and nothing where there are none."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from bids_interp.evaluation.verdict import verdict_sentence
from bids_interp.models.bundle.fold_metrics import GateMetrics
from bids_interp.models.bundle.reader import default_bundle_path, load_bundle
from bids_interp.models.bundle.schema import BundleConfig
from bids_interp.models.target import Target
from bids_interp.records import from_plain
from bids_interp.reports.common.sections import PAGE
from bids_interp.reports.training.model_card import NO_LICENSE, model_card
from bids_interp.reports.training.pattern_text import (
    NO_PATTERN,
    NOT_EXPLAINED,
    NOT_WARRANTED,
    gate_head,
    pattern_rows,
)
from bids_interp.reports.training.training_text import (
    MEASURES,
    left_out_text,
    map_rows,
    target_text,
)
from bids_interp.spatial import Grid

MINIMAL: dict[str, Any] = {
    'format': 1,
    'name': 'x',
    'grid': Grid((4, 5, 6), np.eye(4), 'MNI').to_dict(),
    'template': 'MNI',
    'target': {'kind': 'binary', 'label': '', 'negative': 'a', 'positive': 'b'},
    'preprocessing': {},
    'classifier': {'architecture': 'robust'},
    'simulator': {},
    'metrics': {},
    'folds': [],
    'files': {},
}
FOLD = {
    'temperature': 1.0,
    'class_gap': 1.0,
    'classifier': '',
    'simulator': '',
    'metrics': {'n_train': 40, 'n_validation': 8, 'n_test': 24, 'test_auc': 0.9},
}
AUC = {'value': 0.931, 'low': 0.85, 'high': 0.98}
CONFIG: dict[str, Any] = MINIMAL | {
    'name': 'mood',
    'description': 'Depression\n# or not',
    'license': 'CC0-1.0',
    'created': '2026-11-22',
    'version': '0.1.0',
    'grid': Grid((48, 58, 50), np.diag([4.0, 4, 4, 1]), 'MNI152NLin2009aSym').to_dict(),
    'target': {'kind': 'binary', 'label': 'group', 'negative': 'hc', 'positive': 'a|b'},
    'classifier': {'architecture': 'robust'},
    'simulator': {'capacity': 'template'},
    'training': {
        'seed': 7,
        'dataset': 'OpenNeuro ds002748',
        'n_images': 72,
        'n_families': 70,
        'n_per_class': {'hc': 42, 'a|b': 30},
        'covariates': ['age', 'sex'],
        'versions': {'torch': '2.13.0'},
    },
    'folds': [FOLD] * 3,
    'metrics': {
        'kind': 'binary',
        'auc': AUC,
        'sensitivity': {'value': 0.75, 'low': None, 'high': None},
        'permutation_p': 0.0005,
        'permutation_p_fixed_models': 0.0005,
        'explanation_warranted': True,
        'covariates': {'auc': AUC | {'value': 0.88}, 'permutation_p': 0.04, 'left_out': {}},
        'mask': {'left_out': {'mask': 'constant'}},
        'simulator': {'split_half_ncc': 0.83, 'validity': {'inject': 0.95}},
    },
}
MAPS = map_rows(CONFIG['metrics']['simulator'])


def card_of(config: dict[str, Any]) -> str:
    return model_card(from_plain(BundleConfig, config))


def tables(card: str) -> list[list[str]]:
    """Lines of each Markdown table."""
    return [block.splitlines() for block in re.findall(r'(?:^\|.*\n)+', card, re.MULTILINE)]


def test_numbers_are_those_of_the_configuration() -> None:
    card = card_of(CONFIG)
    for line in (
        '# mood',
        'Depression # or not',
        f'> **{verdict_sentence(CONFIG["metrics"])}**',
        '| Data | OpenNeuro ds002748 |',
        '| Size | 72 images, 70 families |',
        '| Target | “group”: a\\|b (positive) against hc (negative) |',
        '| Images per class | hc 42, a\\|b 30 |',
        '| Covariates | age, sex |',
        '| Grid | 48 x 58 x 50 voxels of 4 mm, MNI152NLin2009aSym |',
        '| Made | 2026-11-22 with bids_interp 0.1.0 |',
        '| Licence | CC0-1.0 |',
        f'| Sensitivity | 0.75 | {MEASURES["sensitivity"][1]} |',
        '| Covariates alone | 0.88 (0.85 to 0.98) | 0.040 |',
        left_out_text(CONFIG['metrics']),
        '| 2 | 40 | 8 | 24 | 0.90 |',
        *(f'| {row["name"]} | {row["value"]} |' for row in MAPS),
        '    bids_interp BIDS_DIR OUTPUT_DIR participant --model THIS_FOLDER',
    ):
        assert line in card.splitlines(), line
    assert [row['value'] for row in MAPS] == ['0.83', '0.95']
    assert NOT_WARRANTED not in card
    assert '**Research use only' in card
    assert 'SHA-256' in card


@pytest.mark.parametrize('config', [CONFIG, MINIMAL])
def test_markdown_is_whole(config: dict[str, Any]) -> None:
    card = card_of(config)
    assert '\n\n\n' not in card
    template = (PAGE / 'model_card.md.j2').read_text()
    assert card.splitlines()[-1] == template.splitlines()[-1]
    assert [line for line in card.splitlines() if line.startswith('# ')] == [f'# {config["name"]}']
    for table in tables(card):
        cells = {len(re.findall(r'(?<!\\)\|', line)) for line in table}
        assert len(cells) == 1, table
        assert re.fullmatch(r'\|(---\|)+', table[1])


def test_missing_keys_leave_lines_out() -> None:
    card = card_of(MINIMAL)
    assert f'| {NO_LICENSE} |' in card
    for word in ('None', 'nan', 'Seed', 'AUC', 'chance', '√2', 'The maps', '| Folds'):
        assert word not in card.split('## Intended use')[0], word


def test_untrained_published_simulators_are_said() -> None:
    gates = [
        {'contrast': 'hc-a|b', 'auc': area, 'least_auc': 0.85, 'recognised': {'hc': 9, 'a|b': 7}}
        for area in (0.9, 0.6, 0.625)
    ]
    folds = [
        {**FOLD, 'metrics': {**FOLD['metrics'], 'simulator': {'gates': [gate]}}} for gate in gates
    ]
    counted = {'simulator': {'gate': {'count': 3, 'trained': 1, 'least_auc': 0.85}}}
    changed = {**counted, 'explanation_warranted': False}
    given = CONFIG | {'folds': folds, 'metrics': CONFIG['metrics'] | changed}
    test_markdown_is_whole(given)
    card = card_of(given)
    assert NOT_EXPLAINED in card
    assert gate_head(counted) in card
    reason = from_plain(GateMetrics, gates[2]).reason
    assert f'| 2 | hc-a\\|b | 0.62 | 9 hc, 7 a\\|b | not trained: {reason} |' in card


def test_not_above_chance_is_said() -> None:
    changed = {'permutation_p': 0.38, 'explanation_warranted': False}
    card = card_of(CONFIG | {'metrics': CONFIG['metrics'] | changed})
    verdict = verdict_sentence(CONFIG['metrics'] | changed)
    assert verdict != verdict_sentence(CONFIG['metrics'])
    assert f'> **{verdict}**' in card
    assert NOT_WARRANTED in card


def test_regression_and_demonstration() -> None:
    metrics = {'kind': 'regression', 'pearson_r': AUC, 'mae': AUC, 'permutation_p': 0.2}
    target = {'kind': 'regression', 'label': 'age'}
    metrics['covariates'] = {'pearson_r': AUC}
    card = card_of(MINIMAL | {'demonstration': True, 'target': target, 'metrics': metrics})
    assert f'> **{verdict_sentence(metrics)}**' in card
    assert f'| Target | {target_text(Target.from_dict(target))} |' in card
    assert '| | r | p |' in card
    assert '**A demonstration' in card
    assert '**A demonstration' not in card_of(CONFIG)


def test_card_of_the_packaged_model() -> None:
    """The configuration of a demonstration has other keys, and gives a card as well."""
    config = load_bundle(default_bundle_path()).config
    card = model_card(config)
    assert '# demonstration-hippocampus' in card
    area, maps = config.metrics['auc'], config.metrics['maps']
    interval = f'{area["low"]:.2f} to {area["high"]:.2f}'
    assert re.search(rf'AUC {area["value"]:.2f} \(95 %.*{interval}\)', card)
    assert f'(NCC) | {maps["inject"]["group_ncc"]:.2f} |' in card


PATTERN: dict[str, Any] = {
    'contrast': 'hc-a|b',
    'consent': 8.26,
    'pieces': 5,
    'kept': 3,
    'subtypes': 2,
    'held_out_gains': [0.1, 0.4],
    'stability': 0.914,
    'shares': [0.3, 0.7],
    'personal_share': 0.4,
    'weights_ncc': 0.21,
    'response': 0.6,
    'measured_dose': 0.52,
}
SUMMARY = {'count': 2, 'found': 2, 'subtypes': 2, 'consent': 8.26, 'personal_share': 0.4}


def with_patterns(*rows: dict[str, Any], **summary: Any) -> BundleConfig:
    """The card's configuration, with these patterns in folds of their own."""
    folds = [
        FOLD | {'metrics': FOLD['metrics'] | {'simulator': {'patterns': [row]}}} for row in rows
    ]
    metrics = CONFIG['metrics'] | {'simulator': {'pattern': SUMMARY | summary}}
    return from_plain(BundleConfig, CONFIG | {'folds': folds, 'metrics': metrics})


def test_the_pattern_has_a_section() -> None:
    lost = PATTERN | {'kept': 0, 'subtypes': 0}
    config = with_patterns(PATTERN, lost)
    first, second = pattern_rows(config)
    assert list(first.values()) == (
        ['0', 'hc-a|b', '8.3', '3 of 5', '2', '0.30, 0.70', '0.91', '0.40', '0.21', '0.52']
    )
    assert list(second.values()) == ['1', 'hc-a|b', '8.3', '0 of 5', *['n/a'] * 6]
    card = model_card(config)
    assert card.index('## The pattern') < card.index('## Intended use')
    assert 'hc-a\\|b | 8.3 | 3 of 5' in card
    assert NO_PATTERN not in card
    # A model without a pattern says so, and not that it is at chance.
    nothing = model_card(with_patterns(lost, lost, found=0, personal_share=None))
    assert NO_PATTERN in nothing
    assert NOT_WARRANTED not in nothing
