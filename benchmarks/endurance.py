"""Endurance: many subjects, some of them broken, through the participant and the group level.

    python benchmarks/endurance.py OUT [--subjects 300] [--nprocs 2] [--spacing 4]

Makes stripped brains out of the embedded template, each with noise of its own, and breaks every
twentieth file in another way. Runs ``bids_interp participant --fast --clean-on-success``, then
``group``, and watches the main process and the work directory. Prints a Markdown table, and writes
every sample to OUT/samples.tsv. Exit code 1 if a subject is missing without a word, or if the
numbers of images, an exit code, or the growth of memory, open files or work directory is not what
it must be. Subjects that are done are left out when the command is repeated; broken ones are not.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

import nibabel as nib
import numpy as np
from measure import machine

PROGRAM = Path(sys.executable).with_name('bids_interp')
INTERVAL_S = 5.0
#: One of this many subjects is broken.
BROKEN = 20
#: Largest growth of the main process from the second quarter to the end, in MB per 100 subjects.
MOST_GROWTH_MB = 20.0


def truncate(path: Path) -> None:
    """Cut a file in the middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    """Empty a file."""
    path.write_bytes(b'')


def replace_by_text(path: Path) -> None:
    """Write the error page of a server into a file."""
    path.write_text('<html>404</html>')


def fill_with_nan(path: Path) -> None:
    """Write an image without any value."""
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.full(image.shape, np.nan, np.float32), image.affine), path)


def flatten(path: Path) -> None:
    """Write an image of one slice."""
    image = nib.load(path)
    nib.save(image.slicer[:, :, 20:21], path)


WAYS: tuple[Callable[[Path], None], ...] = (
    truncate,
    empty,
    replace_by_text,
    fill_with_nan,
    flatten,
)


@dataclass(frozen=True)
class Sample:
    """State of a run at one time.

    Parameters
    ----------
    seconds : float
        Time since its start.
    done : int
        Subjects with a report.
    memory_mb : float
        Resident memory of the main process.
    open_files : int
        Files that the main process holds open.
    work_mb : float
        Size of the work directory.
    """

    seconds: float
    done: int
    memory_mb: float
    open_files: int
    work_mb: float


