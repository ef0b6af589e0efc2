"""The score measures observed anatomy, and nobody's own data make their own pattern."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from bids_interp.errors import ImageError
from bids_interp.evaluation.scores import auc
from bids_interp.group.statistics.expression import (
    NO_PATTERN,
    divergence,
    expression_scores,
    fit_score,
    interpolate,
    standardise,
)
from bids_interp.spatial import exponential, log_jacobian
from bids_interp.spatial.grid import Grid
from helpers import cohorts


def test_the_dose_is_found() -> None:
    """Whatever head size is left besides."""
    pattern = divergence(cohorts.pattern(), cohorts.grid())[cohorts.brain()[1]]
    for dose in (-0.5, 0.0, 0.8):
        score, share = fit_score(0.3 + dose * pattern, pattern)
        assert score == pytest.approx(dose)
        assert share == pytest.approx(float(dose != 0))


def test_the_share_is_that_of_the_variance() -> None:
    pattern = np.array([1.0, -1.0, 1.0, -1.0])
    assert fit_score(2 * pattern + np.array([1.0, 1.0, -1.0, -1.0]), pattern) == (2.0, 0.8)


def test_the_sign_is_that_of_the_deformation() -> None:
    """Volumes of the pattern's own deformation score as its dose, nearly."""
    import torch

    inside, grid = cohorts.brain()[1], cohorts.grid()
    velocity = 0.3 * cohorts.pattern()
    forward = exponential(torch.from_numpy(velocity).float()[None], grid)
    volumes = log_jacobian(forward, grid)[0, 0].numpy()
    score, explained = fit_score(volumes[inside], divergence(velocity, grid)[inside])
    assert 0.6 < score < 1.3
    assert explained > 0.8


def test_divergence_does_not_depend_on_how_voxels_are_stored() -> None:
    """An oblique grid, flipped and anisotropic, sees the same growth per dose."""
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([2.0, 3.0, 5.0])
    grid = Grid((5, 6, 4), affine)
    matrix = np.array([[0.1, 0.2, 0.0], [-0.3, 0.05, 0.1], [0.0, 0.4, -0.2]])
    velocity = np.einsum('ij,jxyz->ixyz', matrix, grid.world_coordinates())
    np.testing.assert_allclose(divergence(velocity, grid), np.trace(matrix), atol=1e-6)


def test_a_pattern_is_carried_to_the_grid_of_the_anatomy() -> None:
    fine = Grid((9, 9, 9), np.diag([2.0, 2.0, 2.0, 1.0]))
    flipped = np.diag([-4.0, 4.0, 4.0, 1.0])
    flipped[:3, 3] = [16.0, 0.0, 0.0]
    coarse = Grid((5, 5, 5), flipped)
    volume = fine.world_coordinates()[0].astype(float)
    np.testing.assert_allclose(interpolate(volume, fine, coarse), coarse.world_coordinates()[0])


def test_growth_of_the_whole_is_no_expression() -> None:
    """Head size is taken out of the anatomy, so that a pattern of nothing else has no score."""
    grid = cohorts.grid()
    pattern = divergence(0.01 * grid.world_coordinates(), grid)[cohorts.brain()[1]]
    with pytest.raises(ImageError):
        fit_score(np.random.default_rng(0).standard_normal(len(pattern)), pattern)


def test_scores_separate_the_groups(make_cohort, chosen) -> None:
    cohort = make_cohort(
        ['patient', 'control'] * 5, folds=[(0,), (1,)] * 5, expression={'patient': 0.8}
    )
    scores = expression_scores(chosen(cohort.out))
    values = np.array([score.value for score in scores])
    assert auc(values, np.array([label == 'patient' for label in cohort.labels])) > 0.9
    assert all(score.reason == '' for score in scores)


