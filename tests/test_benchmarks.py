"""The measuring instrument measures."""

from __future__ import annotations

import sys
from pathlib import Path

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
