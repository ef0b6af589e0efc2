"""Sidecars: what each kind of file is, in which units and with which sign."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypedDict

from bids_interp.constants import ANATOMY_MM, ANATOMY_SIGN, SIGN

VELOCITY_CONVENTION = (
    'Stationary velocity field for dose 1. Five-dimensional vector image (X, Y, Z, 1, 3): the '
    'three components are mm along the world axes of the template (RAS+: right, anterior, '
    'superior), not along voxel axes and not in ITK order (LPS). Tissue moves from the observed to '
    'the simulated image by exp(dose * v); images are resampled with exp(-dose * v).'
)
DISPLACEMENT_CONVENTION = (
    'Displacement field for dose 1, as the simulator of the published method (IPMI 2021) puts it '
    'out. Five-dimensional vector image (X, Y, Z, 1, 3): the three components are mm along the '
    'world axes of the template (RAS+), not in ITK order (LPS). It pulls the observed image back: '
    'simulated(x) = observed(x + dose * u(x)). Nothing keeps it from folding.'
)
TRANSFORM_CONVENTION = (
    'ITK text transform, physical coordinates in LPS mm: it resamples an image of the space after '
    '"from" onto the space after "to", and so maps points of the latter to the former.'
)
DOSE_MEANING = (
    'The simulator is trained to move the logit by the dose times the gap between the classes; '
    'the number in the file name is the dose in percent.'
)
DIRECTION_MEANING = {
    'inject': 'The pattern that the classifier takes for the positive class is added.',
    'remove': 'The pattern that the classifier takes for the positive class is taken away.',
}

#: Fields that every file of a kind has; see :func:`sidecar`.
FIELDS: dict[str, dict[str, Any]] = {
    'preproc': {
        'Description': 'T1w image in the RAS+ orientation, repaired header, bias field removed '
        "(N4); on the subject's own grid and in scanner coordinates.",
    },
    'mask': {'Description': 'Brain mask.', 'Type': 'Brain'},
    'transform': {
        'Description': 'Affine between the T1w image and the template.',
        'Convention': TRANSFORM_CONVENTION,
    },
    'template_brain': {
        'Description': 'Brain of the subject, brought to the template by an affine.',
        'SkullStripped': True,
        'Resolution': 'Isotropic voxels of 1 mm.',
    },
    'anatomy': {
        'Description': 'Local volumes of the observed brain: natural logarithm of the Jacobian '
        'determinant of the deformable registration (SyN) of the template to the brain after the '
        'affine one, on the template. Head size does not count. The group level measures with it '
        'how much of a pattern a subject shows; no classifier takes part.',
        'SkullStripped': True,
        'Resolution': f'Isotropic voxels of {ANATOMY_MM} mm.',
        'Units': '1 (natural logarithm of a ratio of volumes)',
        'Sign': ANATOMY_SIGN,
    },
    'model_input': {
        'Description': 'What the classifier saw: the brain on the grid of the model with '
        'normalised intensities.',
        'SkullStripped': True,
    },
    'simulated': {
        'Description': 'Simulated brain: the observed brain, warped so that the answer of the '
        'classifier changes. Intensities are the observed ones, moved.',
        'SkullStripped': True,
    },
    'logjacobian': {
        'Description': 'Natural logarithm of the Jacobian determinant of the deformation from the '
        'observed to the simulated image, on the grid of the observed image.',
        'SkullStripped': True,
        'Units': '1 (natural logarithm of a ratio of volumes)',
        'Sign': SIGN,
    },
    'velocity': {
        'Description': 'Velocity field of the simulation, mean over the folds used.',
        'SkullStripped': True,
        'Units': 'mm',
        'Convention': VELOCITY_CONVENTION,
    },
    'saliency': {
        'Description': 'Saliency map of the classifier, mean over the folds used, each divided by '
        'the median difference of the score between the classes. It says where the score depends '
        'on the brightness of voxels, not which structures shrink or grow; maps of different '
        'methods have different units.',
        'SkullStripped': True,
    },
    'saliency_methods': {
        'Description': 'Saliency methods that were asked for, and why some do not apply.'
    },
    'displacement': {
        'Description': 'Displacement field of the simulation, mean over the folds used.',
        'SkullStripped': True,
        'Units': 'mm',
        'Convention': DISPLACEMENT_CONVENTION,
    },
    'prediction': {
        'Description': 'Answer of the classifier to the observed image and to each simulated one, '
        'by each fold that was not trained with this subject.',
        'LogitUnits': '1 (before calibration)',
        'ProbabilityUnits': '1 (of the positive class, calibrated: sigmoid(logit / temperature))',
    },
    'dose_response': {
        'Description': 'Answer of each fold along the dose, on the grid of the model.'
    },
    'counterfactual': {'Description': 'Quality of each simulation, on the grid of the model.'},
}

_STANDARD_TEMPLATE = re.compile(
    r'^(MNI152NLin2009[abc](Sym|Asym)|MNI152NLin6(Sym|ASym|Asym)|MNI152Lin|MNI305|'
    r'MNIPediatricAsym|NIHPD|ICBM452AirSpace|ICBM452Warp5Space|IXI549Space)$'
)

#: What each kind is made of, as keys of the other outputs of the same image.
SOURCE_KINDS: dict[str, tuple[str, ...]] = {
    'preproc': ('t1w',),
    'mask': ('preproc',),
    'transform': ('preproc', 'mask'),
    'template_brain': ('preproc', 'mask', 'to_template'),
    'anatomy': ('template_brain',),
    'model_input': ('preproc', 'mask', 'to_template'),
    'velocity': ('model_input',),
    'saliency': ('model_input',),
    'saliency_methods': ('model_input',),
    'prediction': ('model_input', 'velocity'),
    'dose_response': ('model_input', 'velocity'),
    'counterfactual': ('model_input', 'velocity'),
}


def is_standard_template(space: str) -> bool:
    """Say whether BIDS knows a template by this name, so that no reference need be named.

    Examples
    --------
    >>> is_standard_template('MNI152NLin2009aSym'), is_standard_template('Mouse')
    (True, False)
    """
    return _STANDARD_TEMPLATE.match(space) is not None


def sidecar(
    kind: str,
    common: dict[str, Any],
    sources: list[str],
    *,
    direction: str | None = None,
    dose: float | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Write down what one file is.

    Parameters
    ----------
    kind : str
        One of :data:`FIELDS`.
    common : dict
        Of :func:`bids_interp.bids.write.provenance.common_fields`.
    sources : list of str
        BIDS URIs.
    direction : {'inject', 'remove'}, optional
        Direction of a simulation.
    dose : float, optional
        Its dose, positive.
    **fields
        More fields of this file; None leaves one out.

    Returns
    -------
    dict
        Content of the sidecar. For a table, descriptions of its columns are in it.
    """
    content = {**FIELDS[kind], 'Sources': sources}
    if direction is not None:
        content |= {'Direction': direction, 'DirectionMeaning': DIRECTION_MEANING[direction]}
    if dose is not None:
        content |= {'Dose': dose, 'DoseMeaning': DOSE_MEANING}
    content |= {key: value for key, value in fields.items() if value is not None}
    return {**content, **common, **COLUMNS.get(kind, {})}


