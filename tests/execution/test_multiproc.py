"""Whatever happens to the nodes, the run ends, and one result says what became of each image."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.bids.read.query import T1wRecord
from bids_interp.errors import UsageError, WorkerLostError
from bids_interp.execution import execute as engines
from bids_interp.execution import outcome as judging
from bids_interp.execution.execute import configure_nipype, execute, run_nodes
from bids_interp.execution.manifest import MANIFEST, run_recorded
from bids_interp.execution.manifest import damage as damage_of_step
from bids_interp.execution.outcome import DONE, EXCLUDED, FAILED, FULL_DISK, Outcome, RunOutcome
from bids_interp.execution.plugins import serial
from bids_interp.execution.plugins.multiproc import WatchedMultiProcPlugin
from bids_interp.execution.plugins.plugin_file import read_plugin_file
from bids_interp.execution.plugins.serial import SerialPlugin
from bids_interp.execution.run import (
    Run,
    send_crashes,
    workflow_name,
)
from bids_interp.settings import Settings

# A run on two workers that take long and let no other thread of theirs run, as ANTs does.
MAIN = """
import sys
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from bids_interp.execution.plugins.multiproc import WatchedMultiProcPlugin

def take_long():
    import ctypes
    ctypes.PyDLL(None).sleep(600)

if __name__ == '__main__':
    workflow = pe.Workflow('long_wf', base_dir=sys.argv[1])
    workflow.add_nodes([pe.Node(niu.Function(function=take_long), name=name) for name in 'ab'])
    workflow.run(WatchedMultiProcPlugin({'n_procs': 2, 'memory_gb': 8, 'scratch': sys.argv[1]}))
"""


# A run in the current folder.
SAFE_MAIN = """
from pathlib import Path
from types import SimpleNamespace
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from bids_interp.execution.execute import configure_nipype
from bids_interp.execution.plugins.multiproc import WatchedMultiProcPlugin
from bids_interp.settings import Settings

def one():
    return 1

if __name__ == '__main__':
    settings = Settings('/bids', '/out')
    configure_nipype(SimpleNamespace(settings=settings, omp_nthreads=1))
    work = str(Path('work').absolute())
    workflow = pe.Workflow('small_wf', base_dir=work)
    workflow.add_nodes([pe.Node(niu.Function(function=one), name='a')])
    workflow.run(WatchedMultiProcPlugin({'n_procs': 1, 'memory_gb': 8, 'scratch': work}))
