"""Table of saliency methods, with the quantity and sign of each map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bids_interp.saliency.captum_methods import (
    SaliencyRequest,
    deconvolution,
    deep_lift,
    grad_cam,
    gradient,
    gradient_shap,
    guided_backprop,
    guided_grad_cam,
    input_x_gradient,
    integrated_gradients,
    occlusion,
    smooth_gradient,
)

_BRIGHTNESS = 'positive = a brighter voxel raises the score; negative = a brighter voxel lowers it'
_SHARE = 'positive = the voxel raises the score, compared with the baseline; negative = lowers it'
GRADIENT_UNITS = 'class gap / unit of normalised intensity'
SCORE_UNITS = 'class gap'


@dataclass(frozen=True)
class Method:
    """Saliency method.

    Parameters
    ----------
    title : str
        Display name.
    kind : {'gradient', 'attribution', 'activation', 'product'}
        Measured quantity.
    sign : str
        Meaning of positive and negative values.
    units : str
        Units of the mean over folds, after division by the class gap.
    run : callable
        Function from SaliencyRequest to map (1, 1, X, Y, Z).
    compared : bool
        Whether the image is compared with the baseline.
    complete : bool
        Whether the map should add up to the score difference between image and baseline.
    """

    title: str
    kind: str
    sign: str
    units: str
    run: Callable[[SaliencyRequest], torch.Tensor]
    compared: bool = False
    complete: bool = False


METHODS: dict[str, Method] = {
    'gradient': Method('Gradient', 'gradient', _BRIGHTNESS, GRADIENT_UNITS, gradient),
    'inputxgradient': Method(
        'Input x gradient', 'attribution', _SHARE, SCORE_UNITS, input_x_gradient
    ),
    'integratedgradients': Method(
        'Integrated gradients',
        'attribution',
        _SHARE,
        SCORE_UNITS,
        integrated_gradients,
        compared=True,
        complete=True,
    ),
    'smoothgrad': Method('SmoothGrad', 'gradient', _BRIGHTNESS, GRADIENT_UNITS, smooth_gradient),
    'guidedbackprop': Method(
        'Guided backpropagation',
        'gradient',
        _BRIGHTNESS + '; only positive gradients pass a ReLU backwards',
        GRADIENT_UNITS,
        guided_backprop,
    ),
    'deconvolution': Method(
        'Deconvolution',
        'gradient',
        _BRIGHTNESS + '; only positive gradients pass a ReLU backwards, even an inactive one',
        GRADIENT_UNITS,
        deconvolution,
    ),
    'gradcam': Method(
        'Grad-CAM',
        'activation',
        'positive = features at this location raise the score; negative = they lower it',
        SCORE_UNITS,
        grad_cam,
    ),
    'guidedgradcam': Method(
        'Guided Grad-CAM',
        'product',
        'guided backpropagation times the positive part of Grad-CAM; ' + _BRIGHTNESS,
        'logit^2 / class gap / unit of normalised intensity',
        guided_grad_cam,
    ),
    'deeplift': Method(
        'DeepLift',
        'attribution',
        _SHARE,
        SCORE_UNITS,
        deep_lift,
        compared=True,
        complete=True,
    ),
    'gradientshap': Method(
        'GradientShap', 'attribution', _SHARE, SCORE_UNITS, gradient_shap, compared=True
    ),
    'occlusion': Method(
        'Occlusion',
        'attribution',
        'positive = the score falls when the surroundings of the voxel are replaced by the '
        'baseline; negative = it rises',
        SCORE_UNITS,
        occlusion,
        compared=True,
    ),
}
