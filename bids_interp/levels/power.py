"""Tool `power`: prepare the scans, plant the change, and measure the power of drawn studies."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bids_interp.anatomical.templates import with_head_template
from bids_interp.bench.power.studies import PowerDesign, default_numbers
from bids_interp.bids.read.participants import ParticipantTables, read_families
from bids_interp.bids.read.query import T1wRecord, collect
from bids_interp.bids.write.atomic import write_json
from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.errors import InputDatasetError, UsageError
from bids_interp.execution.log import start_logging
from bids_interp.levels.bench import (
    bench_work_dir,
    first_images,
    open_bench,
    prepare_brains,
)
from bids_interp.settings import Settings

if TYPE_CHECKING:
    from bids_interp.bench.power.planted_volumes import PlantedVolumes
    from bids_interp.phantom.change.atrophy import AtrophyField
    from bids_interp.spatial import Grid

logger = logging.getLogger('bids_interp')


@dataclass(frozen=True)
class PowerRequest:
    """Change to plant, people to plant it into, and studies to draw.

    Parameters
    ----------
    design : PowerDesign
        Studies; if it has no numbers, :func:`default_numbers` sets them.
    regions : tuple of str
        Regions that lose volume.
    absorb : str
        Region that takes the volume.
    label : str, optional
        Column of the labels.
    control : str, optional
        Value of the people into whose scans the change is planted.
    spacing_mm : float, optional
        Voxel size; by default that of a training.
    """

    design: PowerDesign
    regions: tuple[str, ...] = ('hippocampus',)
    absorb: str = 'ventricles'
    label: str | None = None
    control: str | None = None
    spacing_mm: float | None = None

    def __post_init__(self) -> None:
        if (self.label is None) != (self.control is None):
            raise UsageError(
                '--label and --control require each other.',
                'For example: --label group --control healthy.',
            )
        if self.spacing_mm is not None and not 1 <= self.spacing_mm <= 8:
            raise UsageError(
                f'--resolution {self.spacing_mm:g} is not a usable voxel size.',
                'Choose 1 to 8 mm.',
            )
        from bids_interp.phantom.regions.coarse import check_region

        for name in self.regions:
            check_region(name)

    @property
    def largest(self) -> float:
        """The largest loss, as a relative volume change."""
        return min(self.design.effects)


def run_power(settings: Settings, request: PowerRequest, command: Sequence[str] = ()) -> int:
    """Measure the power of studies of the scans of a dataset and return the exit code.

    Parameters
    ----------
    settings : Settings
        Input, selection, preparation and resources. Prepared brains are written to its output
        directory, ``<OUT>/derivatives``, and results to the parent of that folder.
    request : PowerRequest
        Change, people and studies.
    command : sequence of str
        Command line, for the data dictionary.

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
    records = independent_images(settings, request, collect(settings))
    complete_design(request.design, len(records))
    run = open_bench(settings, out, work_dir)
    from bids_interp.bench.power.power_page import write_power
    from bids_interp.bench.power.studies import PowerRow, measure_power

    plan = _plan(settings, request, work_dir)
    brains, problems = prepare_brains(settings, records, plan.grid_file, run)
    design = complete_design(request.design, len(brains))
    volumes = _measure(brains, plan, request, work_dir, run.device)
    logger.info(
        'Error of interpolated changes: %.1f %%. Drawing %d studies of %s people for each of %d '
        'effects ...',
        100 * volumes.interpolation_error,
        design.repeats,
        ', '.join(map(str, design.numbers)),
        len(design.effects),
    )

    def report(row: PowerRow) -> None:
        logger.info(
            'n = %d, %g %%: power %.2f, AUC %.2f, map correlation %.2f',
            row.n,
            100 * row.effect,
            row.power,
            row.auc,
            row.map_ncc,
        )

    rows = measure_power(volumes, design, run.nprocs, report)
    setup = {
        'dataset': settings.bids_dir.name,
        'n_people': len(brains),
        'regions': list(request.regions),
        'absorb': request.absorb,
        'spacing_mm': plan.spacing_mm,
        'folds': design.folds,
        'seed': design.seed,
        'interpolation_error': volumes.interpolation_error,
        'command': ' '.join(command),
    }
    page = write_power(out, rows, setup)
    click.echo(f'Table: {out / "power.tsv"}\nPage:  {page}')
    logger.info('Total time: %.0f s.', time.monotonic() - started)
    return 1 if problems else 0


