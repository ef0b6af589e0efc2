"""Injected dataset: scans with a planted change, and the metadata kept from the input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_interp.bids.names import visible
from bids_interp.bids.read.participants import read_participants
from bids_interp.bids.read.query import T1wRecord
from bids_interp.bids.write.atomic import write_json, write_text, write_tsv
from bids_interp.bids.write.dataset_description import BIDS_VERSION, DESCRIPTION
from bids_interp.bids.write.folders import check_writable, is_inside
from bids_interp.errors import OutputError
from bids_interp.records import parse_json
from bids_interp.version import __version__

GENERATOR = 'bids_interp inject'
RECORD = 'inject.json'
TRUTH = Path('derivatives') / 'truth'
#: Columns that are added to participants.tsv; input columns with these names become
#: ``source_<name>``.
COLUMNS: dict[str, dict[str, Any]] = {
    'group': {
        'Description': 'Randomly assigned group: with or without the planted change',
        'Levels': {'control': 'sham warp', 'patient': 'planted change'},
    },
    'severity': {
        'Description': 'Factor on the planted change; 0 without a planted change',
    },
    'family': {
        'Description': 'Label of the original participant. All replicates of one brain form a '
        'family, which must not be divided between folds',
    },
    'replicate': {'Description': 'Number of the replicate of this brain, from 1'},
}
EXTRA: dict[str, dict[str, Any]] = {
    'confound': {
        'Description': 'Whether contrast and bias field were changed',
        'Levels': {'1': 'changed', '0': 'unchanged'},
    },
    'scaling': {'Description': 'Factor by which the head was enlarged along each axis'},
}


@dataclass(frozen=True)
class ParticipantTable:
    """Content of participants.tsv and its data dictionary."""

    columns: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    dictionary: dict[str, Any] = field(default_factory=dict)


def check_injected_output(
    out: Path, bids_dir: Path, record: Mapping[str, Any], overwrite: bool
) -> bool:
    """Refuse an output folder that must not be written to; accept one with the same record.

    Parameters
    ----------
    out : Path
        Root of the new dataset.
    bids_dir : Path
        Input dataset.
    record : mapping
        Settings and participants, as plain types.
    overwrite : bool
        Allow the removal of a dataset made with another record.

    Returns
    -------
    bool
        Whether :func:`clear_injected_output` must be called before writing.

    Raises
    ------
    OutputError
        If the folders overlap, or `out` contains other files or is not writable.
    """
    if is_inside(out, bids_dir) or is_inside(bids_dir, out):
        raise OutputError(
            f'One of the output {out} and the input dataset {bids_dir} contains the other.',
            'Choose a separate folder for the output.',
        )
    if out.is_file():
        raise OutputError(f'{out} is a file.', 'Give the name of a folder.')
    outdated = False
    if out.is_dir() and any(out.iterdir()):
        if not _is_injected(out):
            raise OutputError(
                f'{out} contains files that this tool did not write.',
                'Give another folder.',
            )
        outdated = _read_json(out / TRUTH / RECORD) != json.loads(json.dumps(record))
        if outdated and not overwrite:
            raise OutputError(
                f'{out} contains a dataset made with other settings or participants.',
                'Give another folder, or use --overwrite.',
            )
    check_writable(out, 'output directory', create=True)
    return outdated


def _is_injected(out: Path) -> bool:
    try:
        return bool(_read_json(out / DESCRIPTION)['GeneratedBy'][0]['Name'] == GENERATOR)
    except (LookupError, TypeError):
        return False


def _read_json(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError):
        return {}


def clear_injected_output(out: Path) -> None:
    """Remove the images, truth and tables of another record."""
    for folder in (*out.glob('sub-*'), out / TRUTH):
        shutil.rmtree(folder, ignore_errors=True)
    for name in ('participants.tsv', 'participants.json'):
        (out / name).unlink(missing_ok=True)


def read_participant_table(bids_dir: Path) -> ParticipantTable:
    """Read participants.tsv and participants.json; empty if missing.

    Raises
    ------
    InputDatasetError
        If the table cannot be read, has no rows or no column participant_id.
    """
    path = bids_dir / 'participants.tsv'
    if not path.is_file():
        return ParticipantTable()
    rows = read_participants(path)
    columns = [name for name in rows[0] if name != 'participant_id']
    people = {row['participant_id'].removeprefix('sub-'): row for row in rows}
    dictionary = _read_json(bids_dir / 'participants.json')
    return ParticipantTable(columns, people, dictionary if isinstance(dictionary, dict) else {})


def write_participant_table(
    out: Path,
    source: ParticipantTable,
    made: Sequence[Mapping[str, Any]],
    extra: Iterable[str] = (),
) -> None:
    """Write participants.tsv and its data dictionary.

    Parameters
    ----------
    out : Path
        Root of the dataset.
    source : ParticipantTable
        Table of the input; its columns are copied.
    made : sequence of mapping
        Values of each subject: ``label``, the keys of `COLUMNS`, and `extra`.
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
                **{name: _cell(subject[name]) for name in own},
                **{new: old.get(name) for name, new in names.items()},
            }
        )
    write_tsv(out / 'participants.tsv', rows, ['participant_id', *own, *names.values()])
    kept = {new: source.dictionary[old] for old, new in names.items() if old in source.dictionary}
    write_json(out / 'participants.json', {**own, **kept})


