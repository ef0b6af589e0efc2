"""Folders are refused before anything is computed, and nothing foreign is deleted."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from nipype.pipeline.engine import utils as nipype_utils

from bids_interp.errors import OutputError, UsageError
from bids_interp.execution import run_folders
from bids_interp.execution.locks import WORK_LOCK
from bids_interp.execution.manifest import write_manifest
from bids_interp.execution.run_folders import (
    MARKER,
    check_folders,
    check_private,
    choose_work_dir,
    forget_damaged,
    is_ours,
    prepare_work_dir,
)
from bids_interp.settings import Settings
from helpers import skeletons


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    return skeletons.make_dataset(tmp_path / 'bids', 'sub-01_T1w.nii.gz', empty=True)


@pytest.mark.parametrize('place', ['.', 'out', 'sub-01/out', 'derivatives', '..'])
def test_output_in_or_around_the_input(bids: Path, place: str) -> None:
    before = sorted(bids.rglob('*'))
    with pytest.raises(OutputError, match=re.escape(str(bids))) as caught:
        check_folders(Settings(bids, bids / place), bids.parent / 'work')
    assert caught.value.exit_code == 2
    assert sorted(bids.rglob('*')) == before


def test_output_in_the_input_through_a_link(bids: Path, tmp_path: Path) -> None:
    (tmp_path / 'link').symlink_to(bids)
    with pytest.raises(OutputError):
        check_folders(Settings(bids, tmp_path / 'link' / 'out'), tmp_path / 'work')


def test_the_place_of_derivatives_is_accepted(bids: Path, tmp_path: Path) -> None:
    out = bids / 'derivatives' / 'bids_interp'
    check_folders(Settings(bids, out), tmp_path / 'work')
    assert out.is_dir()


def test_work_directory(bids: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    for work in (bids, bids / 'work', out):
        with pytest.raises(OutputError, match=rf'{re.escape(str(work))} .*--work-dir'):
            check_folders(Settings(bids, out), work)
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match=re.escape(str(tmp_path / 'file'))):
        check_folders(Settings(bids, out), tmp_path / 'file')
    check_folders(Settings(bids, out), out / 'work')


def test_a_foreign_dataset_is_not_written_into(bids: Path, tmp_path: Path) -> None:
    other = skeletons.make_dataset(tmp_path / 'other', 'sub-01_T1w.nii.gz', empty=True)
    with pytest.raises(OutputError, match=r'other/dataset_description\.json'):
        check_folders(Settings(bids, other), tmp_path / 'work')


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_only_its_owner_can_enter_a_new_work_directory(bids: Path, tmp_path: Path) -> None:
    work = tmp_path / 'new' / 'work'
    check_folders(Settings(bids, tmp_path / 'out'), work)
    assert mode_of(work) == 0o700
    # An empty folder is taken over, as it is made by hand or by a job script.
    work.chmod(0o777)
    check_folders(Settings(bids, tmp_path / 'out'), work)
    assert mode_of(work) == 0o700
    prepare_work_dir(work, clean=False)
    work.chmod(0o755)
    check_folders(Settings(bids, tmp_path / 'out'), work)
    assert mode_of(work) == 0o700


@pytest.mark.parametrize(('mode', 'refused'), [(0o777, 0o002), (0o775, 0o020), (0o755, 0)])
@pytest.mark.parametrize('marked', [True, False])
def test_results_that_others_may_have_written_are_refused(
    bids: Path, tmp_path: Path, mode: int, refused: int, marked: bool
) -> None:
    """Reading them could run any code."""
    work = tmp_path / 'work'
    work.mkdir()
    (work / (MARKER if marked else 'thesis.tex')).touch()
    work.chmod(mode)
    settings = Settings(bids, tmp_path / 'out')
    if refused:
        with pytest.raises(OutputError, match=re.escape(str(work))) as caught:
            check_folders(settings, work)
        assert caught.value.exit_code == 2
        assert mode_of(work) == mode
    else:
        check_folders(settings, work)
        assert mode_of(work) == (0o700 if marked else mode)


@pytest.mark.parametrize(('user', 'contained'), [(1000, True), (0, False), (0, True)])
def test_a_work_directory_of_somebody_else_is_refused(
    bids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, contained: bool
) -> None:
    work = tmp_path / 'work'
    work.mkdir()
    real = os.stat(work)
    monkeypatch.setattr(run_folders, '_keeps_modes', lambda folder: True)
    monkeypatch.setattr(
        run_folders.Path,
        'stat',
        lambda self, **given: SimpleNamespace(st_uid=4321, st_mode=real.st_mode),
    )
    monkeypatch.setattr(run_folders.os, 'geteuid', lambda: user)
    monkeypatch.setattr(run_folders, 'in_container', lambda: contained)
    if user == 0 and contained:  # as in `docker run` without --user
        check_private(work)
        return
    with pytest.raises(OutputError, match='4321') as caught:
        check_private(work)
    assert '--work-dir' in caught.value.advice


def test_a_dry_run_makes_nothing(bids: Path, tmp_path: Path) -> None:
    check_folders(Settings(bids, tmp_path / 'out', dry_run=True), tmp_path / 'work')
    assert not (tmp_path / 'out').exists()
    assert not (tmp_path / 'work').exists()
    with pytest.raises(OutputError):
        check_folders(Settings(bids, '/dev/null/out', dry_run=True), tmp_path / 'work')


def test_cleaning(bids: Path, tmp_path: Path) -> None:
    settings = Settings(bids, tmp_path / 'out', clean_workdir=True)
    work = tmp_path / 'work'
    check_folders(settings, work)
    prepare_work_dir(work, clean=True)
    (work / 'node').mkdir()
    (work / 'node' / 'file').write_text('')
    check_folders(settings, work)
    prepare_work_dir(work, clean=False)
    assert (work / 'node' / 'file').exists()
    prepare_work_dir(work, clean=True)
    assert sorted(path.name for path in work.iterdir()) == sorted([MARKER, WORK_LOCK])


def test_what_is_not_ours_is_never_deleted(bids: Path, tmp_path: Path) -> None:
    work = tmp_path / 'precious'
    work.mkdir()
    (work / 'thesis.tex').write_text('all of it')
    with pytest.raises(UsageError, match='--clean-workdir: .*precious '):
        check_folders(Settings(bids, tmp_path / 'out', clean_workdir=True), work)
    prepare_work_dir(work, clean=True)
    assert (work / 'thesis.tex').exists()
    assert not is_ours(work)


def test_default_work_directory(
    bids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(bids, tmp_path / 'out')
    here = tmp_path / 'here'
    here.mkdir()
    monkeypatch.chdir(here)
    assert choose_work_dir(settings) == here / 'work'
    assert choose_work_dir(settings.replace(work_dir=tmp_path / 'w')) == tmp_path / 'w'
    monkeypatch.chdir(bids)
    assert choose_work_dir(settings) == tmp_path / 'out' / MARKER
    monkeypatch.chdir(here)
    monkeypatch.setenv('APPTAINER_NAME', 'bids_interp.sif')  # here may be a small one in memory
    assert choose_work_dir(settings) == tmp_path / 'out' / MARKER
    monkeypatch.delenv('APPTAINER_NAME')
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    assert choose_work_dir(settings) == tmp_path / 'out' / MARKER


@pytest.mark.parametrize(
    ('hashes', 'error', 'kept'),
    [
        ('_0x1.json', EOFError('Ran out of input'), False),
        ('_0x1.json', FileNotFoundError(errno.ENOENT, 'No such file'), False),
        ('_0x1.json', OSError(errno.ESTALE, 'Stale file handle'), True),
        ('_0x1.json', MemoryError(), True),
        ('_0x1_unfinished.json', EOFError('Ran out of input'), True),
    ],
)
def test_only_damaged_results_are_forgotten(
    tmp_path: Path, hashes: str, error: Exception, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr(nipype_utils, 'load_resultfile', fail)
    workflow = pe.Workflow('some_wf', base_dir=tmp_path)
    workflow.add_nodes([pe.Node(niu.Rename(), name='step')])
    folder = tmp_path / 'some_wf' / 'step'
    folder.mkdir(parents=True)
    (folder / hashes).touch()
    (folder / 'result_step.pklz').touch()
    write_manifest(folder)
    forget_damaged(workflow)
    assert (folder / 'result_step.pklz').exists() is kept


def test_a_disk_without_modes_is_used_with_a_warning(
    bids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As drives of Windows: what is closed stays open."""
    work = tmp_path / 'work'
    work.mkdir()
    (work / MARKER).touch()
    work.chmod(0o777)
    settings = Settings(bids, tmp_path / 'out')
    with pytest.raises(OutputError):
        check_folders(settings, work)
    real = os.chmod
    monkeypatch.setattr(os, 'chmod', lambda path, mode, **named: real(path, 0o777, **named))
    with caplog.at_level('WARNING', 'bids_interp'):
        check_folders(settings, work)
    assert any(str(work) in record.getMessage() for record in caplog.records)
    assert sorted(path.name for path in work.iterdir()) == [MARKER]
