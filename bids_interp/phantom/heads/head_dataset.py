"""Head dataset: a BIDS dataset of phantom heads, some with a planted change, and its truth."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.errors import UsageError
from bids_interp.phantom.change.atrophy import AtrophyField, check_severity, fit_atrophy
from bids_interp.phantom.change.effects import EFFECTS, VolumeEffect, parse_effect
from bids_interp.phantom.dataset_folder import (
    check_cohort,
    check_free,
    describe_phantom,
    folder_in_progress,
    save_json,
    save_on_grid,
)
from bids_interp.phantom.heads.head import head_grid, synthetic_head
from bids_interp.phantom.heads.head_scan import PhantomScan, ScanSetup, scan_subject
from bids_interp.phantom.truth import truth_sidecar, truth_stem
from bids_interp.spatial import Grid

#: Voxel size of the deformations, which are smooth on the scale of 10 mm.
FIELD_MM = 3.0
_README = """Phantom heads with a planted change
===================================

Made by `bids_interp_tools phantom`. No person was scanned: every head is the MNI152NLin2009aSym
brain in a synthetic head, with random smooth anatomy, pose, contrast, bias field and noise.
VolumeEffect: {effect}. Seed: {seed}.

Patients carry the effect, controls a sham warp of equal size that changes no volume. Age and sex
are random and have no meaning. `derivatives/truth` contains the exact truth.
"""


def make_phantom_dataset(
    out_dir: str | Path,
    n: int = 8,
    effect: str | VolumeEffect = 'hippocampus',
    severity: tuple[float, float] = (0.7, 1.3),
    seed: int = 0,
    spacing_mm: float = 1.5,
    stripped: bool = False,
    fraction: float = 0.5,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write a BIDS dataset of phantom heads with a known change.

    Parameters
    ----------
    out_dir : path
        Output folder, which appears only when everything is written.
    n : int
        Number of subjects.
    effect : str or VolumeEffect
        See :func:`bids_interp.phantom.change.effects.parse_effect`.
    severity : tuple of float
        Range from which each patient's severity is drawn, uniformly.
    seed : int
        Random seed; equal seeds and options give equal files.
    spacing_mm : float
        Voxel size of the scans, 1 to 4 mm.
    stripped : bool
        Write skull-stripped brains instead of heads.
    fraction : float
        Share of patients, rounded to whole subjects.
    overwrite : bool
        Replace an earlier phantom dataset in `out_dir`. Other folders are never replaced.
    progress : callable, optional
        Function that takes one line of text per step.

    Returns
    -------
    pathlib.Path
        Dataset folder.

    Raises
    ------
    UsageError
        If a number is invalid, or the effect is unknown or folds.
    OutputError
        If the folder is not empty or cannot be written.
    """
    out, report = Path(out_dir), progress or (lambda line: None)
    chosen = effect if isinstance(effect, VolumeEffect) else parse_effect(effect)
    check_cohort(n, severity, seed, fraction)
    if not 1 <= spacing_mm <= 4:
        raise UsageError(f'Scans cannot have voxels of {spacing_mm} mm.', 'Choose 1 to 4 mm.')
    check_free(out, overwrite)
    report(f'Computing the effect {chosen.name} ...')
    atrophy = _fit_effect(chosen, severity[1])
    report('Building the head ...')
    head = _head(float(np.clip(spacing_mm, 1.0, 2.0)))
    setup = ScanSetup(*head, atrophy, null=not chosen.changes, spacing_mm=spacing_mm)
    with folder_in_progress(out) as work:
        _write_subjects(work, setup, n, severity, seed, fraction, stripped, report)
        _write_descriptions(work, chosen, seed)
    return out


@lru_cache(maxsize=1)
def _head(spacing_mm: float) -> tuple[np.ndarray, np.ndarray, Grid]:
    head, mask = synthetic_head(spacing_mm=spacing_mm)
    data, inside = (np.asarray(image.dataobj, np.float32) for image in (head, mask))
    return data, inside, Grid.from_image(head, EMBEDDED_TEMPLATE)


