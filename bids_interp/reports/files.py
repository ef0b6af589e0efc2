"""Where the derivatives of one T1w image lie."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Directions of the simulation, in the order in which they are told.
DIRECTIONS = ('inject', 'remove')


@dataclass(frozen=True)
class ScanFiles:
    """Find the derivatives of one T1w image by their names.

    Parameters
    ----------
    output_dir : pathlib.Path
        Root of the derivatives.
    prefix : str
        Source entities as in file names, without suffix: ``sub-01_ses-a_run-1``.

    Examples
    --------
    >>> files = ScanFiles(Path('out'), 'sub-01_ses-a_run-1')
    >>> files.anatomical.as_posix(), files.report.as_posix()
    ('out/sub-01/ses-a/anat', 'out/sub-01_ses-a_run-1.html')
    >>> files.figure('dose', '.svg').as_posix()
    'out/sub-01/figures/sub-01_ses-a_run-1_desc-dose_T1w.svg'
    """

    output_dir: Path
    prefix: str

    @property
    def entities(self) -> dict[str, str]:
        """Entities of the source image, by their short names."""
        return dict(part.split('-', 1) for part in self.prefix.split('_') if '-' in part)

    @property
    def subject_dir(self) -> Path:
        """Folder of the subject."""
        return self.output_dir / f'sub-{self.entities["sub"]}'

    @property
    def anatomical(self) -> Path:
        """Folder of the anatomical derivatives."""
        session = self.entities.get('ses')
        folder = self.subject_dir / f'ses-{session}' if session else self.subject_dir
        return folder / 'anat'

    @property
    def figures(self) -> Path:
        """Folder of the figures."""
        return self.subject_dir / 'figures'

    @property
    def report(self) -> Path:
        """The report itself."""
        return self.output_dir / f'{self.prefix}.html'

    def figure(self, what: str, extension: str) -> Path:
        """Path of one figure."""
        return self.figures / f'{self.prefix}_desc-{what}_T1w{extension}'

    def native(self, ending: str) -> Path | None:
        """A derivative in the space of the scan, or nothing where it is not there."""
        path = self.anatomical / f'{self.prefix}_{ending}'
        return path if path.exists() else None

    def template(self, ending: str, resolution: str = '1') -> Path | None:
        """A derivative in the space of the template, or nothing where it is not there."""
        pattern = f'{self.prefix}_space-*_res-{resolution}_{ending}'
        return next(iter(sorted(self.anatomical.glob(pattern))), None)

    def field(self, direction: str) -> Path | None:
        """The simulator's field of a direction: a velocity, or a displacement."""
        velocity = self.template(f'desc-{direction}_velocity.nii.gz', 'model')
        return velocity or self.template(f'desc-{direction}_displacement.nii.gz', 'model')

    @property
    def template_name(self) -> str:
        """Name of the template, from the file names; empty where there are none."""
        path = self.template('desc-input_T1w.nii.gz', 'model') or self.template(
            'desc-brain_T1w.nii.gz'
        )
        match = re.search(r'_space-([a-zA-Z0-9]+)_', path.name) if path else None
        return match.group(1) if match else ''

    def doses(self, direction: str, suffix: str = 'logjacobian') -> dict[int, Path]:
        """Maps of one direction by dose in percent; in template space where they are there."""
        expression = re.compile(rf'_desc-{direction}(\d+)_{suffix}\.nii\.gz$')
        for spaced in ('_space-*_res-1', ''):
            pattern = f'{self.prefix}{spaced}_desc-{direction}[0-9]*_{suffix}.nii.gz'
            found = {}
            for path in sorted(self.anatomical.glob(pattern)):
                match = expression.search(path.name)
                if match:
                    found[int(match.group(1))] = path
            if found:
                return found
        return {}

    def full_dose(self, direction: str, suffix: str = 'logjacobian') -> tuple[int, Path] | None:
        """Dose nearest to 100 % and its map."""
        found = self.doses(direction, suffix)
        if not found:
            return None
        dose = min(found, key=lambda percent: (abs(percent - 100), percent))
        return dose, found[dose]

    @property
    def shown_brain(self) -> Path | None:
        """The brain on the grid of the maps: the template's where there are maps in it."""
        template = self.template('desc-brain_T1w.nii.gz')
        shown = self.full_dose('inject') or self.full_dose('remove')
        if shown and '_space-' not in shown[1].name:
            return self.native('desc-preproc_T1w.nii.gz')
        return template

    @property
    def prediction(self) -> Path | None:
        """What the classifier said."""
        return self.native('desc-explain_prediction.json')


def read_json(path: Path | None) -> dict[str, Any]:
    """Read a JSON object; a missing or damaged file is an empty one, as after a crash."""
    if path is None or not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def sidecar(path: Path | None) -> dict[str, Any]:
    """Read the JSON beside a derivative."""
    if path is None:
        return {}
    return read_json(path.parent / (path.name.split('.', 1)[0] + '.json'))


def read_table(path: Path | None) -> list[dict[str, str]]:
    """Read the rows of a TSV file as text; nothing where there is no file."""
    if path is None or not path.exists():
        return []
    lines = path.read_text(encoding='utf-8').splitlines()
    if not lines:
        return []
    header = lines[0].split('\t')
    return [dict(zip(header, line.split('\t'), strict=False)) for line in lines[1:] if line.strip()]


def number(text: Any) -> float | None:
    """Turn a cell into a number; ``n/a`` and nonsense into nothing.

    >>> number('0.5'), number('n/a'), number(None)
    (0.5, None, None)
    """
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if value == value and abs(value) != float('inf') else None
