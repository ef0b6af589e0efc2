"""What the numbers of the known-truth benchmark mean, and what they should reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """One number of the table.

    Parameters
    ----------
    title : str
        Heading.
    meaning : str
        For the data dictionary.
    units : str
        Units; empty for shares and correlations.
    better : int
        1 if more is better, -1 if less is, 0 if neither.
    digits : int
        Shown behind the point.
    """

    title: str
    meaning: str
    units: str = ''
    better: int = 1
    digits: int = 2


METRICS: dict[str, Metric] = {
    'ncc_group': Metric(
        'NCC, group',
        'Normalised cross-correlation of the mean map with the mean truth inside the brain, on '
        'held-out brains. Unsigned maps: |map| with |truth|, smoothed (6 mm) or not, the better.',
    ),
    'ncc_single': Metric('NCC, single', 'The same for each image, mean over the images.'),
    'gain_ncc_group': Metric(
        'Gain of ours, group', 'NCC of ours minus that of this method, the same bootstrap draws.'
    ),
    'gain_ncc_single': Metric('Gain of ours, single', 'The same for the mean over single images.'),
    'ceiling': Metric(
        'Ceiling', 'NCC of the truth with what is left of it on the velocity basis of ours.'
    ),
    'ncc_over_ceiling': Metric('NCC / ceiling', 'ncc_group over ceiling.'),
    'sign_accuracy': Metric(
        'Sign right', 'Share of the voxels with |truth| > 0.02 whose sign is right (group map).'
    ),
    'average_precision': Metric(
        'AUPRC', 'Area under the precision-recall curve of |map| for |truth| > 0.02 (group map).'
    ),
    'iou': Metric('IoU', 'Overlap of as many of the strongest voxels with |truth| > 0.02.'),
    'off_target_percent': Metric(
        'Off target', 'Mean absolute volume change where |truth| < 0.005 (group map).', '%', -1
    ),
    'roi_error_percent': Metric(
        'ROI error',
        'Error of the volume change of the changed regions, relative to the true change; mean over '
        'images.',
        '%',
        -1,
        0,
    ),
    'crosses': Metric(
        'Validity', 'Share of simulations at dose 1 that cross the midpoint of the classifier.'
    ),
    'effectiveness': Metric(
        'Effectiveness', 'Shift of the logit at dose 1 over the gap between the classes.', '', 0
    ),
    'monotone': Metric(
        'Monotone', 'Share of images whose shift rises at each of the doses 0.25, 0.5, 0.75, 1.'
    ),
    'transfer_right_way': Metric(
        'Transfer, right way', 'Share that moves a CNN of another family (SFCN) the right way.'
    ),
    'transfer_crosses': Metric('Transfer, crosses', 'Share that crosses the midpoint of the SFCN.'),
    'volume_right_way': Metric(
        'Volumes, right way',
        'Share that moves a logistic regression on the volumes of regions the right way.',
    ),
    'volume_crosses': Metric(
        'Volume judge',
        'Share that convinces a logistic regression on the volumes of regions.',
    ),
    'realism': Metric(
        'Realism',
        'Share of regional volumes after simulation within the 1st to 99th percentile of the '
        'training images of the class aimed at.',
    ),
    'n_folded': Metric('Folded', 'Voxels of the brain with a determinant <= 0.', 'voxels', -1, 1),
    'reversibility_rmse': Metric(
        'There and back', 'Root mean square difference after the way back.', 'input units', -1, 3
    ),
    'minimality_mm': Metric('Displacement', 'Mean displacement in the brain.', 'mm', 0),
    'reliable_percent': Metric(
        'Reliable voxels',
        'Null scenario: share of the brain that is reliable as in group reports: |mean| of at '
        'least 0.02, at least 90 % of the images and all folds with the sign of the mean. It is 0 '
        'where the classifier is not above chance, because reports then say that no explanation is '
        'warranted.',
        '%',
        -1,
    ),
    'agreeing_percent': Metric(
        'Agreeing voxels',
        'Null scenario: the same, whatever the classifier is worth.',
        '%',
        -1,
    ),
    'auc': Metric('AUC', 'Out-of-fold area under the curve of the classifier.', '', 0),
    'permutation_p': Metric('p', 'Of that AUC, by permutation.', '', 0, 3),
}


@dataclass(frozen=True)
class Goal:
    """What a number of ours should reach.

    Parameters
    ----------
    title : str
        In words.
    metric, method : str
        Which row of the table.
    floor, aim : float
        To ship, and to be content.
    scenarios : tuple of str
        Where it holds; empty: everywhere but in the null scenario.
    """

    title: str
    metric: str
    floor: float
    aim: float
    method: str = 'ours'
    scenarios: tuple[str, ...] = ()


GOALS = (
    Goal('Group NCC', 'ncc_group', 0.75, 0.90, scenarios=('S1', 'S2', 'S4')),
    Goal('NCC of single images', 'ncc_single', 0.55, 0.75),
    Goal(
        'Gain over the best saliency method, same classifier',
        'gain_ncc_group',
        0.10,
        0.25,
        'saliency',
    ),
    Goal('Gain over preset ipmi2021', 'gain_ncc_group', 0.20, 0.40, 'ipmi2021'),
    Goal('Sign accuracy', 'sign_accuracy', 0.90, 0.97),
    Goal('ROI volume-change error, %', 'roi_error_percent', 50.0, 30.0),
    Goal('Off-target change, %', 'off_target_percent', 2.0, 1.0),
    Goal('Validity out of fold', 'crosses', 0.90, 0.98),
    Goal('Volume judge', 'volume_crosses', 0.75, 0.90),
    Goal('Voxels with det <= 0', 'n_folded', 0.0, 0.0),
    Goal('Null: reliable voxels, %', 'reliable_percent', 1.0, 0.0, scenarios=('S7',)),
)


def goal_verdict(goal: Goal, value: float) -> str:
    """Say whether a number reaches floor or aim.

    Examples
    --------
    >>> goal_verdict(GOALS[0], 0.8), goal_verdict(GOALS[0], 0.95), goal_verdict(GOALS[6], 3.0)
    ('floor met', 'aim met', 'missed')
    """
    sign = METRICS[goal.metric].better
    if sign * (value - goal.aim) >= 0:
        return 'aim met'
    return 'floor met' if sign * (value - goal.floor) >= 0 else 'missed'


def data_dictionary() -> dict[str, Any]:
    """Data dictionary of the table."""
    return {
        'scenario': {'Description': 'Scenario of the known-truth benchmark'},
        'strength': {
            'Description': 'Strength of the planted change',
            'Levels': {'mild': '8/15 of moderate', 'moderate': 'as named', 'strong': '25/15'},
        },
        'seed': {
            'Description': 'Seed of groups, warps, folds and trainings; "mean" is that over all '
            'seeds, with the smallest and the largest as its ends'
        },
        'method': {'Description': 'What made the maps, or which classifier answered'},
        'classifier': {
            'Description': 'Network that is explained or that answered; n/a for methods that need '
            'none. A saliency method that does not apply to our classifier explains sfcn instead '
            'and does not count for the gain over the best saliency method.',
            'Levels': {
                'ours': 'the classifier that our simulator was trained against',
                'otherseed': 'the same from another seed of training',
                'ipmi2021': 'the classifier of the preset ipmi2021',
                'sfcn': 'a network of another family, trained with the same images',
                'sham': 'ours, trained to tell sham-warped images from untouched ones',
            },
        },
        'direction': {
            'Description': 'Which simulations',
            'Levels': {
                'inject': 'controls, the pattern is injected',
                'remove': 'patients, it is removed',
                'both': 'mean of both',
            },
        },
        'metric': {
            'Description': 'What was measured',
            'Levels': {
                name: f'{metric.meaning}{f" Units: {metric.units}." if metric.units else ""}'
                for name, metric in METRICS.items()
            },
        },
        'value': {'Description': 'The number'},
        'low': {'Description': 'Lower end of the 95 % bootstrap interval over brains'},
        'high': {'Description': 'Upper end of the 95 % bootstrap interval over brains'},
    }


def reading_notes(facts: Mapping[str, Any], recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """What has to be known to read the table."""
    ours, paper, judge = (recipes[0][name] for name in ('ours', 'ipmi2021', 'sfcn'))
    simulator = ours['simulator']
    steps = simulator.get('template_steps', 0), simulator.get('residual_steps', 0)
    return [
        'Tuned on S3 with seed 0 only.',
        'Where there are several seeds: mean (smallest to largest); pictures of the first.',
        f'{facts["n_brains"]} brains, {facts["replicates"]} images of each with random anatomies '
        f'of {facts["anatomy_mm"]:g} mm, {facts["n_folds"]} folds over brains; '
        f'per brain and class {facts["explained"]} held-out '
        'images are explained, the same ones by every method. Every image is interpolated once; '
        'controls carry a sham warp.',
        f'Intervals: 95 %, {facts["draws"]} draws of brains with replacement; the trained networks '
        'stay the same. Gains come from the same draws.',
        'Saliency maps are scored without sign and smoothed or not, whichever is better (decided '
        'with the truth). They explain the classifier that ours was trained against, except where '
        'the column “classifier” names another network: such a method does not apply to ours and '
        'does not count for the gain over the best saliency method.',
        f'Ours: classifier {_described(ours["classifier"])}; simulator {simulator["capacity"]}, '
        f'{steps[0]} + {steps[1]} steps of {simulator["batch"]} images.',
        f'ipmi2021: its own classifier, {_described(paper["classifier"])}; simulator '
        f'{paper["simulator"]["steps"]} steps of '
        f'{paper["simulator"]["batch"]} (published: batches of 40).',
        f'Transfer: {_described(judge["classifier"])}, with the same training images. The planted '
        'change is a simulation, not a disease.',
    ]


def _described(classifier: Mapping[str, Any]) -> str:
    """Architecture and steps; a morphometric classifier is fitted without steps."""
    if 'steps' not in classifier:
        return str(classifier['architecture'])
    steps, batch = classifier['steps'], classifier['batch']
    return f'{classifier["architecture"]}, {steps} steps of {batch} images'
