"""Each defect of a classifier made elsewhere is found before anything is explained with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.errors import ModelError
from bids_interp.models.external.card import ClassifierCard
from bids_interp.models.external.checks import check_classifier

CARD = ClassifierCard.from_dict(
    {
        'name': 'mean',
        'output': 'logit',
        'classes': ['control', 'patient'],
        'input_shape': [10, 12, 8],
        'voxel_size': [8, 8, 8],
        'orientation': 'RAS',
        'origin': [-36, -44, -28],
        'template': 'MNI152NLin2009aSym',
        'preprocessing': {'normalisation': 'percentile'},
        'label': 'group',
    }
)


class Mean(nn.Module):
    """Twice the mean of each image, with one defect."""

    def __init__(self, defect: str = '') -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.defect = defect

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer = self.scale * images.square().flatten(1).mean(dim=1, keepdim=True)
        match self.defect:
            case 'shape':
                return answer[:, 0]
            case 'infinite':
                return answer / 0.0
            case 'random':
                return answer + torch.rand(1)
            case 'batch':
                return answer - 0.5 * answer.mean()
            case 'gradient':
                return answer.detach() + 0.0 * self.scale
            case 'saturated':
                return answer * 0.0
            case _:
                return answer


def test_a_sound_classifier_passes() -> None:
    check_classifier(Mean(), CARD)


@pytest.mark.parametrize(
    'defect', ['shape', 'infinite', 'random', 'batch', 'gradient', 'saturated']
)
def test_a_defect_is_refused(defect: str) -> None:
    with pytest.raises(ModelError):
        check_classifier(Mean(defect), CARD)


@pytest.mark.parametrize(('shift', 'passes'), [(0.0, True), (0.05, False)])
def test_the_golden_sample_must_be_answered_as_recorded(
    tmp_path: Path, shift: float, passes: bool
) -> None:
    image = np.random.default_rng(0).random((1, 1, 10, 12, 8), np.float32)
    answer = 2 * (image**2).mean(dtype=np.float64) + shift
    np.savez(tmp_path / 'golden.npz', input=image, output=np.array([[answer]]))
    if passes:
        check_classifier(Mean(), CARD, tmp_path / 'golden.npz')
    else:
        with pytest.raises(ModelError):
            check_classifier(Mean(), CARD, tmp_path / 'golden.npz')
    np.savez(tmp_path / 'other.npz', image=image)
    with pytest.raises(ModelError):
        check_classifier(Mean(), CARD, tmp_path / 'other.npz')
