"""The power tool from the command line to the page, on noisy copies of the template."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical.templates import brain_template
from bids_interp.bench.power.studies import PowerDesign
from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.errors import InputDatasetError
from bids_interp.levels import power as level
from bids_interp.settings import Settings

pytestmark = pytest.mark.slow
COUNT = 11


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    folder = tmp_path / 'bids'
    image = brain_template(EMBEDDED_TEMPLATE)
    affine = image.affine @ np.diag([4, 4, 4, 1.0])
    data = np.asarray(image.dataobj)[::4, ::4, ::4]
    for number in range(COUNT):
        source = folder / f'sub-{number:02d}' / 'anat' / f'sub-{number:02d}_T1w.nii.gz'
        source.parent.mkdir(parents=True)
        noise = np.random.default_rng(number).normal(0, 0.03, data.shape)
        noisy = (1000 * data / data.max() * (1 + noise)).clip(0).astype(np.int16)
        nib.save(nib.Nifti1Image(noisy, affine), source)
    description = {'Name': 'Made up', 'BIDSVersion': '1.10.0', 'DatasetType': 'raw'}
    (folder / 'dataset_description.json').write_text(json.dumps(description))
    return folder


def prepared(settings, records, grid_file, run):
    """Pretend that the copies of the template are prepared brains."""
    folder = settings.output_dir
    transform = folder / 'transform.json'
    transform.write_text(json.dumps({'Registration': {'native_to_template': np.eye(4).tolist()}}))
    return [
        {
            'label': record.subject,
            't1w': str(record.path),
            'mask': str(record.path),
            'transform': str(transform),
        }
        for record in records
    ], []


def test_the_tool_writes_its_results(bids, tmp_path: Path, in_process: Path, monkeypatch):
    monkeypatch.setattr(level, 'prepare_brains', prepared)
    design = PowerDesign((0.0, -0.3), (), repeats=2, folds=2)
    settings = Settings(
        bids,
        tmp_path / 'out' / 'derivatives',
        work_dir=tmp_path / 'work',
        skip_bids_validation=True,
        offline=True,
        nprocs=1,
        device='cpu',
        use_plugin=in_process,
    )
    request = level.PowerRequest(design, spacing_mm=8.0)
    assert level.run_power(settings, request, ('tool',)) == 0
    out = tmp_path / 'out'
    with (out / 'power.tsv').open() as stream:
        rows = list(csv.DictReader(stream, delimiter='\t'))
    assert [(row['n'], row['effect']) for row in rows] == [('10', '0'), ('10', '-0.3')]
    # The copies differ by noise alone, so the change is all that differs.
    assert float(rows[1]['auc']) > 0.9
    assert float(rows[1]['map_ncc']) > 0.3
    setup = json.loads((out / 'power.json').read_text())['Setup']
    assert (setup['n_people'], setup['command'], setup['spacing_mm']) == (COUNT, 'tool', 8.0)
    assert 0 < setup['interpolation_error'] < 0.2
    assert {path.name for path in out.iterdir()} >= {'power.html', 'power.svg', 'logs'}
    too_large = replace(request, design=replace(design, numbers=(12,)))
    with pytest.raises(InputDatasetError):
        level.run_power(settings, too_large)
