"""Phantom benchmark: maps of the whole program against the truth, on new phantom heads.

    python benchmarks/bench_known_truth.py OUT [--n 8] [--seed 4242] [--stripped] [--nprocs 2]

Makes a phantom dataset with the effect that the demonstration model has learned, runs
``bids_interp OUT/bids OUT/derivatives participant`` on it, and compares every native-space
log-Jacobian map with the exact one: *inject* for controls, *remove* for patients. Prints one row
per subject and the group means in template space. Exit code 1 if the program failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from bids_interp.evaluation.scores import ncc, sign_accuracy
from bids_interp.phantom.heads.head_dataset import make_phantom_dataset
from bids_interp.spatial import Grid

SPACE = 'MNI152NLin2009aSym'
#: Smallest |log-Jacobian| at which the sign is compared: 5 % of volume.
SIGN_THRESHOLD = 0.05


class Pair(NamedTuple):
    """A map and its truth on one grid."""

    direction: str
    found: nib.Nifti1Image
    truth: nib.Nifti1Image


def main() -> int:
    """Make the dataset, run the program, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path)
    parser.add_argument('--n', type=int, default=8)
    parser.add_argument('--seed', type=int, default=4242)
    parser.add_argument('--stripped', action='store_true')
    parser.add_argument('--nprocs', type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    bids, derivatives = options.out / 'bids', options.out / 'derivatives'
    if not bids.exists():
        make_phantom_dataset(bids, n=options.n, seed=options.seed, stripped=options.stripped)
    program = Path(sys.executable).with_name('bids_interp')
    done = subprocess.run(
        [
            program,
            bids,
            derivatives,
            'participant',
            '--nprocs',
            str(options.nprocs),
            '--work-dir',
            options.out / 'work',
            '--offline',
        ],
        check=False,
    )
    labels = sorted(path.name for path in bids.glob('sub-*'))
    print('\n| subject | direction | NCC with the truth | sign right | folded voxels |')
    print('|---|---|---|---|---|')
    for label in labels:
        print(subject_row(bids, derivatives, label))
    for direction in ('inject', 'remove'):
        print(group_row(bids, derivatives, labels, direction))
    return done.returncode


def find_pair(bids: Path, derivatives: Path, label: str, space: str) -> Pair | None:
    """Open the truth of a subject and the map of the same direction."""
    truths = bids / 'derivatives' / 'truth' / label / 'anat'
    for direction in ('inject', 'remove'):
        truth = truths / f'{label}{space}_desc-truth{direction}_logjacobian.nii.gz'
        if truth.exists():
            resolution = '_res-1' if space else ''
            name = f'{label}{space}{resolution}_desc-{direction}100_logjacobian.nii.gz'
            found = derivatives / label / 'anat' / name
            return Pair(direction, nib.load(found), nib.load(truth)) if found.exists() else None
    return None


def subject_row(bids: Path, derivatives: Path, label: str) -> str:
    """Compare in native space, inside the exact brain mask."""
    pair = find_pair(bids, derivatives, label, '')
    if pair is None:
        return f'| {label} | no map | | | |'
    mask_file = bids / 'derivatives' / 'truth' / label / 'anat' / f'{label}_desc-brain_mask.nii.gz'
    # Outputs are RAS+; the phantom may be stored otherwise.
    truth = nib.as_closest_canonical(pair.truth)
    mask = np.asarray(nib.as_closest_canonical(nib.load(mask_file)).dataobj) > 0
    if not Grid.from_image(truth).matches(Grid.from_image(pair.found), tolerance=1e-2):
        raise SystemExit(f'{label}: the map is not on the grid of the scan.')
    found, wanted = (np.asarray(image.dataobj, dtype=np.float32) for image in (pair.found, truth))
    folded = int((found[mask] <= np.log(1e-6) + 0.1).sum())
    return (
        f'| {label} | {pair.direction} | {ncc(found, wanted, mask):.2f} | '
        f'{sign_accuracy(found, wanted, mask, SIGN_THRESHOLD):.2f} | {folded} |'
    )


def group_row(bids: Path, derivatives: Path, labels: list[str], direction: str) -> str:
    """Compare the means over subjects in template space, where the truth is not exactly 0."""
    from nilearn.image import resample_to_img

    maps, truths = [], []
    for label in labels:
        pair = find_pair(bids, derivatives, label, f'_space-{SPACE}')
        if pair is None or pair.direction != direction:
            continue
        moved = resample_to_img(pair.found, pair.truth, force_resample=True, copy_header=True)
        maps.append(moved.get_fdata())
        truths.append(pair.truth.get_fdata())
    if not maps:
        return f'| group mean of 0 | {direction} | | | |'
    found, wanted = np.mean(maps, axis=0), np.mean(truths, axis=0)
    mask = (np.abs(wanted) > 0) | (np.abs(found) > 0)
    return (
        f'| group mean of {len(maps)} | {direction} | {ncc(found, wanted, mask):.2f} | '
        f'{sign_accuracy(found, wanted, mask, SIGN_THRESHOLD):.2f} | |'
    )


if __name__ == '__main__':
    sys.exit(main())
