"""Learned labels: the directions in which scores of different subjects depend on each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bids_interp.group.analysis import GroupAnalysis


def learned_directions(analysis: GroupAnalysis, subjects: Sequence[str]) -> np.ndarray | None:
    """Return orthonormal directions (N, L) of the labels that the models have learned.

    Parameters
    ----------
    analysis : GroupAnalysis
        Requested analysis.
    subjects : sequence of str
        Labels of N included subjects.

    Returns
    -------
    numpy.ndarray, optional
        One direction for two classes or a number, one less than the classes otherwise. Subjects
        that were not used in the training have the value 0. If the tables lack the label of a
        training subject, any variable may follow it, and the directions are all of them. None
        without training subjects.
    """
    scans = {scan.subject: scan for scan in analysis.included}
    trained = np.array([scans[subject].in_training for subject in subjects], bool)
    if not trained.any():
        return None
    target = analysis.target
    values = analysis.columns.values.get(target.label, {})
    labels = [values.get(scans[subject].prefix) for subject in subjects]
    own = [label for label, used in zip(labels, trained, strict=True) if used]
    if any(label is None for label in own):
        return np.eye(len(subjects))
    texts = np.array([str(label) for label in own])
    if target.kind == 'regression':
        columns = texts.astype(float)[:, None]
    else:
        columns = (texts[:, None] == np.unique(texts)).astype(float)
    directions = np.zeros((len(subjects), columns.shape[1]))
    directions[trained] = columns - columns.mean(axis=0)
    basis, lengths, _ = np.linalg.svd(directions, full_matrices=False)
    return np.asarray(basis[:, lengths > 1e-9 * max(float(lengths.max()), 1.0)])
