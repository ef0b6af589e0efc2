"""Benchmark of the group level: time and memory of ``bids_interp BIDS_DIR OUT group``.

    python benchmarks/bench_group.py [--sizes 100 1000] [--spacing 1] [--out FOLDER]
    python benchmarks/bench_group.py --sizes 10000 --spacing 3
    python benchmarks/bench_group.py --voxelwise --sizes 200 --spacing 3 --permutations 5000

The benchmark makes derivatives: a few maps of smooth noise on the grid of the template, one of
which each subject gets as a hard link. For each size nibabel first reads all files once; the table
has the time of the command as a multiple of that, and its peak memory. Exit code 1 if a run fails.
A missed target (1.5 times; 2 GB; linear in the number of subjects) is only reported, because it
depends on the machine. With ``--voxelwise`` the command also regresses the maps on age; the target
for 200 subjects at 3 mm and 5,000 permutations is 3 minutes for that step.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from measure import machine, measure
from scipy.ndimage import gaussian_filter, zoom

SPACE = 'MNI152NLin2009aSym'
#: Field of view of the template in mm, and position of its first voxel.
EXTENT, ORIGIN = (197, 233, 189), (-98.0, -134.0, -72.0)
#: Number of different maps.
KINDS = 8
MODEL_SPACING = 4.0


def grid_of(spacing: float) -> tuple[tuple[int, ...], np.ndarray]:
    """Return shape and affine of a grid over the template."""
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = ORIGIN
    return tuple(int(np.ceil(size / spacing)) for size in EXTENT), affine


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return smooth noise of standard deviation 0.05, as compressible as a real map."""
    coarse = gaussian_filter(rng.standard_normal([size // 6 + 2 for size in shape]), 1.0)
    factors = [size / part for size, part in zip(shape, coarse.shape, strict=True)]
    fine = zoom(coarse, factors, order=1)[tuple(slice(0, size) for size in shape)]
    values = np.zeros(shape, np.float32)
    values[tuple(slice(0, size) for size in fine.shape)] = fine
    return (0.05 * values / values.std()).astype(np.float32)


def brain_of(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Return an ellipsoid of the size of a brain (X, Y, Z)."""
    steps = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in shape), indexing='ij')
    centre, radii = (0.0, -17.0, 9.0), (68.0, 86.0, 66.0)
    parts = (
        ((step * affine[axis, axis] + affine[axis, 3] - centre[axis]) / radii[axis]) ** 2
        for axis, step in enumerate(steps)
    )
    return sum(parts) < 1


def save(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write a NIfTI file."""
    nib.save(nib.Nifti1Image(data, affine), path)


def make_seeds(folder: Path, spacing: float) -> None:
    """Write the files that subjects share."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    shape, affine = grid_of(spacing)
    brain = brain_of(shape, affine)
    image = (brain * (1 + smooth_noise(rng, shape))).astype(np.float32)
    save(folder / f'space-{SPACE}_res-1_desc-brain_T1w.nii.gz', image, affine)
    small, coarse = grid_of(MODEL_SPACING)
    inner = brain_of(small, coarse)
    save(folder / 'desc-brain_mask.nii.gz', inner.astype(np.uint8), coarse)
    for kind in range(KINDS):
        # Zero outside the brain, as in the maps of the participant level.
        values = smooth_noise(rng, shape) * brain
        save(folder / f'{kind}_map.nii.gz', values, affine)
        field = np.stack([30 * smooth_noise(rng, small) for _ in range(3)], axis=-1)
        save(folder / f'{kind}_velocity.nii.gz', field[:, :, :, None], coarse)
        save(folder / f'{kind}_anatomy.nii.gz', inner * 3 * smooth_noise(rng, small), coarse)


def make_cohort(root: Path, seeds: Path, subjects: int) -> list[Path]:
    """Write derivatives of many subjects; return the paths of their maps."""
    (root / 'bids').mkdir(parents=True)
    out = root / 'out'
    out.mkdir()
    description = {
        'Name': 'benchmark',
        'BIDSVersion': '1.10.0',
        'DatasetType': 'derivative',
        'GeneratedBy': [{'Name': 'bids_interp', 'Version': '0'}],
    }
    (out / 'dataset_description.json').write_text(json.dumps(description))
    rng = np.random.default_rng(1)
    lines, maps = ['participant_id\tgroup\tage'], []
    for number in range(subjects):
        subject, kind = f'sub-{number:05d}', number % KINDS
        folder = out / subject / 'anat'
        folder.mkdir(parents=True)
        stem = f'{subject}_space-{SPACE}'
        links = {
            f'{stem}_res-1_desc-inject100_logjacobian.nii.gz': f'{kind}_map.nii.gz',
            f'{stem}_res-1_desc-brain_T1w.nii.gz': f'space-{SPACE}_res-1_desc-brain_T1w.nii.gz',
            f'{stem}_res-model_desc-inject_velocity.nii.gz': f'{kind}_velocity.nii.gz',
            f'{stem}_res-4_desc-anatomy_logjacobian.nii.gz': f'{kind}_anatomy.nii.gz',
            f'{subject}_desc-brain_mask.nii.gz': 'desc-brain_mask.nii.gz',
        }
        for name, seed in links.items():
            os.link(seeds / seed, folder / name)
        maps.append(folder / f'{stem}_res-1_desc-inject100_logjacobian.nii.gz')
        prediction = {
            'GeneratedBy': [{'Name': 'bids_interp', 'Version': '0'}],
            'ModelName': 'benchmark',
            'ModelHash': 'benchmark',
            'Target': {
                'kind': 'binary',
                'label': 'group',
                'negative': 'control',
                'positive': 'patient',
            },
            'InTrainingSet': False,
            'FoldsUsed': [0, 1],
            'Observed': {'LogitMean': float(rng.normal()), 'ProbabilityMean': 0.5},
            'Simulated': {'inject100': {'LogitMean': float(rng.normal(2))}},
        }
        name = f'{subject}_desc-explain_prediction.json'
        (folder / name).write_text(json.dumps(prediction))
        group = rng.choice(['control', 'patient'])
        lines.append(f'{subject}\t{group}\t{rng.integers(20, 90)}')
    (root / 'bids' / 'participants.tsv').write_text('\n'.join(lines) + '\n')
    return maps


def read_once(maps: list[Path]) -> float:
    """Return the seconds to read all maps once, one after the other."""
    start = time.perf_counter()
    for path in maps:
        np.asarray(nib.load(path).dataobj)
    return time.perf_counter() - start


def step_seconds(log: str, step: str) -> float:
    """Return the seconds of a step, from the log."""
    found = re.search(rf'{step}\S*\s+([\d.]+) s', log)
    return float(found[1]) if found else float('nan')


def run(root: Path, args: argparse.Namespace, maps: list[Path]) -> tuple[str, bool]:
    """Run the command on one cohort; return its row of the table, and True if it failed."""
    reading = read_once(maps)
    command: list[str | Path] = [
        *(Path(sys.executable).with_name('bids_interp'), root / 'bids', root / 'out', 'group'),
        *('--work-dir', root / 'work', '--nprocs', str(args.nprocs), '--offline'),
        *('--permutations', str(args.permutations)),
        *(['--voxelwise', 'age'] if args.voxelwise else []),
    ]
    done = measure(command, root / 'log.txt')
    log = (root / 'log.txt').read_text()
    maps_s = step_seconds(log, 'describe_inject100')
    glm = f'{step_seconds(log, "test_voxels_0"):.0f}' if args.voxelwise else '-'
    cells = (
        f'{len(maps)}',
        f'{reading:.0f}',
        f'{maps_s:.0f}',
        f'{maps_s / reading:.2f}',
        f'{done.wall_s:.0f}',
        f'{done.wall_s / reading:.2f}',
        f'{done.peak_pss_gb:.2f}',
        glm,
    )
    if done.exit_code:
        print(log[-2000:], file=sys.stderr)
    return '| ' + ' | '.join(cells) + ' |', bool(done.exit_code)


def main() -> int:
    """Run all sizes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sizes', type=int, nargs='+', default=[100, 1000])
    parser.add_argument('--spacing', type=float, default=1.0)
    parser.add_argument('--permutations', type=int, default=5000)
    parser.add_argument('--voxelwise', action='store_true')
    parser.add_argument('--nprocs', type=int, default=2)
    parser.add_argument('--out', type=Path, help='where the files go; a temporary folder else')
    args = parser.parse_args()
    print(f'{machine()}; maps of {args.spacing:g} mm, {args.permutations} permutations\n')
    print(
        '| subjects | read once, s | maps step, s | over reading | whole, s | over reading | '
        'peak, GB | voxel-wise, s |\n|---|---|---|---|---|---|---|---|'
    )
    failed = False
    with tempfile.TemporaryDirectory(dir=args.out) as temporary:
        seeds = Path(temporary) / 'seeds'
        make_seeds(seeds, args.spacing)
        for size in args.sizes:
            root = Path(temporary) / f'{size}'
            row, broke = run(root, args, make_cohort(root, seeds, size))
            print(row, flush=True)
            failed |= broke
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
