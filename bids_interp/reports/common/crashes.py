"""Errors of a run, ready to be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Errors whose last line says that memory ran out, and what helps.
_MEMORY = re.compile(r'MemoryError|out of memory|Cannot allocate', re.IGNORECASE)
#: Errors of ours, whose message says what helps.
_OWN = re.compile(r'^bids_interp\.errors\.\w+: ', re.MULTILINE)
_DISK = re.compile(r'No space left on device|Disk quota exceeded', re.IGNORECASE)
MEMORY_ADVICE = 'Lower --nprocs or raise the memory limit, then run the same command again.'
DISK_ADVICE = 'Free space in the output and work directories, then run the same command again.'
GENERAL_ADVICE = (
    'Run the same command again: finished work is kept. If it fails again, report the message '
    'below together with the file named here.'
)


@dataclass(frozen=True)
class Crash:
    """One error: where it happened, its message, what helps, and the whole text."""

    node: str
    message: str
    advice: str
    text: str = ''
    file: str = ''


def describe_crash(error: Mapping[str, Any]) -> Crash:
    r"""Complete an error given as a mapping.

    Parameters
    ----------
    error : mapping
        ``node``, ``message``, ``advice``, ``traceback`` (or ``text``) and ``file``; every one may
        be missing. An empty ``advice`` is one that the message holds already.

    Examples
    --------
    >>> describe_crash({'node': 'n4', 'traceback': 'Traceback ...\nMemoryError: 3 GiB'}).advice
    'Lower --nprocs or raise the memory limit, then run the same command again.'
    """
    text = error.get('traceback') or error.get('text') or ''
    text = ''.join(text) if isinstance(text, (list, tuple)) else str(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    message = str(error.get('message') or (lines[-1] if lines else 'No message was left.'))
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
        Where ``crash-*`` files lie.
    contains : str
        Only crashes whose node name has this text.

    Returns
    -------
    list of dict
        ``node``, ``traceback``, ``file``: what :func:`bids_interp.reports.build_report` takes.
    """
    from nireports.assembler.misc import read_crashfile

    found = []
    for path in sorted(Path(folder).rglob('crash-*')):
        if path.suffix not in ('.txt', '.pklz'):
            continue
        try:
            crash = read_crashfile(str(path))
        except Exception:  # noqa: BLE001 - half a crash file is still a crash
            crash = {'traceback': path.read_text(errors='replace') if path.suffix == '.txt' else ''}
        node = str(crash.get('node', ''))
        if contains in node:
            entry = {'node': node, 'traceback': str(crash.get('traceback', '')), 'file': path.name}
            found.append(entry)
    return found


def describe_crashes(errors: Iterable[Mapping[str, Any]]) -> list[Crash]:
    """Describe several errors; the same one is told once."""
    return list(dict.fromkeys(describe_crash(error) for error in errors))
