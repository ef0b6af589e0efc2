"""Tool `inject`: check the input, plant the change into each image, write the tables."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_interp.anatomical.templates import with_head_template
from bids_interp.bids.read.description import dataset_key, read_description
from bids_interp.bids.read.participants import look_alike
from bids_interp.bids.read.query import T1wRecord, collect
from bids_interp.bids.write.atomic import write_tsv
from bids_interp.bids.write.injected import (
    TRUTH,
    ParticipantTable,
    check_injected_output,
    clear_injected_output,
    read_participant_table,
    write_injected_descriptions,
    write_participant_table,
)
from bids_interp.errors import OutputError
from bids_interp.execution.execute import configure_nipype, execute
from bids_interp.execution.log import start_logging
from bids_interp.execution.outcome import DONE, RunOutcome
from bids_interp.execution.plugins.plugin_file import check_plugin
from bids_interp.execution.resources import available_cpus, prepare_caches
from bids_interp.execution.run import MAX_THREADS, start_run
from bids_interp.execution.run_folders import check_private, choose_work_dir, prepare_work_dir
from bids_interp.levels.inject_request import Injection, fit_injection, injection_record
from bids_interp.settings import Settings

if TYPE_CHECKING:
    from bids_interp.phantom.change.atrophy import AtrophyField
    from bids_interp.phantom.inject.assignment import Replicate
    from bids_interp.phantom.inject.scenarios import Scenario

logger = logging.getLogger('bids_interp')


def run_inject(settings: Settings, injection: Injection) -> int:
    """Plant a change into the T1w images of a dataset and return the exit code.

    Parameters
    ----------
    settings : Settings
        Folders, selection and preparation of the images, and resources.
    injection : Injection
        Change to plant.

    Raises
    ------
    BidsInterpError
        If a check before the computation fails.
    """
    started = time.monotonic()
    start_logging(settings.verbose)
    settings = with_head_template(settings)
    records = collect(settings)
    from bids_interp.phantom.inject.assignment import assign_groups
    from bids_interp.phantom.truth import IGNORED

    families = sorted({record.subject for record in records})
    chosen = assign_groups(
        families,
        injection.scenario,
        injection.severity,
        injection.fraction,
        injection.replicates,
        injection.seed,
    )
    source = read_description(settings.bids_dir)
    people = read_participant_table(settings.bids_dir)
    if hint := look_alike(people.rows, families):
        logger.warning('%s: %s', settings.bids_dir / 'participants.tsv', hint)
    record = injection_record(settings, injection, records, dataset_key(source))
    work_dir = _check_work_dir(settings)
    outdated = check_injected_output(
        settings.output_dir, settings.bids_dir, record, injection.overwrite
    )
    prepare_caches(work_dir)
    prepare_work_dir(work_dir, clean=False)
    change = fit_injection(settings, injection)
    if outdated:
        clear_injected_output(settings.output_dir)
    write_injected_descriptions(settings.output_dir, source, record, IGNORED)
    result = _compute(settings, injection, records, chosen, change, work_dir)
    done = {outcome.name for outcome in result.of(DONE)}
    finished = {record.subject for record in records if record.prefix in done}
    made = [replicate for replicate in chosen if replicate.family in finished]
    if made:
        _write_tables(settings.output_dir, people, made, injection.scenario)
    logger.info('Total time: %.0f s.', time.monotonic() - started)
    result.log(logger)
    return result.exit_code


def _check_work_dir(settings: Settings) -> Path:
    check_plugin(settings.use_plugin)
    work_dir = choose_work_dir(settings)
    for folder in (settings.output_dir, settings.bids_dir):
        if work_dir.resolve() == folder.resolve() or folder.resolve() in work_dir.resolve().parents:
            raise OutputError(
                f'The work directory {work_dir} is inside the dataset {folder}.',
                'Choose another folder with --work-dir.',
            )
    check_private(work_dir)
    return work_dir


def _compute(
    settings: Settings,
    injection: Injection,
    records: Sequence[T1wRecord],
    chosen: Sequence[Replicate],
    change: AtrophyField,
    work_dir: Path,
) -> RunOutcome:
    from bids_interp.phantom.inject.planted_scan import save_change

    nprocs = settings.nprocs or available_cpus()
    threads = min(settings.omp_nthreads or max(1, nprocs // len(records)), nprocs, MAX_THREADS)
    base_dir = work_dir / f'inject-{_work_key(settings, injection)}'
    base_dir.mkdir(parents=True, exist_ok=True)
    # Crash files must not be written into the dataset.
    logs = settings.replace(output_dir=base_dir / 'logs')
    run = start_run(logs, work_dir, omp_nthreads=threads)
    configure_nipype(run)
    from bids_interp.workflows.inject import init_inject_wf

    change_file = base_dir / f'change-{run.uuid}.npz'
    save_change(change_file, change)
    replicates: dict[str, list[Mapping[str, Any]]] = {}
    for replicate in chosen:
        replicates.setdefault(replicate.family, []).append(replicate.to_dict())
    workflow = init_inject_wf(
        run=run,
        records=records,
        replicates=replicates,
        injection={
            'atrophy': str(change_file),
            'seed': injection.seed,
            'null': injection.scenario.null,
            'anatomy_mm': injection.anatomy_mm,
            'out_dir': str(settings.output_dir),
        },
        model_template=injection.template,
        base_dir=base_dir,
    )
    logger.info(
        '%d images, %d replicates each, up to %d processes; work directory %s',
        len(records),
        injection.replicates,
        nprocs,
        work_dir,
    )
    try:
        return execute(run, workflow, records)
    finally:
        change_file.unlink(missing_ok=True)


def _work_key(settings: Settings, injection: Injection) -> str:
    """Return the key of the registrations, which other changes of the same scans share."""
    parts = [
        read_description(settings.bids_dir),
        settings.skull_strip_t1w,
        settings.template,
        settings.fast,
        settings.random_seed,
        injection.template,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]


def _write_tables(
    out: Path, people: ParticipantTable, made: Sequence[Replicate], scenario: Scenario
) -> None:
    """Write participants.tsv and truth.tsv for the replicates that were made."""
    used = {'confound': scenario.confound is not None, 'scaling': scenario.scaling_sd > 0}
    subjects = [{**r.to_dict(), 'group': r.group, 'replicate': r.number} for r in made]
    write_participant_table(
        out, people, subjects, [name for name, is_used in used.items() if is_used]
    )
    truths = [
        {
            'participant_id': f'sub-{replicate.label}',
            'direction': 'remove' if replicate.patient else 'inject',
            # The map of a control shows the change at severity 1.
            'severity': replicate.severity if replicate.patient or scenario.null else 1.0,
        }
        for replicate in made
    ]
    write_tsv(out / TRUTH / 'truth.tsv', truths)
