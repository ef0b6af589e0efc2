"""Tables of the group level, and the content of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.bids.names import sidecar_name
from bids_interp.bids.write.atomic import write_json
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.errors import InputDatasetError
from bids_interp.group.analysis import GroupAnalysis, file_label
from bids_interp.group.covariates import covariate_column, missing_rows
from bids_interp.group.file_inclusion import file_cells
from bids_interp.group.maps.descriptive import MapSummary
from bids_interp.group.maps.map_files import (
    CLUSTER_COLUMNS,
    INCLUSION_COLUMNS,
    map_path,
    share_fields,
    write_table,
)
from bids_interp.group.maps.map_reader import MaskedGrid
from bids_interp.group.maps.named_regions import NamedRegions
from bids_interp.group.maps.region_tables import GROUP_COLUMNS, wide_columns, wide_rows
from bids_interp.group.maps.responses import RESPONSE_COLUMNS, logit_rows, response_rows
from bids_interp.group.scans import inclusion_row
from bids_interp.group.statistics.covariate_balance import BALANCE_COLUMNS, balance_rows
from bids_interp.group.statistics.null import compare_with_null_models
from bids_interp.group.statistics.score_effects import (
    CHANGE_COLUMNS,
    EFFECT_COLUMNS,
    SCORE_COLUMNS,
    VOLUME,
    change_rows,
    family_facts,
    model_change,
    model_scores,
    score_rows,
)
from bids_interp.group.statistics.voxelwise import voxelwise_glm
from bids_interp.records import to_plain

Facts = Mapping[str, Any]


def write_group_tables(
    analysis: GroupAnalysis, summaries: Sequence[Facts], regions: NamedRegions
) -> dict[str, Any]:
    """Write the tables of inclusion, regions, clusters, missing values and dose response.

    Returns
    -------
    dict
        Rows for the report: ``inclusion``, ``missing`` and ``response``.
    """
    folder, common = analysis.folder, analysis.common()
    inclusion = []
    for scan in analysis.scans:
        row = inclusion_row(scan, analysis.columns.of_group(scan) if scan.prediction else None)
        if not scan.reason:
            row |= file_cells(scan, analysis.included, summaries)
        inclusion.append(row)
    write_table(folder / 'inclusion.tsv', inclusion, INCLUSION_COLUMNS, common)
    about = {
        'Description': f'Regions: {regions.source}.',
        'Families': family_facts(analysis.columns.family, _families(analysis)),
        'PersonalShare': {
            summary['name']: share_fields(summary['personal_share']['']) for summary in summaries
        },
        **common,
    }
    by_group = [row for summary in summaries for row in summary['regions']]
    write_table(folder / 'regions_groups.tsv', by_group, GROUP_COLUMNS, about)
    wide = wide_rows(
        [_read_summary(summary) for summary in summaries],
        {scan.prefix: scan for scan in analysis.included},
        regions,
        _of_tables(analysis),
    )
    write_table(folder / 'regions_subjects.tsv', wide, wide_columns(wide), about)
    clusters = [row for summary in summaries for row in summary['clusters']]
    write_table(folder / 'clusters.tsv', clusters, CLUSTER_COLUMNS, common)
    missing = missing_rows(analysis.columns, analysis.scans)
    columns = {
        'image': INCLUSION_COLUMNS['image'],
        'lacks': {'Description': 'Columns without a value for the image.'},
    }
    write_table(folder / 'missing.tsv', missing, columns, common)
    response = response_rows(analysis)
    write_table(folder / 'doseresponse.tsv', response, RESPONSE_COLUMNS, common)
    return {'inclusion': inclusion, 'missing': missing, 'response': response}


def _families(analysis: GroupAnalysis) -> np.ndarray:
    return np.array([analysis.columns.of_family(scan.subject) for scan in analysis.included])


def _read_summary(facts: Facts) -> MapSummary:
    return MapSummary(
        facts['name'],
        {},
        None,
        list(facts['images']),
        list(facts['without']),
        dict(facts['failed']),
        np.array(facts['means'], float),
        np.array(facts['changes'], float),
        np.array(facts['shares'], float),
    )


def _of_tables(analysis: GroupAnalysis) -> dict[str, dict[str, str | None]]:
    """Return group and covariates of each included image."""
    columns = analysis.columns
    names = {columns.group: columns.group} if columns.group else {}
    names |= {column: covariate_column(column) for column in columns.chosen}
    return {
        scan.prefix: {name: columns.values[c].get(scan.prefix) for c, name in names.items()}
        for scan in analysis.included
    }


def write_scores(analysis: GroupAnalysis) -> dict[str, Any]:
    """Write the scores, their model and their change over sessions.

    Returns
    -------
    dict
        Content for the report: ``rows`` (one per subject), ``confounds``, ``control_sd`` (dose),
        ``model``, ``changes`` and ``change_model``.
    """
    folder, common = analysis.folder, analysis.common()
    rows, sd = score_rows(analysis)
    columns = {
        **SCORE_COLUMNS,
        **{
            covariate_column(c): {'Description': f'Value of {c} in the tables of the dataset.'}
            for c in analysis.columns.chosen
        },
    }
    about = {'ControlSD': sd, **common}
    write_table(folder / 'scores.tsv', rows, columns, about)
    main = {scan.prefix for scan in analysis.included}
    first = [row for row in rows if row['image'] in main]
    names = [covariate_column(column) for column in analysis.columns.chosen]
    levels = [covariate_column(column) for column in analysis.columns.levels]
    confounds = balance_rows(first, [*names, VOLUME], levels)
    write_table(folder / 'confounds.tsv', confounds, BALANCE_COLUMNS, common)
    model = model_scores(analysis, rows)
    _write_model(folder / 'scores_model.tsv', model, common)
    changes = change_rows(analysis, rows)
    change_model: dict[str, Any] = {}
    if changes:
        summary = {name: columns[name] for name in names}
        write_table(folder / 'change.tsv', changes, {**CHANGE_COLUMNS, **summary}, common)
        change_model = model_change(analysis, changes)
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
        'Description': f'Linear model of the {model["score"]}, tested by permuting residuals '
        'within folds, families as wholes (Freedman and Lane).',
        'NumberOfSubjects': model['n'],
        'NotTested': model['not_tested'],
        'LeftOut': model.get('left_out', {}),
        'Missing': model.get('missing', {}),
        'ExchangeabilityBlocks': model.get('blocks', {}),
        'Families': model.get('families', {}),
    }
    write_table(path, model['effects'], EFFECT_COLUMNS, {**facts, **common})


_VOXELWISE = {
    't': 't of the numeric variable, adjusted for group, other covariates and folds.',
    'p': 'Two-sided p-value of t, corrected over voxels by the largest |t| of each permutation.',
    'tfce': 'Threshold-free cluster enhancement of t.',
    'tfcep': 'p-value of the enhanced t, corrected over voxels.',
}


def write_voxelwise(
    analysis: GroupAnalysis, name: str, column: str, masked: MaskedGrid
) -> dict[str, Any]:
    """Write the maps of the voxelwise model of one numeric variable."""
    facts, maps, coarse = voxelwise_glm(analysis, name, column, masked)
    label = file_label(column, [column])
    for kind, values in maps.items():
        path = analysis.folder / (
            f'space-{coarse.grid.space}_desc-{name}On{label}_stat-{kind}_statmap.nii.gz'
        )
        volume = coarse.filled(values)
        if kind.endswith('p'):
            volume[~coarse.inside] = 1
        about = {'Description': _VOXELWISE[kind], 'Exploratory': True, **facts, **analysis.common()}
        write_json(sidecar_name(path), about)
        write_nifti(path, volume, coarse.grid.affine, template=True)
    return facts


def write_pattern(analysis: GroupAnalysis) -> dict[str, Any]:
    """Write the comparison with models trained with permuted labels."""
    choices = analysis.choices
    if choices.bundle is None:
        raise InputDatasetError(
            'The model is required for this comparison.', 'Give its folder with --model.'
        )
    facts, volume, bundle = compare_with_null_models(
        choices.bundle, choices.null_models, choices.contrast
    )
    path = (
        analysis.folder / f'space-{bundle.template}_desc-injectBeyondChance_stat-p_statmap.nii.gz'
    )
    description = (
        'p-value of the agreement of the folds on the injected pattern, compared with the largest '
        'agreement in models trained with permuted labels. The control of the error over voxels is '
        'weak: the map tests whether the labels have anything to do with the pattern as a whole, '
        'and does not show where.'
    )
    write_json(sidecar_name(path), {'Description': description, **facts, **analysis.common()})
    write_nifti(path, volume, bundle.grid.affine, template=True)
    return facts


def report_content(
    analysis: GroupAnalysis,
    masked: MaskedGrid,
    regions: NamedRegions,
    summaries: Sequence[Facts],
    tables: Facts,
    scores: Facts,
    voxelwise: Sequence[Facts],
    pattern: Facts,
) -> dict[str, Any]:
    """Return the content of the report as plain types and paths."""
    return {
        'model': analysis.model,
        'space': masked.grid.space,
        'target': to_plain(analysis.target),
        'demonstration': analysis.demonstration,
        'warranted': analysis.warranted,
        'held_out_only': not analysis.trained_with,
        'cross_fitted': any(scan.in_training for scan in analysis.included),
        'group_column': analysis.columns.group,
        'groups': sorted(set(analysis.groups.values())),
        'covariates': [covariate_column(column) for column in analysis.columns.chosen],
        'levels': [covariate_column(column) for column in analysis.columns.levels],
        'reference': 'the controls' if analysis.columns.negative else 'all subjects',
        'visits_by_name': analysis.choices.visits_by_name,
        'n': len(analysis.included),
        'maps': [
            {
                **{
                    key: summary[key]
                    for key in ('name', 'n', 'n_reliable', 'n_voxels', 'personal_share')
                },
                'files': {
                    group: {
                        kind: map_path(analysis, masked, summary['name'], kind, group)
                        for kind in ('mean', 'reliable')
                    }
                    for group in summary['n']
                },
            }
            for summary in summaries
        ],
        'regions': [row for summary in summaries for row in summary['regions']],
        'region_source': regions.source,
        'clusters': [row for summary in summaries for row in summary['clusters']],
        'logits': logit_rows(analysis),
        'voxelwise': list(voxelwise),
        'pattern': dict(pattern),
        'permutations': analysis.choices.permutations,
        **tables,
        'scores': scores,
    }
