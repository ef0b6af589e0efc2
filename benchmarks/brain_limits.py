"""Benchmark of the limits of a registered brain: real scans, and what is refused or cautioned.

    python benchmarks/brain_limits.py DERIVATIVES --scans BIDS_DIR [BIDS_DIR ...] [--seconds 600]

DERIVATIVES are outputs of `bids_interp ... participant`. The brains in template space are measured
as they are, and after changes that make them something else: other contrasts, cut parts. The values
of masks, labels and scans are measured in BIDS_DIRs. Prints a Markdown table of both distributions.
The brains that resemble the template least come first, because measuring stops after some time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from measure import machine
from scipy import ndimage

from bids_interp.anatomical.checks import contrast, coverage
from bids_interp.anatomical.checks.contrast import measure_contrast, measure_values
from bids_interp.anatomical.checks.coverage import region_coverage
from bids_interp.anatomical.registration import brain_outline
from bids_interp.anatomical.templates import brain_template

STEP = 2  # measured at 2 mm


def inverted(data: np.ndarray) -> np.ndarray:
    """Return a T2w-like contrast."""
    return np.clip(1.1 * np.percentile(data[data > 0], 99) - data, 1e-3, None) * (data > 0)


def phase(data: np.ndarray) -> np.ndarray:
    """Return a wrapped phase that rises through the brain."""
    ramp = np.indices(data.shape).sum(axis=0) * 0.04
    return (1 + (ramp + data / data.max()) % 1) * (data > 0)


def wrapped(data: np.ndarray) -> np.ndarray:
    """Return values that overflowed: white matter is dark."""
    return (data * (1.05 / np.percentile(data[data > 0], 90)) % 1 + 1e-3) * (data > 0)


def mask(data: np.ndarray) -> np.ndarray:
    """Return a binary mask."""
    return (data > 0).astype(np.float32)


def labels(data: np.ndarray) -> np.ndarray:
    """Return three labels by brightness."""
    return np.where(data > 0, 1 + np.digitize(data, np.percentile(data[data > 0], (33, 66))), 0)


CONTRASTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    'T2w': inverted, 'phase': phase, 'overflow': wrapped, 'mask': mask
}  # fmt: skip
CUTS = {
    'vertex': np.s_[:, :, 120:], 'cerebellum': np.s_[:, :80, :44], 'frontal pole': np.s_[:, 168:],
    'occipital pole': np.s_[:, :40], 'right hemisphere': np.s_[98:],
}  # fmt: skip


def brains(derivatives: Path, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield the brains in template space (X, Y, Z) of a folder, the least similar ones first."""

    def similarity(path: Path) -> float:
        side = next(path.parent.glob('*_from-T1w_to-*_xfm.json'))
        return float(json.loads(side.read_text())['Registration']['correlation'])

    for path in sorted(derivatives.glob('sub-*/**/*_desc-brain_T1w.nii.gz'), key=similarity):
        img = nib.load(path)
        if img.shape == shape:
            yield np.asarray(img.dataobj, np.float32)


def coarse(data: np.ndarray) -> np.ndarray:
    """Return an image at 2 mm."""
    return (ndimage.gaussian_filter(data, 0.8) * (data > 0))[::STEP, ::STEP, ::STEP]


def row(name: str, limit: str, scans: list[float], others: dict[str, list[float]]) -> str:
    """Return a line of the table; of the others, those that come closest to the scans."""
    spread = f'{min(scans):.2f} / {np.median(scans):.2f} / {max(scans):.2f} ({len(scans)})'
    rest = '; '.join(f'{kind} {min(v):.2f} to {max(v):.2f}' for kind, v in others.items())
    return f'| {name} | {spread} | {rest} | {limit} |'


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('derivatives', type=Path)
    parser.add_argument('--scans', type=Path, nargs='+', default=[])
    parser.add_argument('--seconds', type=float, default=600.0, help='time for all measurements')
    options = parser.parse_args()
    start = time.monotonic()
    template = brain_template()
    reference = coarse(np.asarray(template.dataobj))
    outline = brain_outline(reference)
    affine = template.affine @ np.diag([STEP, STEP, STEP, 1])
    measured: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for data in brains(options.derivatives, template.shape):
        if time.monotonic() - start > 0.8 * options.seconds:
            break
        low = coarse(data)
        for kind, change in {'': lambda x: x, **CONTRASTS}.items():
            found = measure_contrast(change(low), reference)
            for field in ('white_over_grey', 'grey_over_fluid', 'local'):
                measured[field][kind].append(getattr(found, field))
        whole = region_coverage(brain_outline(low), outline, affine)
        for region, share in whole.items():
            measured[region][''].append(share)
            if region in CUTS:
                cut = data.copy()
                cut[CUTS[region]] = 0
                part = region_coverage(brain_outline(coarse(cut)), outline, affine)
                measured[region]['cut'].append(part[region])
    for folder in options.scans:
        for path in sorted(folder.glob('sub-*/**/*_T1w.nii.gz')):
            if time.monotonic() - start > options.seconds:
                break
            data = np.asarray(nib.load(path).dataobj, np.float32)
            data = data * (data > 0.2 * np.percentile(data, 99))
            for kind, change in {'': lambda x: x, 'mask': mask, 'labels': labels}.items():
                values = measure_values(change(data), data > 0)
                measured['distinct values'][kind].append(values.count)
                measured['equal neighbours'][kind].append(values.equal_share)
    limits = {
        'white_over_grey': f'at least {contrast.MIN_WHITE_OVER_GREY}',
        'grey_over_fluid': f'at least {contrast.MIN_GREY_OVER_FLUID}',
        'local': f'at least {contrast.MIN_LOCAL}',
        'distinct values': f'at least {contrast.MIN_VALUES}',
        'equal neighbours': f'at most {contrast.MAX_EQUAL}',
    }
    print(machine())
    print('| measure | T1w scans: lowest / median / highest (number) | others | limit |')
    print('|---|---|---|---|')
    for name, kinds in measured.items():
        scans = kinds.pop('')
        print(row(name, limits.get(name, f'at least {coverage.MIN_COVERAGE}'), scans, dict(kinds)))


if __name__ == '__main__':
    main()
