"""Labels, covariates and families of the images of a dataset, for training."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from bids_interp.bids.read.participants import (
    ParticipantTables,
    as_numbers,
    is_category,
    read_families,
)
from bids_interp.bids.read.query import T1wRecord
from bids_interp.errors import InputDatasetError, UsageError
from bids_interp.models.target import Target
from bids_interp.settings import Settings

logger = logging.getLogger('bids_interp')

SHOWN = 20


@dataclass(frozen=True)
class LabelledImage:
    """Image of a training cohort.

    Parameters
    ----------
    record : T1wRecord
        The image.
    label : float
        Number of the class, or value of a regression.
    family : str
        Name of the family.
    covariates : dict
        Values of the covariates as written in the table, without missing ones.
    """

    record: T1wRecord
    label: float
    family: str
    covariates: Mapping[str, str]


@dataclass(frozen=True)
class LabelTable:
    """Images to train with, and their target.

    Parameters
    ----------
    target : Target
        Target of the classifier.
    images : tuple of LabelledImage
        Images in the order of the records.
    left_out : dict
        Reason for each image that is not used, by its prefix.
    """

    target: Target
    images: tuple[LabelledImage, ...]
    left_out: Mapping[str, str]


def read_labels(settings: Settings, records: Sequence[T1wRecord]) -> LabelTable:
    """Return label, covariates and family of every image.

    Parameters
    ----------
    settings : Settings
        Settings of the train level.
    records : sequence of T1wRecord
        Images of the dataset.

    Raises
    ------
    InputDatasetError
        If labels are missing or contradict each other, or a class has no image; the message lists
        the images.
    UsageError
        If a column or a value does not exist.
    """
    tables = ParticipantTables(settings)
    label = settings.label or ''
    tables.check_column(label, '--label')
    for column in settings.covariates:
        tables.check_column(column, '--covariates')
    if settings.family:
        tables.check_column(settings.family, '--family')
    found = {record.prefix: tables.values(record, label) for record in records}
    _refuse_contradictions(found, label, tables.path)
    values = {prefix: several[0] for prefix, several in found.items() if several}
    missing = [record for record in records if record.prefix not in values]
    _refuse_missing(missing, settings, tables)
    target = _target(settings, list(values.values()), tables.path)
    numbers, left_out = _numbers(target, values, tables.path)
    left_out |= {p: f'no value of {label}' for p in found if p not in values}
    _refuse_two_classes(records, numbers, values, target)
    families = read_families(tables, {r.subject for r in records}, settings.family)
    images = tuple(
        LabelledImage(
            record,
            numbers[record.prefix],
            families[record.subject],
            {c: v[0] for c in settings.covariates if (v := tables.values(record, c))},
        )
        for record in records
        if record.prefix in numbers
    )
    if target.kind == 'regression':
        spread = np.array([image.label for image in images])
        target = Target('regression', label, (), float(spread.mean()), float(spread.std()))
    return LabelTable(target, images, left_out)


def _listed(lines: Sequence[str]) -> str:
    shown = [f'  {line}' for line in lines[:SHOWN]]
    if len(lines) > SHOWN:
        shown.append(f'  and {len(lines) - SHOWN} more')
    return '\n'.join(shown)


def _refuse_contradictions(found: Mapping[str, list[str]], label: str, path: Path) -> None:
    several = [f'{prefix}: {", ".join(v)}' for prefix, v in found.items() if len(v) > 1]
    if several:
        raise InputDatasetError(
            f'{path} has more than one value of {label} for\n{_listed(several)}\n',
            'Keep one row per participant (or per participant_id and session_id).',
        )


def _refuse_missing(
    missing: Sequence[T1wRecord], settings: Settings, tables: ParticipantTables
) -> None:
    if not missing:
        return
    hint = tables.hint(record.subject for record in missing)
    if not settings.allow_unlabelled:
        raise InputDatasetError(
            f'{tables.path} has no value of {settings.label} for\n'
            f'{_listed([record.prefix for record in missing])}\n{hint}',
            'Complete the table, select participants with --participant-label, or skip these '
            'images with --allow-unlabelled.',
        )
    if hint:
        logger.warning('%s: %s', tables.path, hint)


def _target(settings: Settings, values: list[str], path: Path) -> Target:
    """Return the target; classes are never guessed."""
    label = settings.label or ''
    found = sorted(set(values))
    if not found:
        raise InputDatasetError(f'{path} has no value of {label} for any image.')
    if settings.regression:
        # Mean and standard deviation are added once the values are numbers.
        return Target('regression', label)
    if settings.classes:
        _check_values('--classes', settings.classes, found, label, path)
        return Target('multiclass', label, settings.classes)
    shown = ', '.join(found[:SHOWN])
    if settings.positive is None:
        raise UsageError(
            f'{label} in {path} has the values {shown}; the target is not specified.',
            'Give --positive VALUE (and --negative VALUE), --classes A B C, or --regression.',
        )
    _check_values('--positive', [settings.positive], found, label, path)
    if settings.negative is not None:
        _check_values('--negative', [settings.negative], found, label, path)
        return Target('binary', label, (settings.negative, settings.positive))
    others = [value for value in found if value != settings.positive]
    if not others:
        raise InputDatasetError(
            f'{label} in {path} is {settings.positive!r} for all images; there is only one class.'
        )
    if len(others) > 1:
        raise UsageError(
            f'{label} in {path} has the values {shown}; the negative class is not specified.',
            'Give --negative VALUE.',
        )
    return Target('binary', label, (others[0], settings.positive))


def _check_values(
    option: str, wanted: Sequence[str], found: Sequence[str], label: str, path: Path
) -> None:
    for value in wanted:
        if value not in found:
            close = get_close_matches(value, found, n=1, cutoff=0.4)
            hint = f' Did you mean {close[0]!r}?' if close else ''
            raise UsageError(
                f'{option} {value!r}: no image has this value of {label} in {path}.{hint}',
                f'The values are {", ".join(found[:SHOWN])}.',
            )


def _numbers(
    target: Target, values: Mapping[str, str], path: Path
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the numeric label of each image, and the images of other classes with the reason."""
    if target.kind != 'regression':
        order = {name: float(number) for number, name in enumerate(target.classes)}
        numbers = {prefix: order[v] for prefix, v in values.items() if v in order}
        return numbers, {p: f'{target.label} is {v}' for p, v in values.items() if v not in order}
    numbers, wrong = {}, []
    for prefix, value in values.items():
        try:
            numbers[prefix] = float(value)
        except ValueError:
            numbers[prefix] = math.nan
        if not math.isfinite(numbers[prefix]):
            wrong.append(f'{prefix}: {value}')
    if wrong:
        raise InputDatasetError(
            f'{path}: {target.label} is not a number for\n{_listed(wrong)}\n',
            'For classes, leave out --regression.',
        )
    if len(set(numbers.values())) < 2:
        raise InputDatasetError(f'{path}: {target.label} is the same for all images.')
    return numbers, {}


