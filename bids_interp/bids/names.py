"""Names of derivatives: a table of patterns that pybids fills in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bids_interp.bids.entities import source_entities
from bids_interp.constants import ANATOMY_MM, DIRECTIONS

_PREFIX = (
    'sub-{subject}[_ses-{session}][_task-{task}][_acq-{acquisition}][_ce-{ceagent}]'
    '[_rec-{reconstruction}][_run-{run}][_echo-{echo}][_part-{part}][_chunk-{chunk}]'
)
_ANAT = 'sub-{subject}[/ses-{session}]/anat/' + _PREFIX

#: Patterns of all names that the participant level writes, in the syntax of pybids.
PATTERNS = (
    _ANAT + '[_space-{space}][_seg-{segmentation}][_res-{resolution}]_desc-{desc}'
    '_{suffix<T1w|mask|logjacobian|velocity|displacement|saliency|prediction|stats>}'
    '{extension<.nii.gz|.json|.tsv>|.nii.gz}',
    _ANAT + '_from-{from}_to-{to}_mode-{mode<image>|image}'
    '_{suffix<xfm>}{extension<.txt|.json>|.txt}',
)

#: Fixed entities of each kind of file; the caller adds those that vary.
KINDS: dict[str, dict[str, str]] = {
    'preproc': {'desc': 'preproc', 'suffix': 'T1w'},
    'mask': {'desc': 'brain', 'suffix': 'mask'},
    'transform': {'mode': 'image', 'suffix': 'xfm', 'extension': '.txt'},
    'template_brain': {'desc': 'brain', 'suffix': 'T1w', 'resolution': '1'},
    'template_mask': {'desc': 'brain', 'suffix': 'mask', 'resolution': '1'},
    'anatomy': {'desc': 'anatomy', 'suffix': 'logjacobian', 'resolution': f'{ANATOMY_MM}'},
    'model_input': {'desc': 'input', 'suffix': 'T1w', 'resolution': 'model'},
    'simulated': {'suffix': 'T1w'},
    'logjacobian': {'suffix': 'logjacobian'},
    'velocity': {'suffix': 'velocity', 'resolution': 'model'},
    'displacement': {'suffix': 'displacement', 'resolution': 'model'},
    'saliency': {'suffix': 'saliency', 'resolution': 'model'},
    'saliency_methods': {'desc': 'methods', 'suffix': 'saliency', 'extension': '.json'},
    'prediction': {'desc': 'explain', 'suffix': 'prediction', 'extension': '.json'},
    'dose_response': {'desc': 'doseresponse', 'suffix': 'stats', 'extension': '.tsv'},
    'regions': {'desc': 'regions', 'suffix': 'stats', 'extension': '.tsv'},
    'remeasured': {'desc': 'remeasured', 'suffix': 'stats', 'extension': '.tsv'},
    'counterfactual': {'desc': 'counterfactual', 'suffix': 'stats', 'extension': '.tsv'},
}


def dose_label(direction: str, dose: float) -> str:
    """Return the value of ``desc-`` for a direction and a dose (percent, three digits).

    Examples
    --------
    >>> dose_label('inject', 1.0)
    'inject100'
    >>> dose_label('remove', 0.5)
    'remove050'
    """
    if direction not in DIRECTIONS:
        raise ValueError(f'The direction must be one of {DIRECTIONS}, not {direction!r}.')
    percent = round(dose * 100)
    if not 1 <= percent <= 999:
        raise ValueError(f'The dose must be between 0.01 and 9.99, not {dose}.')
    return f'{direction}{percent:03d}'


def output_name(source: str | Path | Mapping[str, str], kind: str, **entities: Any) -> Path:
    """Return the path of a derivative, relative to the output directory.

    Parameters
    ----------
    source : path or mapping
        Source T1w image, or its entities from :func:`source_entities`.
    kind : str
        One of :data:`KINDS`.
    **entities
        Entities of this file (pybids names): ``space``, ``resolution``, ``desc``, ``from`` ...;
        those that are None are omitted.

    Returns
    -------
    pathlib.Path
        Relative path.

    Raises
    ------
    ValueError
        If no pattern accepts all entities.

    Examples
    --------
    >>> output_name('sub-01_T1w.nii.gz', 'logjacobian', desc='inject100').as_posix()
    'sub-01/anat/sub-01_desc-inject100_logjacobian.nii.gz'
    """
    from bids.layout.writing import build_path

    kept = dict(source) if isinstance(source, Mapping) else source_entities(source)
    wanted = {**kept, **KINDS[kind], **entities}
    filled = {key: str(value) for key, value in wanted.items() if value is not None}
    if 'extension' not in filled:
        filled['extension'] = '.nii.gz'
    built = build_path(filled, list(PATTERNS), strict=True)
    if not isinstance(built, str):
        raise ValueError(f'No pattern of output names accepts the entities {filled}.')
    return Path(built)


def sidecar_name(path: str | Path) -> Path:
    """Return the path of the JSON sidecar of a file.

    Examples
    --------
    >>> sidecar_name('a_T1w.nii.gz').name
    'a_T1w.json'
    """
    path = Path(path)
    return path.with_name(path.name.split('.')[0] + '.json')


def visible(paths: Iterable[Path]) -> list[Path]:
    """Return the paths whose names do not begin with a dot, such as ``._*`` of macOS.

    Examples
    --------
    >>> [path.name for path in visible([Path('._a.nii'), Path('a.nii'), Path('.DS_Store')])]
    ['a.nii']
    """
    return [path for path in paths if not path.name.startswith('.')]