"""


def add_one(value):
    """Return the next number."""
    return value + 1


def wait(value):
    """Take a while."""
    import time

    time.sleep(1.5)
    return value


def be_killed(value):
    """End as the system ends a process that takes too much memory."""
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def be_ended(value):
    """End by SIGTERM, as a watch on memory ends processes, when the step of d is done."""
    import os
    import signal
    import time
    from pathlib import Path

    while not list(Path('../../sub_d_wf/step').glob('result_*.pklz')):
        time.sleep(0.1)
    time.sleep(1)  # until the pool has taken the result
    os.kill(os.getpid(), signal.SIGTERM)


def be_ended_once(value):
    """End by SIGTERM at the first attempt."""
    import os
    import signal
    from pathlib import Path

    if not Path('../ended').exists():
        Path('../ended').touch()
        os.kill(os.getpid(), signal.SIGTERM)
    return value


def fail(value):
    """Raise an error of ours."""
    from bids_interp.errors import ImageError

    raise ImageError(f'{value}.nii.gz is broken.', 'Mend it.')


def interrupt(value):
    """Stand for a signal to the main process."""
    raise KeyboardInterrupt


def fill_disk(value):
    """Raise what a full disk raises."""
    raise OSError(28, 'No space left on device')


def move_folder(path, recreated):
    """Move a folder away, and perhaps put another one in its place."""
    from pathlib import Path

    Path(path).rename(f'{path}-moved')
    if recreated:
        Path(path).mkdir()


def read_text(path):
    """Return what a file holds."""
    from pathlib import Path

    return Path(path).read_text()


def take_long(value):
    """Run until it is ended."""
    import time

    time.sleep(600)


@pytest.fixture
def job(tmp_path: Path) -> Run:
    settings = Settings(tmp_path / 'bids', tmp_path / 'out', work_dir=tmp_path / 'work')
    job = Run(settings, tmp_path / 'work', 'cpu', 2, 1, 8.0, 'run')
    (tmp_path / 'work').mkdir()
    configure_nipype(job)
    return job


def make(job: Run, **images) -> tuple[Workflow, list[T1wRecord]]:
    """Two nodes per image, the second of which runs the given function."""
    workflow = Workflow(name='bids_interp_wf')
    workflow.base_dir = str(job.work_dir)
    records = []
    for label, function in images.items():
        record = T1wRecord(Path(f'sub-{label}_T1w.nii.gz'), label, None, {'sub': label})
        records.append(record)
        single_wf = Workflow(name=workflow_name(record.prefix))
        start = pe.Node(niu.Function(function=add_one), name='start')
        start.inputs.value = 1
        step = pe.Node(niu.Function(function=function), name='step')
        single_wf.connect([(start, step, [('out', 'value')])])
        send_crashes(single_wf, job.log_dir(record.subject))
        workflow.add_nodes([single_wf])
    return workflow, records


#: Steps of an image that were cached, and all of them, in its last line of the log.
STEPS = re.compile(r'(sub-\S+) .*\((\d+) of (\d+) ')


def cached(text: str, name: str) -> tuple[int, int]:
    """Return how many steps of an image were not done again, and how many it has."""
    (found,) = [match for match in STEPS.finditer(text) if match[1] == name]
    return int(found[2]), int(found[3])


def run(job: Run, **images) -> RunOutcome:
    workflow, records = make(job, **images)
    return execute(job, workflow, records)


def run_files(job: Run) -> RunOutcome:
    """Two images with two steps more: one keeps a file, which the next one reads."""
    workflow, records = make(job, a=add_one, b=add_one)
    for record in records:
        image = job.work_dir.with_name(f'{record.prefix}.txt')
        image.write_text(record.prefix)
        keep = pe.Node(niu.Rename(format_string='kept.txt', in_file=str(image)), name='keep')
        read = pe.Node(niu.Function(function=read_text), name='read')
        single_wf = workflow.get_node(workflow_name(record.prefix))
        single_wf.connect([(keep, read, [('out_file', 'path')])])
    return execute(job, workflow, records)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Return what was logged since it was asked for last."""
    caplog.set_level(logging.INFO, logger='bids_interp')
    monkeypatch.setattr(logging.getLogger('bids_interp'), 'propagate', True)

    def read() -> str:
        text = caplog.text
        caplog.clear()
        return text

    return read


def test_done_once_is_not_done_again(job: Run, log: Callable[[], str]) -> None:
    assert run(job, a=add_one, b=add_one).exit_code == 0
    assert not STEPS.search(log())
    assert list(job.work_dir.glob('workers-*')) == []
    assert run(job, a=add_one, b=add_one).exit_code == 0
    text = log()
    for label in 'ab':
        assert cached(text, f'sub-{label}') == (2, 2)


def put(path: Path, data: bytes) -> None:
    """Replace a file, which may be a link to an input."""
    path.unlink()
    path.write_bytes(data)


def cut(path: Path) -> None:
    put(path, path.read_bytes()[:-20])


def empty(path: Path) -> None:
    put(path, b'')


def flip(path: Path) -> None:
    """Change one bit; the size stays."""
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    put(path, bytes(data))


@pytest.mark.parametrize(
    ('damage', 'name'),
    [
        (Path.unlink, 'kept.txt'),
        (cut, 'result_keep.pklz'),
        (empty, 'result_keep.pklz'),
        (empty, 'kept.txt'),
        (flip, 'kept.txt'),
        (Path.unlink, MANIFEST),
    ],
)
def test_a_damaged_step_is_repeated(
    job: Run, log: Callable[[], str], damage: Callable[[Path], None], name: str
) -> None:
    assert run_files(job).exit_code == 0
    step = job.work_dir / 'bids_interp_wf' / 'sub_a_wf' / 'keep'
    damage(step / name)
    log()
    assert run_files(job).exit_code == 0
    text = log()
    (warning,) = [line for line in text.splitlines() if line.startswith('WARNING')]
    assert f' {step} ' in warning
    assert cached(text, 'sub-a') == (3, 4)
    assert cached(text, 'sub-b') == (4, 4)
    assert damage_of_step(step) == ''


def test_steps_of_every_plugin_are_recorded(
    job: Run, tmp_path: Path, log: Callable[[], str]
) -> None:
    file = tmp_path / 'plugin.yml'
    file.write_text('plugin: Linear\n')
    job = replace(job, settings=job.settings.replace(use_plugin=file))
    assert run(job, a=add_one).exit_code == 0
    log()
    assert run(job, a=add_one).exit_code == 0
    assert 'WARNING' not in log()


