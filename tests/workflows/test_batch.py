"""Nodes as jobs of a cluster: options, refusals, lost jobs, and a program that waits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.bids.query import T1wRecord
from bids_interp.interfaces.model import NetworkInputSpec
from bids_interp.settings import Settings
from bids_interp.workflows import batch
from bids_interp.workflows.context import RunContext, log_dir, send_crashes, workflow_name
from bids_interp.workflows.engine import configure_nipype, execute
from bids_interp.workflows.running import Job
from bids_interp.workflows.schedulers import LSF, PBS, SGE, SLURM, Scheduler
from bids_interp.workflows.verdict import DONE, FAILED, Verdict

QUICK = {'poll_seconds': 0.2, 'job_finished_timeout': 0.5, 'retry_timeout': 0}


def add_one(value):
    """Return the next number."""
    return value + 1


def fail(value):
    """Raise an error of ours."""
    from bids_interp.errors import ImageError

    raise ImageError(f'{value}.nii.gz is broken.', 'Mend it.')


def be_killed(value):
    """End as a job ends that takes too much memory."""
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


class Runs:
    """Runs small workflows with a plugin."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / 'work dir'  # with a space: paths go through shells
        self.work.mkdir()

    def __call__(self, plugin: str, functions: dict, **arguments) -> Verdict:
        file = self.folder / 'plugin.yml'
        file.write_text(yaml.safe_dump({'plugin': plugin, 'plugin_args': {**QUICK, **arguments}}))
        settings = Settings(self.folder / 'bids', self.folder / 'out', use_plugin=file)
        context = RunContext(None, 'cpu', 2, 1, 'run')  # type: ignore[arg-type]
        job = Job(settings, context, [], self.work, 8.0)
        configure_nipype(job.engine)
        workflow = Workflow(name='bids_interp_wf')
        workflow.base_dir = str(self.work)
        records = []
        for label, function in functions.items():
            record = T1wRecord(Path(f'sub-{label}_T1w.nii.gz'), label, None, {'sub': label})
            single_wf = Workflow(name=workflow_name(record.prefix))
            start = pe.Node(niu.Function(function=add_one), name='start', mem_gb=2.0, n_procs=3)
            start.inputs.value = 1
            step = pe.Node(niu.Function(function=function), name='step')
            single_wf.connect([(start, step, [('out', 'value')])])
            send_crashes(single_wf, log_dir(settings, label, 'run'))
            workflow.add_nodes([single_wf])
            records.append(record)
        return execute(job.engine, workflow, records)


