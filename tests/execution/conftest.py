"""A scheduler of a cluster, played by a shell script that runs jobs at once on this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

# The submit and cancel commands of SLURM, PBS, SGE and LSF. A file `refuse` holds what a refusal
# says; `jobs` holds the script, log and process group of each job.
SCRIPT = r"""#!/bin/bash
name=$(basename "$0"); cd "{state}" || exit 9
case $name in
  sbatch|qsub|bsub)
    if [ -e refuse ]; then cat refuse >&2; exit 1; fi
    id=$$ # jobs may be submitted side by side
    if [ -f "${{@: -1}}" ]; then cp "${{@: -1}}" jobs/$id.sh; else cat > jobs/$id.sh; fi
    setsid bash jobs/$id.sh > jobs/$id.log 2>&1 < /dev/null &
    echo $! > jobs/$id.pid
    echo "Job <$id> is submitted." ;;
  scancel|qdel|bkill)
    kill -9 -- -$(cat "jobs/$1.pid") ;;
esac
"""
NAMES = ('sbatch', 'scancel', 'qsub', 'qdel', 'bsub', 'bkill')


class FakeCluster:
    """A folder with the commands of schedulers, and one with the jobs."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.state = folder / 'bin', folder / 'state'
        self.bin.mkdir(parents=True)
        (self.state / 'jobs').mkdir(parents=True)
        for name in NAMES:
            path = self.bin / name
            path.write_text(SCRIPT.format(state=self.state))
            path.chmod(0o755)

    def refuse(self, words: str) -> None:
        """Refuse all jobs from now on."""
        (self.state / 'refuse').write_text(words)

    def scripts(self) -> list[str]:
        """Return the scripts of the jobs."""
        return [path.read_text() for path in sorted((self.state / 'jobs').glob('*.sh'))]

    def groups(self) -> list[int]:
        """Return the process groups of jobs that have not ended."""
        found = []
        for path in (self.state / 'jobs').glob('*.pid'):
            with suppress(ProcessLookupError):
                os.killpg(int(path.read_text()), 0)
                found.append(int(path.read_text()))
        return found

    def end(self) -> None:
        """End jobs that are left."""
        for group in self.groups():
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """The commands of SLURM, PBS, SGE and LSF on PATH, without a cluster."""
    made = FakeCluster(tmp_path / 'cluster')
    monkeypatch.setenv('PATH', str(made.bin), prepend=os.pathsep)
    yield made
    made.end()
