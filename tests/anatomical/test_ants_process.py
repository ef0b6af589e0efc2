"""Odd places and odd images: ANTs gets paths it can read, and its complaints stay inside."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from bids_interp.anatomical import ants_process, ants_tools
from bids_interp.anatomical.ants_process import captured, check_ended, scratch_folder
from bids_interp.anatomical.itk import itk_text
from bids_interp.anatomical.registration import register_brain
from bids_interp.errors import AntsError, BidsInterpError, ImageError

STAGES = [ants_tools.Stage('Affine[0.1]', 'GC[%s,%s,1,1,Regular,0.25]', '5x2', '2x1', '1x0')]
ODD = ('123[7].srv', 'a b', 'l\'"x', 'é脑', 'a,b(c)')


def ball(place: float = 0.0) -> nib.Nifti1Image:
    """A ball of smooth noise; `place` is its first world coordinate."""
    values = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(30, 30, 30)), 3)
    distance = np.linalg.norm(np.indices(values.shape) - 14.5, axis=0)
    affine = np.diag([6.0, 6, 6, 1])
    affine[0, 3] = place
    data = (values - values.min()) * 100 * (distance < 12)
    return nib.Nifti1Image(data.astype(np.float32), affine)


@pytest.fixture(scope='module')
def brain() -> Any:
    ants_tools.load_ants(1)
    return ants_tools.to_ants(ball())


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch):
    def use(folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        monkeypatch.setattr(tempfile, 'tempdir', str(folder))
        return folder

    return use


@pytest.mark.parametrize('name', ODD)
def test_registration_works_with_odd_folders(tmp_path, temporary, brain, name: str) -> None:
    odd = temporary(tmp_path / name)
    with ants_tools.run_registration(brain, brain, STAGES, seed=0) as (forward, _):
        assert str(odd) not in forward[0]
        assert ants_tools.read_affine(forward[0]) == pytest.approx(np.eye(4), abs=0.05)
    assert not Path(forward[0]).exists()


def test_a_plain_folder_is_used_and_nothing_else(tmp_path, temporary, monkeypatch) -> None:
    plain = temporary(tmp_path / 'plain')
    with scratch_folder() as folder:
        assert folder.parent == plain
    temporary(tmp_path / 'a b')
    monkeypatch.setattr(ants_process, 'FALLBACKS', (str(tmp_path / 'c d'), '/nowhere'))
    with pytest.raises(AntsError, match='a b') as caught, scratch_folder():
        pass
    assert 'TMPDIR' in caught.value.advice


def test_a_usage_error_is_not_a_fault_of_the_image(tmp_path, brain) -> None:
    missing = str(tmp_path / 'no [x]' / 'start.txt')
    with (
        pytest.raises(AntsError) as caught,
        ants_tools.run_registration(brain, brain, STAGES, seed=0, initial=missing),
    ):
        pass
    assert isinstance(caught.value, BidsInterpError)
    assert not isinstance(caught.value, ImageError)


def test_an_image_without_content_is_a_fault_of_the_image(brain) -> None:
    empty = brain.new_image_like(np.zeros((30, 30, 30), np.float32))
    with (
        pytest.raises(RuntimeError, match='Total Mass'),
        ants_tools.run_registration(brain, empty, STAGES, seed=0),
    ):
        pass


@pytest.mark.parametrize(
    ('text', 'error'),
    [
        ('File: /itk/Modules/Registration/a.hxx\nDescription: no overlap', RuntimeError),
        ('File: /itk/Modules/IO/NIFTI/a.cxx\nDescription: cannot write', AntsError),
        ('File: /src/antscore/antsCommandLineParser.cxx', AntsError),
        ('', AntsError),
    ],
)
def test_the_origin_of_a_failure_decides(text: str, error: type[Exception]) -> None:
    check_ended(0, text)
    with pytest.raises(error):
        check_ended(1, text)


def test_a_usage_error_stops_the_attempts_of_a_brain(monkeypatch) -> None:
    calls = []

    def broken(*args: object, **options: object) -> None:
        calls.append(args)
        raise AntsError('ANTs cannot run.')

    monkeypatch.setattr(ants_tools, 'run_registration', broken)
    with pytest.raises(AntsError):
        register_brain(ball(), ball())
    assert len(calls) == 1


def test_warnings_of_itk_never_reach_the_terminal(tmp_path, capfd, brain) -> None:
    start = tmp_path / 'identity.txt'
    start.write_text(itk_text(np.eye(4)))
    far = ants_tools.to_ants(ball(9000.0))
    with ants_tools.run_registration(brain, far, STAGES, seed=0, initial=str(start)):
        pass
    fine = nib.Nifti1Image(np.asarray(ball().dataobj), np.diag([0.25, 0.25, 0.25, 1]))
    ants_tools.at_spacing(fine, 5.0)
    assert capfd.readouterr() == ('', '')


def test_what_is_captured_can_be_read_and_ends_with_the_block(capfd) -> None:
    with captured() as outer:
        os.write(1, b'one\n')
        with captured() as inner:
            sys.stderr.write('two')
            os.write(2, b'three \xff\n')
        os.write(2, b'four\n')
    os.write(1, b'five\n')
    assert 'three' in inner.text
    assert 'two' not in outer.text
    assert outer.text == 'one\nfour\n'
    assert capfd.readouterr().out == 'five\n'
    with pytest.raises(ValueError, match='x'), captured():
        raise ValueError('x')
    os.write(1, b'six\n')
    assert capfd.readouterr().out == 'six\n'
