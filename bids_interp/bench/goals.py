"""Goals of the known-truth benchmark, and the meaning of its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bids_interp.bench.group_ncc import REFITS
from bids_interp.bench.records import INTERVALS


@dataclass(frozen=True)
class Metric:
    """Metric of the table.

    Parameters
    ----------
    title : str
        Heading.
    meaning : str
        Description for the data dictionary.
    units : str
        Units; empty for shares and correlations.
    better : int
        1 if larger is better, -1 if smaller is better, 0 if neither.
    digits : int
        Number of decimals.
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
        'held-out brains. Unsigned maps: |map| with |truth|, smoothed (6 mm) or not, whichever is '
        'better.',
    ),
    'ncc_single': Metric('NCC, single', 'The same for single images, mean over images.'),
    'gain_ncc_group': Metric(
        'Gain of ours, group',
        'NCC of our method minus NCC of this method, with the same bootstrap draws.',
    ),
    'gain_ncc_single': Metric(
        'Gain of ours, single', 'The same for single images, mean over images.'
    ),
    'ceiling': Metric(
        'Ceiling', 'NCC of the truth with its projection on the velocity basis of our simulator.'
    ),
    'ncc_over_ceiling': Metric('NCC / ceiling', 'ncc_group divided by ceiling.'),
    'sign_accuracy': Metric(
        'Sign accuracy',
        'Share of the voxels with |truth| > 0.02 with the correct sign (group map).',
    ),
    'average_precision': Metric(
        'AUPRC', 'Area under the precision-recall curve of |map| for |truth| > 0.02 (group map).'
    ),
    'iou': Metric(
        'IoU', 'Intersection over union of |truth| > 0.02 and as many of the strongest voxels.'
    ),
    'off_target_percent': Metric(
        'Off target', 'Mean absolute volume change where |truth| < 0.005 (group map).', '%', -1
    ),
    'roi_error_percent': Metric(
        'ROI error',
        'Error of the volume change of the changed regions, relative to the true change, mean over '
        'images.',
        '%',
        -1,
        0,
    ),
    'crosses': Metric(
        'Validity', 'Share of simulations at dose 1 that cross the midpoint of the classifier.'
    ),
    'effectiveness': Metric(
        'Effectiveness', 'Shift of the logit at dose 1 divided by the class gap.', '', 0
    ),
    'monotone': Metric(
        'Monotone', 'Share of images whose shift increases at each of the doses 0.25, 0.5, 0.75, 1.'
    ),
    'transfer_right_way': Metric(
        'Transfer, direction',
        'Share of simulations that move a CNN of another family (SFCN) in the right direction.',
    ),
    'transfer_crosses': Metric(
        'Transfer, crosses', 'Share of simulations that cross the midpoint of the SFCN.'
    ),
    'volume_right_way': Metric(
        'Volumes, direction',
        'Share of simulations that move a logistic regression on the volumes of regions in the '
        'right direction.',
    ),
    'volume_crosses': Metric(
        'Volume judge',
        'Share of simulations that flip a logistic regression on the volumes of regions.',
    ),
    'realism': Metric(
        'Realism',
        'Share of regional volumes after simulation within the 1st to 99th percentile of the '
        'training images of the target class.',
    ),
    'n_folded': Metric('Folded', 'Voxels of the brain with a determinant <= 0.', 'voxels', -1, 1),
    'reversibility_rmse': Metric(
        'Reversibility error',
        'Root mean square difference after the inverse deformation.',
        'input units',
        -1,
        3,
    ),
    'minimality_mm': Metric('Displacement', 'Mean displacement in the brain.', 'mm', 0),
    'volume_share': Metric(
        'Volume share',
        'Logit shift of the curl-free part of the velocity, divided by that of the whole velocity, '
        'mean over images. At 1, the log-Jacobian shows all that moves the classifier.',
    ),
    'displacement_ncc': Metric(
        'NCC, displacement',
        'Normalised cross-correlation of the displacement of the simulation with the exact '
        'displacement of the planted change, over all components in the brain, mean over images.',
    ),
    'motion_outside_mm': Metric(
        'Motion outside',
        'Mean displacement of the simulation where |truth| < 0.005.',
        'mm',
        -1,
        3,
    ),
    'remeasured_slope': Metric(
        'Re-measured, slope',
        'Slope over regions of the volume change that an independent registration measures in the '
        'simulated image against the claimed change.',
        '',
        0,
    ),
    'remeasured_r': Metric('Re-measured, r', 'Correlation of the same.'),
    'personal_share': Metric(
        'Personal share',
        'Norm of a map minus the mean map of the people that the same model explains, divided by '
        'the norm of the map, mean over people. 0 is the same map for everybody.',
        '',
        0,
    ),
    'between_subject_ncc': Metric(
        'NCC between people',
        'Mean NCC of the maps of two people that the same model explains.',
        '',
        0,
    ),
    'subtype_auc': Metric(
        'Own subtype, AUC',
        'AUC with which the maps of patients name their own subtype: NCC with its mean truth minus '
        'the NCC with that of the other.',
    ),
    'subtype_auc_share': Metric(
        'Share of the oracle',
        'subtype_auc divided by that of the method `oracle`, which knows the subtypes of the '
        'training images.',
    ),
    'regions_found': Metric(
        'Regions found',
        'Number of the ten regions in which the map of the regression of their own volume peaks.',
        '',
        1,
        0,
    ),
    'prediction_r': Metric(
        'Prediction, r',
        'Correlation of predicted and true volumes of held-out images, mean over folds and '
        'regions.',
        '',
        0,
    ),
    'reliable_percent': Metric(
        'Reliable voxels',
        'Null scenario: share of the brain that is reliable as in group reports: |mean| of at '
        'least 0.02, at least 90 % of the images and all folds with the sign of the mean. It is 0 '
        'if the classifier is not above chance, because reports then say that no explanation is '
        'warranted.',
        '%',
        -1,
    ),
    'agreeing_percent': Metric(
        'Agreeing voxels',
        'Null scenario: the same, regardless of the classifier.',
        '%',
        -1,
    ),
    'auc': Metric('AUC', 'Out-of-fold area under the ROC curve of the classifier.', '', 0),
    'permutation_p': Metric('p', 'Permutation p of the AUC.', '', 0, 3),
}


