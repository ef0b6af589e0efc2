"""Training that cannot begin writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_interp.errors import BidsInterpError
from bids_interp.levels.train import run_train
from bids_interp.settings import Settings


@pytest.mark.parametrize('table', [None, 'participant_id\tage\nsub-01\t30\nsub-02\t40\n'])
def test_a_dataset_without_the_label_column(skeletons, tmp_path: Path, table: str | None) -> None:
    names = ('sub-01_T1w.nii.gz', 'sub-02_T1w.nii.gz')
    bids = skeletons.make_dataset(tmp_path / 'bids', *names, empty=True)
    if table is not None:
        (bids / 'participants.tsv').write_text(table)
    settings = Settings(
        bids, tmp_path / 'out', work_dir=tmp_path / 'work', label='dx', positive='p', negative='c'
    )
    with pytest.raises(BidsInterpError) as found:
        run_train(settings)
    assert found.value.exit_code > 1
    assert not (tmp_path / 'out').exists()
