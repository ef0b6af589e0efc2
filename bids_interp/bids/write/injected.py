"""The dataset that scans with a planted change are written to, and what it keeps of the input."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_interp.bids.read.query import T1wRecord
from bids_interp.bids.write.atomic import write_json, write_text, write_tsv
from bids_interp.bids.write.dataset_description import BIDS_VERSION, DESCRIPTION
from bids_interp.bids.write.folders import check_writable, is_inside
from bids_interp.errors import InputDatasetError, OutputError
from bids_interp.version import __version__

GENERATOR = 'bids_interp inject'
RECIPE = 'inject.json'
TRUTH = Path('derivatives') / 'truth'
#: Columns of participants.tsv that are made here; columns of the input with such a name are kept
#: as ``source_<name>``.
COLUMNS: dict[str, dict[str, Any]] = {
    'group': {
        'Description': 'Whether the change is planted, drawn at random',
        'Levels': {'control': 'sham warp', 'patient': 'planted change'},
    },
    'severity': {
        'Description': 'Factor on the planted change; 0 where nothing is planted',
    },
    'family': {
        'Description': 'Label of the original participant: all replicates of one brain belong '
        'together and must stay on the same side of every split',
    },
    'replicate': {'Description': 'Number of the replicate of this brain, from 1'},
}
EXTRA: dict[str, dict[str, Any]] = {
    'confound': {
        'Description': 'Whether contrast and bias field were changed',
        'Levels': {'1': 'changed', '0': 'as they were'},
    },
    'scaling': {'Description': 'Factor by which the head was made longer in each direction'},
}


@dataclass(frozen=True)
class People:
    """participants.tsv of a dataset, with its dictionary."""

    columns: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    dictionary: dict[str, Any] = field(default_factory=dict)


def check_target(out: Path, bids_dir: Path, recipe: Mapping[str, Any], overwrite: bool) -> bool:
    """Refuse a folder that must not be written to; an earlier run of the same recipe goes on.

    Parameters
    ----------
    out : Path
        The dataset to be made.
    bids_dir : Path
        The input dataset.
    recipe : mapping
        What is made: plain types.
    overwrite : bool
        What another recipe made may be removed.

    Returns
    -------
    bool
        Whether something has to be removed by :func:`clear_target`.

    Raises
    ------
    OutputError
        The folders overlap, or `out` holds something else or cannot be written to.
    """
    if is_inside(out, bids_dir) or is_inside(bids_dir, out):
        raise OutputError(
            f'The output {out} and the input dataset {bids_dir} lie inside one another.',
            'Choose a folder of its own for the output.',
        )
    if out.is_file():
        raise OutputError(f'{out} is a file.', 'Give the name of a folder.')
    outdated = False
    if out.is_dir() and any(out.iterdir()):
        if not _is_ours(out):
            raise OutputError(
                f'{out} holds something that this tool has not made; it is left alone.',
                'Give another folder.',
            )
        outdated = _read_json(out / TRUTH / RECIPE) != json.loads(json.dumps(recipe))
        if outdated and not overwrite:
            raise OutputError(
                f'{out} holds a dataset that was made with other settings or participants.',
                'Give another folder, or --overwrite.',
            )
    check_writable(out, 'output directory', create=True)
    return outdated


def _is_ours(out: Path) -> bool:
    try:
        return bool(_read_json(out / DESCRIPTION)['GeneratedBy'][0]['Name'] == GENERATOR)
    except (LookupError, TypeError):
        return False


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError):
        return {}


def clear_target(out: Path) -> None:
    """Remove the images, the truth and the tables that another recipe made."""
    for folder in (*out.glob('sub-*'), out / TRUTH):
        shutil.rmtree(folder, ignore_errors=True)
    for name in ('participants.tsv', 'participants.json'):
        (out / name).unlink(missing_ok=True)


def read_people(bids_dir: Path) -> People:
    """Read participants.tsv and participants.json; nothing where there is none.

    Raises
    ------
    InputDatasetError
        The table cannot be read or has no column participant_id.
    """
    path = bids_dir / 'participants.tsv'
    if not path.is_file():
        return People()
    try:
        with path.open(encoding='utf-8-sig', newline='') as stream:
            table = csv.DictReader(stream, delimiter='\t', quoting=csv.QUOTE_NONE)
            columns, rows = list(table.fieldnames or ()), list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputDatasetError(f'{path} cannot be read: {error}.') from error
    if 'participant_id' not in columns:
        raise InputDatasetError(f'{path} has no column participant_id.', 'Repair the table.')
    people = {str(row['participant_id']).removeprefix('sub-'): row for row in rows}
    dictionary = _read_json(bids_dir / 'participants.json')
    return People(columns[1:], people, dictionary if isinstance(dictionary, dict) else {})


def write_people(
    out: Path, source: People, made: Sequence[Mapping[str, Any]], extra: Iterable[str] = ()
) -> None:
    """Write participants.tsv and its dictionary.

    Parameters
    ----------
    out : Path
        Root of the dataset.
    source : People
        Of the input; its columns are carried over.
    made : sequence of mapping
        One per subject: ``label``, the keys of `COLUMNS`, and those of `extra`.
    extra : iterable of str
        Keys of `EXTRA`.
    """
    own = {**COLUMNS, **{name: EXTRA[name] for name in extra}}
    names = {name: f'source_{name}' if name in own else name for name in source.columns}
    rows = []
    for subject in made:
        old = source.rows.get(str(subject['family']), {})
        rows.append(
            {
                'participant_id': f'sub-{subject["label"]}',
                **{name: _plain(subject[name]) for name in own},
                **{new: old.get(name) for name, new in names.items()},
            }
        )
    write_tsv(out / 'participants.tsv', rows, ['participant_id', *own, *names.values()])
    kept = {new: source.dictionary[old] for old, new in names.items() if old in source.dictionary}
    write_json(out / 'participants.json', {**own, **kept})


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def write_descriptions(
    out: Path, source: Mapping[str, Any], recipe: Mapping[str, Any], ignored: str
) -> None:
    """Write what makes both folders BIDS datasets: descriptions, README, recipe.

    Parameters
    ----------
    out : Path
        Root of the dataset; the truth goes to ``derivatives/truth``.
    source : mapping
        dataset_description.json of the input.
    recipe : mapping
        What is made; ``Scenario`` is its name.
    ignored : str
        Lines of the truth's ``.bidsignore``.
    """
    title = f'{recipe["Scenario"]}, seed {recipe["Seed"]}'
    made_by = [{'Name': GENERATOR, 'Version': __version__, 'Description': title}]
    common: dict[str, Any] = {'BIDSVersion': BIDS_VERSION, 'GeneratedBy': made_by}
    if source.get('License'):
        common['License'] = source['License']
    if source.get('DatasetDOI'):
        common['SourceDatasets'] = [{'DOI': source['DatasetDOI']}]
    name = f'{source["Name"]}: planted {title}'
    write_json(out / DESCRIPTION, {'Name': name, 'DatasetType': 'raw', **common})
    write_text(out / 'README', _readme(str(source['Name']), recipe))
    truth = {
        'Name': f'Truth of {name}',
        'DatasetType': 'derivative',
        'DatasetLinks': {'raw': '../..'},
        **common,
    }
    write_json(out / TRUTH / DESCRIPTION, truth)
    write_json(out / TRUTH / RECIPE, recipe)
    write_text(out / TRUTH / '.bidsignore', ignored + f'{RECIPE}\n')


def _readme(name: str, recipe: Mapping[str, Any]) -> str:
    changes = ', '.join(f'{region} {change:+.1%}' for region, change in recipe['Changes'].items())
    return f"""Scans with a planted change
