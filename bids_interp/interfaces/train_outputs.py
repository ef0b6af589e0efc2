"""What a training leaves: the bundle, and beside it report, tables and maps."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import isdefined

from bids_interp.bids.read.participants import is_category
from bids_interp.bids.write.atomic import write_json, write_text, write_tsv
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.constants import SIGN
from bids_interp.records import from_plain, to_plain

if TYPE_CHECKING:
    from bids_interp.models.bundle.schema import BundleConfig, ClassifierConfig, ModelFacts
    from bids_interp.training.assemble import Assembled
    from bids_interp.training.cohort.cohort import Cohort
    from bids_interp.training.cohort.folds import Fold
    from bids_interp.training.fold import FoldResult

#: Data dictionaries of the tables.
FOLDS_COLUMNS = {
    'participant_id': {'Description': 'Participant.'},
    'image': {'Description': 'T1w image.'},
    'family': {'Description': 'Who belongs together and is never on two sides of a fold.'},
    'label': {'Description': 'What is learned.'},
    'fold': {
        'Description': 'The fold, from 0, that has not seen the image in any way: its models, and '
        'only its, may explain it.'
    },
    'validation_of': {
        'Description': 'Folds in whose validation split the image is (early stopping, calibration, '
        'choices), separated by commas.'
    },
}
OOF_COLUMNS = {
    'fold': {'Description': 'The fold whose models answered; they have not seen the image.'},
    'truth': {'Description': 'Label.'},
    'predicted': {'Description': 'Answer: the most probable class, or the predicted value.'},
    'logit': {'Description': 'Logit of the positive class, before calibration.', 'Units': '1'},
    'probability': {'Description': 'Calibrated probability of the positive class.', 'Units': '1'},
    'residual': {'Description': 'Predicted minus true value.'},
    'site': {'Description': 'Site.'},
}


def write_model(inputs: Any, sanity: Path | None = None) -> tuple[Path, Path]:
    """Write everything that :class:`bids_interp.interfaces.train.AssembleModel` is asked for.

    Parameters
    ----------
    inputs : traits
        Of that interface.
    sanity : pathlib.Path, optional
        Of :class:`bids_interp.interfaces.train_sanity.SanityFold`.

    Returns
    -------
    bundle, report : pathlib.Path
        Folder of the bundle; HTML report.
    """
    from bids_interp.models.bundle.schema import FoldConfig, ModelFacts
    from bids_interp.models.bundle.writer import save_bundle
    from bids_interp.reports.training.model_card import model_card
    from bids_interp.training.assemble import assemble
    from bids_interp.training.cohort.storage import (
        load_cohort,
        load_folds,
        load_result,
        load_sanity,
    )

    cohort, folds = load_cohort(Path(inputs.cohort)), load_folds(Path(inputs.folds))
    results = [load_result(Path(path)) for path in inputs.results]
    table = json.loads(Path(inputs.table).read_text(encoding='utf-8'))
    assembled = assemble(
        cohort,
        folds,
        results,
        covariates=table['covariates'],
        site=table['site'],
        seed=inputs.random_seed,
        categories=[column for column in table['covariates'] if is_category(column)],
    )
    checked = None if sanity is None else load_sanity(sanity)
    if checked is not None:
        assembled.metrics['sanity'] = to_plain(checked.metrics)
    config = make_config(
        cohort, assembled, from_plain(ModelFacts, inputs.facts), inputs.random_seed
    )
    trained = [result.trained for result in results]
    described = replace(
        config,
        folds=[FoldConfig(one.temperature, one.class_gap, one.metrics, '', '') for one in trained],
    )
    given = inputs.classifier if isdefined(inputs.classifier) else None
    bundle = save_bundle(
        inputs.bundle,
        config,
        trained,
        cohort.mask,
        reference_images(cohort),
        model_card(described),
        classifier_file=classifier_file(given),
        overwrite=inputs.overwrite,
    )
    report = write_tables(
        Path(inputs.report_dir),
        cohort,
        folds,
        results,
        assembled,
        described,
        table,
        Path(inputs.checkpoints),
    )
    if checked is not None:
        from bids_interp.interfaces.train_sanity import write_sanity_maps

        write_sanity_maps(Path(inputs.report_dir), cohort, results, checked)
    return bundle.path, report


def classifier_file(given: Mapping[str, Any] | None) -> Path | None:
    """File of a given classifier, to be kept in the bundle; None where it is code or trained."""
    return None if given is None or given['kind'] == 'module' else Path(given['location'])


def reference_images(cohort: Cohort) -> np.ndarray:
    """Mean inputs (C, X, Y, Z) of all classes but the last; of everybody for a regression.

    The last class is never the negative one of a contrast.
    """
    if cohort.target.kind == 'regression':
        groups = [np.arange(len(cohort))]
    else:
        groups = [np.flatnonzero(cohort.labels == n) for n in range(len(cohort.target.classes) - 1)]
    return np.stack([cohort.images[group].mean(dim=0)[0].numpy() for group in groups])


def make_config(cohort: Cohort, assembled: Assembled, facts: ModelFacts, seed: int) -> BundleConfig:
    """Configuration of the bundle, from the cohort, the metrics and the facts of the run."""
    import torch

    from bids_interp.models.bundle.schema import BundleConfig
    from bids_interp.models.explain.realism import intensity_statistics
    from bids_interp.training.assemble import make_salt, subject_folds
    from bids_interp.version import __version__

    salt = make_salt(cohort, seed)
    simulator = facts.simulator
    if len(cohort.target.contrasts) > 1:
        simulator = replace(simulator, contrasts=len(cohort.target.contrasts))
    counts = (
        {}
        if cohort.target.kind == 'regression'
        else {
            name: int((cohort.labels == number).sum())
            for number, name in enumerate(cohort.target.classes)
        }
    )
    training = replace(
        facts.training,
        seed=seed,
        n_images=len(cohort),
        n_families=len(np.unique(cohort.families)),
        n_per_class=counts,
        versions={
            'bids_interp': __version__,
            'torch': torch.__version__,
            'python': platform.python_version(),
        },
    )
    return BundleConfig(
        name=facts.name,
        license=facts.license,
        created=facts.created,
        version=__version__,
        grid=cohort.grid,
        template=cohort.grid.space,
        target=cohort.target,
        preprocessing=cohort.preprocessing,
        classifier=facts.classifier,
        simulator=simulator,
        training=training,
        training_intensities=intensity_statistics(cohort.images, cohort.grid, cohort.mask),
        salt=salt,
        subjects=subject_folds(cohort, assembled.fold_of, salt),
        classifier_subjects=card_subjects(facts.classifier, salt),
        metrics=assembled.metrics,
        folds=[],
        files={},
    )


def card_subjects(classifier: ClassifierConfig, salt: str) -> list[str] | None:
    """Salted identities of the training subjects of a given classifier, as its card names them."""
    from bids_interp.models.bundle.fingerprint import salted

    if classifier.card is None or not classifier.card.training_subjects:
        return None
    return [salted(salt, f'subject:{who}') for who in classifier.card.training_subjects]


def write_tables(
    folder: Path,
    cohort: Cohort,
    folds: Sequence[Fold],
    results: Sequence[FoldResult],
    assembled: Assembled,
    config: BundleConfig,
    table: Mapping[str, Any],
    checkpoints: Path,
) -> Path:
    """Write folds, out-of-fold answers, curves, maps and the report; return the report."""
    from bids_interp.evaluation.out_of_fold import out_of_fold_rows
    from bids_interp.reports.training.training_report import read_curves, write_training_report

    folder.mkdir(parents=True, exist_ok=True)
    rows = fold_rows(cohort, folds, table)
    write_tsv(folder / 'folds.tsv', rows)
    write_json(folder / 'folds.json', FOLDS_COLUMNS)
    names = [{'participant_id': row['participant_id'], 'image': row['image']} for row in rows]
    answers = out_of_fold_rows(assembled.oof, names)
    write_tsv(folder / 'outoffold.tsv', answers)
    columns = {key: OOF_COLUMNS[key] for key in answers[0] if key in OOF_COLUMNS}
    write_json(folder / 'outoffold.json', columns)
    curves = read_curves(checkpoints)
    write_curves(folder, curves)
    write_json(folder / 'metrics.json', assembled.metrics)
    write_maps(folder, cohort, results, assembled)
    return write_training_report(
        folder / 'report.html',
        config=config,
        metrics=assembled.metrics,
        oof=answers,
        curves=curves,
        folds_table=[fold_facts(cohort, index, r) for index, r in enumerate(results)],
        maps=assembled.metrics['simulator'],
        map_files={
            name: folder / f'space-{cohort.grid.space}_res-model_desc-{name}_logjacobian.nii.gz'
            for name in assembled.maps
        },
    )


def fold_rows(
    cohort: Cohort, folds: Sequence[Fold], table: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """One row per image: which fold tests it, and which validate with it."""
    rows = []
    target = cohort.target
    for index, name in enumerate(cohort.names):
        label = cohort.labels[index]
        rows.append(
            {
                'participant_id': f'sub-{table["subjects"][index]}',
                'image': name,
                'family': table['families'][index],
                'label': label if target.kind == 'regression' else target.classes[int(label)],
                'fold': next(n for n, fold in enumerate(folds) if index in fold.test),
                'validation_of': ','.join(
                    str(n) for n, fold in enumerate(folds) if index in fold.validation
                ),
            }
        )
    return rows


def fold_facts(cohort: Cohort, index: int, result: FoldResult) -> dict[str, Any]:
    """Row of the report's table of folds."""
    metrics = result.trained.metrics
    row: dict[str, Any] = {
        'fold': index,
        'training': metrics.n_train,
        'validation': metrics.n_validation,
        'test': metrics.n_test,
    }
    if metrics.test_auc is not None:
        row['test AUC'] = round(metrics.test_auc, 3)
    if metrics.simulator is None:
        return row
    first = metrics.simulator.validity[0]
    for direction, side in (('inject', first.inject), ('remove', first.remove)):
        if side is not None:
            row[f'validity, {direction}'] = round(side.validity, 3)
    if metrics.simulator.minimality is not None:
        row['minimality'] = metrics.simulator.minimality
    return row


