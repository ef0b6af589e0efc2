"""Nodes on workers of dask: done, failed, killed, or nobody there to run them."""

from __future__ import annotations

import gc
import os
import signal
import time
from pathlib import Path

import pytest
import yaml
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.errors import SchedulerError, UsageError, WorkerLostError
from bids_interp.execution.execute import configure_nipype, run_nodes
from bids_interp.execution.outcome import DONE, FAILED, Outcome
from bids_interp.execution.plugins import dask as dask_plugin
from bids_interp.execution.plugins import plugin_file
from bids_interp.execution.plugins.dask import (
    make_job_cluster,
    make_security,
    write_credentials,
)
from bids_interp.execution.plugins.plugin_file import JOB_CLUSTERS, check_plugin, make_plugin
from bids_interp.execution.run import Run, send_crashes
from bids_interp.settings import Settings

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


def take_long():
    """Run until it is ended."""
    import time

    time.sleep(600)


def write_plugin(folder: Path, **arguments) -> Path:
    file = folder / 'dask.yml'
    file.write_text(yaml.safe_dump({'plugin': 'Dask', 'plugin_args': arguments}))
    return file


def run(folder: Path, function, **arguments) -> Outcome:
    work = folder / 'work'
    work.mkdir(exist_ok=True)
    file = write_plugin(folder, **arguments)
    settings = Settings(folder / 'bids', folder / 'out', use_plugin=file)
    run = Run(settings, work, 'cpu', 2, 1, 8.0, 'run')
    configure_nipype(run)
    workflow = Workflow(name='small_wf')
    workflow.base_dir = str(work)
    start = pe.Node(niu.Function(function=add_one), name='start')
    start.inputs.value = 1
    step = pe.Node(niu.Function(function=function), name='step')
    workflow.connect([(start, step, [('out', 'value')])])
    send_crashes(workflow, folder / 'crashes')
    return run_nodes(run, workflow, folder / 'crashes')


def make(folder: Path, **arguments):
    """Make the plugin in a folder for its files."""
    scratch = folder / 'scratch'
    scratch.mkdir(exist_ok=True)
    return make_plugin(
        write_plugin(folder, **arguments),
        nprocs=1, mem_gb=4, n_gpu_procs=0, scratch=scratch, status_callback=print,
    )  # fmt: skip


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, str]:
    """Certificate files of a user."""
    folder = tmp_path / 'certificate'
    folder.mkdir()
    return write_credentials(folder)


def wait_until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_workers_of_its_own_do_the_work(tmp_path: Path) -> None:
    assert run(tmp_path, add_one, n_workers=1).status == DONE
    assert list((tmp_path / 'work' / 'small_wf' / 'step').glob('result_*.pklz'))


def test_an_error_on_a_worker_is_told(tmp_path: Path) -> None:
    outcome = run(tmp_path, fail, n_workers=1)
    assert outcome.problem == '2.nii.gz is broken. Mend it.'


def test_a_killed_worker_fails_its_node(tmp_path: Path) -> None:
    outcome = run(tmp_path, be_killed, n_workers=1)
    assert (outcome.status, outcome.step) == (FAILED, 'step')
    assert WorkerLostError.default_advice in outcome.problem


