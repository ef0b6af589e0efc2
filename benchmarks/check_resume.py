"""Check of resumed trainings: a training killed three times gives the same model.

    python benchmarks/check_resume.py BIDS_DIR OUT -- OPTIONS OF train

Runs ``bids_interp BIDS_DIR OUT/whole train`` to the end. Kills the process tree of ``... OUT/killed
train`` after one, two and three quarters of the training, then runs it to the end. Exit code 1 if a
file of the two models differs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from measure import machine

KILLS = 3
#: Log line at the beginning of the first training.
STARTS = ('starts with step', 'goes on at step')


def main() -> int:
    """Run both trainings and compare the models."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('bids_dir', type=Path)
    parser.add_argument('out', type=Path)
    # Options after -- are for train; argparse would parse them.
    words = sys.argv[1:]
    split = words.index('--') if '--' in words else len(words)
    options = parser.parse_args(words[:split])
    options.train = words[split + 1 :]
    print(machine(), flush=True)
    log = options.out / 'log.txt'
    options.out.mkdir(parents=True, exist_ok=True)
    took = run(command(options, 'whole'), log, None)
    print(f'whole: {took:.0f} s of training', flush=True)
    # The brains are prepared again before the trainings are timed.
    for number in range(KILLS):
        run(command(options, 'killed'), log, took / (KILLS + 1))
        where = last_progress(log)
        print(f'kill {number + 1} after another {took / (KILLS + 1):.0f} s; {where}', flush=True)
    run(command(options, 'killed'), log, None)
    return compare(options.out)


def command(options: argparse.Namespace, name: str) -> list[str]:
    """Return the command line of one run."""
    program = Path(sys.executable).with_name('bids_interp')
    out, work = options.out / name, options.out / f'{name}-work'
    fixed = ['--model-name', 'model', '--work-dir', str(work), '--offline']
    return [str(program), str(options.bids_dir), str(out), 'train', *fixed, *options.train]


def run(words: list[str], log: Path, kill_after: float | None) -> float:
    """Run to the end, or kill the process tree some seconds after the first fold began.

    A run that was killed before goes on with what was trained, so the clock of each counts from
    the moment at which its cohort is there.
    """
    began = 0.0
    with log.open('a') as words_log:
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        for line in process.stdout or ():
            words_log.write(line)
            if not began and any(words in line for words in STARTS):
                began = time.monotonic()
                if kill_after is not None:
                    time.sleep(kill_after)
                    os.killpg(process.pid, signal.SIGKILL)
                    break
        code = process.wait()
    if kill_after is None and code:
        raise SystemExit(f'{" ".join(words)} ended with {code}; see {log}.')
    return time.monotonic() - began


def last_progress(log: Path) -> str:
    """Return the last log line about the start of a training."""
    lines = [line for line in log.read_text().splitlines() if any(w in line for w in STARTS)]
    return lines[-1].partition(' ')[2] if lines else 'before the first training'


def compare(out: Path) -> int:
    """Compare the SHA-256 of the files in both configurations, and the rest of them.

    Two trainings may end on different days: the day is left out, and of the model card, which names
    it, all other words are compared.
    """
    folders = [out / name / 'models' / 'model' for name in ('whole', 'killed')]
    first, second = (json.loads((folder / 'config.json').read_text()) for folder in folders)
    cards = [
        (folder / 'README.md').read_text().replace(config.pop('created'), 'DAY')
        for folder, config in zip(folders, (first, second), strict=True)
    ]
    hashes = first.pop('files'), second.pop('files')
    count = len(hashes[0])
    for kept in hashes:
        kept.pop('README.md')
    different = [name for name in hashes[0] if hashes[0][name] != hashes[1].get(name)]
    different += [key for key in first if first[key] != second[key]]
    different += ['README.md'] if cards[0] != cards[1] else []
    print(f'{count} files; different: {", ".join(different) or "none"}')
    return 1 if different else 0


if __name__ == '__main__':
    sys.exit(main())
