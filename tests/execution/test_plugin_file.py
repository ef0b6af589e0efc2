"""Files of ``--use-plugin``: the examples work, and mistakes are told before anything else."""

from __future__ import annotations

import errno
import logging
import multiprocessing
from pathlib import Path

import pytest

from bids_interp import hpc
from bids_interp.cli import app
from bids_interp.errors import DeviceError, UsageError
from bids_interp.execution.plugins import plugin_file
from bids_interp.execution.plugins.plugin_file import (
    check_plugin,
    choose_device,
    make_plugin,
    read_plugin_file,
)
from bids_interp.execution.plugins.serial import SerialPlugin
from bids_interp.settings import Settings

EXAMPLES = Path(hpc.__file__).parent / 'templates' / 'plugins'


def make(file: Path, folder: Path):
    return make_plugin(
        file, nprocs=2, mem_gb=8, n_gpu_procs=0, scratch=folder, status_callback=print
    )


def test_without_semaphores_the_steps_run_in_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A /dev/shm that is full or read-only."""
    made = []

    def lock(self: object) -> object:
        if len(made) == 1:
            raise OSError(errno.ENOSPC, 'No space left on device')
        made.append(object())
        return made[0]

    monkeypatch.setattr(multiprocessing.context.BaseContext, 'Lock', lock)
    monkeypatch.setattr(logging.getLogger('bids_interp'), 'propagate', True)
    with caplog.at_level(logging.WARNING, 'bids_interp'):
        plugin = make_plugin(
            None, nprocs=2, mem_gb=8, n_gpu_procs=0, scratch=tmp_path, status_callback=print
        )
    assert isinstance(plugin, SerialPlugin)
    assert any('/dev/shm' in record.getMessage() for record in caplog.records)


def test_the_example_of_workers_on_this_machine_works(tmp_path: Path) -> None:
    pytest.importorskip('distributed', reason='dask is not installed (it is in the extra [dask])')
    file = EXAMPLES / 'dask.yml'
    check_plugin(file)
    plugin = make(file, tmp_path)
    try:
        assert len(plugin.client.ncores()) == 2
    finally:
        plugin.close()


def test_the_example_of_workers_as_jobs_works(
    cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('dask_jobqueue', reason='dask is not installed (it is in the extra [dask])')
    file = tmp_path / 'plugin.yml'
    text = (EXAMPLES / 'dask-jobs.yml').read_text()
    for words, ours in (('interface: ib0', 'interface: lo'), ('n_workers: 8', 'n_workers: 2')):
        assert words in text
        text = text.replace(words, ours)
    file.write_text(text)
    check_plugin(file)
    plugin = make(file, tmp_path)
    plugin.close()
    scripts = cluster.scripts()
    assert len(scripts) == 2
    for line in ('#SBATCH -p main', '#SBATCH --mem=6G', '#SBATCH --cpus-per-task=2'):
        assert f'{line}\n' in scripts[0]


def test_every_example_is_tried_here() -> None:
    assert {path.stem for path in EXAMPLES.iterdir()} == {'dask', 'dask-jobs'}


@pytest.mark.parametrize(
    ('text', 'named'),
    [
        ('plugin: Dask\nplugin_args: [a]', 'plugin_args'),
        ('plugin: Dask\nplugin_args: {n_worker: 2}', 'n_worker'),
        ('plugin: Linear\nplugin_args: {n_procs: 2}', 'n_procs'),
        ('plugin: LegacyMultiProc', 'MultiProc'),
        ('plugin: DAGMan', 'DAGMan'),
        ('plugin: [SLURM]', 'plugin:'),
        ('- SLURM', 'plugin:'),
        *(
            (f'plugin: {name}', f'{name.lower()}: {{...}}')
            for name in ('SLURM', 'PBS', 'SGE', 'LSF')
        ),
        *((f'plugin: {name}Graph', 'plugin: Dask') for name in ('SLURM', 'PBS', 'SGE', 'LSF')),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / 'plugin.yml'
    file.write_text(text)
    with pytest.raises(UsageError) as error:
        read_plugin_file(file)
    assert named in error.value.message
    assert 'bids_interp/hpc/templates/plugins' in error.value.advice


def test_a_scheduler_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """In a container, say; told before the input is read, with what to do instead."""
    file = tmp_path / 'plugin.yml'
    file.write_text('plugin: Dask\nplugin_args: {lsf: {interface: lo}}\n')
    monkeypatch.setenv('APPTAINER_CONTAINER', '/image.sif')
    with pytest.raises(UsageError) as error:
        check_plugin(file)
    assert 'bids_interp_tools hpc slurm' in error.value.advice
    label = ('--label', 'group', '--positive', 'a', '--negative', 'b')
    for level in (('participant',), ('group',), ('train', *label)):
        words = (tmp_path / 'bids', tmp_path / 'out', *level, '--use-plugin', file)
        with pytest.raises(SystemExit) as end:
            app.main([str(word) for word in words])
        assert end.value.code == 2
        assert 'bsub, bkill' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_gpu_of_other_machines_is_taken_on_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin_file, 'resolve_device', _without_gpu)
    file = tmp_path / 'plugin.yml'
    settings = Settings(tmp_path, tmp_path / 'out', use_plugin=file, device='cuda')
    elsewhere = ('scheduler: "tcp://a:1"', 'slurm: {interface: lo}', 'pbs: {interface: lo}')
    for text in (f'plugin: Dask\nplugin_args: {{{place}}}' for place in elsewhere):
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
