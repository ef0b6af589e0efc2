"""The saliency methods, computed by Captum [1]_, and when each of them applies.

.. [1] Kokhlikyan et al., Captum: A unified and generic model interpretability library for PyTorch,
   arXiv:2009.07896, 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bids_interp.evaluation.saliency_probe import DEEPLIFT_LAYERS, Probe
from bids_interp.spatial import Grid

#: Points of a path, and noisy copies of the image, that one map averages over.
STEPS = 32
SAMPLES = 16
#: Noise of SmoothGrad as a share of the range of the image (Smilkov et al., arXiv:1706.03825).
NOISE = 0.15
#: Images that are in memory at once.
BATCH = 4
#: Edge of the cube that is occluded, and the distance between cubes, in mm.
WINDOW_MM = 24.0
STRIDE_MM = 12.0

_BRIGHTNESS = 'positive = a brighter voxel raises the score; negative = a brighter voxel lowers it'
_SHARE = 'positive = the voxel raises the score, compared with the baseline; negative = lowers it'
GRADIENT_UNITS = 'class gap / unit of normalised intensity'
SCORE_UNITS = 'class gap'


@dataclass(frozen=True)
class Request:
    """What a map is made of.

    Parameters
    ----------
    score : torch.nn.Module
        Maps (B, 1, X, Y, Z) to (B,).
    image, baseline : torch.Tensor
        (1, 1, X, Y, Z).
    grid : Grid
        Their grid.
    layer : torch.nn.Module, optional
        Layer of Grad-CAM.
    """

    score: nn.Module
    image: torch.Tensor
    baseline: torch.Tensor
    grid: Grid
    layer: nn.Module | None


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
    misfit : callable
        Probe to the reason why the method does not apply; empty where it does.
    """

    title: str
    kind: str
    sign: str
    units: str
    run: Callable[[Request], torch.Tensor]
    compared: bool = False
    complete: bool = False
    misfit: Callable[[Probe], str] = lambda probe: ''


def _gradient(request: Request) -> torch.Tensor:
    from captum.attr import Saliency

    return Saliency(request.score).attribute(request.image, abs=False)


def _input_x_gradient(request: Request) -> torch.Tensor:
    from captum.attr import InputXGradient

    return InputXGradient(request.score).attribute(request.image)


def _integrated_gradients(request: Request) -> torch.Tensor:
    from captum.attr import IntegratedGradients

    return IntegratedGradients(request.score).attribute(
        request.image, baselines=request.baseline, n_steps=STEPS, internal_batch_size=BATCH
    )


def _smooth_gradient(request: Request) -> torch.Tensor:
    from captum.attr import NoiseTunnel, Saliency

    spread = NOISE * float(request.image.max() - request.image.min())
    return NoiseTunnel(Saliency(request.score)).attribute(
        request.image,
        nt_type='smoothgrad',
        nt_samples=SAMPLES,
        nt_samples_batch_size=BATCH,
        stdevs=spread,
        abs=False,
    )


def _guided_backprop(request: Request) -> torch.Tensor:
    from captum.attr import GuidedBackprop

    return GuidedBackprop(request.score).attribute(request.image)


def _deconvolution(request: Request) -> torch.Tensor:
    from captum.attr import Deconvolution

    return Deconvolution(request.score).attribute(request.image)


def _grad_cam(request: Request) -> torch.Tensor:
    from captum.attr import LayerAttribution, LayerGradCam

    coarse = LayerGradCam(request.score, request.layer).attribute(request.image)
    return LayerAttribution.interpolate(coarse, tuple(request.image.shape[2:]), 'trilinear')


def _guided_grad_cam(request: Request) -> torch.Tensor:
    from captum.attr import GuidedGradCam

    return GuidedGradCam(request.score, request.layer).attribute(
        request.image, interpolate_mode='trilinear'
    )


def _deep_lift(request: Request) -> torch.Tensor:
    from captum.attr import DeepLift

    # Captum 0.9 takes a stale gradient where two layers of its list follow each other, such as ELU
    # and pooling (its issue 1104); a copy of the tensor between them gives each its own.
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: inputs[0].clone())
        for layer in request.score.modules()
        if isinstance(layer, DEEPLIFT_LAYERS)
    ]
    try:
        return DeepLift(request.score).attribute(request.image, baselines=request.baseline)
    finally:
        for hook in hooks:
            hook.remove()