class Column(TypedDict, total=False):
    """A column of a table, as data dictionaries of BIDS describe it."""

    Description: str
    Units: str
    Levels: Mapping[str, str]


def _column(description: str, units: str | None = None, **levels: str) -> Column:
    column: Column = {'Description': description}
    if units:
        column['Units'] = units
    if levels:
        column['Levels'] = levels
    return column


_SIMULATION = {
    'direction': _column(
        'Direction of the simulation.', **DIRECTION_MEANING, none='The observed image.'
    ),
    'dose': _column('Dose of the simulation; 0 is the observed image. ' + DOSE_MEANING, '1'),
}
_SHIFT = {
    'probability': _column('Calibrated probability of the positive class.', '1'),
    'shift': _column('Logit of the simulated minus logit of the observed image.', '1'),
    'shift_over_class_gap': _column(
        'The shift divided by the median logit difference of the classes on subjects that the '
        'classifier was not trained with.',
        '1',
    ),
}

#: Data dictionaries of the tables.
COLUMNS: dict[str, dict[str, Column]] = {
    'dose_response': {
        **_SIMULATION,
        'fold': _column('Number of the fold whose classifier answers, from 0.'),
        'logit': _column('Logit of the positive class, before calibration.', '1'),
        **_SHIFT,
    },
    'counterfactual': {
        **_SIMULATION,
        **_SHIFT,
        'flipped': _column(
            'Whether the probability of the simulated image, mean over the folds, lies on the side '
            'of one half that the direction asks for.'
        ),
        'dose_monotonicity': _column(
            'Share of consecutive doses, from the observed image to the largest dose, between '
            'which the logit, mean over the folds, moves the way that the direction asks for.',
            '1',
        ),
        'transfer_shift_over_class_gap': _column(
            'Shift over class gap when the simulation of each fold alone is judged by the '
            'classifiers of the other folds, mean over all pairs. n/a where only one fold may '
            'explain the subject. Classifiers of one kind agree easily, also on wrong '
            'simulations: a low value tells more than a high one.',
            '1',
        ),
        'transfer_flipped': _column(
            'Share of the simulations of single folds after which the other folds, in the mean, '
            'are on the side that the direction asks for; n/a where only one fold may explain '
            'the subject.',
            '1',
        ),
        'n_folded': _column('Voxels whose Jacobian determinant is not positive.', 'voxels'),
        'digital_folding_mm3': _column(
            'Volume in which any of the one-sided differences folds (digital diffeomorphism).',
            'mm^3',
        ),
        'mean_abs_log_jacobian': _column('Mean |log-Jacobian| in the brain.', '1'),
        'log_jacobian_p01': _column('First percentile of the log-Jacobian in the brain.', '1'),
        'log_jacobian_p99': _column('99th percentile of the log-Jacobian in the brain.', '1'),
        'displacement_max_mm': _column('Longest displacement in the brain.', 'mm'),
        'minimality_mm': _column('Mean length of the displacement in the brain.', 'mm'),
        'reversibility_rmse': _column(
            'Root mean square difference between the input and the input warped there and back, '
            'in the brain, in units of the normalised input.',
            '1',
        ),
        'composition_rmse_mm': _column(
            'Half the dose twice against the whole dose at once: root mean square distance of '
            'the two displacements in the brain. The simulator sees the half simulated image '
            'before the second half, so only a simulator that does not look at the image can '
            'come to 0 (up to interpolation).',
            'mm',
        ),
        'identity_error': _column(
            'Largest difference between the input and its simulation at dose 0, in units of the '
            'normalised input; 0 is right.',
            '1',
        ),
        'realism_z': _column(
            'Root mean square z value of the mean intensities of the simulated image in cubes of '
            'template space, against mean and standard deviation over the training images. About '
            '1 is usual. n/a where the model does not hold these statistics.',
            '1',
        ),
        'realism_z_observed': _column('The same of the observed image, to compare with.', '1'),
    },
}
