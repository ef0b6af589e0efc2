"""What all builders of a run share."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bids_interp.bids.preflight import PreflightRow
from bids_interp.bids.query import T1wRecord
from bids_interp.settings import Settings

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node, Workflow

    from bids_interp.models.bundle import ModelBundle


@dataclass(frozen=True)
class RunContext:
    """What the builders need besides the settings.

    Parameters
    ----------
    bundle : ModelBundle
        The model that applies.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    nprocs : int
        Processes at once.
    omp_nthreads : int
        Threads of each.
    run_uuid : str
        Name of this run, in the folders of its logs.
    """

    bundle: ModelBundle
    device: str
    nprocs: int
    omp_nthreads: int
    run_uuid: str


@dataclass(frozen=True)
class Engine:
    """What runs a workflow: settings, and the share of the machine.

    Parameters
    ----------
    settings : Settings
        Choices of the user; logs go below their output directory.
    work_dir : Path
        Folder of intermediate results.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    nprocs, omp_nthreads : int
        Processes at once, and threads of each.
    mem_gb : float
        Memory for all processes together.
    run_uuid : str
        Name of this run, in the folders of its logs.
    """

    settings: Settings
    work_dir: Path
    device: str
    nprocs: int
    omp_nthreads: int
    mem_gb: float
    run_uuid: str


@dataclass(frozen=True)
class Job:
    """One run, all of it checked: nothing in here can be a mistake of the user any more."""

    settings: Settings
    context: RunContext
    rows: list[PreflightRow]
    work_dir: Path
    mem_gb: float

    @property
    def engine(self) -> Engine:
        """What runs its workflow."""
        context = self.context
        return Engine(
            self.settings,
            self.work_dir,
            context.device,
            context.nprocs,
            context.omp_nthreads,
            self.mem_gb,
            context.run_uuid,
        )

    @property
    def records(self) -> list[T1wRecord]:
        """Images that can be computed."""
        return [row.record for row in self.rows if row.record is not None and row.usable]


def log_dir(settings: Settings, subject: str, run_uuid: str) -> Path:
    """Return the folder of a subject's logs of one run."""
    return settings.output_dir / f'sub-{subject}' / 'log' / run_uuid


def walk_nodes(workflow: Workflow) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Give every node below a workflow, with the names that lead from the workflow to it."""
    for name in dict.fromkeys(path.split('.')[0] for path in workflow.list_node_names()):
        part = workflow.get_node(name)
        if hasattr(part, 'list_node_names'):
            yield from (((name, *names), node) for names, node in walk_nodes(part))
        else:
            yield (name,), part


def send_crashes(workflow: Workflow, folder: Path) -> None:
    """Let every node of a workflow write its crash files into a folder.

    nipype gives a node the settings of its workflow only when it is made.
    """
    workflow.config['execution']['crashdump_dir'] = str(folder)
    for _, node in walk_nodes(workflow):
        node.config = deepcopy(workflow.config)


def new_run_uuid() -> str:
    """Name of a new run: when it began, and something that no other run has."""
    return f'{time.strftime("%Y%m%d-%H%M%S")}_{uuid.uuid4()}'


def workflow_name(prefix: str) -> str:
    """Return the name of an image's workflow.

    Examples
    --------
    >>> workflow_name('sub-01_ses-a')
    'sub_01_ses_a_wf'
    """
    return f'{prefix.replace("-", "_").replace("+", "plus")}_wf'
