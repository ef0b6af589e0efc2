"""A scheduler of a cluster, played by shell scripts that run jobs at once on this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# One script under all names. State: counter, submitted (one line per call), jobs/ID (process
# group while it lives), done/ID (exit code); `refuse` holds what a refusal says.
SCRIPT = r"""#!/bin/bash
name=$(basename "$0"); cd "{state}" || exit 9
case $name in
  sbatch|qsub|bsub)
    echo "$name $*" >> submitted
    if [ -e refuse ]; then cat refuse >&2; exit 1; fi
    id=$(( $(cat counter) + 1 )); echo $id > counter
    log=/dev/null; after=''; script="${{@: -1}}"
    while [ $# -gt 0 ]; do
      case $1 in
        -o) log=$2; shift ;;
        --dependency=afterok:*) after=${{1#*afterok:}} ;;
        depend=afterok:*) after=${{1#*afterok:}} ;;
        -hold_jid) after=$2; shift ;;
      esac
      shift
    done
    touch jobs/$id
    setsid bash -c '
      for other in ${{3//[:,]/ }}; do
        while [ ! -e done/$other ]; do sleep 0.05; done
        [ "$(cat done/$other)" = 0 ] || [ {holds} = no ] || {{
          echo 1 > done/$1; rm jobs/$1; exit
        }}
      done
      [ -e hold ] && sleep 600
      cd /; bash "$2"; code=$?; cd "$OLDPWD"; echo $code > done/$1; rm -f jobs/$1
    ' job $id "$script" "$after" >"$log" 2>&1 </dev/null &
    echo $! > jobs/$id.pid
    case $name in
      sbatch) echo "Submitted batch job $id" ;;
      bsub) echo "Job <$id> is submitted to default queue <normal>." ;;
      qsub)
        [ {kind} = SGE ] && echo "Your job $id (\"x\") has been submitted" || echo "$id.server" ;;
    esac ;;
  squeue|qstat|bjobs)
    [ -e silent ] && exit 1
    for job in $(ls jobs | grep -v pid); do
      case $name in
        squeue) echo "$job|RUNNING|$(cat reason 2>/dev/null || echo None)" ;;
        qstat) echo "$job name user 0 R queue" ;;
        bjobs) echo "$job RUN" ;;
      esac
    done ;;
  scontrol) echo "JobId=$4 JobState=OUT_OF_MEMORY Reason=OutOfMemory" ;;
  scancel|qdel|bkill)
    echo "$name $*" >> cancelled
    for job in "$@"; do kill -9 -- -$(cat jobs/$job.pid); rm -f jobs/$job; done ;;
esac
"""
NAMES = (
    'sbatch',
    'squeue',
    'scancel',
    'scontrol',
    'qsub',
    'qstat',
    'qdel',
    'bsub',
    'bjobs',
    'bkill',
)


class FakeCluster:
    """A folder with the commands of a scheduler, and one with what they were asked to do."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.state = folder / 'bin', folder / 'state'
        for path in (self.bin, self.state / 'jobs', self.state / 'done'):
            path.mkdir(parents=True)
        (self.state / 'counter').write_text('0')
        self.play('SLURM')

    def play(self, kind: str) -> None:
        """Answer as one kind of scheduler does."""
        holds = 'no' if kind == 'SGE' else 'yes'
        for name in NAMES:
            path = self.bin / name
            path.write_text(SCRIPT.format(state=self.state, kind=kind, holds=holds))
            path.chmod(0o755)

    def set(self, name: str, text: str = '') -> None:
        """Set a switch of the scripts."""
        (self.state / name).write_text(text)

    def lines(self, name: str = 'submitted') -> list[str]:
        """What the commands were called with."""
        path = self.state / name
        return path.read_text().splitlines() if path.exists() else []

    def end(self) -> None:
        """End jobs that are left."""
        for path in (self.state / 'jobs').glob('*.pid'):
            try:
                os.killpg(int(path.read_text()), signal.SIGKILL)
            except (ProcessLookupError, ValueError):
                continue


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """The commands of SLURM, PBS, SGE and LSF on PATH, without a cluster."""
    made = FakeCluster(tmp_path / 'cluster')
    monkeypatch.setenv('PATH', str(made.bin), prepend=os.pathsep)
    yield made
    made.end()
