"""Benchmark with a known truth: prepare the brains, run the graph, write the table."""

from __future__ import annotations

import hashlib
import logging
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bids_interp.anatomical.templates import with_head_template
from bids_interp.bench.design import Benchmark
from bids_interp.bids.read.query import T1wRecord, collect
from bids_interp.bids.write.atomic import write_json
from bids_interp.bids.write.dataset_description import prepare_output
from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.errors import InputDatasetError, OutputError
from bids_interp.execution.execute import configure_nipype, execute, run_nodes
from bids_interp.execution.log import add_log_file, start_logging
from bids_interp.execution.outcome import DONE, FAILED, Outcome
from bids_interp.execution.plugins.plugin_file import check_plugin, choose_device
from bids_interp.execution.resources import prepare_caches
from bids_interp.execution.run import Run, start_run
from bids_interp.execution.run_folders import check_folders, choose_work_dir, prepare_work_dir
from bids_interp.levels.preflight import preflight
from bids_interp.records import read_record
from bids_interp.settings import Settings
from bids_interp.version import __version__

if TYPE_CHECKING:
    from bids_interp.bench.records import Provenance, ScenarioRecord
    from bids_interp.bids.read.prepared import PreparedFiles
    from bids_interp.workflows.bench_unit import BenchFiles

logger = logging.getLogger('bids_interp')


def run_bench(settings: Settings, benchmark: Benchmark, command: Sequence[str] = ()) -> int:
    """Run the benchmark and return the exit code.

    Parameters
    ----------
    settings : Settings
        Input, selection, preparation and resources. Prepared brains are written to its output
        directory, ``<OUT>/derivatives``, and results to the parent of that folder.
    benchmark : Benchmark
        Scenarios, methods and recipes.
    command : sequence of str
        Command line, for the table.

    Raises
    ------
    BidsInterpError
        If a check before the computation fails, or too few brains could be prepared.
    """
    started = time.monotonic()
    start_logging(settings.verbose)
    settings = with_head_template(settings)
    out = settings.output_dir.parent
    work_dir = bench_work_dir(settings, out)
    records = first_images(collect(settings))
    check_brains(len(records), benchmark.n_folds)
    run = open_bench(settings, out, work_dir)
    logger.info(
        '%d brains, %s with seeds %s, %d replicates of each brain, voxels of %g mm; %s',
        len(records),
        ', '.join(benchmark.scenarios),
        ', '.join(map(str, benchmark.seeds)),
        benchmark.replicates,
        benchmark.spacing_mm,
        out,
    )
    from bids_interp.levels.train_inputs import save_model_grid
    from bids_interp.training.recipe import make_recipe

    grid_file = work_dir / f'bench-context-{benchmark.spacing_mm:g}mm.safetensors'
    save_model_grid(grid_file, settings, make_recipe(**benchmark.recipe))
    brains, problems = prepare_brains(settings, records, grid_file, run)
    check_brains(len(brains), benchmark.n_folds)
    digests = [{key: brain[key] for key in ('label', 'digest')} for brain in brains]
    files = _files(benchmark.data_digest(digests), brains, grid_file, work_dir, out)
    provenance = _provenance(benchmark.table_digest(digests), command, run)
    outcome = _run(benchmark, files, run, provenance)
    code = _write_tables(
        benchmark, out, outcome, _description(settings, benchmark, brains), provenance
    )
    logger.info('Total time: %.0f s.', time.monotonic() - started)
    return max(code, 1 if problems else 0)


def first_images(records: Sequence[T1wRecord]) -> list[T1wRecord]:
    """Return the first image of each participant, because others are not independent."""
    first: dict[str, T1wRecord] = {}
    for record in records:
        first.setdefault(record.subject, record)
    if len(first) < len(records):
        logger.info('Of %d images, only the first of each participant is used.', len(records))
    return list(first.values())


def check_brains(count: int, n_folds: int) -> None:
    """Refuse too few brains for the training and validation of each fold.

    Raises
    ------
    InputDatasetError
        If there are fewer than two brains per fold.
    """
    needed = 2 * n_folds
    if count < needed:
        raise InputDatasetError(
            f'{count} usable brains are too few for {n_folds} folds; {needed} are needed.',
            'Use more participants, or fewer folds: --recipe \'{"n_folds": 2}\'.',
        )


def bench_work_dir(settings: Settings, out: Path) -> Path:
    """Return the work directory, which must not be the output folder."""
    check_plugin(settings.use_plugin)
    work_dir = choose_work_dir(settings)
    if work_dir.resolve() == out.resolve():
        raise OutputError(f'{out} is both output and work directory.', 'Choose another --work-dir.')
    return work_dir


def open_bench(settings: Settings, out: Path, work_dir: Path) -> Run:
    """Check and make the folders, start the log and return the run."""
    check_folders(settings, work_dir)
    prepare_caches(work_dir)
    run = start_run(settings, work_dir, choose_device(settings))
    prepare_work_dir(work_dir, clean=False)
    prepare_output(settings.output_dir, {'raw': settings.bids_dir, **dict(settings.derivatives)})
    add_log_file(out / 'logs' / f'{run.uuid}.log')
    configure_nipype(run)
    return run


