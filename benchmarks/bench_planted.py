"""Benchmark with a planted change: inject, train, participant, compared with the truth.

    python benchmarks/bench_planted.py BIDS_DIR OUT [--unseen 7] [-- OPTIONS OF train]
    python benchmarks/bench_planted.py BIDS_DIR OUT --model-name other -- OTHER OPTIONS OF train

Plants a change into every brain of BIDS_DIR (``bids_interp_tools inject``), trains a model on all
but the last brains, and explains images of these unseen brains with it. Prints the out-of-fold AUC
and, for each direction, the NCC of the group-mean log-Jacobian with the exact one inside the brain,
with a bootstrap interval over brains. A second run resumes the first; with another model name it
trains another model with the same images.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from bench_known_truth import SIGN_THRESHOLD, SPACE, find_pair
from measure import machine

from bids_interp.anatomical.templates import brain_template
from bids_interp.evaluation.scores import Estimate, bootstrap_by_family, ncc, sign_accuracy

SEED = 1


def main() -> int:
    """Run the three commands and compare."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('bids_dir', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--effect', default='hippocampus')
    parser.add_argument('--replicates', type=int, default=6)
    parser.add_argument('--unseen', type=int, default=7, help='brains that are not trained with')
    parser.add_argument('--trained', type=int, default=6, help='images of each of the others')
    parser.add_argument(
        '--explained', type=int, default=3, help='images of each that are explained'
    )
    parser.add_argument('--model-name', default='planted', help='of the model')
    parser.add_argument('--nprocs', type=int, default=os.cpu_count() or 1)
    parser.add_argument('--fast', action='store_true', help='coarser registrations')
    # Options after -- are for train; argparse would parse them.
    words = sys.argv[1:]
    split = words.index('--') if '--' in words else len(words)
    options = parser.parse_args(words[:split])
    options.train = words[split + 1 :]
    print(machine(), flush=True)
    planted = options.out / 'planted'
    common = ['--nprocs', str(options.nprocs), '--work-dir', options.out / 'work', '--offline']
    common += ['--fast'] if options.fast else []
    if not (planted / 'participants.tsv').exists():
        how = ['--effect', options.effect, '--replicates', str(options.replicates)]
        run(
            'bids_interp_tools',
            'inject',
            options.bids_dir,
            planted,
            *how,
            f'--seed={SEED}',
            *common,
        )
    numbers = options.unseen, options.trained, options.explained
    seen, unseen = divide(planted / 'participants.tsv', *numbers)
    name = options.model_name
    model = options.out / 'derivatives' / 'models' / name
    if not model.exists():
        what = ['--label', 'group', '--positive', 'patient', '--negative', 'control']
        who = ['--family', 'family', '--model-name', name, '--participant-label', *seen]
        where = [planted, options.out / 'derivatives', 'train']
        run('bids_interp', *where, *what, *who, *common, *options.train)
    explained = options.out / f'explained-{name}'
    how = ['--model', model, '--output-spaces', 'template', '--participant-label', *unseen]
    run('bids_interp', planted, explained, 'participant', *how, *common)
    report(planted, explained, model, unseen)
    return 0


def run(program: str, *arguments: object) -> None:
    """Run a command of this environment and print its duration."""
    started = time.perf_counter()
    path = Path(sys.executable).with_name(program)
    subprocess.run([str(path), *map(str, arguments)], check=True)
    print(f'{program} {arguments[2]}: {time.perf_counter() - started:.0f} s', flush=True)


def divide(table: Path, n_unseen: int, trained: int, explained: int) -> tuple[list[str], list[str]]:
    """Return labels for training, and labels to explain: some images of the last families."""
    with table.open(encoding='utf-8', newline='') as stream:
        rows = list(csv.DictReader(stream, delimiter='\t'))
    families = sorted({row['family'] for row in rows})
    seen, unseen = [], []
    for number, family in enumerate(families):
        own = [row['participant_id'] for row in rows if row['family'] == family]
        if number < len(families) - n_unseen:
            seen += own[:trained]
        else:
            unseen += own[:explained]
    return seen, unseen


def report(planted: Path, explained: Path, model: Path, labels: list[str]) -> None:
    """Print the numbers as a table."""
    metrics = json.loads((model / 'config.json').read_text())['metrics']
    area = metrics['auc']
    print(
        f'\nOut-of-fold AUC {area["value"]:.3f} ({area["low"]:.3f} to {area["high"]:.3f}), '
        f'permutation p = {metrics["permutation_p"]:.4f}; mask alone '
        f'{metrics["mask"]["auc"]["value"]:.3f}; folds agree (NCC) '
        f'{metrics["simulator"]["fold_ncc"]["inject"]:.2f}, validity '
        f'{metrics["simulator"]["validity"]:.2f}'
    )
    print('\n| direction | images | NCC, group mean | NCC, single | sign right | range | truth |')
    print('|---|---|---|---|---|---|---|')
    for direction in ('inject', 'remove'):
        maps, truths, families = collect(planted, explained, labels, direction)
        if len(maps):
            print(row(direction, maps, truths, families))


def collect(
    planted: Path, explained: Path, labels: list[str], direction: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return maps and truths (N, voxels) inside the template brain, and families (N,)."""
    from nilearn.image import resample_to_img

    maps, truths, families = [], [], []
    template = brain_template(SPACE)
    for label in labels:
        pair = find_pair(planted, explained, label, f'_space-{SPACE}')
        if pair is None or pair.direction != direction:
            continue
        images = [pair.found, template]
        found, brain = (
            resample_to_img(image, pair.truth, force_resample=True, copy_header=True)
            for image in images
        )
        # Interpolation leaves values around the brain.
        level = values(brain)
        inside = level > 0.2 * np.percentile(level[level > 0], 98)
        maps.append(values(found)[inside])
        truths.append(values(pair.truth)[inside])
        families.append(label.partition('r')[0])
    return np.array(maps), np.array(truths), np.unique(families, return_inverse=True)[1]


def values(image: nib.Nifti1Image) -> np.ndarray:
    """Return voxels as float32."""
    return np.asarray(image.dataobj, dtype=np.float32)


def row(direction: str, maps: np.ndarray, truths: np.ndarray, families: np.ndarray) -> str:
    """Return one line: group mean and single images, with intervals over brains."""
    everywhere = np.ones(maps.shape[1], bool)
    group = bootstrap_by_family(
        lambda chosen: ncc(maps[chosen].mean(axis=0), truths[chosen].mean(axis=0), everywhere),
        families,
        SEED,
        draws=200,
    )
    each = np.array([ncc(m, t, everywhere) for m, t in zip(maps, truths, strict=True)])
    single = bootstrap_by_family(lambda chosen: float(each[chosen].mean()), families, SEED)
    found, wanted = maps.mean(axis=0), truths.mean(axis=0)
    right = sign_accuracy(found, wanted, everywhere, SIGN_THRESHOLD)
    return (
        f'| {direction} | {len(maps)} | {text(group)} | {text(single)} | {right:.2f} | '
        f'{found.min():.2f} to {found.max():.2f} | {wanted.min():.2f} to {wanted.max():.2f} |'
    )


def text(estimate: Estimate) -> str:
    """Return value and interval as text."""
    return f'{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})'


if __name__ == '__main__':
    sys.exit(main())