def independent_images(
    settings: Settings, request: PowerRequest, records: Sequence[T1wRecord]
) -> list[T1wRecord]:
    """Return one image per family of the people into whom the change is planted.

    Raises
    ------
    InputDatasetError
        If no image has the label of the controls.
    UsageError
        If a column does not exist.
    """
    if request.label is None and settings.family is None:
        return first_images(records)
    tables = ParticipantTables(settings)
    if request.label is not None:
        tables.check_column(request.label, '--label')
        found = {record.prefix: tables.values(record, request.label) for record in records}
        records = [one for one in records if found[one.prefix] == [request.control]]
        if not records:
            values = sorted({value for own in found.values() for value in own})
            raise InputDatasetError(
                f'No image has the value {request.control!r} of {request.label}.',
                f'Values of this column: {", ".join(values)}.',
            )
    if settings.family is not None:
        tables.check_column(settings.family, '--family')
    families = read_families(tables, {one.subject for one in records}, settings.family)
    first: dict[str, T1wRecord] = {}
    for record in first_images(records):
        first.setdefault(families[record.subject], record)
    return list(first.values())


def complete_design(design: PowerDesign, available: int) -> PowerDesign:
    """Return a design with numbers of people, and refuse more people than there are.

    Raises
    ------
    InputDatasetError
        If there are too few people.
    """
    numbers = default_numbers(available, design.folds)
    if not design.numbers:
        return replace(design, numbers=numbers)
    if max(design.numbers) > available:
        raise InputDatasetError(
            f'Studies of {max(design.numbers)} people cannot be drawn from {available}.',
            f'People are drawn without replacement: choose --n up to {available - available % 2}.',
        )
    return design


@dataclass(frozen=True)
class _Plan:
    """Input space and planted change."""

    grid_file: Path
    spacing_mm: float
    change: AtrophyField


def _plan(settings: Settings, request: PowerRequest, work_dir: Path) -> _Plan:
    """Write the grid of the model, and fit the largest change."""
    from bids_interp.anatomical.templates import brain_template
    from bids_interp.levels.train_inputs import save_model_grid
    from bids_interp.phantom.change.atrophy import fit_atrophy
    from bids_interp.phantom.inject.warps import field_grid
    from bids_interp.spatial import Grid
    from bids_interp.training.recipe import make_recipe

    recipe = make_recipe('default', spacing_mm=request.spacing_mm)
    template = brain_template(EMBEDDED_TEMPLATE, offline=settings.offline)
    brain: Grid = Grid.from_image(template, EMBEDDED_TEMPLATE)
    changes = dict.fromkeys(request.regions, request.largest)
    change = fit_atrophy(field_grid(brain), changes, request.absorb)
    path = work_dir / f'power-context-{recipe.spacing_mm:g}mm.safetensors'
    save_model_grid(path, settings, recipe)
    return _Plan(path, recipe.spacing_mm, change)


def _measure(
    brains: Sequence[dict[str, str]],
    plan: _Plan,
    request: PowerRequest,
    work_dir: Path,
    device: str,
) -> PlantedVolumes:
    """Measure the volumes of the brains as they are and with the largest change."""
    from bids_interp.bench.power.planted_volumes import measure_planted
    from bids_interp.device import resolve_device
    from bids_interp.interfaces.bench import read_brains
    from bids_interp.training.cohort.storage import load_input_space

    logger.info('Measuring %d scans with and without the change ...', len(brains))
    table = write_json(work_dir / 'power-brains.json', list(brains))
    grid, mask, preprocessing = load_input_space(plan.grid_file)
    return measure_planted(
        read_brains(table),
        plan.change,
        request.largest,
        grid,
        mask,
        preprocessing,
        resolve_device(device),
    )
