"""Saliency maps of a classifier: what others would show in place of a simulation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from bids_interp.errors import ModelError
from bids_interp.evaluation.saliency_methods import STRIDE_MM, Request, repeatable
from bids_interp.evaluation.saliency_probe import Probe, probe
from bids_interp.evaluation.saliency_table import METHODS as _TABLE
from bids_interp.evaluation.saliency_table import Method
from bids_interp.models.bundle import FoldModels, ModelBundle
from bids_interp.spatial import Grid

#: Names of the methods, as in file names.
METHODS: tuple[str, ...] = tuple(_TABLE)


class SaliencyUnsupported(ModelError):
    """A saliency method does not apply to a network.

    Attributes
    ----------
    message : str
        The reason, without the name of the method.
    """

    default_advice = ''


@dataclass(frozen=True)
class SaliencyMap:
    """What one saliency method says about one image.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`.
    map : numpy.ndarray
        (X, Y, Z) float32, signed.
    grid : Grid
        Grid of the image.
    kind : str
        ``'gradient'``, ``'attribution'``, ``'activation'`` or ``'product'``.
    sign : str
        What positive and negative values mean.
    baseline : str
        What the image is compared with; empty for methods that compare it with nothing.
    completeness_error : float, optional
        Sum of the map minus the difference of the scores of image and baseline, for methods whose
        map should add up to it.
    """

    method: str
    map: np.ndarray
    grid: Grid
    kind: str
    sign: str
    baseline: str
    completeness_error: float | None = None

    @property
    def title(self) -> str:
        """Name of the method for people."""
        return _TABLE[self.method].title

    @property
    def units(self) -> str:
        """Units of a map that was divided by the class gap."""
        return _TABLE[self.method].units


class _Score(nn.Module):
    """A network with one number per image; its layers stay where Captum finds them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        answer = self.network(image)
        if answer.numel() != len(image):
            raise ModelError(
                f'A saliency map needs one number per image, not {tuple(answer.shape[1:])}.',
                'Give a module that returns the logit to be explained.',
            )
        return answer.reshape(len(image))


class FoldScore(nn.Module):
    """The score of a fold as a module, with the classifier's layers in it.

    Parameters
    ----------
    models : FoldModels
        Networks of the fold.
    """

    def __init__(self, models: FoldModels) -> None:
        super().__init__()
        self.classifier = models.classifier
        self._score = models.score

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Scores (B,) of images (B, 1, X, Y, Z)."""
        return self._score(image)


def method_title(method: str) -> str:
    """Name of a method for people.

    Examples
    --------
    >>> method_title('gradcam')
    'Grad-CAM'
    """
    return _TABLE[method].title


def saliency_map(
    method: str,
    score: nn.Module,
    image: torch.Tensor,
    grid: Grid,
    *,
    baseline: torch.Tensor | None = None,
    baseline_name: str = 'given image',
    seed: int = 0,
    device: str = 'cpu',
    target_layer: nn.Module | None = None,
    stride_mm: float = STRIDE_MM,
) -> SaliencyMap:
    """Saliency map of one image by one method of Captum.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`.
    score : torch.nn.Module
        Maps (B, 1, X, Y, Z) to (B, 1) or (B,), in evaluation mode and on ``device``.
    image : torch.Tensor
        (1, 1, X, Y, Z).
    grid : Grid
        Its grid; occlusion takes the size of its cubes in mm from it.
    baseline : torch.Tensor, optional
        (1, 1, X, Y, Z), the image to compare with, usually the mean image of the negative class;
        zero where not given.
    baseline_name : str
        What the map says of that image.
    seed : int
        Of the methods that draw random numbers.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    target_layer : torch.nn.Module, optional
        Layer of ``score`` for Grad-CAM; the last convolution (with its normalisation and
        activation) where not given.
    stride_mm : float
        Distance between the cubes that occlusion hides; time goes with its third power.

    Raises
    ------
    SaliencyUnsupported
        If the method does not apply to this network; the message is the reason.
    ModelError
        If the score is not one number per image, or the image does not fit the grid.
    """
    if method not in _TABLE:
        raise ModelError(
            f'There is no saliency method {method!r}.', f'Known: {", ".join(METHODS)}.'
        )
    if tuple(image.shape) != (1, 1, *grid.shape):
        raise ModelError(f'An image of {tuple(image.shape)} does not fit a grid of {grid.shape}.')
    wanted, wrapped = _TABLE[method], _Score(score)
    shown = image.detach().to(device).clone()
    compared = torch.zeros_like(shown) if baseline is None else baseline.detach().to(device)
    found = probe(wrapped, shown)
    _need_support(method, wanted, found, target_layer)
    layers = found.feature_layers() if target_layer is None else [target_layer]
    request = Request(wrapped, shown, compared, grid, layers, stride_mm)
    with repeatable(seed, device):
        attribution = wanted.run(request).detach()
    values = attribution[0, 0].float().cpu().numpy()
    if not np.isfinite(values).all():
        raise SaliencyUnsupported('the map has values that are not finite')
    words = ''
    if wanted.compared:
        words = 'image of zeros' if baseline is None else baseline_name
    return SaliencyMap(
        method,
        values,
        grid,
        wanted.kind,
        wanted.sign,
        words,
        _completeness_error(request, values) if wanted.complete else None,
    )


def _need_support(
    method: str, wanted: Method, found: Probe, target_layer: nn.Module | None
) -> None:
    if method != 'occlusion' and not found.differentiable:
        raise SaliencyUnsupported('the network gives no gradient')
    # A layer that the caller names need not be found.
    named = target_layer is not None and method in ('gradcam', 'guidedgradcam')
    reason = wanted.misfit(found)
    if named:
        reason = found.without_relu() if method == 'guidedgradcam' else ''
    if reason:
        raise SaliencyUnsupported(reason)


@torch.no_grad()
def _completeness_error(request: Request, values: np.ndarray) -> float:
    scores = [float(request.score(image)) for image in (request.image, request.baseline)]
    return float(values.sum(dtype=np.float64)) - (scores[0] - scores[1])


def fold_mean_saliency(
    bundle: ModelBundle,
    image: torch.Tensor,
    folds: Sequence[int],
    methods: Sequence[str] = METHODS,
    seed: int = 0,
    device: str = 'cpu',
) -> tuple[dict[str, SaliencyMap], dict[str, str]]:
    """Saliency maps of the classifiers that did not see a subject, averaged.

    Each map is divided by the class gap of its fold, so that no fold outweighs the others only
    because its logits are larger.

    Parameters
    ----------
    bundle : ModelBundle
        Classifiers; its mean image is the baseline.
    image : torch.Tensor
        (1, 1, X, Y, Z), the input of the classifiers.
    folds : sequence of int
        Folds that may explain the subject.
    methods : sequence of str
        Of :data:`METHODS`.
    seed : int
        Of the methods that draw random numbers; the same for every fold.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.

    Returns
    -------
    maps : dict of str to SaliencyMap
        By method.
    skipped : dict of str to str
        Methods that do not apply, or in which Captum or PyTorch failed, and why.

    Raises
    ------
    ModelError
        If there is no fold.
    """
    if not folds:
        raise ModelError('Every fold was trained with this subject: nothing may explain it.')
    maps: dict[str, SaliencyMap] = {}
    skipped: dict[str, str] = {}
    for method in methods:
        with reason_kept(method, skipped):
            maps[method] = _fold_mean(bundle, image, folds, method, seed, device)
    return maps, skipped


@contextmanager
def reason_kept(method: str, skipped: dict[str, str]) -> Iterator[None]:
    """Write down why a method does not apply, or where Captum or PyTorch failed, and go on.

    A network that Captum stumbles over must not cost the results that do not need it.

    Parameters
    ----------
    method : str
        Name of the method.
    skipped : dict of str to str
        Takes the reason.
    """
    try:
        yield
    except SaliencyUnsupported as reason:
        skipped[method] = reason.message
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = (str(error).splitlines() or [''])[0]
        skipped[method] = f'it ended with {type(error).__name__}: {first}'


def _fold_mean(
    bundle: ModelBundle,
    image: torch.Tensor,
    folds: Sequence[int],
    method: str,
    seed: int,
    device: str,
) -> SaliencyMap:
    parts, errors = [], []
    for index in folds:
        models = bundle.fold(index, device)
        one = saliency_map(
            method,
            FoldScore(models),
            image,
            bundle.grid,
            baseline=bundle.mean_image,
            baseline_name=bundle.mean_image_name,
            seed=seed,
            device=device,
        )
        parts.append(one.map / models.class_gap)
        if one.completeness_error is not None:
            errors.append(one.completeness_error / models.class_gap)
    error = float(np.mean(errors)) if errors else None
    mean = np.stack(parts).mean(axis=0, dtype=np.float64).astype(np.float32)
    return replace(one, map=mean, completeness_error=error)