@pytest.mark.parametrize('plugin', ['MultiProc', 'Linear'])
def test_results_of_images_that_are_done_are_deleted(job: Run, tmp_path: Path, plugin: str) -> None:
    """Those of a failed image stay, so that the next run continues there."""
    file = tmp_path / 'plugin.yml'
    file.write_text(f'plugin: {plugin}\n')
    job = replace(job, settings=job.settings.replace(clean_on_success=True, use_plugin=file))
    outcomes = run(job, a=add_one, b=fail, c=add_one).outcomes
    assert [outcome.status for outcome in outcomes] == [DONE, FAILED, DONE]
    assert [path.name for path in (job.work_dir / 'bids_interp_wf').glob('sub_*')] == ['sub_b_wf']
    (kept,) = job.work_dir.rglob('result_start.pklz')
    made = kept.stat().st_mtime_ns
    run(job, b=fail)
    assert kept.stat().st_mtime_ns == made


def test_in_series_nothing_behind_a_failed_step_is_done(job: Run) -> None:
    seen = []
    plugin = SerialPlugin({
        'status_callback': lambda node, status: seen.append((node.name, status))
    })  # fmt: skip
    workflow = pe.Workflow('wf', base_dir=job.work_dir)
    steps = [
        pe.Node(niu.Function(function=function), name=name)
        for name, function in (('first', add_one), ('bad', fail), ('last', add_one))
    ]
    steps[0].inputs.value = 1
    workflow.connect([(steps[i], steps[i + 1], [('out', 'value')]) for i in range(2)])
    with pytest.raises(RuntimeError):
        workflow.run(plugin=plugin)
    ended = [pair for pair in seen if pair[1] != 'start']
    assert ended == [('first', 'end'), ('bad', 'exception')]


