"""What the group report says in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Content = Mapping[str, Any]

#: Sentences of the methods text: who explained the subjects, what entered the pattern, and what a
#: test of the learned label needs.
EXPLAINED_HELD_OUT = 'Only folds that were trained without a subject explained it.'
EXPLAINED_SEEN = 'Some subjects were explained by folds that were trained with them.'
PATTERN_HELD_OUT = ' and from folds without the subject; no label enters.'
PATTERN_SEEN = '. The pattern was learned from the labels of subjects that are in.'
WIDENED = (
    'were widened by the square root of two, since the models of each fold have learned from the '
    'labels of the others.'
)

#: Below this many subjects the report says that there are few.
FEW = 10


def report_text(content: Content) -> dict[str, Any]:
    """Headline, cautions and limits of the report."""
    return {
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
    'The maps show what this classifier responds to. They are no diagnosis and no evidence of a '
    'cause.',
    'All subjects are explained by the same few models, so that their maps depend on each other. A '
    'test of the mean map against zero would take them for independent observations; it is not '
    'offered. The reliable mask describes agreement and is no test.',
    'Intervals of the regions say what other subjects would change, with the same models. Other '
    'models, trained on other subjects, would differ more.',
    'Brain volume is the volume of the brain mask. It stands in for intracranial volume, which is '
    'not measured.',
)


def _headline(content: Content) -> dict[str, str]:
    """The first effect of the model of the scores, in words."""
    effects = content['scores']['model'].get('effects') or []
    group = content['group_column']
    effect = next((e for e in effects if e['variable'] == group), None)
    if not content['warranted']:
        return {
            'tone': 'no',
            'head': 'No explanation is warranted',
            'rest': 'The classifiers are not above chance on subjects that they have not seen: '
            'these maps explain nothing.',
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
        else f'{effect["estimate"]:+.2f} standard deviations of {content["reference"]} '
        f'[{effect["low"]:.2f}, {effect["high"]:.2f}]'
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
    """Why there is no effect of the group."""
    model, group = content['scores']['model'], content['group_column']
    if model.get('not_tested'):
        return str(model['not_tested'])
    if not group:
        return 'no column says who belongs to which group (--group-by)'
    reason = (model.get('left_out') or {}).get(group)
    return f'{group} is {reason}' if reason else 'there are no two groups'


def _cautions(content: Content) -> list[str]:
    found = []
    if not content['held_out_only']:
        found.append(
            'Subjects that the models were trained with are in (--include-training): what is '
            'described is partly what was memorised, and nothing is tested.'
        )
    if content['cross_fitted'] and content['held_out_only']:
        found.append(
            'Training subjects of the model are in. Each is explained by the fold that has not '
            'seen it, which is as good as new for its map; the test of the label that was learned '
            'is widened for what the folds share.'
        )
    if content['n'] < FEW:
        found.append(f'{content["n"]} subjects are few: their mean says little about others.')
    if content['missing']:
        count = len(content['missing'])
        found.append(
            f'{count} {"subject lacks" if count == 1 else "subjects lack"} covariates and '
            f'{"is" if count == 1 else "are"} not in the tests that need them (complete cases).'
        )
    return found


def _tested(model: Content) -> list[str]:
    """What was left out of the model, and why."""
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
            f'{model["n"]} complete subjects; exchanged within the folds that explain them '
            f'({sizes}).'
        )
    widened = [e['variable'] for e in model.get('effects', ()) if e['spread'] > 1]
    if widened:
        lines.append(
            f'Null distribution and interval of {", ".join(widened)} are widened by the square '
            'root of two, because the models of each fold have learned from the labels of the '
            'others.'
        )
    return lines


def _pattern(facts: Content) -> str:
    if not facts:
        return ''
    enough = '' if facts['enough'] else ' These are too few for p to reach 0.05.'
    return (
        f'Folds agree on the injected pattern beyond {facts["n_null_models"]} models of permuted '
        f'labels with p = {facts["p"]:.2g} (largest of all voxels); '
        f'{facts["voxels_below_005"]} voxels have a corrected p below 0.05.{enough}'
    )


def _voxelwise(facts: Content) -> str:
    if facts['not_tested']:
        return f'{facts["column"]}: not tested, {facts["not_tested"]}.'
    return (
        f'{facts["column"]}: {facts["n"]} subjects, least corrected p {facts["least_p"]:.2g}, '
        f'{facts["voxels_below_005"]} voxels below 0.05; beside it in the model: '
        f'{", ".join([*facts["beside"], "folds"])}.'
    )


def changes_of(content: Content) -> str:
    """From where to where scores changed, and by how much on average."""
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
        ' The dataset does not tell when some sessions were: they are in the order of their names. '
        'acq_time in sub-*_sessions.tsv or *_scans.tsv tells it.'
        if content['visits_by_name']
        else ''
    )
    return (
        f'{len(rows)} changes from the first to a later session ({shown}{more}), mean {mean:+.2f} '
        f'standard deviations of {content["reference"]}.{order}'
    )


def _who_explained(content: Content) -> str:
    return EXPLAINED_HELD_OUT if content['held_out_only'] else EXPLAINED_SEEN


def methods_of(content: Content) -> str:
    """Methods text in Markdown with citations."""
    model = content['scores']['model']
    terms = [effect['variable'].replace('_', ' ') for effect in model.get('effects', ())]
    parts = [
        f'Maps of {content["n"]} subjects, explained by the model *{content["model"][0]}* '
        f'({content["model"][1]}), were averaged in the space {content["space"]} voxel by voxel. '
        f'{_who_explained(content)} A voxel was called reliable where the mean log-Jacobian '
        'reached 0.02, at least 90 % of the subjects had the sign of the mean and all folds agreed '
        'on it, where this could be known and the classifier was above chance. Peaks were listed '
        'with *Nilearn* [@nilearn].',
        f'Regions were {content["region_source"]}. Volume changes are means of exp(log-Jacobian) '
        "- 1; 95 % intervals of the mean are those of Student's t over subjects.",
        'The volumes of each observed brain were measured by a deformable registration to the '
        'template (SyN, local correlation) [@ants]. The expression score of a subject is the '
        'coefficient, in its log-volumes minus a mean, of the change of log-volumes that the '
        'pattern makes (the divergence of its velocity), with an offset in the same fit. Pattern '
        'and mean come from other subjects'
        + (PATTERN_HELD_OUT if content['held_out_only'] else PATTERN_SEEN),
    ]
    if terms:
        parts.append(
            f'A linear model of the score had the terms {", ".join(terms)} and an intercept for '
            'each set of folds. p values are those of Freedman and Lane: residuals of the model '
            f'without a term were exchanged {content["permutations"]} times within folds.'
        )
        widened = [e['variable'] for e in model['effects'] if e['spread'] > 1]
        if widened:
            parts[-1] += f' Null distribution and interval of {", ".join(widened)} {WIDENED}'
    return '\n\n'.join(parts)
