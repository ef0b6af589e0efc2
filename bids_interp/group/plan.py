"""What a group level is to do: read once, handed on to the nodes as one JSON file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_interp.bids.provenance import DEMONSTRATION_NOTE, SOFTWARE
from bids_interp.bids.write import write_json
from bids_interp.group.covariates import Columns
from bids_interp.group.reading import scan_from_dict, scan_to_dict
from bids_interp.group.scans import FURTHER, TRAINED_WITH, Scan


@dataclass(frozen=True)
class GroupPlan:
    """Everything that the nodes of the group level need.

    Parameters
    ----------
    output_dir, folder : pathlib.Path
        Root of the derivatives; where the results of this model go.
    scans : list of Scan
        All images that were found; those without a reason are in.
    columns : Columns
        Group and covariates.
    model : tuple of str
        Name and hash.
    choices : dict
        ``atlas``, ``atlas_labels``, ``offline``, ``permutations``, ``voxelwise``, ``tfce``,
        ``null_models``, ``bundle``, ``include_training``, ``random_seed``, ``visits_by_name``.
    """

    output_dir: Path
    folder: Path
    scans: Sequence[Scan]
    columns: Columns
    model: tuple[str, str]
    choices: Mapping[str, Any] = field(default_factory=dict)

    @property
    def included(self) -> list[Scan]:
        """Images that are in, one per subject."""
        return [scan for scan in self.scans if not scan.reason]

    @property
    def scored(self) -> list[Scan]:
        """Images that get an expression score: those that are in, and others of their subjects."""
        return [scan for scan in self.scans if scan.reason in ('', FURTHER)]

    @property
    def target(self) -> Mapping[str, Any]:
        """What the model was trained for."""
        return self.included[0].prediction.get('Target') or {}

    @property
    def warranted(self) -> bool:
        """Whether the model is better than chance."""
        return bool(self.included[0].prediction.get('ExplanationWarranted', True))

    @property
    def trained_with(self) -> bool:
        """Whether somebody is in whom the folds that explain it were trained with."""
        return any(scan.note == TRAINED_WITH for scan in self.included)

    @property
    def demonstration(self) -> bool:
        """Whether the model only demonstrates the software."""
        return bool(self.included[0].prediction.get('Demonstration'))

    @property
    def groups(self) -> dict[str, str]:
        """Prefix to group, of the images that have one."""
        found = {scan.prefix: self.columns.of_group(scan) for scan in self.included}
        return {prefix: group for prefix, group in found.items() if group is not None}

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return int(self.choices['random_seed'])

    def common(self) -> dict[str, Any]:
        """Fields that every sidecar has."""
        from bids_interp.version import __version__

        content: dict[str, Any] = {
            'GeneratedBy': [{'Name': SOFTWARE, 'Version': __version__}],
            'ModelName': self.model[0],
            'ModelHash': self.model[1],
            'Demonstration': self.demonstration,
            'ExplanationWarranted': self.warranted,
            'HeldOutOnly': not self.trained_with,
            'RandomSeed': self.seed,
        }
        if self.demonstration:
            content['DemonstrationNote'] = DEMONSTRATION_NOTE
        return content

    def write(self, path: Path) -> Path:
        """Keep the plan as JSON."""
        return write_json(
            path,
            {
                'output_dir': str(self.output_dir),
                'folder': str(self.folder),
                'scans': [scan_to_dict(scan) for scan in self.scans],
                'columns': self.columns.to_dict(),
                'model': list(self.model),
                'choices': dict(self.choices),
            },
        )

    @classmethod
    def read(cls, path: str | Path) -> GroupPlan:
        """Undo :meth:`write`."""
        content = json.loads(Path(path).read_text(encoding='utf-8'))
        columns = content['columns'] | {
            key: tuple(content['columns'][key]) for key in ('chosen', 'levels')
        }
        return cls(
            Path(content['output_dir']),
            Path(content['folder']),
            [scan_from_dict(scan) for scan in content['scans']],
            Columns(**columns),
            (content['model'][0], content['model'][1]),
            content['choices'],
        )


def folder_name(model: tuple[str, str]) -> str:
    """Name of the folder of a model's results.

    Examples
    --------
    >>> folder_name(('my model', 'abc123'))
    'my_model-abc123'
    """
    words = ''.join(c if c.isalnum() or c in '-_.' else '_' for c in model[0]) or 'model'
    return f'{words}-{model[1]}'


def file_label(group: str, groups: Sequence[str]) -> str:
    """Letters and digits of a group, for file names; numbered where two would be the same.

    Examples
    --------
    >>> file_label('mild AD', ['mild AD', 'CN']), file_label('a+', ['a+', 'a-'])
    ('mildAD', 'a1')
    """
    own = ''.join(c for c in group if c.isalnum()) or 'group'
    alike = [g for g in sorted(groups) if (''.join(c for c in g if c.isalnum()) or 'group') == own]
    return own if len(alike) < 2 else f'{own}{alike.index(group) + 1}'


def training_folds(output_dir: Path, model: tuple[str, str]) -> Path | None:
    """Folder with the maps of each fold that a training here has left, of this very model."""
    config = output_dir / 'models' / model[0] / 'config.json'
    folder = output_dir / 'training' / model[0]
    if not (config.is_file() and folder.is_dir()):
        return None
    digest = hashlib.sha256(config.read_bytes()).hexdigest()[:12]
    return folder if digest == model[1] else None
