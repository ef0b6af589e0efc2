"""Every row of the fault table, by the program itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from faults import table
from faults.harness import Ended, Place, Trigger, wait_for_end
from faults.table import Around, Damage, Folder, Row, Step

pytestmark = [pytest.mark.slow, pytest.mark.faults]

#: Options of a run whose steps have processes of their own: the default plugin.
PARALLEL = '--use-plugin'


def in_processes(place: Place) -> Place:
    """Return a place whose steps run in processes of their own, as by default."""
    at = place.options.index(PARALLEL)
    return replace(place, options=place.options[:at] + place.options[at + 2 :])


def one_subject(place: Place) -> Place:
    """Return a place that processes the first subject alone, where the level has subjects."""
    if place.level != 'participant':
        return place
    return replace(place, options=(*place.options, '--participant-label', '01'))


def check(place: Place, row: Row, ended: Ended) -> None:
    """Check what a fault left: code, words, no half-written file, no traceback, no process."""
    assert ended.code == row.code, ended.words[-3000:]
    assert not ended.has_traceback(), ended.words[-3000:]
    if row.seen:
        assert re.search(row.seen, ended.words), ended.words[-3000:]
    assert place.half_written() == {}
    assert wait_for_end(place) == []


@pytest.fixture
def check_rerun(scene, program) -> Callable[..., None]:
    """Run the command without a fault, and compare all derivatives with an undisturbed run."""

    def rerun(place: Place, *folders: str) -> None:
        place.age_leftovers()
        ended = program.run(place)
        assert ended.code == 0, ended.words[-3000:]
        clean = scene.clean(place.level).derivatives(*folders)
        found = place.derivatives(*folders)
        assert sorted(found) == sorted(clean)
        assert [name for name in found if found[name] != clean[name]] == []
        assert place.leftovers() == []

    return rerun


def own_folders(place: Place) -> tuple[str, ...]:
    """Return what a run of one subject writes; everything at the other levels."""
    return ('sub-01',) if place.level == 'participant' else ()


def forget(place: Place, step: str) -> None:
    """Delete the result of a step from the work directory."""
    for folder in list(place.work.rglob(step)):
        if folder.is_dir():
            shutil.rmtree(folder)


def name_of(step: Step) -> str:
    """Return the name of a test."""
    return f'{step.level}-{step.name}-{step.signals[0].action}'.replace(' ', '-')


@pytest.mark.parametrize('step', table.SIGNALS, ids=name_of)
def test_signals(step: Step, scene, program, record, check_rerun, every_row) -> None:
    send_signals(step, scene, program, record, check_rerun)


@pytest.mark.parametrize('step', table.QUICK_SIGNALS, ids=name_of)
def test_some_signals(step: Step, scene, program, record, check_rerun) -> None:
    send_signals(step, scene, program, record, check_rerun)


def send_signals(step: Step, scene, program, record, check_rerun) -> None:
    """Send each signal at the start of a step, and run the command again in the end."""
    place = one_subject(scene.before(step.level, work=True))
    forget(place, step.name)
    rows = []
    for sent in step.signals:
        trigger = Trigger('write', table.START.format(step.name), sent.action)
        where = in_processes(place) if sent.parallel else place
        ended = program.run(where, trigger=trigger)
        assert place.happened(), (sent, ended.words[-3000:])
        rows.append((sent.row(step.name), ended))
        check(place, *rows[-1])
        if ended.code == 0:
            forget(place, step.name)
    check_rerun(place, *own_folders(place))
    for row, ended in rows:
        record(step.level, row, ended.code)


@pytest.mark.parametrize('level', table.WRITES)
def test_killed_while_writing(level: str, scene, program, record, check_rerun, every_row) -> None:
    """The program is killed when a file is complete, but does not have its name yet."""
    # Without a work directory: what an earlier run has made is not written again.
    place = one_subject(scene.before(level, work=level == 'participant'))
    rows = [Row('SIGKILL while the file is written', path, '', table.KILLED) for path in
            table.WRITES[level]]  # fmt: skip
    for row in rows:
        ended = program.run(place, trigger=Trigger('replace', row.where, 'KILL main'))
        assert place.happened(), (row.where, ended.words[-3000:])
        check(place, row, ended)
    check_rerun(place, *own_folders(place))
    for row in rows:
        record(level, row, table.KILLED)


@pytest.mark.parametrize('level', table.STEPS)
def test_any_write(level: str, scene, program, record, every_row) -> None:
    any_write(level, scene, program, record)


def test_any_write_of_a_group(scene, program, record) -> None:
    any_write('group', scene, program, record)


def any_write(level: str, scene, program, record) -> None:
    """Before every file gets its name, the output is what a kill would leave: whole files only."""
    place = scene.before(level, work=True)
    trigger = Trigger('replace', r'/out/', f'snapshot {place.out}')
    ended = program.run(place, trigger=trigger)
    row = Row('a kill at any write', f'each file of {level}')
    check(place, row, ended)
    clean = scene.clean(level).derivatives()
    snapshots = sorted(place.root.glob('out-*'))
    assert len(snapshots) > 10
    for folder in snapshots:
        left = Place(place.root, level, ())
        left = replace(left, out_name=folder.name)
        assert left.half_written() == {}
        for name, digest in left.derivatives().items():
            assert clean[name] == digest or name == 'dataset_description.json', name
    record(level, replace(row, where=f'each of {len(snapshots)} writes'), ended.code)


def damaged(path: Path, way: str) -> None:
    """Damage a file."""
    content = path.read_bytes()
    if way == 'truncated':
        content = content[: len(content) // 2]
    elif way == 'emptied':
        content = b''
    else:
        middle = len(content) // 2
        content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ('damage', 'way'),
    [
        pytest.param(one, way, id=f'{one.level}-{one.folder}-{len(one.patterns)}-{way}')
        for one in table.DAMAGES
        for way in one.ways
    ],
)
def test_damaged_files(damage: Damage, way: str, scene, record, check_rerun, every_row) -> None:
    """One file of each kind is damaged; one run makes all of them whole again."""
    place = scene.after(damage.level)
    for pattern in damage.patterns:
        path = sorted((place.root / damage.folder).glob(pattern))[0]
        damaged(path, way)
    check_rerun(place)
    for pattern in damage.patterns:
        record(damage.level, Row(f'file {way}', f'{damage.folder}/{pattern}'), 0)


@pytest.mark.parametrize('way', table.WAYS)
@pytest.mark.parametrize('name', table.BUNDLE)
def test_a_damaged_model(name: str, way: str, scene, program, record, every_row) -> None:
    place = scene.after('participant')
    at = place.options.index('--model') + 1
    model = place.root / 'model'
    shutil.copytree(place.options[at], model)
    place = replace(place, options=(*place.options[:at], str(model), *place.options[at + 1 :]))
    damaged(model / name, way)
    row = Row(f'file {way}', f'model/{name}', name.replace('.', r'\.'), 5)
    ended = program.run(place)
    check(place, row, ended)
    assert place.derivatives() == scene.clean('participant').derivatives()
    record('participant', row, ended.code)


@pytest.mark.parametrize('way', table.WAYS)
def test_a_damaged_checkpoint(way: str, scene, program, record, check_rerun, every_row) -> None:
    place = scene.after('train')
    forget(place, 'train_fold_0')
    for path in place.work.rglob('last.ckpt'):
        damaged(path, way)
    ended = program.run(place)
    row = Row(f'file {way}', 'work/**/last.ckpt', 'is damaged')
    check(place, row, ended)
    check_rerun(place)
    record('train', row, ended.code)


@pytest.mark.parametrize('way', table.WAYS)
def test_a_damaged_scan(way: str, scene, program, record, check_rerun, every_row) -> None:
    """The other subject goes on."""
    place = scene.after('participant')
    shutil.rmtree(place.out)
    scan = place.bids / 'sub-01' / 'anat' / 'sub-01_T1w.nii.gz'
    whole = scan.read_bytes()
    damaged(scan, way)
    row = Row(f'scan {way}', 'sub-01_T1w.nii.gz', r'sub-01_T1w\.nii\.gz', 1)
    ended = program.run(place)
    check(place, row, ended)
    clean = scene.clean('participant').derivatives('sub-02')
    assert place.derivatives('sub-02') == clean
    scan.write_bytes(whole)
    check_rerun(place)
    record('participant', row, ended.code)


@pytest.mark.parametrize('way', table.WAYS[:2])
def test_a_damaged_map_of_a_group(way: str, scene, program, record, check_rerun, every_row) -> None:
    place = scene.after('group')
    path = next(place.out.glob('sub-02/anat/*_desc-inject100_logjacobian.nii.gz'))
    whole = path.read_bytes()
    damaged(path, way)
    row = Row(f'map {way}', 'sub-02/anat/*_logjacobian.nii.gz', 'sub-02: a map cannot be read', 1)
    ended = program.run(place)
    path.unlink()
    path.write_bytes(whole)
    check(place, row, ended)
    check_rerun(place)
    record('group', row, ended.code)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """Mount a file system in memory, which holds what the folder held."""
    folder.mkdir(exist_ok=True)
    kept = folder.rename(folder.with_name(f'{folder.name}-kept'))
    folder.mkdir()
    size = ['mount', '-t', 'tmpfs', '-o', f'size={megabytes}M', 'tmpfs', str(folder)]
    done = subprocess.run(size, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f'a small file system cannot be mounted here: {done.stderr.strip()}')
    try:
        shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(['mount', '-o', 'remount,rw', str(folder)], check=False)
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept, symlinks=True)
        subprocess.run(['umount', '-l', str(folder)], check=True)
        folder.rmdir()
        kept.rename(folder)


@pytest.mark.parametrize('step', table.STAGES)
@pytest.mark.parametrize('disk', table.DISKS)
def test_a_full_disk(disk: str, step: str, scene, program, record, check_rerun, every_row) -> None:
    place = one_subject(scene.before('participant', work=True))
    forget(place, step)
    folder = place.root / disk
    row = table.full_disk(disk, step)
    trigger = Trigger('write', table.START.format(step), f'fill {folder}')
    with small_disk(folder, 200):
        ended = program.run(place, trigger=trigger)
        assert place.happened()
        check(place, row, ended)
        (folder / 'filler').unlink()
        check_rerun(place, 'sub-01')
    record('participant', row, ended.code)


@pytest.mark.parametrize('folder', table.FOLDERS, ids=lambda one: one.row.fault)
def test_a_folder_that_changes(
    folder: Folder, scene, program, record, check_rerun, every_row
) -> None:
    place = one_subject(scene.before('participant', work=True))
    forget(place, folder.step)
    path = place.root / folder.name
    trigger = Trigger('write', table.START.format(folder.step), f'{folder.action} {path}')
    ended = program.run(place, trigger=trigger)
    assert place.happened()
    check(place, replace(folder.row, seen=folder.row.seen.format(path)), ended)
    check_rerun(place, 'sub-01')
    record('participant', folder.row, ended.code)


def test_a_read_only_output_from_the_start(scene, program, record, check_rerun, every_row) -> None:
    place = scene.after('participant')
    row = Row('OUTPUT_DIR is read-only', 'from the start', str(place.out), 2)
    with small_disk(place.out, 200):
        subprocess.run(['mount', '-o', 'remount,ro', str(place.out)], check=True)
        ended = program.run(place)
        check(place, row, ended)
        subprocess.run(['mount', '-o', 'remount,rw', str(place.out)], check=True)
        check_rerun(place)
    record('participant', replace(row, seen='OUTPUT_DIR'), ended.code)


@pytest.mark.parametrize('step', ['conform', 'simulate', 'figures'])
def test_memory_is_refused(step: str, scene, program, record, check_rerun, every_row) -> None:
    """The other subject goes on."""
    place = scene.before('participant', work=True)
    forget(place, step)
    row = Row('no memory is given (MemoryError)', step, 'Not enough memory', 1)
    ended = program.run(place, trigger=Trigger('write', table.START.format(step), 'MEMORY'))
    assert place.happened()
    check(place, row, ended)
    done = [n for n in ('sub-01', 'sub-02') if place.derivatives(n) ==
            scene.clean('participant').derivatives(n)]  # fmt: skip
    assert len(done) == 1
    check_rerun(place)
    record('participant', row, ended.code)


def test_a_killed_worker_of_one_subject(scene, program, record, check_rerun, every_row) -> None:
    """The other subject goes on, also in the pool of workers that was broken."""
    place = in_processes(scene.before('participant', work=True))
    for step in ('classify', 'simulate', 'counterfactual'):
        forget(place, step)
    row = Row('SIGKILL of one of two workers', 'simulate of sub-01', table.LOST, 1)
    trigger = Trigger('write', '/sub_01_wf/.*' + table.START.format('simulate'), 'KILL worker')
    ended = program.run(place, trigger=trigger)
    check(place, row, ended)
    clean = scene.clean('participant').derivatives('sub-02')
    assert place.derivatives('sub-02') == clean
    check_rerun(place)
    record('participant', row, ended.code)


@pytest.mark.parametrize('other', ['01', '02'])
def test_two_runs_at_once(other: str, scene, program, record, check_rerun, every_row) -> None:
    """The first one waits in the middle until the second one has ended."""
    place = scene.before('participant', work=True)
    forget(place, 'simulate')
    go = place.root / 'go'
    trigger = Trigger('write', table.START.format('simulate'), f'wait {go}')
    first, log = program.start(place, '--participant-label', '01', trigger=trigger)
    until = time.monotonic() + 300
    while not place.happened():
        assert time.monotonic() < until
        assert first.poll() is None, log.read_text()
        time.sleep(0.2)
    same = other == '01'
    row = Row(
        'a second run at the same time',
        'the same subject' if same else 'another subject',
        r'sub-01 is being processed by process \d+' if same else '',
        int(same),
    )
    second = program.run(place, '--participant-label', other)
    go.touch()
    assert first.wait(300) == 0, log.read_text()
    check(place, row, second)
    check_rerun(place)
    record('participant', row, second.code)


@pytest.mark.parametrize('level', table.STEPS)
def test_a_clock_that_was_set_back(level: str, scene, record, check_rerun, every_row) -> None:
    """All files are from the future."""
    place = scene.after(level)
    future = time.time() + 20 * 365 * 86400
    for path in place.root.rglob('*'):
        os.utime(path, (future, future), follow_symlinks=False)
    check_rerun(place)
    record(level, Row('the clock was set back by 20 years', 'all files'), 0)


@pytest.mark.parametrize('around', table.ENVIRONMENTS, ids=lambda one: one.row.fault)
def test_an_odd_environment(around: Around, scene, program, record, every_row) -> None:
    place = in_processes(one_subject(scene.before('participant', work=True)))
    forget(place, 'simulate')
    if around.prefix and shutil.which(around.prefix[0]) is None:
        pytest.skip(f'{around.prefix[0]} is not installed')
    ended = program.run(place, prefix=around.prefix, fresh=True, **around.variables)
    check(place, around.row, ended)
    assert place.derivatives('sub-01') == scene.clean('participant').derivatives('sub-01')
    record('participant', around.row, ended.code)


def test_the_same_to_the_bit(scene, program, record, every_row) -> None:
    """Another folder, two processes instead of one, and the subjects in another order."""
    place = in_processes(scene.before('participant'))
    another = place.root.with_name('another [place]')
    shutil.rmtree(another, ignore_errors=True)
    place = replace(place, root=place.root.rename(another))
    ended = program.run(place, '--participant-label', '02', '01')
    row = Row('another folder, 2 processes instead of 1, other order', 'all steps')
    check(place, row, ended)
    clean = scene.clean('participant').derivatives()
    found = place.derivatives()
    assert sorted(found) == sorted(clean)
    assert [name for name in found if found[name] != clean[name]] == []
    record('participant', row, ended.code)
