"""Tables of the group level, and what the report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.bids.names import sidecar_name
from bids_interp.bids.write.atomic import write_json
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.errors import InputDatasetError
from bids_interp.group.covariates import missing_rows, table_name
from bids_interp.group.maps.descriptive import Described
from bids_interp.group.maps.map_files import (
    CLUSTER_COLUMNS,
    INCLUSION_COLUMNS,
    map_path,
    write_table,
)
from bids_interp.group.maps.map_reader import Places
from bids_interp.group.maps.named_regions import Regions
from bids_interp.group.maps.region_tables import GROUP_COLUMNS, wide_columns, wide_rows
from bids_interp.group.maps.responses import RESPONSE_COLUMNS, logit_rows, response_rows
from bids_interp.group.plan import GroupPlan, file_label
from bids_interp.group.scans import inclusion_row
from bids_interp.group.statistics.covariate_balance import CONFOUND_COLUMNS, confound_rows
from bids_interp.group.statistics.null import beyond_chance
from bids_interp.group.statistics.score_effects import (
    CHANGE_COLUMNS,
    EFFECT_COLUMNS,
    SCORE_COLUMNS,
    VOLUME,
    change_rows,
    model_change,
    model_scores,
    score_rows,
)
from bids_interp.group.statistics.voxelwise import voxelwise_glm
from bids_interp.records import to_plain

Facts = Mapping[str, Any]


def write_tables(plan: GroupPlan, described: Sequence[Facts], regions: Regions) -> dict[str, Any]:
    """Write who is in, regions, clusters, who lacks what, and the dose response.

    Returns
    -------
    dict
        ``inclusion``, ``missing`` and ``response``: rows that the report shows.
    """
    folder, common = plan.folder, plan.common()
    failed: dict[str, list[str]] = {}
    for one in described:
        for prefix, problem in one['failed'].items():
            failed.setdefault(prefix, []).append(f'without {one["name"]}: {problem}')
    inclusion = []
    for scan in plan.scans:
        row = inclusion_row(scan, plan.columns.of_group(scan) if scan.prediction else None)
        if scan.prefix in failed:
            row['reason'] = '; '.join(failed[scan.prefix])
            row['included'] = len(failed[scan.prefix]) < len(described)
        inclusion.append(row)
    write_table(folder / 'inclusion.tsv', inclusion, INCLUSION_COLUMNS, common)
    about = {'Description': f'Regions: {regions.source}.', **common}
    by_group = [row for one in described for row in one['regions']]
    write_table(folder / 'regions_groups.tsv', by_group, GROUP_COLUMNS, about)
    wide = wide_rows(
        [_described(one) for one in described],
        {scan.prefix: scan for scan in plan.included},
        regions,
        _of_tables(plan),
    )
    write_table(folder / 'regions_subjects.tsv', wide, wide_columns(wide), about)
    clusters = [row for one in described for row in one['clusters']]
    write_table(folder / 'clusters.tsv', clusters, CLUSTER_COLUMNS, common)
    missing = missing_rows(plan.columns, plan.scans)
    columns = {
        'image': INCLUSION_COLUMNS['image'],
        'lacks': {'Description': 'Columns that have no value of it.'},
    }
    write_table(folder / 'missing.tsv', missing, columns, common)
    response = response_rows(plan)
    write_table(folder / 'doseresponse.tsv', response, RESPONSE_COLUMNS, common)
    return {'inclusion': inclusion, 'missing': missing, 'response': response}


def _described(facts: Facts) -> Described:
    return Described(
        facts['name'],
        {},
        None,
        list(facts['images']),
        list(facts['without']),
        dict(facts['failed']),
        np.array(facts['means'], float),
        np.array(facts['changes'], float),
    )


def _of_tables(plan: GroupPlan) -> dict[str, dict[str, str | None]]:
    """Group and covariates of each image."""
    columns = plan.columns
    names = {columns.group: columns.group} if columns.group else {}
    names |= {column: table_name(column) for column in columns.chosen}
    return {
        scan.prefix: {name: columns.values[c].get(scan.prefix) for c, name in names.items()}
        for scan in plan.included
    }


def write_scores(plan: GroupPlan) -> dict[str, Any]:
    """Write scores, their model and their change over sessions.

    Returns
    -------
    dict
        ``rows`` (one per subject), ``confounds``, ``control_sd`` (dose), ``model``, ``changes``,
        ``change_model``.
    """
    folder, common = plan.folder, plan.common()
    rows, sd = score_rows(plan)
    columns = {
        **SCORE_COLUMNS,
        **{table_name(c): {'Description': f'{c} of the tables.'} for c in plan.columns.chosen},
    }
    about = {'ControlSD': sd, **common}
    write_table(folder / 'scores.tsv', rows, columns, about)
    main = {scan.prefix for scan in plan.included}
    first = [row for row in rows if row['image'] in main]
    names = [table_name(column) for column in plan.columns.chosen]
    levels = [table_name(column) for column in plan.columns.levels]
    confounds = confound_rows(first, [*names, VOLUME], levels)
    write_table(folder / 'confounds.tsv', confounds, CONFOUND_COLUMNS, common)
    model = model_scores(plan, rows)
    _write_model(folder / 'scores_model.tsv', model, common)
    changes = change_rows(plan, rows)
    change_model: dict[str, Any] = {}
    if changes:
        described = {name: columns[name] for name in names}
        write_table(folder / 'change.tsv', changes, {**CHANGE_COLUMNS, **described}, common)
        change_model = model_change(plan, changes)
        _write_model(folder / 'change_model.tsv', change_model, common)
    return {
        'rows': first,
        'confounds': confounds,
        'control_sd': sd,
        'model': model,
        'changes': changes,
        'change_model': change_model,
    }


def _write_model(path: Path, model: Facts, common: Facts) -> None:
    facts = {
        'Description': f'Linear model of the {model["score"]}, tested by exchanging residuals '
        'within folds (Freedman and Lane).',
        'NumberOfSubjects': model['n'],
        'NotTested': model['not_tested'],
        'LeftOut': model.get('left_out', {}),
        'Missing': model.get('missing', {}),
        'ExchangeabilityBlocks': model.get('blocks', {}),
    }
    write_table(path, model['effects'], EFFECT_COLUMNS, {**facts, **common})


_VOXELWISE = {
    't': 't of the number; group, other covariates and folds in the model.',
    'p': 'Two-sided p of t, corrected over voxels by the largest t of each permutation.',
    'tfce': 'Threshold-free cluster enhancement of t.',
    'tfcep': 'p of it, corrected over voxels.',
}


def write_voxelwise(plan: GroupPlan, name: str, column: str, places: Places) -> dict[str, Any]:
    """Write the maps of the voxel-wise model of one number."""
    facts, maps, coarse = voxelwise_glm(plan, name, column, places)
    label = file_label(column, [column])
    for kind, values in maps.items():
        path = plan.folder / (
            f'space-{coarse.grid.space}_desc-{name}On{label}_stat-{kind}_statmap.nii.gz'
        )
        volume = coarse.filled(values)
        if kind.endswith('p'):
            volume[~coarse.inside] = 1
        about = {'Description': _VOXELWISE[kind], 'Exploratory': True, **facts, **plan.common()}
        write_json(sidecar_name(path), about)
        write_nifti(path, volume, coarse.grid.affine, template=True)
    return facts


def write_pattern(plan: GroupPlan) -> dict[str, Any]:
    """Write the comparison with models of permuted labels."""
    choices = plan.choices
    if choices.bundle is None:
        raise InputDatasetError('The model itself is needed.', 'Give its folder with --model.')
    facts, volume, bundle = beyond_chance(choices.bundle, choices.null_models, choices.contrast)
    path = plan.folder / f'space-{bundle.template}_desc-injectBeyondChance_stat-p_statmap.nii.gz'
    words = (
        'p of the agreement of the folds on the injected pattern, against the largest agreement of '
        'models of permuted labels.'
    )
    write_json(sidecar_name(path), {'Description': words, **facts, **plan.common()})
    write_nifti(path, volume, bundle.grid.affine, template=True)
    return facts


def report_content(
    plan: GroupPlan,
    places: Places,
    regions: Regions,
    described: Sequence[Facts],
    tables: Facts,
    scores: Facts,
    voxelwise: Sequence[Facts],
    pattern: Facts,
) -> dict[str, Any]:
    """Everything that the report shows, in plain types and paths."""
    return {
        'model': plan.model,
        'space': places.grid.space,
        'target': to_plain(plan.target),
        'demonstration': plan.demonstration,
        'warranted': plan.warranted,
        'held_out_only': not plan.trained_with,
        'cross_fitted': any(scan.in_training for scan in plan.included),
        'group_column': plan.columns.group,
        'groups': sorted(set(plan.groups.values())),
        'covariates': [table_name(column) for column in plan.columns.chosen],
        'levels': [table_name(column) for column in plan.columns.levels],
        'reference': 'the controls' if plan.columns.negative else 'everybody',
        'visits_by_name': plan.choices.visits_by_name,
        'n': len(plan.included),
        'maps': [
            {
                **{key: one[key] for key in ('name', 'n', 'n_reliable', 'n_voxels')},
                'files': {
                    group: {
                        kind: map_path(plan, places, one['name'], kind, group)
                        for kind in ('mean', 'reliable')
                    }
                    for group in one['n']
                },
            }
            for one in described
        ],
        'regions': [row for one in described for row in one['regions']],
        'region_source': regions.source,
        'clusters': [row for one in described for row in one['clusters']],
        'logits': logit_rows(plan),
        'voxelwise': list(voxelwise),
        'pattern': dict(pattern),
        'permutations': plan.choices.permutations,
        **tables,
        'scores': scores,
    }
