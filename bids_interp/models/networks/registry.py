"""Registry of classifiers: small 3-D networks that map an image to a logit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from bids_interp.errors import ModelError
from bids_interp.models.networks.morphometric import MorphometricClassifier
from bids_interp.spatial import along_axes

Network = TypeVar('Network', bound=nn.Module)

#: Largest number of networks in an ensemble.
MAX_MEMBERS = 1000
#: Errors of a network whose arguments are not valid.
_INVALID = (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError)

_NORMS: dict[str, Callable[[int], nn.Module]] = {
    'instance': lambda channels: nn.InstanceNorm3d(channels, affine=True),
    'group': lambda channels: nn.GroupNorm(min(8, channels), channels),
    'batch': lambda channels: nn.BatchNorm3d(channels),
}


class ConvClassifier(nn.Module):
    """Convolution, normalisation and ELU at halving resolutions, then one linear layer.

    The first stage halves the resolution by its stride, the others by pooling. A convolution at
    full resolution would dominate the cost of a double backward pass (gradient penalty).

    Parameters
    ----------
    shape : tuple of int
        Size of the input image, not necessarily divisible by the strides.
    channels : tuple of int
        Channels of each stage; each stage halves the resolution.
    norm : {'instance', 'group', 'batch'}
        Normalisation after each convolution.
    dropout : float
        Dropout before the linear layer.
    outputs : int
        Number of logits.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: tuple[int, ...] = (16, 16, 32, 32),
        norm: str = 'instance',
        dropout: float = 0.3,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        first = channels[0]
        layers = [nn.Conv3d(1, first, 4, stride=2, padding=1), _NORMS[norm](first), nn.ELU()]
        before, sizes = first, [size // 2 for size in shape]
        for after in channels[1:]:
            layers += [
                nn.Conv3d(before, after, 3, padding=1),
                _NORMS[norm](after),
                nn.ELU(),
                nn.MaxPool3d(2),
            ]
            before, sizes = after, [size // 2 for size in sizes]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(before * sizes[0] * sizes[1] * sizes[2], outputs),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, outputs) of images (B, 1, X, Y, Z)."""
        return self.head(self.features(image))


class PaperClassifier(nn.Module):
    """The classifier of Liu et al., IPMI 2021: four stages, 1024 features, one hidden layer.

    Conv3d 1-16-32-64-16, each with batch normalisation, ReLU and pooling; the flattened features
    (1024 for an input of 64^3) go through Dropout, Linear 64, ReLU and Linear. An axis of one voxel
    is neither convolved nor pooled.
    """

    def __init__(self, shape: tuple[int, int, int], outputs: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, sizes = 1, list(shape)
        kernel, halves = along_axes(shape, 3), along_axes(shape, 2)
        for after in (16, 32, 64, 16):
            layers += [
                nn.Conv3d(before, after, kernel, padding='same'),
                nn.BatchNorm3d(after),
                nn.ReLU(),
                nn.MaxPool3d(halves),
            ]
            before = after
            sizes = [size // half for size, half in zip(sizes, halves, strict=True)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.05),
            nn.Linear(before * sizes[0] * sizes[1] * sizes[2], 64),
            nn.ReLU(),
            nn.Linear(64, outputs),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, outputs) of images (B, 1, X, Y, Z)."""
        return self.head(self.features(image))


class SFCN(nn.Module):
    """Simple fully convolutional network with global average pooling instead of a dense head.

    After Peng et al., Medical Image Analysis 2021, with group normalisation for small batches. It
    is of another family than :class:`ConvClassifier`, to test transfer.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: tuple[int, ...] = (16, 32, 32, 64),
        dropout: float = 0.3,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        del shape  # A fully convolutional network accepts any size.
        layers: list[nn.Module] = []
        before = 1
        for after in channels:
            layers += [
                nn.Conv3d(before, after, 3, padding=1),
                _NORMS['group'](after),
                nn.MaxPool3d(2),
                nn.ReLU(),
            ]
            before = after
        layers += [nn.Conv3d(before, before, 1), _NORMS['group'](before), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(before, outputs)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, outputs) of images (B, 1, X, Y, Z)."""
        return self.head(self.features(image))


CLASSIFIERS: dict[str, Callable[..., nn.Module]] = {
    'morphometric': MorphometricClassifier,
    'robust': ConvClassifier,
    'ipmi2021': PaperClassifier,
    'sfcn': SFCN,
}


class Ensemble(nn.Module):
    """Mean output of several classifiers of one architecture.

    Parameters
    ----------
    members : list of torch.nn.Module
        Networks that map (B, 1, X, Y, Z) to (B, outputs).
    """

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the mean outputs (B, outputs) of images (B, 1, X, Y, Z)."""
        return torch.stack([member(image) for member in self.members]).mean(dim=0)


def joined(networks: list[nn.Module]) -> nn.Module:
    """Return the only network, or the ensemble of several."""
    return networks[0] if len(networks) == 1 else Ensemble(networks)


def build_classifier(
    architecture: str, shape: tuple[int, int, int], members: int = 1, **arguments: Any
) -> nn.Module:
    """Return a new classifier of the registry.

    Parameters
    ----------
    architecture : str
        Name in ``CLASSIFIERS``.
    shape : tuple of int
        Size of the input image.
    members : int
        Number of networks; several form an :class:`Ensemble`.
    **arguments
        Arguments of the architecture.

    Raises
    ------
    ModelError
        If the architecture or its arguments are unknown.
    """
    if architecture not in CLASSIFIERS:
        raise ModelError(
            f'Unknown classifier architecture {architecture!r}.',
            f'Choose one of {", ".join(sorted(CLASSIFIERS))}.',
        )
    if not isinstance(members, int) or not 0 < members <= MAX_MEMBERS:
        raise ModelError(f'A classifier has 1 to {MAX_MEMBERS} members, not {members!r}.')
    try:
        made = [CLASSIFIERS[architecture](shape=tuple(shape), **arguments) for _ in range(members)]
    except _INVALID as error:
        raise ModelError(
            f'The arguments of classifier {architecture!r} are not valid: {error}.'
        ) from error
    return joined(made)


def load_network(build: Callable[[], Network], path: Path, what: str) -> Network:
    """Build a network and load its weights; refuse one that is much larger than their file.

    Parameters
    ----------
    build : callable
        Function without parameters that makes the network.
    path : Path
        ``.safetensors`` file.
    what : str
        Description of the network for messages.

    Raises
    ------
    ModelError
        If the file cannot be read or does not match the network.
    """
    with torch.device('meta'):  # nothing is allocated
        needed = sum(value.numel() for value in build().state_dict().values())
    try:
        held = path.stat().st_size
    except OSError as error:
        raise ModelError(f'{path} cannot be read: {error}.') from error
    if needed > held:
        raise ModelError(f'{path} does not match {what}: {needed} numbers do not fit into it.')
    network = build()
    load_weights(network, path, what)
    return network


def load_weights(network: nn.Module, path: Path, what: str) -> None:
    """Load weights of a ``.safetensors`` file into a network, floats as float32.

    Raises
    ------
    ModelError
        If the file cannot be read or does not match the network, described by ``what``.
    """
    try:
        weights = {
            name: value.float() if value.is_floating_point() else value
            for name, value in load_file(path).items()
        }
        network.load_state_dict(weights)
    except (RuntimeError, SafetensorError, OSError) as error:
        raise ModelError(f'{path} does not match {what}: {error}.') from error
