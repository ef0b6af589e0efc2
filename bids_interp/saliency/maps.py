"""Saliency maps of a classifier: what others would show in place of a simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from bids_interp.constants import SALIENCY_METHODS
from bids_interp.errors import ModelError
from bids_interp.models.bundle.reader import FoldModels, ModelBundle
from bids_interp.saliency.methods import STRIDE_MM, Request, SaliencyUnsupported, repeatable
from bids_interp.saliency.table import METHODS, Method
from bids_interp.spatial import Grid


@dataclass(frozen=True)
class SaliencyMap:
    """What one saliency method says about one image.

    Parameters
    ----------
    method : str
        One of :data:`bids_interp.constants.SALIENCY_METHODS`.
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
        return METHODS[self.method].title

    @property
    def units(self) -> str:
        """Units of a map that was divided by the class gap."""
        return METHODS[self.method].units


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
    return METHODS[method].title


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
        One of :data:`bids_interp.constants.SALIENCY_METHODS`.
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
    if method not in METHODS:
        raise ModelError(
            f'There is no saliency method {method!r}.', f'Known: {", ".join(METHODS)}.'
        )
    if tuple(image.shape) != (1, 1, *grid.shape):
        raise ModelError(f'An image of {tuple(image.shape)} does not fit a grid of {grid.shape}.')
    wanted = METHODS[method]
    shown = image.detach().to(device).clone()
    compared = torch.zeros_like(shown) if baseline is None else baseline.detach().to(device)
    request = Request(_Score(score), shown, compared, grid, stride_mm, target_layer)
    with repeatable(seed, device):
        values = _tried(wanted, request)
    words = ''
    if wanted.compared:
        words = 'image of zeros' if baseline is None else baseline_name
    error = float(values.sum(dtype=np.float64)) - request.difference() if wanted.complete else None
    return SaliencyMap(method, values, grid, wanted.kind, wanted.sign, words, error)


def _tried(wanted: Method, request: Request) -> np.ndarray:
    """Map (X, Y, Z) of a method, refused where it does not run or gives no map of the image.

    What a method needs of a network is not asked beforehand: the answer is looked at.
    """
    try:
        found = wanted.run(request).detach()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = (str(error).splitlines() or [''])[0]
        raise SaliencyUnsupported(f'it ended with {type(error).__name__}: {first}') from error
    if found.shape != request.image.shape:
        raise SaliencyUnsupported(f'the map has the shape {tuple(found.shape)}')
    values = found[0, 0].float().cpu().numpy()
    if not np.isfinite(values).all():
        raise SaliencyUnsupported('the map has values that are not finite')
    # An image that is its own baseline differs from it nowhere: zeros are the answer.
    same = wanted.compared and torch.equal(request.image, request.baseline)
    if np.ptp(values) == 0 and not same:
        raise SaliencyUnsupported('the map has the same value everywhere')
    return values


def fold_mean_saliency(
    bundle: ModelBundle,
    image: torch.Tensor,
    folds: Sequence[int],
    methods: Sequence[str] = SALIENCY_METHODS,
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
        Of :data:`bids_interp.constants.SALIENCY_METHODS`.
    seed : int
        Of the methods that draw random numbers; the same for every fold.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.

    Returns
    -------
    maps : dict of str to SaliencyMap
        By method.
    skipped : dict of str to str
        Methods that do not apply, or in which Captum or PyTorch failed, and the reason.

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
        try:
            maps[method] = _fold_mean(bundle, image, folds, method, seed, device)
        except SaliencyUnsupported as reason:
            # A network that Captum stumbles over must not cost the results that do not need it.
            skipped[method] = reason.message
    return maps, skipped


def saliency_values(
    method: str,
    classifier: nn.Module,
    images: torch.Tensor,
    grid: Grid,
    mask: np.ndarray,
    baseline: torch.Tensor,
    seed: int,
    device: str = 'cpu',
    stride_mm: float = STRIDE_MM,
) -> np.ndarray:
    """Saliency maps of images by one method, inside a mask.

    Parameters
    ----------
    method : str
        One of :data:`bids_interp.constants.SALIENCY_METHODS`.
    classifier : torch.nn.Module
        In evaluation mode, on ``device``.
    images : torch.Tensor
        (N, 1, X, Y, Z).
    grid, mask : Grid, numpy.ndarray
        Of the images.
    baseline : torch.Tensor
        (1, 1, X, Y, Z) mean image of the negative class.
    seed : int
        Of the methods that draw random numbers.
    device : str
        Of the network.
    stride_mm : float
        Distance between the cubes of the occlusion.

    Returns
    -------
    numpy.ndarray
        (N, V) float32.

    Raises
    ------
    SaliencyUnsupported
        If the method does not apply to the classifier for one of the images.
    """
    maps = [
        saliency_map(
            method,
            classifier,
            image[None],
            grid,
            baseline=baseline,
            seed=seed,
            device=device,
            stride_mm=stride_mm,
        ).map[mask]
        for image in images
    ]
    return np.stack(maps).astype(np.float32)


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
