"""A bundle as one file: out and in again, and what strangers may put into such a file."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from bids_interp.cli.tools.command import tools
from bids_interp.errors import ModelError
from bids_interp.models.bundle import archive as bundle_archive
from bids_interp.models.bundle.archive import export_bundle, import_bundle
from bids_interp.models.bundle.contents import verify_bundle
from bids_interp.models.bundle.reader import load_bundle


@pytest.fixture(scope='module')
def archive(tiny_bundle, tmp_path_factory) -> Path:
    return export_bundle(tiny_bundle.path, tmp_path_factory.mktemp('archive') / 'tiny.zip')


def rewrite(archive: Path, path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The same archive with other content."""
    with zipfile.ZipFile(archive) as source:
        files = {name: source.read(name) for name in source.namelist()}
    change(files)
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as target:
        for name, data in files.items():
            target.writestr(name, data)
    return path


def with_file(name: str, data: bytes = b'x') -> Callable[[dict[str, bytes]], None]:
    """Add a file, and name it in the configuration with its right hash."""

    def change(files: dict[str, bytes]) -> None:
        config = json.loads(files['config.json'])
        config['files'][name] = hashlib.sha256(data).hexdigest()
        files['config.json'] = json.dumps(config).encode()
        files[name] = data

    return change


def assert_refused(path: Path, folder: Path, named: str | None = None) -> None:
    """It names the file that is wrong, and leaves nothing, neither there nor beside it."""
    before = sorted(path.parent.rglob('*'))
    with pytest.raises(ModelError, match=named and re.escape(named)) as caught:
        import_bundle(path, folder)
    assert caught.value.exit_code == 5
    assert sorted(path.parent.rglob('*')) == before


def test_out_and_in_again(tiny_bundle, archive: Path, tmp_path: Path) -> None:
    bundle = import_bundle(archive, tmp_path / 'models' / 'tiny')
    assert bundle.version_hash == tiny_bundle.version_hash
    assert verify_bundle(bundle.path) == []
    names = {file.name for file in tiny_bundle.path.iterdir()}
    assert {file.name for file in bundle.path.iterdir()} == names
    bundle.fold(1)


def test_the_same_bundle_gives_the_same_bytes(tiny_bundle, archive: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_bundle.path, tmp_path / 'copy', copy_function=shutil.copy))
    (copy / 'notes.txt').write_text('mine')
    (copy / 'README.md').touch()
    again = export_bundle(copy, tmp_path / 'again.zip')
    assert again.read_bytes() == archive.read_bytes()
    # What the configuration does not name stays at home.
    with zipfile.ZipFile(again) as file:
        assert 'notes.txt' not in file.namelist()
        assert file.namelist()[0] == 'config.json'


def test_a_damaged_bundle_is_not_handed_on(tiny_bundle, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_bundle.path, tmp_path / 'copy'))
    (copy / 'README.md').write_text('changed')
    with pytest.raises(ModelError):
        export_bundle(copy, tmp_path / 'out.zip')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['copy']


def test_nothing_is_overwritten_unasked(tiny_bundle, archive: Path, tmp_path: Path) -> None:
    target = tmp_path / 'a.zip'
    target.write_bytes(b'mine')
    with pytest.raises(ModelError):
        export_bundle(tiny_bundle.path, target)
    export_bundle(tiny_bundle.path, target, overwrite=True)
    assert target.read_bytes() == archive.read_bytes()
    folder = import_bundle(target, tmp_path / 'model').path
    with pytest.raises(ModelError):
        import_bundle(target, folder)
    (folder / 'README.md').write_text('changed')
    assert verify_bundle(import_bundle(target, folder, overwrite=True).path) == []


def test_a_folder_of_something_else_is_never_replaced(archive: Path, tmp_path: Path) -> None:
    (tmp_path / 'thesis').mkdir()
    (tmp_path / 'thesis' / 'thesis.tex').write_text('years of work')
    with pytest.raises(ModelError):
        import_bundle(archive, tmp_path / 'thesis', overwrite=True)
    assert (tmp_path / 'thesis' / 'thesis.tex').is_file()


@pytest.mark.parametrize(
    'name',
    ['../evil', '/etc/evil', 'sub/evil', '..', '.hidden', 'C:evil', 'a\\b', '../../x.safetensors'],
)
def test_names_that_lead_elsewhere(archive: Path, tmp_path: Path, name: str) -> None:
    path = rewrite(archive, tmp_path / 'evil.zip', with_file(name))
    assert_refused(path, tmp_path / 'model', repr(name))


def test_a_file_that_the_configuration_does_not_name(archive: Path, tmp_path: Path) -> None:
    path = rewrite(archive, tmp_path / 'more.zip', lambda files: files.update({'x.py': b'1'}))
    assert_refused(path, tmp_path / 'model', "'x.py'")
    path = rewrite(archive, tmp_path / 'path.zip', lambda files: files.update({'../x': b'1'}))
    assert_refused(path, tmp_path / 'model', "'../x'")