def test_in_series_a_full_disk_fails_its_image_only(
    job: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nipype cannot write its own files, not even what it keeps of a failure."""

    def refuse(node, updatehash, task):
        if 'sub_a_wf' in node.fullname:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return run_recorded(node, updatehash, task)

    monkeypatch.setattr(serial, 'run_recorded', refuse)
    file = tmp_path / 'plugin.yml'
    file.write_text('plugin: Linear\n')
    job = replace(job, settings=job.settings.replace(use_plugin=file))
    outcomes = run(job, a=add_one, b=add_one).outcomes
    assert [outcome.status for outcome in outcomes] == [FAILED, DONE]
    assert FULL_DISK in outcomes[0].problem


def test_an_interrupted_step_is_not_done(job: Run, tmp_path: Path, log: Callable[[], str]) -> None:
    """Also if it is the last one of an image, and of a workflow without images."""
    file = tmp_path / 'plugin.yml'
    file.write_text('plugin: Linear\n')
    job = replace(job, settings=job.settings.replace(use_plugin=file, clean_on_success=True))
    result = run(job, a=interrupt)
    assert (result.exit_code, result.interrupted) == (1, True)
    assert [outcome.status for outcome in result.outcomes] == [FAILED]
    (kept,) = job.work_dir.rglob('result_start.pklz')
    made = kept.stat().st_mtime_ns
    workflow, _ = make(job, a=interrupt)
    assert run_nodes(job, workflow, tmp_path).status == FAILED
    assert kept.stat().st_mtime_ns == made


def test_a_work_directory_that_was_moved_is_whole(job: Run, log: Callable[[], str]) -> None:
    assert run_files(job).exit_code == 0
    moved = replace(job, work_dir=job.work_dir.rename(job.work_dir.with_name('moved')))
    log()
    assert run_files(moved).exit_code == 0
    text = log()
    assert 'WARNING' not in text
    assert [cached(text, f'sub-{label}') for label in 'ab'] == [(4, 4), (4, 4)]


def test_damage_that_is_met_later_is_explained(job: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_files(job).exit_code == 0
    empty(job.work_dir / 'bids_interp_wf' / 'sub_a_wf' / 'keep' / 'result_keep.pklz')
    monkeypatch.setattr(engines, 'forget_damaged', lambda workflow: None)
    result = run_files(job)
    assert result.exit_code == 1
    assert f'{job.work_dir} ' in result.outcomes[0].problem
    assert '--clean-workdir' in result.outcomes[0].problem


def living(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        with suppress(OSError):
            state, _, _, owner = path.read_text().rpartition(')')[2].split()[:4]
            if int(owner) == session and state not in 'ZX':
                found.append(int(path.parent.name))
    return found


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_nothing_lives_on_when_the_main_process_is_killed(tmp_path: Path) -> None:
    script, work = tmp_path / 'main.py', tmp_path / 'work'
    script.write_text(MAIN)
    work.mkdir()
    main = subprocess.Popen([sys.executable, script, work], start_new_session=True)
    try:
        wait_for(lambda: len(list(work.glob('workers-*/[0-9]*'))) == 2, 120)
        assert len(living(main.pid)) >= 4  # with the server that forks and two workers
        main.kill()
        main.wait()
        wait_for(lambda: not living(main.pid), 15)
    finally:
        for pid in living(main.pid):
            os.kill(pid, signal.SIGKILL)
        main.wait()
    assert list(work.glob('workers-*'))
    WatchedMultiProcPlugin({'n_procs': 1, 'scratch': work}).close()
    assert [path.name for path in work.iterdir()] == ['long_wf']


def test_a_run_leaves_the_folder_of_another_alone(tmp_path: Path) -> None:
    one = WatchedMultiProcPlugin({'n_procs': 1, 'scratch': tmp_path})
    two = WatchedMultiProcPlugin({'n_procs': 1, 'scratch': tmp_path})
    assert len(list(tmp_path.glob('workers-*'))) == 2
    two.close()
    one.close()
    assert list(tmp_path.iterdir()) == []


def test_modules_of_the_current_folder_are_not_run(tmp_path: Path) -> None:
    """``grp`` is imported by the fork server, from the folder of the data if that came first."""
    script, here = tmp_path / 'scripts' / 'main.py', tmp_path / 'here'
    (here / 'work').mkdir(parents=True)
    script.parent.mkdir()
    script.write_text(SAFE_MAIN)
    for name in ('grp', 'nibabel', 'torch'):
        (here / f'{name}.py').write_text(f'open({str(here / "ran")!r}, "w")')
    # Other tests have set this for the whole process.
    environ = {name: text for name, text in os.environ.items() if name != 'PYTHONSAFEPATH'}
    environ['PYTHONPATH'] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, script],
        cwd=here,
        env=environ,
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not (here / 'ran').exists()


@pytest.mark.parametrize('recreated', [True, False])
def test_an_output_directory_that_moves_is_noticed(job: Run, recreated: bool) -> None:
    file = job.work_dir.with_name('plugin.yml')
    file.write_text('plugin: Linear\n')
    job = replace(job, settings=job.settings.replace(use_plugin=file))
    out = job.settings.output_dir
    out.mkdir()
    workflow, records = make(job, a=add_one)
    move = pe.Node(niu.Function(function=move_folder), name='move')
    move.inputs.path, move.inputs.recreated = str(out), recreated
    workflow.get_node(workflow_name('sub-a')).add_nodes([move])
    result = execute(job, workflow, records)
    assert result.exit_code == 1
    assert f'{out} ' in result.outcomes[0].problem


@pytest.mark.parametrize('name', ['out', 'work'])
def test_a_failure_in_a_folder_that_moves_names_the_folder(job: Run, name: str) -> None:
    file = job.work_dir.with_name('plugin.yml')
    file.write_text('plugin: Linear\n')
    job = replace(job, settings=job.settings.replace(use_plugin=file))
    folder = job.work_dir.with_name(name)
    folder.mkdir(exist_ok=True)
    workflow, records = make(job, a=add_one, b=fail)
    move = pe.Node(niu.Function(function=move_folder), name='move')
    move.inputs.path, move.inputs.recreated = str(folder), True
    workflow.get_node(workflow_name('sub-a')).add_nodes([move])
    result = execute(job, workflow, records)
    assert f'{folder} ' in result.outcomes[1].problem


def test_a_killed_worker_fails_its_image_only(job: Run) -> None:
    result = run(job, a=be_killed, b=wait)
    killed, other = result.outcomes
    assert killed.status == FAILED
    assert killed.step == 'step'
    assert WorkerLostError.default_advice in killed.problem
    assert other.status == DONE
    assert result.exit_code == 1


def test_an_error_is_told_in_one_line_and_the_others_go_on(job: Run) -> None:
    result = run(job, a=fail, b=add_one, c=fill_disk)
    failed, other, full = result.outcomes
    assert failed.problem == '2.nii.gz is broken. Mend it.'
    assert failed.crash_file is not None
    assert failed.crash_file.parent == job.settings.output_dir / 'sub-a' / 'log' / 'run'
    assert re.fullmatch(r'crash-\d+-\d+-step-.*\.txt', failed.crash_file.name)
    assert str(job.work_dir) not in failed.crash_file.read_text()
    assert other.status == DONE
    assert full.problem == FULL_DISK
    assert result.exit_code == 1


def test_a_worker_that_is_ended_runs_again_once(job: Run) -> None:
    result = run(job, a=be_ended_once, b=wait)
    assert [outcome.status for outcome in result.outcomes] == [DONE, DONE]
    ended, other = run(job, c=be_ended, d=add_one).outcomes
    assert (ended.status, other.status) == (FAILED, DONE)
    assert WorkerLostError.default_advice in ended.problem


def test_stop_on_first_crash(job: Run) -> None:
    settings = job.settings.replace(stop_on_first_crash=True, nprocs=1)
    job = Run(settings, job.work_dir, 'cpu', 1, 1, 8.0, 'run')
    configure_nipype(job)
    result = run(job, a=fail, b=take_long)
    assert result.interrupted
    assert [outcome.status for outcome in result.outcomes] == [FAILED, FAILED]
    assert result.outcomes[0].problem == '2.nii.gz is broken. Mend it.'
    assert result.exit_code == 1


def test_a_signal_ends_the_workers(job: Run) -> None:
    def end_soon() -> None:
        while not list(job.work_dir.glob('bids_interp_wf/sub_a_wf/step')):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=end_soon)
    thread.start()
    result = run(job, a=take_long)
    thread.join()
    assert result.interrupted
    assert result.exit_code == 1
    # One line more says so.
    assert len(result.lines()) == len(replace(result, interrupted=False).lines()) + 1


def test_exit_codes() -> None:
    done, failed = Outcome('sub-01'), Outcome('sub-02', FAILED, 'broke')
    excluded = Outcome('sub-03', EXCLUDED, 'no image')
    assert RunOutcome([done]).exit_code == 0
    assert RunOutcome([done, failed]).exit_code == 1
    assert RunOutcome([done, excluded]).exit_code == 1
    assert RunOutcome([failed]).exit_code == 1
    assert RunOutcome([excluded]).exit_code == 4
    assert RunOutcome([done], interrupted=True).exit_code == 1


def test_the_message_agrees_with_the_code() -> None:
    done, failed = (
        Outcome('sub-01', report=Path('r.html')),
        Outcome('sub-02', FAILED, 'broke', 'n4'),
    )
    good, bad = RunOutcome([done]).lines(), RunOutcome([done, failed]).lines()
    assert 'done' in good[0]
    assert '  r.html' in good
    assert '1 of 2' in bad[0]
    assert re.search(rf'sub-02: {FAILED} .*\bn4: broke$', bad[1])


@pytest.mark.parametrize(
    ('traceback', 'line'),
    [
        (['Traceback:\n', 'ValueError: shapes\n', 'differ\n'], 'ValueError: shapes'),
        (
            'x\n\tbids_interp.errors.ModelError: m is bad. Check\n\t  --model.\n',
            'm is bad. Check --model.',
        ),
        ('OSError: [Errno 28] No space left on device', FULL_DISK),
        (
            'OSError: [Errno 28] No space left on device\n'
            'bids_interp.errors.OutputError: a.nii.gz cannot be written: No space. Free some.\n',
            'a.nii.gz cannot be written: No space. Free some.',
        ),
        (
            'ValueError: bad\n\nDuring another one\nFileNotFoundError: /gone/result_n4.pklz\n',
            'ValueError: bad',
        ),
        ('nothing known', 'nothing known'),
        ('', 'unknown error'),
    ],
)
def test_errors_in_one_line(traceback, line: str) -> None:
    assert judging.read_error(traceback) == line


@pytest.mark.parametrize(('free', 'is_full'), [(10**9, False), (10**4, True)])
def test_a_missing_result(
    tmp_path: Path, free: int, is_full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging.shutil, 'disk_usage', lambda path: SimpleNamespace(free=free))
    line = f'builtins.FileNotFoundError: {tmp_path}/result_register_brain.pklz'
    found = judging.read_error(line)
    assert (found == FULL_DISK) is is_full
    assert (str(tmp_path) in found) is not is_full


@pytest.mark.parametrize(
    ('text', 'said'),
    [(None, r'plugin\.yml'), ('[1', r'plugin\.yml'), ('a: 1', 'plugin:'),
     ('plugin: Slum', 'MultiProc, Linear, Dask')],
)  # fmt: skip
def test_bad_plugin_files(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / 'plugin.yml'
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_plugin_file(file)
