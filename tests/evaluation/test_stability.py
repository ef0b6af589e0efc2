"""Agreement of maps, and the one definition of a reliable voxel."""

from __future__ import annotations

import numpy as np
import pytest

from bids_interp.evaluation.stability import (
    MAGNITUDE,
    SAME_SIGN,
    reliable_voxels,
    sign_agreement,
    stability_maps,
)


def test_agreement_is_the_share_with_the_sign_of_the_mean():
    maps = np.array([[3.0, -1.0, 0.0, 1.0], [-1.0, -1.0, 0.0, -1.0], [1.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(sign_agreement(maps), [2 / 3, 2 / 3, 0, 0])


@pytest.mark.parametrize('sign', [1, -1])
def test_reliable_asks_for_size_subjects_and_folds(sign):
    mean = sign * MAGNITUDE * np.array([1.0, 0.999, 2.0, 2.0])
    share = np.array([SAME_SIGN, 1.0, SAME_SIGN - 0.001, 1.0])
    assert reliable_voxels(mean, share, None).tolist() == [True, False, False, True]
    folds = np.array([1.0, 1.0, 1.0, 0.8])
    assert reliable_voxels(mean, share, folds).tolist() == [True, False, False, False]


def test_stability_of_three_trainings():
    maps = [np.array([[[1.0, 0.0]]]), np.array([[[4.0, 1.0]]]), np.array([[[-2.0, -1.0]]])]
    found = stability_maps(maps)
    np.testing.assert_allclose(found['mean'], [[[1.0, 0.0]]])
    np.testing.assert_allclose(found['sd'], [[[3.0, 1.0]]])
    np.testing.assert_allclose(found['samesign'], [[[2 / 3, 0.0]]])
    with pytest.raises(ValueError, match='two'):
        stability_maps(maps[:1])
