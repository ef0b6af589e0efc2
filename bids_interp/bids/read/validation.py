"""Validation with the BIDS validator, if installed; its findings never stop a run."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bids_interp.bids.read.anat_files import IMAGES, SUFFIXES, suffix_of
from bids_interp.records import parse_json

logger = logging.getLogger('bids_interp')

PROGRAMS = ('bids-validator-deno', 'bids-validator')
SECONDS = 120
SHOWN = 5


def find_validator() -> str | None:
    """Return the path of the validator, next to this Python or on the PATH."""
    for name in PROGRAMS:
        sibling = Path(sys.executable).with_name(name)
        found = str(sibling) if sibling.is_file() else shutil.which(name)
        if found:
            return found
    return None


def validate_dataset(bids_dir: Path) -> dict[str, list[str]]:
    """Run the validator and report its errors.

    A dataset can break rules that do not affect its T1w images, so the run continues. Unusable
    images are detected when they are read.

    Parameters
    ----------
    bids_dir : Path
        BIDS dataset.

    Returns
    -------
    dict
        Errors of each T1w image, by file name.
    """
    program = find_validator()
    if program is None:
        logger.debug('No BIDS validator is installed; only the required files are checked.')
        return {}
    try:
        done = subprocess.run(
            [program, str(bids_dir), '--format', 'json'],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        issues = _issues(parse_json(done.stdout))
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        logger.warning('%s failed (%s); the run continues without it.', program, error)
        return {}
    found: dict[str, list[str]] = {}
    others: list[str] = []
    for location, message in issues:
        name = location.rsplit('/', 1)[-1]
        if suffix_of(Path(name)) in SUFFIXES and name.endswith(IMAGES):
            found.setdefault(name, []).append(f'BIDS validator: {message}')
        else:
            others.append(f'{location or bids_dir}: {message}')
    _log(others)
    return found


def _log(errors: list[str]) -> None:
    for error in errors[:SHOWN]:
        logger.warning('BIDS validator: %s', error)
    if len(errors) > SHOWN:
        logger.warning('BIDS validator: and %d more errors.', len(errors) - SHOWN)


def _issues(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return location and message of each error, from the report of either validator."""
    issues = report.get('issues') or {}
    found = []
    for issue in issues.get('issues') or []:
        if issue.get('severity') == 'error':
            parts = (issue.get('code'), issue.get('subCode'), issue.get('issueMessage'))
            message = ' '.join(str(part) for part in parts if part)
            found.append((str(issue.get('location') or ''), message))
    for issue in issues.get('errors') or []:
        for file in issue.get('files') or [{}]:
            where = ((file or {}).get('file') or {}).get('relativePath') or ''
            found.append((str(where), str(issue.get('reason') or issue.get('key') or '')))
    return found
