"""Jobs of a dataset on a cluster, in no scheduler's language."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from bids_interp.bids.write.folders import check_writable
from bids_interp.errors import InputDatasetError, UsageError

#: Suffix of the scripts of each scheduler.
SCHEDULERS = {'slurm': 'sbatch', 'pbs': 'pbs', 'torque': 'pbs', 'sge': 'sge', 'lsf': 'lsf'}
ENGINES = ('apptainer', 'singularity', 'docker', 'podman', 'none')
DEPENDENCIES = ('afterany', 'afterok')

# Folders with files of the container itself, which a bind mount would hide.
_SYSTEM = ('/', '/bin', '/etc', '/lib', '/lib64', '/opt', '/sbin', '/usr', '/usr/local', '/var')
_PLAIN = re.compile(r'[\w.,:@/+=-]+')


@dataclass(frozen=True)
class Resources:
    """Resources of one job.

    Parameters
    ----------
    cpus : int
        Number of cores on one machine.
    mem_gb : int
        Memory in GiB.
    minutes : int
        Time limit in minutes.
    gpus : int
        Number of GPUs.
    partition : str, optional
        Partition or queue.
    """

    cpus: int
    mem_gb: int
    minutes: int
    gpus: int = 0
    partition: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClusterJobs:
    """Jobs that process one dataset.

    Paths are absolute, and the same inside a container as outside, so that links between datasets,
    paths in logs and saved settings are valid on both sides.

    Parameters
    ----------
    scheduler : str
        Scheduler, a key of :data:`SCHEDULERS`.
    bids_dir, output_dir, work_dir, jobs_dir : Path
        Folders of the input, the output, the work directories and the scripts.
    participants : tuple of str
        Labels without ``sub-``; the tasks of the array count them from 1.
    participant : Resources
        Resources of one task of the array.
    group, train : Resources, optional
        Resources of the group and train jobs; None for no such job.
    engine : str
        Container engine, one of :data:`ENGINES`; ``none`` runs `program` without a container.
    image : str, optional
        Container image.
    program : str
        Path of ``bids_interp`` for the engine ``none``.
    options, group_options, train_options : tuple of str
        Options of ``bids_interp`` at each level.
    read_only, writable : tuple of Path
        Further paths to bind into a container.
    environment : tuple of (str, str)
        Environment variables of ``bids_interp``.
    account, qos : str, optional
        Account of the user, and quality of service (SLURM).
    scheduler_options : tuple of str
        Further options of the scheduler, one per line.
    parallel_environment : str
        Parallel environment of SGE for several cores on one machine.
    setup : tuple of str
        Shell commands to run first, such as ``module load apptainer``.
    dependency : {'afterany', 'afterok'}
        Whether the group job waits until the array has ended, or has succeeded.
    max_running, max_array : int
        Maximum number of tasks at once (0 for no limit), and per array.
    retries, requeues : int
        Number of times a failed task is repeated at once, and is requeued after SLURM stopped it.
    grace_s : int
        Seconds between SLURM's warning and the time limit.
    node_scratch : str, optional
        Folder on the node's own disk, such as ``$TMPDIR``, instead of `work_dir`.
    delete_work : bool
        Delete the work directory of each task that succeeds.
    command : str
        Command that wrote the scripts.
    """

    scheduler: str
    bids_dir: Path
    output_dir: Path
    work_dir: Path
    jobs_dir: Path
    participants: tuple[str, ...]
    participant: Resources
    group: Resources | None = None
    train: Resources | None = None
    engine: str = 'apptainer'
    image: str | None = None
    program: str = 'bids_interp'
    options: tuple[str, ...] = ()
    group_options: tuple[str, ...] = ()
    train_options: tuple[str, ...] = ()
    read_only: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    account: str | None = None
    qos: str | None = None
    scheduler_options: tuple[str, ...] = ()
    parallel_environment: str = 'smp'
    setup: tuple[str, ...] = ()
    dependency: str = 'afterany'
    max_running: int = 0
    max_array: int = 1000
    retries: int = 1
    requeues: int = 3
    grace_s: int = 120
    node_scratch: str | None = None
    delete_work: bool = False
    command: str = 'bids_interp_tools hpc'

    def __post_init__(self) -> None:
        check_jobs(self)

    @property
    def in_container(self) -> bool:
        """True if the jobs run in a container."""
        return self.engine != 'none'


def check_jobs(jobs: ClusterJobs) -> None:
    """Refuse values that a script cannot express.

    Raises
    ------
    UsageError
        If a value is invalid, or values contradict each other.
    """
    for option, value, allowed in (
        ('scheduler', jobs.scheduler, tuple(SCHEDULERS)),
        ('--engine', jobs.engine, ENGINES),
        ('--dependency', jobs.dependency, DEPENDENCIES),
    ):
        if value not in allowed:
            raise UsageError(f'{option} must be one of {", ".join(allowed)}, not {value!r}.')
    if jobs.scheduler == 'sge' and jobs.dependency == 'afterok':
        raise UsageError(
            'On SGE a job can wait for the end of another job, but not for its success.',
            'Remove --dependency; the group level lists the missing participants.',
        )
    if jobs.in_container and not jobs.image:
        raise UsageError(
            f'--engine {jobs.engine} needs --image.',
            'Give an image, or use --engine none to run the installed bids_interp.',
        )
    if not jobs.in_container and jobs.image:
        raise UsageError('--engine none and --image exclude each other.', 'Remove one of them.')
    parts = [jobs.participant, jobs.group, jobs.train]
    names = [jobs.account, jobs.qos, jobs.parallel_environment]
    for name in (*names, *(part.partition for part in parts if part is not None)):
        if name is not None and not _PLAIN.fullmatch(name):
            raise UsageError(
                f'The name {name!r} contains characters that schedulers do not allow.',
                'Check its spelling.',
            )
    for label in jobs.participants:
        if not label.isprintable():
            raise UsageError(f'The label {label!r} has a line break.', 'Rename the folder.')
    for line in (*jobs.scheduler_options, *jobs.setup, jobs.node_scratch or ''):
        if '\n' in line:
            raise UsageError(f'{line!r} has a line break.', 'Repeat the option for each line.')
    for path in (jobs.jobs_dir, *bound_paths(jobs)):
        _check_path(path, jobs.in_container)


def _check_path(path: Path, in_container: bool) -> None:
    if '\n' in str(path):
        raise UsageError(f'The path {str(path)!r} has a line break.', 'Rename the folder.')
    if not in_container:
        return
    if re.search('[:,]', str(path)):
        raise UsageError(
            f'{path} contains a colon or a comma, which cannot be bound into a container.',
            'Create a symbolic link to it without these characters, and give the path of the link.',
        )
    if str(path) in _SYSTEM:
        raise UsageError(
            f'{path} cannot be bound into a container, because it would hide system files.',
            'Give one of its subfolders.',
        )


def bound_paths(jobs: ClusterJobs) -> dict[Path, bool]:
    """Return the paths to bind into a container, and whether they are writable.

    A folder comes before its subfolders, so that a writable output inside a read-only dataset is
    bound after it. Subfolders with the same rights are left out.
    """
    wanted = dict.fromkeys((jobs.bids_dir, *jobs.read_only), False)
    wanted |= dict.fromkeys((jobs.output_dir, *jobs.writable), True)
    if jobs.node_scratch is None:
        wanted[jobs.work_dir] = True
    kept: dict[Path, bool] = {}
    for path in sorted(wanted, key=lambda path: len(path.parts)):
        above = [parent for parent in path.parents if parent in kept]
        if above and (kept[above[0]] or not wanted[path]):
            continue  # the nearest parent already grants these rights
        kept[path] = wanted[path]
    return kept


def check_sources(jobs: ClusterJobs) -> None:
    """Check that the image, the program and the bound folders exist.

    Raises
    ------
    InputDatasetError
        If one of them is missing.
    """
    image = jobs.image or ''
    is_file = jobs.engine in ('apptainer', 'singularity') and '://' not in image
    if is_file and not Path(image).exists():
        raise InputDatasetError(
            f'The image {image} does not exist.',
            'Give the path of an Apptainer image (.sif) or sandbox with --image, or '
            'docker://NAME; docs/containers.md explains how to build one.',
        )
    if not jobs.in_container and not os.access(jobs.program, os.X_OK):
        raise InputDatasetError(
            f'The program {jobs.program} cannot be executed.',
            'Activate the environment with bids_interp first, or give its path with --program.',
        )
    for path in jobs.read_only:
        if not path.exists():
            raise InputDatasetError(f'{path} does not exist, but the jobs need it.')
    for path, writes in bound_paths(jobs).items():
        if writes:
            check_writable(path, 'folder', create=False)