@pytest.fixture
def run(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


class _Interface(niu.IdentityInterface):
    """An identity that asks for a GPU."""


def node_with(n_procs: int, mem_gb: float, gpu: bool = False) -> pe.Node:
    fields = ['use_gpu'] if gpu else ['value']
    node = pe.Node(_Interface(fields=fields), name='node', n_procs=n_procs, mem_gb=mem_gb)
    if gpu:
        node.inputs.use_gpu = True
    return node


@pytest.mark.parametrize(
    ('scheduler', 'options'),
    [
        (SLURM, '--cpus-per-task=4 --mem=2862M --gres=gpu:1'),
        (PBS, '-l ncpus=4 -l mem=2862mb -l ngpus=1'),
        (SGE, '-pe smp 4 -l mem_free=716M -l gpu=1'),
        (LSF, '-n 4 -R "span[hosts=1]" -M 2862MB -R "rusage[mem=2862MB]" -gpu "num=1"'),
    ],
    ids=lambda value: getattr(value, 'name', ''),
)
def test_resources_become_options(scheduler: Scheduler, options: str) -> None:
    # 3 GB are 2861.02 MiB.
    assert scheduler.resources(node_with(4, 3.0, gpu=True), {}) == options


def test_one_cpu_needs_no_parallel_environment_and_a_small_node_room_for_python() -> None:
    assert SGE.resources(node_with(1, 0.2), {}) == '-l mem_free=1431M'
    assert SLURM.resources(node_with(1, 0.2), {'min_mem_gb': 0}) == '--cpus-per-task=1 --mem=191M'


@pytest.mark.parametrize(
    ('scheduler', 'given', 'options'),
    [
        (SLURM, '-p long', '--cpus-per-task=2 --mem=3815M --gres=gpu:1 -p long'),
        (SLURM, '--mem-per-cpu=2G', '--cpus-per-task=2 --gres=gpu:1 --mem-per-cpu=2G'),
        (SLURM, '-c 8 --gpus=a100:1', '--mem=3815M -c 8 --gpus=a100:1'),
        (PBS, '-l select=1:ncpus=8:mem=4gb:ngpus=1', '-l select=1:ncpus=8:mem=4gb:ngpus=1'),
        (SGE, '-pe mpi 4', '-l mem_free=1908M -l gpu=1 -pe mpi 4'),
        (LSF, '-n 8', '-M 3815MB -R "rusage[mem=3815MB]" -gpu "num=1" -n 8'),
    ],
)
def test_what_the_user_asks_for_wins(scheduler: Scheduler, given: str, options: str) -> None:
    node = node_with(2, 4.0, gpu=True)
    assert scheduler.resources(node, {scheduler.key: given}) == options


def test_patterns_of_the_user_replace_ours() -> None:
    arguments = {
        'cpu_args': '-l nodes=1:ppn={cpus}',
        'mem_args': '-l vmem={mem_gb}gb',
        'gpu_args': '',
    }
    node = node_with(2, 2.5, gpu=True)
    assert PBS.resources(node, arguments) == '-l nodes=1:ppn=2 -l vmem=3gb'


def test_a_fold_on_several_gpus_asks_for_all_of_them() -> None:
    node = pe.Node(_Interface(fields=['use_gpu', 'n_devices']), name='node', mem_gb=2.0)
    node.inputs.use_gpu, node.inputs.n_devices = True, 3
    assert SLURM.resources(node, {}).endswith('--gres=gpu:3')
    assert LSF.resources(node, {'gpu_args': '-q gpu{gpus}'}).endswith('-q gpu3')


def test_networks_on_a_gpu_are_known_by_the_name_that_nipype_looks_for() -> None:
    assert 'use_gpu' in NetworkInputSpec().copyable_trait_names()


@pytest.mark.parametrize('plugin', ['SLURM', 'PBS', 'SGE', 'LSF', 'SLURMGraph', 'PBSGraph'])
def test_a_cluster_does_the_work_once(run: Runs, cluster, plugin: str) -> None:
    kind = plugin.removesuffix('Graph')
    cluster.play(kind)
    verdict = run(plugin, {'a': add_one})
    assert verdict.lines() == ['The image is done.']
    said = {'SLURM': '--cpus-per-task=3', 'PBS': 'ncpus=3', 'SGE': 'smp 3', 'LSF': '-n 3'}[kind]
    assert [said in line for line in cluster.lines()] == [True, False]
    assert (run.work / 'bids_interp_wf' / 'sub_a_wf' / 'step' / 'result_step.pklz').is_file()
    assert run(plugin, {'a': add_one}).exit_code == 0
    assert len(cluster.lines()) == 2


@pytest.mark.parametrize('plugin', ['SLURM', 'SLURMGraph', 'SGEGraph'])
def test_an_error_in_a_job_and_a_killed_job_are_told(run: Runs, cluster, plugin: str) -> None:
    cluster.play(plugin.removesuffix('Graph'))
    verdict = run(plugin, {'a': fail, 'b': add_one, 'c': be_killed})
    failed, other, killed = verdict.outcomes
    assert (failed.status, failed.problem) == (FAILED, '2.nii.gz is broken. Mend it.')
    assert other.status == DONE
    assert killed.status == FAILED
    assert 'ended without a result' in killed.problem
    assert '--use-plugin' in killed.problem
    assert ('OUT_OF_MEMORY' in killed.problem) == plugin.startswith('SLURM')
    assert killed.crash_file is not None
    assert verdict.exit_code == 1


@pytest.mark.parametrize('plugin', ['SLURM', 'SLURMGraph', 'LSF'])
def test_a_refusal_names_the_node_the_reason_and_a_remedy(run: Runs, cluster, plugin: str) -> None:
    cluster.set('refuse', 'sbatch: error: invalid partition specified: nope\n')
    verdict = run(plugin, {'a': add_one, 'b': add_one}, max_tries=2)
    assert verdict.exit_code == 1
    for outcome in verdict.outcomes:
        assert outcome.step == 'start'
        assert 'refused the job of bids_interp_wf' in outcome.problem
        assert 'invalid partition specified: nope' in outcome.problem
        assert '--use-plugin' in outcome.problem
    # Three tries for the first node, one for the next.
    assert len(cluster.lines()) == 4


@pytest.mark.parametrize('plugin', ['SLURM', 'SLURMGraph'])
def test_a_job_that_would_wait_for_ever_is_cancelled(run: Runs, cluster, plugin: str) -> None:
    cluster.set('hold')
    cluster.set('reason', 'PartitionTimeLimit')
    verdict = run(plugin, {'a': add_one})
    assert 'would never run job 1 (PartitionTimeLimit)' in verdict.outcomes[0].problem
    assert 'scancel 1' in cluster.lines('cancelled')


def test_a_silent_scheduler_is_given_up(
    run: Runs, cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.set('hold')
    cluster.set('silent')
    made = batch.Queue

    def impatient(*arguments) -> batch.Queue:
        return made(*arguments, silence_seconds=0.5)

    monkeypatch.setattr(batch, 'Queue', impatient)
    verdict = run('SLURM', {'a': add_one})
    assert 'has not answered' in verdict.outcomes[0].problem
    assert verdict.exit_code == 1


def test_jobs_are_cancelled_when_the_run_stops(
    run: Runs, cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.set('hold')

    def interrupt(self, ids) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Scheduler, 'active', interrupt)
    verdict = run('SLURM', {'a': add_one, 'b': add_one})
    assert verdict.interrupted
    assert cluster.lines('cancelled') == ['scancel 1 2']


def test_lists_are_joined_without_a_job(cluster, tmp_path: Path) -> None:
    workflow = pe.Workflow(name='small_wf', base_dir=str(tmp_path))
    merge = pe.Node(niu.Merge(2), name='merge')
    merge.inputs.in1, merge.inputs.in2 = 1, 2
    workflow.add_nodes([merge])
    heard = []
    plugin = batch.BatchPlugin(
        SLURM, {**QUICK, 'status_callback': lambda node, status: heard.append(status)}
    )
    workflow.run(plugin=plugin)
    assert heard == ['start', 'end']
    assert cluster.lines() == []


def test_jobs_run_python_as_it_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('subprocess._args_from_interpreter_flags', lambda: ['-I'])
    assert batch.python_command('/a b/c.py').endswith(" -I '/a b/c.py'")


def test_no_name_of_the_user_is_needed(run: Runs, cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('LOGNAME', 'USER'):
        monkeypatch.delenv(name, raising=False)
    assert run('SLURM', {'a': add_one}).exit_code == 0
    assert 'LOGNAME' not in os.environ
