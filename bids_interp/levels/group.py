"""The group level: find, select, summarise, test, report."""

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
from bids_interp.execution.folders import check_places, choose_work_dir, prepare_work_dir
from bids_interp.execution.log import add_log_file, start_logging
from bids_interp.execution.outcome import FAILED
from bids_interp.execution.plugins.plugin_file import check_plugin
from bids_interp.execution.resources import available_cpus, prepare_caches
from bids_interp.execution.run import Run, start_run
from bids_interp.settings import Settings
from bids_interp.version import __version__

if TYPE_CHECKING:
    from bids_interp.group.analysis import GroupAnalysis
    from bids_interp.group.scans import GroupScan
    from bids_interp.models.bundle.reader import ModelBundle

logger = logging.getLogger('bids_interp')

SHOWN = 20


def run_group(settings: Settings) -> int:
    """Do the group level and return its exit code.

    Raises
    ------
    BidsInterpError
        If something is wrong before anything is computed.
    """
    started = time.monotonic()
    start_logging(settings.verbose)
    check_plugin(settings.use_plugin)
    work_dir = choose_work_dir(settings)
    logger.info('bids_interp %s: group of %s', __version__, settings.output_dir)
    analysis = prepare_analysis(settings)
    check_places(settings, work_dir)
    prepare_caches(work_dir)
    click.echo(describe(analysis))
    if settings.dry_run:
        click.echo('Dry run: nothing was written.')
        return 0
    prepare_work_dir(work_dir, clean=settings.clean_workdir)
    prepare_output(settings.output_dir, {'raw': settings.bids_dir})
    run = start_run(settings, work_dir)
    add_log_file(settings.output_dir / 'logs' / f'{run.uuid}.log')
    code = compute(analysis, run)
    logger.info('%.0f s in all.', time.monotonic() - started)
    return code


def prepare_analysis(settings: Settings) -> GroupAnalysis:
    """Find the images, choose the model, leave out what must not be mixed.

    Raises
    ------
    BidsInterpError
        If nothing is there, nobody is left, or the tables do not fit.
    """
    from bids_interp.group.analysis import GroupAnalysis, GroupChoices, folder_name
    from bids_interp.group.covariates import read_group_variables
    from bids_interp.group.scans import choose_group_model, find_scans, order_scans, select_scans

    if not settings.bids_dir.is_dir():
        raise InputDatasetError(f'The input dataset {settings.bids_dir} is not a folder.')
    scans = find_scans(settings.output_dir, settings.participant_label, settings.session_label)
    scans, by_name = order_scans(scans, settings.bids_dir)
    bundle = _bundle_asked_for(settings)
    model = choose_group_model(scans, (bundle.name, bundle.version_hash) if bundle else None)
    bundle = bundle or _bundle_of(settings, model)
    n_folds = bundle.n_folds if bundle else None
    scans = select_scans(scans, model, n_folds, settings.include_training)
    check_enough(scans)
    prediction = next(scan.prediction for scan in scans if scan.prediction and not scan.reason)
    columns = read_group_variables(settings, scans, prediction.target)
    choices = GroupChoices(
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
            f'--null-models: the model {model[0]} ({model[1]}) itself is not at hand.',
            'Give its folder with --model.',
        )
    folder = settings.output_dir / 'group' / folder_name(model)
    return GroupAnalysis(settings.output_dir, folder, scans, columns, model, choices)


def _bundle_asked_for(settings: Settings) -> ModelBundle | None:
    if settings.model is None:
        return None
    from bids_interp.models.bundle.reader import load_bundle

    return load_bundle(settings.model, settings.contrast)


def _bundle_of(settings: Settings, model: tuple[str, str]) -> ModelBundle | None:
    """The bundle that explained the images, where it is still at hand; it is not needed."""
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


def check_enough(scans: Sequence[GroupScan]) -> None:
    """Refuse a group of fewer than two.

    Raises
    ------
    InputDatasetError
        With the reasons why the others are left out.
    """
    kept = [scan for scan in scans if not scan.reason]
    if len(kept) >= 2:
        return
    lines = [f'  {scan.prefix}: {scan.reason}' for scan in scans if scan.reason]
    more = f'\n  and {len(lines) - SHOWN} more' if len(lines) > SHOWN else ''
    why = '\n' + '\n'.join(lines[:SHOWN]) + more + '\n' if lines else ''
    raise InputDatasetError(
        f'{len(kept) or "No"} subject can be used; a group needs at least two.{why}',
        'Explain more subjects with the participant level, or see --include-training.',
    )


def describe(analysis: GroupAnalysis) -> str:
    """Who is in and who is not, in words."""
    kept, groups = analysis.included, analysis.groups
    counts = [
        f'{sum(value == name for value in groups.values())} {name}'
        for name in sorted(set(groups.values()))
    ]
    whom = f' ({analysis.columns.group}: {", ".join(counts)})' if counts else ''
    lines = [f'{len(kept)} subjects of the model {analysis.model[0]} ({analysis.model[1]}){whom}.']
    trained = sum(scan.in_training for scan in kept)
    if trained and not analysis.trained_with:
        lines.append(
            f'{trained} of them are training subjects of the model; only folds that have not seen '
            'them explain them.'
        )
    reasons: dict[str, list[str]] = {}
    for scan in analysis.scans:
        if scan.reason:
            reasons.setdefault(scan.reason, []).append(scan.prefix)
    for reason, names in reasons.items():
        shown = ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')
        lines.append(f'Left out: {shown}: {reason}.')
    if analysis.choices.visits_by_name:
        lines.append(
            'The dataset does not tell when some sessions were: they are in the order of their '
            'names (acq_time in sub-*_sessions.tsv or *_scans.tsv).'
        )
    lines.append(f'Results: {analysis.folder}')
    return '\n'.join(lines)


def compute(analysis: GroupAnalysis, run: Run) -> int:
    """Run the workflow; 1 if a step of it failed or a map could not be read."""
    configure_nipype(run)
    from bids_interp.group.maps.map_files import remove_stale
    from bids_interp.group.maps.map_reader import find_masked_grid, map_names
    from bids_interp.group.maps.named_regions import find_regions, save_grid_regions
    from bids_interp.workflows.group import init_group_wf

    choices = analysis.choices
    masked = find_masked_grid(analysis.included)
    labels = choices.atlas_labels
    regions = find_regions(masked, choices.atlas, labels, offline=choices.offline)
    for path in remove_stale(analysis):
        logger.info('%s is of an earlier run with other options; it was removed.', path.name)
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
        where = f' in {outcome.step}' if outcome.step else ''
        details = f' Details: {outcome.crash_file}' if outcome.crash_file else ''
        logger.error('The group level failed%s: %s%s', where, outcome.problem, details)
        return 1
    click.echo(f'Report: {analysis.folder / "report.html"}')
    return int(_has_damaged(base_dir))


def _has_damaged(base_dir: Path) -> bool:
    """Whether a map could not be read; it is named in the tables and the report."""
    found = base_dir.glob('group_wf/describe_*/result.json')
    damaged = {name for path in found for name in json.loads(path.read_text('utf-8'))['failed']}
    for name in sorted(damaged):
        logger.error('%s: a map of it cannot be read; it was left out.', name)
    return bool(damaged)
