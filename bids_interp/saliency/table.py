"""The table of saliency methods: what each measures, and its sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bids_interp.saliency.methods import (
    Request,
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
    """One saliency method.

    Parameters
    ----------
    title : str
        Name for people.
    kind : {'gradient', 'attribution', 'activation', 'product'}
        What is measured.
    sign : str
        What positive and negative values mean.
    units : str
        Of the mean over folds, where each map is divided by the class gap.
    run : callable
        Request to map (1, 1, X, Y, Z).
    compared : bool
        Whether the image is compared with the baseline.
    complete : bool
        Whether the map should add up to the difference of the scores of image and baseline.
    """

    title: str
    kind: str
    sign: str
    units: str
    run: Callable[[Request], torch.Tensor]
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
        _BRIGHTNESS + '; only positive gradients pass a ReLU backwards, also where it was closed',
        GRADIENT_UNITS,
        deconvolution,
    ),
    'gradcam': Method(
        'Grad-CAM',
        'activation',
        'positive = features at this place raise the score; negative = they lower it',
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
