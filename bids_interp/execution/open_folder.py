"""Open folder, which is recognised even if another one takes its path."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


class OpenFolder:
    """Folder that is held open, so that its identity is not given to another one.

    Parameters
    ----------
    path : Path
        Folder; nothing is noticed if it does not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None
        with suppress(OSError):
            self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def moved(self) -> str:
        """Close the folder; return a message if its path now leads elsewhere, else nothing."""
        if self._handle is None:
            return ''
        own = os.fstat(self._handle)
        os.close(self._handle)
        self._handle = None
        with suppress(OSError):
            if os.path.samestat(own, os.stat(self.path)):
                return ''
        return (
            f'{self.path} was moved, replaced or removed during the run, so that files may be in '
            'two folders. Run the same command again.'
        )
