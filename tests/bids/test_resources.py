"""Limits of the machine, and which model applies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bids_interp.bids import resources
from bids_interp.bids.model_choice import choose_model, output_spaces
from bids_interp.errors import DeviceError, ModelError, OutputError, UsageError
from bids_interp.settings import Settings


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


@pytest.mark.parametrize(
    ('environ', 'count'),
    [
        ({}, None),
        ({'CUDA_VISIBLE_DEVICES': 'GPU-1,GPU-2'}, 2),
        ({'CUDA_VISIBLE_DEVICES': '-1'}, 0),
        ({'CUDA_VISIBLE_DEVICES': 'NoDevFiles', 'SLURM_JOB_GPUS': '0'}, 0),
        ({'SLURM_JOB_GPUS': '2,3,4'}, 3),
    ],
)
def test_gpus_of_a_job(environ: dict[str, str], count: int | None) -> None:
    assert resources.visible_gpus(environ) == count


def test_a_job_without_a_gpu_on_a_machine_that_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, 'GPU_FILES', ('/dev/null',))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert resources.resolve_device('auto') == 'cpu'
    with pytest.raises(DeviceError, match=r'cuda\b.*\b0\b') as caught:
        resources.resolve_device('cuda')
    assert '--gres' in caught.value.advice
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '5')
    with pytest.raises(DeviceError, match=r'cuda:1\b.*\b1 '):
        resources.resolve_device('cuda:1')


def test_devices_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, 'GPU_FILES', ())
    assert resources.resolve_device('auto') == 'cpu'
    assert resources.resolve_device('cpu') == 'cpu'
    for device in ('cuda', 'cuda:3'):
        with pytest.raises(DeviceError, match=device) as caught:
            resources.resolve_device(device)
        assert '--device' in caught.value.advice


def test_a_driver_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(resources, 'GPU_FILES', ('/dev/null',))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert resources.resolve_device('auto') == 'cpu'
    with pytest.raises(DeviceError):
        resources.resolve_device('cuda')


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    for folder in (tmp_path / 'file', tmp_path / 'file' / 'below', Path('/proc/out')):
        with pytest.raises(OutputError, match=str(folder)):
            resources.check_writable(folder, 'output directory')
    made = tmp_path / 'a' / 'b'
    resources.check_writable(made, 'output directory', create=False)
    assert not made.exists()
    resources.check_writable(made, 'output directory')
    assert list(made.iterdir()) == []


def test_free_space(tmp_path: Path) -> None:
    resources.check_space({tmp_path: 1000})
    with pytest.raises(OutputError, match=rf'{re.escape(str(tmp_path))}.* 1000000000000 MB'):
        resources.check_space({tmp_path: 10**18})
    below = tmp_path / 'work'
    below.mkdir()
    half = int(0.6 * resources.shutil.disk_usage(tmp_path).free)
    with pytest.raises(OutputError):  # two halves on one disk are one whole
        resources.check_space({tmp_path: half, below: half})


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


def test_the_order_of_models(tmp_path: Path) -> None:
    settings = Settings('/bids', tmp_path)
    environ = {'BIDS_INTERP_MODEL': '/of/the/environment'}
    assert choose_model(settings, {}).name == 'demo_model'
    assert choose_model(settings, environ) == Path('/of/the/environment')
    first = tmp_path / 'models' / 'first'
    first.mkdir(parents=True)
    (tmp_path / 'models' / 'notes').mkdir()
    (first / 'config.json').write_text('{}')
    assert choose_model(settings, environ) == first
    second = tmp_path / 'models' / 'second'
    second.mkdir()
    (second / 'config.json').write_text('{}')
    with pytest.raises(ModelError, match='first, second'):
        choose_model(settings, environ)
    assert choose_model(settings.replace(model='/mine'), environ) == Path('/mine')


def test_output_spaces() -> None:
    settings = Settings('/bids', '/out', output_spaces=('MNI152X', 'template', 'T1w'))
    assert output_spaces(settings, 'MNI152X') == ('template', 'T1w')
    with pytest.raises(UsageError, match='fsaverage'):
        output_spaces(settings.replace(output_spaces=('fsaverage',)), 'MNI152X')
