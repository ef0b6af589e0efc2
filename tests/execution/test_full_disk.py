"""An output on a disk that is full or cannot be written to: named, others go on, no half file."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.bids.read.query import T1wRecord
from bids_interp.bids.write.atomic import FULL_ADVICE
from bids_interp.errors import OutputError
from bids_interp.execution.execute import configure_nipype, execute
from bids_interp.execution.log import add_log_file, start_logging
from bids_interp.execution.outcome import DONE, FAILED, FULL_DISK, RunOutcome
from bids_interp.execution.run import Run, send_crashes, workflow_name
from bids_interp.reports.common.montage import write_bytes
from bids_interp.settings import Settings


def write_map(folder, voxels):
    """Write an image that cannot be compressed, as a sink of derivatives does."""
    from pathlib import Path

    import numpy as np

    from bids_interp.bids.write.nifti import write_nifti

    data = np.random.default_rng(0).random((voxels, 64, 64), dtype=np.float32)
    return str(write_nifti(Path(folder, 'map.nii.gz'), data, np.eye(4), template=False))


def fill_work(folder, voxels):
    """Leave no room for the result of the step."""
    import contextlib
    import os

    with contextlib.suppress(OSError), open('filler', 'wb', buffering=0) as filler:
        while True:
            filler.write(os.urandom(1 << 12))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / 'out'
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=1M', 'tmpfs', str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f'mount cannot be run: {error}')
    if done.returncode != 0:
        pytest.skip(f'a small file system cannot be mounted here: {done.stderr.strip()}')
    yield folder
    subprocess.run(['umount', str(folder)], check=True)


def run(
    out: Path, work: Path, function: Callable[..., object] = write_map, **voxels: int
) -> RunOutcome:
    """Write one map per image, of a number of slices of 16 KB."""
    work.mkdir(exist_ok=True)
    settings = Settings(work / 'bids', out)
    run = Run(settings, work, 'cpu', 1, 1, 4.0, 'run')
    configure_nipype(run)
    workflow = Workflow(name='bids_interp_wf')
    workflow.base_dir = str(work)
    records = []
    for label, count in voxels.items():
        record = T1wRecord(Path(f'sub-{label}_T1w.nii.gz'), label, None, {'sub': label})
        single_wf = Workflow(name=workflow_name(record.prefix))
        sink = pe.Node(niu.Function(function=function), name='ds_explain')
        sink.inputs.trait_set(folder=str(out / f'sub-{label}'), voxels=count)
        single_wf.add_nodes([sink])
        send_crashes(single_wf, run.log_dir(label))
        workflow.add_nodes([single_wf])
        records.append(record)
    return execute(run, workflow, records)


def test_a_full_disk_fails_one_image(small_disk: Path, tmp_path: Path) -> None:
    result = run(small_disk, tmp_path / 'work', a=200, b=4)
    full, other = result.outcomes
    assert full.status == FAILED
    assert full.step == 'ds_explain'
    assert str(small_disk / 'sub-a' / 'map.nii.gz') in full.problem
    assert FULL_ADVICE in full.problem
    assert other.status == DONE
    assert result.exit_code == 1
    files = [path.name for path in small_disk.rglob('*') if path.is_file()]
    assert [name for name in files if not name.startswith('crash-')] == ['map.nii.gz']


def test_not_even_room_for_the_file_about_it(
    small_disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """No byte is free: neither logs nor crash files can be written, and still all is told."""
    start_logging(0)
    add_log_file(small_disk / 'logs' / 'run.log')
    (small_disk / 'sub-a').mkdir()
    (small_disk / 'sub-b').mkdir()
    with (
        pytest.raises(OSError, match=os.strerror(errno.ENOSPC)),
        (small_disk / 'filler').open('wb') as filler,
    ):
        while True:
            filler.write(os.urandom(1 << 12))
            filler.flush()
    result = run(small_disk, tmp_path / 'work', a=200, b=100)
    start_logging(0)  # closes the log
    assert result.exit_code == 1
    for outcome in result.outcomes:
        assert 'map.nii.gz' in outcome.problem
        assert FULL_ADVICE in outcome.problem
    assert 'Traceback' not in ''.join(capfd.readouterr())


def test_a_full_work_directory(small_disk: Path, tmp_path: Path) -> None:
    result = run(tmp_path / 'results', small_disk, fill_work, a=1)
    (outcome,) = result.outcomes
    assert outcome.step == 'ds_explain'
    assert outcome.problem == FULL_DISK


def test_half_a_report_is_not_left(small_disk: Path) -> None:
    with pytest.raises(OutputError, match=re.escape(FULL_ADVICE)):
        write_bytes(small_disk / 'figures' / 'sub-01_mask.svg', bytes(2_000_000))
    assert list((small_disk / 'figures').iterdir()) == []


def test_a_disk_that_cannot_be_written_to(small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
    result = run(small_disk, tmp_path / 'work', a=4)
    (outcome,) = result.outcomes
    assert outcome.status == FAILED
    assert os.strerror(errno.EROFS) in outcome.problem
    assert str(small_disk) in outcome.problem
    assert OutputError.default_advice in outcome.problem
