"""Crash files that can be passed on: without login names and paths of the machine."""

from __future__ import annotations

import getpass
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

from bids_interp.execution.run import Run

#: Folders of an absolute path; the file name is kept.
_FOLDERS = re.compile(r'(?<![\w./~-])/(?:[^\s/\'":,;()<>\[\]{}]+/)+')


def without_paths(text: str, run: Run) -> str:
    """Return a text with names for the folders of a run, and without all other folders.

    Parameters
    ----------
    text : str
        Message or traceback.
    run : Run
        The run.
    """
    settings = run.settings
    named = {
        run.work_dir: 'WORK_DIR',
        settings.output_dir: 'OUTPUT_DIR',
        settings.bids_dir: 'BIDS_DIR',
        Path(__file__).parents[2]: 'PACKAGE',
        Path(sys.prefix): 'PYTHON',
        Path(sys.base_prefix): 'PYTHON',
        home_folder(): '',
    }
    # A folder comes before those that contain it.
    for folder in sorted(named, key=lambda path: -len(str(path))):
        if folder != folder.parent:
            text = re.sub(rf'(?<![\w./-]){re.escape(str(folder))}(?![\w-])', named[folder], text)
    return _FOLDERS.sub('.../', text)


def hide_paths(run: Run, crash_file: Path) -> Path:
    """Remove login name and paths from a crash file; return its new path.

    If the disk is full, the file stays as it is.
    """
    name = crash_file.name.replace(f'-{login_name()}-', '-', 1)
    hidden = crash_file.with_name(name.replace('crash-', 'crash-hidden-', 1))
    try:
        text = crash_file.read_text(encoding='utf-8', errors='replace')
        hidden.write_text(without_paths(text, run), encoding='utf-8')
        crash_file.unlink()
        return hidden.rename(crash_file.with_name(name))
    except OSError:
        with suppress(OSError):
            hidden.unlink(missing_ok=True)
        return crash_file


def home_folder() -> Path:
    """Return the home folder; the root folder if there is none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path('/')


def login_name() -> str:
    """Return the login name as nipype writes it into the names of crash files."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f'UID{os.getuid():d}'