def prepare_brains(
    settings: Settings, records: Sequence[T1wRecord], grid_file: Path, run: Run
) -> tuple[list[dict[str, str]], list[Outcome]]:
    """Register the brains that are not registered yet; return all brains, and log the failures.

    Parameters
    ----------
    settings : Settings
        Its output directory holds the prepared brains.
    records : sequence of T1wRecord
        One image per person.
    grid_file : pathlib.Path
        Grid of the model.
    run : Run
        Resources.
    """
    from bids_interp.levels.train_inputs import find_prepared_images
    from bids_interp.workflows.train import init_training_inputs_wf

    rows = preflight(list(records), settings, None)
    problems = [Outcome(row.name, FAILED, ' '.join(row.problems)) for row in rows if not row.usable]
    bad = {problem.name for problem in problems}
    usable = [record for record in records if record.prefix not in bad]
    found = find_prepared_images(settings, usable, EMBEDDED_TEMPLATE, run.nprocs)
    missing = [record for record in usable if record.prefix not in found]
    if missing:
        logger.info('%d of %d brains must be prepared.', len(missing), len(usable))
        base_dir = run.work_dir / 'bench-brains'
        workflow = init_training_inputs_wf(
            settings=settings,
            records=missing,
            prepared={},
            template=EMBEDDED_TEMPLATE,
            input_space=grid_file,
            inputs_dir=base_dir / 'inputs',
            run=run,
            base_dir=base_dir,
            name='bench_brains_wf',
        )
        result = execute(run, workflow, missing)
        problems += [outcome for outcome in result.outcomes if outcome.status != DONE]
        found = find_prepared_images(settings, usable, EMBEDDED_TEMPLATE, run.nprocs)
    brains = [
        {'label': record.subject, **_brain_files(found[record.prefix])}
        for record in usable
        if record.prefix in found
    ]
    for problem in problems:
        logger.error('%s was excluded: %s', problem.name, problem.problem)
    return brains, problems


def _brain_files(prepared: PreparedFiles) -> dict[str, str]:
    paths = {'t1w': prepared.t1w, 'mask': prepared.mask, 'transform': prepared.transform}
    digest = hashlib.sha256()
    for path in paths.values():
        digest.update(path.read_bytes())
    return {**{k: str(path) for k, path in paths.items()}, 'digest': digest.hexdigest()[:16]}


def _files(
    digest: str, brains: Sequence[dict[str, str]], grid_file: Path, work_dir: Path, out: Path
) -> BenchFiles:
    from bids_interp.workflows.bench_unit import BenchFiles

    base_dir = work_dir / f'bench-{digest}'
    base_dir.mkdir(parents=True, exist_ok=True)
    table = write_json(base_dir / 'brains.json', list(brains))
    return BenchFiles(table, grid_file, base_dir / 'checkpoints', out, EMBEDDED_TEMPLATE)


def _run(benchmark: Benchmark, files: BenchFiles, run: Run, provenance: Provenance) -> Outcome:
    from bids_interp.workflows.bench import init_bench_wf

    crashes = files.out_dir / 'logs' / f'{run.uuid}_crashes'
    workflow = init_bench_wf(
        benchmark=benchmark,
        files=files,
        run=run,
        base_dir=files.brains.parent,
        crash_dir=crashes,
        provenance=provenance,
    )
    return run_nodes(run, workflow, crashes)


def _provenance(table: str, command: Sequence[str], run: Run) -> Provenance:
    """Return the provenance of the scores: the run, and the table that they belong to."""
    import torch

    from bids_interp.bench.records import Provenance

    return Provenance(
        run=run.uuid,
        table=table,
        command=' '.join(command),
        version=__version__,
        machine=f'{platform.machine()}, {run.nprocs} processes, {run.device}',
        software=f'Python {sys.version.split()[0]}, PyTorch {torch.__version__}',
        date=time.strftime('%Y-%m-%d'),
    )


def _description(
    settings: Settings, benchmark: Benchmark, brains: Sequence[dict[str, str]]
) -> dict[str, Any]:
    """Return the description of the benchmark for the table."""
    return {
        'dataset': settings.bids_dir.name,
        'n_brains': len(brains),
        'n_folds': benchmark.n_folds,
        'spacing_mm': benchmark.spacing_mm,
        'replicates': benchmark.replicates,
        'anatomy_mm': benchmark.anatomy_mm,
        'explained': benchmark.explained,
        'strength': benchmark.strength,
        'draws': benchmark.draws,
    }


def _comparable_scores(out: Path, table: str) -> dict[tuple[str, int], ScenarioRecord]:
    """Return the scores of all runs in the output directory that belong to one table."""
    from bids_interp.bench.records import ScenarioRecord

    found = {}
    for path in (out / 'scores').glob('*.json'):
        record = read_record(ScenarioRecord, path, OutputError, 'Move or delete the file.')
        if record.provenance is not None and record.provenance.table == table:
            found[record.scenario, record.seed] = record
    return found


def _run_of(record: ScenarioRecord) -> str:
    return record.provenance.run if record.provenance else ''


def _write_tables(
    benchmark: Benchmark,
    out: Path,
    outcome: Outcome,
    description: dict[str, Any],
    provenance: Provenance,
) -> int:
    """Write the table of this and comparable runs, and log the missing scenarios."""
    from bids_interp.bench.bench_report import write_results

    # Scores of an earlier run must not replace those that this run failed to compute.
    found = _comparable_scores(out, provenance.table)
    own = {unit for unit, one in found.items() if _run_of(one) == provenance.run}
    units = benchmark.units()
    missing = [f'{unit[0]}, seed {unit[1]}' for unit in units if unit not in own]
    if outcome.status == FAILED:
        logger.error('The benchmark failed%s', outcome.failure)
    if missing:
        logger.error(
            'Not finished: %s. Results are kept; run the same command again to continue.',
            '; '.join(missing),
        )
    if own:
        earlier = set(found) - set(units)
        scores = [found[unit] for unit in sorted(own | earlier)]
        page = write_results(out, scores, {**description, 'missing': missing})
        click.echo(f'Table: {out / "table.tsv"}\nPage:  {page}')
    return 1 if missing or outcome.status == FAILED else 0
