"""Resources that this process may use: CPUs, memory and caches."""

from __future__ import annotations

import os
import re
import resource
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from bids_interp.container import NO_HOME, container, home_dir
from bids_interp.device import visible_gpus

CGROUP = Path('/sys/fs/cgroup')
SHARE_OF_MEMORY = 0.9
# Variables of jobs; the first one that is set counts. Other programs use the names of PBS and SGE,
# too, so the id of the job must also be set.
JOB_CPUS = (
    ('', ('SLURM_CPUS_PER_TASK', 'SLURM_CPUS_ON_NODE')),
    ('PBS_JOBID', ('NCPUS', 'PBS_NCPUS', 'PBS_NUM_PPN')),
    ('JOB_ID', ('NSLOTS',)),
    ('LSB_JOBID', ('LSB_DJOB_NUMPROC', 'LSB_MAX_NUM_PROCESSORS')),
)


def available_cpus(environ: Mapping[str, str] = os.environ, cgroup: Path = CGROUP) -> int:
    """Return the number of CPUs that the affinity, the container and the cluster job allow."""
    limits = [float(len(os.sched_getaffinity(0)))]
    limits += _cgroup_cpus(cgroup)
    for job, names in JOB_CPUS:
        given = [environ[name] for name in names if environ.get(name, '').isdigit()]
        if given and (not job or environ.get(job)):
            limits.append(float(given[0]))
    return max(1, int(min(limits)))


def available_memory_gb(environ: Mapping[str, str] = os.environ, cgroup: Path = CGROUP) -> float:
    """Return 90 % of the memory in GB that machine, container, job and process limits allow."""
    limits = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9]
    for folder in _cgroup_folders(cgroup):
        for name in ('memory.max', 'memory.limit_in_bytes'):
            limit = _read_number(folder / name)
            if limit is not None:
                limits.append(limit / 1e9)
    if environ.get('SLURM_MEM_PER_NODE', '').isdigit():
        limits.append(int(environ['SLURM_MEM_PER_NODE']) * 2**20 / 1e9)
    elif environ.get('SLURM_MEM_PER_CPU', '').isdigit():
        cpus = available_cpus(environ, cgroup)
        limits.append(int(environ['SLURM_MEM_PER_CPU']) * cpus * 2**20 / 1e9)
    elif environ.get('SLURM_MEM_PER_GPU', '').isdigit():
        gpus = visible_gpus(environ) or 1
        limits.append(int(environ['SLURM_MEM_PER_GPU']) * gpus * 2**20 / 1e9)
    # PBS and SGE limit the address space of processes; no limit is negative.
    limits.append(resource.getrlimit(resource.RLIMIT_AS)[0] / 1e9)
    return SHARE_OF_MEMORY * min(limit for limit in limits if limit > 0)


def _cgroup_cpus(cgroup: Path) -> list[float]:
    """Return the CPU quotas of the control groups (version 2, then 1)."""
    quotas = []
    for folder in _cgroup_folders(cgroup):
        fields = _read(folder / 'cpu.max').split()
        if len(fields) == 2 and fields[0].isdigit():
            quotas.append(int(fields[0]) / int(fields[1]))
        quota = _read_number(folder / 'cpu.cfs_quota_us')
        period = _read_number(folder / 'cpu.cfs_period_us')
        if quota and quota > 0 and period:
            quotas.append(quota / period)
    return quotas


def _cgroup_folders(cgroup: Path) -> list[Path]:
    """Return the folders of the control groups: the root (as in a container) and our own."""
    folders = [cgroup, cgroup / 'cpu', cgroup / 'memory']
    for line in _read(Path('/proc/self/cgroup')).splitlines():
        _, controllers, path = [*line.split(':', 2), '', ''][:3]
        base = cgroup / controllers if controllers else cgroup
        folder = base / path.lstrip('/')
        while folder not in folders and cgroup in folder.parents:
            folders.append(folder)
            folder = folder.parent
    return folders


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ''


def _read_number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.lstrip('-').isdigit() else None


def prepare_caches(work_dir: Path, environ: MutableMapping[str, str] = os.environ) -> None:
    """Move the caches of libraries to the work directory if HOME is not writable.

    In a container they are always moved, because HOME may be that of the caller. The telemetry of
    nipype is always switched off.
    """
    environ['NO_ET'] = environ['NIPYPE_NO_ET'] = '1'
    _prepare_temporary(work_dir, environ)
    environ.setdefault('TEMPLATEFLOW_AUTOUPDATE', '0')
    environ.setdefault('MPLBACKEND', 'Agg')
    home = Path(environ.get('HOME') or NO_HOME)
    is_usable = os.path.isdir(home) and os.access(home, os.R_OK | os.W_OK | os.X_OK)
    is_own_home = is_usable and home != Path('/')
    if is_own_home and container(environ) is None:
        return
    caches = {
        'MPLCONFIGDIR': 'matplotlib',
        'XDG_CACHE_HOME': 'cache',
        'TORCH_HOME': 'torch',
        'NIPYPE_CONFIG_DIR': 'nipype',
        'TEMPLATEFLOW_HOME': 'templateflow',
    }
    if home_dir() == NO_HOME:
        caches['HOME'] = 'home'  # pybids and others do not start without one
    for name, folder in caches.items():
        if name not in environ:
            path = work_dir / '.caches' / folder
            path.mkdir(parents=True, exist_ok=True)
            environ[name] = str(path)


def _prepare_temporary(work_dir: Path, environ: MutableMapping[str, str]) -> None:
    """Move temporary files to the work directory if no usual folder is writable.

    This is the case in a read-only container.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        path = work_dir / '.caches' / 'tmp'
        path.mkdir(parents=True, exist_ok=True)
        environ['TMPDIR'] = str(path)


def keep_out_current_folder(environ: MutableMapping[str, str] = os.environ) -> None:
    """Keep new Python processes from importing modules of the current folder, which may be any."""
    environ['PYTHONSAFEPATH'] = '1'


def count_nodes_per_gpu(device: str) -> int:
    """Return the number of nodes that may use the GPU at once: one, or none without a GPU.

    Examples
    --------
    >>> count_nodes_per_gpu('cuda:1'), count_nodes_per_gpu('cpu')
    (1, 0)
    """
    return 1 if re.match(r'cuda', device) else 0
