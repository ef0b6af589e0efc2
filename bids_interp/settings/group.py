"""Settings of the ``group`` level."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bids_interp.errors import UsageError

#: Fewer permutations cannot establish p < 0.05 with any certainty.
MIN_PERMUTATIONS = 100


@dataclass(frozen=True, kw_only=True)
class GroupChoices:
    """Settings of the ``group`` level.

    Parameters
    ----------
    group_by : str, optional
        Column of participants.tsv that defines the groups.
    include_training : bool
        Include subjects whose model was trained on them.
    atlas : str, optional
        ``[TEMPLATE:]FILE``, or ``[TEMPLATE:]NAME`` of an atlas in TemplateFlow; the embedded coarse
        regions if not given. Also of the ``participant`` level, where it may name a segmentation of
        each scan: one of :data:`bids_interp.constants.SEGMENTATIONS`.
    atlas_labels : Path, optional
        Table (TSV) with ``index`` and ``name`` of the regions. Also of the ``participant`` level.
    permutations : int
        Number of permutations per test.
    voxelwise : tuple of str
        Numeric columns for an exploratory voxel-wise GLM of the maps.
    tfce : bool
        Use threshold-free cluster enhancement in the voxel-wise GLM.
    null_models : tuple of str
        Bundles trained on permuted labels.
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
    """Refuse impossible settings of the ``group`` level.

    Raises
    ------
    UsageError
        With the option and its remedy.
    """
    paths = tuple(str(Path(path).expanduser().absolute()) for path in choices.null_models)
    object.__setattr__(choices, 'null_models', paths)
    if choices.permutations < MIN_PERMUTATIONS:
        raise UsageError(
            f'--permutations must be at least {MIN_PERMUTATIONS}, not {choices.permutations}.'
        )
    if choices.atlas_labels is not None and choices.atlas is None:
        raise UsageError('--atlas-labels requires --atlas, the image that the labels describe.')
    if choices.tfce and not choices.voxelwise:
        raise UsageError('--tfce requires --voxelwise COLUMN..., the test that it is part of.')
