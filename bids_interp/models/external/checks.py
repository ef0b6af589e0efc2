"""Checks of an external classifier before it is explained."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import nn

from bids_interp.errors import ModelError
from bids_interp.models.external.card import ClassifierCard
from bids_interp.models.external.network import ExternalClassifier

#: Absolute and relative tolerance of outputs that should be equal.
TOLERANCE = 1e-4
GOLDEN_TOLERANCE = 1e-3


class Check(StrEnum):
    """Checks of a classifier, with their names in error messages."""

    SHAPE = 'output shape'
    FINITE = 'finite output'
    DETERMINISM = 'determinism'
    BATCH = 'independence of the batch'
    KIND = 'the kind of output'
    GRADIENT = 'the input gradient'
    GOLDEN = 'the golden sample'


class CheckError(ModelError):
    """A classifier fails a check.

    Attributes
    ----------
    check : Check
        The failed check.
    """

    def __init__(self, message: str, advice: str | None, check: Check) -> None:
        super().__init__(message, advice)
        self.check = check

    def __reduce__(self) -> tuple[type, tuple[str, str, Check]]:
        return type(self), (self.message, self.advice, self.check)


def check_classifier(network: nn.Module, card: ClassifierCard, golden: Path | None = None) -> None:
    """Check on two brain-like blobs and the golden sample that a classifier can be explained.

    Parameters
    ----------
    network : torch.nn.Module
        Network loaded by :func:`bids_interp.models.external.loader.load_external`, on any device.
    card : ClassifierCard
        Description of input and output.
    golden : pathlib.Path, optional
        A ``.safetensors`` or ``.npz`` file with the arrays ``input`` and ``output`` of the network
        itself, recorded in its training environment.

    Raises
    ------
    CheckError
        If a check fails.
    ModelError
        If the golden sample cannot be read.
    """
    first = next(network.parameters(), torch.zeros(1))
    images = _blobs(card).to(first.device)
    with torch.no_grad():
        together = _answer(network, images, card)
        again = _answer(network, images, card)
        alone = torch.cat([_answer(network, image[None], card) for image in images])
    if not torch.isfinite(together).all():
        raise _failed(card, Check.FINITE, 'it returns NaN or infinity for an image', '')
    if _differ(together, again, TOLERANCE):
        raise _failed(
            card,
            Check.DETERMINISM,
            'repeated calls give different outputs for the same image',
            'Dropout or another random layer is active: call model.eval() before the export.',
        )
    if _differ(together, alone, TOLERANCE):
        raise _failed(
            card,
            Check.BATCH,
            'the output for an image depends on the rest of its batch',
            'Normalisation uses statistics of the batch: call model.eval() before the export.',
        )
    _check_kind(network, images, card)
    _check_gradient(network, images, card)
    if golden is not None:
        _check_golden(network, card, golden)


def _blobs(card: ClassifierCard) -> torch.Tensor:
    """Return two different brain-like blobs, normalised for the card, (2, 1, X, Y, Z)."""
    generator = torch.Generator().manual_seed(0)
    shape = card.grid.shape
    coarse = torch.rand(2, 1, *(max(2, size // 4) for size in shape), generator=generator)
    smooth = F.interpolate(coarse, size=shape, mode='trilinear', align_corners=True)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in shape), indexing='ij')
    head = torch.stack(axes).square().sum(dim=0) < 0.9
    images = (0.3 + 0.7 * smooth) * head
    images[1] *= 0.5 + 0.5 * axes[0]
    # Scans have intensities of some hundreds, which only the normalisation 'none' keeps.
    return torch.stack([card.preprocessing.normalise(500.0 * image) for image in images])


def _failed(card: ClassifierCard, check: Check, what: str, advice: str) -> CheckError:
    message = f'Classifier {card.name!r} fails the check of {check}: {what}.'
    return CheckError(message, advice, check)


def _differ(one: torch.Tensor, other: torch.Tensor, tolerance: float) -> bool:
    return not torch.allclose(one, other, atol=tolerance, rtol=tolerance)


def _answer(network: nn.Module, images: torch.Tensor, card: ClassifierCard) -> torch.Tensor:
    try:
        logits = network(images)
    except ModelError as error:
        raise _failed(card, Check.SHAPE, error.message.rstrip('.'), error.advice) from error
    except Exception as error:  # a network may raise anything
        raise _failed(
            card,
            Check.SHAPE,
            f'it fails on {len(images)} image(s) of {card.grid.shape}: {error}'.rstrip('.'),
            'Check input_shape and axis_order in the card; the batch size must be dynamic.',
        ) from error
    expected = (len(images), card.target.n_outputs)
    if tuple(logits.shape) != expected:
        raise _failed(
            card, Check.SHAPE, f'it returns {tuple(logits.shape)} instead of {expected}', ''
        )
    return logits


def _check_kind(network: nn.Module, images: torch.Tensor, card: ClassifierCard) -> None:
    """Check that the output of the network itself is of the kind that the card declares."""
    if not isinstance(network, ExternalClassifier):
        return
    with torch.no_grad():
        output = network.raw(images)
    within = bool(((output >= 0) & (output <= 1)).all())
    sums = bool(torch.allclose(output.sum(dim=1), torch.ones(len(output)).to(output), atol=1e-3))
    if card.output == 'probability' and not within:
        raise _failed(card, Check.KIND, 'it returns values outside 0 to 1', 'Set "logit".')
    if card.softmaxed and not (within and sums):
        raise _failed(
            card,
            Check.KIND,
            'its outputs are not probabilities that sum to one',
            'Remove "softmaxed" from the card.',
        )
    if card.output == 'multiclass' and not card.softmaxed and within and sums:
        raise _failed(
            card,
            Check.KIND,
            'its outputs are probabilities that sum to one',
            'Set "softmaxed": true in the card.',
        )


def _check_gradient(network: nn.Module, images: torch.Tensor, card: ClassifierCard) -> None:
    inputs = images.clone().requires_grad_(True)
    try:
        logits = network(inputs)
        # Different weights, because changes of log-probabilities can cancel each other.
        weights = torch.arange(1.0, 1.0 + logits.shape[1]).to(logits)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), inputs)
    except RuntimeError as error:
        raise _failed(
            card,
            Check.GRADIENT,
            f'it does not exist: {error}'.rstrip('.'),
            'Remove no_grad, detach, rounding and arg-max from the model.',
        ) from error
    if not torch.isfinite(gradient).all():
        raise _failed(card, Check.GRADIENT, 'it is NaN or infinite', '')
    if not (gradient.flatten(1).abs().amax(dim=1) > 0).any():
        raise _failed(
            card,
            Check.GRADIENT,
            'it is zero everywhere',
            'A saturated probability has no gradient: export the logit instead.',
        )


def _check_golden(network: nn.Module, card: ClassifierCard, path: Path) -> None:
    arrays = _read_arrays(path)
    inner = network.network if isinstance(network, ExternalClassifier) else network
    first = next(network.parameters(), torch.zeros(1))
    image = torch.from_numpy(np.ascontiguousarray(arrays['input'], dtype=np.float32))
    recorded = torch.from_numpy(np.array(arrays['output'], dtype=np.float32)).flatten()
    try:
        with torch.no_grad():
            output = inner(image.to(first.device)).cpu().float().flatten()
    except Exception as error:  # a network may raise anything
        raise _failed(
            card,
            Check.GOLDEN,
            f'{path}: {error}'.rstrip('.'),
            'The array "input" must have the shape (B, 1, X, Y, Z).',
        ) from error
    if output.shape != recorded.shape or _differ(output, recorded, GOLDEN_TOLERANCE):
        raise _failed(
            card,
            Check.GOLDEN,
            f'{path} has {recorded.tolist()[:4]}, but it returns {output.tolist()[:4]}',
            'The sample was made with another network, or another version of this network.',
        )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.suffix == '.npz':
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        else:
            arrays = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f'The golden sample {path} cannot be read: {error}.', '') from error
    if not {'input', 'output'} <= set(arrays):
        raise ModelError(
            f'The golden sample {path} contains the arrays {sorted(arrays)}.',
            'It needs "input" and "output".',
        )
    return arrays
