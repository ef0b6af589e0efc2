"""Run: settings, resources, and names of logs and workflows."""

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


#: Maximum number of threads per node.
MAX_THREADS = 8


@dataclass(frozen=True)
class Run:
    """One run: its settings, its resources and its name in the logs.

    Parameters
    ----------
    settings : Settings
        Settings; logs are written to their output directory.
    work_dir : Path
        Folder of intermediate results.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    nprocs, omp_nthreads : int
        Number of parallel processes, and of threads per node.
    mem_gb : float
        Memory of all processes together, in GB of 10^9 bytes.
    uuid : str
        Name of the run in the paths of its logs.
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
    """Return a new run with its resources.

    Parameters
    ----------
    settings : Settings
        Settings; they take precedence over the limits of the machine.
    work_dir : Path
        Folder of intermediate results.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    omp_nthreads : int, optional
        Threads per node; by default, as in the settings, or one.
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
    """Yield every node of a workflow and its nested workflows, with the names that lead to it."""
    for name in dict.fromkeys(path.split('.')[0] for path in workflow.list_node_names()):
        part = workflow.get_node(name)
        if hasattr(part, 'list_node_names'):
            yield from (((name, *names), node) for names, node in walk_nodes(part))
        else:
            yield (name,), part


def send_crashes(workflow: Workflow, folder: Path) -> None:
    """Make every node of a workflow write its crash files into a folder.

    nipype copies the configuration of a workflow to a node only when it is created.
    """
    workflow.config['execution']['crashdump_dir'] = str(folder)
    for _, node in walk_nodes(workflow):
        node.config = deepcopy(workflow.config)


def new_run_uuid() -> str:
    """Return a unique name for a new run that begins with the time."""
    return f'{time.strftime("%Y%m%d-%H%M%S")}_{uuid.uuid4()}'


def workflow_name(prefix: str) -> str:
    """Return the name of an image's workflow.

    Examples
    --------
    >>> workflow_name('sub-01_ses-a')
    'sub_01_ses_a_wf'
    """
    return f'{prefix.replace("-", "_").replace("+", "plus")}_wf'
