"""The saliency methods, computed by Captum [1]_.

.. [1] Kokhlikyan et al., Captum: A unified and generic model interpretability library for PyTorch,
   arXiv:2009.07896, 2020.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bids_interp.evaluation.saliency_probe import DEEPLIFT_LAYERS
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
    layers : sequence of torch.nn.Module
        Layers of Grad-CAM, whose maps are added.
    stride_mm : float
        Distance between the cubes of the occlusion.
    """

    score: nn.Module
    image: torch.Tensor
    baseline: torch.Tensor
    grid: Grid
    layers: Sequence[nn.Module]
    stride_mm: float = STRIDE_MM


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

    return GuidedBackprop(request.score).attribute(request.image)


def deconvolution(request: Request) -> torch.Tensor:
    """The same, also through closed ReLUs."""
    from captum.attr import Deconvolution

    return Deconvolution(request.score).attribute(request.image)


def grad_cam(request: Request) -> torch.Tensor:
    """Features of the last convolution, weighed by their mean gradient."""
    return _upsampled(request, _weighted_features(request))


def _weighted_features(request: Request) -> torch.Tensor:
    """Grad-CAM at the resolution of the features; the parts of an ensemble add up."""
    from captum.attr import LayerGradCam

    maps = [LayerGradCam(request.score, layer).attribute(request.image) for layer in request.layers]
    return torch.stack(maps).sum(dim=0)


def _upsampled(request: Request, coarse: torch.Tensor) -> torch.Tensor:
    from captum.attr import LayerAttribution

    return LayerAttribution.interpolate(coarse, tuple(request.image.shape[2:]), 'trilinear')


def guided_grad_cam(request: Request) -> torch.Tensor:
    """Guided backpropagation times the positive part of Grad-CAM."""
    # Captum's own product knows one layer only.
    positive = _upsampled(request, _weighted_features(request).relu())
    return guided_backprop(request) * positive


def deep_lift(request: Request) -> torch.Tensor:
    """DeepLift's rescale rule."""
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
