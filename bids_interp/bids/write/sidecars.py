"""Sidecars: description, units and sign convention of each kind of file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypedDict

from bids_interp.constants import ANATOMY_MM, ANATOMY_SIGN, SIGN, VOLUME_SHARE_FLOOR

VELOCITY_CONVENTION = (
    'Stationary velocity field for dose 1. Five-dimensional vector image (X, Y, Z, 1, 3): the '
    'three components are mm along the world axes of the template (RAS+: right, anterior, '
    'superior), not along voxel axes and not in ITK order (LPS). Tissue moves from the observed to '
    'the simulated image by exp(dose * v); images are resampled with exp(-dose * v).'
)
DISPLACEMENT_CONVENTION = (
    'Displacement field for dose 1, as given by the simulator of the published method (IPMI 2021). '
    'Five-dimensional vector image (X, Y, Z, 1, 3): the three components are mm along the '
    'world axes of the template (RAS+), not in ITK order (LPS). It resamples the observed image: '
    'simulated(x) = observed(x + dose * u(x)). It may fold.'
)
TRANSFORM_CONVENTION = (
    'ITK text transform, physical coordinates in LPS mm. It resamples an image from the space '
    'after "from" onto the space after "to", and thus maps points of the latter to the former.'
)
RESAMPLED_CONVENTION = (
    'Resampled from the template of the model: each voxel has the value of that template at the '
    'corresponding point, by linear interpolation. A log-Jacobian still is the change of volume '
    'from the observed to the simulated image; differences between the templates are not added.'
)
DOSE_MEANING = (
    'The simulator is trained to move the logit by the dose times the class gap. '
    'The number in the file name is the dose in percent.'
)
DIRECTION_MEANING = {
    'inject': 'The pattern that the classifier associates with the positive class is added.',
    'remove': 'The pattern that the classifier associates with the positive class is removed.',
}

#: Fixed fields of each kind of file; see :func:`build_sidecar`.
FIELDS: dict[str, dict[str, Any]] = {
    'preproc': {
        'Description': 'T1w image in RAS+ orientation, with repaired header and bias field '
        "correction (N4), on the subject's own grid in scanner coordinates.",
    },
    'mask': {'Description': 'Brain mask.', 'Type': 'Brain'},
    'transform': {
        'Description': 'Affine between the T1w image and the template.',
        'Convention': TRANSFORM_CONVENTION,
    },
    'template_brain': {
        'Description': 'Brain of the subject, registered to the template by an affine transform; 0 '
        'outside the brain mask.',
        'SkullStripped': True,
        'Resolution': 'Isotropic voxels of 1 mm.',
    },
    'template_mask': {
        'Description': 'Brain mask of the subject, registered to the template by the same affine '
        'transform.',
        'Type': 'Brain',
        'Resolution': 'Isotropic voxels of 1 mm.',
    },
    'anatomy': {
        'Description': 'Local volumes of the observed brain: natural logarithm of the Jacobian '
        'determinant of the deformable registration (SyN) of the template to the affinely aligned '
        'brain, on the template. Independent of head size and of any classifier. The group level '
        'uses it to measure how much of a pattern a subject shows.',
        'SkullStripped': True,
        'Resolution': f'Isotropic voxels of {ANATOMY_MM} mm.',
        'Units': '1 (natural logarithm of a ratio of volumes)',
        'Sign': ANATOMY_SIGN,
    },
    'model_input': {
        'Description': 'Input of the classifier: the brain on the grid of the model with '
        'normalised intensities.',
        'SkullStripped': True,
    },
    'simulated': {
        'Description': 'Simulated brain: the observed brain, warped so that the output of the '
        'classifier changes. Intensities are resampled, not altered. 0 outside the brain mask, '
        'which was warped in the same way.',
        'SkullStripped': True,
    },
    'logjacobian': {
        'Description': 'Natural logarithm of the Jacobian determinant of the deformation from the '
        'observed to the simulated image, on the grid of the observed image; 0 outside its brain '
        'mask.',
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
        'Description': 'Saliency map of the classifier: mean over the folds used, each divided by '
        'its class gap. It shows where the score depends on voxel intensities, not which '
        'structures shrink or grow. Maps of different methods have different units.',
        'SkullStripped': True,
    },
    'saliency_methods': {'Description': 'Requested saliency methods, and why some do not apply.'},
    'displacement': {
        'Description': 'Displacement field of the simulation, mean over the folds used.',
        'SkullStripped': True,
        'Units': 'mm',
        'Convention': DISPLACEMENT_CONVENTION,
    },
    'prediction': {
        'Description': 'Output of the classifier for the observed and each simulated image, '
        'from each fold that was not trained with this subject.',
        'LogitUnits': '1 (before calibration)',
        'ProbabilityUnits': '1 (of the positive class, calibrated: '
        'sigmoid(logit / temperature + intercept))',
    },
    'dose_response': {
        'Description': 'Output of each fold as a function of dose, on the grid of the model.'
    },
    'counterfactual': {'Description': 'Quality of each simulation, on the grid of the model.'},
    'regions': {
        'Description': 'Volume of each region of an atlas in the scan and in its simulations, in '
        'native space. Voxels outside the brain mask count as unchanged.',
    },
    'remeasured': {
        'Description': 'Volume change of coarse regions of MNI space at dose 1: claimed by the '
        'log-Jacobian map, and measured again by a registration of the scan to the simulated image '
        f'(SyN, local correlation, {ANATOMY_MM} mm), which does not know the model.',
    },
}

_STANDARD_TEMPLATE = re.compile(
    r'^(MNI152NLin2009[abc](Sym|Asym)|MNI152NLin6(Sym|ASym|Asym)|MNI152Lin|MNI305|'
    r'MNIPediatricAsym|NIHPD|ICBM452AirSpace|ICBM452Warp5Space|IXI549Space)$'
)

#: Sources of each kind, as keys of the other outputs of the same image.
SOURCE_KINDS: dict[str, tuple[str, ...]] = {
    'preproc': ('t1w',),
    'mask': ('preproc',),
    'transform': ('preproc', 'mask'),
    'template_brain': ('preproc', 'mask', 'to_template'),
    'template_mask': ('mask', 'to_template'),
    'anatomy': ('template_brain',),
    'model_input': ('preproc', 'mask', 'to_template'),
    'velocity': ('model_input',),
    'saliency': ('model_input',),
    'saliency_methods': ('model_input',),
    'prediction': ('model_input', 'velocity'),
    'dose_response': ('model_input', 'velocity'),
    'counterfactual': ('model_input', 'velocity'),
    'regions': ('mask', 'to_template', 'velocity'),
    'remeasured': ('template_brain', 'template_mask', 'velocity'),
}


def is_standard_template(space: str) -> bool:
    """Return whether BIDS defines a template of this name, so that no reference is needed.

    Examples
    --------
    >>> is_standard_template('MNI152NLin2009aSym'), is_standard_template('Mouse')
    (True, False)
    """
    return _STANDARD_TEMPLATE.match(space) is not None


def build_sidecar(
    kind: str,
    common: dict[str, Any],
    sources: list[str],
    *,
    direction: str | None = None,
    dose: float | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return the content of the sidecar of one file.

    Parameters
    ----------
    kind : str
        One of :data:`FIELDS`.
    common : dict
        Fields from :func:`bids_interp.bids.write.provenance.common_fields`.
    sources : list of str
        BIDS URIs.
    direction : {'inject', 'remove'}, optional
        Direction of the simulation.
    dose : float, optional
        Dose of the simulation, positive.
    **fields
        Additional fields; those that are None are omitted.

    Returns
    -------
    dict
        Content of the sidecar; for a table it includes the column descriptions.
    """
    content = {**FIELDS[kind], 'Sources': sources}
    if direction is not None:
        content |= {'Direction': direction, 'DirectionMeaning': DIRECTION_MEANING[direction]}
    if dose is not None:
        content |= {'Dose': dose, 'DoseMeaning': DOSE_MEANING}
    content |= {key: value for key, value in fields.items() if value is not None}
    return {**content, **common, **COLUMNS.get(kind, {})}


