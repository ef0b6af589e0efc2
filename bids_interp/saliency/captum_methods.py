"""Captum's saliency methods [1]_.

.. [1] Kokhlikyan et al., Captum: A unified and generic model interpretability library for PyTorch,
   arXiv:2009.07896, 2020.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bids_interp.errors import ModelError
from bids_interp.saliency.layers import feature_layers, layer_calls
from bids_interp.spatial import Grid

#: Number of points of a path, and of noisy copies of the image, per map.
STEPS = 32
SAMPLES = 16
#: Noise of SmoothGrad as a share of the intensity range (Smilkov et al., arXiv:1706.03825).
NOISE = 0.15
#: Number of images per batch.
BATCH = 4
#: Edge of the occluded cubes and default distance between them, in mm.
WINDOW_MM = 24.0
STRIDE_MM = 12.0
#: Largest difference between equal maps, as a share of the largest value.
SAME = 1e-4
#: Accepted completeness error, as a share of the sum of absolute values of the map.
COMPLETE = 1e-3
#: Layers whose gradient Captum's DeepLift replaces (``captum.attr._core.deep_lift``).
DEEPLIFT_LAYERS = (
    nn.ReLU,
    nn.ELU,
    nn.LeakyReLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.Softmax,
)


class SaliencyUnsupported(ModelError):
    """Saliency method that does not apply to a network.

    Attributes
    ----------
    message : str
        Reason, without the name of the method.
    """

    default_advice = ''


@dataclass(frozen=True)
class SaliencyRequest:
    """Network, image and settings of a saliency map.

    Parameters
    ----------
    score : torch.nn.Module
        Network from (B, 1, X, Y, Z) to (B,).
    image, baseline : torch.Tensor
        (1, 1, X, Y, Z) images.
    grid : Grid
        Grid of the images.
    stride_mm : float
        Distance between the cubes of occlusion.
    target_layer : torch.nn.Module, optional
        Layer of Grad-CAM [default: last convolution with its normalisation and activation].
    """

    score: nn.Module
    image: torch.Tensor
    baseline: torch.Tensor
    grid: Grid
    stride_mm: float = STRIDE_MM
    target_layer: nn.Module | None = None

    def feature_layers(self) -> list[nn.Module]:
        """Return the layers of Grad-CAM, whose maps are added."""
        layers = [self.target_layer] if self.target_layer else []
        layers = layers or feature_layers(self.score, self.image)
        if not layers:
            raise SaliencyUnsupported('the network has no suitable convolution layer')
        return layers

    def difference(self) -> float:
        """Return the score of the image minus the score of the baseline."""
        with torch.no_grad():
            return float(self.score(self.image)) - float(self.score(self.baseline))


def gradient(request: SaliencyRequest) -> torch.Tensor:
    """Gradient of the score, signed."""
    from captum.attr import Saliency

    return Saliency(request.score).attribute(request.image, abs=False)


def input_x_gradient(request: SaliencyRequest) -> torch.Tensor:
    """Gradient times image."""
    from captum.attr import InputXGradient

    return InputXGradient(request.score).attribute(request.image)


def integrated_gradients(request: SaliencyRequest) -> torch.Tensor:
    """Gradients along the straight path from the baseline, times the difference."""
    from captum.attr import IntegratedGradients

    return IntegratedGradients(request.score).attribute(
        request.image, baselines=request.baseline, n_steps=STEPS, internal_batch_size=BATCH
    )


def smooth_gradient(request: SaliencyRequest) -> torch.Tensor:
    """Mean gradient under noise."""
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


def guided_backprop(request: SaliencyRequest) -> torch.Tensor:
    """Gradient with only positive parts at each ReLU."""
    from captum.attr import GuidedBackprop

    return _need_relu(request, GuidedBackprop(request.score).attribute(request.image))


def deconvolution(request: SaliencyRequest) -> torch.Tensor:
    """Gradient with only positive parts at each ReLU, also through inactive ReLUs."""
    from captum.attr import Deconvolution

    _need_single_calls(request, (nn.ReLU,))
    return _need_relu(request, Deconvolution(request.score).attribute(request.image))


def grad_cam(request: SaliencyRequest) -> torch.Tensor:
    """Features of the last convolution, weighted by their mean gradient."""
    return _grad_cam(request, positive=False)


def guided_grad_cam(request: SaliencyRequest) -> torch.Tensor:
    """Guided backpropagation times the positive part of Grad-CAM."""
    return guided_backprop(request) * _grad_cam(request, positive=True)


def _grad_cam(request: SaliencyRequest, positive: bool) -> torch.Tensor:
    """Sum of the Grad-CAM maps of the ensemble members, or of their positive parts."""
    from captum.attr import LayerAttribution, LayerGradCam

    maps = [
        LayerGradCam(request.score, layer).attribute(request.image, relu_attributions=positive)
        for layer in request.feature_layers()
    ]
    size = tuple(request.image.shape[2:])
    return LayerAttribution.interpolate(torch.stack(maps).sum(dim=0), size, 'trilinear')


def deep_lift(request: SaliencyRequest) -> torch.Tensor:
    """DeepLift with the rescale rule."""
    from captum.attr import DeepLift

    _need_single_calls(request, DEEPLIFT_LAYERS)
    # Captum 0.9 uses a stale gradient if two layers of its list follow each other, such as ELU and
    # pooling (pytorch/captum#1104). Copying the tensor between them avoids this.
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: inputs[0].clone())
        for layer in request.score.modules()
        if isinstance(layer, DEEPLIFT_LAYERS)
    ]
    try:
        found = DeepLift(request.score).attribute(request.image, baselines=request.baseline)
    finally:
        for hook in hooks:
            hook.remove()
    found = found.detach()
    plain = gradient(request) * (request.image - request.baseline)
    error = abs(float(found.sum()) - request.difference())
    if _same(found, plain) and error > COMPLETE * float(found.abs().sum()):
        raise SaliencyUnsupported(
            'DeepLift has no rule for the non-linear layers of the network, so that the map is the '
            'plain gradient times the difference'
        )
    return found


def _need_relu(request: SaliencyRequest, found: torch.Tensor) -> torch.Tensor:
    """Refuse a map that equals the plain gradient.

    Captum replaces the gradient of ``torch.nn.ReLU`` layers alone, and does nothing without them.
    """
    if _same(found, gradient(request)):
        raise SaliencyUnsupported('the network has no ReLU layers, so the map is a plain gradient')
    return found


def _same(found: torch.Tensor, plain: torch.Tensor) -> bool:
    return float((found - plain).abs().max()) <= SAME * float(plain.abs().max())


def _need_single_calls(request: SaliencyRequest, kinds: tuple[type[nn.Module], ...]) -> None:
    """Refuse a network that calls a layer twice, because Captum may confuse the calls."""
    calls = Counter(layer for layer, _ in layer_calls(request.score, request.image))
    if any(number > 1 for layer, number in calls.items() if isinstance(layer, kinds)):
        raise SaliencyUnsupported('the network uses one activation layer several times')


def gradient_shap(request: SaliencyRequest) -> torch.Tensor:
    """Gradients at random points of the path from the baseline, times the difference."""
    from captum.attr import GradientShap

    # In parts, because Captum puts all samples into one batch.
    parts = [
        GradientShap(request.score).attribute(
            request.image, baselines=request.baseline, n_samples=BATCH, stdevs=0.0
        )
        for _ in range(SAMPLES // BATCH)
    ]
    return torch.stack(parts).mean(dim=0)


class _Cropped(nn.Module):
    """Score of an image of which only a box is changed."""

    def __init__(self, score: nn.Module, image: torch.Tensor, box: tuple[slice, ...]) -> None:
        super().__init__()
        self.score, self.image, self.box = score, image, box
        with torch.no_grad():
            self.own = score(image)

    def forward(self, part: torch.Tensor) -> torch.Tensor:
        inside = (slice(None), slice(None), *self.box)
        # Many cubes contain only background and do not change the score.
        changed = (part != self.image[inside]).flatten(1).any(dim=1)
        answers = self.own.repeat(len(part))
        if changed.any():
            whole = self.image.repeat(int(changed.sum()), 1, 1, 1, 1)
            whole[inside] = part[changed]
            answers[changed] = self.score(whole)
        return answers


def occlusion(request: SaliencyRequest) -> torch.Tensor:
    """Occlusion of cubes in the box in which image and baseline differ."""
    from captum.attr import Occlusion

    total = torch.zeros_like(request.image)
    changed = torch.nonzero((request.image != request.baseline)[0, 0])
    if not len(changed):
        return total
    starts, ends = changed.amin(dim=0).tolist(), (changed.amax(dim=0) + 1).tolist()
    box = tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))
    inside = (slice(None), slice(None), *box)
    window, stride = (
        tuple(
            int(np.clip(round(size / step), 1, end - start))
            for step, start, end in zip(request.grid.spacing, starts, ends, strict=True)
        )
        for size in (WINDOW_MM, request.stride_mm)
    )
    total[inside] = Occlusion(_Cropped(request.score, request.image, box)).attribute(
        request.image[inside].contiguous(),
        sliding_window_shapes=(1, *window),
        strides=(1, *stride),
        baselines=request.baseline[inside].contiguous(),
        perturbations_per_eval=2 * BATCH,
    )
    return total


@contextmanager
def repeatable(seed: int, device: str) -> Iterator[None]:
    """Seed all generators, enable gradients and silence warnings of Captum about its hooks.

    The state of the generators is restored afterwards.
    """
    kept = np.random.get_state()  # noqa: NPY002 - GradientShap draws from the global generator.
    devices = [device] if device.startswith('cuda') else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        torch.enable_grad(),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings('ignore', module='captum')
        warnings.filterwarnings('ignore', message='Setting .*hooks')
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(kept)  # noqa: NPY002
