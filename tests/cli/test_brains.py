"""Options of the tools that prepare brains."""

from __future__ import annotations

from pathlib import Path

from bids_interp.cli.tools.brains import SHARED, preparation_options, preparation_settings
from bids_interp.settings import Settings


def test_every_shared_option_can_be_left_out():
    names = [option.name for option in preparation_options()]
    assert set(names) == set(SHARED)
    fewer = {option.name for option in preparation_options('device', 'offline')}
    assert fewer == set(SHARED) - {'device', 'offline'}


def test_settings_that_were_not_given_keep_their_defaults():
    given = {'nprocs': 3, 'offline': True, 'replicates': 7}
    expected = Settings(Path('/in'), Path('/out'), nprocs=3, offline=True)
    assert preparation_settings(given, Path('/in'), Path('/out')) == expected
