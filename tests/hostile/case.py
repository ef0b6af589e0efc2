"""A hostile input, the reader that meets it, and what the reader must do."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bids_interp.errors import (
    BidsInterpError,
    ImageError,
    InputDatasetError,
    ModelError,
    UsageError,
)

SECONDS = 10.0
MEMORY = 2 * 10**9
#: Events of Python's audit that no reader of data may cause.
FORBIDDEN = {'pickle.find_class', 'subprocess.Popen', 'os.system', 'os.exec', 'os.posix_spawn'}
_WRITES = {'os.mkdir', 'os.remove', 'os.rename', 'os.rmdir', 'os.symlink', 'os.link', 'os.chmod'}


@dataclass(frozen=True)
class Bases:
    """Good files that hostile ones are made from.

    Parameters
    ----------
    bundle : Path
        Folder of a model bundle.
    """

    bundle: Path

    @cached_property
    def image(self) -> bytes:
        """A NIfTI-1 file that passes every check, not compressed."""
        from helpers.skeletons import make_image

        return make_image().to_bytes()

    @cached_property
    def export(self) -> dict[str, bytes]:
        """Files inside a good archive of ``torch.export``, by name."""
        import tempfile

        from torch.export.pt2_archive import PT2ArchiveReader

        from helpers.exports import export, seeded

        with tempfile.TemporaryDirectory() as folder:
            reader = PT2ArchiveReader(str(export(seeded(), Path(folder) / 'good.pt2')))
            names = reader.get_file_names()
            kept = [name for name in names if name.startswith(('data/', 'models/'))]
            return {name: reader.read_bytes(name) for name in kept}


@dataclass(frozen=True)
class Reader:
    """A reader of the program, and the class of the errors that it documents."""

    read: Callable[[Path], object]
    error: type[BidsInterpError]


@dataclass(frozen=True)
class Case:
    """A hostile input.

    Parameters
    ----------
    name : str
        Name of the case.
    reader : str
        Key of :data:`READERS`.
    make : callable
        Function that writes the input into a folder and returns its path.
    refused : bool
        Whether the reader must refuse it. Otherwise it must be read within the limits.
    error : type, optional
        Class of the error; by default that of the reader.
    """

    name: str
    reader: str
    make: Callable[[Path, Bases], Path]
    refused: bool = True
    error: type[BidsInterpError] | None = None

    @property
    def expected(self) -> type[BidsInterpError] | None:
        """Return the class of the error that the reader must raise, if any."""
        return (self.error or READERS[self.reader].error) if self.refused else None


def _read_image(path: Path) -> object:
    from bids_interp.anatomical.raw.conform import conform

    return conform(path, memory_gb=1.0)


def _read_mask(path: Path) -> object:
    from bids_interp.anatomical.prepared_brain import load_mask
    from bids_interp.anatomical.raw.claimed_size import check_claims
    from helpers.skeletons import make_image

    check_claims(path, memory_gb=1.0)
    return load_mask(path, make_image())


def _read_table(path: Path) -> object:
    from bids_interp.bids.read.participants import read_participants

    return read_participants(path)


def _read_description(path: Path) -> object:
    from bids_interp.bids.read.description import read_description

    return read_description(path.parent)


def _read_filter(path: Path) -> object:
    from bids_interp.bids.read.filters import load_filters

    return load_filters(path)


def _read_card(path: Path) -> object:
    from bids_interp.models.external.card import ClassifierCard

    return ClassifierCard.read(path)


def _read_prediction(path: Path) -> object:
    from bids_interp.bids.prediction import read_prediction

    return read_prediction(path)


def _read_settings(path: Path) -> object:
    from bids_interp.cli import app

    words = [str(path.parent), str(path.parent / 'out'), 'participant', '--config-file', str(path)]
    return app.read_settings(app.command.make_context('bids_interp', words))


def _read_plugin(path: Path) -> object:
    from bids_interp.execution.plugins.plugin_file import check_plugin

    return check_plugin(path)


def _read_bundle(path: Path) -> object:
    from bids_interp.models.bundle.reader import load_bundle

    folder = path if path.is_dir() else path.parent
    bundle = load_bundle(folder)
    return [bundle.mean_image, *(bundle.fold(index) for index in range(bundle.n_folds))]


def _read_archive(path: Path) -> object:
    from bids_interp.models.bundle.archive import import_bundle

    return import_bundle(path, path.parent / 'imported')


def _read_export(path: Path) -> object:
    from bids_interp.models.external.export_archive import load_program

    return load_program(path.read_bytes(), str(path))


READERS = {
    'image': Reader(_read_image, ImageError),
    'mask': Reader(_read_mask, ImageError),
    'table': Reader(_read_table, InputDatasetError),
    'description': Reader(_read_description, InputDatasetError),
    'filter': Reader(_read_filter, UsageError),
    'card': Reader(_read_card, ModelError),
    'prediction': Reader(_read_prediction, ImageError),
    'settings': Reader(_read_settings, UsageError),
    'plugin': Reader(_read_plugin, UsageError),
    'bundle': Reader(_read_bundle, ModelError),
    'archive': Reader(_read_archive, ModelError),
    'export': Reader(_read_export, ModelError),
}


@dataclass
class Watch:
    """What a reader did: seconds of a processor, and events that it must not cause."""

    folder: Path
    seconds: float = 0.0
    events: list[str] = field(default_factory=list)

    def note(self, event: str, args: tuple[Any, ...]) -> None:
        """Keep a forbidden event, or a change of a file outside of the folder."""
        if event in FORBIDDEN:
            self.events.append(f'{event} {args[:1]}')
        elif event in _WRITES or (event == 'open' and _is_writing(*args[1:3])):
            place = str(args[0])
            # Deleting a folder names its files relative to it.
            is_relative = event in ('os.remove', 'os.rmdir') and args[1] != -1
            if (
                isinstance(args[0], int)
                or is_relative
                or place == '/dev/null'
                or '__pycache__' in place
            ):
                return
            if not place.startswith(str(self.folder)):
                self.events.append(f'{event} {place}')


def _is_writing(mode: str | None, flags: int) -> bool:
    if isinstance(mode, str):
        return not set(mode).isdisjoint('wax+')
    return bool(flags & 0b11)


_watch: list[Watch] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watch:
        _watch[-1].note(event, args)


@contextmanager
def limited(folder: Path) -> Iterator[Watch]:
    """Bound the memory that may be added, and watch time, files and processes."""
    if not getattr(sys, '_hostile_hook', False):
        sys.addaudithook(_hook)  # it cannot be removed
        sys._hostile_hook = True  # type: ignore[attr-defined]
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    watch = Watch(folder)
    _watch.append(watch)
    start = time.process_time()
    try:
        yield watch
    finally:
        watch.seconds = time.process_time() - start
        _watch.pop()
        resource.setrlimit(resource.RLIMIT_AS, before)