def test_nobody_enters_their_own_pattern_or_mean(make_cohort, chosen) -> None:
    """The score is that of pattern and mean made without the subject, by hand."""
    scans = chosen(make_cohort(('a', 'b', 'a')).out)
    mine = np.random.default_rng(9).standard_normal((3, *cohorts.truth().shape)) * 50
    path = scans[0].velocity
    cohorts.save(path, np.moveaxis(mine, 0, -1)[..., None, :].astype('f4'), cohorts.grid().affine)
    before = expression_scores(scans)
    cohorts.save(path, np.zeros((*cohorts.truth().shape, 1, 3), 'f4'), cohorts.grid().affine)
    after = expression_scores(scans)
    assert after[0].value == pytest.approx(before[0].value, abs=1e-9)
    assert after[1].value != pytest.approx(before[1].value, abs=1e-3)


def test_the_mean_is_of_other_folds(make_cohort, chosen) -> None:
    """What subjects of the same fold look like does not change a score."""
    scans = chosen(make_cohort(['a'] * 6, folds=[(0,)] * 3 + [(1,)] * 3).out)
    before = expression_scores(scans)
    _, inside = cohorts.brain()
    rng = np.random.default_rng(1)
    volumes = np.where(inside, rng.uniform(1, 2, inside.shape), 0)
    cohorts.save(scans[1].anatomy, volumes.astype('f4'), cohorts.grid().affine)
    after = expression_scores(scans)
    assert after[0].value == pytest.approx(before[0].value, abs=1e-9)
    assert after[4].value != pytest.approx(before[4].value, abs=1e-6)


def test_a_displacement_that_pulls_back_has_the_same_scores(make_cohort, chosen) -> None:
    """To first order the displacement of the published method is minus the velocity."""
    out = make_cohort(['a'] * 4, expression={'a': 0.5}).out
    wanted = [score.value for score in expression_scores(chosen(out))]
    for path in out.rglob('*_velocity.nii.gz'):
        image = nib.load(path)
        other = path.with_name(path.name.replace('_velocity.', '_displacement.'))
        nib.save(nib.Nifti1Image(-image.get_fdata(dtype='f4'), image.affine), other)
        path.unlink()
    found = [score.value for score in expression_scores(chosen(out))]
    assert found == pytest.approx(wanted)


def test_alone_in_a_fold(make_cohort, chosen) -> None:
    scans = chosen(make_cohort(['a'] * 4, folds=[(0,), (0,), (0,), (1,)]).out)
    scores = expression_scores(scans)
    assert scores[3].value is None
    assert scores[3].reason == NO_PATTERN
    assert scores[0].value is not None


def test_further_images_are_scored_without_their_subject(make_cohort, chosen) -> None:
    cohort = make_cohort(['a'] * 4, sessions=('x', 'y'), change=0.5)
    scores = {score.prefix: score.value for score in expression_scores(chosen(cohort.out))}
    assert len(scores) == 8
    changes = [scores[f'sub-0{n}_ses-y'] - scores[f'sub-0{n}_ses-x'] for n in range(1, 5)]
    assert np.mean(changes) == pytest.approx(0.5, abs=0.3)


def test_missing_and_damaged_inputs_have_a_reason(make_cohort, chosen) -> None:
    scans = chosen(make_cohort(('patient', 'control') * 4).out)
    affine, shape = cohorts.grid().affine, cohorts.truth().shape
    scans[0].velocity.unlink()
    scans[1].anatomy.write_bytes(b'nothing')
    cohorts.save(scans[2].anatomy, np.full(shape, np.nan, 'f4'), affine)
    scans[3].anatomy.unlink()
    cohorts.save(scans[7].anatomy, np.ones(shape, 'f4'), 2 * affine)
    scores = expression_scores(scans)
    failed = {scan.prefix for scan in (*scans[:4], scans[7])}
    assert {score.prefix for score in scores if score.value is None} == failed
    assert {score.prefix for score in scores if score.reason} == failed


def test_units_are_those_of_the_controls() -> None:
    values = [0.0, 1.0, 2.0, 10.0, 11.0, 12.0, None]
    blocks = ['0'] * 3 + ['1'] * 4
    scaled, sd = standardise(values, blocks, [True] * 7)
    assert sd == pytest.approx(1.0)
    np.testing.assert_allclose(scaled[:6], [-1, 0, 1, -1, 0, 1])
    assert scaled[6] is None
    assert standardise([1.0, 2.0], ['0', '0'], [True, True]) == ([None, None], None)
