"""Tools: where other tools keep brain and regions of an image, one row of a table each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bids_interp.bids.read.query import T1wRecord

#: Folders in which tools write one file per image. Some write into a folder below that of the scan.
_BESIDE = ('.', '{sub}', '{sub}/anat', '{sub}/{ses}', '{sub}/{ses}/anat')
_BELOW = (*_BESIDE, *(f'{folder}/mri' for folder in _BESIDE))
#: Folders of the tools that write one folder per image: by the name of the image, of the session if
#: it has one image, or of the participant with one image.
_SUBJECTS = ('{scan}', '{prefix}', '{sub}_{ses}', '{sub}/{ses}', '{sub}')
#: Masks of something else than the brain.
_NO_BRAIN = re.compile(
    r'lesion|roi|ribbon|defac|face|head|skull(?!strip)|wmh|tumou?r|_(gm|wm|csf)_|cereb|hippo', re.I
)


@dataclass(frozen=True)
class Tool:
    """Names under which a tool keeps the brain of an image.

    Parameters
    ----------
    name : str
        Name for messages.
    folders : tuple of str
        Folders below that of the tool.
    files : tuple of tuple of str
        Alternatives, the preferred one first. Each lists the files that it needs; the first one
        stands for all.
    """

    name: str
    folders: tuple[str, ...]
    files: tuple[tuple[str, ...], ...]

    @property
    def is_foldered(self) -> bool:
        """True if the tool makes a folder for each image."""
        return self.folders is _SUBJECTS


#: In this order, so that what a tool made on purpose is preferred to a general mask.
TOOLS = (
    Tool(
        'FreeSurfer or FastSurfer',
        _SUBJECTS,
        (
            ('mri/brainmask.mgz',),
            ('mri/mask.mgz',),
            ('mri/aparc+aseg.mgz',),
            ('mri/aparc.DKTatlas+aseg.deep.mgz',),
            ('mri/aseg.mgz',),
        ),
    ),
    Tool('CAT12', _BELOW, (('p0{scan}.nii*',),)),
    Tool('SPM', _BELOW, (('c1{scan}.nii*', 'c2{scan}.nii*', 'c3{scan}.nii*'),)),
    Tool('SynthSeg', _BESIDE, (('{scan}_synthseg.nii*',), ('{scan}_synthseg.mgz',))),
    Tool('brain mask', _BESIDE, (('{prefix}_*mask.nii*',), ('{prefix}_*mask.mgz',))),
)


#: Label images of the regions of one scan, by their names for --atlas.
SEGMENTED = {
    'aparc+aseg': (
        Tool(
            'FreeSurfer or FastSurfer',
            _SUBJECTS,
            (
                ('mri/aparc+aseg.mgz',),
                ('mri/aparc.DKTatlas+aseg.mapped.mgz',),
                ('mri/aparc.DKTatlas+aseg.deep.mgz',),
            ),
        ),
    ),
    'aseg': (Tool('FreeSurfer or FastSurfer', _SUBJECTS, (('mri/aseg.mgz',),)),),
    'synthseg': (Tool('SynthSeg', _BESIDE, (('{scan}_synthseg.nii*',), ('{scan}_synthseg.mgz',))),),
}


@dataclass(frozen=True)
class FoundFile:
    """File of a tool that belongs to an image, or why there is none.

    Parameters
    ----------
    path : pathlib.Path or None
        File to use.
    notes : tuple of str
        What is missing or ambiguous.
    """

    path: Path | None = None
    notes: tuple[str, ...] = ()


def find_tool_file(
    record: T1wRecord,
    siblings: Sequence[T1wRecord],
    folder: Path,
    tools: Sequence[Tool] = TOOLS,
) -> FoundFile:
    """Find the file of an image that another tool has made, by default its brain.

    Parameters
    ----------
    record : T1wRecord
        The image.
    siblings : sequence of T1wRecord
        All T1w images of the participants. A folder of a session or a participant with several
        images belongs to none of them.
    folder : pathlib.Path
        Folder of the tool.
    tools : sequence of Tool
        Files to look for.
    """
    notes: list[str] = []
    for tool in tools:
        for place in _places(tool, record, siblings, folder):
            found = _complete(tool, record, siblings, place)
            if isinstance(found, Path):
                return FoundFile(found, tuple(notes))
            notes += [found] if found else []
    return FoundFile(None, tuple(notes))


def _names(record: T1wRecord) -> dict[str, str]:
    """Return the values of the placeholders; without a session, ``ses`` is empty."""
    scan = record.path.name.removesuffix('.gz').removesuffix('.nii')
    session = f'ses-{record.session}' if record.session else ''
    return {
        'scan': scan,
        'prefix': scan.rpartition('_')[0],
        'sub': f'sub-{record.subject}',
        'ses': session,
    }


def _places(
    tool: Tool, record: T1wRecord, siblings: Sequence[T1wRecord], folder: Path
) -> Iterator[Path]:
    names = _names(record)
    own = [other for other in siblings if other.subject == record.subject]
    in_session = [other for other in own if other.session == record.session]
    seen = set()
    for template in tool.folders:
        if '{ses}' in template and not names['ses']:
            continue
        if tool.is_foldered and '{sub}' in template:
            rivals = in_session if '{ses}' in template else own
            if len(rivals) > 1:
                continue
        place = folder / template.format(**names)
        if place.is_dir() and place not in seen:
            seen.add(place)
            yield place


def _complete(
    tool: Tool, record: T1wRecord, siblings: Sequence[T1wRecord], place: Path
) -> Path | str | None:
    """Return the file to use, what is missing or ambiguous, or None if there is nothing."""
    names, lacking = _names(record), ''
    for alternative in tool.files:
        found: list[Path | str] = []
        for pattern in alternative:
            files = [
                path
                for path in sorted(place.glob(pattern.format(**names)))
                if not path.name.startswith('.') and _is_of(record, siblings, path)
            ]
            if len(files) > 1:
                shown = ', '.join(path.name for path in files)
                return f'{place} has several files for the brain ({shown}), and none is used'
            found += files or [pattern.format(**names)]
        missing = [name for name in found if isinstance(name, str)]
        if not missing:
            return Path(found[0])
        if len(missing) < len(found):
            lacking = f'{place} ({tool.name}) lacks {", ".join(missing)}'
    if not lacking and tool.is_foldered and (place / 'mri').is_dir():
        wanted = ' and '.join(alternative[0] for alternative in tool.files)
        lacking = f'{place} ({tool.name}) lacks {wanted}'
    return lacking or None


def _is_of(record: T1wRecord, siblings: Sequence[T1wRecord], path: Path) -> bool:
    """Return True if a file shows the brain of this image and of no other."""
    names = _names(record)
    entities = dict(re.findall(r'(?:^|_|p0|c[123])([a-z]+)-([a-zA-Z0-9+]+)', path.name))
    kind = entities.pop('label', 'brain')
    entities.pop('desc', None)
    remark = path.name.rpartition(names['prefix'])[2]
    if kind != 'brain' or _NO_BRAIN.search(remark):
        return False
    if not entities.items() <= record.entities.items():
        return False
    # A name without the suffix, such as sub-01_desc-brain_mask, may stand for an average.
    fitting = [other for other in siblings if entities.items() <= other.entities.items()]
    return not entities or names['scan'] in path.name or len(fitting) < 2
