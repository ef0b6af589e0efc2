"""Images in the ``anat`` folders of a dataset, as they lie on disk."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pathspec import GitIgnoreSpec

from bids_interp.bids.names import visible
from bids_interp.bids.read.tsv import read_text

IMAGES = ('.nii', '.nii.gz')
#: Suffixes of T1w images; UNIT1 is the uniform image of MP2RAGE.
SUFFIXES = ('T1w', 'UNIT1')


class Ignored:
    """Files that the ``.bidsignore`` of a dataset names; its syntax is that of ``.gitignore``.

    Parameters
    ----------
    bids_dir : Path
        Root of the dataset; its ``.bidsignore`` need not exist.

    Raises
    ------
    InputDatasetError
        If the file cannot be read.
    """

    def __init__(self, bids_dir: Path) -> None:
        self.root = bids_dir
        path = bids_dir / '.bidsignore'
        lines = read_text(path).splitlines() if path.is_file() else []
        self._patterns = GitIgnoreSpec.from_lines(lines)

    def __contains__(self, path: Path) -> bool:
        relative = path.relative_to(self.root).as_posix()
        return any(self._patterns.match_file(name) for name in (relative, f'{relative}/'))

    def kept(self, paths: Iterable[Path]) -> list[Path]:
        """Return the paths that are not ignored."""
        return [path for path in paths if path not in self]


def list_subjects(bids_dir: Path) -> list[str]:
    """Return the labels of all ``sub-`` folders of a dataset that are not ignored, sorted.

    Labels that BIDS does not allow are included, also an empty one.
    """
    folders = (path for path in bids_dir.glob('sub-*') if path.is_dir())
    return sorted(path.name.removeprefix('sub-') for path in Ignored(bids_dir).kept(folders))


def anat_files(bids_dir: Path, subject: str) -> list[Path]:
    """Return the images of a participant in the folders ``anat``, sorted.

    Hidden files, such as the twins ``._*`` of macOS, and sub-folders of ``anat`` are left out.
    Links to a folder above are not followed.

    Parameters
    ----------
    bids_dir : Path
        Root of the dataset.
    subject : str
        Label without ``sub-``.
    """
    folder = bids_dir / f'sub-{subject}'
    sessions = (path for path in folder.glob('ses-*') if path.is_dir() and not _leads_up(path))
    anats = (place / 'anat' for place in (folder, *sessions))
    found = (path for anat in anats if anat.is_dir() for path in visible(anat.iterdir()))
    return sorted(path for path in found if path.name.endswith(IMAGES) and not path.is_dir())


def lesion_masks(anat: Path) -> list[Path]:
    """Return the lesion masks in an ``anat`` folder (``label-lesion_mask``, ``_roi``), sorted."""
    images = [path for path in visible(anat.glob('*')) if path.name.endswith(IMAGES)]
    return sorted(
        path
        for path in images
        if suffix_of(path) == 'roi'
        or (suffix_of(path) == 'mask' and re.search(r'_(label|desc)-lesion', path.name))
    )


def suffix_of(path: Path) -> str:
    """Return the BIDS suffix of a file name.

    Examples
    --------
    >>> suffix_of(Path('sub-01_inv-1_MP2RAGE.nii.gz'))
    'MP2RAGE'
    """
    return path.name.split('.nii')[0].rpartition('_')[2]


def _leads_up(path: Path) -> bool:
    """Return whether a link leads to a folder that contains it."""
    home = path.parent.resolve()
    return path.is_symlink() and path.resolve() in (home, *home.parents)
