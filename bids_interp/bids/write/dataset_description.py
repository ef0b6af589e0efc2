"""Dataset description and other files that make the output a BIDS derivative dataset."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bids_interp.bids.read.tsv import read_text
from bids_interp.bids.write import provenance
from bids_interp.bids.write.atomic import write_json, write_text
from bids_interp.bids.write.temporaries import LEFT_HOURS, remove_temporaries
from bids_interp.errors import InputDatasetError, OutputError
from bids_interp.records import parse_json

logger = logging.getLogger('bids_interp')

BIDS_VERSION = '1.10.0'
DESCRIPTION = 'dataset_description.json'

#: Patterns of files that the BIDS schema does not cover.
IGNORED = (
    '*.html',
    '*_xfm.*',
    '*_logjacobian.*',
    '*_velocity.*',
    '*_displacement.*',
    '*_saliency.*',
    '*_prediction.*',
    '*_stats.*',
    '**/figures',
    '**/log',
    '**/logs',
    'models',
    'training',
    'group',
)

#: Folders of all subjects together.
SHARED_FOLDERS = ('group', 'logs', 'models', 'training')

_README_TITLE = '# Derivatives of bids_interp'
README = (
    _README_TITLE
    + """

Simulated T1w brains that show what a trained classifier has learned, and maps of the changes.

- `sub-*.html`: one report per T1w image. Start there.
- `sub-*/[ses-*/]anat/*_desc-inject*_T1w.nii.gz`, `*_desc-remove*_T1w.nii.gz`: brain with the
  learned pattern injected or removed. The number is the dose in percent.
- `*_logjacobian.nii.gz`: natural logarithm of the volume ratio at each voxel of the observed
  brain. Positive = local expansion from the observed to the simulated image, negative =
  contraction; volume change in percent = 100 * (exp(logJ) - 1).
- `*_velocity.nii.gz`: the deformation as a velocity field, in mm along the RAS+ world axes.
- `*_saliency.nii.gz` (only with `--saliency`): saliency maps of the same classifier. They show
  where its output depends on image intensity, not what shrinks or grows.
- `*_prediction.json`, `*_doseresponse_stats.tsv`, `*_counterfactual_stats.tsv`: output of the
  classifier before and after each simulation, and quality of the simulation.

Files without `space-` are on the subject's own T1w grid. Every file has a JSON sidecar with its
sources, units and model. `logs/` contains the methods text to cite.

