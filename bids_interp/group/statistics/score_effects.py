"""Score effects: table and linear model of the expression scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bids_interp.bids.write.sidecars import Column
from bids_interp.group.analysis import GroupAnalysis
from bids_interp.group.covariates import covariate_column
from bids_interp.group.scans import IMAGE_COLUMNS, GroupScan
from bids_interp.group.statistics.design_matrix import DesignMatrix, make_design_matrix
from bids_interp.group.statistics.expression import expression_scores, standardise
from bids_interp.group.statistics.glm import fit_terms, residuals, untestable_reason
from bids_interp.group.statistics.learned_labels import learned_directions

#: Reason for scores that are the same for all subjects of a fold.
NO_SPREAD = 'the values do not vary between the subjects that the same folds explain'
#: Name of the covariate that approximates intracranial volume.
VOLUME = 'brain_volume_ml'

SCORE_COLUMNS: dict[str, Column] = {
    **IMAGE_COLUMNS,
    'folds': {
        'Description': 'Folds that provide the pattern; none was trained with the subject, unless '
        'inclusion.tsv says otherwise (--include-training).'
    },
    'score_dose': {
        'Description': 'Expression score: coefficient of the pattern in the difference between the '
        'local volumes of the subject and a mean of other subjects; docs/group.md has the formula.',
        'Units': '1 (dose)',
    },
    'score': {
        'Description': 'Expression score relative to the mean of the controls of the same folds, '
        'in standard deviations of the controls. Controls are the negative class of the model if '
        'available, else all subjects.',
        'Units': '1 (standard deviation of controls)',
    },
    'explained': {
        'Description': 'Share of the variance of the volume differences explained by the pattern.',
        'Units': '1',
    },
    'logit': {'Description': 'Mean logit of the observed image over folds.', 'Units': '1'},
    'probability': {
        'Description': 'Mean probability of the positive class over folds.',
        'Units': '1',
    },
    VOLUME: {
        'Description': 'Volume of the native brain mask. It approximates intracranial volume, '
        'which is not measured, and may decrease with atrophy.',
        'Units': 'ml',
    },
    'reason': {'Description': 'Reason for a missing score.'},
}


def brain_volume_ml(scan: GroupScan) -> float | None:
    """Return the volume of the native brain mask in ml; None if missing or damaged."""
    import nibabel as nib

    path = scan.folder / f'{scan.prefix}_desc-brain_mask.nii.gz'
    try:
        image = nib.load(path)
        count = int((np.asarray(image.dataobj) > 0).sum())
    except (nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError):
        return None
    return count * float(abs(np.linalg.det(image.affine[:3, :3]))) / 1000


def score_rows(analysis: GroupAnalysis) -> tuple[list[dict[str, Any]], float | None]:
    """Return the score table of all images, and the standard deviation of the controls (dose)."""
    scans, scores = analysis.scored, expression_scores(analysis.scored)
    groups = [analysis.columns.of_group(scan) for scan in scans]
    negative = analysis.columns.negative
    first = [not scan.reason for scan in scans]
    controls = [
        one and (group == negative if negative else True)
        for one, group in zip(first, groups, strict=True)
    ]
    values, sd = standardise(
        [score.value for score in scores], [score.block for score in scores], controls
    )
    rows = []
    for scan, score, value, group in zip(scans, scores, values, groups, strict=True):
        observed = scan.prediction.observed if scan.prediction else None
        rows.append(
            {
                **scan.identity,
                'group': group,
                'folds': scan.block,
                'score_dose': score.value,
                'score': value,
                'explained': score.fit,
                'logit': observed.logit_mean if observed else None,
                'probability': observed.probability_mean if observed else None,
                VOLUME: brain_volume_ml(scan),
                **{
                    covariate_column(column): analysis.columns.values[column].get(scan.prefix)
                    for column in analysis.columns.chosen
                },
                'reason': score.reason or None,
            }
        )
    return rows, sd


def model_scores(analysis: GroupAnalysis, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Fit the model of the scores: ``score ~ group + covariates + brain volume``.

    Parameters
    ----------
    analysis : GroupAnalysis
        Requested analysis.
    rows : sequence of mapping
        Result of :func:`score_rows`.

    Returns
    -------
    dict
        ``effects``, ``n``, ``blocks``, ``left_out``, ``missing``, ``not_tested``.

    Raises
    ------
    UsageError
        If covariates requested by the user are collinear.
    """
    main = {scan.prefix for scan in analysis.included}
    used = [row for row in rows if row['image'] in main and row['score'] is not None]
    return _model(analysis, used, 'score', [VOLUME])


def change_rows(analysis: GroupAnalysis, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
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
                **{name: base[name] for name in map(covariate_column, analysis.columns.chosen)},
            }
        )
    return changes


