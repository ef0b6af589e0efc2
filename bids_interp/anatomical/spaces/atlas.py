"""Atlas: a label image with names, in any MNI space, looked up at points of another template."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bids_interp.anatomical.spaces.template_transform import template_transform
from bids_interp.anatomical.templates import flow_home
from bids_interp.bids.entities import LABEL
from bids_interp.constants import EMBEDDED_TEMPLATE, SEGMENTATIONS
from bids_interp.errors import TemplateError
from bids_interp.phantom.regions.atlas import read_label_image, read_label_names
from bids_interp.settings import NATIVE_SPACE, Settings

logger = logging.getLogger('bids_interp')

#: Templates in whose folders an atlas is searched after that of the model.
ATLAS_TEMPLATES = ('MNI152NLin2009cAsym', 'MNI152NLin6Asym')
_SPACE = re.compile(r'(?:^tpl|_space)-([a-zA-Z0-9+]+)')
_SIDES = (
    (re.compile(r'^(left|lh|l)[ _.-]+(.+)$', re.I), 'left'),
    (re.compile(r'^(right|rh|r)[ _.-]+(.+)$', re.I), 'right'),
    (re.compile(r'^(.+?)[ _.-]+(left|lh|l)$', re.I), 'left'),
    (re.compile(r'^(.+?)[ _.-]+(right|rh|r)$', re.I), 'right'),
)
_SIDE_NAMES = {'left', 'right', 'lh', 'rh', 'l', 'r'}


@dataclass(frozen=True)
class Atlas:
    """Label image with names.

    Parameters
    ----------
    path : pathlib.Path
        File of the image.
    space : str
        Template of the image, or ``T1w`` for the segmentation of a scan.
    names : dict
        Name of each label; empty without a table.
    label : str
        Label in file names: letters and digits.
    """

    path: Path
    space: str
    names: dict[int, str] = field(hash=False)
    label: str

    @cached_property
    def image(self) -> nib.Nifti1Image:
        """Labels (X, Y, Z) int32, 0 outside.

        Raises
        ------
        UsageError
            If the file is not a label image.
        """
        return read_label_image(self.path)

    def at(
        self, points: np.ndarray, space: str, *, offline: bool = True, threads: int = 1
    ) -> np.ndarray:
        """Return the labels (N,) at world points (3, N), in mm, of a template.

        Raises
        ------
        TemplateError
            If there is no transform between the two templates.
        """
        if space != self.space:
            points = template_transform(space, self.space, offline=offline, threads=threads)(points)
        return nearest_values(self.image, points)

    def name(self, label: int) -> str:
        """Return the name of a label."""
        return self.names.get(label, f'region {label}')


def nearest_values(image: nib.Nifti1Image, points: np.ndarray) -> np.ndarray:
    """Return the values (N,) of the voxels nearest to world points (3, N) in mm, 0 outside."""
    places = nib.affines.apply_affine(np.linalg.inv(image.affine), points.T)
    voxels = np.rint(places).astype(int)
    inside = ((voxels >= 0) & (voxels < image.shape)).all(axis=1)
    data = np.asarray(image.dataobj)
    values = np.zeros(len(voxels), data.dtype)
    values[inside] = data[tuple(voxels[inside].T)]
    return values


def split_side(name: str) -> tuple[str, str]:
    """Split a name into region and side.

    Examples
    --------
    >>> split_side('Left-Thalamus'), split_side('hippocampus_R'), split_side('Brain-Stem')
    (('Thalamus', 'left'), ('hippocampus', 'right'), ('Brain-Stem', 'midline'))
    >>> split_side('ctx-rh-insula')
    ('ctx-insula', 'right')
    """
    name = re.sub(r'^(ctx)[-_](lh|rh)[-_](.+)$', r'\2-\1-\3', name.strip())
    for pattern, side in _SIDES:
        match = pattern.match(name)
        if match:
            return match[2] if match[1].lower() in _SIDE_NAMES else match[1], side
    return name, 'midline'


def segmentation_atlas(name: str, path: Path, labels: Path | None = None) -> Atlas:
    """Return a segmentation of one scan by another tool, one of `SEGMENTATIONS`.

    Parameters
    ----------
    name : str
        Name of the segmentation.
    path : pathlib.Path
        Label image in the world of the scan.
    labels : pathlib.Path, optional
        Table of region names; by default the names of FreeSurfer, whose numbers SynthSeg shares.
    """
    table = labels or Path(str(files('bids_interp.data') / 'freesurfer_labels.tsv'))
    return Atlas(path, NATIVE_SPACE, read_label_names(table), SEGMENTATIONS[name])


def scan_atlas(
    settings: Settings, template: str, segmentation: Path | None, *, check: bool = False
) -> Atlas | None:
    """Return the atlas of one scan.

    Parameters
    ----------
    settings : Settings
        Settings with ``atlas`` and ``atlas_labels``.
    template : str
        Template of the model.
    segmentation : pathlib.Path, optional
        Label image of the scan by another tool.
    check : bool
        Read the image, too.

    Returns
    -------
    Atlas or None
        None without ``--atlas``, or if the scan lacks the segmentation.

    Raises
    ------
    UsageError, TemplateError
        See :func:`read_atlas`.
    """
    if settings.atlas is None:
        return None
    labels = settings.atlas_labels
    if settings.atlas not in SEGMENTATIONS:
        offline = settings.offline
        return read_atlas(settings.atlas, labels, template, offline=offline, check=check)
    return segmentation_atlas(settings.atlas, segmentation, labels) if segmentation else None


def read_atlas(
    text: str, labels: Path | None, space: str, *, offline: bool = True, check: bool = True
) -> Atlas:
    """Read an atlas given by a user.

    Parameters
    ----------
    text : str
        ``[TEMPLATE:]FILE``, or ``[TEMPLATE:]NAME`` of an atlas in TemplateFlow. Without a template,
        a file is in the space that its name says (``space-`` or ``tpl-``), else in that of the
        model; a name is searched in the folder of the model's template, then in others.
    labels : pathlib.Path, optional
        Table of region names; by default the one beside the image.
    space : str
        Template of the model.
    offline : bool
        Do not download an atlas from TemplateFlow.
    check : bool
        Read the image, too.

    Raises
    ------
    UsageError
        If image or table is missing or invalid.
    TemplateError
        If TemplateFlow has no such atlas on this machine.
    """
    path, own, table = _locate(text, space, offline)
    labels = labels or table or _table_next_to(path)
    atlas = Atlas(path, own, read_label_names(labels) if labels else {}, _label_of(path))
    if check:
        _ = atlas.image
    return atlas


def _label_of(path: Path) -> str:
    """Return the label of an atlas in file names, from its own name.

    Examples
    --------
    >>> _label_of(Path('tpl-A_res-01_atlas-Schaefer2018_desc-400Parcels_dseg.nii.gz'))
    'Schaefer2018400Parcels'
    >>> _label_of(Path('my atlas.nii.gz'))
    'myatlas'
    """
    entities = dict(re.findall(rf'(?:^|_)([a-z]+)-({LABEL.pattern})', path.name))
    name = entities.get('seg') or entities.get('atlas')
    if name:
        return name + entities.get('desc', '')
    return ''.join(c for c in path.name.split('.')[0] if c.isascii() and c.isalnum()) or 'atlas'


def _locate(text: str, space: str, offline: bool) -> tuple[Path, str, Path | None]:
    """Return image, template and TemplateFlow's table of an atlas."""
    path = Path(text).expanduser()
    if path.is_file():
        return path, _space_of(path, space), None
    template, colon, rest = text.partition(':')
    if colon and Path(rest).expanduser().is_file():
        return Path(rest).expanduser(), template, None
    name = rest if colon else text
    templates = (template,) if colon else (space, *ATLAS_TEMPLATES)
    for owner in templates:
        found = _in_templateflow(name, owner)
        if found is not None:
            return found[0], owner, found[1]
    if not offline:
        # Nobody has atlases for the embedded template.
        own = (t for t in templates if t != EMBEDDED_TEMPLATE)
        owner = next(own)
        _download(name, owner)
        found = _in_templateflow(name, owner)
        if found is not None:
            return found[0], owner, found[1]
    where = ', '.join(str(flow_home() / f'tpl-{owner}') for owner in dict.fromkeys(templates))
    raise TemplateError(
        f'--atlas {text} is neither a file nor an atlas in {where}.',
        'Give the path of a label image, or omit the option to use the built-in regions.',
    )


