"""Benchmark of the participant level: time and memory of the process tree.

    python benchmarks/bench_participant.py [--shared ../shared] [--nprocs 2] [--out FOLDER]

Three runs of ``bids_interp BIDS_DIR OUT participant``: a whole head, the same head with the same
work directory, and a skull-stripped brain at 2 mm. Prints a Markdown table with time and memory as
shares of the targets. Exit code 1 if a run fails; a missed target is only reported, because it
depends on the machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from measure import Measurement, machine, measure

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Case:
    """Input of one run, and its targets on two cores."""

    title: str
    dataset: str
    participant: str
    target_s: float
    target_gb: float


CASES = (
    Case('one whole head, all outputs', 'ds000011-heads', '01', 120, 3),
    Case('the same, second run', 'ds000011-heads', '01', 15, 3),
    Case('one stripped brain, 2 mm', 'ds002748-2mm', '01', 40, 3),
)


def run(case: Case, shared: Path, out: Path, nprocs: int, log: Path) -> Measurement:
    """Run one case; cases of one dataset share output and work directories."""
    command: list[str | Path] = [
        Path(sys.executable).with_name('bids_interp'),
        shared / 'data' / case.dataset,
        out / case.dataset,
        'participant',
        '--participant-label',
        case.participant,
        '--nprocs',
        str(nprocs),
        '--omp-nthreads',
        str(nprocs),
        '--work-dir',
        out / f'work-{case.dataset}',
        '--offline',
    ]
    template = {'TEMPLATEFLOW_HOME': str(shared / 'templateflow')}
    return measure(command, log, **template)


def row(case: Case, done: Measurement) -> str:
    """Return one row of the table."""
    cells = [
        case.title,
        f'{done.wall_s:.1f} s',
        f'{100 * done.wall_s / case.target_s:.0f} % of {case.target_s:.0f} s',
        f'{done.peak_rss_gb:.2f} GB',
        f'{done.peak_pss_gb:.2f} GB',
        f'{100 * done.peak_rss_gb / case.target_gb:.0f} % of {case.target_gb:.0f} GB',
        str(done.processes),
        str(done.exit_code),
    ]
    return f'| {" | ".join(cells)} |'


def main() -> int:
    """Run all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get('BIDS_INTERP_SHARED', ROOT.parent / 'shared'))
    parser.add_argument('--shared', type=Path, default=default, help='folder of the real scans')
    parser.add_argument('--nprocs', type=int, default=2, help='processes and threads')
    parser.add_argument('--out', type=Path, help='keep the outputs here (default: do not keep)')
    arguments = parser.parse_args()
    if not (arguments.shared / 'data').is_dir():
        parser.error(f'{arguments.shared / "data"} does not exist; give --shared')

    print(machine(), end='\n\n')
    titles = 'run|wall|of the target|peak RSS (sum)|peak PSS (sum)|RSS of the target|processes|exit'
    print(f'| {" | ".join(titles.split("|"))} |')
    print('|' + '---|' * len(titles.split('|')))
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        for number, case in enumerate(CASES):
            log = out / f'run-{number}.log'
            done = run(case, arguments.shared, out, arguments.nprocs, log)
            print(row(case, done), flush=True)
            if done.exit_code:
                failed = True
                print(log.read_text()[-3000:], file=sys.stderr)
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
