"""What all tests share: quiet single-threaded libraries, temporary caches, data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import nibabel as nib

    from bids_interp.models.bundle.reader import ModelBundle

# Set before a test imports numpy or torch; subprocesses inherit it.
for _name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS'):
    os.environ.setdefault(_name, '1')
os.environ.setdefault('MPLBACKEND', 'Agg')

ROOT = Path(__file__).resolve().parent.parent

# What a user may have set and what would change the outcome of a test.
_USER_VARIABLES = ('BIDS_INTERP_MODEL', 'TEMPLATEFLOW_HOME', 'SLURM_JOB_ID')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first, so that the processes of xdist end together."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


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
def skeletons() -> ModuleType:
    """The module with ``make_dataset`` and ``make_image``: datasets without brains."""
    from helpers import skeletons

    return skeletons


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
def in_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin file for ``--use-plugin``: steps run in this process, which has its imports."""
    file = tmp_path_factory.mktemp('plugin') / 'plugin.yml'
    file.write_text('plugin: Linear\n')
    return file


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


@pytest.fixture(scope='session')
def template_brain() -> nib.Nifti1Image:
    """The 1 mm brain that comes with nilearn, as (X, Y, Z) float32, 0 outside the brain."""
    import nibabel as nib
    import numpy as np
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=1)
    return nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)


@pytest.fixture(scope='session')
def tiny_bundle(
    template_brain: nib.Nifti1Image, tmp_path_factory: pytest.TempPathFactory
) -> ModelBundle:
    """Two folds of untrained networks on an 8 mm grid: quick, and wrong about everything.

    Temperatures, intercepts and class gaps of the folds differ, and none is 1 or 0.
    """
    import numpy as np
    import torch

    from bids_interp.models.bundle.fold_metrics import FoldMetrics
    from bids_interp.models.bundle.schema import BundleConfig, ClassifierConfig, SimulatorConfig
    from bids_interp.models.bundle.writer import TrainedFold, save_bundle
    from bids_interp.models.networks.registry import build_classifier
    from bids_interp.models.networks.simulator import Simulator
    from bids_interp.models.preprocessing import Preprocessing
    from bids_interp.models.target import Target
    from bids_interp.spatial import Grid, resample

    fine = Grid.from_image(template_brain, space='MNI152NLin2009aSym')
    grid = fine.with_spacing(8.0)
    data = torch.from_numpy(np.asarray(template_brain.dataobj))[None, None]
    mean = resample(data, fine, grid, np.eye(4), antialias=True)[0, 0].numpy()
    mask = mean > 0.2 * mean.max()
    classifier: dict[str, Any] = {
        'architecture': 'robust',
        'arguments': {'channels': [4, 8], 'norm': 'instance'},
    }
    simulator = {'capacity': 'residual', 'smoothing_mm': 12.0, 'width': 4}
    folds = []
    for seed, (temperature, gap, b) in enumerate(((2.0, 1.5, 0.25), (0.5, 4.0, -0.5))):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = build_classifier('robust', grid.shape, **classifier['arguments'])
            simulate = Simulator(grid, mask, **simulator)
            torch.nn.init.normal_(simulate.template, std=0.3)
        weights = network.state_dict(), simulate.state_dict()
        folds.append(TrainedFold(*weights, temperature, gap, FoldMetrics(4, 2, 2), b))
    config = BundleConfig(
        name='tiny',
        demonstration=True,
        grid=grid,
        template=grid.space,
        target=Target('binary', 'group', ('control', 'patient')),
        preprocessing=Preprocessing(),
        classifier=ClassifierConfig(**classifier),
        simulator=SimulatorConfig(**simulator),
        metrics={'auc': 0.5, 'explanation_warranted': True},
        folds=[],
        files={},
    )
    path = tmp_path_factory.mktemp('bundle') / 'tiny'
    return save_bundle(path, config, folds, mask, mean, '# tiny\n\nUntrained, for tests.\n')
