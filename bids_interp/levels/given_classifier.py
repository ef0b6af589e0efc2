"""Given classifier: checks of the user's own network before its simulators are trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_interp.errors import ImageError, UsageError
from bids_interp.levels.labels import LabelTable
from bids_interp.settings import Settings

if TYPE_CHECKING:
    import torch

    from bids_interp.models.external.card import ClassifierCard, GoldenScan
    from bids_interp.models.external.network import ExternalClassifier

logger = logging.getLogger('bids_interp')

#: Most scans of the cohort on which the output of a given classifier is checked.
CHECKED_SCANS = 32


def given_classifier(settings: Settings) -> dict[str, Any] | None:
    """Check the user's own classifier and return its source; None if one is trained."""
    if not settings.given_classifier:
        return None
    from bids_interp.models.external.loader import check_classifier, source_of

    card, network = _load(settings)
    card_file = settings.classifier_card or Path()
    check_classifier(network, card, card.golden_file(card_file), _template_input(card, settings))
    if card.golden_scan is not None:
        _check_golden_scan(network, card, card.golden_scan, card_file.parent, settings)
    source = source_of(_file(settings), settings.classifier_module, settings.allow_code)
    logger.info('Classifier %s (%s) passed its checks.', card.name, source.location)
    return {**asdict(source), 'location': str(source.location)}


def check_given_on_scans(settings: Settings, inputs: Sequence[Path]) -> None:
    """Check the output of the user's own classifier on the prepared inputs of a cohort.

    Parameters
    ----------
    settings : Settings
        Settings; nothing is done if they give no classifier.
    inputs : sequence of pathlib.Path
        Files written by :func:`bids_interp.training.cohort.storage.save_input`.

    Raises
    ------
    CheckError
        If an output is not of the kind that the card declares.
    """
    if not settings.given_classifier or not inputs:
        return
    import torch

    from bids_interp.models.external.checks import check_scans
    from bids_interp.training.cohort.storage import load_input

    card, network = _load(settings)
    step = -(-len(inputs) // CHECKED_SCANS)
    check_scans(network, card, torch.cat([load_input(path) for path in inputs[::step]]))


def apply_card_target(labels: LabelTable, settings: Settings) -> LabelTable:
    """Return the labels with the target on the card of a given classifier.

    Raises
    ------
    UsageError
        If the classifier has another target than the labels.
    """
    if not settings.given_classifier:
        return labels
    from bids_interp.models.external.card import ClassifierCard

    target = ClassifierCard.read(settings.classifier_card or Path()).target
    own = labels.target
    if (own.kind, own.classes) != (target.kind, target.classes):
        named = ' '.join(target.classes)
        options = {'multiclass': f'--classes {named}', 'regression': '--regression'}
        if target.kind == 'binary':
            options['binary'] = '--negative {} --positive {}'.format(*target.classes)
        raise UsageError(
            f'{settings.classifier_card} describes a {target.kind} classifier '
            f'({named or target.label}), but the labels are {own.kind} '
            f'({" ".join(own.classes) or own.label}).',
            f'Use the options that match the card: {options[target.kind]}.',
        )
    return replace(labels, target=replace(target, label=own.label))


def _file(settings: Settings) -> str | None:
    return None if settings.classifier_module else settings.classifier


def _load(settings: Settings) -> tuple[ClassifierCard, ExternalClassifier]:
    from bids_interp.models.external.card import ClassifierCard
    from bids_interp.models.external.loader import load_external, source_of

    card = ClassifierCard.read(settings.classifier_card or Path())
    source = source_of(_file(settings), settings.classifier_module, settings.allow_code)
    return card, load_external(source, card, settings.allow_code)


def _template_input(card: ClassifierCard, settings: Settings) -> torch.Tensor:
    """Return the brain of the card's template as an input (1, 1, X, Y, Z)."""
    import numpy as np

    from bids_interp.anatomical.templates import brain_template
    from bids_interp.models.preprocessing import to_model_grid
    from bids_interp.spatial import Grid

    template = brain_template(card.grid.space, offline=settings.offline)
    return to_model_grid(
        np.asarray(template.dataobj),
        Grid.from_image(template),
        np.eye(4),
        card.grid,
        np.ones(card.grid.shape, bool),
        card.preprocessing,
    )


def _check_golden_scan(
    network: ExternalClassifier,
    card: ClassifierCard,
    golden: GoldenScan,
    folder: Path,
    settings: Settings,
) -> None:
    """Prepare the golden scan as any other scan, and compare the output of the network."""
    from bids_interp.models.external.checks import check_golden_output

    scan = folder / golden.file
    if not scan.is_file():
        raise ImageError(f'The golden scan {scan} does not exist.', 'Correct "golden_scan".')
    check_golden_output(network, card, golden, scan, _scan_input(scan, card, settings))


def _scan_input(scan: Path, card: ClassifierCard, settings: Settings) -> torch.Tensor:
    """Return the input (1, 1, X, Y, Z) of a scan, by the steps of the anatomical workflow."""
    import numpy as np

    from bids_interp.anatomical.prepared_brain import BrainOptions, prepare_brain
    from bids_interp.anatomical.raw.conform import conform
    from bids_interp.anatomical.registration import register_brain
    from bids_interp.anatomical.templates import brain_template
    from bids_interp.execution.resources import available_cpus
    from bids_interp.models.preprocessing import check_head, to_model_grid
    from bids_interp.spatial import Grid
    from bids_interp.training.cohort.model_grid import template_mask

    ants: dict[str, Any] = {
        'threads': settings.omp_nthreads or available_cpus(),
        'seed': settings.random_seed,
        'fast': settings.fast,
    }
    options = BrainOptions(
        skull_strip=settings.skull_strip_t1w,
        template=settings.template,
        offline=settings.offline,
        **ants,
    )
    prepared = prepare_brain(conform(scan)[0], options, name=str(scan))
    template = brain_template(card.grid.space, offline=settings.offline)
    matrix = register_brain(prepared.brain, template, name=str(scan), **ants).native_to_template
    brain = np.asarray(prepared.brain.dataobj)
    if card.preprocessing.skull:
        head = np.asarray(prepared.image.dataobj)
        check_head(head, brain, str(scan))
        brain = head
    native, mask = Grid.from_image(prepared.brain), template_mask(template, card.grid)
    return to_model_grid(brain, native, matrix, card.grid, mask, card.preprocessing)