def write_curves(folder: Path, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Write the training curves as one long table (TSV) and as JSON lines."""
    long = [
        {'training': name, **point} for name, points in sorted(curves.items()) for point in points
    ]
    columns = list(dict.fromkeys(key for row in long for key in row))
    write_tsv(folder / 'curves.tsv', long, columns or ['training'])
    write_text(folder / 'curves.jsonl', ''.join(json.dumps(row) + '\n' for row in long))


def write_maps(
    folder: Path, cohort: Cohort, results: Sequence[FoldResult], assembled: Assembled
) -> None:
    """Write mean log-Jacobian maps on the model's grid, over the folds and of each."""
    named = {f'desc-{name}_logjacobian': data for name, data in assembled.maps.items()}
    for index, result in enumerate(results):
        for name, data in result.maps.items():
            named[f'desc-{name}fold{index}_logjacobian'] = data
    for name, data in named.items():
        path = folder / f'space-{cohort.grid.space}_res-model_{name}.nii.gz'
        write_json(
            path.with_name(path.name.replace('.nii.gz', '.json')),
            {
                'Description': 'Mean log-Jacobian of simulations of validation images at dose 1. '
                'audit: of simulators trained without transformations, which show what moves this '
                'very classifier.',
                'Sign': SIGN,
                'SkullStripped': True,
            },
        )
        write_nifti(path, data.astype(np.float32), cohort.grid.affine, template=True)
