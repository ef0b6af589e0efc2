"""What the tables say of each image: group and covariates, and who lacks what."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bids_interp.bids.prediction import ExplainedTarget
from bids_interp.bids.read.participants import Tables, as_numbers, is_category
from bids_interp.bids.read.query import T1wRecord
from bids_interp.errors import InputDatasetError, UsageError
from bids_interp.group.scans import Scan
from bids_interp.settings import Settings

#: Columns that are taken where nothing else is asked for.
USUAL = ('age', 'sex', 'gender', 'site', 'scanner')
#: More different values than this make no groups.
MAX_GROUPS = 20
#: Columns of the tables of scores and changes that have a meaning of their own.
OWN_COLUMNS = frozenset({
    'participant_id', 'session_id', 'image', 'group', 'folds', 'score_dose', 'score', 'explained',
    'logit', 'probability', 'brain_volume_ml', 'reason', 'from', 'to', 'score_from', 'score_to',
    'change',
})  # fmt: skip
#: Ages above 89 are often written so.
_CAPPED = re.compile(r'(\d+(?:\.\d+)?)\+')


def table_name(covariate: str) -> str:
    """Name of a covariate in the tables of the group level, where some names are taken.

    Examples
    --------
    >>> table_name('age'), table_name('group')
    ('age', 'covariate_group')
    """
    return f'covariate_{covariate}' if covariate in OWN_COLUMNS else covariate


@dataclass(frozen=True)
class Columns:
    """Values of the images in the tables of the dataset.

    Parameters
    ----------
    group : str
        Column that makes the groups; empty where there is none.
    chosen : tuple of str
        Covariates.
    asked : bool
        Whether the user named the covariates.
    values : dict
        Column to value of each image by its prefix; missing ones are not in it.
    positive, negative : str
        Classes of the model where the groups are what it was trained for; empty otherwise.
    levels : tuple of str
        Columns whose values are names even where they are written as numbers: the group, those of
        :data:`bids_interp.bids.read.participants.CATEGORIES`, and those whose data dictionary has
        ``Levels``.
    """

    group: str = ''
    chosen: tuple[str, ...] = ()
    asked: bool = False
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    positive: str = ''
    negative: str = ''
    levels: tuple[str, ...] = ()

    def of_group(self, scan: Scan) -> str | None:
        """Group of an image."""
        return self.values.get(self.group, {}).get(scan.prefix)


def read_columns(settings: Settings, scans: Sequence[Scan], target: ExplainedTarget) -> Columns:
    """Read group and covariates of all images.

    Parameters
    ----------
    settings : Settings
        With ``group_by``, ``covariates``, ``voxelwise`` and ``labels``.
    scans : sequence of Scan
        All images that were found.
    target : ExplainedTarget
        What the model was trained for, as in its predictions.

    Raises
    ------
    InputDatasetError
        If there is no table although one is needed, or it names nobody who is there.
    UsageError
        If a column does not exist, is no group, or is no number where it must be.
    """
    path = settings.labels or settings.bids_dir / 'participants.tsv'
    needed = settings.group_by or settings.covariates or settings.voxelwise or settings.labels
    if not needed and not path.is_file():
        return Columns()
    tables = Tables(settings)
    subjects = sorted({scan.subject for scan in scans})
    if not any(subject in tables for subject in subjects):
        raise InputDatasetError(
            f'{path} names none of the {len(subjects)} subjects of the derivatives '
            f'(for example sub-{subjects[0]}).',
            'Give the dataset that they were made from as the first argument, or a table with '
            '--labels FILE.tsv.',
        )
    for option, columns in (
        ('--group-by', (settings.group_by,)),
        ('--covariates', settings.covariates),
        ('--voxelwise', settings.voxelwise),
    ):
        for column in columns:
            if column:
                tables.check_column(column, option)
    group, label = settings.group_by or '', target.label
    chosen = settings.covariates or tuple(c for c in tables.columns if c.lower() in USUAL)
    if not group and label in tables.columns:
        # Numbers make no groups: what a regression was trained for is a covariate.
        group = '' if target.kind == 'regression' else label
        chosen = chosen if group else (label, *chosen)
    chosen = tuple(c for c in dict.fromkeys(chosen) if c != group)
    wanted = dict.fromkeys((group, *chosen, *settings.voxelwise))
    values = {column: _values(tables, scans, column) for column in wanted if column}
    levels = tuple(
        column
        for column in values
        if column == group or is_category(column) or tables.has_levels(column)
    )
    for column in values:
        if column not in levels:
            values[column] = _as_meant(values[column], column, tables)
    _check_groups(values.get(group, {}), group, bool(settings.group_by))
    for column in settings.voxelwise:
        if column in levels or as_numbers(list(values[column].values())) is None:
            raise UsageError(
                f'--voxelwise {column}: its values are no numbers.',
                'A difference between groups is tested on the expression score (--group-by).',
            )
    own = {group: values.get(group, {})} if group == target.label else {}
    classes = {'positive': target.positive, 'negative': target.negative}
    found = set(own.get(group, {}).values())
    is_target = bool(own) and set(classes.values()) <= found
    return Columns(
        group,
        chosen,
        bool(settings.covariates),
        values,
        levels=levels,
        **(classes if is_target else {}),
    )


def _values(tables: Tables, scans: Sequence[Scan], column: str) -> dict[str, str]:
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


def _as_meant(values: Mapping[str, str], column: str, tables: Tables) -> dict[str, str]:
    """Values of a column; one that is no number among numbers is an error and makes no levels."""
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
                f'{tables.path}: {column} of {prefix} is {value!r}, which is no number as most of '
                'the others are.',
                'Correct it, or write n/a. If the numbers are names of levels, say so in the data '
                f'dictionary {tables.path.with_suffix(".json").name} (Levels), or choose other '
                'columns with --covariates.',
            )
    return read


def _check_groups(values: Mapping[str, str], column: str, asked: bool) -> None:
    names = set(values.values())
    if asked and not names:
        raise InputDatasetError(f'--group-by {column}: no image has a value of it.')
    if asked and len(names) > MAX_GROUPS:
        raise UsageError(
            f'--group-by {column} has {len(names)} different values; that makes no groups.',
            'For numbers use --covariates or --voxelwise.',
        )


def missing_rows(columns: Columns, scans: Sequence[Scan]) -> list[dict[str, str]]:
    """Table of the images that are in and lack a covariate or their group."""
    wanted = [c for c in (columns.group, *columns.chosen) if c]
    rows = []
    for scan in scans:
        lacks = [c for c in wanted if scan.prefix not in columns.values.get(c, {})]
        if lacks and not scan.reason:
            rows.append({'image': scan.prefix, 'lacks': ', '.join(lacks)})
    return rows
