"""What a group level is to do: read once, handed on to the nodes as one JSON file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_interp.bids.prediction import ExplainedTarget, Prediction
from bids_interp.bids.write.atomic import write_json
from bids_interp.bids.write.provenance import DEMONSTRATION_NOTE, SOFTWARE
from bids_interp.errors import InputDatasetError
from bids_interp.group.covariates import Columns
from bids_interp.group.scans import FURTHER, TRAINED_WITH, Scan
from bids_interp.records import read_record, to_plain


@dataclass(frozen=True)
class Choices:
    """Choices of the user that the nodes of the group level need.

    Parameters
    ----------
    group_asked : bool
        The user named the column of the groups.
    visits_by_name : bool
        Some sessions are in the order of their names alone.
    include_training, atlas, atlas_labels, permutations, voxelwise, tfce, null_models, contrast, \
    offline, nprocs, random_seed
        See :class:`bids_interp.settings.Settings`.
    bundle : pathlib.Path, optional
        The model, where it is at hand.
    """

    random_seed: int
    group_asked: bool = False
    visits_by_name: bool = False
    include_training: bool = False
    atlas: str | None = None
    atlas_labels: Path | None = None
    permutations: int = 1000
    voxelwise: tuple[str, ...] = ()
    tfce: bool = False
    null_models: tuple[str, ...] = ()
    bundle: Path | None = None
    contrast: str | None = None
    offline: bool = False
    nprocs: int = 1


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
    choices : Choices
        Choices of the user.
    """

    output_dir: Path
    folder: Path
    scans: Sequence[Scan]
    columns: Columns
    model: tuple[str, str]
    choices: Choices

    @property
    def included(self) -> list[Scan]:
        """Images that are in, one per subject."""
        return [scan for scan in self.scans if not scan.reason]

    @property
    def scored(self) -> list[Scan]:
        """Images that get an expression score: those that are in, and others of their subjects."""
        return [scan for scan in self.scans if scan.reason in ('', FURTHER)]

    @property
    def _prediction(self) -> Prediction:
        found = self.included[0].prediction
        if found is None:
            raise InputDatasetError(f'The prediction of {self.included[0].prefix} is missing.')
        return found

    @property
    def target(self) -> ExplainedTarget:
        """What the model was trained for."""
        return self._prediction.target

    @property
    def warranted(self) -> bool:
        """Whether the model is better than chance."""
        return self._prediction.warranted

    @property
    def trained_with(self) -> bool:
        """Whether somebody is in whom the folds that explain it were trained with."""
        return any(scan.note == TRAINED_WITH for scan in self.included)

    @property
    def demonstration(self) -> bool:
        """Whether the model only demonstrates the software."""
        return bool(self._prediction.demonstration)

    @property
    def groups(self) -> dict[str, str]:
        """Prefix to group, of the images that have one."""
        found = {scan.prefix: self.columns.of_group(scan) for scan in self.included}
        return {prefix: group for prefix, group in found.items() if group is not None}

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return self.choices.random_seed

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
        return write_json(path, to_plain(self))

    @classmethod
    def read(cls, path: str | Path) -> GroupPlan:
        """Undo :meth:`write`."""
        return read_record(cls, Path(path), InputDatasetError)


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
