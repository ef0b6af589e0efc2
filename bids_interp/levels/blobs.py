"""Blob benchmark: compute the units that are not finished, and write the table."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import click

from bids_interp.bench.blobs.blob_design import BlobBenchmark, BlobUnit
from bids_interp.device import resolve_device
from bids_interp.errors import one_line
from bids_interp.execution.log import add_log_file, start_logging
from bids_interp.execution.resources import available_cpus, keep_out_current_folder

logger = logging.getLogger('bids_interp')


def run_blobs(
    out: Path,
    benchmark: BlobBenchmark,
    *,
    nprocs: int | None = None,
    device: str = 'auto',
    command: Sequence[str] = (),
) -> int:
    """Run the blob benchmark and return the exit code.

    Parameters
    ----------
    out : pathlib.Path
        Folder of the results. Units that are finished there are not computed again.
    benchmark : BlobBenchmark
        Design.
    nprocs : int, optional
        Number of units at a time; by default the number of available CPUs, or 1 on a GPU.
    device : str
        ``'auto'``, ``'cpu'``, ``'cuda'`` or ``'cuda:N'``.
    command : sequence of str
        Command line, for the text.
    """
    from bids_interp.bench.blobs.blob_page import write_blob_results
    from bids_interp.bench.blobs.blob_results import finished_units

    started = time.monotonic()
    start_logging(0)
    (out / 'logs').mkdir(parents=True, exist_ok=True)
    add_log_file(out / 'logs' / f'{time.strftime("%Y%m%d-%H%M%S")}.log')
    finished = finished_units(out, benchmark)
    missing = [unit for unit in benchmark.units if unit not in finished]
    logger.info('%d of %d units must be computed; %s', len(missing), len(benchmark.units), out)
    chosen = resolve_device(device)
    _compute(out, benchmark, missing, nprocs or default_nprocs(chosen), chosen)
    found = finished_units(out, benchmark)
    failed = [unit.name for unit in benchmark.units if unit not in found]
    if found:
        setup = {
            'command': ' '.join(command),
            'n': benchmark.n,
            'size': benchmark.size,
            'missing': failed,
        }
        records = [found[unit] for unit in benchmark.units if unit in found]
        text = write_blob_results(out, records, setup)
        click.echo(f'Table: {out / "table.tsv"}\nText:  {text}')
    logger.info('Total time: %.0f s.', time.monotonic() - started)
    return 1 if failed else 0


def default_nprocs(device: str) -> int:
    """Return the number of units at a time: one for each CPU, or one on a GPU."""
    return available_cpus() if device == 'cpu' else 1


def _compute(
    out: Path, benchmark: BlobBenchmark, units: Sequence[BlobUnit], nprocs: int, device: str
) -> None:
    """Compute units side by side; one that fails is logged, and the others go on."""
    keep_out_current_folder()
    workers = max(1, min(nprocs, len(units)))
    with ProcessPoolExecutor(workers, get_context('spawn')) as pool:
        pending = {pool.submit(_compute_one, out, benchmark, unit, device): unit for unit in units}
        for number, done in enumerate(as_completed(pending), 1):
            unit, error = pending[done], done.exception()
            if error is None:
                logger.info('%s  %d/%d  %.0f s', unit.name, number, len(units), done.result())
            else:
                logger.error('%s failed: %s', unit.name, one_line(error))


def _compute_one(out: Path, benchmark: BlobBenchmark, unit: BlobUnit, device: str) -> float:
    """Compute one unit in this process and return its seconds."""
    import torch

    from bids_interp.bench.blobs.blob_results import save_unit
    from bids_interp.bench.blobs.blob_unit import run_unit

    torch.set_num_threads(1)
    started = time.monotonic()
    digest = benchmark.digest(unit.dim)
    # Checkpoints of another design must not be continued.
    folder = out / 'checkpoints' / digest / unit.name
    result = run_unit(unit, benchmark, folder, device)
    seconds = time.monotonic() - started
    save_unit(out, unit, digest, seconds, result)
    return seconds
