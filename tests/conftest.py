"""What all tests share: quiet single-threaded libraries, temporary caches, data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Set before numpy or torch is imported by a test; subprocesses inherit it.
for _name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS'):
    os.environ.setdefault(_name, '1')
os.environ.setdefault('MPLBACKEND', 'Agg')

ROOT = Path(__file__).resolve().parent.parent

# What a user may have set and what would change the outcome of a test.
_USER_VARIABLES = ('BIDS_INTERP_MODEL', 'TEMPLATEFLOW_HOME', 'SLURM_JOB_ID')


@pytest.fixture(scope='session', autouse=True)
def _isolated_environment(tmp_path_factory: pytest.TempPathFactory):
    """Nothing is read from or written to the user's home; nothing is fetched."""
    caches = tmp_path_factory.mktemp('caches')
    with pytest.MonkeyPatch.context() as patch:
        for name in _USER_VARIABLES:
            patch.delenv(name, raising=False)
        for name in ('MPLCONFIGDIR', 'XDG_CACHE_HOME', 'TORCH_HOME', 'NIPYPE_CONFIG_DIR'):
            folder = caches / name.lower()
            folder.mkdir()
            patch.setenv(name, str(folder))
        patch.setenv('TEMPLATEFLOW_HOME', str(caches / 'templateflow'))
        patch.setenv('TEMPLATEFLOW_AUTOUPDATE', '0')
        patch.setenv('NO_ET', '1')
        yield


@pytest.fixture(scope='session')
def repository() -> Path:
    """Root of the checkout."""
    return ROOT


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The folder with real scans; a test that needs it is skipped where it is missing."""
    named = os.environ.get('BIDS_INTERP_SHARED')
    folder = Path(named) if named else ROOT.parent / 'shared'
    if not (folder / 'data').is_dir():
        pytest.skip(
            f'no real scans: {folder / "data"} does not exist; put them into ../shared or set '
            'BIDS_INTERP_SHARED'
        )
    return folder


@pytest.fixture(scope='session')
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``bids_interp`` as a user does: ``command('in', 'out', 'participant', ...)``."""

    def run(
        *arguments: str | Path, program: str = 'bids_interp', **environment: str
    ) -> subprocess.CompletedProcess[str]:
        executable = Path(sys.executable).with_name(program)
        return subprocess.run(
            [str(executable), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
            env={**os.environ, **environment},
        )

    return run


@pytest.fixture(scope='session')
def validate_bids() -> Callable[[Path], str]:
    """Run the BIDS validator on a dataset: its text where it finds errors, else ''."""
    beside = Path(sys.executable).with_name('bids-validator-deno')
    found = str(beside) if beside.exists() else shutil.which('bids-validator-deno')
    if found is None:
        pytest.skip('bids-validator-deno is not installed (it is in the extra [test])')

    def validate(dataset: Path) -> str:
        done = subprocess.run(
            [found, str(dataset)], capture_output=True, text=True, timeout=300, check=False
        )
        return '' if done.returncode == 0 else done.stdout + done.stderr

    return validate
