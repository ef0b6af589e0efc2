"""Real labels: what trainings on the labels of a dataset found, beside plain morphometry.

    bids_interp BIDS_DIR OUT train --label age --regression --covariates sex group \
        --model-name age --work-dir WORK
    bids_interp BIDS_DIR OUT train --label sex --positive M --covariates age \
        --model-name sex --work-dir WORK
    bids_interp BIDS_DIR OUT train --label group --positive depr --covariates age sex \
        --model-name depression --work-dir WORK
    python benchmarks/real_labels.py OUT WORK --models age sex depression

Reads the models in ``OUT/models`` with their reports, and measures the volumes of all images in
WORK by our registration. Prints, for each model, the out-of-fold result with its interval, the
agreement of its maps with a t-map, and how far maps from two halves of the people agree; for a
number such as age, also the change of the volume of regions per ten units. Writes
``OUT/real_labels.md`` and ``OUT/real_labels.png``; ``benchmarks/result_page.py`` copies them into
docs/real-labels.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.stats import t as student

from bids_interp.bench.baselines import registered_volumes
from bids_interp.evaluation.scores import ncc
from bids_interp.phantom.regions.coarse import region_mask
from bids_interp.reports.common.montage import Row, draw_rows, overlaid_tile
from bids_interp.reports.common.palette import SignedScale
from bids_interp.reports.common.volumes import Volume
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.storage import load_cohort
from bids_interp.training.pattern.contrast import ContrastDesign, contrast_volumes
from bids_interp.training.pattern.shrinkage import shrink_effects

#: Random halvings of the people.
HALVINGS = 20
#: Height of the drawn slices in mm.
SLICES_MM = (-16.0, 8.0, 32.0)
#: Regions whose change with a number is known from the literature: fluid grows, cortex shrinks.
REGIONS = {
    'ventricles': 'lateral ventricles',
    'third_ventricle': 'third ventricle',
    'frontal_ribbon': 'frontal cortex',
    'hippocampus': 'hippocampus',
}


@dataclass(frozen=True)
class Study:
    """A model, its images, and the maps of its training.

    Parameters
    ----------
    name : str
        Name of the model.
    cohort : Cohort
        Images, labels and covariates.
    volumes : numpy.ndarray
        (N, V) log-volumes inside the brain.
    metrics : dict
        Metrics of the model.
    maps : dict of numpy.ndarray
        (V,) mean maps ``inject`` and ``weights`` of the folds.
    """

    name: str
    cohort: Cohort
    volumes: np.ndarray
    metrics: dict[str, Any]
    maps: dict[str, np.ndarray]

    @property
    def covariates(self) -> np.ndarray:
        """Covariates (N, C)."""
        given = self.cohort.covariates
        return np.zeros((len(self.volumes), 0)) if given is None else given

    @property
    def values(self) -> np.ndarray:
        """(N,) regressor: a number, or 0 and 1 for two classes."""
        return self.cohort.labels.astype(float)


def effects(
    values: np.ndarray, covariates: np.ndarray, volumes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Fit volumes (N, V) to a regressor (N,) with covariates (N, C) by least squares.

    Returns
    -------
    tuple
        (V,) slopes, their standard errors, and the degrees of freedom.
    """
    others = np.column_stack([np.ones(len(values)), covariates])
    own = values - others @ np.linalg.lstsq(others, values, rcond=None)[0]
    slopes = own @ volumes / (own @ own)
    columns = np.column_stack([others, values])
    residuals = volumes - columns @ np.linalg.lstsq(columns, volumes, rcond=None)[0]
    freedom = len(values) - np.linalg.matrix_rank(columns)
    errors = np.sqrt(np.square(residuals).sum(axis=0) / freedom / (own @ own))
    return slopes, errors, int(freedom)


