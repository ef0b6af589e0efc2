"""The image under a real Apptainer, as an ordinary user, with the command of the documents."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers import image
from helpers.apptainer import set_up

pytestmark = pytest.mark.slow

#: Seconds that one command may take; it hangs if it takes longer.
PATIENCE = 1500
MAX_BYTES = 1.5e9


@dataclass(frozen=True)
class Apptainer:
    """The program, and the image as it wants it."""

    program: Path
    image: Path
    user: str

    def call(self, *words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Apptainer with a HOME that cannot be written to."""
        return subprocess.run(
            [str(self.program), *map(str, words)],
            env={**os.environ, 'APPTAINER_HOME_FOLDER': '/nonexistent', **environ},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )


@pytest.fixture(scope='module')
def apptainer(engine, shared_folder: Path) -> Apptainer:
    """Convert the image by way of an archive, as docs/hpc.md says."""
    try:
        program = set_up()
    except image.Unavailable as error:
        pytest.skip(str(error))
    sif = image.CACHE / 'bids_interp.sif'
    archive = shared_folder / 'bids_interp.tar'
    saved = engine.call(
        'save', *(['--format', 'docker-archive'] if engine.program == 'podman' else []),
        '-o', archive, engine.image,
    )  # fmt: skip
    assert saved.returncode == 0, saved.stderr
    sif.unlink(missing_ok=True)
    caches = shared_folder / 'apptainer'
    caches.mkdir()
    built = subprocess.run(
        [
            *(str(program), 'build', '--mksquashfs-args', '-comp zstd -Xcompression-level 1'),
            *(str(sif), f'docker-archive:{archive}'),
        ],
        env={
            **os.environ,
            'APPTAINER_AS': 'root',
            'APPTAINER_CACHEDIR': str(caches),
            'APPTAINER_TMPDIR': str(caches),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    archive.unlink()
    shutil.rmtree(caches)
    own = Path(program).parent == image.CACHE
    return Apptainer(program, sif, 'nobody' if own else pwd.getpwuid(os.getuid()).pw_name)


@pytest.fixture
def place(apptainer: Apptainer, shared_folder: Path, request: pytest.FixtureRequest) -> Path:
    """A folder of the ordinary user."""
    folder = shared_folder / request.node.name
    folder.mkdir()
    if os.geteuid() == 0:
        user = pwd.getpwnam(apptainer.user)
        os.chown(folder, user.pw_uid, user.pw_gid)
    return folder


def test_labels_and_size(apptainer: Apptainer) -> None:
    assert apptainer.image.stat().st_size <= MAX_BYTES
    labels = apptainer.call('inspect', '--labels', apptainer.image)
    assert 'Apache-2.0' in labels.stdout, labels.stderr


def test_the_main_job(
    apptainer: Apptainer, heads: Path, place: Path, validate, repository: Path, read_command
) -> None:
    """The command of docs/hpc.md."""
    out, work = place / 'out', place / 'work'
    for folder in (out, work, work / 'tmp'):
        folder.mkdir()
        if os.geteuid() == 0:
            user = pwd.getpwnam(apptainer.user)
            os.chown(folder, user.pw_uid, user.pw_gid)
    words = read_command(repository / 'docs' / 'hpc.md', 'apptainer', 'run')
    places = {'/data/bids': heads, '/data/derivatives': out, '/scratch/me/work': work}
    places['bids_interp.sif'] = apptainer.image
    for known, real in places.items():
        assert any(known in word for word in words), known
        words = [word.replace(known, str(real)) for word in words]
    done = apptainer.call(*words[1:])
    assert done.returncode == 0, done.stdout + done.stderr
    file = out / 'sub-01' / 'anat' / 'sub-01_desc-inject100_logjacobian.nii.gz'
    assert file.stat().st_size > 10_000
    if os.geteuid() == 0:
        assert file.stat().st_uid == pwd.getpwnam(apptainer.user).pw_uid
    assert '"Type": "apptainer"' in (out / 'dataset_description.json').read_text()
    assert validate(out) == []


def test_variables_of_the_host(apptainer: Apptainer, heads: Path, place: Path) -> None:
    """Without --cleanenv too, a PYTHONPATH of the host brings nothing in."""
    (place / 'click.py').write_text("raise SystemExit('a package of the host was imported')\n")
    done = apptainer.call(
        *('run', '--no-home', '--pwd', '/', '--bind', f'{heads}:{heads}:ro', '--bind', place),
        *(apptainer.image, heads, place / 'out', 'participant', '--dry-run'),
        PYTHONPATH=str(place),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '4 images would be processed' in done.stdout


def test_a_missing_bind(apptainer: Apptainer, place: Path) -> None:
    done = apptainer.call(
        *('run', '--cleanenv', '--containall', '--no-home', '--pwd', '/', '--bind', place),
        *(apptainer.image, '/data/bids', place / 'out', 'participant'),
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert '--bind' in done.stderr
    assert '/data/bids' in done.stderr


def test_a_missing_gpu(apptainer: Apptainer, heads: Path, place: Path) -> None:
    """A machine without a driver: Apptainer warns, the program ends before it computes."""
    if any(Path(name).exists() for name in ('/dev/nvidiactl', '/dev/nvidia0')):
        pytest.skip('this machine has a GPU')
    done = apptainer.call(
        *('run', '--nv', '--cleanenv', '--containall', '--no-home', '--pwd', '/'),
        *('--bind', f'{heads}:{heads}:ro', '--bind', place),
        *(apptainer.image, heads, place / 'out', 'participant', '--device', 'cuda'),
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert 'no GPU driver' in done.stderr
