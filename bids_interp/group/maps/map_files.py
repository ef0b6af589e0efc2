"""Files of the descriptive part: maps, tables, and what each of them is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.bids.names import sidecar_name
from bids_interp.bids.write.atomic import write_json, write_tsv
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.bids.write.sidecars import SIGN, Column
from bids_interp.evaluation.stability import (
    MAGNITUDE,
    SAME_SIGN,
    reliable_voxels,
    sign_agreement,
)
from bids_interp.group.maps.descriptive import Described
from bids_interp.group.maps.map_reader import Places
from bids_interp.group.maps.stream import Running
from bids_interp.group.plan import GroupPlan, file_label, training_folds

#: Clusters smaller than this are not listed, mm^3.
CLUSTER_MM3 = 100.0

_KINDS = {
    'mean': 'Mean over the subjects of the log-Jacobian.',
    'sd': 'Standard deviation between the subjects of the log-Jacobian (divided by n - 1).',
    'samesign': 'Share of the subjects whose log-Jacobian has the sign of the mean.',
    'foldsamesign': 'Share of the folds whose mean log-Jacobian has the sign of the mean over '
    'folds.',
    'reliable': f'1 where |mean| >= {MAGNITUDE}, at least {100 * SAME_SIGN:.0f} % of the subjects '
    'have the sign of the mean, and all folds have the same sign where their agreement is known; '
    'nowhere if the classifier is not above chance (ExplanationWarranted). A description of these '
    'subjects and these models, not a test.',
}


def known_agreement(
    plan: GroupPlan, described: Described, places: Places
) -> tuple[np.ndarray | None, str]:
    """Sign agreement of the folds (V,), and where it is known from."""
    if described.agreement is not None:
        return described.agreement, 'the subjects that different folds explain'
    direction = described.name[:-3]
    folder = training_folds(plan.output_dir, plan.model)
    paths = sorted(folder.glob(f'*desc-{direction}fold*_logjacobian.nii.gz')) if folder else []
    if len(paths) < 2:
        return None, 'not known: the same folds explain everybody, each map is their mean'
    from nilearn.image import resample_img

    maps = [
        np.asarray(
            resample_img(
                str(path),
                target_affine=places.grid.affine,
                target_shape=places.grid.shape,
                copy_header=False,
                force_resample=True,
            ).dataobj,
            dtype=np.float32,
        )[places.inside]
        for path in paths
    ]
    return sign_agreement(np.stack(maps)), 'the maps of the folds of the training'


def map_path(plan: GroupPlan, places: Places, name: str, kind: str, group: str = '') -> Path:
    """Path of a descriptive map."""
    first = f'group-{file_label(group, sorted(set(plan.groups.values())))}_' if group else ''
    suffix = 'mask' if kind == 'reliable' else 'logjacobian'
    return plan.folder / f'{first}space-{places.grid.space}_desc-{name}_stat-{kind}_{suffix}.nii.gz'


def write_maps(plan: GroupPlan, described: Described, places: Places) -> dict[str, int]:
    """Write all maps of one direction and dose; number of reliable voxels of each group."""
    agreement, source = known_agreement(plan, described, places)
    counts = {}
    for group, running in described.groups.items():
        # Models at chance agree, too: three folds have one sign in a quarter of all voxels.
        voxels = reliable_voxels(running.mean, running.same_sign, agreement) & plan.warranted
        counts[group] = int(voxels.sum())
        content = {'mean': running.mean, 'samesign': running.same_sign, 'reliable': voxels}
        if running.n > 1:
            content['sd'] = running.sd
        if agreement is not None and not group:
            content['foldsamesign'] = agreement
        for kind, values in content.items():
            path = map_path(plan, places, described.name, kind, group)
            fields = _map_fields(plan, described, group, running, source)
            write_json(sidecar_name(path), {'Description': _KINDS[kind], **fields})
            data = places.filled(values)
            dtype = np.uint8 if kind == 'reliable' else np.float32
            write_nifti(path, data, places.grid.affine, template=True, dtype=dtype)
    return counts


def _map_fields(
    plan: GroupPlan, described: Described, group: str, running: Running, source: str
) -> dict[str, Any]:
    groups = plan.groups
    kept = set(described.images)
    return {
        'Sign': SIGN,
        'SkullStripped': True,
        'Direction': described.name[:-3],
        'Dose': int(described.name[-3:]) / 100,
        'Group': group or 'all',
        'NumberOfSubjects': running.n,
        'FoldAgreement': source,
        'Images': [p for p in described.images if not group or groups.get(p) == group],
        'LeftOut': {
            **described.failed,
            **dict.fromkeys(described.without, f'there is no map {described.name} of it'),
        },
        'Sources': [
            f'bids::{path.relative_to(plan.output_dir).as_posix()}'
            for scan in plan.included
            if scan.prefix in kept and (not group or groups.get(scan.prefix) == group)
            if (path := scan.maps.get(described.name) or scan.velocity)
        ],
        **plan.common(),
    }


def remove_stale(plan: GroupPlan) -> list[Path]:
    """Remove what an earlier run with other options has left and this one will not write again.

    Returns
    -------
    list of pathlib.Path
        The files removed.
    """
    groups = sorted(set(plan.groups.values()))
    labels = {file_label(group, groups) for group in groups}
    columns = {file_label(column, [column]) for column in plan.choices.voxelwise}
    stale = [*plan.folder.glob('change*.tsv'), *plan.folder.glob('change*.json')]
    for path in plan.folder.glob('group-*_space-*'):
        if path.name.split('_')[0].removeprefix('group-') not in labels:
            stale.append(path)
    for path in plan.folder.glob('*_statmap.*'):
        name = path.name.partition('_desc-')[2].partition('_')[0]
        is_wanted = (
            bool(plan.choices.null_models)
            if name.endswith('BeyondChance')
            else any(name.endswith(f'On{column}') for column in columns)
        )
        if not is_wanted:
            stale.append(path)
    for path in stale:
        path.unlink(missing_ok=True)
    return stale


def cluster_rows(described: Described, places: Places) -> list[dict[str, Any]]:
    """Clusters of the mean map of everybody with their peaks in mm (nilearn).

    Voxels whose mean change reaches :data:`bids_interp.group.maps.stream.MAGNITUDE`; large grids
    are looked at in every second voxel.
    """
    from nilearn.reporting import get_clusters_table

    step = max(1, int(2.0 / float(places.grid.spacing.min())))
    volume = places.filled(described.groups[''].mean)[::step, ::step, ::step]
    affine = places.grid.affine @ np.diag([step, step, step, 1.0])
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
    rows = []
    for row in table.to_dict('records'):
        size = row['Cluster Size (mm3)']
        rows.append(
            {
                'map': described.name,
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


#: Data dictionaries.
CLUSTER_COLUMNS: dict[str, Column] = {
    'map': {'Description': 'Direction and dose in percent.'},
    'cluster': {'Description': 'Number of the cluster; letters mark further peaks in it.'},
    'x': {'Description': 'To the right.', 'Units': 'mm'},
    'y': {'Description': 'To the front.', 'Units': 'mm'},
    'z': {'Description': 'To the top.', 'Units': 'mm'},
    'peak_logj': {'Description': 'Mean log-Jacobian at the peak.', 'Units': '1'},
    'peak_pct': {'Description': 'Volume change at the peak.', 'Units': 'percent'},
    'size_mm3': {'Description': 'Size of the cluster; only in its first row.', 'Units': 'mm^3'},
}
INCLUSION_COLUMNS: dict[str, Column] = {
    'participant_id': {'Description': 'Participant.'},
    'session_id': {'Description': 'Session.'},
    'image': {'Description': 'Name of the T1w image without suffix.'},
    'group': {'Description': 'Group (--group-by).'},
    'included': {'Description': 'Whether its maps are in the summaries.'},
    'reason': {'Description': 'Why not, or what is to be known of it.'},
    'in_training_set': {'Description': 'Whether the model was trained with the subject.'},
    'folds': {
        'Description': 'Folds that explain it; none of them was trained with it, unless the reason '
        'says so.'
    },
    'model': {'Description': 'Model that explained it.'},
    'model_hash': {'Description': 'Its hash.'},
    'version': {'Description': 'Version of bids_interp that made its derivatives.'},
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
