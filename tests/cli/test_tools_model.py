"""``bids_interp_tools model``: exit codes and files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from bids_interp.cli.tools.model import model
from bids_interp.models.bundle.reader import ModelBundle


@pytest.fixture
def folder(tiny_bundle: ModelBundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / 'tiny'))


def _run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(model, [str(word) for word in words])
    return result.exit_code, result.output


def test_show_names_the_model_its_hash_and_its_metrics(tiny_bundle: ModelBundle) -> None:
    code, text = _run('show', tiny_bundle.path)
    values = dict(line.split(':', 1) for line in text.splitlines())
    assert code == 0
    assert values['Name'].strip() == 'tiny'
    assert values['Hash'].strip() == tiny_bundle.version_hash
    assert values['Folds'].strip() == '2'
    assert values['  auc'].strip() == '0.5'


def test_a_changed_file_ends_with_exit_code_5(folder: Path) -> None:
    assert _run('verify', folder)[0] == 0
    path = next(folder.glob('*classifier*.safetensors'))
    path.write_bytes(path.read_bytes()[:-1] + b'\x01')
    code, text = _run('verify', folder)
    assert code == 5
    assert path.name in text


def test_a_model_goes_through_one_file_unchanged(folder: Path, tmp_path: Path) -> None:
    archive, copy = tmp_path / 'tiny.zip', tmp_path / 'copy'
    assert _run('export', folder, archive)[0] == 0
    assert _run('import', archive, copy)[0] == 0
    names = sorted(path.name for path in folder.iterdir())
    assert sorted(path.name for path in copy.iterdir()) == names
    assert all((copy / name).read_bytes() == (folder / name).read_bytes() for name in names)