@dataclass(frozen=True)
class Goal:
    """Floor and aim of a number of our method.

    Parameters
    ----------
    title : str
        Title.
    metric : str
        Metric of the row.
    floor, aim : float
        Required and desired value.
    method : str
        Method of the row; ``'saliency'`` and ``'rival'`` mean the best saliency method and the best
        of all other methods that do not know the truth.
    scenarios : tuple of str
        Scenarios of the goal; empty for all but the null scenario.
    ideal : float, optional
        Ideal value; then `floor` and `aim` are distances from it.
    """

    title: str
    metric: str
    floor: float
    aim: float
    method: str = 'ours'
    scenarios: tuple[str, ...] = ()
    ideal: float | None = None

    def limit_text(self, limit: float) -> str:
        """Return a floor or aim as text.

        Examples
        --------
        >>> Goal('Slope', 'remeasured_slope', 0.2, 0.1, ideal=1.0).limit_text(0.2)
        '0.8 to 1.2'
        """
        if self.ideal is None:
            return f'{limit:g}'
        return f'{self.ideal - limit:g} to {self.ideal + limit:g}'


#: Scenarios with one planted change.
ONE_CHANGE = ('S1', 'S2', 'S3', 'S4', 'S5', 'S6', 'S8', 'S10a', 'S10b')
GOALS = (
    Goal('Group NCC', 'ncc_group', 0.85, 0.92, scenarios=ONE_CHANGE),
    Goal('Gain over the best other method', 'gain_ncc_group', 0.0, 0.05, 'rival', ONE_CHANGE),
    Goal('NCC of single images', 'ncc_single', 0.75, 0.85),
    Goal(
        'Gain over the best saliency method, same classifier',
        'gain_ncc_group',
        0.15,
        0.30,
        'saliency',
    ),
    Goal('Sign accuracy', 'sign_accuracy', 0.95, 0.98),
    Goal('ROI volume-change error, %', 'roi_error_percent', 30.0, 15.0),
    Goal('Volume share', 'volume_share', 0.95, 0.99),
    Goal('NCC of displacements', 'displacement_ncc', 0.80, 0.90),
    Goal('Own subtype, share of the oracle', 'subtype_auc_share', 0.90, 0.97, scenarios=('S9',)),
    Goal('Re-measured change, slope', 'remeasured_slope', 0.2, 0.1, ideal=1.0),
    Goal('Re-measured change, r', 'remeasured_r', 0.8, 0.9),
    Goal('Regions found', 'regions_found', 8.0, 10.0, scenarios=('S11',)),
    Goal('Null: reliable voxels, %', 'reliable_percent', 0.5, 0.0, scenarios=('S7',)),
    Goal('Voxels with det <= 0', 'n_folded', 0.0, 0.0),
)