===========================

Made by `bids_interp_tools inject` from the T1w images of: {name}.

Scenario: {recipe['Scenario']} ({recipe['Purpose']}).
Planted at severity 1: {changes or 'nothing'}.
Severity {recipe['Severity'][0]:g} to {recipe['Severity'][1]:g}, seed {recipe['Seed']}.

Every image is a smooth random warp of a real one. Patients carry the change, controls a sham warp
of equal size that changes no volume. Groups were drawn at random: they say nothing about the
people scanned. Subjects of one `family` come from one brain. `derivatives/truth` holds what is
known exactly. Research use only.
"""


def inherited_sidecar(bids_dir: Path, record: T1wRecord) -> dict[str, Any]:
    """Merge the JSON files that describe a T1w image, by the inheritance principle."""
    folders = [folder for folder in record.path.parents if is_inside(folder, bids_dir)]
    merged: dict[str, Any] = {}
    for folder in reversed(folders):
        fitting = []
        for path in folder.glob('*T1w.json'):
            parts = path.name.removesuffix('T1w.json').strip('_').split('_')
            pairs = [part.split('-', 1) for part in parts if '-' in part]
            if all(record.entities.get(pair[0]) == pair[1] for pair in pairs):
                fitting.append((len(pairs), path))
        for _, path in sorted(fitting):
            content = _read_json(path)
            merged |= content if isinstance(content, dict) else {}
    return merged