def _refuse_two_classes(
    records: Sequence[T1wRecord],
    numbers: Mapping[str, float],
    values: Mapping[str, str],
    target: Target,
) -> None:
    """Refuse subjects with images of several classes."""
    if target.kind == 'regression':
        return
    classes: dict[str, dict[float, str]] = {}
    for record in records:
        if record.prefix in numbers:
            classes.setdefault(record.subject, {})[numbers[record.prefix]] = values[record.prefix]
    mixed = [
        f'sub-{s}: {", ".join(found.values())}' for s, found in classes.items() if len(found) > 1
    ]
    if mixed:
        raise InputDatasetError(
            f'These participants belong to several classes of {target.label}:\n{_listed(mixed)}\n',
            'Select one session of each with --session-label, or exclude them.',
        )


def strata(images: Sequence[LabelledImage], columns: Sequence[str]) -> list[np.ndarray]:
    """Return codes (N,) of each covariate for balancing the folds.

    Numbers are split at their median, unless they are categories such as sites.

    Examples
    --------
    >>> from pathlib import Path
    >>> record = T1wRecord(Path('x'), '1', None, {'sub': '1'})
    >>> ages = ('20', '30', '35', '40', '50', '60')
    >>> images = [LabelledImage(record, 0, '1', {'age': age}) for age in ages]
    >>> strata(images, ['age'])[0].tolist()
    ['0', '0', '0', '1', '1', '1']
    """
    codes = []
    for column in columns:
        values = [image.covariates.get(column) for image in images]
        numbers = as_numbers(values)
        if numbers is None or is_category(column) or len(set(values)) <= 4:
            codes.append(np.array([str(value) for value in values]))
        else:
            middle = np.nanmedian(numbers)
            codes.append((numbers > middle).astype(int).astype(str))
    return codes
