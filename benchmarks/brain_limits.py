"""Benchmark of the limits of a registered brain: real scans, and what is refused or cautioned.

    python benchmarks/brain_limits.py [BIDS_DIR ...] [--placed DERIVATIVES ...] [--log FILE]

Every T1w scan is conformed, prepared, registered and measured. The brain in template space is
measured again after changes that make it something else: other contrasts, cut parts. Prints a
Markdown table of both distributions, what was refused or cautioned, and the processor time.
Brains in template space, from derivatives of bids_interp, are measured as they lie there; of these,
only every seventh is changed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from measure import machine
from scipy import ndimage

from bids_interp.anatomical.checks import contrast, coverage
from bids_interp.anatomical.checks.contrast import measure_contrast, measure_values
from bids_interp.anatomical.checks.coverage import largest_gap, region_coverage
from bids_interp.anatomical.cubic_resampler import brain_in_template
from bids_interp.anatomical.prepared_brain import BrainOptions, prepare_brain
from bids_interp.anatomical.raw.conform import conform
from bids_interp.anatomical.registration import (
    MIN_CORRELATION,
    MIN_DICE,
    brain_outline,
    register_brain,
    similarity,
)
from bids_interp.anatomical.templates import brain_template
from bids_interp.errors import ImageError

STEP = 2  # measured at 2 mm
CHANGED = 7  # of so many placed brains, one is changed


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


def coarse(data: np.ndarray) -> np.ndarray:
    """Return an image at 2 mm."""
    return (ndimage.gaussian_filter(data, 0.8) * (data > 0))[::STEP, ::STEP, ::STEP]


def cavity(data: np.ndarray) -> np.ndarray:
    """Return a brain with a cavity of 40 mm, as dark as fluid."""
    places = np.indices(data.shape) - np.reshape([124, 110, 80], (3, 1, 1, 1))
    hole = (places**2).sum(axis=0) < 20**2
    return np.where(hole & (data > 0), 0.15 * np.percentile(data[data > 0], 90), data)


# Measures of one kind of image, by name.
Measures = dict[str, float]


def measure(path: Path, fast: bool = False) -> dict[str, Any]:
    """Process a scan; return its measures by kind of change, or why it is refused."""
    template = brain_template()
    start = time.process_time()
    try:
        img, report = conform(path)
        brain = prepare_brain(img, BrainOptions(fast=fast), name=str(path))
        ready = time.process_time()
        result = register_brain(brain.brain, template, name=str(path), fast=fast)
    except ImageError as error:
        return {'path': str(path), 'refused': error.message}
    seconds = {'preparation': ready - start, 'registration': time.process_time() - ready}
    data, inside = np.asarray(img.dataobj), np.asarray(brain.mask.dataobj) > 0.5
    kinds: dict[str, Measures] = {'': {**result.coverage, **_contrast_of(result.contrast)}}
    kinds[''] |= {'correlation': result.correlation, 'overlap': result.dice}
    kinds[''] |= {'largest gap, mm': result.gap.radius_mm if result.gap else 0.0}
    for kind, change in {'': lambda x: x, 'mask': mask, 'labels': labels}.items():
        values = measure_values(change(np.where(inside, data, 0)), inside)
        kinds.setdefault(kind, {})['distinct values'] = values.count
        kinds[kind]['equal neighbours'] = values.equal_share
    placed, _ = brain_in_template(brain.brain, brain.mask, template, result.native_to_template)
    for kind, found in changed(np.asarray(placed.dataobj, np.float32)).items():
        kinds.setdefault(kind, {}).update(found)
    said = [*report.warnings, *result.warnings]
    return {'path': str(path), 'kinds': kinds, 'seconds': seconds, 'warnings': said}


def measure_placed(path: Path, change: bool) -> dict[str, Any]:
    """Return the measures of a brain in template space by kind of change."""
    data = np.asarray(nib.load(path).dataobj, np.float32)
    reference, affine = _reference()
    low = coarse(data)
    masks = [brain_outline(image) for image in (low, reference)]
    correlation, overlap, _ = similarity(low, reference)
    own = {**region_coverage(*masks, affine), **_contrast_of(measure_contrast(low, reference))}
    own |= {'correlation': correlation, 'overlap': overlap}
    own |= {'largest gap, mm': largest_gap(low, reference, affine).radius_mm}
    kinds = {'': own, **(changed(data) if change else {})}
    return {'path': str(path), 'kinds': kinds, 'seconds': {}, 'warnings': []}


def changed(whole: np.ndarray) -> dict[str, Measures]:
    """Return measures of a brain in template space (X, Y, Z) after each change."""
    reference, affine = _reference()
    kinds: dict[str, Measures] = {}
    for kind, change in CONTRASTS.items():
        found = measure_contrast(change(coarse(whole)), reference)
        kinds.setdefault(kind, {}).update(_contrast_of(found))
    for region, where in CUTS.items():
        cut = whole.copy()
        cut[where] = 0
        masks = [brain_outline(image) for image in (coarse(cut), reference)]
        kinds.setdefault('cut', {})[region] = region_coverage(*masks, affine)[region]
    gap = largest_gap(coarse(cavity(whole)), reference, affine)
    kinds['cavity'] = {'largest gap, mm': gap.radius_mm}
    return kinds


@lru_cache(maxsize=1)
def _reference() -> tuple[np.ndarray, np.ndarray]:
    """Return the template (X, Y, Z) at 2 mm and its affine (4, 4)."""
    template = brain_template()
    data = coarse(np.asarray(template.dataobj, np.float32))
    return data, template.affine @ np.diag([STEP, STEP, STEP, 1])


def _contrast_of(found: contrast.Contrast | None) -> Measures:
    return {} if found is None else asdict(found)


def row(name: str, limit: str, scans: list[float], others: dict[str, list[float]]) -> str:
    """Return a line of the table; of the others, those that come closest to the scans."""
    spread = f'{min(scans):.2f} / {np.median(scans):.2f} / {max(scans):.2f} ({len(scans)})'
    rest = '; '.join(f'{kind} {min(v):.2f} to {max(v):.2f}' for kind, v in others.items())
    return f'| {name} | {spread} | {rest} | {limit} |'


def table(measured: list[dict[str, Any]]) -> str:
    """Return the table of all measures, of scans that were not refused."""
    limits = {
        'white_over_grey': f'at least {contrast.MIN_WHITE_OVER_GREY}',
        'grey_over_fluid': f'at least {contrast.MIN_GREY_OVER_FLUID}',
        'local': f'at least {contrast.MIN_LOCAL}',
        'correlation': f'at least {MIN_CORRELATION}',
        'overlap': f'at least {MIN_DICE}',
        'largest gap, mm': f'at most {coverage.MAX_GAP_MM}',
        'distinct values': f'at least {contrast.MIN_VALUES}',
        'equal neighbours': f'at most {contrast.MAX_EQUAL}',
    }
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for scan in measured:
        for kind, found in scan['kinds'].items():
            for name, value in found.items():
                values[name][kind].append(value)
    lines = ['| measure | T1w scans: lowest / median / highest (number) | others | limit |']
    lines.append('|---|---|---|---|')
    for name, kinds in values.items():
        scans = kinds.pop('')
        limit = limits.get(name, f'at least {coverage.MIN_COVERAGE}')
        lines.append(row(name, limit, scans, dict(kinds)))
    return '\n'.join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('bids_dirs', type=Path, nargs='*')
    parser.add_argument('--placed', type=Path, nargs='+', default=[], help='derivatives')
    parser.add_argument('--fast', action='store_true', help='lower accuracy, as with --fast')
    parser.add_argument('--log', type=Path, help='file of measures, which a later run continues')
    options = parser.parse_args()
    print(machine(), flush=True)
    log = options.log
    lines = log.read_text().splitlines() if log and log.exists() else []
    measured = [json.loads(line) for line in lines]
    done = {scan['path'] for scan in measured}
    scans = [p for folder in options.bids_dirs for p in sorted(folder.glob('sub-*/**/*_T1w.nii*'))]
    name = 'sub-*/**/*_space-*_desc-brain_T1w.nii*'
    placed = [p for folder in options.placed for p in sorted(folder.glob(name))]
    for path in [*placed, *scans]:
        if str(path) in done:
            continue
        if path in placed:
            found = measure_placed(path, placed.index(path) % CHANGED == 0)
        else:
            found = measure(path, options.fast)
        measured.append(found)
        if log:
            with log.open('a') as file:
                file.write(json.dumps(found) + '\n')
    passed = [scan for scan in measured if 'kinds' in scan]
    print(table(passed))
    for step in ('preparation', 'registration'):
        seconds = [scan['seconds'][step] for scan in passed if scan['seconds']]
        if seconds:
            print(f'\n{step}: median {np.median(seconds):.1f}, largest {max(seconds):.1f} s')
    for scan in measured:
        for text in [scan['refused']] if 'refused' in scan else scan['warnings']:
            print(f'* {Path(scan["path"]).name}: {"refused: " * ("refused" in scan)}{text}')


if __name__ == '__main__':
    main()
