"""Measurement of wall time and peak memory of a command with all its processes."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

INTERVAL_S = 0.2


@dataclass(frozen=True)
class Measurement:
    """Wall time and memory of one run of a command.

    Parameters
    ----------
    wall_s : float
        Wall time in seconds.
    peak_rss_gb : float
        Largest sum of resident memory over the process tree, in 10^9 bytes. Shared pages count once
        per process, so this is an upper bound.
    peak_pss_gb : float
        The same with shared pages split between the processes that share them.
    processes : int
        Largest number of processes.
    exit_code : int
        Exit code of the command.
    """

    wall_s: float
    peak_rss_gb: float
    peak_pss_gb: float
    processes: int
    exit_code: int


def process_tree(root: int) -> list[int]:
    """Return the process ids of `root` and of all its descendants, from ``/proc``."""
    children: dict[int, list[int]] = {}
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                # The name of a program may contain blanks and brackets; the parent follows it.
                parent = int((entry / 'stat').read_text().rpartition(')')[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def memory_kb(pid: int) -> tuple[int, int]:
    """Return resident and proportional memory of one process in kB; zeros when it has ended."""
    try:
        lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
    except OSError:
        return 0, 0
    values = {line.split()[0]: line.split()[1] for line in lines[1:]}
    return int(values.get('Rss:', 0)), int(values.get('Pss:', 0))


def measure(command: Sequence[str | Path], log: Path, **environment: str) -> Measurement:
    """Run and measure a command, with its output in `log`.

    Parameters
    ----------
    command : sequence of str or Path
        Program and arguments.
    log : Path
        Where standard output and error go.
    **environment : str
        Variables set for the command.
    """
    rss = pss = processes = 0
    start = time.perf_counter()
    with log.open('w') as words:
        running = subprocess.Popen(
            [str(part) for part in command],
            stdout=words,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        while running.poll() is None:
            tree = process_tree(running.pid)
            memory = [memory_kb(pid) for pid in tree]
            rss = max(rss, sum(resident for resident, _ in memory))
            pss = max(pss, sum(proportional for _, proportional in memory))
            processes = max(processes, len(tree))
            time.sleep(INTERVAL_S)
    wall = time.perf_counter() - start
    return Measurement(wall, rss * 1024 / 1e9, pss * 1024 / 1e9, processes, running.returncode)


def machine() -> str:
    """Return one line on the machine: processor, cores that may be used, memory, load, Python."""
    cpu = platform.machine()
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            cpu = line.partition(':')[2].strip()
            break
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (
        f'{cpu}, {cores} cores, {memory:.0f} GB, load before {load:.1f}, '
        f'Python {platform.python_version()}'
    )
