"""What a training puts into the bundle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.spatial import Grid
from bids_interp.training.bundle_config import reference_images
from bids_interp.training.cohort.cohort import Cohort

SHAPE = (2, 2, 2)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def cohort_for(target: Target, labels: np.ndarray) -> Cohort:
    """Images whose voxels are all 0, 1, 2, ..."""
    count = len(labels)
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1, 1).expand(-1, 1, *SHAPE)
    return Cohort(
        images,
        labels,
        np.arange(count),
        tuple((str(index),) for index in range(count)),
        Grid(SHAPE, np.eye(4)),
        np.ones(SHAPE, bool),
        Preprocessing(),
        target,
        tuple(str(index) for index in range(count)),
    )


@pytest.mark.parametrize(
    ('target', 'labels', 'expected'),
    [
        (Target('multiclass', 'dx', ('a', 'b', 'c')), LABELS, [1.5, 2.5]),
        (Target('binary', 'dx', ('a', 'b')), LABELS % 2, [np.mean([0, 2, 3, 5])]),
        (Target('regression', 'age', (), 1.0, 1.0), LABELS.astype(float), [2.5]),
    ],
)
def test_every_class_that_is_a_negative_one_gets_its_mean_image(
    target: Target, labels: np.ndarray, expected: list[float]
) -> None:
    means = reference_images(cohort_for(target, labels))
    assert means.shape == (len(expected), *SHAPE)
    assert means[:, 0, 0, 0].tolist() == expected
    assert (means.min(axis=(1, 2, 3)) == means.max(axis=(1, 2, 3))).all()
