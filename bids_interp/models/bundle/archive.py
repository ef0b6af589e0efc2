"""Archive of a model bundle: a zip file of exactly the files that its configuration lists."""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

from bids_interp.bids.write.temporaries import new_folder, put_in_place
from bids_interp.errors import ModelError
from bids_interp.models.bundle.contents import is_plain_name, sha256_of
from bids_interp.models.bundle.reader import ModelBundle, load_bundle
from bids_interp.models.bundle.schema import CONFIG
from bids_interp.records import parse_json

#: Fixed time and mode of all entries, so that an archive is reproducible.
EPOCH = (1980, 1, 1, 0, 0, 0)
MODE = 0o644
#: Largest accepted configuration and largest accepted bundle (bytes).
MAX_CONFIG = 64 * 2**20
MAX_TOTAL = 16 * 2**30
#: Largest accepted ratio of the bundle to its archive; weights hardly compress.
MAX_RATIO = 20
#: Accepted file types of entries (bits of ``st_mode``): unspecified, or a regular file.
_PLAIN = (0, 0o10)
#: Exceptions of a damaged archive; a password gives a RuntimeError, an odd name a ValueError.
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError)


def export_bundle(directory: Path | str, archive: Path | str, *, overwrite: bool = False) -> Path:
    """Write a bundle as a reproducible zip archive.

    Parameters
    ----------
    directory : path-like
        The bundle; its files are checked first, and files that it does not list are ignored.
    archive : path-like
        File to write; it appears only when it is complete.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    ModelError
        If the bundle is damaged, or the file exists.
    """
    directory, archive = Path(directory), Path(archive)
    if archive.exists() and not overwrite:
        raise ModelError(f'{archive} already exists.', 'Choose another name, or use --overwrite.')
    bundle = load_bundle(directory)
    names = [CONFIG, *sorted(bundle.config.files)]
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(f'.{archive.name}.{os.getpid()}.partial')
    try:
        # Weights hardly compress, and stored entries do not depend on the version of zlib.
        with zipfile.ZipFile(partial, 'w', zipfile.ZIP_STORED) as target:
            for name in names:
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.external_attr = MODE << 16
                entry.file_size = (directory / name).stat().st_size
                with (directory / name).open('rb') as source, target.open(entry, 'w') as sink:
                    shutil.copyfileobj(source, sink)
        put_in_place(partial, archive)
    finally:
        partial.unlink(missing_ok=True)
    return archive


def import_bundle(
    archive: Path | str, directory: Path | str, *, overwrite: bool = False
) -> ModelBundle:
    """Unpack a bundle from a zip archive of any origin.

    Nothing is unpickled or run. Exactly the plain files that the configuration lists are written;
    their sizes must agree with the archive and their SHA-256 with the configuration.

    Parameters
    ----------
    archive : path-like
        Archive made by :func:`export_bundle`.
    directory : path-like
        Folder to make; it appears only when the bundle is complete.
    overwrite : bool
        Replace an existing model bundle.

    Raises
    ------
    ModelError
        If the archive does not contain a bundle, or the folder exists.
    """
    archive, directory = Path(archive), Path(directory)
    if directory.exists() and not (overwrite and _may_replace(directory)):
        raise ModelError(
            f'{directory} already exists.',
            'Choose another folder, or use --overwrite to replace a model bundle.',
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        with new_folder(directory) as scratch:
            with zipfile.ZipFile(archive) as source:
                _check_entries(source, archive)
                # zipfile writes plain files of at most the declared size, and checks their CRC.
                source.extractall(scratch)
                for entry in source.infolist():
                    if (scratch / entry.filename).stat().st_size != entry.file_size:
                        raise ModelError(
                            f'{archive}: {entry.filename!r} does not have its declared size.'
                        )
            try:
                load_bundle(scratch)
            except ModelError as error:
                message = error.message.replace(f'{scratch}/', '')
                raise ModelError(f'{archive}: {message}', 'Download the file again.') from error
    except _DAMAGE as error:
        raise ModelError(
            f'{archive} cannot be read: {error}.', 'Download the file again.'
        ) from error
    return load_bundle(directory)


def _may_replace(directory: Path) -> bool:
    """Return True only for a bundle, so that a typing error never deletes another folder."""
    return not directory.is_symlink() and (directory / CONFIG).is_file()


def _check_entries(source: zipfile.ZipFile, archive: Path) -> None:
    """Refuse everything except the plain files that the configuration lists, each once."""
    entries = {entry.filename: entry for entry in source.infolist()}
    if CONFIG not in entries:
        raise ModelError(f'{archive} does not contain a model bundle: {CONFIG} is missing.')
    if len(entries) < len(source.infolist()):
        raise ModelError(f'{archive} contains a file twice.')
    if sum(entry.file_size for entry in entries.values()) > MAX_TOTAL:
        raise ModelError(f'{archive} is larger than {MAX_TOTAL // 2**30} GiB when unpacked.')
    limit = MAX_RATIO * archive.stat().st_size
    if sum(entry.file_size for entry in entries.values()) > max(limit, MAX_CONFIG):
        raise ModelError(f'{archive} holds much more than a bundle of its size can hold.')
    for name, entry in entries.items():
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelError(f'{archive}: {name!r} is compressed by an unusual method.')
    if entries[CONFIG].file_size > MAX_CONFIG:
        raise ModelError(f'The {CONFIG} in {archive} is larger than {MAX_CONFIG // 2**20} MiB.')
    for name, entry in entries.items():
        if entry.is_dir() or entry.external_attr >> 28 not in _PLAIN:
            raise ModelError(f'{archive}: {name!r} is not a plain file.')
    config = parse_json(source.read(CONFIG))
    files = config.get('files') if isinstance(config, dict) else None
    for name in sorted({CONFIG, *_checked_names(files, archive)} ^ set(entries)):
        what = f'is not listed in {CONFIG}' if name in entries else 'is missing'
        raise ModelError(f'{archive}: {name!r} {what}.', 'Download the file again.')


def _checked_names(files: Any, where: Path) -> list[str]:
    """Return the listed file names; refuse names that lead out of the bundle's folder."""
    if not isinstance(files, dict):
        raise ModelError(f'{where}: {CONFIG} does not list any files.')
    for name in files:
        if not is_plain_name(name):
            raise ModelError(f'{where}: {name!r} is not a valid file name in a bundle.')
    return list(files)


def archive_hash(archive: Path | str) -> str:
    """Return the SHA-256 of an archive, for publication with it."""
    return sha256_of(Path(archive))
