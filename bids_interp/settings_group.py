"""What the user can choose for the ``group`` level."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bids_interp.errors import UsageError

#: Permutations below this number cannot reach p < 0.05 with any certainty.
MIN_PERMUTATIONS = 100


@dataclass(frozen=True, kw_only=True)
class GroupChoices:
    """Choices of the ``group`` level.

    Parameters
    ----------
    group_by : str, optional
        Column of participants.tsv; maps and tables are made of each of its values too.
    include_training : bool
        Also take subjects that the models which explain them were trained with.
    atlas : str, optional
        Regions: a label image, or ``NAME`` of an atlas in TemplateFlow; the embedded coarse
        regions if not given.
    atlas_labels : Path, optional
        Table (TSV) with ``index`` and ``name`` of the regions of the atlas.
    permutations : int
        Draws of each permutation test.
    voxelwise : tuple of str
        Numeric columns for an exploratory voxel-wise GLM of the maps.
    tfce : bool
        Threshold-free cluster enhancement in the voxel-wise GLM.
    null_models : tuple of str
        Bundles that were trained with permuted labels.
    """

    group_by: str | None = None
    include_training: bool = False
    atlas: str | None = None
    atlas_labels: Path | None = None
    permutations: int = 5000
    voxelwise: tuple[str, ...] = ()
    tfce: bool = False
    null_models: tuple[str, ...] = ()


def check_group(choices: GroupChoices) -> None:
    """Refuse choices of the ``group`` level that are impossible.

    Raises
    ------
    UsageError
        With the option and what to do.
    """
    paths = tuple(str(Path(path).expanduser().absolute()) for path in choices.null_models)
    object.__setattr__(choices, 'null_models', paths)
    if choices.permutations < MIN_PERMUTATIONS:
        raise UsageError(
            f'--permutations must be at least {MIN_PERMUTATIONS}, not {choices.permutations}.'
        )
    if choices.atlas_labels is not None and choices.atlas is None:
        raise UsageError('--atlas-labels needs --atlas: the image that the labels belong to.')
    if choices.tfce and not choices.voxelwise:
        raise UsageError('--tfce needs --voxelwise COLUMN...: it belongs to that test.')
