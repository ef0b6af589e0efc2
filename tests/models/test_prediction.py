"""``prediction.json`` is written and read by one record."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bids_interp.bids.prediction import ExplainedTarget, FoldAnswer, read_prediction
from bids_interp.errors import ImageError
from bids_interp.records import to_plain

ANSWER = {
    'LogitMean': 0.5,
    'LogitSD': 0.25,
    'ProbabilityMean': 0.625,
    'ProbabilitySD': 0.0,
    'Folds': [
        {'Fold': 1, 'Logit': 0.5, 'Probability': 0.625, 'Temperature': 1.5, 'Intercept': 0.5}
    ],
}
#: As version 0.1.0 wrote it.
PLAIN: dict[str, Any] = {
    'Description': 'Answer of the classifier ...',
    'Sources': ['bids::sub-01/anat/x.nii.gz'],
    'GeneratedBy': [{'Name': 'bids_interp', 'Version': '0.1.0'}],
    'ModelName': 'tiny',
    'ModelHash': 'abc',
    'Demonstration': True,
    'Target': {'kind': 'binary', 'label': 'dx', 'negative': 'CN', 'positive': 'AD'},
    'ExplanationWarranted': False,
    'InTrainingSet': True,
    'FoldsUsed': [1],
    'HeldOut': True,
    'Observed': ANSWER,
    'Simulated': {'inject100': ANSWER},
}


def write(folder: Path, plain: Any) -> Path:
    path = folder / 'sub-01_desc-explain_prediction.json'
    path.write_text(json.dumps(plain))
    return path


def test_what_the_first_version_wrote_is_read(tmp_path: Path) -> None:
    found = read_prediction(write(tmp_path, PLAIN))
    assert found.target == ExplainedTarget('binary', 'dx', negative='CN', positive='AD')
    assert (found.warranted, found.in_training, found.folds, found.held_out) == (
        False,
        True,
        (1,),
        True,
    )
    assert found.observed.folds == [FoldAnswer(1, 0.5, 0.625, temperature=1.5, intercept=0.5)]
    assert (found.model_name, found.model_hash, found.version) == ('tiny', 'abc', '0.1.0')
    assert to_plain(found) == {
        k: v for k, v in PLAIN.items() if k not in ('Description', 'Sources')
    }


def test_a_regression_has_no_probability(tmp_path: Path) -> None:
    answer = ANSWER | {'ProbabilityMean': None, 'ProbabilitySD': None, 'Folds': []}
    target = {'kind': 'regression', 'label': 'age', 'mean': 50.0, 'sd': 9.0}
    plain = PLAIN | {'Observed': answer, 'Target': target, 'Simulated': {}}
    found = read_prediction(write(tmp_path, plain))
    assert found.observed.probability_mean is None
    assert to_plain(found)['Observed'] == answer
    assert (found.target.mean, found.target.sd) == (50.0, 9.0)


@pytest.mark.parametrize(
    ('changes', 'place'),
    [
        ({'Target': 'old'}, 'Target'),
        ({'Target': {'kind': 3}}, 'Target.kind'),
        ({'FoldsUsed': ['1']}, 'FoldsUsed[0]'),
        ({'InTrainingSet': 'no'}, 'InTrainingSet'),
        ({'Observed': {}}, 'Observed.LogitMean'),
        (
            {'Simulated': {'inject100': {**ANSWER, 'Folds': [{}]}}},
            'Simulated.inject100.Folds[0].Fold',
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_file_key_and_remedy(
    tmp_path: Path, changes: dict[str, Any], place: str
) -> None:
    path = write(tmp_path, PLAIN | changes)
    with pytest.raises(ImageError) as caught:
        read_prediction(path)
    assert str(path) in caught.value.message
    assert f' {place}: ' in caught.value.message
    assert caught.value.advice


def test_reading_needs_no_heavy_library() -> None:
    code = (
        'import sys, bids_interp.bids.prediction\n'
        "sys.exit(bool({'torch', 'numpy', 'nibabel'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, '-c', code], check=True, timeout=120)
