"""Figures of one T1w image, drawn from its derivatives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bids_interp.bids.read.scan_files import REMEDY, ScanFiles, unreadable
from bids_interp.constants import DIRECTIONS
from bids_interp.errors import ImageError

LOGGER = logging.getLogger('bids_interp.reports')

_T = TypeVar('_T')


def draw_figures(
    output_dir: str | Path, prefix: str, on_error: Callable[[Exception], object] | None = None
) -> list[Path]:
    """Draw every figure that the derivatives allow, and remove outdated ones.

    A figure that cannot be drawn is reported and skipped, so that the others are still drawn.

    Parameters
    ----------
    output_dir : path
        Root of the derivatives.
    prefix : str
        Source entities of the image, without suffix: ``sub-01_ses-a_run-1``.
    on_error : callable, optional
        Called with each error; by default the errors are logged.

    Returns
    -------
    list of pathlib.Path
        The files written, all in ``sub-<label>/figures``.
    """
    from bids_interp.reports.scan.anatomy_figures import (
        draw_classifier_input,
        draw_mask,
        draw_registration,
    )
    from bids_interp.reports.scan.remeasured_figure import draw_remeasured
    from bids_interp.reports.scan.response_figures import draw_dose_response

    files = ScanFiles(Path(output_dir), prefix)
    # Several figures may fail at the same file, which is reported once.
    errors: dict[str, Exception] = {str(error): error for error in files.damaged()}

    def attempt(task: Callable[[], _T]) -> _T | None:
        try:
            return task()
        except Exception as error:  # noqa: BLE001 - reported below
            named = _explained(error, files)
            errors.setdefault(str(named), named)
            return None

    positive = files.target.positive
    tasks: list[Callable[[], Path | None]] = [
        lambda: draw_mask(files),
        lambda: draw_registration(files),
        lambda: draw_classifier_input(files),
        lambda: draw_dose_response(files, positive),
        lambda: draw_remeasured(files),
        *(attempt(lambda: _change_tasks(files, positive)) or []),
    ]
    drawn = [path for path in map(attempt, tasks) if path is not None]
    # Other figures show the maps of an earlier run.
    for path in set(files.figures.glob(f'{files.prefix}_desc-*')) - set(drawn):
        path.unlink(missing_ok=True)
    for error in errors.values():
        if on_error is not None:
            on_error(error)
            continue
        LOGGER.error('Skipped in the report of %s: %s', prefix, error)
        LOGGER.debug('', exc_info=error)
    return drawn


def _change_tasks(files: ScanFiles, positive: str) -> list[Callable[[], Path | None]]:
    """Tasks for the figures of the maps, which are read once."""
    from bids_interp.reports.scan.change_figures import (
        draw_log_jacobian,
        draw_simulated,
        load_changes,
    )
    from bids_interp.reports.scan.dose_player import draw_player
    from bids_interp.reports.scan.grid_figure import draw_grid
    from bids_interp.reports.scan.region_changes import measure_regions, write_regions
    from bids_interp.reports.scan.saliency_figure import draw_saliency
    from bids_interp.reports.scan.truth_figure import draw_truth

    changes = load_changes(files)
    tasks: list[Callable[[], Path | None]] = [
        lambda: write_regions(files, measure_regions(files)),
        lambda: draw_truth(files, changes),
        lambda: draw_saliency(files, changes, positive),
    ]
    if changes is None:
        return tasks
    return [
        lambda: draw_log_jacobian(files, changes, 'inject'),
        lambda: draw_log_jacobian(files, changes, 'remove'),
        lambda: draw_simulated(files, changes),
        lambda: draw_grid(files, changes),
        lambda: draw_player(files, changes),
        *tasks,
    ]


def _explained(error: Exception, files: ScanFiles) -> Exception:
    """Return an error that names the unreadable file and the remedy."""
    from bids_interp.reports.scan.grid_figure import load_field

    named = error
    if isinstance(error, ImageError):
        # Its own advice does not mention --reports-only.
        named = ImageError(error.message, REMEDY)
    else:
        # Errors about other images name their file themselves.
        for path in filter(None, map(files.field, DIRECTIONS)):
            try:
                load_field(path)
            except Exception as reason:  # noqa: BLE001 - returned
                named = unreadable(path, reason)
                break
    return named.with_traceback(error.__traceback__)
