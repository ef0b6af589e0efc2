"""From expression scores to effects: one table, one model, what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bids_interp.bids.write.sidecars import Column
from bids_interp.evaluation.exchange import SPREAD
from bids_interp.group.covariates import table_name
from bids_interp.group.plan import GroupPlan
from bids_interp.group.scans import Scan
from bids_interp.group.statistics.design_matrix import Design, make_design
from bids_interp.group.statistics.expression import expression_scores, standardised
from bids_interp.group.statistics.glm import fit_terms, why_not

#: Name of the covariate that stands in for intracranial volume.
VOLUME = 'brain_volume_ml'

SCORE_COLUMNS: dict[str, Column] = {
    'participant_id': {'Description': 'Participant.'},
    'session_id': {'Description': 'Session.'},
    'image': {'Description': 'Name of the T1w image without suffix.'},
    'group': {'Description': 'Group.'},
    'folds': {
        'Description': 'Folds whose pattern is measured; none was trained with the subject, unless '
        'inclusion.tsv says so (--include-training).'
    },
    'score_dose': {
        'Description': 'Expression score: coefficient of the pattern in the volumes that the '
        'observed anatomy has other than a mean of others; docs/group.md has the formula.',
        'Units': '1 (dose)',
    },
    'score': {
        'Description': "The same in standard deviations of the controls, about the controls' mean "
        'of the same folds; controls are the negative class of the model, else everybody.',
        'Units': '1 (standard deviation of controls)',
    },
    'explained': {
        'Description': 'Share of the variance of these differences that the pattern explains.',
        'Units': '1',
    },
    'logit': {'Description': 'Mean logit of the observed image.', 'Units': '1'},
    'probability': {'Description': 'Mean probability of the positive class.', 'Units': '1'},
    VOLUME: {
        'Description': 'Volume of the native brain mask. A stand-in for intracranial volume, '
        'which is not measured: it shrinks with atrophy where the mask is tight.',
        'Units': 'ml',
    },
    'reason': {'Description': 'Why there is no score.'},
}


def brain_volume_ml(scan: Scan) -> float | None:
    """Volume of the native brain mask in ml; None where it is not there."""
    import nibabel as nib

    path = scan.folder / f'{scan.prefix}_desc-brain_mask.nii.gz'
    try:
        image = nib.load(path)
        count = int((np.asarray(image.dataobj) > 0).sum())
    except (nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError):
        return None
    return count * float(abs(np.linalg.det(image.affine[:3, :3]))) / 1000


def score_rows(plan: GroupPlan) -> tuple[list[dict[str, Any]], float | None]:
    """Table of the scores of all images, and the standard deviation of the controls (dose)."""
    scans, scores = plan.scored, expression_scores(plan.scored)
    groups = [plan.columns.of_group(scan) for scan in scans]
    negative = plan.columns.negative
    first = [not scan.reason for scan in scans]
    controls = [
        one and (group == negative if negative else True)
        for one, group in zip(first, groups, strict=True)
    ]
    values, sd = standardised(
        [score.value for score in scores], [score.block for score in scores], controls
    )
    rows = []
    for scan, score, value, group in zip(scans, scores, values, groups, strict=True):
        observed = scan.prediction.observed if scan.prediction else None
        rows.append(
            {
                'participant_id': f'sub-{scan.subject}',
                'session_id': f'ses-{scan.session}' if scan.session else None,
                'image': scan.prefix,
                'group': group,
                'folds': scan.block,
                'score_dose': score.value,
                'score': value,
                'explained': score.fit,
                'logit': observed.logit_mean if observed else None,
                'probability': observed.probability_mean if observed else None,
                VOLUME: brain_volume_ml(scan),
                **{
                    table_name(column): plan.columns.values[column].get(scan.prefix)
                    for column in plan.columns.chosen
                },
                'reason': score.reason or None,
            }
        )
    return rows, sd


def model_scores(plan: GroupPlan, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Model of the scores: ``score ~ group + covariates + brain volume``.

    Parameters
    ----------
    plan : GroupPlan
        The plan.
    rows : sequence of mapping
        Of :func:`score_rows`.

    Returns
    -------
    dict
        ``effects``, ``n``, ``blocks``, ``left_out``, ``missing``, ``not_tested``.

    Raises
    ------
    UsageError
        If covariates that the user asked for are collinear.
    """
    main = {scan.prefix for scan in plan.included}
    used = [row for row in rows if row['image'] in main and row['score'] is not None]
    return _model(plan, used, 'score', [VOLUME])