Research use only; not for diagnosis.
"""
)


def check_output(out_dir: str | Path) -> None:
    """Refuse an output directory that contains another dataset.

    Parameters
    ----------
    out_dir : path
        Output directory; it need not exist.

    Raises
    ------
    OutputError
        If it is a file, or contains a raw dataset, derivatives of another program, subjects
        without a dataset description, or an unreadable description of another program.
    """
    out_dir = Path(out_dir)
    if out_dir.exists() and not out_dir.is_dir():
        raise OutputError(f'{out_dir} is a file.', 'Give a directory as the output.')
    path = out_dir / DESCRIPTION
    # Checked first: a concurrent job writes the description before its subjects.
    has_subjects = any(out_dir.glob('sub-*'))
    if not path.exists():
        if has_subjects:
            raise OutputError(
                f'{out_dir} contains subjects but no {DESCRIPTION}, so their origin is unknown.',
                'Give an empty directory or the output directory of an earlier run.',
            )
        return
    existing = _read_own_description(path)
    if existing is None:
        return
    names = [entry.get('Name') for entry in existing.get('GeneratedBy') or []]
    if existing.get('DatasetType') != 'derivative' or provenance.SOFTWARE not in names:
        raise OutputError(
            f'{path} describes another dataset ({existing.get("Name", "without a name")}); '
            'bids_interp does not write into it.',
            f'Give another directory, for example {out_dir / "derivatives" / "bids_interp"}.',
        )


def _read_own_description(path: Path) -> dict[str, Any] | None:
    """Return a description; None if it is damaged and the README is ours, so that it is replaced.

    Raises
    ------
    OutputError
        If it is damaged and may be that of another program.
    """
    try:
        return _read_description(path)
    except OutputError as error:
        if not (_has_own_readme(path.parent) and os.access(path, os.R_OK)):
            raise
        logger.warning('%s It is written again.', error.message)
        return None


def _read_description(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_text(path))
    except (InputDatasetError, ValueError) as error:
        raise OutputError(f'{path} cannot be read: {error}.', 'Repair or remove it.') from error
    if not isinstance(content, dict):
        raise OutputError(f'{path} does not contain a JSON object.', 'Repair or remove it.')
    return content


def prepare_output(
    out_dir: str | Path,
    roots: Mapping[str, str | Path],
    bundle: provenance.ModelIdentity | None = None,
) -> Path:
    """Make the output directory a derivative dataset; repeated calls are safe.

    Write dataset_description.json, .bidsignore and README.md. Entries of earlier runs (versions,
    models, links) and lines that a user added to .bidsignore are kept.

    Parameters
    ----------
    out_dir : path
        Output directory.
    roots : mapping
        Root of each input dataset by link name: ``raw`` for the BIDS directory, and one name per
        directory of derivatives.
    bundle : ModelBundle, optional
        Model of this run.

    Returns
    -------
    pathlib.Path
        Path of dataset_description.json.

    Raises
    ------
    OutputError
        If the directory contains another dataset or is not writable.
    """
    check_output(out_dir)
    return describe_output(out_dir, roots, bundle)


def describe_output(
    out_dir: str | Path,
    roots: Mapping[str, str | Path],
    bundle: provenance.ModelIdentity | None = None,
) -> Path:
    """Do the same as :func:`prepare_output`, also for subjects without a dataset description.

    They are ours if the folder was moved in the middle of a run, which then made it again.
    """
    out_dir = Path(out_dir)
    path = out_dir / DESCRIPTION
    existing = (_read_own_description(path) if path.exists() else None) or {}
    write_json(path, _description(out_dir, roots, bundle, existing))
    remove_temporaries(out_dir, deep=False, hours=LEFT_HOURS)
    for folder in SHARED_FOLDERS:
        remove_temporaries(out_dir / folder, hours=LEFT_HOURS)
    _write_bidsignore(out_dir / '.bidsignore')
    _write_readme(out_dir / 'README.md')
    return path


def _description(
    out_dir: Path,
    roots: Mapping[str, str | Path],
    bundle: provenance.ModelIdentity | None,
    existing: dict[str, Any],
) -> dict[str, Any]:
    inputs = {name: _input_description(Path(root)) for name, root in roots.items()}
    dois = {
        name: str(content['DatasetDOI']).removeprefix('doi:').removeprefix('https://doi.org/')
        for name, content in inputs.items()
        if content.get('DatasetDOI')
    }
    raw_name = inputs.get(provenance.RAW_LINK, {}).get('Name')
    current = provenance.generated_by(bundle)
    title = f'bids_interp derivatives of {raw_name}' if raw_name else 'bids_interp derivatives'
    content = {
        'Name': existing.get('Name') or title,
        'BIDSVersion': BIDS_VERSION,
        'DatasetType': 'derivative',
        'GeneratedBy': _merged(current, existing.get('GeneratedBy') or [], ('Name', 'Version')),
        'DatasetLinks': {
            **(existing.get('DatasetLinks') or {}),
            **provenance.dataset_links(out_dir, roots, dois),
        },
    }
    sources = [{'DOI': f'doi:{doi}', 'URL': f'https://doi.org/{doi}'} for doi in dois.values()]
    sources = _merged(sources, existing.get('SourceDatasets') or [], ('DOI',))
    if sources:
        content['SourceDatasets'] = sources
    return {**existing, **content}


def _input_description(root: Path) -> dict[str, Any]:
    # Faults of the input's description are reported when the input is read.
    try:
        content = parse_json(read_text(root / DESCRIPTION))
    except (InputDatasetError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _merged(
    current: list[dict[str, Any]], existing: list[dict[str, Any]], keys: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Replace existing entries with the same keys, and append new ones."""
    fresh = {tuple(entry.get(key) for key in keys): entry for entry in current}
    old = {tuple(entry.get(key) for key in keys): entry for entry in existing}
    return list({**old, **fresh}.values())


def _write_bidsignore(path: Path) -> None:
    lines = path.read_text(encoding='utf-8').splitlines() if path.exists() else []
    lines += [pattern for pattern in IGNORED if pattern not in lines]
    write_text(path, '\n'.join(lines) + '\n')


def _has_own_readme(out_dir: Path) -> bool:
    try:
        return (out_dir / 'README.md').read_text(encoding='utf-8').startswith(_README_TITLE)
    except (OSError, UnicodeDecodeError):
        return False


def _write_readme(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0 or _has_own_readme(path.parent):
        write_text(path, README)
