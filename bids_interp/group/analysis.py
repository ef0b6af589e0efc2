"""Analysis requested at the group level, passed to the nodes as one JSON file."""

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
from bids_interp.group.covariates import GroupVariables
from bids_interp.group.scans import FURTHER, RELATED, TRAINED_WITH, GroupScan
from bids_interp.records import read_record, to_plain


@dataclass(frozen=True)
class AnalysisChoices:
    """Options of the user that the nodes of the group level need.

    Parameters
    ----------
    group_asked : bool
        Whether the user specified the column of the groups.
    visits_by_name : bool
        Whether some sessions could be sorted only by name.
    include_training, atlas, atlas_labels, permutations, voxelwise, tfce, null_models, contrast, \
    offline, nprocs, random_seed
        See :class:`bids_interp.settings.Settings`.
    bundle : pathlib.Path, optional
        Model, if available.
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
class GroupAnalysis:
    """Requested analysis: images, variables, model and options.

    Parameters
    ----------
    output_dir, folder : pathlib.Path
        Root of the derivatives, and folder of the results of this model.
    scans : list of GroupScan
        All images found; those without an exclusion reason are included.
    columns : GroupVariables
        Group and covariates of the images.
    model : tuple of str
        Name and hash of the model.
    choices : AnalysisChoices
        Options of the user.
    """

    output_dir: Path
    folder: Path
    scans: Sequence[GroupScan]
    columns: GroupVariables
    model: tuple[str, str]
    choices: AnalysisChoices

    @property
    def included(self) -> list[GroupScan]:
        """Return the included images, one per subject."""
        return [scan for scan in self.scans if not scan.reason]

    @property
    def scored(self) -> list[GroupScan]:
        """Return the images to be scored: included ones and further ones of the same subjects."""
        return [scan for scan in self.scans if scan.reason in ('', FURTHER)]

    @property
    def _prediction(self) -> Prediction:
        found = self.included[0].prediction
        if found is None:
            raise InputDatasetError(f'The prediction of {self.included[0].prefix} is missing.')
        return found

    @property
    def target(self) -> ExplainedTarget:
        """Return the target of the model."""
        return self._prediction.target

    @property
    def warranted(self) -> bool:
        """Return whether the model performs above chance."""
        return self._prediction.warranted

    @property
    def trained_with(self) -> bool:
        """Return whether any included image is explained by folds trained with it or a relative."""
        return any(scan.note in (TRAINED_WITH, RELATED) for scan in self.included)

    @property
    def demonstration(self) -> bool:
        """Return whether the model only demonstrates the software."""
        return bool(self._prediction.demonstration)

    @property
    def groups(self) -> dict[str, str]:
        """Return the groups by image prefix, for images that have one."""
        found = {scan.prefix: self.columns.of_group(scan) for scan in self.included}
        return {prefix: group for prefix, group in found.items() if group is not None}

    @property
    def seed(self) -> int:
        """Return the random seed."""
        return self.choices.random_seed

    def common(self) -> dict[str, Any]:
        """Return the fields shared by all sidecars."""
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
        """Write the analysis as JSON."""
        return write_json(path, to_plain(self))

    @classmethod
    def read(cls, path: str | Path) -> GroupAnalysis:
        """Read the JSON of :meth:`write`."""
        return read_record(cls, Path(path), InputDatasetError)


def folder_name(model: tuple[str, str]) -> str:
    """Return the folder name of the results of a model.

    Examples
    --------
    >>> folder_name(('my model', 'abc123'))
    'my_model-abc123'
    """
    name = ''.join(c if c.isalnum() or c in '-_.' else '_' for c in model[0]) or 'model'
    return f'{name}-{model[1]}'


def file_label(group: str, groups: Sequence[str]) -> str:
    """Return a group as letters and digits for file names, numbered if several would be equal.

    Examples
    --------
    >>> file_label('mild AD', ['mild AD', 'CN']), file_label('a+', ['a+', 'a-'])
    ('mildAD', 'a1')
    """
    own = ''.join(c for c in group if c.isalnum()) or 'group'
    alike = [g for g in sorted(groups) if (''.join(c for c in g if c.isalnum()) or 'group') == own]
    return own if len(alike) < 2 else f'{own}{alike.index(group) + 1}'


def training_folds(output_dir: Path, model: tuple[str, str]) -> Path | None:
    """Return the folder with the fold maps of this model's training, if it is in the output."""
    config = output_dir / 'models' / model[0] / 'config.json'
    folder = output_dir / 'training' / model[0]
    if not (config.is_file() and folder.is_dir()):
        return None
    digest = hashlib.sha256(config.read_bytes()).hexdigest()[:12]
    return folder if digest == model[1] else None
