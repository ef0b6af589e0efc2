"""All figures of one T1w image, from the derivatives on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from bids_interp.reports.files import ScanFiles, read_json

LOGGER = logging.getLogger('bids_interp.reports')


def draw_figures(output_dir: str | Path, prefix: str) -> list[Path]:
    """Draw every figure that the derivatives on disk allow.

    A figure that cannot be drawn is logged and left out: the others, and the report, are worth
    more than a clean stop.

    Parameters
    ----------
    output_dir : path
        Root of the derivatives.
    prefix : str
        Source entities of the image, without suffix: ``sub-01_ses-a_run-1``.

    Returns
    -------
    list of pathlib.Path
        The files written, all in ``sub-<label>/figures``.
    """
    from bids_interp.reports.anatomy_figures import (
        draw_classifier_input,
        draw_mask,
        draw_registration,
    )
    from bids_interp.reports.response_figures import draw_dose_response
    from bids_interp.reports.summary import target_names

    files = ScanFiles(Path(output_dir), prefix)
    positive = target_names(read_json(files.prediction))[1]
    tasks: list[Callable[[], Path | None]] = [
        lambda: draw_mask(files),
        lambda: draw_registration(files),
        lambda: draw_classifier_input(files),
        lambda: draw_dose_response(files, positive),
        *_change_tasks(files, positive),
    ]
    return [path for path in map(_attempt, tasks) if path is not None]


def _change_tasks(files: ScanFiles, positive: str) -> list[Callable[[], Path | None]]:
    """Figures that share the maps, which are read once."""
    from bids_interp.reports.change_figures import (
        draw_log_jacobian,
        draw_simulated,
        load_changes,
    )
    from bids_interp.reports.dose_player import draw_player
    from bids_interp.reports.grid_figure import draw_grid
    from bids_interp.reports.regions import measure_regions, write_regions
    from bids_interp.reports.saliency_figure import draw_saliency

    try:
        changes = load_changes(files)
    except Exception:
        LOGGER.exception('The maps of %s cannot be drawn.', files.prefix)
        return []
    tasks: list[Callable[[], Path | None]] = [
        lambda: write_regions(files, measure_regions(files)),
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


def _attempt(task: Callable[[], Path | None]) -> Path | None:
    try:
        return task()
    except Exception:
        LOGGER.exception('A figure could not be drawn and is left out of the report.')
        return None
