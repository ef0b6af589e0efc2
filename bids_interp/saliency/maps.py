"""Maps of a classifier by saliency methods, of single images and averaged over folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from bids_interp.constants import SALIENCY_METHODS
from bids_interp.errors import ModelError
from bids_interp.models.bundle.reader import FoldModels, ModelBundle
from bids_interp.saliency.captum_methods import (
    STRIDE_MM,
    SaliencyRequest,
    SaliencyUnsupported,
    repeatable,
)
from bids_interp.saliency.table import METHODS, Method
from bids_interp.spatial import Grid


@dataclass(frozen=True)
class SaliencyMap:
    """Map of one image by one saliency method.

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
        Meaning of positive and negative values.
    baseline : str
        Name of the baseline image; empty for methods without a baseline.
    completeness_error : float, optional
        Sum of the map minus the score difference between image and baseline, for methods whose map
        should add up to this difference.
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
        """Display name of the method."""
        return METHODS[self.method].title

    @property
    def units(self) -> str:
        """Units of a map after division by the class gap."""
        return METHODS[self.method].units


class _Score(nn.Module):
    """Network with one score per image, whose layers remain visible to Captum."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        answer = self.network(image)
        if answer.numel() != len(image):
            raise ModelError(
                f'A saliency map needs one score per image, not {tuple(answer.shape[1:])}.',
                'Use a module that returns the logit to explain.',
            )
        return answer.reshape(len(image))


class FoldScore(nn.Module):
    """Score of a fold as a module that contains the layers of the classifier.

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
        """Compute scores (B,) of images (B, 1, X, Y, Z)."""
        return self._score(image)


def method_title(method: str) -> str:
    """Return the display name of a method.

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
    """Compute the saliency map of one image by one method of Captum.

    Parameters
    ----------
    method : str
        One of :data:`bids_interp.constants.SALIENCY_METHODS`.
    score : torch.nn.Module
        Network from (B, 1, X, Y, Z) to (B, 1) or (B,), in evaluation mode on ``device``.
    image : torch.Tensor
        (1, 1, X, Y, Z).
    grid : Grid
        Grid of the image; occlusion uses its voxel size.
    baseline : torch.Tensor, optional
        (1, 1, X, Y, Z) baseline, usually the mean image of the negative class [default: zeros].
    baseline_name : str
        Name of the baseline image.
    seed : int
        Random seed.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    target_layer : torch.nn.Module, optional
        Layer of ``score`` for Grad-CAM [default: last convolution with its normalisation and
        activation].
    stride_mm : float
        Distance between the cubes of occlusion. The time grows with its inverse cube.

    Raises
    ------
    SaliencyUnsupported
        If the method does not apply to this network; the message gives the reason.
    ModelError
        If the score is not one number per image, or the image does not fit the grid.
    """
    if method not in METHODS:
        raise ModelError(
            f'There is no saliency method {method!r}.', f'Methods: {", ".join(METHODS)}.'
        )
    if tuple(image.shape) != (1, 1, *grid.shape):
        raise ModelError(f'Image shape {tuple(image.shape)} does not fit grid shape {grid.shape}.')
    wanted = METHODS[method]
    shown = image.detach().to(device).clone()
    compared = torch.zeros_like(shown) if baseline is None else baseline.detach().to(device)
    request = SaliencyRequest(_Score(score), shown, compared, grid, stride_mm, target_layer)
    with repeatable(seed, device):
        values = _run_method(wanted, request)
    name = ''
    if wanted.compared:
        name = 'image of zeros' if baseline is None else baseline_name
    error = float(values.sum(dtype=np.float64)) - request.difference() if wanted.complete else None
    return SaliencyMap(method, values, grid, wanted.kind, wanted.sign, name, error)


def _run_method(wanted: Method, request: SaliencyRequest) -> np.ndarray:
    """Return the map (X, Y, Z) of a method; refuse it if the method fails or the map is invalid."""
    try:
        found = wanted.run(request).detach()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = (str(error).splitlines() or [''])[0]
        raise SaliencyUnsupported(f'it failed with {type(error).__name__}: {first}') from error
    if found.shape != request.image.shape:
        raise SaliencyUnsupported(f'the map has the shape {tuple(found.shape)}')
    values = found[0, 0].float().cpu().numpy()
    if not np.isfinite(values).all():
        raise SaliencyUnsupported('the map has values that are not finite')
    # If image and baseline are equal, a map of zeros is correct.
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
    """Average saliency maps over the folds that held out a subject.

    Each map is divided by the class gap of its fold, so that folds with larger logits do not
    dominate.

    Parameters
    ----------
    bundle : ModelBundle
        Bundle with the classifiers and the mean image that serves as baseline.
    image : torch.Tensor
        (1, 1, X, Y, Z) input of the classifiers.
    folds : sequence of int
        Folds that may explain the subject.
    methods : sequence of str
        Methods of :data:`bids_interp.constants.SALIENCY_METHODS`.
    seed : int
        Random seed, the same for every fold.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.

    Returns
    -------
    maps : dict of str to SaliencyMap
        Maps by method.
    skipped : dict of str to str
        Reasons by method, for methods that do not apply or failed.

    Raises
    ------
    ModelError
        If no fold may explain the subject.
    """
    if not folds:
        raise ModelError(
            'Every fold of this model was trained on this subject, so none may explain it.'
        )
    maps: dict[str, SaliencyMap] = {}
    skipped: dict[str, str] = {}
    for method in methods:
        try:
            maps[method] = _fold_mean(bundle, image, folds, method, seed, device)
        except SaliencyUnsupported as reason:
            # A method that fails must not prevent the other results.
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
    """Compute saliency maps of images by one method inside a mask.

    Parameters
    ----------
    method : str
        One of :data:`bids_interp.constants.SALIENCY_METHODS`.
    classifier : torch.nn.Module
        Classifier in evaluation mode on ``device``.
    images : torch.Tensor
        (N, 1, X, Y, Z).
    grid, mask : Grid, numpy.ndarray
        Grid and mask of the images.
    baseline : torch.Tensor
        (1, 1, X, Y, Z) mean image of the negative class.
    seed : int
        Random seed.
    device : str
        Device of the network.
    stride_mm : float
        Distance between the cubes of occlusion.

    Returns
    -------
    numpy.ndarray
        (N, V) float32 maps.

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
