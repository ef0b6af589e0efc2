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
from bids_interp.models.external.card import ClassifierCard, GoldenScan
from bids_interp.models.external.network import ExternalClassifier

#: Absolute and relative tolerance of outputs that should be equal.
TOLERANCE = 1e-4
GOLDEN_TOLERANCE = 1e-3
#: Steps of the search for an image whose output is not a probability.
PROBES = 24
#: Distance from 0 or 1 to which the search brings the outputs of a sigmoid.
END = 0.02


#: Largest absolute intensity of a probe.
_FAR = 1e6


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


def check_classifier(
    network: nn.Module,
    card: ClassifierCard,
    golden: Path | None = None,
    brain: torch.Tensor | None = None,
) -> None:
    """Check on brain-like images and the golden sample that a classifier can be explained.

    Parameters
    ----------
    network : torch.nn.Module
        Network loaded by :func:`bids_interp.models.external.loader.load_external`, on any device.
    card : ClassifierCard
        Description of input and output.
    golden : pathlib.Path, optional
        A ``.safetensors`` or ``.npz`` file with the arrays ``input`` and ``output`` of the network
        itself, recorded in its training environment.
    brain : torch.Tensor, optional
        (N, 1, X, Y, Z) inputs made from real images, which are checked beside two blobs.

    Raises
    ------
    CheckError
        If a check fails.
    ModelError
        If the golden sample cannot be read.
    """
    images = _blobs(card)
    if brain is not None:
        images = torch.cat([images, brain])
    images = images.to(_device(network))
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


def check_scans(network: nn.Module, card: ClassifierCard, scans: torch.Tensor) -> None:
    """Check on inputs made from real scans that the output is of the kind that the card declares.

    Parameters
    ----------
    network, card
        See :func:`check_classifier`.
    scans : torch.Tensor
        (N, 1, X, Y, Z) inputs.

    Raises
    ------
    CheckError
        If an output is not finite, or of another kind.
    """
    scans = scans.to(_device(network))
    with torch.no_grad():
        logits = torch.cat([_answer(network, scan, card) for scan in scans.split(4)])
    if not torch.isfinite(logits).all():
        raise _failed(card, Check.FINITE, 'it returns NaN or infinity for a scan', '')
    _check_kind(network, scans, card)


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters(), torch.zeros(1)).device


def _check_kind(network: nn.Module, images: torch.Tensor, card: ClassifierCard) -> None:
    """Check that the output of the network itself is of the kind that the card declares."""
    if not isinstance(network, ExternalClassifier) or card.output == 'regression':
        return
    with torch.no_grad():
        output = torch.cat([network.raw(part) for part in images.split(4)])
    sums = output.sum(dim=1)
    softmaxed = len(sums) > 0 and bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-3))
    left = _leaves(network, images) if _are_probabilities(output) else True
    within = left is False
    if card.output == 'probability' and left:
        raise _failed(card, Check.KIND, 'it returns values outside 0 to 1', 'Set "logit".')
    if card.softmaxed and (left or not softmaxed):
        raise _failed(
            card,
            Check.KIND,
            'its outputs are not probabilities that sum to one',
            'Remove "softmaxed" from the card.',
        )
    if card.output == 'logit' and within:
        raise _failed(
            card,
            Check.KIND,
            'its outputs are probabilities, between 0 and 1 for every image',
            'Export the network without its sigmoid, or set "probability".',
        )
    if card.output == 'multiclass' and not card.softmaxed and (within or (softmaxed and not left)):
        what, advice = 'probabilities that sum to one', 'Set "softmaxed": true in the card.'
        if not (softmaxed and card.n_outputs > 1):
            what = 'probabilities of each class, between 0 and 1 for every image'
            advice = 'Export the network without its sigmoid.'
        raise _failed(card, Check.KIND, f'its outputs are {what}', advice)


def _are_probabilities(output: torch.Tensor) -> bool:
    """Return True if no output lies outside 0 to 1; one that is not a number proves nothing."""
    return not bool(((output < -TOLERANCE) | (output > 1 + TOLERANCE)).any())


def _leaves(network: ExternalClassifier, images: torch.Tensor) -> bool | None:
    """Search for an image whose output lies outside 0 to 1.

    The outputs of a sigmoid never leave this interval, but logits of a few images may lie in it by
    chance. Each step changes the image along the gradient by as much as would change a linear
    output by at least 1, at first up, then down.

    Parameters
    ----------
    network : ExternalClassifier
        Network.
    images : torch.Tensor
        (N, 1, X, Y, Z) inputs; the search starts from the first and from the last one.

    Returns
    -------
    bool or None
        True if there is one; False if the outputs came close to 0 or 1 and stayed there, like
        those of a sigmoid; None if they did neither, such as small logits of an untrained network.
    """
    reached = False
    for image in images[:1], images[-1:]:
        for sign in (1.0, -1.0):
            probe = image.clone()
            for step in range(1, PROBES + 1):
                probe.requires_grad_(True)
                output = network.raw(probe).float()
                if not _are_probabilities(output):
                    return True
                gradient = _gradient(output, probe)
                if gradient is None:
                    break
                reached = reached or bool(((output < END) | (output > 1 - END)).any())
                reach = sign * step / gradient.square().sum()
                probe = (probe + reach * gradient).detach().clamp(-_FAR, _FAR)
    return False if reached else None


def _gradient(output: torch.Tensor, probe: torch.Tensor) -> torch.Tensor | None:
    """Return the gradient of the first output, or None if there is none to follow."""
    try:
        (gradient,) = torch.autograd.grad(output[0, 0], probe)
    except RuntimeError:
        return None
    size = gradient.square().sum()
    return gradient if bool(torch.isfinite(size) & (size > 0)) else None


def check_golden_output(
    network: ExternalClassifier,
    card: ClassifierCard,
    golden: GoldenScan,
    scan: Path,
    image: torch.Tensor,
) -> None:
    """Compare the output of the network for a scan with the recorded one.

    Parameters
    ----------
    network : ExternalClassifier
        Network.
    card : ClassifierCard
        Description of input and output.
    golden : GoldenScan
        Recorded output and tolerance.
    scan : pathlib.Path
        File name for messages.
    image : torch.Tensor
        (1, 1, X, Y, Z) input made from the scan.

    Raises
    ------
    CheckError
        If the difference is larger than the tolerance.
    """
    with torch.no_grad():
        output = network.raw(image.to(_device(network)))[0].cpu().float()
    recorded = torch.tensor(golden.output, dtype=torch.float32)
    if not bool(((output - recorded).abs() <= golden.tolerance).all()):
        raise _failed(
            card,
            Check.GOLDEN,
            f'{scan} has {recorded.tolist()} within {golden.tolerance:g}, but from this scan the '
            f'output is {output.tolist()}',
            'Compare normalisation, grid, orientation, axis_order, template and skull of the card '
            'with the preparation of the training images.',
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
    image = torch.from_numpy(np.ascontiguousarray(arrays['input'], dtype=np.float32))
    recorded = torch.from_numpy(np.array(arrays['output'], dtype=np.float32)).flatten()
    try:
        with torch.no_grad():
            output = inner(image.to(_device(network))).cpu().float().flatten()
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
