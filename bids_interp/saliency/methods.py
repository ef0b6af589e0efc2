"""The saliency methods, computed by Captum [1]_.

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

#: Points of a path, and noisy copies of the image, that one map averages over.
STEPS = 32
SAMPLES = 16
#: Noise of SmoothGrad as a share of the range of the image (Smilkov et al., arXiv:1706.03825).
NOISE = 0.15
#: Images that are in memory at once.
BATCH = 4
#: Edge of the cube that is occluded, and the usual distance between cubes, in mm.
WINDOW_MM = 24.0
STRIDE_MM = 12.0
#: Maps whose largest difference is below this share of the largest value are the same map.
SAME = 1e-4
#: A map that should add up to a difference of scores may miss it by this share of its size.
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
    """A saliency method does not apply to a network.

    Attributes
    ----------
    message : str
        The reason, without the name of the method.
    """

    default_advice = ''


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
    stride_mm : float
        Distance between the cubes of the occlusion.
    target_layer : torch.nn.Module, optional
        Layer of Grad-CAM; the last convolution, with its normalisation and activation, where not
        given.
    """

    score: nn.Module
    image: torch.Tensor
    baseline: torch.Tensor
    grid: Grid
    stride_mm: float = STRIDE_MM
    target_layer: nn.Module | None = None

    def feature_layers(self) -> list[nn.Module]:
        """Layers of Grad-CAM, whose maps are added."""
        layers = [self.target_layer] if self.target_layer else []
        layers = layers or feature_layers(self.score, self.image)
        if not layers:
            raise SaliencyUnsupported('the network has no convolution layer to look at')
        return layers

    def difference(self) -> float:
        """Score of the image minus score of the baseline."""
        with torch.no_grad():
            return float(self.score(self.image)) - float(self.score(self.baseline))


def gradient(request: Request) -> torch.Tensor:
    """Gradient of the score, signed."""
    from captum.attr import Saliency

    return Saliency(request.score).attribute(request.image, abs=False)


def input_x_gradient(request: Request) -> torch.Tensor:
    """Gradient times image."""
    from captum.attr import InputXGradient

    return InputXGradient(request.score).attribute(request.image)


def integrated_gradients(request: Request) -> torch.Tensor:
    """Gradients along the straight path from the baseline, times the difference."""
    from captum.attr import IntegratedGradients

    return IntegratedGradients(request.score).attribute(
        request.image, baselines=request.baseline, n_steps=STEPS, internal_batch_size=BATCH
    )


def smooth_gradient(request: Request) -> torch.Tensor:
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


def guided_backprop(request: Request) -> torch.Tensor:
    """Gradient with only positive parts at each ReLU."""
    from captum.attr import GuidedBackprop

    return _need_relu(request, GuidedBackprop(request.score).attribute(request.image))


def deconvolution(request: Request) -> torch.Tensor:
    """The same, also through closed ReLUs."""
    from captum.attr import Deconvolution

    _need_single_calls(request, (nn.ReLU,))
    return _need_relu(request, Deconvolution(request.score).attribute(request.image))


def grad_cam(request: Request) -> torch.Tensor:
    """Features of the last convolution, weighed by their mean gradient."""
    from captum.attr import LayerAttribution, LayerGradCam

    # The parts of an ensemble add up.
    maps = [
        LayerGradCam(request.score, layer).attribute(request.image)
        for layer in request.feature_layers()
    ]
    size = tuple(request.image.shape[2:])
    return LayerAttribution.interpolate(torch.stack(maps).sum(dim=0), size, 'trilinear')


def guided_grad_cam(request: Request) -> torch.Tensor:
    """Guided backpropagation times the positive part of Grad-CAM."""
    from captum.attr import GuidedGradCam

    guided_backprop(request)  # Says whether the network has ReLUs to guide.
    maps = [
        GuidedGradCam(request.score, layer).attribute(request.image, interpolate_mode='trilinear')
        for layer in request.feature_layers()
    ]
    return torch.stack(maps).sum(dim=0)


def deep_lift(request: Request) -> torch.Tensor:
    """DeepLift's rescale rule."""
    from captum.attr import DeepLift

    _need_single_calls(request, DEEPLIFT_LAYERS)
    # Captum 0.9 takes a stale gradient where two layers of its list follow each other, such as ELU
    # and pooling (its issue 1104); a copy of the tensor between them gives each its own.
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
            'the non-linear steps of the network are not layers with a rule of DeepLift, so that '
            'the map is the plain gradient times the difference'
        )
    return found


def _need_relu(request: Request, found: torch.Tensor) -> torch.Tensor:
    """Refuse the plain gradient under another name.

    Captum replaces the gradient of ``torch.nn.ReLU`` layers alone, and says nothing where a network
    has none.
    """
    if _same(found, gradient(request)):
        raise SaliencyUnsupported('the network has no ReLU layers: the map is the plain gradient')
    return found


def _same(found: torch.Tensor, plain: torch.Tensor) -> bool:
    return float((found - plain).abs().max()) <= SAME * float(plain.abs().max())


def _need_single_calls(request: Request, kinds: tuple[type[nn.Module], ...]) -> None:
    """Refuse a network that calls a layer twice, of which Captum may confuse the calls."""
    calls = Counter(layer for layer, _ in layer_calls(request.score, request.image))
    if any(number > 1 for layer, number in calls.items() if isinstance(layer, kinds)):
        raise SaliencyUnsupported('the network uses one activation layer at several places')


def gradient_shap(request: Request) -> torch.Tensor:
    """Gradients at random points of the path from the baseline, times the difference."""
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
        with torch.no_grad():
            self.own = score(image)

    def forward(self, part: torch.Tensor) -> torch.Tensor:
        inside = (slice(None), slice(None), *self.box)
        # Many cubes hold nothing but background; the answer to the image itself is known.
        changed = (part != self.image[inside]).flatten(1).any(dim=1)
        answers = self.own.repeat(len(part))
        if changed.any():
            whole = self.image.repeat(int(changed.sum()), 1, 1, 1, 1)
            whole[inside] = part[changed]
            answers[changed] = self.score(whole)
        return answers


def occlusion(request: Request) -> torch.Tensor:
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
    """Random numbers from the seed, gradients on, Captum's remarks about its hooks off.

    The generators of the caller are left as they were.
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