class Column(TypedDict, total=False):
    """Entry of a column in a BIDS data dictionary."""

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
    'dose': _column('Dose of the simulation; 0 for the observed image. ' + DOSE_MEANING, '1'),
}
_SHIFT = {
    'probability': _column('Calibrated probability of the positive class.', '1'),
    'shift': _column('Logit of the simulated image minus logit of the observed image.', '1'),
    'shift_over_class_gap': _column(
        'Shift divided by the class gap: the difference between the median logits of the classes '
        'on subjects that the classifier was not trained with.',
        '1',
    ),
}

_RELATIVE = 'Volume in the simulated image minus volume in the scan, divided by the latter'
#: Data dictionaries of the tables.
COLUMNS: dict[str, dict[str, Column]] = {
    'dose_response': {
        **_SIMULATION,
        'fold': _column('Number of the fold of the classifier, from 0.'),
        'logit': _column('Logit of the positive class, before calibration.', '1'),
        **_SHIFT,
    },
    'counterfactual': {
        **_SIMULATION,
        **_SHIFT,
        'flipped': _column(
            'Whether the probability of the simulated image, averaged over folds, is on the side '
            'of 0.5 that the direction aims at.'
        ),
        'dose_monotonicity': _column(
            'Share of steps between consecutive doses, from the observed image to the largest '
            'dose, in which the logit, averaged over folds, moves in the intended direction.',
            '1',
        ),
        'transfer_shift_over_class_gap': _column(
            'Shift over class gap when the classifiers of the other folds evaluate the simulation '
            'of each single fold, averaged over all pairs. n/a if only one fold may explain the '
            'subject. Classifiers of one architecture tend to agree, even on wrong simulations, so '
            'a low value is more informative than a high one.',
            '1',
        ),
        'transfer_flipped': _column(
            'Share of single-fold simulations after which the mean probability of the other folds '
            'is on the side that the direction aims at. n/a if only one fold may explain the '
            'subject.',
            '1',
        ),
        'volume_share': _column(
            'Change of the logit, averaged over folds, by the curl-free part of the simulation at '
            'dose 1, divided by the change by the whole simulation. Only this part is volume '
            f'change, which the log-Jacobian shows. It should be {VOLUME_SHARE_FLOOR} or more. n/a '
            'if the logit does not change.',
            '1',
        ),
        'n_folded': _column(
            'Number of voxels whose Jacobian determinant is not positive.', 'voxels'
        ),
        'digital_folding_mm3': _column(
            'Volume in which any one-sided difference folds (digital diffeomorphism).',
            'mm^3',
        ),
        'mean_abs_log_jacobian': _column('Mean |log-Jacobian| in the brain.', '1'),
        'log_jacobian_p01': _column('First percentile of the log-Jacobian in the brain.', '1'),
        'log_jacobian_p99': _column('99th percentile of the log-Jacobian in the brain.', '1'),
        'displacement_max_mm': _column('Maximum length of the displacement in the brain.', 'mm'),
        'minimality_mm': _column('Mean length of the displacement in the brain.', 'mm'),
        'reversibility_rmse': _column(
            'Root mean square difference in the brain between the input and the input after the '
            'warp and its inverse, in units of the normalised input.',
            '1',
        ),
        'composition_rmse_mm': _column(
            'Root mean square distance in the brain between the displacement of half the dose '
            'applied twice and of the full dose. The second half starts from the simulated image, '
            'so only a simulator that ignores the image can reach 0 (up to interpolation).',
            'mm',
        ),
        'identity_error': _column(
            'Largest difference between the input and its simulation at dose 0, in units of the '
            'normalised input; it should be 0.',
            '1',
        ),
        'realism_z': _column(
            'Root mean square z value of the mean intensities in cubes of template space, '
            'relative to mean and standard deviation over the training images. Values near 1 are '
            'typical. n/a if the model does not contain these statistics.',
            '1',
        ),
        'realism_z_observed': _column('The same for the observed image, as a reference.', '1'),
    },
    'regions': {
        **_SIMULATION,
        'index': _column('Label of the region in the atlas.'),
        'region': _column('Name of the region.'),
        'side': _column('Side of the region: left, right or midline.'),
        'volume_mm3': _column('Volume in the scan.', 'mm^3'),
        'simulated_mm3': _column(
            'Volume in the simulated image: the sum of exp(log-Jacobian) over the voxels of the '
            'region times their volume.',
            'mm^3',
        ),
        'logj': _column('Mean log-Jacobian.', '1'),
        'pct': _column(f'{_RELATIVE}.', 'percent'),
    },
    'remeasured': {
        **_SIMULATION,
        'region': _column('Name of the region.'),
        'side': _column('Side of the region: left, right or midline.'),
        'claimed_pct': _column(f'{_RELATIVE}, according to the log-Jacobian map.', 'percent'),
        'remeasured_pct': _column(
            f'{_RELATIVE}, according to the registration; n/a if it failed.', 'percent'
        ),
    },
}
