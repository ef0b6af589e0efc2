"""Names of outputs: entities kept, one table of patterns."""

from __future__ import annotations

import re

import pytest

from bids_interp.bids import names
from bids_interp.errors import InputDatasetError

SOURCE = '/raw/sub-01/ses-a/anat/sub-01_ses-a_task-rest_acq-x_ce-gd_rec-y_run-01_T1w.nii.gz'
STEM = 'sub-01/ses-a/anat/sub-01_ses-a_task-rest_acq-x_ce-gd_rec-y_run-01'
TPL = 'MNI152NLin2009aSym'


@pytest.mark.parametrize(
    ('kind', 'entities', 'expected'),
    [
        ('preproc', {}, '_desc-preproc_T1w.nii.gz'),
        ('mask', {}, '_desc-brain_mask.nii.gz'),
        ('transform', {'from': 'T1w', 'to': TPL}, f'_from-T1w_to-{TPL}_mode-image_xfm.txt'),
        ('transform', {'from': TPL, 'to': 'T1w'}, f'_from-{TPL}_to-T1w_mode-image_xfm.txt'),
        ('template_brain', {'space': TPL}, f'_space-{TPL}_res-1_desc-brain_T1w.nii.gz'),
        ('template_mask', {'space': TPL}, f'_space-{TPL}_res-1_desc-brain_mask.nii.gz'),
        ('anatomy', {'space': TPL}, f'_space-{TPL}_res-4_desc-anatomy_logjacobian.nii.gz'),
        ('model_input', {'space': TPL}, f'_space-{TPL}_res-model_desc-input_T1w.nii.gz'),
        ('simulated', {'desc': 'inject100'}, '_desc-inject100_T1w.nii.gz'),
        (
            'logjacobian',
            {'desc': 'remove050', 'space': TPL, 'resolution': 1},
            f'_space-{TPL}_res-1_desc-remove050_logjacobian.nii.gz',
        ),
        (
            'velocity',
            {'desc': 'inject', 'space': TPL},
            f'_space-{TPL}_res-model_desc-inject_velocity.nii.gz',
        ),
        ('prediction', {}, '_desc-explain_prediction.json'),
        ('dose_response', {}, '_desc-doseresponse_stats.tsv'),
        ('counterfactual', {}, '_desc-counterfactual_stats.tsv'),
    ],
)
def test_each_kind_keeps_the_entities_of_its_source(kind, entities, expected):
    assert names.output_name(SOURCE, kind, **entities).as_posix() == STEM + expected


@pytest.mark.parametrize('entities', [{'hemi': 'L'}, {'suffix': 'bold'}, {'extension': '.mat'}])
def test_a_name_that_no_pattern_holds_is_refused(entities):
    with pytest.raises(ValueError, match=re.escape(repr(next(iter(entities.values()))))):
        names.output_name(SOURCE, 'preproc', **entities)


def test_two_images_of_one_subject_never_share_a_name():
    sources = [
        'sub-01_T1w.nii.gz',
        'sub-01_run-1_T1w.nii.gz',
        'sub-01_run-01_T1w.nii.gz',
        'sub-01_echo-1_T1w.nii.gz',
        'sub-01_part-mag_T1w.nii.gz',
        'sub-01_chunk-2_T1w.nii.gz',
        'sub-01_acq-a_T1w.nii.gz',
        'sub-01_ses-a_T1w.nii.gz',
    ]
    for kind, entities in {
        'preproc': {},
        'transform': {'from': 'T1w', 'to': TPL},
    }.items():
        built = {names.output_name(source, kind, **entities) for source in sources}
        assert len(built) == len(sources), kind


def test_a_file_without_subject_is_refused_by_name():
    with pytest.raises(InputDatasetError, match=r'T1w\.nii\.gz'):
        names.source_entities('/raw/T1w.nii.gz')


@pytest.mark.parametrize('dose', [0.0, -0.5, 10.0, 0.004])
def test_doses_that_three_digits_cannot_name_are_refused(dose):
    with pytest.raises(ValueError, match='dose'):
        names.dose_label('inject', dose)


def test_only_the_two_directions_have_names():
    with pytest.raises(ValueError, match='direction'):
        names.dose_label('sideways', 1.0)


def test_the_dose_of_a_name_is_rounded_to_percent():
    """0.29 times 100 is 28.999... as a computer has it."""
    assert [names.dose_label('inject', dose) for dose in (0.29, 0.57, 1.0)] == [
        'inject029',
        'inject057',
        'inject100',
    ]