def _gradient_shap(request: Request) -> torch.Tensor:
    from captum.attr import GradientShap

    # Captum would put all samples into one batch.
    parts = [
        GradientShap(request.score).attribute(
            request.image, baselines=request.baseline, n_samples=BATCH, stdevs=0.0
        )
        for _ in range(SAMPLES // BATCH)
    ]
    return torch.stack(parts).mean(dim=0)


class _Cropped(nn.Module):
    """The score of a box of the image; outside, the image stays as it is."""

    def __init__(self, score: nn.Module, image: torch.Tensor, box: tuple[slice, ...]) -> None:
        super().__init__()
        self.score, self.image, self.box = score, image, box

    def forward(self, part: torch.Tensor) -> torch.Tensor:
        whole = self.image.repeat(len(part), 1, 1, 1, 1)
        whole[(slice(None), slice(None), *self.box)] = part
        return self.score(whole)


def _occlusion(request: Request) -> torch.Tensor:
    """Occlude cubes where image and baseline differ; elsewhere nothing would change."""
    from captum.attr import Occlusion

    total = torch.zeros_like(request.image)
    places = torch.nonzero((request.image != request.baseline)[0, 0])
    if not len(places):
        return total
    starts, ends = places.amin(dim=0).tolist(), (places.amax(dim=0) + 1).tolist()
    box = tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))
    inside = (slice(None), slice(None), *box)
    window, stride = (
        tuple(
            int(np.clip(round(size / step), 1, end - start))
            for step, start, end in zip(request.grid.spacing, starts, ends, strict=True)
        )
        for size in (WINDOW_MM, STRIDE_MM)
    )
    total[inside] = Occlusion(_Cropped(request.score, request.image, box)).attribute(
        request.image[inside].contiguous(),
        sliding_window_shapes=(1, *window),
        strides=(1, *stride),
        baselines=request.baseline[inside].contiguous(),
        perturbations_per_eval=2 * BATCH,
    )
    return total


def _without_features(probe: Probe) -> str:
    return '' if probe.feature_layer() else 'the network has no convolution layer to look at'


def _without_both(probe: Probe) -> str:
    return probe.without_relu() or _without_features(probe)


METHODS: dict[str, Method] = {
    'gradient': Method('Gradient', 'gradient', _BRIGHTNESS, GRADIENT_UNITS, _gradient),
    'inputxgradient': Method(
        'Input x gradient', 'attribution', _SHARE, SCORE_UNITS, _input_x_gradient
    ),
    'integratedgradients': Method(
        'Integrated gradients',
        'attribution',
        _SHARE,
        SCORE_UNITS,
        _integrated_gradients,
        compared=True,
        complete=True,
    ),
    'smoothgrad': Method('SmoothGrad', 'gradient', _BRIGHTNESS, GRADIENT_UNITS, _smooth_gradient),
    'guidedbackprop': Method(
        'Guided backpropagation',
        'gradient',
        _BRIGHTNESS + '; only positive gradients pass a ReLU backwards',
        GRADIENT_UNITS,
        _guided_backprop,
        misfit=Probe.without_relu,
    ),
    'deconvolution': Method(
        'Deconvolution',
        'gradient',
        _BRIGHTNESS + '; only positive gradients pass a ReLU backwards, also where it was closed',
        GRADIENT_UNITS,
        _deconvolution,
        misfit=Probe.without_single_relu,
    ),
    'gradcam': Method(
        'Grad-CAM',
        'activation',
        'positive = features at this place raise the score; negative = they lower it',
        SCORE_UNITS,
        _grad_cam,
        misfit=_without_features,
    ),
    'guidedgradcam': Method(
        'Guided Grad-CAM',
        'product',
        'guided backpropagation times the positive part of Grad-CAM; ' + _BRIGHTNESS,
        'logit^2 / class gap / unit of normalised intensity',
        _guided_grad_cam,
        misfit=_without_both,
    ),
    'deeplift': Method(
        'DeepLift',
        'attribution',
        _SHARE,
        SCORE_UNITS,
        _deep_lift,
        compared=True,
        complete=True,
        misfit=Probe.without_deeplift_rule,
    ),
    'gradientshap': Method(
        'GradientShap', 'attribution', _SHARE, SCORE_UNITS, _gradient_shap, compared=True
    ),
    'occlusion': Method(
        'Occlusion',
        'attribution',
        'positive = the score falls when the surroundings of the voxel are replaced by the '
        'baseline; negative = it rises',
        SCORE_UNITS,
        _occlusion,
        compared=True,
    ),
}