def model_change(analysis: GroupAnalysis, changes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Fit the model of the change to the last session: ``change ~ group + covariates``."""
    last = {row['participant_id']: row for row in changes}
    return _model(analysis, list(last.values()), 'change', [])


def _model(
    analysis: GroupAnalysis, rows: list[Mapping[str, Any]], score: str, more: Sequence[str]
) -> dict[str, Any]:
    columns = analysis.columns
    keys = {columns.group: 'group'} if columns.group else {}
    keys |= {name: covariate_column(name) for name in columns.chosen} | {
        name: name for name in more
    }
    rows, single = _without_singles(rows, columns.group, keys)
    variables = {name: [row[key] for row in rows] for name, key in keys.items()}
    subjects = [str(row['participant_id']).removeprefix('sub-') for row in rows]
    required = columns.chosen if columns.asked else ()
    if analysis.choices.group_asked:
        required = (columns.group, *required)
    first = {columns.group: columns.negative} if columns.negative else {}
    found: dict[str, Any] = {'score': score, 'effects': [], 'n': 0, 'not_tested': ''}
    if not rows:
        return {**found, 'not_tested': 'no subject has a score'}
    design = make_design_matrix(
        variables,
        [row['folds'] for row in rows],
        families=[columns.of_family(subject) for subject in subjects],
        required=required,
        first=first,
        levels=columns.levels,
    )
    values = np.array([rows[index][score] for index in design.rows], float)
    found |= {
        'n': len(design.rows),
        'blocks': {str(b): int((design.blocks == b).sum()) for b in np.unique(design.blocks)},
        'families': family_facts(columns.family, design.families),
        'left_out': {**design.left_out, **single},
        'missing': design.missing,
        # A pattern learned from the labels of the tested subjects separates them even without any
        # true difference.
        'not_tested': 'the models were trained with included subjects or with their relatives '
        '(--include-training)'
        if analysis.trained_with
        else untestable_reason(design) or _without_variation(values, design),
    }
    if not found['not_tested']:
        effects = fit_terms(
            values,
            design,
            draws=analysis.choices.permutations,
            seed=analysis.seed,
            learned=learned_directions(analysis, [subjects[index] for index in design.rows]),
        )
        found['effects'] = [effect.to_dict() for effect in effects]
    return found


def family_facts(column: str, families: np.ndarray) -> dict[str, Any]:
    """Return column, number and largest size of the families; empty without a family column."""
    if not column:
        return {}
    sizes = np.unique(families, return_counts=True)[1]
    return {'column': column, 'number': len(sizes), 'largest': int(sizes.max(initial=0))}


def _without_variation(values: np.ndarray, design: DesignMatrix) -> str:
    """Return the reason why scores cannot be tested that do not vary within folds."""
    rest = residuals(values[:, None], design.intercepts)
    length = float(np.linalg.norm(values))
    return NO_SPREAD if np.linalg.norm(rest) <= 1e-9 * max(length, 1e-9) else ''


def _without_singles(
    rows: list[Mapping[str, Any]], group: str, keys: Mapping[str, str]
) -> tuple[list[Mapping[str, Any]], dict[str, str]]:
    """Exclude groups with a single complete subject, whose effect would be that subject."""
    excluded: dict[str, str] = {}
    while rows:
        used = [key for key in keys.values() if any(row[key] is not None for row in rows)]
        complete = [row['group'] for row in rows if all(row[key] is not None for key in used)]
        single = {name for name in complete if name is not None and complete.count(name) == 1}
        if not single:
            break
        for name in sorted(single):
            members = sum(row['group'] == name for row in rows)
            excluded[f'{group} = {name}'] = (
                'the group has one member'
                if members == 1
                else f'only one of {members} members has all variables'
            )
        rows = [row for row in rows if row['group'] not in single]
    return rows, excluded


EFFECT_COLUMNS: dict[str, Column] = {
    'variable': {'Description': 'Variable of the model.'},
    'contrast': {'Description': 'Comparison that the effect describes.'},
    'n': {'Description': 'Number of complete subjects.'},
    'df': {'Description': 'Residual degrees of freedom.'},
    'estimate': {'Description': 'Effect on the score, adjusted for the other variables.'},
    'se': {
        'Description': 'Standard error of the effect; with several subjects in a family, families '
        'are clusters.'
    },
    'low': {'Description': 'Lower limit of the 95 % interval of the effect.'},
    'high': {'Description': 'Upper limit of the 95 % interval of the effect.'},
    'statistic': {'Description': 't, or F for a variable with more than two levels.'},
    'kind': {'Description': 'Kind of the statistic: t or F.'},
    'p': {
        'Description': 'Two-sided p-value by permuting residuals within folds, families as wholes '
        '(Freedman and Lane), not corrected for the number of variables.'
    },
    'least_p': {
        'Description': 'Smallest p-value that these permutations allow. Above 0.05 there are too '
        'few families of equal size for a test.'
    },
    'cohen_d': {
        'Description': "Cohen's d: adjusted difference over the residual standard deviation."
    },
    'd_low': {'Description': "Lower limit of the 95 % interval of Cohen's d."},
    'd_high': {'Description': "Upper limit of the 95 % interval of Cohen's d."},
    'partial_r': {'Description': 'Partial correlation of score and variable.'},
    'spread': {
        'Description': 'Factor on the standard deviation of the null distribution and on the '
        'standard error: the root of 1 + r^2, where r is the correlation of the variable, adjusted '
        'for the others, with the label that the models of training subjects have learned. The '
        'largest factor for a variable with more than two levels; the square root of two if the '
        'tables lack the label; 1 without training subjects.'
    },
}
CHANGE_COLUMNS: dict[str, Column] = {
    'participant_id': {'Description': 'Participant.'},
    'group': {'Description': 'Group at the first session.'},
    'from': {'Description': 'First session.'},
    'to': {'Description': 'Later session.'},
    'folds': {'Description': 'Folds that provide the pattern.'},
    'score_from': {'Description': 'Score at the first session.'},
    'score_to': {'Description': 'Score at the later session.'},
    'change': {'Description': 'Later minus first score, in standard deviations of the controls.'},
}
