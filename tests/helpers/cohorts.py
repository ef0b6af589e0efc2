"""Made-up derivatives: what the participant level writes, tiny, with a known pattern."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from bids_interp.spatial.grid import Grid

SPACE = 'MNI152NLin2009aSym'
MODEL, DIGEST = 'tiny', 'abcdef123456'
SHAPE, SPACING = (20, 24, 20), 8.0


@dataclass
class Cohort:
    """What is written for each subject."""

    root: Path
    labels: Sequence[str]
    sessions: Sequence[str] = ('',)
    folds: Sequence[Sequence[int]] = ()
    in_training: bool = False
    expression: Mapping[str, float] = field(default_factory=dict)
    names: Sequence[str] = ('inject100', 'remove100')
    change: float = 0.0
    seed: int = 0

    @property
    def bids(self) -> Path:
        return self.root / 'bids'

    @property
    def out(self) -> Path:
        return self.root / 'out'


def grid() -> Grid:
    affine = np.diag([SPACING] * 3 + [1.0])
    affine[:3, 3] = [-SPACING * (n - 1) / 2 for n in SHAPE] + np.array([0, -17.0, 9.0])
    return Grid(SHAPE, affine, SPACE)


def brain() -> tuple[np.ndarray, np.ndarray]:
    """Mean image and mask."""
    points = grid().world_coordinates() - np.array([0, -17, 9.0])[:, None, None, None]
    inside = np.sqrt((points**2 / np.array([64, 80, 64.0])[:, None, None, None] ** 2).sum(0)) < 1
    inner = gaussian_filter(np.random.default_rng(3).standard_normal(SHAPE), 1.2)
    return np.where(inside, 1 + 0.5 * inner / inner.std(), 0.0), inside


def pattern() -> np.ndarray:
    """Velocity (3, X, Y, Z) of the pattern, mm."""
    rng = np.random.default_rng(5)
    return np.stack([gaussian_filter(rng.standard_normal(SHAPE), 2) for _ in range(3)]) * 40


def truth() -> np.ndarray:
    """Log-Jacobian of the pattern: the left hippocampus shrinks."""
    points = grid().world_coordinates()
    centre = np.array([-28, -20, -12.0])[:, None, None, None]
    return (-0.3 * np.exp(-((points - centre) ** 2).sum(0) / 2 / 14**2)).astype(np.float32)


def save(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(data), affine), path)


def answer(logit: float) -> dict[str, Any]:
    """Answer of all folds, as a prediction holds it."""
    means = {'LogitMean': logit, 'ProbabilityMean': 0.5}
    return {**means, 'LogitSD': 0.0, 'ProbabilitySD': 0.0, 'Folds': []}


def write_scan(
    out: Path,
    subject: str,
    session: str = '',
    *,
    expression: float = 0.0,
    folds: Sequence[int] = (0, 1, 2),
    in_training: bool = False,
    names: Sequence[str] = ('inject100', 'remove100'),
    seed: int = 0,
    **prediction: Any,
) -> Path:
    """Write the derivatives of one image; returns their folder."""
    from bids_interp.group.statistics.expression import divergence

    rng = np.random.default_rng(seed)
    prefix = f'sub-{subject}' + (f'_ses-{session}' if session else '')
    folder = out / f'sub-{subject}' / (f'ses-{session}/anat' if session else 'anat')
    affine, (mean, inside) = grid().affine, brain()
    stem = folder / f'{prefix}_space-{SPACE}'
    for name in names:
        sign = 1 if name.startswith('inject') else -1
        dose = int(name[-3:]) / 100
        values = sign * dose * truth() + 0.005 * gaussian_filter(rng.standard_normal(SHAPE), 1)
        save(Path(f'{stem}_res-1_desc-{name}_logjacobian.nii.gz'), values.astype('f4'), affine)
    save(Path(f'{stem}_res-1_desc-brain_T1w.nii.gz'), mean.astype('f4'), affine)
    save(Path(f'{stem}_res-1_desc-brain_mask.nii.gz'), inside.astype('u1'), affine)
    velocity = np.moveaxis(pattern(), 0, -1)[..., None, :].astype('f4')
    save(Path(f'{stem}_res-model_desc-inject_velocity.nii.gz'), velocity, affine)
    save(Path(f'{stem}_res-model_desc-input_T1w.nii.gz'), mean.astype('f4'), affine)
    volumes = 0.1 + expression * divergence(pattern(), grid()) + rng.normal(0, 0.1, SHAPE)
    save(Path(f'{stem}_res-4_desc-anatomy_logjacobian.nii.gz'), inside * volumes, affine)
    save(folder / f'{prefix}_desc-brain_mask.nii.gz', inside.astype('u1'), affine)
    (folder / f'{prefix}_from-{SPACE}_to-T1w_mode-image_xfm.json').write_text(
        json.dumps({'Registration': {'determinant': 1.25}})
    )
    (folder / f'{prefix}_from-{SPACE}_to-T1w_mode-image_xfm.txt').write_text('#\n')
    rows = ['direction\tdose\tfold\tlogit\tprobability\tshift\tshift_over_class_gap']
    for direction, dose in (('remove', 1), ('none', 0), ('inject', 1)):
        logit = {'remove': -2.0, 'none': 0.0, 'inject': 2.0}[direction] + expression
        rows.append(f'{direction}\t{dose}\t0\t{logit}\t{1 / (1 + np.exp(-logit)):.4f}\t0\t0')
    (folder / f'{prefix}_desc-doseresponse_stats.tsv').write_text('\n'.join(rows) + '\n')
    content = {
        'GeneratedBy': [{'Name': 'bids_interp', 'Version': '0.1.0'}],
        'ModelName': MODEL,
        'ModelHash': DIGEST,
        'Demonstration': False,
        'Target': {
            'kind': 'binary',
            'label': 'group',
            'negative': 'control',
            'positive': 'patient',
        },
        'ExplanationWarranted': True,
        'InTrainingSet': in_training,
        'FoldsUsed': list(folds),
        'Observed': answer(expression),
        'Simulated': {name: answer(expression + 2) for name in names},
        **prediction,
    }
    (folder / f'{prefix}_desc-explain_prediction.json').write_text(json.dumps(content))
    return folder


def write_cohort(cohort: Cohort) -> Cohort:
    """Write all subjects, participants.tsv and what makes the output a dataset."""
    from bids_interp.bids.write.dataset_description import prepare_output

    cohort.bids.mkdir(parents=True)
    prepare_output(cohort.out, {'raw': cohort.bids})
    rng = np.random.default_rng(cohort.seed)
    lines = ['participant_id\tgroup\tage\tsex']
    for index, label in enumerate(cohort.labels):
        subject = f'{index + 1:02d}'
        folds = cohort.folds[index] if cohort.folds else (0, 1, 2)
        for visit, session in enumerate(cohort.sessions):
            write_scan(
                cohort.out,
                subject,
                session,
                expression=cohort.expression.get(label, 0.0)
                + 0.2 * rng.standard_normal()
                + visit * cohort.change,
                folds=folds,
                in_training=cohort.in_training,
                names=cohort.names,
                seed=100 * index + visit,
            )
        lines.append(f'sub-{subject}\t{label}\t{rng.integers(20, 80)}\t{rng.choice(["F", "M"])}')
    (cohort.bids / 'participants.tsv').write_text('\n'.join(lines) + '\n')
    return cohort


def write_table(cohort: Cohort, text: str) -> None:
    """Replace participants.tsv."""
    (cohort.bids / 'participants.tsv').write_text(text)


def write_column(cohort: Cohort, column: str, values: Mapping[str, str]) -> None:
    """Replace participants.tsv by a table with a column that follows the groups."""
    lines = [f'participant_id\tgroup\t{column}']
    lines += [f'sub-{n:02d}\t{group}\t{values[group]}' for n, group in enumerate(cohort.labels, 1)]
    write_table(cohort, '\n'.join(lines) + '\n')
