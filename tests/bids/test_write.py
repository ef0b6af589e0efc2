"""Writing: whole files or none, right headers, nothing rewritten that is already there."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import time

import nibabel as nib
import numpy as np
import pytest

from bids_interp.bids.write import atomic as write
from bids_interp.bids.write import temporaries
from bids_interp.bids.write.nifti import copy_nifti, write_nifti
from bids_interp.bids.write.temporaries import (
    LEFT_HOURS,
    new_folder,
    remove_temporaries,
    temporary_name,
)
from bids_interp.errors import OutputError

OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.2, -0.3, 0.1) @ np.diag([-0.9, 1.1, 1.3]), [10.0, -20.0, 5.0]
)


def leftovers(folder):
    return [name for name in os.listdir(folder) if name.startswith('.')]


def test_a_failed_write_leaves_the_old_file_and_no_trace(tmp_path):
    path = write.write_text(tmp_path / 'a.txt', 'old')
    with pytest.raises(RuntimeError), write.atomic(path) as temporary:
        temporary.write_text('half')
        raise RuntimeError('power cut')
    assert path.read_text() == 'old'
    assert leftovers(tmp_path) == []


def test_a_full_disk_says_so_and_names_the_file(tmp_path):
    with pytest.raises(OutputError, match=r'a\.json.*No space left on device') as caught:
        with write.atomic(tmp_path / 'a.json') as temporary:
            temporary.write_text('half')
            raise OSError(errno.ENOSPC, 'No space left on device')
    assert caught.value.exit_code == 2
    assert caught.value.advice == write.FULL_ADVICE
    assert os.listdir(tmp_path) == []


def _log_of_the_disk(monkeypatch) -> list[str]:
    """Names of what is flushed and replaced, in order."""
    log: list[str] = []
    flush, replace = os.fsync, os.replace

    def fsync(opened):
        log.append(f'flush {os.path.basename(os.readlink(f"/proc/self/fd/{opened}"))[-5:]}')
        flush(opened)

    def replaced(source, target):
        log.append(f'replace {os.path.basename(target)}')
        replace(source, target)

    monkeypatch.setattr(os, 'fsync', fsync)
    monkeypatch.setattr(os, 'replace', replaced)
    return log


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """Otherwise a power cut could leave an empty file with the final name."""
    folder = tmp_path / 'place'
    folder.mkdir()
    log = _log_of_the_disk(monkeypatch)
    write.write_text(folder / 'a.txt', 'text')
    assert log == ['flush a.txt', 'replace a.txt', 'flush place']
    log.clear()
    with new_folder(folder / 'model') as scratch:
        (scratch / 'b.txt').write_text('text')
    assert log == ['flush b.txt', 'flush model', 'replace model', 'flush place']


def test_a_quota_that_is_checked_late_is_named_and_the_old_file_stays(tmp_path, monkeypatch):
    path = write.write_text(tmp_path / 'a.txt', 'old')

    def fsync(_opened):
        raise OSError(errno.EDQUOT, 'Disk quota exceeded')

    monkeypatch.setattr(os, 'fsync', fsync)
    with pytest.raises(OutputError, match=r'a\.txt') as caught:
        write.write_text(path, 'new')
    assert caught.value.advice == write.FULL_ADVICE
    assert path.read_text() == 'old'
    assert leftovers(tmp_path) == []


def test_a_disk_that_cannot_flush_folders_is_used(tmp_path, monkeypatch):
    flush = os.fsync

    def fsync(opened):
        if os.path.isdir(f'/proc/self/fd/{opened}'):
            raise OSError(errno.EINVAL, 'Invalid argument')
        flush(opened)

    monkeypatch.setattr(os, 'fsync', fsync)
    assert write.write_text(tmp_path / 'a.txt', 'text').read_text() == 'text'


def test_a_folder_that_is_a_file_is_an_output_error(tmp_path):
    (tmp_path / 'sub-01').write_text('a file')
    with pytest.raises(OutputError, match='sub-01'):
        write.write_text(tmp_path / 'sub-01' / 'a.txt', 'text')


def test_an_unchanged_file_is_not_touched(tmp_path):
    data = np.random.default_rng(0).normal(size=(5, 6, 7))
    path = write_nifti(tmp_path / 'a.nii.gz', data, OBLIQUE, template=False)
    before = os.stat(path).st_ino
    write_nifti(path, data, OBLIQUE, template=False)
    assert os.stat(path).st_ino == before
    write_nifti(path, data + 1, OBLIQUE, template=False)
    assert os.stat(path).st_ino != before


def test_files_have_the_rights_of_ordinary_files(tmp_path):
    umask = os.umask(0o022)
    try:
        path = write.write_json(tmp_path / 'a.json', {})
        copied = write.copy_file(path, tmp_path / 'b.json')
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o644
    assert copied.stat().st_mode & 0o777 == 0o644


def _write_many(folder, letter):
    for _ in range(40):
        write.write_text(folder / 'shared.json', json.dumps(letter * 20000))


def test_readers_see_whole_files_while_two_processes_write(tmp_path):
    context = multiprocessing.get_context('fork')
    writers = [context.Process(target=_write_many, args=(tmp_path, c)) for c in 'ab']
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        if (tmp_path / 'shared.json').exists():
            seen.add(json.loads((tmp_path / 'shared.json').read_text()))
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen <= {'a' * 20000, 'b' * 20000}
    assert seen
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(('template', 'code'), [(False, 1), (True, 4)])
def test_sform_and_qform_agree_with_the_code_of_the_world(tmp_path, template, code):
    data = np.zeros((4, 5, 6))
    image = nib.load(write_nifti(tmp_path / 'a.nii.gz', data, OBLIQUE, template=template))
    assert (image.header['sform_code'], image.header['qform_code']) == (code, code)
    np.testing.assert_allclose(image.get_sform(), OBLIQUE, atol=1e-5)
    np.testing.assert_allclose(image.get_qform(), OBLIQUE, atol=1e-4)
    assert image.get_data_dtype() == np.float32
    assert image.header.get_xyzt_units()[0] == 'mm'


def test_a_sheared_grid_has_no_contradicting_qform(tmp_path):
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    image = nib.load(
        write_nifti(tmp_path / 'a.nii.gz', np.zeros((3, 3, 3)), sheared, template=False)
    )
    np.testing.assert_allclose(image.affine, sheared)
    assert image.header['qform_code'] == 0


def test_a_vector_field_becomes_a_five_dimensional_vector_image(tmp_path):
    field = np.arange(3 * 2 * 3 * 4, dtype=np.float32).reshape(3, 2, 3, 4)
    image = nib.load(write_nifti(tmp_path / 'v.nii.gz', field, OBLIQUE, template=True))
    assert image.shape == (2, 3, 4, 1, 3)
    assert image.header.get_intent()[0] == 'vector'
    np.testing.assert_array_equal(image.get_fdata()[1, 2, 3, 0], field[:, 1, 2, 3])


def test_masks_are_bytes(tmp_path):
    mask = np.zeros((3, 3, 3), dtype=bool)
    image = nib.load(write_nifti(tmp_path / 'm.nii.gz', mask, OBLIQUE, template=False))
    assert image.get_data_dtype() == np.uint8


def test_a_copied_image_keeps_its_values_and_gets_a_right_header(tmp_path):
    data = np.random.default_rng(0).integers(0, 900, (4, 5, 6)).astype(np.int16)
    wrong = nib.Nifti1Image(data, OBLIQUE)
    wrong.header.set_slope_inter(0.25, 3.0)
    wrong.set_sform(OBLIQUE, 2)
    wrong.set_qform(np.eye(4), 1)
    wrong.to_filename(tmp_path / 'wrong.nii.gz')
    values = nib.load(tmp_path / 'wrong.nii.gz').get_fdata()
    path = copy_nifti(tmp_path / 'wrong.nii.gz', tmp_path / 'right.nii.gz', template=False)
    image = nib.load(path)
    assert (image.header['sform_code'], image.header['qform_code']) == (1, 1)
    np.testing.assert_allclose(image.get_qform(), OBLIQUE, atol=1e-4)
    np.testing.assert_allclose(image.get_fdata(), values, atol=1e-3)
    again = copy_nifti(path, tmp_path / 'again.nii.gz', template=False)
    assert again.read_bytes() == path.read_bytes()


def test_a_copied_mask_becomes_bytes(tmp_path):
    mask = nib.Nifti1Image(np.ones((3, 3, 3), dtype=np.float32), np.eye(4))
    mask.to_filename(tmp_path / 'm.nii')
    path = copy_nifti(tmp_path / 'm.nii', tmp_path / 'm.nii.gz', template=False, dtype=np.uint8)
    image = nib.load(path)
    assert image.get_data_dtype() == np.uint8
    assert (image.get_fdata() == 1).all()


def test_a_copied_mask_is_rounded(tmp_path):
    """Resampled masks are nearly 0 and nearly 1."""
    values = np.array([0.02, 0.4, 0.6, 0.98], dtype=np.float32).reshape(4, 1, 1)
    nib.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / 'm.nii.gz')
    path = copy_nifti(tmp_path / 'm.nii.gz', tmp_path / 'r.nii.gz', template=False, dtype=np.uint8)
    assert nib.load(path).get_fdata().ravel().tolist() == [0, 0, 1, 1]


def test_json_keeps_the_order_and_has_null_for_what_is_no_number(tmp_path):
    content = {'Sources': ['b', 'a'], 'Dose': np.float32(0.5), 'A': [float('inf'), float('nan')]}
    text = write.write_json(tmp_path / 'a.json', content).read_text()
    assert json.loads(text) == {'Sources': ['b', 'a'], 'Dose': 0.5, 'A': [None, None]}
    assert list(json.loads(text)) == ['Sources', 'Dose', 'A']


def test_tables_use_the_words_of_bids(tmp_path):
    rows = [
        {'a': 0.1 + 0.2, 'b': np.float32('nan'), 'c': True},
        {'a': np.int64(3), 'b': None, 'c': np.bool_(False)},
    ]
    text = write.write_tsv(tmp_path / 't.tsv', rows).read_text()
    rows = [line.split('\t') for line in text.splitlines()]
    assert rows == [['a', 'b', 'c'], ['0.3', 'n/a', 'true'], ['3', 'n/a', 'false']]
    assert write.write_tsv(tmp_path / 'e.tsv', [], ['a', 'b']).read_text() == 'a\tb\n'
    with pytest.raises(ValueError, match='columns'):
        write.write_tsv(tmp_path / 'e.tsv', [])


def age(path, hours):
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


def test_only_what_killed_processes_left_is_removed(tmp_path):
    folder = tmp_path / 'sub-01' / 'anat'
    folder.mkdir(parents=True)
    left, new = (temporary_name(folder / 'a.nii.gz') for _ in range(2))
    left_folder = temporary_name(tmp_path / 'model')
    left_folder.mkdir()
    for path in (left, new, left_folder / 'x', folder / 'a.nii.gz', folder / '.bidsignore'):
        path.touch()
        age(path, LEFT_HOURS + 1)
    age(new, LEFT_HOURS - 1)
    age(left_folder, LEFT_HOURS + 1)
    remove_temporaries(tmp_path, deep=False, hours=LEFT_HOURS)
    assert left.exists()
    assert not left_folder.exists()
    remove_temporaries(tmp_path, hours=LEFT_HOURS)
    assert sorted(folder.iterdir()) == sorted([new, folder / 'a.nii.gz', folder / '.bidsignore'])


def make_folder(path, text):
    with new_folder(path) as scratch:
        (scratch / 'a').write_text(text)


def test_a_folder_is_whole_or_not_there(tmp_path):
    path = tmp_path / 'model'
    make_folder(path, 'one')
    make_folder(path, 'two')
    assert (path / 'a').read_text() == 'two'
    with pytest.raises(RuntimeError), new_folder(path) as scratch:
        (scratch / 'a').write_text('half')
        raise RuntimeError('power cut')
    assert (path / 'a').read_text() == 'two'
    assert leftovers(tmp_path) == []


def test_an_earlier_folder_is_never_seen_in_part(tmp_path, monkeypatch):
    path = tmp_path / 'model'
    make_folder(path, 'one')
    seen = []
    remove = shutil.rmtree

    def watched(folder, **given):
        seen.append((folder == path, path.exists() and (path / 'a').read_text()))
        remove(folder, **given)

    monkeypatch.setattr(temporaries.shutil, 'rmtree', watched)
    make_folder(path, 'two')
    assert seen
    assert set(seen) == {(False, 'two')}


def test_an_earlier_folder_stays_if_it_cannot_be_replaced(tmp_path, monkeypatch):
    path = tmp_path / 'model'
    make_folder(path, 'one')

    def fail(_source, _target):
        raise OSError(errno.EIO, 'Input/output error')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match='Input/output error'):
        make_folder(path, 'two')
    assert (path / 'a').read_text() == 'one'
    assert leftovers(tmp_path) == []