def test_a_missing_and_a_changed_file(archive: Path, tmp_path: Path) -> None:
    path = rewrite(archive, tmp_path / 'less.zip', lambda files: files.pop('README.md'))
    assert_refused(path, tmp_path / 'model', "'README.md'")
    path = rewrite(archive, tmp_path / 'other.zip', lambda f: f.update({'README.md': b'no'}))
    assert_refused(path, tmp_path / 'model', 'README.md')


def test_no_archive_of_a_bundle(tmp_path: Path) -> None:
    path = tmp_path / 'a.zip'
    path.write_bytes(b'\x80\x04pickle')
    assert_refused(path, tmp_path / 'model')
    assert_refused(tmp_path / 'none.zip', tmp_path / 'model')
    with zipfile.ZipFile(path, 'w') as target:
        target.writestr('weights.pt', b'')
    assert_refused(path, tmp_path / 'model')
    with zipfile.ZipFile(path, 'w') as target:
        target.writestr('config.json', '{"files": ')
    assert_refused(path, tmp_path / 'model')
    with zipfile.ZipFile(path, 'w') as target:
        target.writestr('config.json', '{"files": ["a"]}')
    assert_refused(path, tmp_path / 'model')


def test_a_truncated_archive(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / 'half.zip'
    data = archive.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert_refused(path, tmp_path / 'model')


def test_a_link_is_no_file(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / 'link.zip'
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, 'w') as target:
        for name in source.namelist():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o120777 if name == 'README.md' else 0o100644) << 16
            target.writestr(entry, source.read(name))
    assert_refused(path, tmp_path / 'model', "'README.md'")


def test_a_file_twice(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / 'twice.zip'
    shutil.copyfile(archive, path)
    with pytest.warns(UserWarning, match='Duplicate'), zipfile.ZipFile(path, 'a') as target:
        target.writestr('README.md', b'other')
    assert_refused(path, tmp_path / 'model')


def test_too_large(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'a.zip'
    shutil.copyfile(archive, path)
    monkeypatch.setattr(bundle_archive, 'MAX_TOTAL', 1000)
    assert_refused(path, tmp_path / 'model')
    monkeypatch.setattr(bundle_archive, 'MAX_CONFIG', 10)
    assert_refused(path, tmp_path / 'model')


def lie_about(data: bytes, name: str, size: int) -> bytes:
    """An archive whose two headers of a file say another uncompressed size."""
    changed = bytearray(data)
    for mark, place, length in ((b'PK\3\4', 22, 30), (b'PK\1\2', 24, 46)):
        start = 0
        while (start := data.find(mark, start)) >= 0:
            if data[start + length : start + length + len(name)] == name.encode():
                changed[start + place : start + place + 4] = struct.pack('<I', size)
            start += 4
    assert bytes(changed) != data
    return bytes(changed)


@pytest.mark.parametrize('size', [1, 10**6])
def test_a_size_that_lies(archive: Path, tmp_path: Path, size: int) -> None:
    path = rewrite(archive, tmp_path / 'lie.zip', lambda files: None)
    path.write_bytes(lie_about(path.read_bytes(), 'README.md', size))
    assert zipfile.ZipFile(path).getinfo('README.md').file_size == size
    assert_refused(path, tmp_path / 'model')


def test_a_damaged_stream_and_a_password(archive: Path, tmp_path: Path) -> None:
    path = rewrite(archive, tmp_path / 'bad.zip', lambda files: None)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as source:
        start = source.getinfo('README.md').header_offset
    # Behind the header of 30 bytes and the name.
    data[start + 39 : start + 59] = b'\xff' * 20
    path.write_bytes(data)
    assert_refused(path, tmp_path / 'model')
    locked = bytearray(archive.read_bytes())
    locked[locked.index(b'PK\1\2') + 8] |= 1
    locked[6] |= 1
    path.write_bytes(locked)
    assert_refused(path, tmp_path / 'model')


def test_the_command(tiny_bundle, tmp_path: Path) -> None:
    runner = CliRunner()
    path, folder = tmp_path / 'a.zip', tmp_path / 'models' / 'tiny'
    made = runner.invoke(tools, ['model', 'export', str(tiny_bundle.path), str(path)])
    assert made.exit_code == 0
    assert hashlib.sha256(path.read_bytes()).hexdigest() in made.output
    taken = runner.invoke(tools, ['model', 'import', str(path), str(folder)])
    assert taken.exit_code == 0
    assert tiny_bundle.version_hash in taken.output
    again = runner.invoke(tools, ['model', 'import', str(path), str(folder)])
    assert again.exit_code == 5
    assert '--overwrite' in again.output
    assert load_bundle(folder).name == 'tiny'


def test_show(tiny_bundle) -> None:
    said = CliRunner().invoke(tools, ['model', 'show', str(tiny_bundle.path)]).output
    for words in (
        'Target:        group (control / patient)',
        'Contrasts:     control-patient',
        'Classifier:    robust',
        'Simulator:     residual',
        'Folds:         2',
        'Demonstration: yes, not for research',
        'Verdict:',
    ):
        assert words in said
    assert '  auc: 0.5' in said
