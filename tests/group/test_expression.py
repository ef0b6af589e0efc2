"""The score measures observed anatomy, and nobody's own data make their own pattern."""

from __future__ import annotations

import numpy as np
import pytest

from bids_interp.errors import ImageError
from bids_interp.evaluation.scores import auc
from bids_interp.group.expression import (
    expression_scores,
    fit_score,
    nuisance,
    predicted_change,
    standardised,
)
from bids_interp.spatial import exponential, warp


@pytest.fixture
def setting(made_up):
    mean, inside = made_up.brain()
    grid = made_up.grid()
    basis = np.linalg.qr(nuisance(mean, grid, inside))[0]
    return mean, inside, grid, basis


def test_the_dose_is_found(setting, made_up) -> None:
    """Whatever offset, gain and misalignment an image has besides."""
    mean, inside, grid, basis = setting
    change = predicted_change(mean, made_up.pattern(), grid, inside)
    columns = nuisance(mean, grid, inside)
    rng = np.random.default_rng(0)
    for dose in (-0.5, 0.0, 0.8):
        image = np.zeros_like(mean)
        image[inside] = columns @ rng.normal(0, 0.5, 14) + dose * change
        assert fit_score(image, basis, change, inside)[0] == pytest.approx(dose)


def test_the_sign_is_that_of_the_warp(setting, made_up) -> None:
    """An image that is really warped by the pattern scores as its dose, nearly."""
    import torch

    mean, inside, grid, basis = setting
    velocity = 0.3 * made_up.pattern()
    change = predicted_change(mean, velocity, grid, inside)
    back = exponential(torch.from_numpy(-velocity).float()[None], grid)
    moved = warp(torch.from_numpy(mean).float()[None, None], back, grid)
    score, explained = fit_score(moved[0, 0].numpy(), basis, change, inside)
    assert 0.3 < score < 1.3
    assert explained > 0.3


def test_a_shift_alone_is_no_expression(setting) -> None:
    mean, inside, grid, basis = setting
    velocity = np.ones((3, *mean.shape)) * np.array([1.0, -2, 0.5])[:, None, None, None]
    change = predicted_change(mean, velocity, grid, inside)
    with pytest.raises(ImageError, match='does not change'):
        fit_score(mean, basis, change, inside)


def test_scores_separate_the_groups(make_cohort, chosen) -> None:
    cohort = make_cohort(
        ['patient', 'control'] * 5, folds=[(0,), (1,)] * 5, expression={'patient': 0.8}
    )
    scores = expression_scores(chosen(cohort.out))
    values = np.array([score.value for score in scores])
    assert auc(values, np.array([label == 'patient' for label in cohort.labels])) > 0.9
    assert all(score.reason == '' for score in scores)


def test_nobody_enters_their_own_pattern_or_mean(make_cohort, chosen, made_up) -> None:
    """The score is that of pattern and mean image made without the subject, by hand."""
    scans = chosen(make_cohort(('a', 'b', 'a')).out)
    mine = np.random.default_rng(9).standard_normal((3, *made_up.truth().shape)) * 50
    path = scans[0].velocity
    made_up.save(path, np.moveaxis(mine, 0, -1)[..., None, :].astype('f4'), made_up.grid().affine)
    before = expression_scores(scans)
    made_up.save(path, np.zeros((*made_up.truth().shape, 1, 3), 'f4'), made_up.grid().affine)
    after = expression_scores(scans)
    assert after[0].value == pytest.approx(before[0].value, abs=1e-9)
    assert after[1].value != pytest.approx(before[1].value, abs=1e-3)


def test_the_mean_image_is_of_other_folds(make_cohort, chosen, made_up) -> None:
    """What subjects of the same fold look like does not change a score."""
    scans = chosen(make_cohort(['a'] * 6, folds=[(0,)] * 3 + [(1,)] * 3).out)
    before = expression_scores(scans)
    _, inside = made_up.brain()
    rng = np.random.default_rng(1)
    image = np.where(inside, rng.uniform(1, 2, inside.shape), 0)
    made_up.save(scans[1].model_input, image.astype('f4'), made_up.grid().affine)
    after = expression_scores(scans)
    assert after[0].value == pytest.approx(before[0].value, abs=1e-9)
    assert after[4].value != pytest.approx(before[4].value, abs=1e-6)


def test_alone_in_a_fold(make_cohort, chosen) -> None:
    scans = chosen(make_cohort(['a'] * 4, folds=[(0,), (0,), (0,), (1,)]).out)
    scores = expression_scores(scans)
    assert scores[3].value is None
    assert 'nobody else' in scores[3].reason
    assert scores[0].value is not None


def test_further_images_are_scored_without_their_subject(make_cohort, chosen) -> None:
    cohort = make_cohort(['a'] * 4, sessions=('x', 'y'), change=0.5)
    scores = {score.prefix: score.value for score in expression_scores(chosen(cohort.out))}
    assert len(scores) == 8
    changes = [scores[f'sub-0{n}_ses-y'] - scores[f'sub-0{n}_ses-x'] for n in range(1, 5)]
    assert np.mean(changes) == pytest.approx(0.5, abs=0.3)


def test_missing_and_damaged_inputs_have_a_reason(make_cohort, chosen, made_up) -> None:
    scans = chosen(make_cohort().out)
    scans[0].velocity.unlink()
    scans[1].model_input.write_bytes(b'nothing')
    made_up.save(
        scans[2].model_input, np.full(made_up.truth().shape, np.nan, 'f4'), made_up.grid().affine
    )
    scores = expression_scores(scans)
    assert [score.value is None for score in scores] == [True, True, True, False, False, False]
    assert all(score.reason for score in scores[:3])


def test_units_are_those_of_the_controls() -> None:
    values = [0.0, 1.0, 2.0, 10.0, 11.0, 12.0, None]
    blocks = ['0'] * 3 + ['1'] * 4
    scaled, sd = standardised(values, blocks, [True] * 7)
    assert sd == pytest.approx(1.0)
    np.testing.assert_allclose(scaled[:6], [-1, 0, 1, -1, 0, 1])
    assert scaled[6] is None
    assert standardised([1.0, 2.0], ['0', '0'], [True, True]) == ([None, None], None)
