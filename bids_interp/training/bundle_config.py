"""Configuration of a model bundle, from the cohort, the metrics and the settings of a training."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bids_interp.models.bundle.schema import (
    BundleConfig,
    ModelFacts,
    TrainingFacts,
)
from bids_interp.models.explain.realism import intensity_statistics
from bids_interp.training.assemble import Assembled, training_scans
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.version import __version__


def bundle_config(
    cohort: Cohort, assembled: Assembled, facts: ModelFacts, seed: int
) -> BundleConfig:
    """Return the configuration of a bundle; folds and files are added when it is saved.

    Parameters
    ----------
    cohort : Cohort
        Training images.
    assembled : Assembled
        Metrics and folds.
    facts : ModelFacts
        Name, networks and settings of the model.
    seed : int
        Random seed of the training.
    """
    simulator = facts.simulator
    if len(cohort.target.contrasts) > 1:
        simulator = replace(simulator, contrasts=len(cohort.target.contrasts))
    return BundleConfig(
        name=facts.name,
        license=facts.license,
        created=facts.created,
        version=__version__,
        grid=cohort.grid,
        template=cohort.grid.space,
        target=cohort.target,
        preprocessing=cohort.preprocessing,
        classifier=facts.classifier,
        simulator=simulator,
        training=_training_facts(cohort, facts.training, seed),
        training_intensities=intensity_statistics(cohort.images, cohort.grid, cohort.mask),
        training_scans=training_scans(cohort, assembled.fold_of, reference_images(cohort)[0]),
        metrics=assembled.metrics,
        folds=[],
        files={},
    )


def _training_facts(cohort: Cohort, facts: TrainingFacts, seed: int) -> TrainingFacts:
    counts: dict[str, int] = {}
    if cohort.target.kind != 'regression':
        for number, name in enumerate(cohort.target.classes):
            counts[name] = int((cohort.labels == number).sum())
    return replace(
        facts,
        seed=seed,
        n_images=len(cohort),
        n_families=len(np.unique(cohort.families)),
        n_per_class=counts,
        versions={
            'bids_interp': __version__,
            'torch': torch.__version__,
            'python': platform.python_version(),
        },
    )


def classifier_file(source: Mapping[str, Any] | None) -> Path | None:
    """Return the file of a given classifier that the bundle keeps; None for code or no source."""
    return None if source is None or source['kind'] == 'module' else Path(source['location'])


def reference_images(cohort: Cohort) -> np.ndarray:
    """Mean inputs (C, X, Y, Z) of all classes but the last; one mean input for a regression.

    The last class is never the negative one of a contrast.
    """
    if cohort.target.kind == 'regression':
        groups = [np.arange(len(cohort))]
    else:
        groups = [np.flatnonzero(cohort.labels == n) for n in range(len(cohort.target.classes) - 1)]
    return np.stack([cohort.images[group].mean(dim=0)[0].numpy() for group in groups])
