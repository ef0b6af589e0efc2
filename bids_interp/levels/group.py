"""Group level: select the images, summarise and test their results, write the report."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bids_interp.bids.write.dataset_description import prepare_output
from bids_interp.errors import InputDatasetError
from bids_interp.execution.execute import configure_nipype, run_nodes
from bids_interp.execution.locks import ResultLocks
from bids_interp.execution.log import add_log_file, start_logging
from bids_interp.execution.outcome import FAILED
from bids_interp.execution.plugins.plugin_file import check_plugin
from bids_interp.execution.resources import available_cpus, prepare_caches
from bids_interp.execution.run import Run, start_run
from bids_interp.execution.run_folders import check_folders, choose_work_dir, prepare_work_dir
from bids_interp.settings import Settings
from bids_interp.version import __version__

if TYPE_CHECKING:
    from bids_interp.group.analysis import GroupAnalysis
    from bids_interp.group.scans import GroupScan
    from bids_interp.models.bundle.reader import ModelBundle

logger = logging.getLogger('bids_interp')

SHOWN = 20


def run_group(settings: Settings) -> int:
    """Run the group level and return its exit code.

    Raises
    ------
    BidsInterpError
        If a check before the computation fails.
    """
    started = time.monotonic()
    start_logging(settings.verbose)
    check_plugin(settings.use_plugin)
    work_dir = choose_work_dir(settings)
    logger.info('bids_interp %s: group level of %s', __version__, settings.output_dir)
    analysis = prepare_group(settings)
    if analysis.choices.voxelwise:
        _check_voxelwise(analysis)
    check_folders(settings, work_dir)
    prepare_caches(work_dir)
    click.echo(group_summary(analysis))
    if settings.dry_run:
        click.echo('Dry run: nothing was written.')
        return 0
    prepare_work_dir(work_dir, clean=settings.clean_workdir)
    prepare_output(settings.output_dir, {'raw': settings.bids_dir})
    run = start_run(settings, work_dir)
    with ResultLocks(run, [f'group-{analysis.folder.name}']) as locks:
        locks.check()
        add_log_file(settings.output_dir / 'logs' / f'{run.uuid}.log')
        code = _compute(analysis, run)
    logger.info('Total time: %.0f s.', time.monotonic() - started)
    return code


def prepare_group(settings: Settings) -> GroupAnalysis:
    """Find the images and the model, and exclude images that must not be pooled.

    Raises
    ------
    BidsInterpError
        If there are no results, too few images remain, or the tables do not match them.
    """
    from bids_interp.group.analysis import AnalysisChoices, GroupAnalysis, folder_name
    from bids_interp.group.covariates import read_group_variables
    from bids_interp.group.scans import (
        choose_summarised_model,
        exclude_relatives,
        find_scans,
        order_scans,
        select_scans,
    )

    if not settings.bids_dir.is_dir():
        raise InputDatasetError(f'The input dataset {settings.bids_dir} is not a folder.')
    scans = find_scans(settings.output_dir, settings.participant_label, settings.session_label)
    scans, by_name = order_scans(scans, settings.bids_dir)
    bundle = _requested_bundle(settings)
    model = choose_summarised_model(scans, (bundle.name, bundle.version_hash) if bundle else None)
    bundle = bundle or _find_bundle(settings, model)
    n_folds = bundle.n_folds if bundle else None
    scans = select_scans(scans, model, n_folds, settings.include_training)
    check_group_size(scans)
    prediction = next(scan.prediction for scan in scans if scan.prediction and not scan.reason)
    columns = read_group_variables(settings, scans, prediction.target)
    scans = exclude_relatives(scans, columns.of_family, settings.include_training)
    check_group_size(scans)
    choices = AnalysisChoices(
        random_seed=settings.random_seed,
        group_asked=settings.group_by is not None,
        visits_by_name=by_name,
        include_training=settings.include_training,
        atlas=settings.atlas,
        atlas_labels=settings.atlas_labels,
        permutations=settings.permutations,
        voxelwise=tuple(settings.voxelwise),
        tfce=settings.tfce,
        null_models=tuple(settings.null_models),
        bundle=bundle.path if bundle else None,
        contrast=settings.contrast,
        offline=settings.offline,
        nprocs=settings.nprocs or available_cpus(),
    )
    if settings.null_models and bundle is None:
        raise InputDatasetError(
            f'--null-models requires the model {model[0]} ({model[1]}), which was not found.',
            'Give its folder with --model.',
        )
    folder = settings.output_dir / 'group' / folder_name(model)
    return GroupAnalysis(settings.output_dir, folder, scans, columns, model, choices)


def _check_voxelwise(analysis: GroupAnalysis) -> None:
    from bids_interp.group.maps.map_reader import map_names
    from bids_interp.group.statistics.voxelwise import check_maps_differ

    check_maps_differ(analysis, map_names(analysis.included)[0])


def _requested_bundle(settings: Settings) -> ModelBundle | None:
    if settings.model is None:
        return None
    from bids_interp.models.bundle.reader import load_bundle

    return load_bundle(settings.model, settings.contrast)


def _find_bundle(settings: Settings, model: tuple[str, str]) -> ModelBundle | None:
    """Return the bundle that explained the images, if it can still be found."""
    from bids_interp.errors import ModelError
    from bids_interp.models.bundle.reader import default_bundle_path, load_bundle

    for path in (settings.output_dir / 'models' / model[0], default_bundle_path()):
        try:
            bundle = load_bundle(path, settings.contrast)
        except ModelError:
            continue
        if (bundle.name, bundle.version_hash) == model:
            return bundle
    return None


def check_group_size(scans: Sequence[GroupScan]) -> None:
    """Refuse a group of fewer than two subjects.

    Raises
    ------
    InputDatasetError
        With the reason for each excluded subject.
    """
    kept = [scan for scan in scans if not scan.reason]
    if len(kept) >= 2:
        return
    lines = [f'  {scan.prefix}: {scan.reason}' for scan in scans if scan.reason]
    more = f'\n  and {len(lines) - SHOWN} more' if len(lines) > SHOWN else ''
    why = '\n' + '\n'.join(lines[:SHOWN]) + more + '\n' if lines else ''
    raise InputDatasetError(
        f'{len(kept)} of {len(scans)} subjects can be used; a group needs at least two.{why}',
        'Process more subjects at the participant level, or use --include-training.',
    )


def group_summary(analysis: GroupAnalysis) -> str:
    """Return a description of the included and excluded images."""
    kept, groups = analysis.included, analysis.groups
    counts = [
        f'{sum(value == name for value in groups.values())} {name}'
        for name in sorted(set(groups.values()))
    ]
    whom = f' ({analysis.columns.group}: {", ".join(counts)})' if counts else ''
    lines = [f'{len(kept)} subjects, model {analysis.model[0]} ({analysis.model[1]}){whom}.']
    trained = sum(scan.in_training for scan in kept)
    if trained and not analysis.trained_with:
        lines.append(
            f'{trained} of them were used to train the model. Each is explained only by the fold '
            'that held it out.'
        )
    reasons: dict[str, list[str]] = {}
    for scan in analysis.scans:
        if scan.reason:
            reasons.setdefault(scan.reason, []).append(scan.prefix)
    for reason, names in reasons.items():
        shown = ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')
        lines.append(f'Excluded: {shown}: {reason}.')
    if analysis.choices.visits_by_name:
        lines.append(
            'Some sessions have no acq_time in sub-*_sessions.tsv or *_scans.tsv, so sessions are '
            'ordered by name.'
        )
    lines.append(f'Results: {analysis.folder}')
    return '\n'.join(lines)


def _compute(analysis: GroupAnalysis, run: Run) -> int:
    """Run the workflow; return 1 if a step failed or a map is damaged or lost, else 0."""
    configure_nipype(run)
    from bids_interp.group.maps.map_files import remove_stale
    from bids_interp.group.maps.map_reader import find_masked_grid, map_names
    from bids_interp.group.maps.named_regions import find_regions, save_grid_regions
    from bids_interp.workflows.group import init_group_wf

    choices = analysis.choices
    masked = find_masked_grid(analysis.included)
    labels = choices.atlas_labels
    regions = find_regions(
        masked, choices.atlas, labels, offline=choices.offline, threads=run.omp_nthreads
    )
    for path in remove_stale(analysis):
        logger.info('Removed %s, which an earlier run wrote with other options.', path.name)
    base_dir = run.work_dir / f'group-{analysis.folder.name}'
    base_dir.mkdir(parents=True, exist_ok=True)
    crash_dir = run.settings.output_dir / 'logs' / f'{run.uuid}_crashes'
    workflow = init_group_wf(
        analysis=analysis.write(base_dir / 'analysis.json'),
        grid_regions=save_grid_regions(base_dir / 'grid_regions.npz', masked, regions),
        maps=map_names(analysis.included),
        voxelwise=choices.voxelwise,
        null_models=bool(choices.null_models),
        nprocs=run.nprocs,
        crash_dir=crash_dir,
        base_dir=base_dir,
    )
    outcome = run_nodes(run, workflow, crash_dir)
    if outcome.status == FAILED:
        logger.error('The group level failed%s', outcome.failure)
        logger.error('Finished steps are kept; run the same command again to continue.')
        return 1
    click.echo(f'Report: {analysis.folder / "report.html"}')
    is_lost = _has_lost(analysis.included)
    return int(_has_damaged(base_dir, analysis.scans) or is_lost)


def _has_lost(scans: Sequence[GroupScan]) -> bool:
    """Log the images that lack a map which the participant level had written."""
    from bids_interp.group.file_inclusion import lost_maps

    lost = {scan.prefix: names for scan in scans if (names := lost_maps(scan))}
    for prefix, names in lost.items():
        logger.error(
            '%s: no map %s in template space, although its prediction lists it. Run the '
            'participant level of this subject again.',
            prefix,
            ', '.join(names),
        )
    return bool(lost)


def _has_damaged(base_dir: Path, scans: Sequence[GroupScan]) -> bool:
    """Log the images with unreadable maps, which the tables and the report name, too."""
    found = base_dir.glob('group_wf/describe_*/result.json')
    damaged = {name for path in found for name in json.loads(path.read_text('utf-8'))['failed']}
    damaged |= {scan.prefix for scan in scans if scan.is_damaged}
    for name in sorted(damaged):
        logger.error('%s: a map cannot be read; the image was excluded.', name)
    return bool(damaged)
