"""Settings survive a round through TOML."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from bids_interp.errors import UsageError
from bids_interp.settings import Settings, parse_toml


def test_round_trip_of_everything() -> None:
    settings = Settings(
        '/bids with "quotes"',
        '/out\\back',
        participant_label=('sub-01', '02'),
        session_label=('ses-a',),
        bids_filter_file='/f.json',
        derivatives={'fmriprep': '/prep', 'other one': '/x'},
        model='/m',
        device='cuda:1',
        template='MNI152NLin6Asym',
        doses=(1, 0.25),
        nprocs=4,
        mem_gb=8.5,
        work_dir='/w',
        fast=True,
        random_seed=0,
        verbose=2,
    )
    assert Settings.from_toml(settings.to_toml()) == settings
    assert settings.doses == (0.25, 1.0)
    assert settings.participant_label == ('01', '02')


def test_relative_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings('bids', 'out', derivatives=(('prep', 'prep'),))
    assert settings.bids_dir == tmp_path / 'bids'
    assert settings.derivatives == (('prep', tmp_path / 'prep'),)


def test_settings_cannot_be_changed() -> None:
    settings = Settings('/bids', '/out')
    with pytest.raises(FrozenInstanceError):
        settings.fast = True  # type: ignore[misc]
    assert settings.replace(fast=True).fast is True


@pytest.mark.parametrize(
    'wrong',
    [
        {'analysis_level': 'all'},
        {'skull_strip_t1w': 'maybe'},
        {'doses': ()},
        {'doses': (0,)},
        {'doses': (True,)},
        {'output_spaces': ()},
        {'analysis_level': 'group', 'atlas': 'aparc+aseg'},
        {'participant_label': ('a b',)},
        {'device': 'cuda:x'},
        {'nprocs': 0},
        {'nprocs': 1.5},
        {'mem_gb': -1.0},
        {'random_seed': -1},
        {'fast': 1},
        {'verbose': True},
    ],
)
def test_impossible_values(wrong: dict) -> None:
    with pytest.raises(UsageError):
        Settings('/bids', '/out', **wrong)


def test_unknown_keys_are_told_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match='participant_label'):
        parse_toml('participant_labels = ["01"]')
