"""Atomic writing: readers only ever see complete files, even with concurrent writers."""

from __future__ import annotations

import errno
import filecmp
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.errors import OutputError

#: Value of a table cell; None is written as ``n/a``.
Cell = str | float | bool | None

#: NIfTI code of vector data (5-D, three components in the fifth dimension).
NIFTI_INTENT_VECTOR = 1007
SCANNER_CODE, TEMPLATE_CODE = 1, 4


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Provide a temporary file that replaces ``path`` on success.

    The temporary name is unique and starts with a dot. Several processes may write the same file:
    the last one wins, and readers always see a complete file. A file with the same content is
    left unchanged.

    Parameters
    ----------
    path : path
        File to write; missing folders are created.

    Yields
    ------
    pathlib.Path
        Temporary file with the extension of ``path``.

    Raises
    ------
    OutputError
        If the disk is full or the folder is not writable.
    """
    path = Path(path)
    temporary = path.with_name(f'.{uuid.uuid4().hex}_{path.name}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if path.is_file() and filecmp.cmp(temporary, path, shallow=False):
            return
        os.replace(temporary, path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


#: Advice when the disk is full.
FULL_ADVICE = 'The disk or the quota is full: free some space and run the same command again.'


def _explained(error: OSError, path: Path) -> OutputError:
    if isinstance(error, OutputError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f'{path} cannot be written: {error.strerror}.', FULL_ADVICE)
    return OutputError(f'{path} cannot be written: {error.strerror or error}.')


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file (UTF-8) atomically; return its path."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
    return Path(path)


def write_json(path: str | Path, content: Any) -> Path:
    """Write JSON atomically; NaN and infinity become null.

    Parameters
    ----------
    path : path
        The file to write.
    content : mapping or list
        Plain types, numpy numbers and arrays, and paths.

    Returns
    -------
    pathlib.Path
        The file written.
    """
    return write_text(path, json.dumps(to_json_types(content), indent=2, allow_nan=False) + '\n')


def to_json_types(value: Any) -> Any:
    """Convert numpy types and paths to JSON types (NaN and infinity to None).

    Examples
    --------
    >>> to_json_types({'a': np.float32(0.5), 'b': (1, float('nan'))})
    {'a': 0.5, 'b': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): to_json_types(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_json_types(value.tolist())
    if isinstance(value, list | tuple):
        return [to_json_types(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        return value.as_posix()
    return value


def write_tsv(
    path: str | Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> Path:
    """Write a BIDS table atomically.

    Parameters
    ----------
    path : path
        The file to write.
    rows : sequence of mapping
        Values by column; None and NaN become ``n/a``, booleans ``true`` and ``false``.
    columns : sequence of str, optional
        Columns in order; by default those of the first row.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    ValueError
        If both rows and columns are missing.
    """
    if columns is None:
        if not rows:
            raise ValueError('A table without rows needs a list of columns.')
        columns = list(rows[0])
    lines = ['\t'.join(columns)]
    lines += ['\t'.join(_cell(row.get(column)) for column in columns) for row in rows]
    return write_text(path, '\n'.join(lines) + '\n')


def _cell(value: Any) -> str:
    value = to_json_types(value)
    if value is None or value == '':
        return 'n/a'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f'{value:.8g}'
    return str(value)


def copy_file(source: str | Path, path: str | Path) -> Path:
    """Copy a file atomically, with default permissions; return the new path."""
    with atomic(path) as temporary:
        shutil.copyfile(source, temporary)
    return Path(path)


def write_nifti(
    path: str | Path, data: np.ndarray, affine: np.ndarray, *, template: bool, dtype: Any = None
) -> Path:
    """Write a NIfTI image atomically, sform equal to qform.

    Parameters
    ----------
    path : path
        The file to write (``.nii.gz``).
    data : numpy.ndarray
        (X, Y, Z), or (3, X, Y, Z) for a vector field, which becomes a 5-D vector image
        (X, Y, Z, 1, 3).
    affine : numpy.ndarray
        4 x 4, voxel indices to world coordinates (RAS+ mm).
    template : bool
        Whether the world is a template's (code 4) or the scanner's (code 1).
    dtype : numpy type, optional
        Type on disk; uint8 for booleans and float32 otherwise by default.

    Returns
    -------
    pathlib.Path
        The file written.
    """
    import nibabel as nib

    if dtype is None:
        dtype = np.uint8 if data.dtype == bool else np.float32
    is_vector = data.ndim == 4
    if is_vector:
        data = np.moveaxis(data, 0, -1)[..., None, :]
    image = nib.Nifti1Image(np.asarray(data, dtype=dtype), affine)
    if is_vector:
        image.header.set_intent(NIFTI_INTENT_VECTOR)
    stamp(image, affine, template=template)
    with atomic(path) as temporary:
        image.to_filename(temporary)
    return Path(path)


def stamp(image: Any, affine: np.ndarray, *, template: bool) -> None:
    """Set sform and qform of a nibabel image to one affine, with the code of its world.

    A qform cannot hold shears: it is then left unset, so that the two never contradict.
    """
    code = TEMPLATE_CODE if template else SCANNER_CODE
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    if not np.allclose(image.get_qform(), affine, atol=1e-3):
        image.set_qform(None, 0)
    image.header.set_xyzt_units('mm')


def copy_nifti(source: str | Path, path: str | Path, *, template: bool, dtype: Any = None) -> Path:
    """Copy a NIfTI image atomically; its header is put right where it is not.

    Parameters
    ----------
    source, path : path
        The image and where it goes (both ``.nii.gz``).
    template : bool
        Whether its world is a template's (code 4) or the scanner's (code 1).
    dtype : numpy type, optional
        Type on disk that the image must have; any by default.

    Returns
    -------
    pathlib.Path
        The file written.
    """
    import nibabel as nib

    image = nib.Nifti1Image.from_filename(source)
    has_dtype = dtype is None or image.get_data_dtype() == dtype
    if Path(source).suffix == '.gz' and has_dtype and _is_stamped(image, template):
        return copy_file(source, path)
    # Scaled integers lose their scale here, so that floats are kept as floats.
    kept = np.dtype(np.float32 if dtype is None else dtype)
    data = image.get_fdata(dtype=np.float32)
    if np.issubdtype(kept, np.integer):
        data = np.rint(data)
    fixed = nib.Nifti1Image(data.astype(kept), image.affine)
    stamp(fixed, image.affine, template=template)
    with atomic(path) as temporary:
        fixed.to_filename(temporary)
    return Path(path)


def _is_stamped(image: Any, template: bool) -> bool:
    code = TEMPLATE_CODE if template else SCANNER_CODE
    qform, qcode = image.get_qform(coded=True)
    sform, scode = image.get_sform(coded=True)
    if qcode == 0:
        return bool(scode == code)
    return scode == qcode == code and np.allclose(qform, sform, atol=1e-3)


def no_map(path: str | Path) -> Path:
    """Leave a file of no bytes in the place of a map that turned out not to exist.

    nipype keeps the results of a node relative to the work directory, which may move; but only
    files, no empty names.
    """
    path = Path(path)
    path.write_bytes(b'')
    return path


def is_no_map(path: str | Path) -> bool:
    """Say whether a file stands for a map that does not exist, see :func:`no_map`."""
    return Path(path).stat().st_size == 0
