"""The measuring instrument measures."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import pytest

from helpers.scripts import load_script


@pytest.fixture(scope='module')
def measure(repository: Path):
    return load_script(repository / 'benchmarks' / 'measure.py')


CHILD = 'held = bytearray(200_000_000); print("held", flush=True); input()'
# The parent waits until its child holds the memory, so that a busy machine changes nothing.
PARENT = f"""
import subprocess, sys, time
held = bytearray(200_000_000)
pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
child = subprocess.Popen([sys.executable, '-c', {CHILD!r}], **pipes)
child.stdout.readline()
time.sleep(1)
child.communicate('go on')
"""


def test_memory_of_children_counts(tmp_path: Path, measure) -> None:
    """Parent and child hold 200 MB each at the same time."""
    done = measure.measure([sys.executable, '-c', PARENT], tmp_path / 'log.txt')
    assert done.exit_code == 0
    assert 0.4 <= done.peak_rss_gb < 0.6
    assert 0.4 <= done.peak_pss_gb <= done.peak_rss_gb
    assert done.processes == 2
    assert done.wall_s > 1


def test_exit_code_and_words_are_kept(tmp_path: Path, measure) -> None:
    log = tmp_path / 'log.txt'
    code = 'import os, sys; print(os.environ["WORD"]); sys.exit(4)'
    done = measure.measure([sys.executable, '-c', code], log, WORD='seen')
    assert (done.exit_code, log.read_text()) == (4, 'seen\n')


@pytest.fixture(scope='module')
def endurance(repository: Path):
    return load_script(repository / 'benchmarks' / 'endurance.py')


def test_one_of_twenty_subjects_is_broken_each_in_another_way(tmp_path: Path, endurance) -> None:
    broken = endurance.make_dataset(tmp_path, 40, 8)
    assert broken == {'0020', '0040'}
    paths = {label: tmp_path / f'sub-{label}/anat/sub-{label}_T1w.nii.gz' for label in
             ('0001', '0020', '0040')}  # fmt: skip
    whole = nib.load(paths['0001']).get_fdata()
    assert 0 < whole.max() < 1100
    with pytest.raises((EOFError, OSError)):
        nib.load(paths['0020']).get_fdata()
    assert paths['0040'].stat().st_size == 0
    # What is there is kept, so that a run can be continued.
    before = paths['0001'].stat().st_mtime_ns
    assert endurance.make_dataset(tmp_path, 40, 8) == broken
    assert paths['0001'].stat().st_mtime_ns == before


def test_growth_is_that_after_the_first_quarter(endurance) -> None:
    samples = [
        endurance.Sample(10.0 * done, done, 500 + 2 * max(done, 25), 40, 10) for done in range(101)
    ]
    assert endurance.growth(samples, 'memory_mb') == pytest.approx(200)
    assert endurance.growth(samples, 'open_files') == pytest.approx(0)


def test_a_run_is_watched(tmp_path: Path, endurance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endurance, 'INTERVAL_S', 0.1)
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'a').write_bytes(bytes(2_000_000))
    code = 'import sys, time; held = open(sys.executable); time.sleep(1); sys.exit(3)'
    words = [sys.executable, '-c', code]
    ended, samples = endurance.watch(words, tmp_path, work, tmp_path / 'log.txt')
    assert ended == 3
    assert {sample.work_mb for sample in samples} == {2.0}
    assert max(sample.open_files for sample in samples) >= 4
    assert max(sample.memory_mb for sample in samples) > 1
