"""The job scripts: run by bash, with an engine that only notes how it was called."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bids_interp.errors import UsageError
from bids_interp.hpc.job import ENGINES, SCHEDULERS, ClusterJobs, Resources, bound_paths
from bids_interp.hpc.render import render

HPC = Path(__file__).resolve().parents[2] / 'bids_interp' / 'hpc' / 'templates'
ODD = 'it\'s "5%" $HOME'
# What an engine or a scheduler's program does here: it notes its words and ends as it is told.
FAKE = """#!{python} -IS
import json, os, signal, sys, time
from pathlib import Path

folder = Path(__file__).parent
name = Path(__file__).name
calls = folder / f'{{name}}.calls'
with open(calls, 'a') as stream:
    stream.write(json.dumps(sys.argv[1:]) + '\\n')
count = len(calls.read_text().splitlines())
answers = json.loads((folder / f'{{name}}.answers').read_text())
answer = answers[min(count, len(answers)) - 1]
if isinstance(answer, dict) and 'after_term' in answer:
    def stop(number, frame):
        sys.exit(answer['after_term'])
    signal.signal(signal.SIGTERM, stop)
    (folder / 'ready').touch()
    time.sleep(60)
if isinstance(answer, str):
    print(answer.replace('COUNT', str(100 + count)))
    answer = 0
sys.exit(answer)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put programs on PATH that give these answers, one after the other, and note their words."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')
    for name in list(os.environ):
        if name.startswith(('SLURM_', 'PBS_', 'SGE_', 'LSB_')):
            monkeypatch.delenv(name)

    def make(name: str, *answers: object) -> None:
        path = folder / name
        path.write_text(FAKE.format(python=sys.executable))
        path.chmod(0o755)
        (folder / f'{name}.answers').write_text(json.dumps(answers))

    def calls(name: str) -> list[list[str]]:
        path = folder / f'{name}.calls'
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    make.calls, make.folder = calls, folder
    return make


@pytest.fixture
def jobs(tmp_path: Path) -> ClusterJobs:
    bids = tmp_path / ODD / 'bids'
    bids.mkdir(parents=True)
    image = tmp_path / 'my image.sif'
    image.touch()
    return ClusterJobs(
        scheduler='slurm',
        bids_dir=bids,
        output_dir=tmp_path / ODD / 'out',
        work_dir=tmp_path / 'scratch space',
        jobs_dir=tmp_path / 'the jobs',
        participants=('01', '02', 'A3'),
        participant=Resources(2, 5, 90),
        group=Resources(2, 4, 30),
        image=str(image),
    )


def write(jobs: ClusterJobs) -> Path:
    jobs.jobs_dir.mkdir(exist_ok=True)
    for name, text in render(jobs).items():
        (jobs.jobs_dir / name).write_text(text)
    return jobs.jobs_dir


