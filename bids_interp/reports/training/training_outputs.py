"""Outputs of a training: the bundle, and its report, tables and maps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bids_interp.bids.read.participants import is_category
from bids_interp.bids.write.atomic import write_json, write_text, write_tsv
from bids_interp.evaluation.out_of_fold import out_of_fold_rows
from bids_interp.models.bundle.schema import BundleConfig, FoldConfig, ModelFacts
from bids_interp.models.bundle.writer import save_bundle
from bids_interp.records import to_plain
from bids_interp.reports.training.learning_curves import Curves, read_curves
from bids_interp.reports.training.model_card import model_card
from bids_interp.reports.training.training_map_files import (
    mean_map_file,
    write_mean_maps,
    write_sanity_maps,
)
from bids_interp.reports.training.training_report import write_training_report
from bids_interp.training.assemble import Assembled, assemble
from bids_interp.training.bundle_config import bundle_config, classifier_file, reference_images
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.fold import FoldResult
from bids_interp.training.sanity import Sanity

#: Data dictionaries of the tables.
FOLDS_COLUMNS = {
    'participant_id': {'Description': 'Participant.'},
    'image': {'Description': 'T1w image.'},
    'family': {'Description': 'Group of related images, which always stay in the same fold.'},
    'label': {'Description': 'Label that is learned.'},
    'fold': {
        'Description': 'Fold, from 0, that was not trained or tuned with the image; only its '
        'models may explain it.'
    },
    'validation_of': {
        'Description': 'Folds whose validation split holds the image (early stopping, calibration, '
        'choices), separated by commas.'
    },
}
OOF_COLUMNS = {
    'fold': {'Description': 'Fold of the models; they were not trained with the image.'},
    'truth': {'Description': 'Label.'},
    'predicted': {'Description': 'Most probable class, or predicted value.'},
    'logit': {'Description': 'Logit of the positive class, before calibration.', 'Units': '1'},
    'probability': {'Description': 'Calibrated probability of the positive class.', 'Units': '1'},
    'residual': {'Description': 'Predicted minus true value.'},
    'site': {'Description': 'Site.'},
}


@dataclass(frozen=True)
class FinishedTraining:
    """Cohort, folds and trained networks of a training.

    Parameters
    ----------
    cohort : Cohort
        Images and labels.
    folds : sequence of Fold
        Indices of each fold.
    results : sequence of FoldResult
        Networks, out-of-fold predictions and maps of each fold.
    table : mapping
        Labels, families and covariates of the images.
    seed : int
        Seed of bootstrap and permutations.
    sanity : Sanity, optional
        Checks of one fold.
    choice : mapping, optional
        :class:`bids_interp.evaluation.classifier_choice.ClassifierChoice` as plain types.
    """

    cohort: Cohort
    folds: Sequence[Fold]
    results: Sequence[FoldResult]
    table: Mapping[str, Any]
    seed: int
    sanity: Sanity | None = None
    choice: Mapping[str, Any] | None = None

    def assemble(self) -> Assembled:
        """Measure all folds together."""
        covariates = self.table['covariates']
        assembled = assemble(
            self.cohort,
            self.folds,
            self.results,
            covariates=covariates,
            site=self.table['site'],
            seed=self.seed,
            categories=[column for column in covariates if is_category(column)],
        )
        if self.sanity is not None:
            assembled.metrics['sanity'] = to_plain(self.sanity.metrics)
        if self.choice is not None:
            assembled.metrics['classifier_choice'] = self.choice
        return assembled


def write_model(
    training: FinishedTraining,
    facts: ModelFacts,
    *,
    bundle: str,
    report_dir: Path,
    checkpoints: Path,
    classifier: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> tuple[Path, Path]:
    """Measure the folds together, and write bundle, tables, maps and report.

    Parameters
    ----------
    training : FinishedTraining
        Results of all folds.
    facts : ModelFacts
        Name, networks and settings of the model.
    bundle : str
        Folder of the bundle.
    report_dir : pathlib.Path
        Folder of report, tables and maps.
    checkpoints : pathlib.Path
        Folder with the training curves.
    classifier : mapping, optional
        Source of a given classifier.
    overwrite : bool
        Replace an existing bundle.

    Returns
    -------
    bundle, report : pathlib.Path
        Folder of the bundle; HTML report.
    """
    cohort = training.cohort
    assembled = training.assemble()
    config = bundle_config(cohort, assembled, facts, training.seed)
    trained = [result.trained for result in training.results]
    with_folds = replace(
        config,
        folds=[
            FoldConfig(one.temperature, one.class_gap, one.metrics, '', '', one.intercept)
            for one in trained
        ],
    )
    saved = save_bundle(
        bundle,
        config,
        trained,
        cohort.mask,
        reference_images(cohort),
        model_card(with_folds),
        classifier_file=classifier_file(classifier),
        overwrite=overwrite,
    )
    report = write_training_outputs(report_dir, training, assembled, with_folds, checkpoints)
    return saved.path, report


def write_training_outputs(
    folder: Path,
    training: FinishedTraining,
    assembled: Assembled,
    config: BundleConfig,
    checkpoints: Path,
) -> Path:
    """Write folds, out-of-fold predictions, curves, maps and the report; return the report."""
    folder.mkdir(parents=True, exist_ok=True)
    grid, mask = training.cohort.grid, training.cohort.mask
    predictions = _write_tables(folder, training, assembled)
    curves = read_curves(checkpoints)
    write_curves(folder, curves)
    write_json(folder / 'metrics.json', assembled.metrics)
    write_mean_maps(folder, grid, mask, training.results, assembled.maps)
    report = write_training_report(
        folder / 'report.html',
        config=config,
        metrics=assembled.metrics,
        oof=predictions,
        curves=curves,
        folds_table=[fold_metrics_row(n, result) for n, result in enumerate(training.results)],
        maps=assembled.metrics['simulator'],
        map_files={name: mean_map_file(folder, grid.space, name) for name in assembled.maps},
    )
    if training.sanity is not None:
        write_sanity_maps(folder, grid, mask, training.results, training.sanity)
    return report


def _write_tables(
    folder: Path, training: FinishedTraining, assembled: Assembled
) -> list[dict[str, Any]]:
    """Write the tables of the folds and of the out-of-fold predictions; return the latter."""
    rows = fold_assignment_rows(training.cohort, training.folds, training.table)
    write_tsv(folder / 'folds.tsv', rows)
    write_json(folder / 'folds.json', FOLDS_COLUMNS)
    names = [{'participant_id': row['participant_id'], 'image': row['image']} for row in rows]
    predictions = out_of_fold_rows(assembled.oof, names)
    write_tsv(folder / 'outoffold.tsv', predictions)
    columns = {key: OOF_COLUMNS[key] for key in predictions[0] if key in OOF_COLUMNS}
    write_json(folder / 'outoffold.json', columns)
    return predictions


def fold_assignment_rows(
    cohort: Cohort, folds: Sequence[Fold], table: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """One row per image: the fold that tests it and the folds that validate with it."""
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


def fold_metrics_row(index: int, result: FoldResult) -> dict[str, Any]:
    """Row of the report's table of folds: numbers of images and metrics."""
    metrics = result.trained.metrics
    row: dict[str, Any] = {
        'fold': index,
        'training': metrics.n_train,
        'validation': metrics.n_validation,
        'test': metrics.n_test,
    }
    if metrics.test_auc is not None:
        row['test AUC'] = round(metrics.test_auc, 3)
    if metrics.simulator is None or not metrics.simulator.validity:
        return row
    first = metrics.simulator.validity[0]
    for direction, side in (('inject', first.inject), ('remove', first.remove)):
        if side is not None:
            row[f'validity, {direction}'] = round(side.validity, 3)
    if metrics.simulator.minimality is not None:
        row['minimality'] = metrics.simulator.minimality
    return row


def write_curves(folder: Path, curves: Curves) -> None:
    """Write the training curves as one long table (TSV) and as JSON lines."""
    long = [
        {'training': name, **point} for name, points in sorted(curves.items()) for point in points
    ]
    columns = list(dict.fromkeys(key for row in long for key in row))
    write_tsv(folder / 'curves.tsv', long, columns or ['training'])
    write_text(folder / 'curves.jsonl', ''.join(json.dumps(row) + '\n' for row in long))
