"""Blob dataset in BIDS layout, with its truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bids_interp.phantom.blobs.blob_image import (
    AFFECTED,
    CHANGE,
    MEANING,
    SIZE,
    BlobDesign,
    Blobs,
    design_blobs,
    draw_blobs,
)
from bids_interp.phantom.dataset_folder import (
    check_cohort,
    check_free,
    describe_phantom,
    folder_in_progress,
    save_json,
    save_on_grid,
)
from bids_interp.phantom.truth import truth_sidecar, truth_stem
from bids_interp.spatial import Grid

#: Intensity of a blob in the int16 images.
WHITE = 1000
_README = """Blobs
=====

Made by `bids_interp_tools phantom --kind blobs`. Each image is a round body with {count}
look-alike blobs; position, shape and size of all of them vary from subject to subject.
Variant {variant}: {meaning}. Seed: {seed}.

Two-dimensional images are volumes of one slice. `derivatives/truth` holds the blobs (dseg) and,
where shapes differ between the groups, the exact log-Jacobian maps.

The images are not brains, so `bids_interp` refuses them. `bids_interp_tools bench blobs` draws the
same images, trains on them and compares all methods.
"""


def make_blobs_dataset(
    out_dir: str | Path,
    n: int = 64,
    dim: int = 2,
    variant: str = 'plain',
    severity: tuple[float, float] = (0.7, 1.3),
    seed: int = 0,
    fraction: float = 0.5,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write a BIDS dataset of blobs with its truth.

    Parameters
    ----------
    out_dir : path
        Output folder, which appears only when everything is written.
    n : int
        Number of images, one per subject.
    dim : int
        2 (volumes of one slice) or 3.
    variant : str
        ``'plain'``, ``'xor'``, ``'intensity'`` or ``'null'``.
    severity : tuple of float
        Range from which the strength of each image is drawn, uniformly.
    seed : int
        Random seed; equal seeds and options give equal files.
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
        If a number, the dimension or the variant is invalid.
    OutputError
        If the folder is not empty or cannot be written.
    """
    out, report = Path(out_dir), progress or (lambda line: None)
    check_cohort(n, severity, seed, fraction)
    check_free(out, overwrite)
    made = design_blobs(dim, variant, severity[1])
    order = np.random.default_rng([seed, 0]).permutation(n)
    patients = set(order[: round(n * fraction)].tolist())
    width = max(2, len(str(n)))
    rows = ['participant_id\tgroup\tseverity\tsmall']
    truths = ['participant_id\tdirection\tseverity']
    with folder_in_progress(out) as root:
        for index in range(n):
            rng = np.random.default_rng([seed, 1, index])
            strength, patient = round(float(rng.uniform(*severity)), 4), index in patients
            blobs = draw_blobs(made, rng, patient, strength)
            label = f'sub-{index + 1:0{width}d}'
            truth_severity = 1.0 if variant == 'plain' and not patient else strength
            _write(root, label, made.grid, blobs, truth_severity)
            shown = strength if blobs.small else 0
            small = '+'.join(map(str, blobs.small)) or 'n/a'
            rows.append(f'{label}\t{"patient" if patient else "control"}\t{shown}\t{small}')
            truths += [f'{label}\t{direction}\t{truth_severity}' for direction in blobs.truths]
        report(f'Wrote {n} images.')
        (root / 'participants.tsv').write_text('\n'.join(rows) + '\n', 'utf-8')
        table = root / 'derivatives' / 'truth' / 'truth.tsv'
        table.write_text('\n'.join(truths) + '\n', 'utf-8')
        _describe(root, made, seed)
    return out


def _write(root: Path, label: str, grid: Grid, blobs: Blobs, truth_severity: float) -> None:
    written = _written_grid(grid)
    raw, truth = root / label / 'anat', root / 'derivatives' / 'truth' / label / 'anat'
    raw.mkdir(parents=True)
    truth.mkdir(parents=True)
    t1w = raw / f'{label}_T1w.nii.gz'
    counts = np.clip(np.rint(WHITE * blobs.image), 0, np.iinfo(np.int16).max)
    save_on_grid(written, counts, t1w, np.int16)
    sources = [f'bids:raw:{label}/anat/{t1w.name}']
    save_on_grid(written, blobs.labels, truth / f'{label}_desc-blobs_dseg.nii.gz', np.uint8)
    save_json(truth / f'{label}_desc-blobs_dseg.json', {'Sources': sources})
    changes = {f'blob{number}': CHANGE for number in AFFECTED}
    for direction, values in blobs.truths.items():
        stem = f'{label}_{truth_stem(direction)}'
        save_on_grid(written, np.round(values, 4), truth / f'{stem}.nii.gz', np.float32)
        save_json(
            truth / f'{stem}.json', truth_sidecar(direction, truth_severity, changes, sources)
        )


def _written_grid(grid: Grid) -> Grid:
    """Return the grid of the files: the middle slice of two-dimensional blobs."""
    if grid.shape[2] != 3:
        return grid
    return grid.crop(np.array([0, 0, 1]), np.array([SIZE, SIZE, 2]))


def _describe(root: Path, made: BlobDesign, seed: int) -> None:
    columns = {
        'group': {
            'Description': 'Drawn at random',
            'Levels': {'control': 'control', 'patient': MEANING[made.variant]},
        },
        'severity': {'Description': 'Factor on the change of the small blobs; 0 without one'},
        'small': {'Description': 'Numbers of the blobs that are small (or dark)'},
    }
    readme = _README.format(
        count=len(made.centres),
        variant=made.variant,
        meaning=MEANING[made.variant],
        seed=seed,
    )
    title = f'{made.variant}, seed {seed}'
    describe_phantom(root, 'Blobs', title, columns, readme)