def change_rows(plan: GroupPlan, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Change of the score within subjects: each later session minus the first."""
    first: dict[str, Mapping[str, Any]] = {}
    changes = []
    for row in rows:
        if row['score'] is None or not row['session_id']:
            continue
        base = first.setdefault(row['participant_id'], row)
        if base is row or base['session_id'] == row['session_id']:
            continue
        changes.append(
            {
                'participant_id': row['participant_id'],
                'group': base['group'],
                'from': base['session_id'],
                'to': row['session_id'],
                'folds': row['folds'],
                'score_from': base['score'],
                'score_to': row['score'],
                'change': row['score'] - base['score'],
                **{name: base[name] for name in map(table_name, plan.columns.chosen)},
            }
        )
    return changes


def model_change(plan: GroupPlan, changes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Model of the change to the last session of each subject: ``change ~ group + covariates``."""
    last = {row['participant_id']: row for row in changes}
    return _model(plan, list(last.values()), 'change', [])


def _model(
    plan: GroupPlan, rows: list[Mapping[str, Any]], score: str, more: Sequence[str]
) -> dict[str, Any]:
    columns = plan.columns
    keys = {columns.group: 'group'} if columns.group else {}
    keys |= {name: table_name(name) for name in columns.chosen} | {name: name for name in more}
    rows, single = _without_singles(rows, columns.group, keys)
    variables = {name: [row[key] for row in rows] for name, key in keys.items()}
    required = columns.chosen if columns.asked else ()
    if plan.choices.group_asked:
        required = (columns.group, *required)
    first = {columns.group: columns.negative} if columns.negative else {}
    found: dict[str, Any] = {'score': score, 'effects': [], 'n': 0, 'not_tested': ''}
    if not rows:
        return {**found, 'not_tested': 'nobody has a score'}
    design = make_design(
        variables,
        [row['folds'] for row in rows],
        required=required,
        first=first,
        levels=columns.levels,
    )
    found |= {
        'n': len(design.rows),
        'blocks': {str(b): int((design.blocks == b).sum()) for b in np.unique(design.blocks)},
        'left_out': {**design.left_out, **single},
        'missing': design.missing,
        # A pattern that was learned from the labels of the tested subjects tells them apart
        # whether or not anything differs.
        'not_tested': 'the models were trained with subjects that are in (--include-training)'
        if plan.trained_with
        else why_not(design),
    }
    if not found['not_tested']:
        values = np.array([rows[index][score] for index in design.rows], float)
        effects = fit_terms(
            values,
            design,
            draws=plan.choices.permutations,
            seed=plan.seed,
            spreads=_spreads(plan, design),
        )
        found['effects'] = [effect.to_dict() for effect in effects]
    return found


def _without_singles(
    rows: list[Mapping[str, Any]], group: str, keys: Mapping[str, str]
) -> tuple[list[Mapping[str, Any]], dict[str, str]]:
    """Leave groups of which one subject has all variables out: their effect is that subject."""
    told: dict[str, str] = {}
    while rows:
        used = [key for key in keys.values() if any(row[key] is not None for row in rows)]
        complete = [row['group'] for row in rows if all(row[key] is not None for key in used)]
        single = {name for name in complete if name is not None and complete.count(name) == 1}
        if not single:
            break
        for name in sorted(single):
            members = sum(row['group'] == name for row in rows)
            told[f'{group} = {name}'] = (
                'this group has one member'
                if members == 1
                else f'one of its {members} members has all variables'
            )
        rows = [row for row in rows if row['group'] not in single]
    return rows, told


def _spreads(plan: GroupPlan, design: Design) -> dict[str, float]:
    """Widen the null of what the models were trained for, where they explain each other's subjects.

    Group and label are widened alike: another column may tell the same as the label.
    """
    if not any(scan.in_training for scan in plan.included):
        return {}
    names = {plan.columns.group, plan.target.label}
    return {term.name: float(SPREAD) for term in design.terms if term.name in names}


EFFECT_COLUMNS: dict[str, Column] = {
    'variable': {'Description': 'Variable of the model.'},
    'contrast': {'Description': 'What its effect compares.'},
    'n': {'Description': 'Complete subjects.'},
    'df': {'Description': 'Residual degrees of freedom.'},
    'estimate': {'Description': 'Effect on the score, the other variables in the model.'},
    'se': {'Description': 'Its standard error.'},
    'low': {'Description': 'Lower end of its 95 % interval.'},
    'high': {'Description': 'Upper end of its 95 % interval.'},
    'statistic': {'Description': 't, or F of a variable with more than two levels.'},
    'kind': {'Description': 't or F.'},
    'p': {
        'Description': 'Two-sided p by exchanging residuals within folds (Freedman and Lane); not '
        'corrected for the number of variables.'
    },
    'cohen_d': {'Description': 'Adjusted difference over the residual standard deviation.'},
    'd_low': {'Description': 'Lower end of its 95 % interval.'},
    'd_high': {'Description': 'Upper end of its 95 % interval.'},
    'partial_r': {'Description': 'Partial correlation of score and variable.'},
    'spread': {
        'Description': 'Factor on the standard deviation of the null distribution and on the '
        'standard error: the square root of two for the label that the models learned, where they '
        "explain each other's training subjects."
    },
}
CHANGE_COLUMNS: dict[str, Column] = {
    'participant_id': {'Description': 'Participant.'},
    'group': {'Description': 'Group at the first session.'},
    'from': {'Description': 'First session.'},
    'to': {'Description': 'Later session.'},
    'folds': {'Description': 'Folds whose pattern is measured.'},
    'score_from': {'Description': 'Score at the first session.'},
    'score_to': {'Description': 'Score at the later session.'},
    'change': {'Description': 'Later minus first, in standard deviations of the controls.'},
}
