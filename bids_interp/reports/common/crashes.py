"""Crashes of a run, as they are shown in a report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Errors of insufficient memory.
_MEMORY = re.compile(r'MemoryError|out of memory|Cannot allocate', re.IGNORECASE)
#: Errors of this package, whose messages contain advice.
_OWN = re.compile(r'^bids_interp\.errors\.\w+: ', re.MULTILINE)
_DISK = re.compile(r'No space left on device|Disk quota exceeded', re.IGNORECASE)
MEMORY_ADVICE = 'Lower --nprocs or raise the memory limit, then run the same command again.'
DISK_ADVICE = 'Free space in the output and work directories, then run the same command again.'
GENERAL_ADVICE = (
    'Run the same command again; finished work is kept. If it fails again, report the message '
    'below together with the crash file.'
)


@dataclass(frozen=True)
class Crash:
    """One error: node, message, advice, full text and crash file."""

    node: str
    message: str
    advice: str
    text: str = ''
    file: str = ''


def describe_crash(error: Mapping[str, Any]) -> Crash:
    r"""Return the crash that a mapping describes.

    Parameters
    ----------
    error : mapping
        ``node``, ``message``, ``advice``, ``traceback`` (or ``text``) and ``file``, all optional.
        An empty ``advice`` means that the message contains it.

    Examples
    --------
    >>> describe_crash({'node': 'n4', 'traceback': 'Traceback ...\nMemoryError: 3 GiB'}).advice
    'Lower --nprocs or raise the memory limit, then run the same command again.'
    """
    text = error.get('traceback') or error.get('text') or ''
    text = ''.join(text) if isinstance(text, (list, tuple)) else str(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    message = str(error.get('message') or (lines[-1] if lines else 'No error message.'))
    advice = error.get('advice')
    if advice is None:
        advice = '' if _OWN.search(text) else GENERAL_ADVICE
        if _MEMORY.search(message):
            advice = MEMORY_ADVICE
        elif _DISK.search(message):
            advice = DISK_ADVICE
    node = str(error.get('node') or 'unknown step')
    return Crash(node, message, str(advice), text, str(error.get('file') or ''))


def read_crashes(folder: str | Path, contains: str = '') -> list[dict[str, str]]:
    """Read nipype's crash files of a folder and its subfolders.

    Parameters
    ----------
    folder : path
        Folder with ``crash-*`` files.
    contains : str
        Text that the node name must contain.

    Returns
    -------
    list of dict
        ``node``, ``traceback`` and ``file``, for :func:`bids_interp.reports.build_report`.
    """
    from nireports.assembler.misc import read_crashfile

    found = []
    for path in sorted(Path(folder).rglob('crash-*')):
        if path.suffix not in ('.txt', '.pklz'):
            continue
        try:
            crash = read_crashfile(str(path))
        except Exception:  # noqa: BLE001 - a damaged crash file is still a crash
            crash = {'traceback': path.read_text(errors='replace') if path.suffix == '.txt' else ''}
        node = str(crash.get('node', ''))
        if contains in node:
            entry = {'node': node, 'traceback': str(crash.get('traceback', '')), 'file': path.name}
            found.append(entry)
    return found


def describe_crashes(errors: Iterable[Mapping[str, Any]]) -> list[Crash]:
    """Describe several errors without duplicates."""
    return list(dict.fromkeys(describe_crash(error) for error in errors))
