"""The run: settings, share of the machine, and names of logs and workflows."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bids_interp.execution.resources import available_cpus, available_memory_gb
from bids_interp.settings import Settings

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node, Workflow


#: Most threads that one node uses unless more are requested.
MAX_THREADS = 8


@dataclass(frozen=True)
class Run:
    """One run: the user's choices, its share of the machine, and its name in the logs.

    Parameters
    ----------
    settings : Settings
        Choices of the user; logs go below their output directory.
    work_dir : Path
        Folder of intermediate results.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    nprocs, omp_nthreads : int
        Number of processes at once, and of threads in each node.
    mem_gb : float
        Memory for all processes together, in GB of 10^9 bytes.
    uuid : str
        Name of this run in the folders of its logs.
    """

    settings: Settings
    work_dir: Path
    device: str
    nprocs: int
    omp_nthreads: int
    mem_gb: float
    uuid: str

    def log_dir(self, subject: str) -> Path:
        """Return the folder of a subject's logs."""
        return log_dir(self.settings.output_dir, subject, self.uuid)


def start_run(
    settings: Settings, work_dir: Path, device: str = 'cpu', omp_nthreads: int | None = None
) -> Run:
    """Return a new run with its share of the machine.

    Parameters
    ----------
    settings : Settings
        Choices of the user; they win over what the machine has.
    work_dir : Path
        Folder of intermediate results.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    omp_nthreads : int, optional
        Threads of each node; those of the settings, or one, if not given.
    """
    return Run(
        settings,
        work_dir,
        device,
        settings.nprocs or available_cpus(),
        omp_nthreads or min(settings.omp_nthreads or 1, MAX_THREADS),
        settings.mem_gb or available_memory_gb(),
        new_run_uuid(),
    )


def log_dir(output_dir: Path, subject: str, run_uuid: str) -> Path:
    """Return the folder of a subject's logs of one run."""
    return output_dir / f'sub-{subject}' / 'log' / run_uuid


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