def make_dataset(bids: Path, count: int, spacing: int) -> set[str]:
    """Write the brains, and return the labels of the broken ones."""
    from bids_interp.anatomical.templates import brain_template

    template = brain_template()
    data = np.asarray(template.dataobj, np.float32)[::spacing, ::spacing, ::spacing]
    affine = template.affine @ np.diag([spacing, spacing, spacing, 1.0])
    broken, rows = set(), ['participant_id\tgroup']
    for number in range(count):
        label = f'{number + 1:04d}'
        path = bids / f'sub-{label}' / 'anat' / f'sub-{label}_T1w.nii.gz'
        is_broken = number % BROKEN == BROKEN - 1
        rows.append(f'sub-{label}\t{"patient" if number % 2 else "control"}')
        if is_broken:
            broken.add(label)
        if path.exists():
            continue
        path.parent.mkdir(parents=True)
        noise = np.random.default_rng(number).normal(0, 0.02, data.shape)
        values = np.clip(data / data.max() + noise, 0, None) * (data > 0) * 1000
        image = nib.Nifti1Image(values.astype(np.int16), affine)
        image.header.set_xyzt_units('mm', 'sec')
        nib.save(image, path)
        if is_broken:
            WAYS[number // BROKEN % len(WAYS)](path)
    (bids / 'participants.tsv').write_text('\n'.join(rows) + '\n')
    description = {'Name': 'Endurance', 'BIDSVersion': '1.10.0', 'DatasetType': 'raw'}
    (bids / 'dataset_description.json').write_text(json.dumps(description))
    return broken


def finished(out: Path) -> set[str]:
    """Return the labels of the subjects whose last output is there."""
    found = out.glob('sub-*/anat/*_desc-explain_prediction.json')
    return {path.parts[-3].removeprefix('sub-') for path in found}


def size_mb(folder: Path) -> float:
    """Return the size of all files in a folder, some of which may vanish meanwhile."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:
                continue
    return total / 1e6


def watch(words: list[str], out: Path, work: Path, log: Path) -> tuple[int, list[Sample]]:
    """Run a command; return its exit code and what was seen of it."""
    samples: list[Sample] = []
    start = time.monotonic()
    with log.open('a') as stream:
        running = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT)
        while running.poll() is None:
            try:
                status = Path(f'/proc/{running.pid}/status').read_text()
                files = len(os.listdir(f'/proc/{running.pid}/fd'))
            except OSError:
                continue  # it has just ended
            memory = [line for line in status.splitlines() if line.startswith('VmRSS')]
            if not memory:
                continue  # it is ending
            samples.append(
                Sample(
                    round(time.monotonic() - start, 1),
                    len(finished(out)),
                    int(memory[0].split()[1]) / 1e3,
                    files,
                    size_mb(work),
                )
            )
            time.sleep(INTERVAL_S)
    return running.returncode, samples


def save_samples(path: Path, samples: list[Sample]) -> None:
    """Write what was seen of a run as a table."""
    with path.open('w', newline='') as stream:
        table = csv.writer(stream, delimiter='\t', lineterminator='\n')
        table.writerow([field.name for field in fields(Sample)])
        table.writerows(astuple(sample) for sample in samples)


def growth(samples: list[Sample], name: str) -> float:
    """Return the slope of a value after the first quarter of the subjects, per 100 subjects."""
    last = max(sample.done for sample in samples)
    kept = [asdict(s) for s in samples if last / 4 <= s.done < last]
    done = [sample['done'] for sample in kept]
    if len(set(done)) < 2:
        return 0.0
    return float(100 * np.polyfit(done, [sample[name] for sample in kept], 1)[0])


def main() -> int:
    """Run both levels, print the table, and check it."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path)
    parser.add_argument('--subjects', type=int, default=300)
    parser.add_argument('--nprocs', type=int, default=2)
    parser.add_argument('--spacing', type=int, default=4)
    options = parser.parse_args()
    bids, out, work = (options.out / name for name in ('bids', 'out', 'work'))
    broken = make_dataset(bids, options.subjects, options.spacing)
    every = {path.name.removeprefix('sub-') for path in bids.glob('sub-*')}
    common = ['--nprocs', str(options.nprocs), '--work-dir', str(work), '--offline']
    todo = sorted(every - finished(out))
    print(f'{machine()}; {len(todo)} of {len(every)} subjects to do', flush=True)
    log = options.out / 'log.txt'
    words = [str(PROGRAM), str(bids), str(out), 'participant', '--fast', '--clean-on-success']
    words += ['--omp-nthreads', '1', '--skip-bids-validation', *common]
    if not todo:
        print('All subjects are done; choose another OUT to measure them again.')
        return 2
    code, samples = watch([*words, '--participant-label', *todo], out, work, log)
    save_samples(options.out / 'samples.tsv', samples)
    group = [str(PROGRAM), str(bids), str(out), 'group', '--permutations', '100', *common]
    group_code, group_samples = watch(group, out, work, log)
    text, done = log.read_text(), finished(out)
    included = next(out.glob('group/*/inclusion.tsv')).read_text().splitlines()[1:]
    silent = sorted(every - done - {label for label in broken if f'sub-{label}' in text})
    checks = {
        f'{len(done)} of {len(every)} subjects are done, {len(broken)} are broken': (
            done == every - broken
        ),
        f'{len(silent)} subjects are missing without a word': not silent,
        f'exit code of participant: {code}': code == (1 if broken & set(todo) else 0),
        f'exit code of group: {group_code}; {len(included)} images': (
            group_code == 0 and len(included) == len(done)
        ),
        f'memory of the main process: at most {max(s.memory_mb for s in samples):.0f} MB, growth '
        f'{growth(samples, "memory_mb"):+.1f} MB per 100 subjects': (
            growth(samples, 'memory_mb') <= MOST_GROWTH_MB
        ),
        f'open files: at most {max(s.open_files for s in samples)}, growth '
        f'{growth(samples, "open_files"):+.1f} per 100 subjects': (
            growth(samples, 'open_files') <= 1
        ),
        f'work directory: at most {max(s.work_mb for s in samples):.0f} MB, '
        f'{size_mb(work):.0f} MB in the end': growth(samples, 'work_mb') <= 1,
    }
    print(f'{samples[-1].seconds / 60:.0f} minutes; group {group_samples[-1].seconds:.0f} s\n')
    print('| seen | right |\n|---|---|')
    for seen, is_right in checks.items():
        print(f'| {seen} | {"yes" if is_right else "**no**"} |')
    return 0 if all(checks.values()) else 1


if __name__ == '__main__':
    sys.exit(main())
