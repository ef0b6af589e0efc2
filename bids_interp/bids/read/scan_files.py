"""Scan files: the derivatives of one T1w image, found by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_interp.bids.prediction import (
    REMEDY,
    ExplainedTarget,
    Prediction,
    read_prediction,
)
from bids_interp.bids.read.tsv import read_cells
from bids_interp.errors import ImageError, InputDatasetError
from bids_interp.records import parse_json

BRAIN = 'desc-brain_T1w.nii.gz'
MASK = 'desc-brain_mask.nii.gz'
PREDICTION = 'desc-explain_prediction.json'
SALIENCY_SUMMARY = 'desc-methods_saliency.json'
COUNTERFACTUAL = 'desc-counterfactual_stats.tsv'
REMEASURED = 'desc-remeasured_stats.tsv'
REGIONS = 'desc-regions_stats.tsv'
REGION_COLUMNS = ('direction', 'dose', 'region', 'side', 'logj', 'pct')
#: Tables of an image with their required columns.
TABLES = {
    'desc-doseresponse_stats.tsv': ('direction', 'dose', 'logit'),
    COUNTERFACTUAL: ('direction', 'dose'),
    REMEASURED: ('direction', 'claimed_pct', 'remeasured_pct'),
}


@dataclass(frozen=True)
class ScanFiles:
    """Derivatives of one T1w image, found by name.

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
        """Return the entities of the source image, by their short names."""
        return dict(part.split('-', 1) for part in self.prefix.split('_') if '-' in part)

    @property
    def subject_dir(self) -> Path:
        """Return the folder of the subject."""
        return self.output_dir / f'sub-{self.entities["sub"]}'

    @property
    def anatomical(self) -> Path:
        """Return the folder of the anatomical derivatives."""
        session = self.entities.get('ses')
        folder = self.subject_dir / f'ses-{session}' if session else self.subject_dir
        return folder / 'anat'

    @property
    def figures(self) -> Path:
        """Return the folder of the figures."""
        return self.subject_dir / 'figures'

    @property
    def report(self) -> Path:
        """Return the path of the report."""
        return self.output_dir / f'{self.prefix}.html'

    def figure(self, what: str, extension: str) -> Path:
        """Return the path of one figure."""
        return self.figures / f'{self.prefix}_desc-{what}_T1w{extension}'

    def native(self, ending: str) -> Path | None:
        """Return a derivative in the space of the scan, or None if missing."""
        path = self.anatomical / f'{self.prefix}_{ending}'
        return path if path.exists() else None

    def own(self, pattern: str) -> list[Path]:
        """Return the sorted files of a pattern that were made with the model of the prediction.

        Files of an earlier run with another model may remain in the folder.
        """
        prediction = self.read_prediction()
        model_hash = prediction.model_hash if prediction else None
        found = sorted(self.anatomical.glob(f'{self.prefix}_{pattern}'))
        return [path for path in found if is_made_with(path, model_hash)]

    def template(self, ending: str, resolution: str = '1') -> Path | None:
        """Return a derivative in template space, or None if missing."""
        pattern = f'space-{self.template_name or "*"}_res-{resolution}_{ending}'
        found = self.own(pattern)
        if not found and ending in (BRAIN, MASK):
            # The brain does not depend on the model, which may have changed after an aborted run.
            found = sorted(self.anatomical.glob(f'{self.prefix}_{pattern}'))
        return found[0] if found else None

    def mask_of(self, image: Path) -> Path | None:
        """Return the brain mask on the grid of an image, or None if missing."""
        return self.template(MASK) if '_space-' in image.name else self.native(MASK)

    def field(self, direction: str) -> Path | None:
        """Return the simulator's field of a direction: a velocity or a displacement."""
        velocity = self.template(f'desc-{direction}_velocity.nii.gz', 'model')
        return velocity or self.template(f'desc-{direction}_displacement.nii.gz', 'model')

    @property
    def template_name(self) -> str:
        """Return the name of the model's template from the file names; empty if there are none.

        Maps may be in other templates, too, but fields and input are in that of the model.
        """
        found = self.own('space-*_res-model_*.nii.gz')
        found = found or sorted(self.anatomical.glob(f'{self.prefix}_space-*_res-1_{BRAIN}'))
        match = re.search(r'_space-([a-zA-Z0-9+]+)_', found[0].name) if found else None
        return match.group(1) if match else ''

    def doses(self, direction: str, suffix: str = 'logjacobian') -> dict[int, Path]:
        """Return the maps of one direction by dose in percent, in template space if available.

        If the prediction lists its simulations, maps of other doses are ignored.
        """
        expression = re.compile(rf'_desc-({direction}(\d+))_{suffix}\.nii\.gz$')
        prediction = self.read_prediction()
        simulated = prediction.simulated if prediction else {}
        for spaced in (f'space-{self.template_name or "*"}_res-1_', ''):
            found = {}
            for path in self.own(f'{spaced}desc-{direction}[0-9]*_{suffix}.nii.gz'):
                match = expression.search(path.name)
                if match and (not simulated or match.group(1) in simulated):
                    found[int(match.group(2))] = path
            if found:
                return found
        return {}

    def full_dose(self, direction: str, suffix: str = 'logjacobian') -> tuple[int, Path] | None:
        """Return the dose nearest to 100 % and its map."""
        found = self.doses(direction, suffix)
        if not found:
            return None
        dose = min(found, key=lambda percent: (abs(percent - 100), percent))
        return dose, found[dose]

    @property
    def shown_brain(self) -> Path | None:
        """Return the brain on the grid of the maps: in template space unless maps are native."""
        template = self.template(BRAIN)
        shown = self.full_dose('inject') or self.full_dose('remove')
        if shown and '_space-' not in shown[1].name:
            return self.native('desc-preproc_T1w.nii.gz')
        return template

    @property
    def prediction(self) -> Path | None:
        """Return the path of the prediction."""
        return self.native(PREDICTION)

    def read_prediction(self) -> Prediction | None:
        """Read the prediction; None if the file is missing or damaged."""
        path = self.prediction
        with suppress(ImageError):
            return read_prediction(path) if path else None
        return None

    @property
    def target(self) -> ExplainedTarget:
        """Return the explained target; a default pair of classes without a prediction."""
        prediction = self.read_prediction()
        return prediction.target if prediction else ExplainedTarget()

    def table(self, ending: str) -> list[dict[str, str]]:
        """Read the rows of one of :data:`TABLES`; empty if missing or damaged."""
        path = self.native(ending)
        with suppress(ImageError):
            return load_table(path, TABLES[ending]) if path else []
        return []

    @property
    def regions(self) -> Path | None:
        """Return the table of the atlas that the prediction names, or None without one."""
        prediction = self.read_prediction()
        if prediction is None or not prediction.atlas:
            return None
        return self.native(f'seg-{prediction.atlas}_{REGIONS}')

    def damaged(self) -> list[ImageError]:
        """Return the errors of prediction and tables that exist but cannot be read."""
        errors = []
        for ending in (PREDICTION, SALIENCY_SUMMARY, *TABLES):
            path = self.native(ending)
            if path is None:
                continue
            try:
                if ending in TABLES:
                    load_table(path, TABLES[ending])
                elif ending == PREDICTION:
                    read_prediction(path)
                else:
                    load_json(path)
            except ImageError as error:
                errors.append(error)
        try:
            if (path := self.regions) is not None:
                load_table(path, REGION_COLUMNS)
        except ImageError as error:
            errors.append(error)
        return errors


