"""A model bundle as one file: a zip archive of exactly the files that its configuration names."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from bids_interp.errors import ModelError
from bids_interp.models.bundle import CONFIG, ModelBundle, load_bundle, sha256_of, verify_bundle

#: Nothing in an archive depends on when or by whom it was made.
EPOCH = (1980, 1, 1, 0, 0, 0)
MODE = 0o644
#: Largest configuration, and largest bundle, that is taken from an archive (bytes).
MAX_CONFIG = 64 * 2**20
MAX_TOTAL = 16 * 2**30


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
            _unpack(source, archive, scratch)
        problems = [problem.replace(f'{scratch}/', '') for problem in verify_bundle(scratch)]
        if problems:
            raise ModelError(f'{archive}: {" ".join(problems)}', 'Get the file again.')
        load_bundle(scratch)
        if directory.exists():
            shutil.rmtree(directory)
        os.replace(scratch, directory)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        raise ModelError(f'{archive} cannot be read: {error}.', 'Get the file again.') from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return load_bundle(directory)


def _may_replace(directory: Path) -> bool:
    """Only what looks like a bundle, so that a wrong word never empties another folder."""
    return not directory.is_symlink() and (directory / CONFIG).is_file()


def _unpack(source: zipfile.ZipFile, archive: Path, folder: Path) -> None:
    entries = source.infolist()
    names = [entry.filename for entry in entries]
    if CONFIG not in names:
        raise ModelError(f'{archive} holds no model bundle: it has no {CONFIG}.')
    if len(set(names)) != len(names):
        raise ModelError(f'{archive} has a file twice.')
    wanted = {CONFIG, *_checked_names(_read_files(source, archive), archive)}
    for name in sorted(set(names) ^ wanted):
        what = 'is missing' if name in wanted else f'is not named by its {CONFIG}'
        raise ModelError(f'{archive}: {name!r} {what}.', 'Get the file again.')
    if sum(entry.file_size for entry in entries) > MAX_TOTAL:
        raise ModelError(f'{archive} is larger than {MAX_TOTAL // 2**30} GiB when unpacked.')
    for entry in entries:
        _copy(source, entry, folder / entry.filename, archive)


def _read_files(source: zipfile.ZipFile, archive: Path) -> Any:
    """Files that the configuration in an archive names."""
    entry = source.getinfo(CONFIG)
    if entry.file_size > MAX_CONFIG:
        raise ModelError(f'{archive}: its {CONFIG} has {entry.file_size} bytes, which is absurd.')
    try:
        with source.open(entry) as stream:
            return json.loads(stream.read(MAX_CONFIG + 1))['files']
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f'{archive}: its {CONFIG} cannot be read: {error}.') from error


def _checked_names(files: Any, where: Path) -> list[str]:
    """Names of files in the bundle's own folder, and of nothing else."""
    if not isinstance(files, dict):
        raise ModelError(f'{where}: the files of its {CONFIG} are no table.')
    for name in files:
        is_plain = PurePosixPath(name).name == name and name not in ('', '.', '..')
        if not is_plain or name.startswith('.') or name == CONFIG or set(name) & set('\\:\0'):
            raise ModelError(f'{where}: {name!r} is no name of a file of a bundle.')
    return list(files)


def _copy(source: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, archive: Path) -> None:
    """Write one file, never more than its entry says."""
    kind = entry.external_attr >> 28
    if entry.is_dir() or kind not in (0, 0o10):
        raise ModelError(f'{archive}: {entry.filename!r} is no plain file.')
    left = entry.file_size
    with source.open(entry) as stream, path.open('xb') as sink:
        while chunk := stream.read(min(2**20, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise ModelError(f'{archive}: {entry.filename!r} is larger than it says.')
            sink.write(chunk)


def archive_hash(archive: Path | str) -> str:
    """SHA-256 of an archive, to be published beside it."""
    return sha256_of(Path(archive))
