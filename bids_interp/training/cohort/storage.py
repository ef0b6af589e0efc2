"""Storage of the intermediate results of a training, as safetensors with JSON; never pickled."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from bids_interp.models.bundle.fold_metrics import FoldMetrics
from bids_interp.models.bundle.writer import TrainedFold
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.records import from_plain, to_plain
from bids_interp.spatial import Grid
from bids_interp.training.classifier import ClassifierRecipe, TrainedClassifier, restored
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.fold import FoldResult
from bids_interp.training.morphometry import MorphometryRecipe
from bids_interp.training.sanity import Sanity, SanityMetrics

_FACTS = 'facts'


def _save(path: Path, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    kept = {name: value.contiguous() for name, value in tensors.items()}
    save_file(kept, path, metadata={_FACTS: json.dumps(facts)})


def _load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, framework='pt') as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        return tensors, json.loads(stream.metadata()[_FACTS])


def save_cohort(path: Path, cohort: Cohort) -> None:
    """Write a cohort to a ``.safetensors`` file."""
    tensors = {
        'images': cohort.images,
        'labels': torch.from_numpy(np.asarray(cohort.labels, np.float64)),
        'families': torch.from_numpy(np.asarray(cohort.families, np.int64)),
        'mask': torch.from_numpy(cohort.mask.astype(np.uint8)),
    }
    if cohort.covariates is not None:
        tensors['covariates'] = torch.from_numpy(cohort.covariates)
    facts = {
        'keys': cohort.keys,
        'grid': cohort.grid.to_dict(),
        'preprocessing': cohort.preprocessing.to_dict(),
        'target': asdict(cohort.target),
        'names': cohort.names,
    }
    _save(path, tensors, facts)


def load_cohort(path: Path) -> Cohort:
    """Read what :func:`save_cohort` wrote."""
    tensors, facts = _load(path)
    target = Target(**{**facts['target'], 'classes': tuple(facts['target']['classes'])})
    labels = tensors['labels'].numpy()
    return Cohort(
        tensors['images'],
        labels if target.kind == 'regression' else labels.astype(int),
        tensors['families'].numpy(),
        tuple(tuple(keys) for keys in facts['keys']),
        Grid.from_dict(facts['grid']),
        tensors['mask'].numpy().astype(bool),
        Preprocessing(**facts['preprocessing']),
        target,
        tuple(facts['names']),
        tensors['covariates'].numpy() if 'covariates' in tensors else None,
    )


def save_folds(path: Path, folds: list[Fold]) -> None:
    """Write folds to a ``.safetensors`` file."""
    tensors = {
        f'{index}.{part}': torch.from_numpy(np.asarray(getattr(fold, part), np.int64))
        for index, fold in enumerate(folds)
        for part in ('train', 'validation', 'test')
    }
    _save(path, tensors, {'n': len(folds)})


def load_folds(path: Path) -> list[Fold]:
    """Read what :func:`save_folds` wrote."""
    tensors, facts = _load(path)
    return [
        Fold(*(tensors[f'{index}.{part}'].numpy() for part in ('train', 'validation', 'test')))
        for index in range(facts['n'])
    ]


def save_result(path: Path, result: FoldResult) -> None:
    """Write the result of a fold to a ``.safetensors`` file."""
    trained = result.trained
    tensors = {
        **{f'classifier.{name}': value for name, value in trained.classifier.items()},
        **{f'simulator.{name}': value for name, value in trained.simulator.items()},
        **{f'map.{name}': torch.from_numpy(value) for name, value in result.maps.items()},
        'test_outputs': torch.from_numpy(result.test_outputs),
    }
    facts = {
        'temperature': trained.temperature,
        'intercept': trained.intercept,
        'class_gap': trained.class_gap,
        'metrics': to_plain(trained.metrics),
    }
    _save(path, tensors, facts)


def load_result(path: Path) -> FoldResult:
    """Read what :func:`save_result` wrote."""
    tensors, facts = _load(path)

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}

    trained = TrainedFold(
        part('classifier.'),
        part('simulator.'),
        facts['temperature'],
        facts['class_gap'],
        from_plain(FoldMetrics, facts['metrics']),
        facts['intercept'],
    )
    maps = {name: value.numpy() for name, value in part('map.').items()}
    return FoldResult(trained, tensors['test_outputs'].numpy(), maps)


def save_classifiers(path: Path, members: Sequence[TrainedClassifier]) -> None:
    """Write the classifiers of a fold to a ``.safetensors`` file."""
    tensors: dict[str, torch.Tensor] = {}
    for number, member in enumerate(members):
        refitted = member.held_out is not member.network
        for part in ('network', 'held_out')[: 1 + refitted]:
            weights = getattr(member, part).state_dict()
            tensors |= {f'{number}.{part}.{n}': value.clone() for n, value in weights.items()}
    _save(path, tensors, {'n': len(members)})


def load_classifiers(
    path: Path, recipe: ClassifierRecipe | MorphometryRecipe, cohort: Cohort
) -> list[TrainedClassifier]:
    """Read what :func:`save_classifiers` wrote for classifiers of a recipe."""
    tensors, facts = _load(path)

    def network(prefix: str) -> nn.Module:
        weights = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
        return restored(recipe, cohort, weights)

    members = []
    for number in range(facts['n']):
        final = network(f'{number}.network.')
        refitted = any(name.startswith(f'{number}.held_out.') for name in tensors)
        held_out = network(f'{number}.held_out.') if refitted else final
        members.append(TrainedClassifier(final, held_out))
    return members


def save_sanity(path: Path, sanity: Sanity) -> None:
    """Write the sanity checks of a fold to a ``.safetensors`` file."""
    maps = {name: torch.from_numpy(value) for name, value in sanity.maps.items()}
    _save(path, maps, to_plain(sanity.metrics))


def load_sanity(path: Path) -> Sanity:
    """Read what :func:`save_sanity` wrote."""
    tensors, metrics = _load(path)
    maps = {name: value.numpy() for name, value in tensors.items()}
    return Sanity(from_plain(SanityMetrics, metrics), maps)


def save_input_space(
    path: Path, grid: Grid, mask: np.ndarray, preprocessing: Preprocessing
) -> None:
    """Write the grid, mask and preprocessing of all inputs of a model to ``.safetensors``."""
    facts = {'grid': grid.to_dict(), 'preprocessing': preprocessing.to_dict()}
    _save(path, {'mask': torch.from_numpy(mask.astype(np.uint8))}, facts)


def load_input_space(path: Path) -> tuple[Grid, np.ndarray, Preprocessing]:
    """Read what :func:`save_input_space` wrote."""
    tensors, facts = _load(path)
    mask = tensors['mask'].numpy().astype(bool)
    return Grid.from_dict(facts['grid']), mask, Preprocessing(**facts['preprocessing'])


def save_input(path: Path, image: torch.Tensor) -> None:
    """Write one input (1, 1, X, Y, Z) to a ``.safetensors`` file, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{os.getpid()}-{path.name}')
    _save(partial, {'image': image}, {})
    os.replace(partial, path)


def load_input(path: Path) -> torch.Tensor:
    """Read what :func:`save_input` wrote."""
    return _load(path)[0]['image']
