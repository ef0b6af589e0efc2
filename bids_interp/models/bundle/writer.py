"""Writer of model bundles; a bundle is written completely or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from bids_interp.bids.write.temporaries import new_folder
from bids_interp.errors import ModelError
from bids_interp.models.bundle.contents import CARD, IMAGES, sha256_of
from bids_interp.models.bundle.fold_metrics import FoldMetrics
from bids_interp.models.bundle.reader import ModelBundle, load_bundle, mean_image_key
from bids_interp.models.bundle.schema import CONFIG, BundleConfig, FoldConfig


@dataclass
class TrainedFold:
    """Trained networks and measurements of one fold.

    Parameters
    ----------
    classifier, simulator : dict of torch.Tensor
        State dictionaries.
    temperature, class_gap : float, or list of float
        See :class:`FoldModels`; one for each contrast if there are several.
    metrics : FoldMetrics
        Measurements of this fold.
    intercept : float, or sequence of float
        See :class:`FoldConfig`.
    """

    classifier: dict[str, torch.Tensor]
    simulator: dict[str, torch.Tensor]
    temperature: float | Sequence[float]
    class_gap: float | Sequence[float]
    metrics: FoldMetrics
    intercept: float | Sequence[float] = 0.0


def _write_weights(path: Path, weights: dict[str, torch.Tensor], half_precision: bool) -> None:
    """Write weights as floats of one type; integers (of batch normalisation) stay integers."""
    kept = torch.float16 if half_precision else torch.float32
    save_file(
        {
            name: (value.detach().cpu().to(kept) if value.is_floating_point() else value)
            .contiguous()
            .clone()
            for name, value in weights.items()
        },
        path,
    )


def _write_fold(
    folder: Path, index: int, fold: TrainedFold, given: str, half_precision: bool
) -> FoldConfig:
    """Write the weights of a fold; a given classifier has no weights of its own."""
    names = {'classifier': given, 'simulator': ''}
    for what in names:
        weights = getattr(fold, what)
        if weights:
            names[what] = f'fold-{index}_{what}.safetensors'
            _write_weights(folder / names[what], weights, half_precision)
    return FoldConfig(
        fold.temperature, fold.class_gap, fold.metrics, **names, intercept=fold.intercept
    )


def save_bundle(
    path: Path | str,
    config: BundleConfig,
    folds: list[TrainedFold],
    brain_mask: np.ndarray,
    mean_image: np.ndarray,
    card: str,
    *,
    half_precision: bool = False,
    classifier_file: Path | None = None,
    overwrite: bool = False,
) -> ModelBundle:
    """Write a bundle; its folder appears only when it is complete.

    Parameters
    ----------
    path : path-like
        Folder to make.
    config : BundleConfig
        Description of the model; its ``folds`` and ``files`` are filled in here.
    folds : list of TrainedFold
        One per fold.
    brain_mask : numpy.ndarray
        (X, Y, Z) on the model's grid.
    mean_image : numpy.ndarray
        Mean input: (X, Y, Z) of the first class, or of all images for a regression; or
        (C, X, Y, Z) of the first C classes, one for each negative class of a contrast.
    card : str
        Text of the model card.
    half_precision : bool
        Store weights as float16.
    classifier_file : pathlib.Path, optional
        A given classifier, copied into the bundle unchanged, instead of weights of each fold.
    overwrite : bool
        Replace an existing bundle.

    Raises
    ------
    ModelError
        If ``path`` exists and ``overwrite`` is false, or the weights are not finite.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise ModelError(f'{path} already exists.', 'Choose another folder, or use --overwrite.')
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(path) as scratch:
        images = {'brain_mask': torch.from_numpy(brain_mask.astype(np.uint8))}
        for number, mean in enumerate(mean_image.reshape(-1, *brain_mask.shape)):
            fits = np.abs(mean).max() < np.finfo(np.float16).max
            kept = mean.astype(np.float16 if fits else np.float32)
            images[mean_image_key(number)] = torch.from_numpy(kept)
        save_file(images, scratch / IMAGES)
        given = ''
        if classifier_file is not None:
            given = f'classifier{classifier_file.suffix}'
            shutil.copyfile(classifier_file, scratch / given)
        written = [
            _write_fold(scratch, index, fold, given, half_precision)
            for index, fold in enumerate(folds)
        ]
        (scratch / CARD).write_text(card, encoding='utf-8')
        files = {file.name: sha256_of(file) for file in sorted(scratch.iterdir()) if file.is_file()}
        config = replace(config, folds=written, files=files)
        (scratch / CONFIG).write_text(config.to_json(), encoding='utf-8')
        load_bundle(scratch)  # an earlier bundle is replaced only by an intact one
    return load_bundle(path)
