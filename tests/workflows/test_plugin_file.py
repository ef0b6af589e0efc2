"""Files of ``--use-plugin``: the examples work, and mistakes are told before anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_interp import boilerplate
from bids_interp.errors import DeviceError, UsageError
from bids_interp.settings import Settings
from bids_interp.workflows import plugin_file
from bids_interp.workflows.plugin_file import check_plugin, choose_device, read_plugin_file
from bids_interp.workflows.plugins import make_plugin

EXAMPLES = Path(boilerplate.__file__).parent / 'hpc' / 'plugins'
SCHEDULERS = ['slurm', 'slurmgraph', 'pbs', 'sge', 'lsf']


def make(file: Path, folder: Path):
    return make_plugin(
        file, nprocs=2, mem_gb=8, n_gpu_procs=0, scratch=folder, status_callback=print
    )


@pytest.mark.parametrize('name', SCHEDULERS)
def test_an_example_works(name: str, cluster, tmp_path: Path) -> None:
    file = EXAMPLES / f'{name}.yml'
    check_plugin(file)
    plugin = make(file, tmp_path)
    scheduler = plugin.scheduler
    assert scheduler.name == name.removesuffix('graph').upper()
    # What an example spells out is what holds without it.
    for key in ('cpu_args', 'mem_args', 'gpu_args'):
        assert plugin.plugin_args.get(key, getattr(scheduler, key)) == getattr(scheduler, key)
    plugin.close()


def test_the_example_for_dask_works(tmp_path: Path) -> None:
    pytest.importorskip('distributed', reason='dask is not installed (it is in the extra [dask])')
    file = EXAMPLES / 'dask.yml'
    check_plugin(file)
    plugin = make(file, tmp_path)
    try:
        assert len(plugin.client.ncores()) == 2
    finally:
        plugin.close()


def test_every_example_is_tried_here() -> None:
    assert {path.stem for path in EXAMPLES.iterdir()} == {*SCHEDULERS, 'dask'}


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('plugin: SLURM\nplugin_args: [a]', 'plugin_args is no list'),
        ('plugin: SLURM\nplugin_args: {sbatch_arg: -p x}', 'no plugin_args sbatch_arg'),
        ('plugin: PBS\nplugin_args: {sbatch_args: -p x}', 'there are .*qsub_args'),
        ('plugin: LegacyMultiProc', 'waits for ever'),
        ('plugin: DAGMan', 'not supported'),
        ('plugin: [SLURM]', 'needs a line'),
        ('- SLURM', 'needs a line'),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / 'plugin.yml'
    file.write_text(text)
    with pytest.raises(UsageError, match=said) as error:
        read_plugin_file(file)
    assert 'boilerplate/hpc/plugins' in error.value.advice


def test_a_scheduler_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command
) -> None:
    """In a container, say; told before the input is read, with what to do instead."""
    file = tmp_path / 'plugin.yml'
    file.write_text('plugin: LSF\n')
    monkeypatch.setenv('APPTAINER_CONTAINER', '/image.sif')
    with pytest.raises(UsageError, match='not found in this container') as error:
        check_plugin(file)
    assert 'bids_interp_tools hpc slurm' in error.value.advice
    label = ('--label', 'group', '--positive', 'a', '--negative', 'b')
    for level in (('participant',), ('group',), ('train', *label)):
        done = command(tmp_path / 'bids', tmp_path / 'out', *level, '--use-plugin', file)
        assert done.returncode == 2, done.stderr
        assert 'bsub, bjobs, bkill' in done.stderr
        assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'out').exists()


def test_a_gpu_of_other_machines_is_taken_on_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin_file, 'resolve_device', _without_gpu)
    file = tmp_path / 'plugin.yml'
    settings = Settings(tmp_path, tmp_path / 'out', use_plugin=file, device='cuda')
    for text in ('plugin: SLURM', 'plugin: Dask\nplugin_args: {scheduler: "tcp://a:1"}'):
        file.write_text(text)
        assert choose_device(settings) == 'cuda'
    for text in ('plugin: MultiProc', 'plugin: Dask'):
        file.write_text(text)
        with pytest.raises(DeviceError):
            choose_device(settings)
    assert choose_device(settings.replace(device='auto')) == 'cpu'


def _without_gpu(device: str) -> str:
    if device == 'auto':
        return 'cpu'
    raise DeviceError('no GPU')
