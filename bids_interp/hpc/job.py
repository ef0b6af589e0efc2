"""What is to run on a cluster: checked, and free of how a scheduler says it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bids_interp.errors import UsageError

#: Suffix of the scripts of each scheduler.
SCHEDULERS = {'slurm': 'sbatch', 'pbs': 'pbs', 'torque': 'pbs', 'sge': 'sge', 'lsf': 'lsf'}
ENGINES = ('apptainer', 'singularity', 'docker', 'podman', 'none')
DEPENDENCIES = ('afterany', 'afterok')

# Folders that a container has itself: bound from outside they would hide its program.
_SYSTEM = ('/', '/bin', '/etc', '/lib', '/lib64', '/opt', '/sbin', '/usr', '/usr/local', '/var')
_PLAIN = re.compile(r'[\w.,:@/+=-]+')


@dataclass(frozen=True)
class Resources:
    """What one job asks the scheduler for.

    Parameters
    ----------
    cpus : int
        Cores of one machine.
    mem_gb : int
        Memory in GiB.
    minutes : int
        Longest time.
    gpus : int
        GPUs.
    partition : str, optional
        Partition or queue.
    """

    cpus: int
    mem_gb: int
    minutes: int
    gpus: int = 0
    partition: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """Everything that the scripts of one dataset say.

    Paths are absolute and the same outside and inside of a container: links between datasets,
    logs and the settings that are kept then hold on both sides.

    Parameters
    ----------
    scheduler : str
        Of :data:`SCHEDULERS`.
    bids_dir, output_dir, work_dir, jobs_dir : Path
        Input, output, root of the work directories, and folder of the scripts.
    participants : tuple of str
        Labels without ``sub-``; the array counts them from 1.
    participant : Resources
        Of one task of the array.
    group, train : Resources, optional
        Of these jobs; they are left out where it is None.
    engine : str
        Of :data:`ENGINES`; ``none`` runs `program` without a container.
    image : str, optional
        Image of the container.
    program : str
        ``bids_interp`` of the engine ``none``.
    options, group_options, train_options : tuple of str
        Options of ``bids_interp`` at each level.
    read_only, writable : tuple of Path
        What a container sees beside the dataset, the output and the work directory.
    environment : tuple of (str, str)
        Variables that ``bids_interp`` gets.
    account, qos : str, optional
        Who pays, and the quality of service (SLURM).
    scheduler_options : tuple of str
        Further options of the scheduler, each as one line.
    parallel_environment : str
        Of SGE, for several cores of one machine.
    setup : tuple of str
        Shell lines before the command, such as ``module load apptainer``.
    dependency : {'afterany', 'afterok'}
        Whether the group job waits for the end of the array or for its success.
    max_running, max_array : int
        Tasks at once (0 for no limit), and tasks of one array.
    retries, requeues : int
        How often a failed task is run again at once, and one that SLURM has ended later.
    grace_s : int
        Seconds between SLURM's warning and the end of the job's time.
    node_scratch : str, optional
        Folder on the node's own disk, such as ``$TMPDIR``, in place of `work_dir`.
    delete_work : bool
        Delete the work directory of a task that succeeded.
    command : str
        The command that made the scripts.
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
        check_plan(self)

    @property
    def in_container(self) -> bool:
        """Whether a container is used."""
        return self.engine != 'none'


def check_plan(plan: JobPlan) -> None:
    """Refuse what no script can say.

    Raises
    ------
    UsageError
        Naming the value and the remedy.
    """
    for what, value, known in (
        ('scheduler', plan.scheduler, tuple(SCHEDULERS)),
        ('--engine', plan.engine, ENGINES),
        ('--dependency', plan.dependency, DEPENDENCIES),
    ):
        if value not in known:
            raise UsageError(f'{what} must be one of {", ".join(known)}, not {value!r}.')
    if plan.scheduler == 'sge' and plan.dependency == 'afterok':
        raise UsageError(
            'SGE lets a job wait for the end of another, not for its success.',
            'Leave --dependency out: the group level lists who is missing.',
        )
    if plan.in_container and not plan.image:
        raise UsageError(
            f'--engine {plan.engine} needs --image.',
            'Give an image, or --engine none to run the bids_interp of this environment.',
        )
    if not plan.in_container and plan.image:
        raise UsageError('--engine none takes no --image.', 'Leave one of them out.')
    parts = [plan.participant, plan.group, plan.train]
    names = [plan.account, plan.qos, plan.parallel_environment]
    for name in (*names, *(part.partition for part in parts if part is not None)):
        if name is not None and not _PLAIN.fullmatch(name):
            raise UsageError(f'{name!r} is no name that a scheduler knows.', 'Check its spelling.')
    for line in (*plan.scheduler_options, *plan.setup, plan.node_scratch or ''):
        if '\n' in line:
            raise UsageError(f'{line!r} has a line break.', 'Give the option once per line.')
    for path in (plan.jobs_dir, *bound_paths(plan)):
        _check_path(path, plan.in_container)


def _check_path(path: Path, in_container: bool) -> None:
    if '\n' in str(path):
        raise UsageError(f'The path {str(path)!r} has a line break.', 'Rename it.')
    if not in_container:
        return
    if re.search('[:,]', str(path)):
        raise UsageError(
            f'{path} has a colon or a comma, which separate the bind mounts of a container.',
            'Make a link to it whose path has neither, and name the link.',
        )
    if str(path) in _SYSTEM:
        raise UsageError(
            f'{path} cannot be bound into a container: it would hide what is there.',
            'Give a folder below it.',
        )


def bound_paths(plan: JobPlan) -> dict[Path, bool]:
    """Return what a container sees of the outside, and whether it may write there.

    A folder comes before what is in it, so that a writable output below a read-only dataset is
    bound after it. What a folder covers with the same rights is left out.
    """
    wanted = dict.fromkeys((plan.bids_dir, *plan.read_only), False)
    wanted |= dict.fromkeys((plan.output_dir, *plan.writable), True)
    if plan.node_scratch is None:
        wanted[plan.work_dir] = True
    kept: dict[Path, bool] = {}
    for path in sorted(wanted, key=lambda path: len(path.parts)):
        above = [parent for parent in path.parents if parent in kept]
        if above and (kept[above[0]] or not wanted[path]):
            continue  # the nearest one above gives all rights, or no more are asked for
        kept[path] = wanted[path]
    return kept
