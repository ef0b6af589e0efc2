"""Covariates and group of each image, read from the tables of the dataset."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bids_interp.bids.prediction import ExplainedTarget
from bids_interp.bids.read.participants import (
    ParticipantTables,
    as_numbers,
    is_category,
    read_families,
)
from bids_interp.bids.read.query import T1wRecord
from bids_interp.errors import InputDatasetError, UsageError
from bids_interp.group.scans import GroupScan
from bids_interp.settings import Settings

logger = logging.getLogger('bids_interp')

#: Default covariates.
USUAL = ('age', 'sex', 'gender', 'site', 'scanner')
#: Maximum number of groups.
MAX_GROUPS = 20
#: Reserved columns in the tables of scores and changes.
OWN_COLUMNS = frozenset({
    'participant_id', 'session_id', 'image', 'group', 'folds', 'score_dose', 'score', 'explained',
    'logit', 'probability', 'brain_volume_ml', 'reason', 'from', 'to', 'score_from', 'score_to',
    'change',
})  # fmt: skip
#: Capped ages, such as 89+.
_CAPPED = re.compile(r'(\d+(?:\.\d+)?)\+')


def covariate_column(covariate: str) -> str:
    """Return the column name of a covariate in the group tables, where some names are reserved.

    Examples
    --------
    >>> covariate_column('age'), covariate_column('group')
    ('age', 'covariate_group')
    """
    return f'covariate_{covariate}' if covariate in OWN_COLUMNS else covariate


@dataclass(frozen=True)
class GroupVariables:
    """Group and covariates of the images.

    Parameters
    ----------
    group : str
        Column that defines the groups; empty without groups.
    chosen : tuple of str
        Covariates.
    asked : bool
        Whether the user requested the covariates.
    values : dict
        Values by column and image prefix, without missing ones.
    positive, negative : str
        Classes of the model if they are the groups; empty otherwise.
    levels : tuple of str
        Categorical columns, even if written as numbers: the group, those in
        :data:`bids_interp.bids.read.participants.CATEGORIES`, those with ``Levels`` in the data
        dictionary, and the label of a classifier.
    family : str
        Column that identifies related images; empty without one.
    families : dict
        Family of each subject.
    """

    group: str = ''
    chosen: tuple[str, ...] = ()
    asked: bool = False
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    positive: str = ''
    negative: str = ''
    levels: tuple[str, ...] = ()
    family: str = ''
    families: Mapping[str, str] = field(default_factory=dict)

    def of_group(self, scan: GroupScan) -> str | None:
        """Return the group of an image."""
        return self.values.get(self.group, {}).get(scan.prefix)

    def of_family(self, subject: str) -> str:
        """Return the family of a subject; without a family column, the subject is its own."""
        return self.families.get(subject, subject)


def read_group_variables(
    settings: Settings, scans: Sequence[GroupScan], target: ExplainedTarget
) -> GroupVariables:
    """Read group and covariates of all images.

    Parameters
    ----------
    settings : Settings
        Settings with ``group_by``, ``covariates``, ``voxelwise``, ``family`` and ``labels``.
    scans : sequence of GroupScan
        All images found.
    target : ExplainedTarget
        Target of the model, from its predictions.

    Raises
    ------
    InputDatasetError
        If a required table is missing, or lists none of the subjects.
    UsageError
        If a column does not exist, has too many groups, or must be numeric and is not.
    """
    path = settings.labels or settings.bids_dir / 'participants.tsv'
    needed = (settings.group_by, settings.covariates, settings.voxelwise, settings.family)
    if not (any(needed) or settings.labels) and not path.is_file():
        return GroupVariables()
    tables = ParticipantTables(settings)
    subjects = sorted({scan.subject for scan in scans})
    _check_subjects(tables, subjects)
    for option, columns in (
        ('--group-by', (settings.group_by,)),
        ('--covariates', settings.covariates),
        ('--voxelwise', settings.voxelwise),
        ('--family', (settings.family,)),
    ):
        for column in columns:
            if column:
                tables.check_column(column, option)
    group, label = settings.group_by or '', target.label
    chosen = settings.covariates or tuple(c for c in tables.columns if c.lower() in USUAL)
    if not group and label in tables.columns:
        # The target of a regression is numeric, so it is a covariate instead of a group.
        group = '' if target.kind == 'regression' else label
        chosen = chosen if group else (label, *chosen)
    chosen = tuple(c for c in dict.fromkeys(chosen) if c != group)
    # The label tells how strongly a covariate follows it (group.statistics.learned_labels).
    learned = label if label in tables.columns else ''
    wanted = dict.fromkeys((group, *chosen, *settings.voxelwise, learned))
    values = {column: _values(tables, scans, column) for column in wanted if column}
    levels = tuple(
        column
        for column in values
        if column == group
        or (column == label and target.kind != 'regression')
        or is_category(column)
        or tables.has_levels(column)
    )
    for column in values:
        if column not in levels:
            values[column] = _numeric_values(values[column], column, tables)
    _check_groups(values.get(group, {}), group, bool(settings.group_by))
    for column in settings.voxelwise:
        if column in levels or as_numbers(list(values[column].values())) is None:
            raise UsageError(
                f'--voxelwise {column}: the values are not numeric.',
                'Group differences are tested on the expression score (--group-by).',
            )
    own = {group: values.get(group, {})} if group == target.label else {}
    classes = {'positive': target.positive, 'negative': target.negative}
    found = set(own.get(group, {}).values())
    is_target = bool(own) and set(classes.values()) <= found
    return GroupVariables(
        group,
        chosen,
        bool(settings.covariates),
        values,
        levels=levels,
        family=settings.family or '',
        families=read_families(tables, subjects, settings.family),
        **(classes if is_target else {}),
    )


def _check_subjects(tables: ParticipantTables, subjects: Sequence[str]) -> None:
    """Refuse a table without any of the subjects; warn of rows under another spelling."""
    hint = tables.hint(subjects)
    if not any(subject in tables for subject in subjects):
        raise InputDatasetError(
            f'{tables.path} lists none of the {len(subjects)} subjects of the derivatives '
            f'(for example sub-{subjects[0]}). {hint}'.rstrip(),
            'Give the original dataset as the first argument, or a table with --labels FILE.tsv.',
        )
    if hint:
        logger.warning('%s: %s', tables.path, hint)


def _values(tables: ParticipantTables, scans: Sequence[GroupScan], column: str) -> dict[str, str]:
    found = {}
    for scan in scans:
        entities = {'sub': scan.subject, **({'ses': scan.session} if scan.session else {})}
        record = T1wRecord(scan.folder, scan.subject, scan.session or None, entities)
        values = tables.values(record, column)
        if len(values) > 1:
            raise InputDatasetError(
                f'{tables.path} has more than one value of {column} for {scan.prefix}: '
                f'{", ".join(values)}.',
                'Keep one row per participant (or per participant_id and session_id).',
            )
        if values:
            found[scan.prefix] = values[0]
    return found


def _numeric_values(
    values: Mapping[str, str], column: str, tables: ParticipantTables
) -> dict[str, str]:
    """Return the values of a column; text in a mostly numeric column is an error."""
    numeric = [value for value in values.values() if as_numbers([value]) is not None]
    if 2 * len(numeric) <= len(values):
        return dict(values)
    read = {
        prefix: found[1] if (found := _CAPPED.fullmatch(value)) else value
        for prefix, value in values.items()
    }
    for prefix, value in read.items():
        if as_numbers([value]) is None:
            raise InputDatasetError(
                f'{tables.path}: {column} of {prefix} is {value!r}, but most values are numbers.',
                'Correct it or write n/a. If the numbers are categories, declare them as Levels in '
                f'the data dictionary {tables.path.with_suffix(".json").name}, or choose other '
                'columns with --covariates.',
            )
    return read


def _check_groups(values: Mapping[str, str], column: str, asked: bool) -> None:
    names = set(values.values())
    if asked and not names:
        raise InputDatasetError(f'--group-by {column}: no image has a value in this column.')
    if asked and len(names) > MAX_GROUPS:
        raise UsageError(
            f'--group-by {column} has {len(names)} distinct values (maximum: {MAX_GROUPS}).',
            'For numeric columns use --covariates or --voxelwise.',
        )


def missing_rows(columns: GroupVariables, scans: Sequence[GroupScan]) -> list[dict[str, str]]:
    """Return the table of included images that lack a covariate or a group."""
    wanted = [c for c in (columns.group, *columns.chosen) if c]
    rows = []
    for scan in scans:
        lacks = [c for c in wanted if scan.prefix not in columns.values.get(c, {})]
        if lacks and not scan.reason:
            rows.append({'image': scan.prefix, 'lacks': ', '.join(lacks)})
    return rows
