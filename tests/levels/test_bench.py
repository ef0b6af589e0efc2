"""The known-truth benchmark from the command line to the table, on brains prepared before."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from bids_interp.anatomical import deformation
from bids_interp.anatomical.templates import with_head_template
from bids_interp.bench import planted_cohort
from bids_interp.bids.names import output_name, sidecar_name
from bids_interp.bids.read.prepared import FINGERPRINT, PREPARED_WITH, prepared_with
from bids_interp.bids.write.dataset_description import prepare_output
from bids_interp.cli.tools.command import tools
from bids_interp.interfaces.bench_scores import ScoreScenario
from bids_interp.models.bundle.fingerprint import image_fingerprint
from bids_interp.phantom.inject.scenarios import SCENARIOS
from bids_interp.settings import Settings

pytestmark = pytest.mark.slow

TEMPLATE = 'MNI152NLin2009aSym'
COUNT = 6
RECIPE = '{"capacity": "template", "simulator_steps": 2, "n_folds": 2, "batch": 4}'
PAPER = '{"classifier_steps": 2, "simulator_steps": 1, "batch": 2}'


def make_dataset(bids: Path, out: Path) -> None:
    """Noisy copies of the template at 4 mm, as if the anatomical part had been run."""
    from bids_interp.anatomical.templates import brain_template

    image = brain_template(TEMPLATE)
    affine = image.affine @ np.diag([4, 4, 4, 1.0])
    data = np.asarray(image.dataobj)[::4, ::4, ::4]
    bids.mkdir(parents=True)
    description = {'Name': 'Made-up brains', 'BIDSVersion': '1.10.0', 'DatasetType': 'raw'}
    (bids / 'dataset_description.json').write_text(json.dumps(description))
    (bids / 'README').write_text('Brains of a template with noise; made by the tests.\n')
    prepare_output(out, {'raw': bids})
    for number in range(COUNT):
        rng = np.random.default_rng(number)
        source = bids / f'sub-{number:02d}' / 'anat' / f'sub-{number:02d}_T1w.nii.gz'
        source.parent.mkdir(parents=True)
        noisy = (1000 * data / data.max() * (1 + rng.normal(0, 0.03, data.shape))).clip(0)
        nib.save(nib.Nifti1Image(noisy.astype(np.int16), affine), source)
        prepare(source, out, Settings(bids, out))


def prepare(source: Path, out: Path, settings: Settings) -> None:
    image = nib.load(source)
    t1w, mask = (out / output_name(source, kind) for kind in ('preproc', 'mask'))
    transform = out / output_name(source, 'transform', **{'from': 'T1w', 'to': TEMPLATE})
    t1w.parent.mkdir(parents=True)
    data = image.get_fdata(dtype=np.float32)
    nib.save(nib.Nifti1Image(data, image.affine), t1w)
    nib.save(nib.Nifti1Image((data > 0).astype(np.uint8), image.affine), mask)
    transform.write_text('# of an earlier run\n')
    facts = {
        PREPARED_WITH: prepared_with(with_head_template(settings)),
        'Conformation': {FINGERPRINT: image_fingerprint(source)},
    }
    sidecar_name(t1w).write_text(json.dumps(facts))
    registration = {'Registration': {'native_to_template': np.eye(4).tolist()}}
    sidecar_name(transform).write_text(json.dumps(registration))


class Place:
    """A dataset and what the benchmark makes of it."""

    def __init__(self, root: Path) -> None:
        self.root, self.bids, self.out = root, root / 'bids', root / 'out'
        make_dataset(self.bids, self.out / 'derivatives')

    def run(self, *options: str) -> tuple[int, str]:
        plugin = self.root / 'plugin.yml'
        plugin.write_text('plugin: Linear\n')
        words = ['bench', 'truth', str(self.bids), '--out', str(self.out)]
        words += ['--work-dir', str(self.root / 'work'), '--use-plugin', str(plugin)]
        words += ['--nprocs', '1', '--device', 'cpu', '--offline', '--resolution', '12']
        words += ['--replicates', '2', '--recipe', RECIPE, '--paper-recipe', PAPER]
        words += ['--judge-steps', '2', '--draws', '20', '--seeds', '0', *options]
        result = CliRunner().invoke(tools, words)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    def table(self) -> list[dict[str, str]]:
        with (self.out / 'table.tsv').open() as stream:
            return list(csv.DictReader(stream, delimiter='\t'))


@pytest.fixture(scope='module')
def place(tmp_path_factory) -> Iterator[Place]:
    # Changes are computed at 2 mm otherwise, which takes half a minute each.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted_cohort, 'FIELD_MM', 6.0)
        yield _first_run(tmp_path_factory.mktemp('bench'))


def _first_run(root: Path) -> Place:
    made = Place(root)
    methods = ('ours', 'ipmi2021', 'difference', 'gradient', 'deeplift')
    code, output = made.run('--check-sham', '--scenarios', 'S4', '--methods', *methods)
    assert code == 0, output
    return made


def test_every_method_is_in_the_table(place: Place) -> None:
    rows = place.table()
    found = {row['method'] for row in rows if row['metric'] == 'ncc_group'}
    assert found == {'ours', 'ipmi2021', 'difference', 'gradient'}
    gains = {row['method']: row for row in rows if row['metric'] == 'gain_ncc_group'}
    assert 'ours' not in gains
    explained = {row['method']: row['classifier'] for row in rows}
    # Our classifier is a registration, to which DeepLift does not apply.
    assert 'deeplift' not in explained
    assert explained['gradient'] == 'ours'
    assert explained['difference'] == 'n/a'
    assert float(gains['gradient']['low']) <= float(gains['gradient']['high'])
    aucs = {(row['scenario'], row['method']) for row in rows if row['metric'] == 'auc'}
    planted = {('S4', name) for name in ('ours', 'ipmi2021', 'sfcn')}
    assert aucs == {*planted, ('sham', 'sham')}
    assert {row['metric'] for row in rows} <= set(
        json.loads((place.out / 'table.json').read_text())['metric']['Levels']
    )


def test_the_maps_and_numbers_of_the_images_are_kept(place: Place) -> None:
    truth = nib.load(place.out / 'maps' / 'S4_seed-0_truth_inject.nii.gz')
    assert truth.get_fdata().max() > 0.05
    with (place.out / 'images' / 'S4_seed-0.tsv').open() as stream:
        rows = list(csv.DictReader(stream, delimiter='\t'))
    # One control and one patient of each brain, by each of the two simulators.
    assert len(rows) == 2 * 2 * COUNT
    assert {row['direction'] for row in rows} == {'inject', 'remove'}


def test_the_page_needs_nothing_else(place: Place) -> None:
    page = (place.out / 'table.html').read_text()
    assert re.search('S3 .*seed 0', page)
    assert 'ventricles +30 %' in page
    assert 'sham warp' in page
    assert page.count('<img') == 2
    assert 'src="http' not in page
    assert 'Not applicable to our classifier' in page


def test_words_and_pictures_are_there_for_documents(place: Place) -> None:
    assert {path.name for path in (place.out / 'figures').iterdir()} == {
        'S4_inject.png',
        'S4_remove.png',
        'summary.png',
    }
    text = (place.out / 'table.md').read_text()
    assert '## S4: expansion' in text
    assert 'ventricles +30 %' in text


def test_a_second_run_trains_nothing(place: Place) -> None:
    before = place.table()
    files = sorted((place.root / 'work').rglob('result.safetensors'))
    times = [path.stat().st_mtime_ns for path in files]
    assert len(files) == 4 * 2
    (place.out / 'table.html').unlink()
    methods = ('ours', 'ipmi2021', 'difference', 'gradient', 'deeplift')
    assert place.run('--check-sham', '--scenarios', 'S4', '--methods', *methods)[0] == 0
    assert [path.stat().st_mtime_ns for path in files] == times
    assert place.table() == before
    assert (place.out / 'table.html').is_file()


def test_scenarios_run_one_by_one_make_one_table(place: Place) -> None:
    before = place.table()
    code, output = place.run('--scenarios', 'S7', '--methods', 'ours', 'gradient')
    assert code == 0, output
    rows = place.table()
    assert [row for row in rows if row['scenario'] in ('S4', 'sham')] == before
    assert any((r['scenario'], r['metric']) == ('S7', 'reliable_percent') for r in rows)
    assert (place.out / 'table.md').read_text().count('```bash') == 2
    # Saliency has no number where nothing is planted.
    assert not list((place.out / 'maps').glob('S7_seed-0_gradient*'))
    # Other choices make another table.
    code, output = place.run('--scenarios', 'S7', '--methods', 'ours', '--draws', '21')
    assert code == 0, output
    assert {row['scenario'] for row in place.table()} == {'S7'}


def test_results_stay_until_new_ones_are_there(place: Place, monkeypatch) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError('the machine went away')

    kept = place.out / 'scores' / 'S4_seed-0.json'
    before, table = kept.read_text(), place.table()
    monkeypatch.setattr(ScoreScenario, '_run_interface', breaks)
    # Other draws: what was scored before cannot be used again.
    code, output = place.run('--scenarios', 'S4', '--methods', 'difference', '--draws', '22')
    assert code == 1
    assert 'S4, seed 0' in output
    assert kept.read_text() == before
    assert place.table() == table


def test_subtypes_another_generator_and_volumes_run_to_their_scores(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(SCENARIOS['S11'], regressed=('thalamus', 'ventricles', 'brainstem'))
    monkeypatch.setitem(SCENARIOS, 'S11', few)
    # Copies of one brain; SyN has its own tests.
    monkeypatch.setattr(deformation, 'register_log_jacobian', lambda _, template, *__, **___: (
        np.zeros_like(template)
    ))  # fmt: skip
    scenarios = ('S9', 'S10b', 'S11')
    code, output = place.run(
        '--scenarios', *scenarios, '--methods', 'ours', 'tbm', 'exact', 'oracle',
        '--replicates', '4', '--judge-steps', '0',
    )  # fmt: skip
    assert code == 0, output
    rows = place.table()
    found = {(row['scenario'], row['method'], row['metric']): row for row in rows}
    assert {name for name, _, _ in found} == set(scenarios)
    for method in ('ours', 'tbm', 'exact', 'oracle'):
        assert 0 <= float(found['S9', method, 'subtype_auc']['value']) <= 1
        assert ('S10b', method, 'subtype_auc') not in found
    assert ('S9', 'ours', 'subtype_auc_share') in found
    assert ('S10b', 'oracle', 'ncc_group') not in found
    for metric in ('volume_share', 'displacement_ncc', 'motion_outside_mm'):
        assert found['S10b', 'ours', metric]['value'] != 'n/a'
    # A sign only: 24 images of 12 mm voxels. tests/phantom/test_boundary.py proves the change.
    assert float(found['S10b', 'exact', 'ncc_group']['value']) > 0
    assert found['S10b', 'tbm', 'ncc_group']['covers'] == 'training and explained brains'
    for method in ('ours', 'tbm', 'exact'):
        count = float(found['S11', method, 'regions_found']['value'])
        assert count == int(count)
        assert 0 <= count <= 3
    assert float(found['S11', 'exact', 'regions_found']['value']) > 0
    with (place.out / 'images' / 'S11_seed-0.tsv').open() as stream:
        peaks = list(csv.DictReader(stream, delimiter='\t'))
    assert len(peaks) == 3 * 3
    assert (place.out / 'maps' / 'S11_seed-0_thalamus_ours.nii.gz').is_file()
    page = (place.out / 'table.html').read_text()
    assert 'Regions found' in page