@lru_cache(maxsize=4)
def _fit_on_head(changes: tuple[tuple[str, float], ...], absorb: str) -> AtrophyField:
    return fit_atrophy(head_grid(FIELD_MM), dict(changes), absorb)


def _fit_effect(effect: VolumeEffect, strongest: float) -> AtrophyField:
    """Fit an effect on the grid of the deformations; a null effect uses the size of another."""
    source = effect if effect.changes else EFFECTS['hippocampus']
    atrophy = _fit_on_head(tuple(source.changes.items()), source.absorb)
    check_severity(atrophy, strongest, effect.name)
    return atrophy


def _write_subjects(
    root: Path,
    setup: ScanSetup,
    n: int,
    severity: tuple[float, float],
    seed: int,
    fraction: float,
    stripped: bool,
    report: Callable[[str], None],
) -> None:
    order = np.random.default_rng([seed, 0]).permutation(n)
    patients = set(order[: round(n * fraction)].tolist())
    rows, truths = ['participant_id\tage\tsex\tgroup'], ['participant_id\tdirection\tseverity']
    width = max(2, len(str(n)))
    for index in range(n):
        rng = np.random.default_rng([seed, 1, index])
        age, sex, strength = rng.integers(20, 81), 'FM'[rng.integers(2)], rng.uniform(*severity)
        label = f'sub-{index + 1:0{width}d}'
        patient = index in patients
        scan = scan_subject(setup, rng, patient, float(strength), stripped)
        _write_scan(root, label, scan, setup)
        rows.append(f'{label}\t{age}\t{sex}\t{"patient" if patient else "control"}')
        truths.append(f'{label}\t{scan.direction}\t{scan.severity:.4f}')
        report(f'Wrote {label} ({index + 1} of {n}).')
    (root / 'participants.tsv').write_text('\n'.join(rows) + '\n', 'utf-8')
    truth_root = root / 'derivatives' / 'truth'
    (truth_root / 'truth.tsv').write_text('\n'.join(truths) + '\n', 'utf-8')


def _write_scan(root: Path, label: str, scan: PhantomScan, setup: ScanSetup) -> None:
    raw, truth = root / label / 'anat', root / 'derivatives' / 'truth' / label / 'anat'
    raw.mkdir(parents=True)
    truth.mkdir(parents=True)
    t1w = f'{label}_T1w.nii.gz'
    save_on_grid(scan.grid, scan.image, raw / t1w, np.int16)
    source = {'Sources': [f'bids:raw:{label}/anat/{t1w}']}
    save_on_grid(scan.grid, scan.brain_mask, truth / f'{label}_desc-brain_mask.nii.gz', np.uint8)
    save_json(truth / f'{label}_desc-brain_mask.json', {'Type': 'Brain', **source})
    pose = {'NativeToTemplate': scan.native_to_template.tolist(), 'Units': 'mm, RAS+'}
    save_json(
        truth / f'{label}_from-T1w_to-{EMBEDDED_TEMPLATE}_mode-image_xfm.json', {**pose, **source}
    )
    maps = (
        (None, scan.grid, scan.truth_native),
        (EMBEDDED_TEMPLATE, setup.atrophy.grid, scan.truth_template),
    )
    for space, grid, values in maps:
        if values is None:
            continue
        stem = f'{label}_{truth_stem(scan.direction, space)}'
        save_on_grid(grid, np.round(values, 5), truth / f'{stem}.nii.gz', np.float32)
        facts = truth_sidecar(
            scan.direction, scan.severity, setup.atrophy.changes, source['Sources']
        )
        save_json(truth / f'{stem}.json', facts)


def _write_descriptions(root: Path, effect: VolumeEffect, seed: int) -> None:
    columns = {
        'age': {'Description': 'Age, drawn at random', 'Units': 'year'},
        'sex': {'Description': 'Sex, drawn at random', 'Levels': {'F': 'female', 'M': 'male'}},
        'group': {
            'Description': 'Whether the effect is planted',
            'Levels': {'control': 'sham warp', 'patient': f'effect {effect.name}'},
        },
    }
    readme = _README.format(effect=effect.name, seed=seed)
    title = f'effect {effect.name}, seed {seed}'
    describe_phantom(root, 'Phantom heads', title, columns, readme)
