"""Map files and tables of the descriptive summary, with their data dictionaries."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.bids.names import sidecar_name, visible
from bids_interp.bids.write.atomic import Cell, write_json, write_tsv
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.bids.write.sidecars import SIGN, Column
from bids_interp.constants import COMMON_SHARE
from bids_interp.evaluation.personal_share import ROUNDING_SHARE
from bids_interp.evaluation.stability import (
    MAGNITUDE,
    SAME_SIGN,
    reliable_voxels,
    sign_agreement,
)
from bids_interp.group.analysis import GroupAnalysis, file_label, training_folds
from bids_interp.group.maps.descriptive import MapSummary
from bids_interp.group.maps.map_reader import MaskedGrid
from bids_interp.group.maps.stream import RunningStatistics
from bids_interp.group.scans import IMAGE_COLUMNS

#: Minimum size of listed clusters, mm^3.
CLUSTER_MM3 = 100.0

#: Notes for maps whose differences between people are unknown, absent or small.
NO_SHARE = 'No two subjects are explained by the same folds, so it is unknown how maps differ.'
SAME_MAPS = (
    'The maps of different people do not differ by more than rounding: they show the common '
    'pattern of the model. Standard deviations, intervals and p-values over people are therefore '
    'n/a.'
)
COMMON_MAPS = (
    'The maps of different people differ very little: they show the common pattern of the model.'
)

_KINDS = {
    'mean': 'Mean log-Jacobian over subjects.',
    'sd': 'Standard deviation of the log-Jacobian between subjects (divided by n - 1), including '
    'differences between the folds that explain them. It is not written if the maps of people who '
    'are explained by the same folds do not differ by more than rounding.',
    'samesign': 'Share of the subjects whose log-Jacobian has the sign of the mean.',
    'foldsamesign': 'Share of the folds whose mean log-Jacobian has the sign of the mean over '
    'folds.',
    'reliable': f'1 where |mean| >= {MAGNITUDE}, at least {100 * SAME_SIGN:.0f} % of the subjects '
    'have the sign of the mean, and all folds have the same sign (if their maps are available). '
    'Empty if the classifier does not perform above chance (ExplanationWarranted). The mask '
    'describes these subjects and models; it is not a statistical test.',
}


def fold_agreement(
    analysis: GroupAnalysis, summary: MapSummary, masked: MaskedGrid
) -> tuple[np.ndarray | None, str]:
    """Return the sign agreement of the folds (V,), and its source."""
    if summary.agreement is not None:
        return summary.agreement, 'subjects explained by different folds'
    direction = summary.name[:-3]
    folder = training_folds(analysis.output_dir, analysis.model)
    found = folder.glob(f'*desc-{direction}fold*_logjacobian.nii.gz') if folder else []
    paths = sorted(visible(found))
    if len(paths) < 2:
        return None, 'not available: each map is the mean over the same folds'
    from nilearn.image import resample_img

    maps = [
        np.asarray(
            resample_img(
                str(path),
                target_affine=masked.grid.affine,
                target_shape=masked.grid.shape,
                copy_header=False,
                force_resample=True,
            ).dataobj,
            dtype=np.float32,
        )[masked.inside]
        for path in paths
    ]
    return sign_agreement(np.stack(maps)), 'maps of each fold from the training'


def map_path(
    analysis: GroupAnalysis, masked: MaskedGrid, name: str, kind: str, group: str = ''
) -> Path:
    """Return the path of a descriptive map."""
    first = f'group-{file_label(group, sorted(set(analysis.groups.values())))}_' if group else ''
    suffix = 'mask' if kind == 'reliable' else 'logjacobian'
    return (
        analysis.folder
        / f'{first}space-{masked.grid.space}_desc-{name}_stat-{kind}_{suffix}.nii.gz'
    )


def write_group_maps(
    analysis: GroupAnalysis, summary: MapSummary, masked: MaskedGrid
) -> dict[str, int]:
    """Write all maps of one direction and dose; return the number of reliable voxels per group."""
    agreement, source = fold_agreement(analysis, summary, masked)
    counts = {}
    for group, running in summary.groups.items():
        # Models at chance also agree: three folds share the sign in a quarter of the voxels.
        voxels = reliable_voxels(running.mean, running.same_sign, agreement) & analysis.warranted
        counts[group] = int(voxels.sum())
        content = {'mean': running.mean, 'samesign': running.same_sign, 'reliable': voxels}
        if summary.varies(analysis.groups, group):
            content['sd'] = running.sd
        else:
            # Maps of different folds differ, but this is not a difference between people.
            sd = map_path(analysis, masked, summary.name, 'sd', group)
            for stale in (sd, sidecar_name(sd)):
                stale.unlink(missing_ok=True)
        if agreement is not None and not group:
            content['foldsamesign'] = agreement
        for kind, values in content.items():
            path = map_path(analysis, masked, summary.name, kind, group)
            fields = _map_fields(analysis, summary, group, running, source)
            write_json(sidecar_name(path), {'Description': _KINDS[kind], **fields})
            data = masked.filled(values)
            dtype = np.uint8 if kind == 'reliable' else np.float32
            write_nifti(path, data, masked.grid.affine, template=True, dtype=dtype)
    return counts


def _map_fields(
    analysis: GroupAnalysis,
    summary: MapSummary,
    group: str,
    running: RunningStatistics,
    source: str,
) -> dict[str, Any]:
    groups = analysis.groups
    kept = set(summary.images)
    return {
        'Sign': SIGN,
        'SkullStripped': True,
        'Direction': summary.name[:-3],
        'Dose': int(summary.name[-3:]) / 100,
        'Group': group or 'all',
        'NumberOfSubjects': running.n,
        **share_fields(summary.share_of(groups, group)),
        'FoldAgreement': source,
        'Images': [p for p in summary.images if not group or groups.get(p) == group],
        'LeftOut': {
            **summary.failed,
            **dict.fromkeys(summary.without, f'map {summary.name} is missing'),
        },
        'Sources': [
            f'bids::{path.relative_to(analysis.output_dir).as_posix()}'
            for scan in analysis.included
            if scan.prefix in kept and (not group or groups.get(scan.prefix) == group)
            if (path := scan.maps.get(summary.name) or scan.velocity)
        ],
        **analysis.common(),
    }


def share_fields(share: float | None) -> dict[str, Any]:
    """Return the fields of a sidecar about the differences of the maps between people."""
    if share is None:
        note = NO_SHARE
    elif share < ROUNDING_SHARE:
        note = SAME_MAPS
    else:
        note = COMMON_MAPS if share < COMMON_SHARE else ''
    return {'PersonalShare': share, **({'PersonalShareNote': note} if note else {})}


def remove_stale(analysis: GroupAnalysis) -> list[Path]:
    """Remove outputs of earlier runs with other options that this run will not replace.

    Returns
    -------
    list of pathlib.Path
        Removed files.
    """
    groups = sorted(set(analysis.groups.values()))
    labels = {file_label(group, groups) for group in groups}
    columns = {file_label(column, [column]) for column in analysis.choices.voxelwise}
    stale = [*analysis.folder.glob('change*.tsv'), *analysis.folder.glob('change*.json')]
    for path in analysis.folder.glob('group-*_space-*'):
        if path.name.split('_')[0].removeprefix('group-') not in labels:
            stale.append(path)
    for path in analysis.folder.glob('*_statmap.*'):
        name = path.name.partition('_desc-')[2].partition('_')[0]
        is_wanted = (
            bool(analysis.choices.null_models)
            if name.endswith('BeyondChance')
            else any(name.endswith(f'On{column}') for column in columns)
        )
        if not is_wanted:
            stale.append(path)
    for path in stale:
        path.unlink(missing_ok=True)
    return stale


def cluster_rows(summary: MapSummary, masked: MaskedGrid) -> list[dict[str, Cell]]:
    """Return the clusters of the mean map over all subjects with their peaks in mm (nilearn).

    Clusters consist of voxels whose mean reaches
    :data:`bids_interp.evaluation.stability.MAGNITUDE`. Fine grids are subsampled to about 2 mm.
    """
    from nilearn.reporting import get_clusters_table

    step = max(1, int(2.0 / float(masked.grid.spacing.min())))
    volume = masked.filled(summary.groups[''].mean)[::step, ::step, ::step]
    affine = masked.grid.affine @ np.diag([step, step, step, 1.0])
    import nibabel as nib

    voxel = float(abs(np.linalg.det(affine[:3, :3])))
    if not (np.abs(volume) > MAGNITUDE).any():
        return []
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='No clusters found')
        table = get_clusters_table(
            nib.Nifti1Image(volume, affine),
            stat_threshold=MAGNITUDE,
            cluster_threshold=max(1, int(CLUSTER_MM3 / voxel)),
            two_sided=True,
            min_distance=10.0,
        )
    rows: list[dict[str, Cell]] = []
    for row in table.to_dict('records'):
        size = row['Cluster Size (mm3)']
        rows.append(
            {
                'map': summary.name,
                'cluster': str(row['Cluster ID']),
                'x': float(row['X']),
                'y': float(row['Y']),
                'z': float(row['Z']),
                'peak_logj': float(row['Peak Stat']),
                'peak_pct': 100 * float(np.expm1(row['Peak Stat'])),
                'size_mm3': float(size) if str(size).strip() else None,
            }
        )
    return rows


CLUSTER_COLUMNS: dict[str, Column] = {
    'map': {'Description': 'Direction and dose in percent.'},
    'cluster': {
        'Description': 'Number of the cluster; letters mark additional peaks in the same cluster.'
    },
    'x': {'Description': 'World coordinate, positive to the right.', 'Units': 'mm'},
    'y': {'Description': 'World coordinate, positive to the front.', 'Units': 'mm'},
    'z': {'Description': 'World coordinate, positive upwards.', 'Units': 'mm'},
    'peak_logj': {'Description': 'Mean log-Jacobian at the peak.', 'Units': '1'},
    'peak_pct': {'Description': 'Volume change at the peak.', 'Units': 'percent'},
    'size_mm3': {'Description': 'Size of the cluster, only in its first row.', 'Units': 'mm^3'},
}
INCLUSION_COLUMNS: dict[str, Column] = {
    **IMAGE_COLUMNS,
    'included': {'Description': 'Whether the maps of the image are included in the summaries.'},
    'reason': {'Description': 'Reason for exclusion, or a remark about an included image.'},
    'maps': {'Description': 'Directions and doses whose map of the image is used.'},
    'missing': {
        'Description': 'Files that other images have, or that the prediction of the image lists, '
        'but that are missing: directions and doses, the anatomy map, the simulated field.'
    },
    'in_training_set': {'Description': 'Whether the model was trained with the subject.'},
    'folds': {
        'Description': 'Folds that explain the image; none of them was trained with it, unless the '
        'column reason says otherwise.'
    },
    'model': {'Description': 'Name of the model that explained the image.'},
    'model_hash': {'Description': 'Hash of the model.'},
    'version': {'Description': 'Version of bids_interp that wrote the derivatives.'},
}


def write_table(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Any],
    about: Mapping[str, Any],
) -> Path:
    """Write a table and its data dictionary."""
    write_json(sidecar_name(path), {**about, **columns})
    names = list(dict.fromkeys(key for row in rows for key in row)) or list(columns)
    return write_tsv(path, rows, names)
