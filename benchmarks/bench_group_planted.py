"""Group benchmark with a planted change: group map and expression score against the truth.

    python benchmarks/bench_planted.py BIDS_DIR OUT ...        # makes cohort and model first
    python benchmarks/bench_group_planted.py OUT [--trained 1] [--unseen 6]

Explains some images of every brain with the model of ``bench_planted.py``: training brains by the
folds that held them out, unseen brains by all folds. Then runs ``bids_interp ... group --group-by
group`` and prints, with intervals over brains, the NCC of the group mean map and of single images
with the truth, and the area under the ROC curve of the expression score. A second run resumes the
first.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from bench_known_truth import SPACE
from bench_planted import SEED, collect, divide, run, text, values
from measure import machine

from bids_interp.anatomical.templates import brain_template
from bids_interp.evaluation.scores import auc, bootstrap_by_family, ncc

#: The change is injected into controls and removed from patients.
DIRECTIONS = {'control': 'inject', 'patient': 'remove'}


def main() -> int:
    """Explain the images, run the group level and compare."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path, help='OUT of bench_planted.py')
    parser.add_argument('--trained', type=int, default=1, help='images of each training brain')
    parser.add_argument('--unseen', type=int, default=6, help='images of each unseen brain')
    parser.add_argument('--n-unseen', type=int, default=7, help='as in bench_planted.py')
    parser.add_argument('--nprocs', type=int, default=os.cpu_count() or 1)
    parser.add_argument('--fast', action='store_true', help='as in bench_planted.py')
    options = parser.parse_args()
    print(machine(), flush=True)
    planted = options.out / 'planted'
    table = planted / 'participants.tsv'
    labels = [*map(sorted, divide(table, options.n_unseen, options.trained, options.unseen))]
    explained = options.out / 'grouped'
    common = ['--model', options.out / 'derivatives' / 'models' / 'planted']
    common += ['--work-dir', options.out / 'work', '--nprocs', str(options.nprocs), '--offline']
    chosen = ['--participant-label', *labels[0], *labels[1]]
    how = ['--output-spaces', 'template', *chosen, *(['--fast'] if options.fast else [])]
    run('bids_interp', planted, explained, 'participant', *common, *how)
    run('bids_interp', planted, explained, 'group', *common, '--group-by', 'group', *chosen)
    folders = sorted((explained / 'group').glob('*-*/scores.tsv'))
    if len(folders) != 1:
        raise SystemExit(f'{explained}/group holds {len(folders)} groups with scores, not one.')
    report_maps(planted, explained, folders[0].parent, [*labels[0], *labels[1]])
    report_scores(table, folders[0], labels)
    return 0


def report_maps(planted: Path, explained: Path, folder: Path, labels: list[str]) -> None:
    """Print the agreement of mean and single maps with the truth."""
    from nilearn.image import resample_to_img

    print('\n| group | direction | images | NCC, group map | NCC, single images | NCC, any mean |')
    print('|---|---|---|---|---|---|')
    names = [f'sub-{label.removeprefix("sub-")}' for label in labels]
    for group, direction in DIRECTIONS.items():
        maps, truths, families = collect(planted, explained, names, direction)
        name = f'group-{group}_space-{SPACE}_desc-{direction}100_stat-mean_logjacobian.nii.gz'
        truth = next((planted / 'derivatives' / 'truth').rglob(f'*space-{SPACE}*_logjacobian.nii*'))
        grid = nib.load(truth)
        found, brain = (
            values(resample_to_img(image, grid, force_resample=True, copy_header=True))
            for image in (nib.load(folder / name), brain_template(SPACE))
        )
        inside = brain > 0.2 * np.percentile(brain[brain > 0], 98)
        everywhere = np.ones(maps.shape[1], bool)
        mean = ncc(found[inside], truths.mean(axis=0), everywhere)
        each = np.array([ncc(m, t, everywhere) for m, t in zip(maps, truths, strict=True)])

        def of_singles(rows: np.ndarray, each: np.ndarray = each) -> float:
            return float(each[rows].mean())

        def of_means(
            rows: np.ndarray, maps: np.ndarray = maps, truths: np.ndarray = truths
        ) -> float:
            whole = np.ones(maps.shape[1], bool)
            return ncc(maps[rows].mean(axis=0), truths[rows].mean(axis=0), whole)

        single = bootstrap_by_family(of_singles, families, SEED)
        spread = bootstrap_by_family(of_means, families, SEED, draws=200)
        cells = [group, direction, str(len(maps)), f'{mean:.2f}', text(single), text(spread)]
        print(f'| {" | ".join(cells)} |')


def report_scores(table: Path, scores: Path, labels: list[list[str]]) -> None:
    """Print how well the expression score separates patients from controls."""
    with table.open(encoding='utf-8', newline='') as stream:
        rows = {row['participant_id']: row for row in csv.DictReader(stream, delimiter='\t')}
    with scores.open(encoding='utf-8', newline='') as stream:
        found = {row['participant_id']: row for row in csv.DictReader(stream, delimiter='\t')}
    print('\n| images | with a score | AUC of the expression score |')
    print('|---|---|---|')
    for who, part in zip(('of training brains', 'of unseen brains'), labels, strict=True):
        names = [f'sub-{label.removeprefix("sub-")}' for label in part]
        kept = [name for name in names if found.get(name, {}).get('score', 'n/a') != 'n/a']
        score = np.array([float(found[name]['score']) for name in kept])
        truth = np.array([rows[name]['group'] == 'patient' for name in kept])
        families = np.unique([rows[name]['family'] for name in kept], return_inverse=True)[1]

        def area(chosen: np.ndarray, score: np.ndarray = score, truth: np.ndarray = truth) -> float:
            sides = truth[chosen]
            return auc(score[chosen], sides) if 0 < sides.mean() < 1 else float('nan')

        found_area = bootstrap_by_family(area, families, SEED)
        print(f'| {len(names)} {who} | {len(kept)} | {text(found_area)} |')


if __name__ == '__main__':
    sys.exit(main())