def run(jobs: ClusterJobs, script: str = 'participant.sbatch', **environment: str):
    return subprocess.run(
        ['bash', str(write(jobs) / script)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run_and_end(jobs: ClusterJobs, fake, **env: str):
    """Send a signal to the script once its app runs."""
    process = subprocess.Popen(
        ['bash', str(write(jobs) / 'participant.sbatch')],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    ready = fake.folder / 'ready'
    while not ready.exists():
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.01)
    process.terminate()
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


@pytest.mark.parametrize('label', ['01\n02', '01\r', '01\u2028'])
def test_a_label_is_one_line_of_the_list(jobs: ClusterJobs, label: str) -> None:
    with pytest.raises(UsageError) as caught:
        replace(jobs, participants=('01', label))
    assert repr(label) in caught.value.message


@pytest.mark.parametrize('scheduler', SCHEDULERS)
def test_scripts_of_all_engines_are_valid_shell(jobs: ClusterJobs, scheduler: str) -> None:
    for engine in ENGINES:
        in_container = engine != 'none'
        made = replace(
            jobs,
            scheduler=scheduler,
            engine=engine,
            image=jobs.image if in_container else None,
            participant=Resources(4, 9, 1501, gpus=1, partition='gpu'),
            train=Resources(8, 32, 1440, gpus=2),
            train_options=('--label', 'a group'),
            read_only=(jobs.bids_dir.parent,),
            writable=(jobs.work_dir / 'index',),
            environment=(('TEMPLATEFLOW_HOME', '/my templates'),),
            node_scratch='$TMPDIR' if engine == 'docker' else None,
            delete_work=True,
            setup=('module load apptainer',),
            account='lab_1',
            qos='normal',
            max_running=1,
            max_array=2,
            scheduler_options=('--hold',),
            jobs_dir=jobs.jobs_dir.with_name(f'jobs {engine}'),
        )
        folder = write(made)
        scripts = sorted(path for path in folder.iterdir() if path.suffix != '.txt')
        assert len(scripts) == 5
        for script in scripts:
            subprocess.run(['bash', '-n', str(script)], check=True, capture_output=True)
            lines = script.read_text().splitlines()
            assert lines[0] == '#!/bin/bash'
            assert lines[1].startswith('# Untested') == (scheduler != 'slurm')
            assert any(re.match(r'# .* bids_interp \d', line) for line in lines)
            assert 'set -euo pipefail' in lines


@pytest.mark.parametrize('scheduler', SCHEDULERS)
def test_scripts_pass_shellcheck(jobs: ClusterJobs, scheduler: str) -> None:
    if shutil.which('shellcheck') is None:
        pytest.skip('shellcheck is not installed')
    engine = {'pbs': 'docker', 'lsf': 'podman', 'sge': 'none'}.get(scheduler, 'apptainer')
    made = replace(
        jobs,
        scheduler=scheduler,
        engine=engine,
        image=None if engine == 'none' else jobs.image,
        train=Resources(8, 32, 1440, gpus=2),
        read_only=(jobs.bids_dir.parent,),
        node_scratch='$TMPDIR' if engine == 'docker' else None,
        delete_work=True,
        max_running=1,
        max_array=2,
    )
    folder = write(made)
    scripts = [folder / f'participant-1.{SCHEDULERS[scheduler]}', folder / 'submit.sh']
    done = subprocess.run(
        ['shellcheck', '-S', 'warning', *map(str, scripts)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, '')


def test_example_for_a_gpu_partition_is_valid_shell() -> None:
    subprocess.run(['bash', '-n', str(HPC / 'gpu.sbatch')], check=True)
    assert (HPC / 'bids_interp.def').read_text().startswith('Bootstrap: docker-archive\nFrom: ')


def test_words_arrive_as_they_were_given(jobs: ClusterJobs, fake) -> None:
    fake('apptainer', 0)
    options = ('--contrast', ODD, '--dose', '0.5')
    jobs = replace(jobs, options=options, environment=(('TEMPLATEFLOW_HOME', '/a b'),))
    done = run(jobs, SLURM_ARRAY_TASK_ID='2', SLURM_CPUS_PER_TASK='7', SLURM_MEM_PER_NODE='10000')
    assert done.returncode == 0, done.stderr
    (words,) = fake.calls('apptainer')
    bids, out, work = jobs.bids_dir, jobs.output_dir, jobs.work_dir
    binds = [words[i + 1] for i, word in enumerate(words) if word == '--bind']
    assert sorted(binds) == sorted([f'{bids}:{bids}:ro', f'{out}:{out}', f'{work}:{work}'])
    assert words[words.index('--env') + 1] == 'TEMPLATEFLOW_HOME=/a b'
    assert {'--cleanenv', '--containall', '--no-home'} <= set(words)
    assert '--nv' not in words
    expected = [str(jobs.image), str(bids), str(out), 'participant', '--participant-label', '02']
    expected += ['--work-dir', f'{work}/sub-02', '--nprocs', '7', '--mem', '9000MiB', *options]
    assert words[words.index(str(jobs.image)) :] == expected
    # Its /tmp is gone, its work directory is kept.
    assert [path.name for path in work.iterdir()] == ['sub-02']


def test_resources_of_the_allocation_or_else_of_the_plan(jobs: ClusterJobs, fake) -> None:
    fake('apptainer', 0)
    assert run(jobs, SLURM_ARRAY_TASK_ID='1').returncode == 0
    environment = {'SLURM_MEM_PER_CPU': '1000', 'SLURM_CPUS_PER_TASK': '4'}
    assert run(jobs, 'group.sbatch', **environment).returncode == 0
    first, second = fake.calls('apptainer')
    assert first[-4:] == ['--nprocs', '2', '--mem', '4608MiB']
    assert second[-4:] == ['--nprocs', '4', '--mem', '3600MiB']
    assert second[second.index(str(jobs.output_dir)) + 1] == 'group'
    assert '--participant-label' not in second


def test_output_in_the_dataset_is_bound_after_it(jobs: ClusterJobs) -> None:
    bids = jobs.bids_dir
    out = bids / 'derivatives' / 'ours'
    jobs = replace(jobs, output_dir=out, work_dir=out / 'work', read_only=(bids / 'x', out / 'm'))
    assert list(bound_paths(jobs).items()) == [(bids, False), (out, True)]


def test_gpu_and_other_engines(jobs: ClusterJobs, fake) -> None:
    fake('docker', 0)
    gpu = replace(jobs, participant=Resources(2, 5, 90, gpus=1))
    assert '--nv' in render(gpu)['participant.sbatch']
    docker = replace(gpu, engine='docker', image='bids_interp:1')
    assert run(docker, SLURM_ARRAY_TASK_ID='1').returncode == 0
    (words,) = fake.calls('docker')
    assert words[words.index('--gpus') + 1] == 'all'
    assert words[words.index('--user') + 1] == f'{os.getuid()}:{os.getgid()}'
    assert f'{jobs.bids_dir}:{jobs.bids_dir}:ro' in words
    assert words[words.index('bids_interp:1') + 1] == str(jobs.bids_dir)


def test_without_a_container_the_program_itself_runs(jobs: ClusterJobs, fake) -> None:
    fake('my program', 0)
    program = str(fake.folder / 'my program')
    bare = replace(jobs, engine='none', image=None, program=program)
    assert run(bare, SLURM_ARRAY_TASK_ID='3').returncode == 0
    (words,) = fake.calls('my program')
    assert words[:5] == [
        str(jobs.bids_dir), str(jobs.output_dir), 'participant', '--participant-label', 'A3'
    ]  # fmt: skip
    # The current folder may hold modules of any name.
    assert 'export PYTHONSAFEPATH=1' in (jobs.jobs_dir / 'participant.sbatch').read_text()


@pytest.mark.parametrize(
    ('codes', 'expected', 'runs'),
    [((1, 0), 0, 2), ((1, 1, 0), 1, 2), ((2, 0), 2, 1), ((5, 0), 5, 1), ((137, 0), 0, 2)],
)
def test_a_failed_task_is_repeated_and_a_mistake_is_not(
    jobs: ClusterJobs, fake, codes, expected, runs
) -> None:
    fake('apptainer', *codes)
    assert run(jobs, SLURM_ARRAY_TASK_ID='1').returncode == expected
    assert len(fake.calls('apptainer')) == runs


def test_retries_are_counted(jobs: ClusterJobs, fake) -> None:
    fake('apptainer', 1)
    assert run(replace(jobs, retries=3), SLURM_ARRAY_TASK_ID='1').returncode == 1
    assert len(fake.calls('apptainer')) == 4


@pytest.mark.parametrize(
    ('code', 'state', 'restarts', 'requeued'),
    [
        (1, 'RUNNING', '0', True),
        (1, 'RUNNING', '3', False),
        (1, 'CANCELLED', '0', False),
        (0, 'RUNNING', '0', False),
    ],
)
def test_an_ended_task_goes_back_to_the_queue(
    jobs: ClusterJobs, fake, code: int, state: str, restarts: str, requeued: bool
) -> None:
    fake('apptainer', {'after_term': code})
    fake('scontrol', f'JobId=9 JobState={state} Reason=None', 'requeued')
    environment = {'SLURM_ARRAY_TASK_ID': '1', 'SLURM_JOB_ID': '9'}
    ended, output = run_and_end(jobs, fake, SLURM_RESTART_COUNT=restarts, **environment)
    assert ended == code, output
    assert len(fake.calls('apptainer')) == 1  # it is not repeated at once
    assert (['requeue', '9'] in fake.calls('scontrol')) == requeued


def test_several_arrays_where_one_is_too_small(jobs: ClusterJobs, fake) -> None:
    fake('apptainer', 0)
    jobs = replace(jobs, participants=tuple('abcde'), max_array=2)
    scripts = render(jobs)
    assert [name for name in scripts if name.startswith('participant-')] == [
        'participant-1.sbatch', 'participant-2.sbatch', 'participant-3.sbatch'
    ]  # fmt: skip
    assert '#SBATCH --array=1-2\n' in scripts['participant-2.sbatch']
    assert '#SBATCH --array=1-1\n' in scripts['participant-3.sbatch']
    for script, index in (('participant-2.sbatch', '2'), ('participant-3.sbatch', '1')):
        assert run(jobs, script, SLURM_ARRAY_TASK_ID=index).returncode == 0
    labels = [words[words.index('--participant-label') + 1] for words in fake.calls('apptainer')]
    assert labels == ['d', 'e']
    beyond = run(jobs, 'participant-3.sbatch', SLURM_ARRAY_TASK_ID='2')
    assert beyond.returncode == 2
    assert re.search(r'participants\.txt .*\b6\b', beyond.stderr)


def test_the_group_job_waits_for_all_arrays_and_these_for_the_training(
    jobs: ClusterJobs, fake
) -> None:
    fake('sbatch', 'COUNT;cluster')
    done = run(replace(jobs, max_array=2, train=Resources(8, 32, 600)), 'submit.sh')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        'submitted train 101', 'submitted participant-1 102', 'submitted participant-2 103',
        'submitted group 104',
    ]  # fmt: skip
    waiting = [
        [word for word in words if word.startswith('--dependency')]
        for words in fake.calls('sbatch')
    ]
    assert waiting == [
        [],
        ['--dependency=afterok:101'],
        ['--dependency=afterok:101'],
        ['--dependency=afterany:102:103'],
    ]


def test_the_limit_of_running_tasks_holds_for_all_arrays(jobs: ClusterJobs, fake) -> None:
    fake('sbatch', 'COUNT')
    jobs = replace(jobs, max_array=2, max_running=1, dependency='afterok')
    assert run(jobs, 'submit.sh').returncode == 0
    first, second, group = fake.calls('sbatch')
    assert not any('dependency' in word for word in first)
    assert '--dependency=afterany:101' in second
    assert '--dependency=afterok:101:102' in group
    assert '#SBATCH --array=1-2%1\n' in render(jobs)['participant-1.sbatch']


def test_what_is_missing_on_a_node_is_named(jobs: ClusterJobs, fake) -> None:
    fake('apptainer', 0)
    absent = jobs.bids_dir.parent / 'model'
    done = run(replace(jobs, read_only=(absent,)), SLURM_ARRAY_TASK_ID='1')
    assert (done.returncode, str(absent) in done.stderr) == (2, True)
    done = run(replace(jobs, train=Resources(8, 32, 600)), SLURM_ARRAY_TASK_ID='1')
    assert (done.returncode, f'{jobs.output_dir}/models' in done.stderr) == (2, True)
    done = run(jobs)
    assert (done.returncode, 'array' in done.stderr) == (2, True)
    (jobs.output_dir.parent / 'out').touch()
    done = run(jobs, SLURM_ARRAY_TASK_ID='1')
    assert (done.returncode, str(jobs.output_dir) in done.stderr) == (2, True)
    assert fake.calls('apptainer') == []


def test_node_scratch_is_left_clean(jobs: ClusterJobs, fake, tmp_path: Path) -> None:
    fake('apptainer', 0)
    local = tmp_path / 'node scratch'
    local.mkdir()
    jobs = replace(jobs, node_scratch='$TMPDIR')
    assert run(jobs, SLURM_ARRAY_TASK_ID='1', TMPDIR=str(local)).returncode == 0
    (words,) = fake.calls('apptainer')
    work = words[words.index('--work-dir') + 1]
    assert work.startswith(f'{local}/bids_interp-sub-01.')
    assert f'{work}:{work}' in words
    assert list(local.iterdir()) == []
    assert not jobs.work_dir.exists()


def test_work_of_a_success_can_be_deleted(jobs: ClusterJobs, fake) -> None:
    fake('apptainer', 5, 0)
    jobs = replace(jobs, delete_work=True)
    assert run(jobs, SLURM_ARRAY_TASK_ID='1').returncode == 5
    assert (jobs.work_dir / 'sub-01').is_dir()
    assert run(jobs, SLURM_ARRAY_TASK_ID='1').returncode == 0
    assert not (jobs.work_dir / 'sub-01').exists()


def test_setup_comes_first_and_the_command_cannot_leave_its_comment(
    jobs: ClusterJobs, fake
) -> None:
    fake('apptainer', 0)
    jobs = replace(jobs, setup=('export UNSET=$UNSET; echo set up',), command='x\nexit 9')
    done = run(jobs, SLURM_ARRAY_TASK_ID='1')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('set up\n')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'scheduler': 'slrum'}, "slurm, .*'slrum'"),
        ({'engine': 'rkt'}, "--engine .*'rkt'"),
        ({'image': None}, '--engine apptainer .*--image'),
        ({'engine': 'none'}, '--engine none .*--image'),
        ({'scheduler': 'sge', 'dependency': 'afterok'}, 'SGE .*--dependency'),
        ({'bids_dir': Path('/data/a:b')}, '^/data/a:b '),
        ({'work_dir': Path('/usr')}, '^/usr '),
        ({'jobs_dir': Path('/a\nb')}, r'/a\\nb'),
        ({'account': 'x\n#SBATCH --uid=0'}, '#SBATCH --uid=0'),
        ({'scheduler_options': ('--a\nrm',)}, r'--a\\nrm'),
    ],
)
def test_impossible_plans_are_refused(jobs: ClusterJobs, changes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(jobs, **changes)
