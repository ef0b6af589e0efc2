"""Training of the demonstration model: planted hippocampal atrophy in real brains.

The demonstration model shows what the software does and has not learned any disease. Its cohort is
made from openly licensed brains: every image is a smooth warp of a brain, half with the planted
change and half with a sham warp of the same size, all interpolated once. All warps of one brain
stay on the same side of every split.

Usage::

    python benchmarks/train_demo_model.py BIDS_DIR WORK_DIR OUT_DIR

``BIDS_DIR`` contains skull-stripped T1w scans (OpenNeuro ds002748, CC0, at 2 mm). Folds run in
parallel in ``--jobs`` processes; an interrupted run resumes. The printed numbers are in the model
card of ``OUT_DIR``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import platform
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from scipy.ndimage import binary_dilation

import bids_interp
from bids_interp.anatomical.cubic_resampler import resample_to_template
from bids_interp.anatomical.raw.conform import conform
from bids_interp.anatomical.registration import register_brain
from bids_interp.anatomical.templates import brain_template
from bids_interp.bench.truth_scores import displacement_ncc
from bids_interp.constants import DIRECTION_SIGNS as DIRECTIONS
from bids_interp.evaluation.scores import (
    auc,
    bootstrap_by_family,
    ncc,
    permutation_p,
    sign_accuracy,
)
from bids_interp.models.bundle.fingerprint import image_fingerprint, scan_sketch, subject_keys
from bids_interp.models.bundle.reader import ModelBundle
from bids_interp.models.bundle.schema import (
    BundleConfig,
    ClassifierConfig,
    SimulatorConfig,
    TrainingFacts,
    TrainingScan,
)
from bids_interp.models.bundle.writer import save_bundle
from bids_interp.models.explain.explainer import simulate
from bids_interp.models.explain.volume_share import volume_share
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.phantom.change.anatomy import sample_anatomy
from bids_interp.phantom.change.atrophy import AtrophyField, fit_atrophy
from bids_interp.phantom.change.conjugate import conjugate_displacement
from bids_interp.phantom.change.effects import EFFECTS
from bids_interp.phantom.change.sham import draw_sham
from bids_interp.phantom.heads.subject import subject_displacement, subject_truth
from bids_interp.spatial import Grid, exponential, log_jacobian, refine_velocity, resample
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import make_folds
from bids_interp.training.fold import FoldResult, FoldWorkspace, train_fold
from bids_interp.training.morphometry import MorphometryRecipe
from bids_interp.training.pattern.fit import PatternRecipe
from bids_interp.training.recipe import TrainingRecipe

TEMPLATE = 'MNI152NLin2009aSym'
EFFECT = EFFECTS['hippocampus']
#: 4 mm, around the brain of the template with room for larger brains.
GRID = Grid(
    (40, 48, 42),
    np.array([[4.0, 0, 0, -78], [0, 4, 0, -112], [0, 0, 4, -73], [0, 0, 0, 1]]),
    TEMPLATE,
)
WORKING_SPACING = 2.0
#: Anatomies per real brain and of the template brain; each is used with and without the change.
ANATOMIES, PHANTOM_ANATOMIES = 4, 16
ANATOMY_MM = 2.0
SEVERITY = (0.7, 1.3)
FOLDS = 3
SEED = 2021
PREPROCESSING = Preprocessing()
CLASSIFIER = MorphometryRecipe()
SIMULATOR = PatternRecipe()
RECIPE = TrainingRecipe(
    spacing_mm=4.0,
    n_folds=FOLDS,
    preprocessing=PREPROCESSING,
    classifier=CLASSIFIER,
    simulator=SIMULATOR,
)
TARGET = Target('binary', 'group', ('control', 'patient'))
DATASET = 'ds002748'


class Base(NamedTuple):
    """Brain in template space: its origin and intensities."""

    participant: str
    source: Path | None
    brain: np.ndarray


class DemoCohort(NamedTuple):
    """Cohort with the ground truth of each image."""

    cohort: Cohort
    severity: np.ndarray
    #: (N, 3, X, Y, Z) velocity of the anatomy of each image.
    anatomy: np.ndarray
    #: (N, X, Y, Z) truth of injecting (controls) or removing (patients) at the image's severity.
    truth: np.ndarray
    plan: AtrophyField


def main() -> None:
    """Run every stage and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('bids_dir', type=Path)
    parser.add_argument('work_dir', type=Path)
    parser.add_argument('out_dir', type=Path)
    parser.add_argument('--jobs', type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bases = list(base_brains(options.bids_dir, options.work_dir))
    planted = warp_brains(bases)
    folds = make_folds(planted.cohort.labels, planted.cohort.families, FOLDS, SEED)
    jobs = [(planted.cohort, fold, index, options.work_dir) for index, fold in enumerate(folds)]
    with multiprocessing.get_context('spawn').Pool(options.jobs) as pool:
        results = pool.starmap(run_fold, jobs)
    write_bundle(options.out_dir, bases, planted, folds, results)


def working_grid() -> Grid:
    """Return the field of view of the template at 2 mm."""
    return Grid.from_image(brain_template(TEMPLATE), TEMPLATE).with_spacing(WORKING_SPACING)


def base_brains(bids_dir: Path, work_dir: Path) -> Iterator[Base]:
    """Return every brain and the template brain on the working grid (affine)."""
    template, grid = brain_template(TEMPLATE), working_grid()
    reference = grid.to_image(np.zeros(grid.shape))
    folder = work_dir / 'brains'
    folder.mkdir(parents=True, exist_ok=True)
    sources = sorted(bids_dir.glob('sub-*/anat/*_T1w.nii.gz'))
    if not sources:
        raise SystemExit(f'{bids_dir} holds no sub-*/anat/*_T1w.nii.gz.')
    for source in sources:
        placed = folder / source.name
        if not placed.exists():
            image, _ = conform(source)
            fit = register_brain(image, template, name=source.name, threads=1, seed=SEED)
            result = resample_to_template(image, reference, fit.native_to_template)
            partial = placed.with_name(f'.{placed.name}')
            nib.save(result, partial)
            partial.rename(placed)
            print(f'{source.name}: correlation {fit.correlation:.3f}', flush=True)
        yield Base(
            source.name.split('_')[0].removeprefix('sub-'),
            source,
            np.asarray(nib.load(placed).dataobj, dtype=np.float32),
        )
    fine = Grid.from_image(template, TEMPLATE)
    data = torch.from_numpy(np.asarray(template.dataobj, dtype=np.float32))[None, None]
    yield Base('template', None, resample(data, fine, grid, antialias=True)[0, 0].numpy())


def brain_masks() -> tuple[np.ndarray, np.ndarray]:
    """Return the template brain on the grid of the model, without and with a margin."""
    template = brain_template(TEMPLATE)
    inside = torch.from_numpy((np.asarray(template.dataobj) > 0).astype(np.float32))[None, None]
    share = resample(inside, Grid.from_image(template, TEMPLATE), GRID, antialias=True)[0, 0]
    brain = share.numpy() > 0.3
    return brain, binary_dilation(brain)


def warp_brains(bases: list[Base]) -> DemoCohort:
    """Warp every brain into images: each anatomy with the change and with a sham."""
    fine = working_grid()
    planned = fit_atrophy(fine, EFFECT.changes, EFFECT.absorb)
    velocity = refine_velocity(planned.velocity, fine, GRID)[0].numpy()
    plan = AtrophyField(GRID, velocity, EFFECT.changes, EFFECT.absorb)
    room = brain_masks()[1]
    images, labels, families, severities, truths, keys = [], [], [], [], [], []
    anatomies = []
    for family, base in enumerate(bases):
        data = torch.from_numpy(np.maximum(base.brain, 0))[None, None]
        count = PHANTOM_ANATOMIES if base.source is None else ANATOMIES
        for number in range(2 * count):
            label = number % 2
            # The anatomy is drawn first, so that both images of a pair get the same one.
            rng = np.random.default_rng([SEED, family, number // 2])
            anatomy = sample_anatomy(GRID, rng, ANATOMY_MM)
            rng = np.random.default_rng([SEED, family, number // 2, label])
            severity = float(rng.uniform(*SEVERITY))
            change = plan if label else draw_sham(plan, rng)
            made = subject_displacement(anatomy, change, severity, GRID)
            pull_back = torch.from_numpy(made.displacement)[None]
            image = resample(data, fine, GRID, antialias=True, displacement=pull_back)
            image = image.clamp_min(0) * torch.from_numpy(room.astype(np.float32))
            images.append(PREPROCESSING.normalise(image)[0])
            direction = 'remove' if label else 'inject'
            truths.append(subject_truth(anatomy, plan, severity if label else 1.0, direction))
            labels.append(label)
            families.append(family)
            severities.append(severity)
            anatomies.append(anatomy.astype(np.float16))
            keys.append(base_keys(base))
    cohort = Cohort(
        torch.stack(images),
        np.array(labels),
        np.array(families),
        tuple(keys),
        GRID,
        room,
        PREPROCESSING,
        TARGET,
    )
    print(f'{len(bases)} brains, {len(cohort)} images', flush=True)
    return DemoCohort(cohort, np.array(severities), np.stack(anatomies), np.stack(truths), plan)


def base_keys(base: Base) -> tuple[str, ...]:
    """Return the identity of the scan that an image was made from."""
    if base.source is None:
        return ()
    return subject_keys(image_fingerprint(base.source), DATASET, base.participant)


def training_scans(
    bases: list[Base], planted: DemoCohort, fold_of: np.ndarray, mean: np.ndarray
) -> tuple[TrainingScan, ...]:
    """Return the sketch of every scan, not of its warps, with the fold that held it out."""
    cohort, fine = planted.cohort, working_grid()
    scans = []
    for family, base in enumerate(bases):
        if base.source is not None:
            data = torch.from_numpy(np.maximum(base.brain, 0))[None, None]
            image = resample(data, fine, GRID, antialias=True).clamp_min(0)
            image = PREPROCESSING.normalise(image * torch.from_numpy(cohort.mask))[0, 0].numpy()
            fold = int(fold_of[np.flatnonzero(cohort.families == family)[0]])
            scans.append(TrainingScan(scan_sketch(image, mean, cohort.mask), (fold,)))
    return tuple(sorted(scans, key=lambda scan: scan.sketch))


def run_fold(cohort: Cohort, fold: Any, index: int, work_dir: Path) -> FoldResult:
    """Train one fold (in a process of its own)."""
    torch.set_num_threads(1)
    folder = work_dir / f'cohort-{cohort_digest()}' / f'fold-{index}'
    return train_fold(cohort, fold, index, RECIPE, FoldWorkspace(folder, report=print), seed=SEED)


def cohort_digest() -> str:
    """Return a digest of the cohort, so that checkpoints of other cohorts are not used."""
    made_of = (EFFECT, SEVERITY, ANATOMY_MM, ANATOMIES, PHANTOM_ANATOMIES, SEED, PREPROCESSING)
    return hashlib.sha256(repr(made_of).encode()).hexdigest()[:8]


def write_bundle(
    out_dir: Path,
    bases: list[Base],
    planted: DemoCohort,
    folds: list[Any],
    results: list[FoldResult],
) -> None:
    """Write the bundle twice: first to compute explanations, then with their scores."""
    cohort = planted.cohort
    logits, fold_of = np.zeros(len(cohort)), np.zeros(len(cohort), int)
    for index, (fold, result) in enumerate(zip(folds, results, strict=True)):
        logits[fold.test], fold_of[fold.test] = result.test_outputs[:, 0], index
    metrics = classifier_metrics(logits, fold_of, cohort)
    controls = cohort.images[torch.from_numpy(cohort.labels == 0)]
    mean = controls.mean(dim=0)[0].numpy()
    config = BundleConfig(
        name='demonstration-hippocampus',
        demonstration=True,
        description='Planted shrinkage of hippocampus and amygdala; no disease.',
        license='CC0-1.0',
        created=datetime.now(UTC).date().isoformat(),
        version=bids_interp.__version__,
        grid=GRID,
        template=TEMPLATE,
        target=TARGET,
        preprocessing=PREPROCESSING,
        classifier=ClassifierConfig(CLASSIFIER.architecture, CLASSIFIER.arguments),
        simulator=SimulatorConfig(**SIMULATOR.network_arguments()),
        training=TrainingFacts(
            seed=SEED,
            effect=asdict(EFFECT),
            severity=SEVERITY,
            classifier=asdict(CLASSIFIER),
            simulator=asdict(SIMULATOR),
        ),
        training_scans=training_scans(bases, planted, fold_of, mean),
        metrics=metrics,
        folds=[],
        files={},
    )
    trained = [result.trained for result in results]

    def save(card: str) -> ModelBundle:
        return save_bundle(
            out_dir, config, trained, cohort.mask, mean, card, half_precision=True, overwrite=True
        )

    bundle = save('')
    metrics['maps'] = map_scores(bundle, planted, fold_of)
    print(json.dumps(metrics, indent=1))
    save(model_card(config, len(bases) - 1, len(cohort)))


def classifier_metrics(logits: np.ndarray, fold_of: np.ndarray, cohort: Cohort) -> dict[str, Any]:
    """Return the out-of-fold AUC with an interval over brains, after removing fold means."""
    centred = logits.copy()
    for index in np.unique(fold_of):
        centred[fold_of == index] -= np.median(logits[fold_of == index])
    area = bootstrap_by_family(
        lambda chosen: auc(centred[chosen], cohort.labels[chosen]), cohort.families, SEED
    )
    p_value = permutation_p(centred, cohort.labels, SEED)
    return {
        'auc': area.to_dict(),
        'auc_per_fold': [
            auc(logits[fold_of == i], cohort.labels[fold_of == i]) for i in np.unique(fold_of)
        ],
        'permutation_p': p_value,
        'explanation_warranted': p_value < 0.05,
    }


def map_scores(bundle: ModelBundle, planted: DemoCohort, fold_of: np.ndarray) -> dict[str, Any]:
    """Compare maps of held-out images, explained by their own fold, with the known truth."""
    cohort, (brain, _) = planted.cohort, brain_masks()
    scores: dict[str, Any] = {}
    for label, direction in ((0, 'inject'), (1, 'remove')):
        maps, truths, families = [], [], []
        motions, shares = [], []
        for index in np.flatnonzero(cohort.labels == label):
            simulation = simulate(bundle, cohort.images[index][None], (int(fold_of[index]),))
            velocity = torch.from_numpy(simulation.velocity[direction])[None]
            forward = exponential(velocity, GRID)
            maps.append(log_jacobian(forward, GRID)[0, 0].numpy())
            motions.append(motion_ncc(forward, planted, index, brain))
            network = bundle.fold(int(fold_of[index])).classifier
            shares += volume_share(network, cohort.images[index][None], velocity, GRID).tolist()
            truths.append(planted.truth[index])
            families.append(cohort.families[index])
        mean_map, mean_truth = np.mean(maps, axis=0), np.mean(truths, axis=0)
        single = np.array([ncc(m, t, brain) for m, t in zip(maps, truths, strict=True)])
        scores[direction] = {
            'n': len(maps),
            'sign_of_dose': DIRECTIONS[direction],
            'group_ncc': ncc(mean_map, mean_truth, brain),
            'group_sign_accuracy': sign_accuracy(mean_map, mean_truth, brain, 0.05),
            'subject_ncc': bootstrap_by_family(
                lambda chosen, single=single: float(single[chosen].mean()),
                np.array(families),
                SEED,
            ).to_dict(),
            'displacement_ncc': float(np.mean(motions)),
            'volume_share': float(np.nanmedian(shares)),
            'log_jacobian_range': [float(mean_map.min()), float(mean_map.max())],
            'truth_range': [float(mean_truth.min()), float(mean_truth.max())],
        }
    return scores


def motion_ncc(forward: torch.Tensor, planted: DemoCohort, index: int, brain: np.ndarray) -> float:
    """Return the NCC of a displacement with the planted one, in the anatomy of the image."""
    anatomy = torch.from_numpy(planted.anatomy[index].astype(np.float32))[None]
    severity = -planted.severity[index] if planted.cohort.labels[index] else 1.0
    there, back = exponential(-anatomy, GRID), exponential(anatomy, GRID)
    truth = conjugate_displacement(there, back, planted.plan.displacement(severity), GRID)
    return displacement_ncc(forward[0].numpy(), truth[0].numpy(), brain)


def model_card(config: BundleConfig, n_brains: int, n_images: int) -> str:
    """Return the README of the bundle; every number comes from the configuration."""
    metrics, maps = config.metrics, config.metrics['maps']
    changes = ', '.join(f'{name} {change:+.0%}' for name, change in EFFECT.changes.items())
    rows = '\n'.join(
        f'| {direction} | {row["n"]} | {row["group_ncc"]:.2f} | {row["group_sign_accuracy"]:.2f} | '
        f'{row["subject_ncc"]["value"]:.2f} ({row["subject_ncc"]["low"]:.2f} to '
        f'{row["subject_ncc"]["high"]:.2f}) | {row["displacement_ncc"]:.2f} | '
        f'{row["volume_share"]:.2f} | {row["log_jacobian_range"][0]:.2f} to '
        f'{row["log_jacobian_range"][1]:.2f} | {row["truth_range"][0]:.2f} to '
        f'{row["truth_range"][1]:.2f} |'
        for direction, row in maps.items()
    )
    area = metrics['auc']
    return f"""# {config.name}

**A demonstration, not a model of any disease.** It was trained to find a change of volume that
was planted into healthy and other brains by a computer ({changes}; taken up by the
{EFFECT.absorb}; severity {SEVERITY[0]} to {SEVERITY[1]} times that). Its predictions for a real
scan mean nothing for the person. Research use only, not for diagnosis.

| | |
|---|---|
| Made by | `benchmarks/train_demo_model.py`, bids_interp {config.version}, {config.created} |
| Machine | {platform.machine()}, PyTorch {torch.__version__}, one thread per fold |
| Data | {n_brains} brains of OpenNeuro ds002748 (CC0) at 2 mm and the MNI152NLin2009aSym brain |
| Images | {n_images}: smooth warps of these brains, half planted, half sham |
| Grid | {GRID.shape[0]} x {GRID.shape[1]} x {GRID.shape[2]} voxels of 4 mm, {TEMPLATE} |
| Models | {FOLDS} folds of a {CLASSIFIER.architecture} classifier and a {SIMULATOR.capacity} \
simulator |
| Licence | {config.license} |

## Performance

Out of fold; intervals are 95 %, over brains. AUC {area['value']:.3f} ({area['low']:.3f} to
{area['high']:.3f}), permutation p = {metrics['permutation_p']:.4f}.

Log-Jacobian maps of held-out images against the known truth, inside the brain:

| direction | images | NCC, group mean | sign right where abs(truth) > 0.05 | NCC, single image | \
NCC of displacements | volume share | range of the map | range of the truth |
|---|---|---|---|---|---|---|---|---|
{rows}

## Limits

The map of a fold is the same for all scans, unless its simulator is personal. Scanners, ages and
diseases that the data do not contain were not tested. The planted change is symmetric; the
measurements are not.
"""


if __name__ == '__main__':
    main()