def goal_verdict(goal: Goal, value: float) -> str:
    """Return the verdict on a number: missed, floor met or aim met.

    Examples
    --------
    >>> goal_verdict(GOALS[0], 0.88), goal_verdict(GOALS[0], 0.95), goal_verdict(GOALS[5], 40.0)
    ('floor met', 'aim met', 'missed')
    """
    sign = METRICS[goal.metric].better
    if goal.ideal is not None:
        sign, value = -1, round(abs(value - goal.ideal), 9)
    if sign * (value - goal.aim) >= 0:
        return 'aim met'
    return 'floor met' if sign * (value - goal.floor) >= 0 else 'missed'


def data_dictionary() -> dict[str, Any]:
    """Return the data dictionary of the table."""
    return {
        'scenario': {'Description': 'Scenario of the known-truth benchmark'},
        'strength': {
            'Description': 'Strength of the planted change',
            'Levels': {'mild': '8/15 of moderate', 'moderate': 'as named', 'strong': '25/15'},
        },
        'seed': {
            'Description': 'Seed of groups, warps, folds and trainings; "mean" is the mean over '
            'all seeds, with the smallest and the largest value as its ends'
        },
        'method': {'Description': 'Method of the maps, or classifier'},
        'classifier': {
            'Description': 'Network that is explained or measured; n/a for methods without a '
            'network.',
            'Levels': {
                'ours': 'the classifier that our simulator was trained against',
                'otherseed': 'the same with another training seed',
                'ipmi2021': 'the classifier of the preset ipmi2021',
                'sfcn': 'a network of another family, trained with the same images',
                'sham': 'ours, trained to distinguish sham-warped from untouched images',
            },
        },
        'direction': {
            'Description': 'Direction of the simulations',
            'Levels': {
                'inject': 'controls with the pattern injected',
                'remove': 'patients with the pattern removed',
                'both': 'mean of both',
            },
        },
        'metric': {
            'Description': 'Metric',
            'Levels': {
                name: f'{metric.meaning}{f" Units: {metric.units}." if metric.units else ""}'
                for name, metric in METRICS.items()
            },
        },
        'value': {'Description': 'Value of the metric'},
        'low': {'Description': 'Lower end of the interval'},
        'high': {'Description': 'Upper end of the interval'},
        'covers': {'Description': 'Meaning of the interval', 'Levels': dict(INTERVALS)},
    }


def reading_notes(setup: Mapping[str, Any], recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the notes on reading the table."""
    known = {name: recipe for one in recipes for name, recipe in one.items()}
    simulator = known['ours']['simulator']
    steps = simulator.get('template_steps', 0), simulator.get('residual_steps', 0)
    notes = [
        'Tuned on S3 with seed 0 only.',
        'Several seeds: mean (smallest to largest); pictures of the first.',
        f'{setup["n_brains"]} brains, {setup["replicates"]} images of each with random anatomies '
        f'of {setup["anatomy_mm"]:g} mm, {setup["n_folds"]} folds over brains; '
        f'per brain and class {setup["explained"]} held-out '
        'images are explained, the same for every method. Every image is interpolated once; '
        'controls have a sham warp.',
        f'Intervals: 95 %, {setup["draws"]} draws of the explained brains with replacement, with '
        'the same trained networks; gains use the same draws. They are too narrow, because other '
        'training brains give another map. The intervals of the group NCC of `tbm`, `difference` '
        f'and `exact` include the training brains: {REFITS} draws, by which these maps are fitted '
        'again.',
        'Many images of each brain cancel the differences between brains. With one image of each '
        'person, every number is lower.',
        'Saliency maps are scored without sign, and smoothed or not, whichever is better (decided '
        'with the truth). They explain the classifier that our simulator was trained against; a '
        'method that does not apply to it is left out.',
        f'Ours: classifier {_described(known["ours"]["classifier"])}; simulator '
        f'{simulator["capacity"]}, {steps[0]} + {steps[1]} steps of {simulator["batch"]} images.',
    ]
    if 'ipmi2021' in known:
        paper = known['ipmi2021']
        notes.append(
            f'ipmi2021: its own classifier, {_described(paper["classifier"])}; simulator '
            f'{paper["simulator"]["steps"]} iterations with batches of '
            f'{paper["simulator"]["batch"]} (published: 950, batches of 40).'
        )
    if 'sfcn' in known:
        judge = _described(known['sfcn']['classifier'])
        notes.append(f'Transfer: {judge}, with the same training images.')
    return [*notes, 'The planted change is a simulation, not a disease.']


def _described(classifier: Mapping[str, Any]) -> str:
    """Architecture and steps; a morphometric classifier is fitted without steps."""
    if 'steps' not in classifier:
        return str(classifier['architecture'])
    steps, batch = classifier['steps'], classifier['batch']
    return f'{classifier["architecture"]}, {steps} steps of {batch} images'
