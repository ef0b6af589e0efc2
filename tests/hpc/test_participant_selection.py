"""Selection of the participants that get a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_interp.errors import NothingToDoError
from bids_interp.hpc.participant_selection import select_participants
from bids_interp.settings import Settings
from helpers import skeletons

NAMES = ('sub-02_T1w.nii.gz', 'sub-01_ses-a_T1w.nii.gz', 'sub-01_ses-b_T1w.nii.gz')


def finish(out: Path, name: str) -> None:
    folder = out / name[:6] / 'anat'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{name}_desc-explain_prediction.json').touch()


def test_a_participant_is_finished_with_its_last_image(tmp_path: Path) -> None:
    bids = skeletons.make_dataset(tmp_path / 'bids', *NAMES, empty=True)
    settings = Settings(bids, tmp_path / 'out')
    finish(settings.output_dir, 'sub-01_ses-a')
    finish(settings.output_dir, 'sub-02')
    everyone = select_participants(settings)
    assert (everyone.participants, everyone.done, len(everyone.records)) == (('01', '02'), (), 3)
    missing = select_participants(settings, only_missing=True)
    assert (missing.participants, missing.done, len(missing.records)) == (('01',), ('02',), 2)
    finish(settings.output_dir, 'sub-01_ses-b')
    with pytest.raises(NothingToDoError):
        select_participants(settings, only_missing=True)


def test_a_label_with_a_line_break_gets_no_job(tmp_path: Path) -> None:
    """It would be two lines of the list; the others go on."""
    bids = skeletons.make_dataset(tmp_path / 'bids', *NAMES, empty=True)
    anat = bids / 'sub-07\n08' / 'anat'
    anat.mkdir(parents=True)
    (anat / 'sub-07\n08_T1w.nii.gz').touch()
    assert select_participants(Settings(bids, tmp_path / 'out')).participants == ('01', '02')
