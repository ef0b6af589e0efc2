"""Tests of the image, under Docker or Podman, Apptainer and SLURM.

They run by ``make test-container`` and ``make test-slurm`` only: these build the image first and
name it in ``BIDS_INTERP_IMAGE``.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers import image

#: A user whom neither the image nor this machine knows.
STRANGER = 12345
#: Seconds that one run of the program in an image may take; it hangs if it takes longer.
PATIENCE = 1200


@dataclass(frozen=True)
class Engine:
    """Docker or Podman with the image under test."""

    program: str
    image: str
    environ: dict[str, str]

    def run(
        self, *words: str | Path, options: Sequence[str] = (), user: int = STRANGER
    ) -> subprocess.CompletedProcess[str]:
        """Run the image as an unknown user, read-only, without network and without HOME."""
        return subprocess.run(
            self.command(*words, options=options, user=user),
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    @property
    def limits(self) -> list[str]:
        """``run`` with nothing writable, no network and no HOME."""
        words = ['run', '--rm', '--read-only', '--network', 'none', '--env', 'HOME=/nonexistent']
        # Docker gives a read-only container no /tmp; Podman does, unless told not to.
        return [*words, *(['--read-only-tmpfs=false'] if self.program == 'podman' else [])]

    def command(
        self, *words: str | Path, options: Sequence[str] = (), user: int = STRANGER
    ) -> list[str]:
        """Return the command line of `run`."""
        places = [*self.limits, '--user', f'{user}:{user}', *options]
        return [self.program, *places, self.image, *map(str, words)]

    def call(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Call the engine itself."""
        command = [self.program, *map(str, words)]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True)

    def inspect(self) -> dict:
        """Return what the engine knows about the image."""
        done = self.call('image', 'inspect', self.image)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)[0]


def documented(path: Path, *beginning: str) -> list[str]:
    """Return the words of the first command of a document that begins like this."""
    text = path.read_text().replace('\\\n', ' ')
    for line in text.splitlines():
        words = shlex.split(line) if line.startswith(f'{" ".join(beginning)} ') else []
        if tuple(words[: len(beginning)]) == beginning:
            return words
    raise AssertionError(f'{path} has no command {" ".join(beginning)}')


@pytest.fixture(scope='session')
def read_command() -> object:
    """Return :func:`documented`."""
    return documented


@pytest.fixture(scope='session')
def image_name() -> str:
    """Name of the image under test."""
    name = os.environ.get('BIDS_INTERP_IMAGE')
    if not name:
        pytest.skip('no image to test: `make test-container` builds one and runs these tests')
    return name


@pytest.fixture(scope='session')
def engine(image_name: str) -> Engine:
    """Docker or Podman."""
    return Engine(image.engine(), image_name, dict(image.environment()))


@pytest.fixture(scope='session')
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every user may look into (pytest's own belong to one user alone)."""
    folder = Path('/tmp') / f'bids_interp-{uuid.uuid4().hex[:8]}'
    folder.mkdir()
    folder.chmod(0o755)
    yield folder
    subprocess.run(['rm', '-rf', str(folder)])


@pytest.fixture(scope='session')
def heads(engine: Engine, shared_folder: Path) -> Path:
    """A BIDS dataset of made-up heads, made by the image; root owns it."""
    out = shared_folder / 'bids'
    out.mkdir()
    done = engine.run(
        *('phantom', '/out/data', '--n', '4', '--spacing', '2.5'),
        options=['--entrypoint', 'bids_interp_tools', '-v', f'{out}:/out'],
        user=os.getuid(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out / 'data'


@pytest.fixture
def writable(shared_folder: Path) -> Path:
    """A new folder of the unknown user."""
    folder = shared_folder / uuid.uuid4().hex[:8]
    folder.mkdir()
    os.chown(folder, STRANGER, STRANGER)
    return folder


@pytest.fixture(scope='session')
def validate() -> object:
    """Return a function that gives the errors of the BIDS validator for a folder."""

    def run(folder: Path) -> list[dict]:
        program = Path(sys.executable).with_name('bids-validator-deno')
        done = subprocess.run([program, folder, '--format', 'json'], capture_output=True, text=True)
        assert done.stdout.strip(), done.stderr
        issues = json.loads(done.stdout)['issues']['issues']
        return [issue for issue in issues if issue.get('severity') == 'error']

    return run