def is_made_with(path: Path, model_hash: str | None) -> bool:
    """Return whether a derivative was made with a model, according to its sidecar.

    A derivative without a model in its sidecar is accepted.

    Parameters
    ----------
    path : pathlib.Path
        Derivative.
    model_hash : str, optional
        Hash of the model; if None, every derivative is accepted.
    """
    return not model_hash or read_sidecar(path).get('ModelHash') in (None, '', model_hash)


def unreadable(path: Path, reason: object) -> ImageError:
    """Return the error for a derivative that cannot be read, with advice."""
    return ImageError(f'{path} cannot be read: {reason}.', REMEDY)


def load_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    ImageError
        If the file cannot be read or is not a JSON object.
    """
    try:
        content = parse_json(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not isinstance(content, dict):
        raise unreadable(path, 'it is not a JSON object')
    return content


def read_json(path: Path | None) -> dict[str, Any]:
    """Read a JSON object; empty if the file is missing or damaged, as after a crash."""
    if path is None or not path.exists():
        return {}
    try:
        return load_json(path)
    except ImageError:
        return {}


def read_sidecar(path: Path | None) -> dict[str, Any]:
    """Read the sidecar of a derivative; empty if missing or damaged."""
    if path is None:
        return {}
    return read_json(path.parent / (path.name.split('.', 1)[0] + '.json'))


def _cells(path: Path) -> list[list[str]]:
    """Read the cells of a TSV file, including the header."""
    try:
        return read_cells(path)
    except InputDatasetError as error:
        raise ImageError(error.message, REMEDY) from error


def load_table(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Read the rows of a TSV file as text.

    Parameters
    ----------
    path : pathlib.Path
        TSV file.
    columns : iterable of str
        Required columns.

    Raises
    ------
    ImageError
        If the file cannot be read, lacks a column, or has rows that are shorter or longer than the
        header.
    """
    header, *rows = _cells(path) or [[]]
    missing = [name for name in columns if name not in header]
    if missing:
        raise unreadable(path, f'it has no column {missing[0]}')
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise unreadable(path, f'row {number} has {len(row)} cells instead of {len(header)}')
    return [dict(zip(header, row, strict=True)) for row in rows]


def read_table(path: Path | None) -> list[dict[str, str]]:
    """Read the rows of a TSV file as text; empty if the file is missing or unreadable."""
    if path is None or not path.exists():
        return []
    try:
        header, *rows = _cells(path) or [[]]
    except ImageError:
        return []
    return [dict(zip(header, row, strict=False)) for row in rows]


def parse_number(text: Any) -> float | None:
    """Convert a cell to a finite number; None if that is not possible, as for ``n/a``.

    >>> parse_number('0.5'), parse_number('n/a'), parse_number(None)
    (0.5, None, None)
    """
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if value == value and abs(value) != float('inf') else None