def _cell(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def write_injected_descriptions(
    out: Path, source: Mapping[str, Any], record: Mapping[str, Any], ignored: str
) -> None:
    """Write descriptions, README and record of the injected dataset and its truth.

    Parameters
    ----------
    out : Path
        Root of the dataset; the truth is in ``derivatives/truth``.
    source : mapping
        dataset_description.json of the input.
    record : mapping
        Settings; ``Scenario`` is the name.
    ignored : str
        Lines of the truth's ``.bidsignore``.
    """
    title = f'{record["Scenario"]}, seed {record["Seed"]}'
    made_by = [{'Name': GENERATOR, 'Version': __version__, 'Description': title}]
    common: dict[str, Any] = {'BIDSVersion': BIDS_VERSION, 'GeneratedBy': made_by}
    if source.get('License'):
        common['License'] = source['License']
    if source.get('DatasetDOI'):
        common['SourceDatasets'] = [{'DOI': source['DatasetDOI']}]
    name = f'{source["Name"]}: planted {title}'
    write_json(out / DESCRIPTION, {'Name': name, 'DatasetType': 'raw', **common})
    write_text(out / 'README', _readme(str(source['Name']), record))
    truth = {
        'Name': f'Truth of {name}',
        'DatasetType': 'derivative',
        'DatasetLinks': {'raw': '../..'},
        **common,
    }
    write_json(out / TRUTH / DESCRIPTION, truth)
    write_json(out / TRUTH / RECORD, record)
    write_text(out / TRUTH / '.bidsignore', ignored + f'{RECORD}\n')


def _readme(name: str, record: Mapping[str, Any]) -> str:
    changes = ', '.join(f'{region} {change:+.1%}' for region, change in record['Changes'].items())
    return f"""Scans with a planted change
===========================

Made with `bids_interp_tools inject` from the T1w images of: {name}.

Scenario: {record['Scenario']} ({record['Purpose']}).
Planted at severity 1: {changes or 'nothing'}.
Severity {record['Severity'][0]:g} to {record['Severity'][1]:g}, seed {record['Seed']}.

Every image is a smooth random warp of a real one. Patients have the planted change, controls a sham
warp of equal size that changes no volume. Groups were assigned at random and say nothing about the
people scanned. Subjects of one `family` come from one brain. `derivatives/truth` contains the
exact changes. Research use only.
"""


def inherited_sidecar(bids_dir: Path, record: T1wRecord) -> dict[str, Any]:
    """Merge the JSON files that apply to a T1w image by the inheritance principle."""
    folders = [folder for folder in record.path.parents if is_inside(folder, bids_dir)]
    merged: dict[str, Any] = {}
    for folder in reversed(folders):
        fitting = []
        for path in visible(folder.glob(f'*{record.suffix}.json')):
            parts = path.name.removesuffix(f'{record.suffix}.json').strip('_').split('_')
            pairs = [part.split('-', 1) for part in parts if '-' in part]
            if all(record.entities.get(pair[0]) == pair[1] for pair in pairs):
                fitting.append((len(pairs), path))
        for _, path in sorted(fitting):
            content = _read_json(path)
            merged |= content if isinstance(content, dict) else {}
    return merged
