"""Loader of external classifiers."""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bids_interp.errors import ModelError, UsageError
from bids_interp.models.external.card import ClassifierCard
from bids_interp.models.external.checks import check_classifier
from bids_interp.models.external.export_archive import EXPORT_ADVICE, load_program
from bids_interp.models.external.network import ExternalClassifier
from bids_interp.models.networks.registry import build_classifier, load_network

__all__ = ['ExternalSource', 'check_classifier', 'load_external', 'source_of']

LOGGER = logging.getLogger('bids_interp.models')
PICKLES = {'.bin', '.ckpt', '.joblib', '.pkl', '.pickle', '.pt', '.pth'}


@dataclass(frozen=True)
class ExternalSource:
    """Origin of an external classifier.

    Parameters
    ----------
    kind : {'export', 'registry', 'module'}
        A ``torch.export`` archive; weights for an architecture of the registry; Python code.
    location : str
        The ``.pt2`` file; the ``.safetensors`` file; ``'package.module:attribute'``.
    architecture : str
        Name in the registry; by default that of the card.
    arguments : dict
        Arguments of the architecture, or of a function or class that makes the module.
    """

    kind: str
    location: str
    architecture: str = ''
    arguments: dict[str, Any] = field(default_factory=dict)


def source_of(
    text_or_path: str | Path | None, module: str | None = None, allow_code: bool = False
) -> ExternalSource:
    """Return the origin of a classifier given as a file or a module.

    Parameters
    ----------
    text_or_path : path-like or None
        A ``.pt2`` or ``.safetensors`` file.
    module : str or None
        ``'package.module:attribute'`` instead of a file.
    allow_code : bool
        Permission of the user to import and run the module.

    Raises
    ------
    UsageError
        If both or neither are given, or a module without ``allow_code``.
    ModelError
        If the file is missing, or of a kind that is not supported.
    """
    if (text_or_path is None) == (module is None):
        raise UsageError(
            'A classifier must be either a file or a module.',
            'Use one of --classifier and --classifier-module.',
        )
    if module is not None:
        package, _, attribute = module.partition(':')
        if not all(name.isidentifier() for name in [*package.split('.'), *attribute.split('.')]):
            raise UsageError(f'{module!r} does not have the form package.module:attribute.', '')
        _need_permission(module, allow_code)
        return ExternalSource('module', module)
    path = Path(str(text_or_path))
    if not path.is_file():
        raise ModelError(f'The classifier {path} does not exist.', 'Check the path.')
    if path.suffix == '.pt2':
        return ExternalSource('export', str(path))
    if path.suffix == '.safetensors':
        return ExternalSource('registry', str(path))
    why = 'It may be a pickle, which can run code when read. ' if path.suffix in PICKLES else ''
    raise ModelError(f'{path} is neither a .pt2 nor a .safetensors file.', f'{why}{EXPORT_ADVICE}')


def _need_permission(module: str, allow_code: bool) -> None:
    if not allow_code:
        raise UsageError(
            f'Importing {module} runs its Python code with your permissions.',
            'Add --allow-code if you trust the code, or export the model to .pt2.',
        )


def load_external(
    source: ExternalSource, card: ClassifierCard, allow_code: bool = False
) -> ExternalClassifier:
    """Load a classifier, frozen and in evaluation mode, on the CPU.

    Parameters
    ----------
    source : ExternalSource
        Result of :func:`source_of`.
    card : ClassifierCard
        Description of input and output.
    allow_code : bool
        Permission to import and run a module. A ``.pt2`` or ``.safetensors`` file is data; see
        :mod:`bids_interp.models.external.export_archive` for the guarantees.

    Returns
    -------
    ExternalClassifier
        Network from (B, 1, X, Y, Z) float32 on the card's grid to logits (B, K), differentiable
        with respect to the input.

    Raises
    ------
    ModelError
        If the file cannot be loaded safely, or does not match the card.
    UsageError
        If loading would run code without permission.
    """
    if source.kind == 'export':
        network = _load_export(Path(source.location), card)
    elif source.kind == 'registry':
        network = _load_registry(source, card).eval()
    elif source.kind == 'module':
        _need_permission(source.location, allow_code)
        network = _load_module(source, card)
    else:
        raise ModelError(f'Unknown kind of classifier {source.kind!r}.')
    return ExternalClassifier(network, card).requires_grad_(False)


def _load_export(path: Path, card: ClassifierCard) -> nn.Module:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f'The classifier {path} cannot be read: {error}.') from error
    program = load_program(data, str(path))
    (name,) = program.graph_signature.user_inputs
    (node,) = (node for node in program.graph.nodes if node.name == name)
    shape = tuple(node.meta['val'].shape)
    described = (1, *card.network_shape)
    # A size that is not a number is a symbol, which accepts any size.
    fixed = [(a, b) for a, b in zip(shape[1:], described, strict=False) if isinstance(a, int)]
    if len(shape) != 5 or any(size != promised for size, promised in fixed):
        raise ModelError(
            f'{path} was exported for an input of {shape[1:]}, channel first, but its card '
            f'describes {described}.',
            'Correct input_shape or axis_order in the card, or export it again.',
        )
    if isinstance(shape[0], int):
        raise ModelError(f'{path} was exported for a batch of exactly {shape[0]}.', EXPORT_ADVICE)
    # Guards would be compiled from text, and the shape is already checked.
    network = program.module(check_guards=False)
    for part in network.modules():
        constants = {k: v for k, v in vars(part).items() if isinstance(v, torch.Tensor)}
        for name, value in constants.items():  # buffers move between devices
            delattr(part, name)
            part.register_buffer(name, value, persistent=False)
    return network


def _load_registry(source: ExternalSource, card: ClassifierCard) -> nn.Module:
    architecture = source.architecture or card.architecture
    if not architecture:
        raise ModelError(
            f'The weights in {source.location} need an architecture.',
            'Add "architecture" and "arguments" to the card, or export the model to .pt2.',
        )
    arguments = {'outputs': card.n_outputs, **(source.arguments or card.arguments)}
    build = partial(build_classifier, architecture, **{'shape': card.network_shape, **arguments})
    return load_network(build, Path(source.location), f'architecture {architecture!r}')


def _load_module(source: ExternalSource, card: ClassifierCard) -> nn.Module:
    package, _, attribute = source.location.partition(':')
    LOGGER.warning('Running the code of %s, permitted by --allow-code.', source.location)
    try:
        found: Any = importlib.import_module(package)
        for name in attribute.split('.'):
            found = getattr(found, name)
        if not isinstance(found, nn.Module):
            found = found(**(source.arguments or card.arguments))
        if isinstance(found, nn.Module):
            return found.eval()
    except Exception as error:  # the user's code may raise anything
        raise ModelError(
            f'{source.location} cannot be loaded: {type(error).__name__}: {error}.',
            'Check that its folder is in PYTHONPATH and that it accepts the arguments of the card.',
        ) from error
    raise ModelError(f'{source.location} is a {type(found).__name__}, not a torch.nn.Module.')
