"""Limits of the machine, and caches of libraries."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bids_interp.container import NO_HOME, home_dir
from bids_interp.execution import resources


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    return tmp_path / 'cgroup'


def test_cpus_and_memory_of_a_container(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.os, 'sched_getaffinity', lambda pid: set(range(64)))
    cgroup.mkdir()
    assert resources.available_cpus({}, cgroup) == 64
    whole = resources.available_memory_gb({}, cgroup)
    (cgroup / 'cpu.max').write_text('250000 100000\n')
    (cgroup / 'memory.max').write_text('1000000000\n')
    assert resources.available_cpus({}, cgroup) == 2
    assert resources.available_memory_gb({}, cgroup) == pytest.approx(0.9)
    (cgroup / 'cpu.max').write_text('max 100000\n')
    (cgroup / 'memory.max').write_text('max\n')
    assert resources.available_cpus({}, cgroup) == 64
    assert resources.available_memory_gb({}, cgroup) == whole


def test_control_groups_version_1(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.os, 'sched_getaffinity', lambda pid: set(range(64)))
    for name, text in (
        ('cpu/cpu.cfs_quota_us', '300000'),
        ('cpu/cpu.cfs_period_us', '100000'),
        ('memory/memory.limit_in_bytes', '2000000000'),
    ):
        (cgroup / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroup / name).write_text(text)
    assert resources.available_cpus({}, cgroup) == 3
    assert resources.available_memory_gb({}, cgroup) == pytest.approx(1.8)
    (cgroup / 'cpu/cpu.cfs_quota_us').write_text('-1')
    assert resources.available_cpus({}, cgroup) == 64


def test_limits_of_a_slurm_job(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.os, 'sched_getaffinity', lambda pid: set(range(64)))
    job = {'SLURM_CPUS_PER_TASK': '4', 'SLURM_CPUS_ON_NODE': '32', 'SLURM_MEM_PER_CPU': '100'}
    assert resources.available_cpus(job, cgroup) == 4
    assert resources.available_memory_gb(job, cgroup) == pytest.approx(0.9 * 0.4 * 1.048576)
    job = {'SLURM_CPUS_ON_NODE': '32', 'SLURM_MEM_PER_NODE': '1000'}
    assert resources.available_cpus(job, cgroup) == 32
    assert resources.available_memory_gb(job, cgroup) == pytest.approx(0.9 * 1.048576)


@pytest.mark.parametrize(
    ('job', 'cpus'),
    [
        ({'PBS_JOBID': '1.s', 'NCPUS': '6'}, 6),
        ({'PBS_JOBID': '1.s', 'PBS_NUM_PPN': '5'}, 5),
        ({'NCPUS': '6'}, 64),
        ({'JOB_ID': '1', 'NSLOTS': '3'}, 3),
        ({'LSB_JOBID': '1', 'LSB_DJOB_NUMPROC': '7', 'LSB_MAX_NUM_PROCESSORS': '9'}, 7),
        ({'LSB_JOBID': '1', 'LSB_MAX_NUM_PROCESSORS': '9'}, 9),
        ({'JOB_ID': '1', 'NSLOTS': 'undefined'}, 64),
        ({'SLURM_CPUS_PER_TASK': '128'}, 64),
    ],
)
def test_cpus_of_other_schedulers(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch, job: dict[str, str], cpus: int
) -> None:
    monkeypatch.setattr(resources.os, 'sched_getaffinity', lambda pid: set(range(64)))
    assert resources.available_cpus(job, cgroup) == cpus


def test_memory_by_gpu_by_address_space_and_a_whole_node(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = resources.available_memory_gb({}, cgroup)
    job = {'SLURM_MEM_PER_GPU': '1000', 'SLURM_JOB_GPUS': '0,1'}
    assert resources.available_memory_gb(job, cgroup) == pytest.approx(1.8 * 1.048576)
    # --mem=0 asks SLURM for all memory of the node.
    assert resources.available_memory_gb({'SLURM_MEM_PER_NODE': '0'}, cgroup) == whole
    monkeypatch.setattr(resources.resource, 'getrlimit', lambda kind: (10**9, -1))
    assert resources.available_memory_gb({}, cgroup) == pytest.approx(0.9)


def test_caches_go_to_the_work_directory_only_without_a_home(tmp_path: Path) -> None:
    home = {'HOME': str(tmp_path)}
    resources.prepare_caches(tmp_path / 'work', home)
    assert 'MPLCONFIGDIR' not in home
    assert home['NO_ET'] == '1'
    for wrong in ('/nonexistent', '/', ''):
        environ = {'HOME': wrong, 'TORCH_HOME': '/mine'}
        resources.prepare_caches(tmp_path / 'work', environ)
        assert environ['TORCH_HOME'] == '/mine'
        for name in ('MPLCONFIGDIR', 'XDG_CACHE_HOME', 'NIPYPE_CONFIG_DIR', 'TEMPLATEFLOW_HOME'):
            assert Path(environ[name]).is_dir()
            assert tmp_path / 'work' in Path(environ[name]).parents


def test_a_user_id_without_a_name_gets_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs as the caller."""

    def nowhere() -> Path:
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.setattr(Path, 'home', nowhere)
    assert home_dir() == NO_HOME
    environ: dict[str, str] = {}
    resources.prepare_caches(tmp_path, environ)
    assert Path(environ['HOME']).is_dir()
    assert tmp_path in Path(environ['HOME']).parents


def test_a_home_that_cannot_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``Path.is_dir`` raises an error if a folder above may not be entered."""

    def refuse(self: Path) -> bool:
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(resources.Path, 'is_dir', refuse)
    monkeypatch.setattr(resources.os, 'access', lambda path, mode: not mode & os.R_OK)
    home = {'HOME': str(tmp_path)}
    resources.prepare_caches(tmp_path / 'work', home)
    assert 'MPLCONFIGDIR' in home


@pytest.mark.parametrize(
    'kind', [{'BIDS_INTERP_CONTAINER_TAG': 'bids_interp:1'}, {'APPTAINER_NAME': 'a.sif'}]
)
def test_caches_of_a_container_stay_out_of_the_callers_home(tmp_path: Path, kind: dict) -> None:
    environ = {'HOME': str(tmp_path), **kind}
    resources.prepare_caches(tmp_path / 'work', environ)
    assert environ['XDG_CACHE_HOME'] == str(tmp_path / 'work' / '.caches' / 'cache')


def test_temporary_files_where_nothing_else_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError('No usable temporary directory found')

    environ = {'HOME': str(tmp_path)}
    resources.prepare_caches(tmp_path / 'work', environ)
    assert 'TMPDIR' not in environ
    monkeypatch.setattr(resources.tempfile, 'gettempdir', nowhere)
    resources.prepare_caches(tmp_path / 'work', environ)
    assert Path(environ['TMPDIR']).is_dir()
    assert tmp_path / 'work' in Path(environ['TMPDIR']).parents
