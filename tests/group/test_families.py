"""Families at the group level: read as in training, exchanged as wholes, never on two sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bids_interp.bids.prediction import ExplainedTarget
from bids_interp.bids.read.query import T1wRecord
from bids_interp.errors import UsageError
from bids_interp.group.covariates import read_group_variables
from bids_interp.group.scans import RELATED, exclude_relatives
from bids_interp.group.statistics.score_effects import model_scores, score_rows
from bids_interp.levels.group import prepare_group
from bids_interp.levels.labels import read_labels
from bids_interp.settings import Settings


def with_families(cohort, families: list[str]) -> None:
    """Add a column to the table, one value per subject."""
    path = cohort.bids / 'participants.tsv'
    header, *rows = path.read_text().splitlines()
    lines = [f'{row}\t{family}' for row, family in zip(rows, families, strict=True)]
    path.write_text('\n'.join([f'{header}\tmother', *lines]) + '\n')


def families_of(cohort, chosen) -> dict[str, str]:
    settings = Settings(cohort.bids, cohort.out, 'group', family='mother')
    scans = chosen(cohort.out)
    return dict(read_group_variables(settings, scans, scans[0].prediction.target).families)


def test_a_partly_filled_column_is_read_as_in_training(make_cohort, chosen) -> None:
    cohort = make_cohort(['patient', 'control'] * 4)
    with_families(cohort, ['m1', 'n/a', 'm2', 'm1', '', 'm2', 'm3', 'n/a'])
    (cohort.bids / 'sub-02').mkdir()
    # Another table links the second subject to the third and the seventh.
    lines = ['session_id\tmother', 'ses-a\tn/a', 'ses-b\tm2', 'ses-c\tm3']
    (cohort.bids / 'sub-02' / 'sub-02_sessions.tsv').write_text('\n'.join(lines) + '\n')
    found = families_of(cohort, chosen)
    assert found['01'] == found['04'] != found['02']
    assert found['02'] == found['03'] == found['06'] == found['07']
    assert (found['05'], found['08']) == ('sub-05', 'sub-08')
    settings = Settings(
        cohort.bids, cohort.out, 'train', label='group', positive='patient', family='mother'
    )
    records = [
        T1wRecord(Path(f'sub-{subject}_T1w.nii'), subject, None, {'sub': subject})
        for subject in found
    ]
    trained = {
        image.record.subject: image.family for image in read_labels(settings, records).images
    }
    assert trained == found


def test_the_option_is_one_of_training_and_group() -> None:
    from bids_interp.cli.options.train import train_options

    (option,) = (option for option in train_options() if option.name == 'family')
    assert set(option.levels) == {'group', 'train'}


def test_without_a_column_each_subject_is_a_family(make_cohort, chosen) -> None:
    cohort = make_cohort()
    scans = chosen(cohort.out)
    settings = Settings(cohort.bids, cohort.out, 'group')
    columns = read_group_variables(settings, scans, ExplainedTarget(label='group'))
    assert [columns.of_family(scan.subject) for scan in scans] == [s.subject for s in scans]


def test_a_column_that_does_not_exist(make_cohort, chosen) -> None:
    cohort = make_cohort()
    with pytest.raises(UsageError, match='--family'):
        families_of(cohort, chosen)


def test_relatives_of_training_subjects_are_explained_by_folds_without_them(
    make_cohort, chosen
) -> None:
    """Two siblings in one fold stay; siblings that trained each other's folds do not."""
    cohort = make_cohort(
        ['patient', 'control'] * 4,
        folds=[(0,), (0,), (1,), (1,), (0,), (1,), (0,), (1,)],
        in_training=True,
    )
    with_families(cohort, ['a', 'a', 'b', 'b', 'c', 'c', 'n/a', 'n/a'])
    families = families_of(cohort, chosen)
    kept = exclude_relatives(chosen(cohort.out), lambda subject: families[subject], False)
    reasons = {scan.subject: scan.reason for scan in kept}
    assert [subject for subject, reason in reasons.items() if reason] == ['05', '06']
    assert reasons['05'].startswith(RELATED)
    kept = exclude_relatives(chosen(cohort.out), lambda subject: families[subject], True)
    assert [scan.note == RELATED for scan in kept] == [False] * 4 + [True] * 2 + [False] * 2


def test_the_model_of_the_scores_exchanges_families(make_cohort) -> None:
    """A group difference that rests on two families is not significant."""
    cohort = make_cohort(['patient'] * 8 + ['control'] * 8, expression={'patient': 0.6})
    settings = Settings(cohort.bids, cohort.out, 'group', offline=True, permutations=200)
    alone = prepare_group(settings)
    with_families(cohort, ['a'] * 4 + ['b'] * 4 + ['c'] * 4 + ['d'] * 4)
    related = prepare_group(settings.replace(family='mother'))
    found = {}
    for name, analysis in (('alone', alone), ('related', related)):
        model = model_scores(analysis, score_rows(analysis)[0])
        effect = next(e for e in model['effects'] if e['variable'] == 'group')
        found[name] = model, effect
    assert found['alone'][1]['p'] < 0.05
    assert found['alone'][0]['families'] == {}
    model, effect = found['related']
    assert model['families'] == {'column': 'mother', 'number': 4, 'largest': 4}
    # Four families have six arrangements.
    assert effect['p'] > 0.1
    # Four families are fewer than the coefficients, so that no interval is known.
    assert effect['se'] is None
    assert np.isfinite(effect['estimate'])