def test_a_cluster_without_workers_is_not_waited_for_without_end(tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        outcome = run(tmp_path, add_one, scheduler=cluster.scheduler_address, worker_timeout=0.5)
    assert (outcome.status, outcome.step) == (FAILED, 'start')
    assert WorkerLostError.default_advice in outcome.problem


@pytest.mark.parametrize('tls', [False, True])
def test_a_running_cluster_is_used(tmp_path: Path, certificate: dict[str, str], tls: bool) -> None:
    from distributed import LocalCluster

    given = {'tls': certificate} if tls else {}
    with LocalCluster(
        n_workers=1,
        dashboard_address=None,
        protocol='tls://' if tls else 'tcp://',
        processes=False,
        security=make_security(certificate) if tls else None,
    ) as cluster:
        address = cluster.scheduler_address
        assert address.startswith('tls://' if tls else 'tcp://')
        assert run(tmp_path, add_one, scheduler=address, **given).status == DONE


def test_a_scheduler_with_tls_refuses_who_has_no_certificate(
    tmp_path: Path, certificate: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client, LocalCluster

    monkeypatch.setattr(dask_plugin, 'CONNECT_SECONDS', 2)
    other = tmp_path / 'other'
    other.mkdir()
    with LocalCluster(
        n_workers=0, dashboard_address=None, security=make_security(certificate)
    ) as cluster:
        address = cluster.scheduler_address
        for tls in (False, write_credentials(other)):
            with pytest.raises(SchedulerError):
                make(tmp_path, scheduler=address, tls=tls)
        clients = [thing for thing in gc.get_objects() if isinstance(thing, Client)]
        assert {client.status for client in clients} == {'closed'}
        make(tmp_path, scheduler=address, tls=certificate).close()


def test_an_address_where_nobody_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_plugin, 'CONNECT_SECONDS', 0.5)
    with pytest.raises(SchedulerError) as error:
        make(tmp_path, scheduler='tcp://127.0.0.1:9')
    assert error.value.exit_code == 1


def test_a_machine_too_busy_to_start_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr('distributed.utils.LoopRunner.start', late)
    with pytest.raises(SchedulerError, match='event loop did not start in time'):
        make(tmp_path, scheduler='tcp://127.0.0.1:9')


def test_a_cluster_of_its_own_listens_on_the_loopback_alone(tmp_path: Path) -> None:
    import psutil

    plugin = make(tmp_path, n_workers=1)
    try:
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = {
            connection.laddr.ip
            for process in family
            for connection in process.net_connections('tcp')
            if connection.status == psutil.CONN_LISTEN
        }
    finally:
        plugin.close()
    assert listening == {'127.0.0.1'}


def test_local_workers_can_be_encrypted_too(tmp_path: Path) -> None:
    plugin = make(tmp_path, n_workers=0, tls=True)
    assert plugin.client.scheduler.address.startswith('tls://127.0.0.1:')
    (folder,) = (tmp_path / 'scratch').glob('dask-tls-*')
    assert folder.stat().st_mode & 0o77 == 0
    assert {path.stat().st_mode & 0o77 for path in folder.iterdir()} == {0}
    plugin.close()
    assert not folder.exists()


def test_workers_as_jobs_do_the_work(tmp_path: Path, cluster) -> None:
    outcome = run(tmp_path, add_one, slurm={'interface': 'lo', 'cores': 2}, n_workers=1)
    assert outcome.status == DONE, outcome.problem
    (script,) = cluster.scripts()
    assert ' tls://127.0.0.1:' in script
    assert not list((tmp_path / 'work').glob('dask-tls-*'))
    wait_until(lambda: not cluster.groups())


def test_a_job_that_was_killed_fails_its_node_and_is_replaced(
    tmp_path: Path, cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dask

    monkeypatch.setitem(dask_plugin.SETTINGS, 'distributed.deploy.lost-worker-timeout', '1s')
    plugin = make(tmp_path, sge={'interface': 'lo'}, n_workers=1)
    try:
        plugin.client.wait_for_workers(1, timeout=60)
        node = pe.Node(niu.Function(function=take_long), name='step', base_dir=str(tmp_path))
        plugin.submit(1, node, False)
        wait_until(lambda: (tmp_path / 'step').exists())
        os.killpg(cluster.groups()[0], signal.SIGKILL)
        wait_until(lambda: plugin.result(1))
        assert 'WorkerLostError' in plugin.result(1)['traceback'][-1]
        plugin.submit(2, pe.Node(niu.Merge(1), name='next', base_dir=str(tmp_path)), False)
        wait_until(lambda: plugin.result(2))
        assert plugin.result(2)['traceback'] is None
    finally:
        plugin.close()
    assert len(cluster.scripts()) == 2
    assert dask.config.get('distributed.deploy.lost-worker-timeout') != '1s'


def test_jobs_that_a_scheduler_refuses(tmp_path: Path, cluster, capfd) -> None:
    cluster.refuse('sbatch: error: invalid partition specified: nope')
    with pytest.raises(SchedulerError) as error:
        make(tmp_path, slurm={'interface': 'lo'}, n_workers=2)
    assert 'invalid partition specified: nope' in error.value.message
    assert 'Traceback' not in ''.join(capfd.readouterr())
    assert not list((tmp_path / 'scratch').glob('dask-tls-*'))


@pytest.mark.parametrize('kind', JOB_CLUSTERS)
def test_jobs_of_all_schedulers_are_encrypted_and_run_one_node_at_a_time(
    tmp_path: Path, certificate: dict[str, str], kind: str
) -> None:
    import dask_jobqueue

    given = {'interface': 'lo', 'cores': 4, 'memory': '8GB', 'queue': 'long'}
    arguments = {kind: given, 'scratch': str(tmp_path)}
    with make_job_cluster(kind, arguments, make_security(certificate)) as cluster:
        assert type(cluster) is getattr(dask_jobqueue, JOB_CLUSTERS[kind][0])
        assert cluster.scheduler.address.startswith('tls://127.0.0.1:')
        script = cluster.job_script()
    words = script.split()
    assert words[len(words) - words[::-1].index('--nthreads')] == '1'
    assert words[words.index('--dashboard-address') + 1] == '127.0.0.1:0'
    assert words[words.index('--interface') + 1] == 'lo'
    assert words[words.index('--protocol') + 1] == 'tls://'
    assert words[words.index('--tls-key') + 1] == certificate['key']
    assert 'export DASK_DISTRIBUTED__WORKER__DAEMON=False\n' in script
    assert 'export PYTHONSAFEPATH=1\n' in script
    assert words[words.index({'slurm': '-p'}.get(kind, '-q')) + 1] == 'long'


@pytest.mark.parametrize(
    'arguments',
    [
        {'scheduler': 'tcp://127.0.0.1:9', 'n_workers': 2},
        {'scheduler': 'tcp://127.0.0.1:9', 'slurm': {'interface': 'lo'}},
        {'scheduler': 'tls://127.0.0.1:9', 'tls': True},
        {'slurm': {'interface': 'lo'}, 'pbs': {'interface': 'lo'}},
        {'slurm': {'queue': 'main'}},
        {'slurm': {'interface': 'nowhere0'}},
        {'slurm': 'main'},
        {'tls': 'yes'},
        {'tls': {'cert': '/dev/null'}},
        {'tls': {'ca_file': '/dev/null', 'cert': '/nowhere.pem'}},
        {'tls': {'ca_file': '/dev/null', 'cert': '/dev/null', 'password': '/dev/null'}},
    ],
)
def test_arguments_that_do_not_fit_together(tmp_path: Path, cluster, arguments: dict) -> None:
    with pytest.raises(UsageError):
        check_plugin(write_plugin(tmp_path, **arguments))


@pytest.mark.parametrize(
    'given',
    [
        {'interface': 'lo'},
        {'interface': 'ib0', 'scheduler_options': {'interface': 'lo'}},
        {'scheduler_options': {'host': 'head.cluster'}},
    ],
)
def test_ways_to_name_where_the_scheduler_listens(tmp_path: Path, cluster, given: dict) -> None:
    check_plugin(write_plugin(tmp_path, lsf=given))


@pytest.mark.parametrize(
    ('missing', 'arguments'),
    [
        ('distributed', {}),
        ('dask_jobqueue', {'slurm': {'interface': 'lo'}}),
        ('cryptography', {'slurm': {'interface': 'lo'}}),
        ('cryptography', {'tls': True}),
    ],
)
def test_what_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster, missing: str, arguments: dict
) -> None:
    monkeypatch.setattr(
        plugin_file, 'find_spec', lambda name: None if name == missing else object()
    )
    with pytest.raises(UsageError) as error:
        check_plugin(write_plugin(tmp_path, **arguments))
    assert missing.replace('_', '-') in error.value.message
    assert 'bids_interp[dask]' in error.value.advice


def test_without_tls_no_package_for_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster
) -> None:
    monkeypatch.setattr(
        plugin_file, 'find_spec', lambda name: None if name == 'cryptography' else object()
    )
    check_plugin(write_plugin(tmp_path, slurm={'interface': 'lo'}, tls=False))
    check_plugin(write_plugin(tmp_path))