def t_map(study: Study, people: np.ndarray) -> np.ndarray:
    """Return t (V,) of the label over some people."""
    slopes, errors, _ = effects(
        study.values[people], study.covariates[people], study.volumes[people]
    )
    return np.divide(slopes, errors, out=np.zeros_like(slopes), where=errors > 0)


def pattern(study: Study, people: np.ndarray, seed: int) -> np.ndarray:
    """Return the shrunken contrast (V,) of some people, which our pattern starts from."""
    design = ContrastDesign(
        study.values[people],
        study.cohort.families[people],
        study.cohort.participants[people],
        study.covariates[people],
    )
    found = contrast_volumes(study.volumes[people], design, seed)
    return shrink_effects(found.effects, found.errors)


def halves(values: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Split people into two halves in which the labels are alike."""
    order = np.lexsort([rng.random(len(values)), values])
    swaps = rng.integers(2, size=(len(values) + 1) // 2)
    first = np.array(
        [order[2 * k + swap] for k, swap in enumerate(swaps) if 2 * k + 1 < len(order)]
    )
    return first, np.setdiff1d(order, first)


def split_half(study: Study, seed: int) -> dict[str, tuple[float, float, float]]:
    """Return mean and 5th and 95th percentile of the NCC between maps of two halves."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {'t-map': [], 'pattern': []}
    inside = np.ones(study.volumes.shape[1], bool)
    for draw in range(HALVINGS):
        parts = halves(study.values, rng)
        found['t-map'].append(ncc(*(t_map(study, part) for part in parts), inside))
        found['pattern'].append(ncc(*(pattern(study, part, draw) for part in parts), inside))
    return {
        name: (float(np.mean(all_)), *map(float, np.quantile(all_, [0.05, 0.95])))
        for name, all_ in found.items()
    }


def region_changes(study: Study) -> list[tuple[str, float, float, float, float]]:
    """Return name, change in per cent per ten units with its 95 % interval, and t of regions."""
    rows = []
    for region, name in REGIONS.items():
        weights = region_mask(region, study.cohort.grid)[study.cohort.mask]
        if not weights.any():
            continue  # smaller than a voxel
        means = study.volumes @ (weights / weights.sum())
        slopes, errors, freedom = effects(study.values, study.covariates, means[:, None])
        reach = student.ppf(0.975, freedom) * errors[0]
        low, value, high = (
            100 * np.expm1(10 * one) for one in (slopes[0] - reach, slopes[0], slopes[0] + reach)
        )
        rows.append((name, value, low, high, float(slopes[0] / errors[0])))
    return rows


def load_studies(out: Path, work: Path, names: Sequence[str]) -> list[Study]:
    """Read models, reports and images; the volumes of each cohort are measured once."""
    stored = {}
    for path in sorted(work.rglob('cohort.safetensors'), key=lambda one: one.stat().st_mtime):
        cohort = load_cohort(path)
        stored[cohort.target.label] = cohort
    studies, measured = [], None
    for name in names:
        config = json.loads((out / 'models' / name / 'config.json').read_text())
        cohort = stored[config['target']['label']]
        if measured is None:
            measured = registered_volumes(cohort.images, cohort.images, cohort.grid)
        maps = {kind: _read_map(out, name, kind)[cohort.mask] for kind in ('inject', 'weights')}
        metrics = json.loads((out / 'training' / name / 'metrics.json').read_text())
        studies.append(Study(name, cohort, measured[:, cohort.mask], metrics, maps))
    return studies


def _read_map(out: Path, name: str, kind: str) -> np.ndarray:
    (path,) = (out / 'training' / name).rglob(f'*_desc-{kind}_logjacobian.nii.gz')
    return np.asarray(nib.load(path).dataobj)


def result(metrics: dict[str, Any]) -> str:
    """Return the out-of-fold result with its interval and p value."""
    for key, name in (('pearson_r', 'r'), ('auc', 'AUC')):
        if key in metrics:
            found = metrics[key]
            return (
                f'{name} {found["value"]:.2f} ({found["low"]:.2f} to {found["high"]:.2f}), '
                f'p = {metrics["permutation_p"]:.3g}'
            )
    raise SystemExit('The model has neither r nor AUC.')


def write_page(studies: Sequence[Study], path: Path, picture: Path) -> None:
    """Write the tables as text."""
    people = len(studies[0].volumes)
    lines = [
        f'{people} people, one scan each. p from exchanged labels, one-sided. Agreement is the NCC '
        f'inside the brain; of halves the mean of {HALVINGS} random halvings with the 5th and 95th '
        'percentile.',
        '',
        f'![t-map, pattern and weights]({picture.name})',
        '',
        '| label | out of fold | pattern and t-map | weights and t-map | pattern and weights '
        '| halves, t-map | halves, pattern |',
        '|---|---|---|---|---|---|---|',
    ]
    for study in studies:
        inside = np.ones(study.volumes.shape[1], bool)
        found = t_map(study, np.arange(people))
        inject, weights = study.maps['inject'], study.maps['weights']
        pairs = ((inject, found), (weights, found), (inject, weights))
        cells = [f'{ncc(*pair, inside):.2f}' if pair[0].any() else 'no pattern' for pair in pairs]
        agreement = split_half(study, 0).values()
        cells += [f'{mean:.2f} ({low:.2f} to {high:.2f})' for mean, low, high in agreement]
        lines.append(f'| {study.name} | {result(study.metrics)} | {" | ".join(cells)} |')
    for study in studies:
        if study.cohort.target.kind != 'regression':
            continue
        lines += [
            '',
            f'Volume per ten units of {study.cohort.target.label}, by least squares with the '
            'covariates:',
            '',
            '| region | change, % (95 % interval) | t |',
            '|---|---|---|',
        ]
        lines += [
            f'| {name} | {value:+.1f} ({low:+.1f} to {high:+.1f}) | {t:.1f} |'
            for name, value, low, high, t in region_changes(study)
        ]
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')


def draw(studies: Sequence[Study], path: Path) -> None:
    """Draw three slices of t-map, pattern and weights of each label; each has its own colours."""
    rows = []
    for study in studies:
        cohort = study.cohort
        mean = cohort.images.mean(dim=0)[0].numpy()
        background = Volume(np.clip(mean / np.quantile(mean, 0.999), 0, 1), cohort.grid)
        maps = {
            't-map': t_map(study, np.arange(len(study.volumes))),
            'pattern': study.maps['inject'],
            'weights': study.maps['weights'],
        }
        tiles = []
        for values in maps.values():
            data = np.zeros(cohort.grid.shape, np.float32)
            data[cohort.mask] = values
            scale = SignedScale(float(np.quantile(np.abs(values), 0.995)) or 1.0)
            tiles += [
                overlaid_tile(background, Volume(data, cohort.grid), 'axial', index, scale)
                for index in _slices(cohort)
            ]
        headings = [name if place == 1 else '' for name in maps for place in range(len(SLICES_MM))]
        rows.append(Row(study.name, tiles, headings))
    draw_rows(rows, path)


def _slices(cohort: Cohort) -> list[int]:
    """Return the indices of the drawn axial slices."""
    bottom, step = cohort.grid.affine[2, 3], cohort.grid.spacing[2]
    return [round((z - bottom) / step) for z in SLICES_MM]


def main() -> None:
    """Write page and picture, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path, help='output directory of the trainings')
    parser.add_argument('work', type=Path, help='work directory of the trainings')
    parser.add_argument('--models', nargs='+', required=True, help='names of the models')
    options = parser.parse_args()
    studies = load_studies(options.out, options.work, options.models)
    page, picture = options.out / 'real_labels.md', options.out / 'real_labels.png'
    draw(studies, picture)
    write_page(studies, page, picture)
    print(page.read_text(encoding='utf-8'))


if __name__ == '__main__':
    main()
