"""Cohort and folds, assembled from prepared inputs and a table of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bids_interp.evaluation.confounds import covariate_columns
from bids_interp.models.target import Target
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold, make_folds
from bids_interp.training.cohort.storage import load_input, load_input_space

#: Number of quantile bins of a regression target that are used to balance the folds.
PARTS = 4


def gather_cohort(inputs: Sequence[Path], input_space: Path, table: Mapping[str, Any]) -> Cohort:
    """Read the inputs of all images into a cohort.

    Parameters
    ----------
    inputs : sequence of pathlib.Path
        Files written by :func:`bids_interp.training.cohort.storage.save_input`, in the order of the
        table.
    input_space : pathlib.Path
        File written by :func:`bids_interp.training.cohort.storage.save_input_space`.
    table : mapping
        ``target`` (as written by :meth:`Target.to_dict`) and, for each image, ``names``,
        ``labels``, ``families`` and ``keys``; if any, ``covariates`` (column to values) and
        ``site`` (the column of sites, whose values are categories).
    """
    grid, mask, preprocessing = load_input_space(input_space)
    target = Target.from_dict(table['target'])
    labels = np.array(table['labels'], np.float64)
    covariates = table.get('covariates')
    _, families = np.unique(np.array(table['families'], str), return_inverse=True)
    return Cohort(
        torch.cat([load_input(path) for path in inputs]),
        labels if target.kind == 'regression' else labels.astype(int),
        families,
        tuple(tuple(keys) for keys in table['keys']),
        grid,
        mask,
        preprocessing,
        target,
        tuple(table['names']),
        covariate_columns(covariates, [table['site']] if table.get('site') else [])
        if covariates
        else None,
    )


def split_cohort(cohort: Cohort, table: Mapping[str, Any], n_folds: int, seed: int) -> list[Fold]:
    """Split a cohort into folds, balanced by the covariates of the table (``strata``)."""
    if cohort.target.kind != 'regression':
        labels, names = cohort.labels, cohort.target.classes
    else:
        cuts = np.quantile(cohort.labels, np.linspace(0, 1, PARTS + 1)[1:-1])
        labels = np.searchsorted(np.unique(cuts), cohort.labels, side='right')
        names = tuple(f'{cohort.target.label}, part {part + 1}' for part in range(PARTS))
    strata = [np.array(codes, str) for codes in table['strata']]
    return make_folds(labels, cohort.families, n_folds, seed, strata, names=names)