def _space_of(path: Path, space: str) -> str:
    """Return the template in the name of a file, if it is one; else that of the model."""
    named = _SPACE.search(path.name)
    if named is None or named[1] == space:
        return space
    if named[1].startswith('MNI152NLin') or (flow_home() / f'tpl-{named[1]}').is_dir():
        return named[1]
    logger.warning(
        'The space %s in the name of %s is not a template; the atlas is taken to be in %s. Give '
        'TEMPLATE:FILE if it is in another one.',
        named[1],
        path,
        space,
    )
    return space


def _table_next_to(path: Path) -> Path | None:
    table = path.with_name(path.name.split('.', 1)[0] + '.tsv')
    return table if table.is_file() else None


def _in_templateflow(text: str, space: str) -> tuple[Path, Path | None] | None:
    """Return image and table of ``NAME`` or ``NAME:DESC``, preferably at 1 mm, if they exist."""
    name, _, desc = text.partition(':')
    folder = flow_home() / f'tpl-{space}'
    wanted = f'_desc-{desc}_' if desc else '_'
    found = [
        path
        for resolution in ('01', '1', '02', '2')
        for path in sorted(folder.glob(f'tpl-*res-{resolution}_atlas-{name}_*dseg.nii.gz'))
        if path.stat().st_size and wanted in path.name
    ]
    if not found:
        return None
    stem = re.sub(r'_res-\w+?(?=_)', '', found[0].name).removesuffix('.nii.gz')
    table = found[0].with_name(f'{stem}.tsv')
    return found[0], table if table.is_file() and table.stat().st_size else None


def _download(text: str, space: str) -> None:
    name, _, desc = text.partition(':')
    chosen: dict[str, Any] = {'atlas': name, 'suffix': 'dseg', **({'desc': desc} if desc else {})}
    try:
        from templateflow import api

        api.get(space, resolution=1, extension='.nii.gz', **chosen)
        api.get(space, extension='.tsv', **chosen)
    except Exception as error:  # the client raises whatever its transport raises
        raise TemplateError(f'The atlas {name} could not be downloaded: {error}.') from error
