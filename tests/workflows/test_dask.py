"""Nodes on workers of dask: done, failed, killed, or nobody there to run them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.errors import SchedulerError, UsageError
from bids_interp.settings import Settings
from bids_interp.workflows.context import Engine, send_crashes
from bids_interp.workflows.engine import configure_nipype, run_nodes
from bids_interp.workflows.plugin_file import check_plugin
from bids_interp.workflows.plugins import make_plugin
from bids_interp.workflows.verdict import DONE, FAILED, Outcome

pytest.importorskip('distributed', reason='dask is not installed (it is in the extra [dask])')


def add_one(value):
    """Return the next number."""
    return value + 1


def fail(value):
    """Raise an error of ours."""
    from bids_interp.errors import ImageError

    raise ImageError(f'{value}.nii.gz is broken.', 'Mend it.')


def be_killed(value):
    """End as a worker ends that takes too much memory."""
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def write_plugin(folder: Path, **arguments) -> Path:
    file = folder / 'dask.yml'
    file.write_text(yaml.safe_dump({'plugin': 'Dask', 'plugin_args': arguments}))
    return file


def run(folder: Path, function, **arguments) -> Outcome:
    work = folder / 'work'
    work.mkdir(exist_ok=True)
    file = write_plugin(folder, **arguments)
    settings = Settings(folder / 'bids', folder / 'out', use_plugin=file)
    engine = Engine(settings, work, 'cpu', 2, 1, 8.0, 'run')
    configure_nipype(engine)
    workflow = Workflow(name='small_wf')
    workflow.base_dir = str(work)
    start = pe.Node(niu.Function(function=add_one), name='start')
    start.inputs.value = 1
    step = pe.Node(niu.Function(function=function), name='step')
    workflow.connect([(start, step, [('out', 'value')])])
    send_crashes(workflow, folder / 'crashes')
    return run_nodes(engine, workflow, folder / 'crashes')


def test_workers_of_its_own_do_the_work(tmp_path: Path) -> None:
    assert run(tmp_path, add_one, n_workers=1).status == DONE
    assert list((tmp_path / 'work' / 'small_wf' / 'step').glob('result_*.pklz'))


def test_an_error_on_a_worker_is_told(tmp_path: Path) -> None:
    outcome = run(tmp_path, fail, n_workers=1)
    assert outcome.problem == '2.nii.gz is broken. Mend it.'


def test_a_killed_worker_fails_its_node(tmp_path: Path) -> None:
    outcome = run(tmp_path, be_killed, n_workers=1)
    assert (outcome.status, outcome.step) == (FAILED, 'step')
    assert 'The worker of dask that ran small_wf.step was killed.' in outcome.problem


def test_a_cluster_without_workers_is_no_reason_to_wait_for_ever(tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        outcome = run(tmp_path, add_one, scheduler=cluster.scheduler_address, worker_timeout=0.5)
    assert 'No worker of dask was left' in outcome.problem


def test_a_running_cluster_is_used(tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        assert run(tmp_path, add_one, scheduler=cluster.scheduler_address).status == DONE


def test_an_address_where_nobody_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('bids_interp.workflows.dask_plugin.CONNECT_SECONDS', 0.5)
    with pytest.raises(SchedulerError, match='No dask cluster'):
        make_plugin(
            write_plugin(tmp_path, scheduler='tcp://127.0.0.1:9'),
            nprocs=1, mem_gb=4, n_gpu_procs=0, scratch=tmp_path, status_callback=print,
        )  # fmt: skip


def test_address_and_workers_contradict(tmp_path: Path) -> None:
    file = write_plugin(tmp_path, scheduler='tcp://127.0.0.1:9', n_workers=2)
    with pytest.raises(UsageError, match='either'):
        check_plugin(file)


@pytest.mark.parametrize(('missing', 'arguments'), [
    ('distributed', {}), ('dask_jobqueue', {'slurm': {'queue': 'main'}}),
])  # fmt: skip
def test_what_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, arguments: dict
) -> None:
    monkeypatch.setattr(
        'importlib.util.find_spec', lambda name: None if name == missing else object()
    )
    with pytest.raises(UsageError, match=r'bids_interp\[dask\]') as error:
        check_plugin(write_plugin(tmp_path, **arguments))
    assert missing.replace('_', '-') in str(error.value)
