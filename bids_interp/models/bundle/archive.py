"""A model bundle as one file: a zip archive of exactly the files that its configuration names."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from bids_interp.errors import ModelError
from bids_interp.models.bundle.reader import (
    CONFIG,
    ModelBundle,
    load_bundle,
    sha256_of,
    verify_bundle,
)

#: Nothing in an archive depends on when or by whom it was made.
EPOCH = (1980, 1, 1, 0, 0, 0)
MODE = 0o644
#: Largest configuration, and largest bundle, that is taken from an archive (bytes).
MAX_CONFIG = 64 * 2**20
MAX_TOTAL = 16 * 2**30
#: File types of entries (bits of ``st_mode``): not said, or a regular file; links are others.
_PLAIN = (0, 0o10)
#: Exceptions of a damaged archive; a password is a RuntimeError, an odd name a ValueError.
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError)


def export_bundle(directory: Path | str, archive: Path | str, *, overwrite: bool = False) -> Path:
    """Write a bundle as a zip archive; the same bundle always gives the same bytes.

    Parameters
    ----------
    directory : path-like
        The bundle; its files are checked first, and what it does not name is left out.
    archive : path-like
        File to write; it appears under its name only when it is whole.
    overwrite : bool
        Replace a file that is there.

    Raises
    ------
    ModelError
        If the bundle is damaged, or the file exists.
    """
    directory, archive = Path(directory), Path(archive)
    if archive.exists() and not overwrite:
        raise ModelError(f'{archive} exists already.', 'Give another name, or --overwrite.')
    bundle = load_bundle(directory)
    names = [CONFIG, *sorted(_checked_names(bundle.config.files, directory))]
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(f'.{archive.name}.{os.getpid()}.partial')
    try:
        # Weights do not shrink; stored as they are, they come out of every zlib the same.
        with zipfile.ZipFile(partial, 'w', zipfile.ZIP_STORED) as target:
            for name in names:
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.external_attr = MODE << 16
                entry.file_size = (directory / name).stat().st_size
                with (directory / name).open('rb') as source, target.open(entry, 'w') as sink:
                    shutil.copyfileobj(source, sink)
        os.replace(partial, archive)
    finally:
        partial.unlink(missing_ok=True)
    return archive


def import_bundle(
    archive: Path | str, directory: Path | str, *, overwrite: bool = False
) -> ModelBundle:
    """Unpack a bundle from a zip archive, which may come from anybody.

    Nothing is unpickled or run. Only plain files that the configuration names are written, all of
    them, with the size that the archive says and the SHA-256 that the configuration says.

    Parameters
    ----------
    archive : path-like
        Of :func:`export_bundle`.
    directory : path-like
        Folder to make; it appears only when the bundle is whole.
    overwrite : bool
        Replace a model bundle that is there.

    Raises
    ------
    ModelError
        If the archive is not one of a bundle, or the folder exists.
    """
    archive, directory = Path(archive), Path(directory)
    if directory.exists() and not (overwrite and _may_replace(directory)):
        raise ModelError(
            f'{directory} exists already.',
            'Give another folder, or --overwrite to replace a model bundle.',
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f'.{directory.name}.', dir=directory.parent))
    scratch.chmod(0o755)
    try:
        with zipfile.ZipFile(archive) as source:
            _check_entries(source, archive)
            # zipfile writes plain files, never more bytes than an entry says, and checks their CRC.
            source.extractall(scratch)
            for entry in source.infolist():
                if (scratch / entry.filename).stat().st_size != entry.file_size:
                    raise ModelError(
                        f'{archive}: {entry.filename!r} has another size than it says.'
                    )
        problems = [problem.replace(f'{scratch}/', '') for problem in verify_bundle(scratch)]
        if problems:
            raise ModelError(f'{archive}: {" ".join(problems)}', 'Get the file again.')
        load_bundle(scratch)
        if directory.exists():
            shutil.rmtree(directory)
        os.replace(scratch, directory)
    except _DAMAGE as error:
        raise ModelError(f'{archive} cannot be read: {error}.', 'Get the file again.') from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return load_bundle(directory)


def _may_replace(directory: Path) -> bool:
    """Only what looks like a bundle, so that a wrong word never empties another folder."""
    return not directory.is_symlink() and (directory / CONFIG).is_file()


def _check_entries(source: zipfile.ZipFile, archive: Path) -> None:
    """Refuse everything but the plain files that the configuration names, each once."""
    entries = {entry.filename: entry for entry in source.infolist()}
    if CONFIG not in entries:
        raise ModelError(f'{archive} holds no model bundle: it has no {CONFIG}.')
    if len(entries) < len(source.infolist()):
        raise ModelError(f'{archive} has a file twice.')
    if sum(entry.file_size for entry in entries.values()) > MAX_TOTAL:
        raise ModelError(f'{archive} is larger than {MAX_TOTAL // 2**30} GiB when unpacked.')
    if entries[CONFIG].file_size > MAX_CONFIG:
        raise ModelError(f'The {CONFIG} in {archive} is larger than {MAX_CONFIG // 2**20} MiB.')
    for name, entry in entries.items():
        if entry.is_dir() or entry.external_attr >> 28 not in _PLAIN:
            raise ModelError(f'{archive}: {name!r} is not a plain file.')
    config = json.loads(source.read(CONFIG))
    files = config.get('files') if isinstance(config, dict) else None
    for name in sorted({CONFIG, *_checked_names(files, archive)} ^ set(entries)):
        what = f'is not named by its {CONFIG}' if name in entries else 'is missing'
        raise ModelError(f'{archive}: {name!r} {what}.', 'Get the file again.')


def _checked_names(files: Any, where: Path) -> list[str]:
    """Names of files in the bundle's own folder, and of nothing else."""
    if not isinstance(files, dict):
        raise ModelError(f'{where}: its {CONFIG} has no table of files.')
    for name in files:
        plain = name == PurePosixPath(name).name and not name.startswith('.')
        if not plain or name in ('', CONFIG) or set(name) & set('\\:\0'):
            raise ModelError(f'{where}: {name!r} cannot be the name of a file of a bundle.')
    return list(files)


def archive_hash(archive: Path | str) -> str:
    """SHA-256 of an archive, to be published beside it."""
    return sha256_of(Path(archive))
