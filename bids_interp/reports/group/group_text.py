"""Text of the group report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bids_interp.constants import COMMON_SHARE
from bids_interp.evaluation.personal_share import ROUNDING_SHARE

Content = Mapping[str, Any]

#: Sentences of the methods text: folds that explained the subjects, origin of the pattern, and
#: correction of a test of the learned label.
EXPLAINED_HELD_OUT = 'Each subject was explained only by folds that were trained without it.'
EXPLAINED_SEEN = 'Some subjects were explained by folds that were trained with them.'
PATTERN_HELD_OUT = ' and from folds that were trained without the subject; no labels are used.'
PATTERN_SEEN = '. The pattern was learned from the labels of included subjects.'
WIDENED = (
    'were widened, because the models of each fold have learned from the labels of the other '
    'folds: by the square root of 1 + r², where r is the correlation of the variable, adjusted for '
    'the others, with that label.'
)
#: Smallest factor that is named as a widening.
WIDE = 1.005

#: Smallest number of subjects without a caution.
FEW = 10


def report_text(content: Content) -> dict[str, Any]:
    """Return all sentences of the report: headline, cautions, tests and limits."""
    return {
        'about': _about_maps(content['maps']),
        'head': _headline(content),
        'cautions': _cautions(content),
        'tested': _tested(content['scores']['model']),
        'changes': changes_of(content),
        'change': _tested(content['scores'].get('change_model') or {}),
        'pattern': _pattern(content['pattern']),
        'voxelwise': [_voxelwise(facts) for facts in content['voxelwise']],
        'limits': LIMITS,
    }


LIMITS = (
    'The maps show what this classifier responds to. They are neither a diagnosis nor evidence of '
    'a cause.',
    'All subjects are explained by the same few models, so their maps are not independent. A test '
    'of the mean map against zero would assume independence and is not offered. The reliable mask '
    'describes agreement and is not a test.',
    'Intervals of the regions describe the variability over subjects with the same models. Models '
    'trained on other subjects would differ more.',
    'Brain volume is the volume of the brain mask. It replaces intracranial volume, which is not '
    'measured.',
)


def _about_maps(maps: Sequence[Content]) -> str:
    """Return the first sentence: whether the maps are about these people."""
    if not maps:
        return 'There are no maps.'
    share = maps[0]['personal_share']['']
    if share is None:
        return (
            'It is unknown whether the maps differ between people, because no two subjects are '
            'explained by the same folds.'
        )
    if share < ROUNDING_SHARE:
        return (
            f'The maps show the common pattern of the model, not these people: they are the same '
            f'for everybody (personal share {share:.2g}). Intervals over people are not given.'
        )
    if share < COMMON_SHARE:
        return (
            f'The maps show the common pattern of the model rather than these people, between whom '
            f'they differ very little (personal share {share:.2g}).'
        )
    return (
        f'The maps are in part about these people: {100 * share:.0f} % of a typical map differs '
        f'from the mean over people (personal share {share:.2f}).'
    )


def _headline(content: Content) -> dict[str, str]:
    """Headline about the effect of the group on the scores."""
    effects = content['scores']['model'].get('effects') or []
    group = content['group_column']
    effect = next((e for e in effects if e['variable'] == group), None)
    if not content['warranted']:
        return {
            'tone': 'no',
            'head': 'No explanation is warranted',
            'rest': 'The classifiers are not above chance on subjects that they were not trained '
            'with, so these maps explain nothing.',
        }
    if effect is None:
        return {
            'tone': 'open',
            'head': f'{content["n"]} subjects described',
            'rest': f'No difference between groups was tested: {_why_untested(content)}.',
        }
    clear = effect['p'] < 0.05
    size = '' if effect['cohen_d'] is None else f', Cohen d {effect["cohen_d"]:.2f}'
    found = (
        f'{effect["kind"]} = {effect["statistic"]:.2f}'
        if effect['estimate'] is None
        else f'{effect["estimate"]:+.2f} standard deviations of {content["reference"]}'
        + ('' if effect['low'] is None else f' [{effect["low"]:.2f}, {effect["high"]:.2f}]')
    )
    return {
        'tone': 'yes' if clear else 'open',
        'head': 'The groups differ in the expression score'
        if clear
        else 'No clear difference in the expression score',
        'rest': f'{effect["contrast"]}: {found}{size}, permutation p = {effect["p"]:.2g}, '
        f'{effect["n"]} subjects.',
    }


def _why_untested(content: Content) -> str:
    """Reason why no effect of the group was tested."""
    model, group = content['scores']['model'], content['group_column']
    if model.get('not_tested'):
        return str(model['not_tested'])
    if not group:
        return 'no column with the groups was given (--group-by)'
    reason = (model.get('left_out') or {}).get(group)
    return f'{group} is {reason}' if reason else 'there are no two groups'


def _cautions(content: Content) -> list[str]:
    found = []
    if not content['held_out_only']:
        found.append(
            'Subjects that the models were trained with are included (--include-training). The '
            'maps partly show what was memorised, so nothing is tested.'
        )
    if content['cross_fitted'] and content['held_out_only']:
        found.append(
            'Some subjects were used to train the model. Each is explained only by the fold that '
            'held it out, so its map is out of sample. The tests of the learned label and of '
            'variables that follow it are widened, because the folds share training subjects.'
        )
    if content['n'] < FEW:
        found.append(f'With only {content["n"]} subjects, the mean says little about others.')
    if content['missing']:
        count = len(content['missing'])
        found.append(
            f'{count} {"subject lacks" if count == 1 else "subjects lack"} covariates and '
            f'{"is" if count == 1 else "are"} excluded from tests that need them (complete cases).'
        )
    return found


def _tested(model: Content) -> list[str]:
    """Variables that were excluded from the model, with reasons."""
    lines = []
    if model.get('not_tested'):
        lines.append(f'Not tested: {model["not_tested"]}.')
    for name, reason in (model.get('left_out') or {}).items():
        lines.append(f'{name.replace("_", " ")} is not in the model: {reason}.')
    for name, count in (model.get('missing') or {}).items():
        lines.append(f'{name.replace("_", " ")} is missing for {count}.')
    blocks = model.get('blocks') or {}
    if blocks:
        sizes = ', '.join(f'{name}: {count}' for name, count in blocks.items())
        lines.append(
            f'{model["n"]} complete subjects, permuted within the folds that explain them '
            f'({sizes}).'
        )
    families = model.get('families')
    if families:
        lines.append(
            f'{families["number"]} families ({families["column"]}) of up to {families["largest"]} '
            'subjects, permuted as wholes; they are the clusters of the intervals.'
        )
    effects = model.get('effects', ())
    lines += [
        f'{e["variable"]}: too few families of equal size for a test; its p cannot be smaller than '
        f'{e["least_p"]:.2g}.'
        for e in effects
        if e['least_p'] > 0.05
    ]
    widened = [f'{e["variable"]} ({e["spread"]:.2f})' for e in effects if e['spread'] > WIDE]
    if widened:
        lines.append(f'The null distribution and the interval of {", ".join(widened)} {WIDENED}')
    return lines


def _pattern(facts: Content) -> str:
    if not facts:
        return ''
    enough = '' if facts['enough'] else ' With so few models p cannot reach 0.05.'
    return (
        f'Agreement of the folds on the injected pattern, compared with {facts["n_null_models"]} '
        f'models of permuted labels: p = {facts["p"]:.2g} (maximum over voxels); '
        f'{facts["voxels_below_005"]} voxels have a corrected p below 0.05.{enough} The control of '
        'the error over voxels is weak (complete null): the test does not show where the pattern '
        'is.'
    )


def _voxelwise(facts: Content) -> str:
    if facts['not_tested']:
        return f'{facts["column"]}: not tested, {facts["not_tested"]}.'
    return (
        f'{facts["column"]}: {facts["n"]} subjects, smallest corrected p {facts["least_p"]:.2g}, '
        f'{facts["voxels_below_005"]} voxels below 0.05; other terms of the model: '
        f'{", ".join([*facts["beside"], "folds"])}.'
        + (
            f' The maps differ very little between people (personal share '
            f'{facts["personal_share"]:.2g}): they are the common pattern of the model.'
            if facts['common']
            else ''
        )
    )


def changes_of(content: Content) -> str:
    """Return a sentence about the changes of the scores between sessions."""
    rows = content['scores'].get('changes') or []
    if not rows:
        return ''
    pairs: dict[tuple[str, str], int] = {}
    for row in rows:
        pairs[row['from'], row['to']] = pairs.get((row['from'], row['to']), 0) + 1
    shown = ', '.join(f'{first} to {last}: {n}' for (first, last), n in list(pairs.items())[:6])
    more = f' and {len(pairs) - 6} other pairs' if len(pairs) > 6 else ''
    mean = sum(row['change'] for row in rows) / len(rows)
    order = (
        ' Some sessions have no date and are ordered by name; give acq_time in sub-*_sessions.tsv '
        'or *_scans.tsv.'
        if content['visits_by_name']
        else ''
    )
    return (
        f'{len(rows)} changes from the first to a later session ({shown}{more}), mean {mean:+.2f} '
        f'standard deviations of {content["reference"]}.{order}'
    )


def _explaining_folds(content: Content) -> str:
    return EXPLAINED_HELD_OUT if content['held_out_only'] else EXPLAINED_SEEN


def methods_of(content: Content) -> str:
    """Return the methods text in Markdown with citations."""
    model = content['scores']['model']
    terms = [effect['variable'].replace('_', ' ') for effect in model.get('effects', ())]
    parts = [
        f'Maps of {content["n"]} subjects, explained by the model *{content["model"][0]}* '
        f'({content["model"][1]}), were averaged in the space {content["space"]} voxel by voxel. '
        f'{_explaining_folds(content)} A voxel was called reliable if the absolute mean '
        'log-Jacobian was at least 0.02, at least 90 % of the subjects had the sign of the mean, '
        'all folds agreed on it (if this could be determined), and the classifier was above '
        'chance. Peaks were found with *Nilearn* [@nilearn].',
        f'Regions were {content["region_source"]}. Volume changes are means of exp(log-Jacobian) '
        "- 1; 95 % intervals are Student's t intervals over subjects, with these models.",
        'The local volumes of each observed brain were measured by a deformable registration to '
        'the template (SyN, local correlation) [@ants]. The expression score of a subject is a '
        'regression coefficient: its log-volumes minus the mean are regressed on the log-volume '
        'change of the pattern (the divergence of its velocity) and an offset. Pattern and mean '
        'come from other subjects'
        + (PATTERN_HELD_OUT if content['held_out_only'] else PATTERN_SEEN),
    ]
    if terms:
        parts.append(
            f'A linear model of the score had the terms {", ".join(terms)} and an intercept for '
            'each set of folds. p values come from the method of Freedman and Lane: the residuals '
            f'of the model without a term were permuted {content["permutations"]} times within '
            'folds'
            + (', families as wholes [@multilevelpermutation].' if model.get('families') else '.')
        )
        widened = [e['variable'] for e in model['effects'] if e['spread'] > WIDE]
        if widened:
            parts[-1] += (
                f' The null distribution and the interval of {", ".join(widened)} {WIDENED}'
            )
    return '\n\n'.join(parts)
