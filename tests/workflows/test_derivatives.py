"""From a native brain to a valid derivative dataset, with the real nodes and writers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nipype.pipeline import engine as pe

from bids_interp.anatomical import deformation
from bids_interp.anatomical.spaces import output_space
from bids_interp.anatomical.spaces.atlas import read_atlas
from bids_interp.anatomical.spaces.template_transform import TemplateTransform
from bids_interp.bids.names import sidecar_name
from bids_interp.bids.read.scan_files import ScanFiles, load_table
from bids_interp.bids.write.atomic import write_json, write_text
from bids_interp.bids.write.dataset_description import prepare_output
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.bids.write.provenance import DEMONSTRATION_NOTE
from bids_interp.bids.write.sidecars import RESAMPLED_CONVENTION
from bids_interp.interfaces.regions import COLUMNS
from bids_interp.reports.scan.region_changes import measure_regions
from bids_interp.spatial import Grid, resample
from bids_interp.workflows.derivatives import init_derivatives_wf
from bids_interp.workflows.explain import OUTPUTS, init_explain_wf

ROOT = Path(__file__).resolve().parents[2]
SOURCE = 'sub-01/ses-a/anat/sub-01_ses-a_run-1_T1w.nii.gz'
STEM = 'sub-01/ses-a/anat/sub-01_ses-a_run-1'
SPACED = f'{STEM}_space-MNI152NLin2009aSym_res-1'
#: A template in which the head is 10 mm further to the front.
OTHER = 'MNI152NLin6Asym'
IN_OTHER = f'{STEM}_space-{OTHER}_res-1'
DOSES = (0.5, 1.0)


def make_anatomy(folder: Path, template_brain) -> dict[str, str]:
    """Write what the anatomical workflow gives, at 5 mm, native grid flipped."""
    fine = Grid.from_image(template_brain, 'MNI152NLin2009aSym')
    template = fine.with_spacing(5.0)
    data = torch.from_numpy(np.asarray(template_brain.dataobj))[None, None]
    brain = resample(data, fine, template, np.eye(4), antialias=True)[0, 0].numpy()
    affine = template.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[0, 3] = template.affine[0, 3] + 5.0 * (template.shape[0] - 1)
    registration = {'native_to_template': np.eye(4), 'correlation': 0.97}
    native = np.ascontiguousarray(brain[::-1])
    files = {
        't1w_preproc': write_nifti(folder / 'preproc.nii.gz', native + 1, affine, template=False),
        'brain_mask': write_nifti(folder / 'mask.nii.gz', native > 0, affine, template=False),
        'brain': write_nifti(folder / 'brain.nii.gz', native, affine, template=False),
        'template_brain': write_nifti(
            folder / 'template.nii.gz', brain, template.affine, template=True
        ),
        'template_mask': write_nifti(
            folder / 'template_mask.nii.gz', brain > 0, template.affine, template=True
        ),
        'native_to_template': write_json(folder / 'registration.json', registration),
        'conform_report': write_json(folder / 'conform.json', {'Reoriented': True}),
        'xfm_forward_itk': write_text(folder / 'forward.txt', '#Insight Transform File V1.0\n'),
        'xfm_inverse_itk': write_text(folder / 'inverse.txt', '#Insight Transform File V1.0\n'),
    }
    return {name: str(path) for name, path in files.items()}


def make_atlas(folder: Path, template_brain) -> Path:
    """Write an atlas of the two halves of the template, in a file with axes to the left."""
    grid = Grid.from_image(template_brain).with_spacing(5.0)
    sides = np.where(grid.world_coordinates()[0] < 0, 1, 2).astype(np.int16)
    affine = grid.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[0, 3] = grid.affine[0, 3] + 5.0 * (grid.shape[0] - 1)
    path = folder / 'atlas-Halves_space-MNI152NLin2009aSym_dseg.nii.gz'
    nib.save(nib.Nifti1Image(sides[::-1], affine), path)
    path.with_name(path.name.replace('nii.gz', 'tsv')).write_text('index\tname\n1\tL_half\n')
    return path


def put_template(patch: pytest.MonkeyPatch, template_brain) -> None:
    """Provide the other template at 5 mm."""
    grid = Grid.from_image(template_brain).with_spacing(5.0)
    affine = grid.affine.copy()
    affine[1, 3] += 10
    image = nib.Nifti1Image(np.ones(grid.shape, np.float32), affine)
    coarse = Grid((2, 2, 2), np.diag([300.0, 300.0, 300.0, 1.0]), OTHER)
    back = np.zeros((3, 2, 2, 2))
    back[1] = -10
    patch.setattr(output_space, 'brain_template', lambda name, offline: image)
    patch.setattr(
        output_space,
        'template_transform',
        lambda *names, **_: TemplateTransform(coarse, back, 'made up'),
    )


@pytest.fixture(scope='module')
def out(tmp_path_factory, template_brain, tiny_bundle) -> Path:
    """An output dataset of one image."""
    base = tmp_path_factory.mktemp('derivatives')
    files = make_anatomy(base / 'anatomy', template_brain)
    raw = base / 'raw'
    write_json(
        raw / 'dataset_description.json',
        {'Name': 'Heads', 'BIDSVersion': '1.8.0', 'DatasetDOI': 'doi:10.1/heads'},
    )
    (raw / SOURCE).parent.mkdir(parents=True)
    (raw / SOURCE).write_bytes(Path(files['t1w_preproc']).read_bytes())

    space = 'MNI152NLin2009aSym'
    chosen = {
        'doses': DOSES,
        'output_spaces': ('T1w', 'template', OTHER),
        'atlas': read_atlas(str(make_atlas(base, template_brain)), None, space),
    }
    explain_wf = init_explain_wf(
        bundle=tiny_bundle, dataset_key='doi:10.1/heads', participant='01', **chosen
    )
    derivatives_wf = init_derivatives_wf(
        source=raw / SOURCE,
        out_dir=base / 'out',
        roots={'raw': raw},
        bundle=tiny_bundle,
        random_seed=7,
        **chosen,
    )
    workflow = pe.Workflow('scan_wf', base_dir=str(base / 'work'))
    wanted = derivatives_wf.get_node('inputnode').inputs.copyable_trait_names()
    given = explain_wf.get_node('outputnode').outputs.copyable_trait_names()
    assert set(OUTPUTS) <= set(given)
    pairs = [(f'outputnode.{name}', f'inputnode.{name}') for name in given if name in wanted]
    workflow.connect([(explain_wf, derivatives_wf, pairs)])
    explain_wf.inputs.inputnode.t1w = str(raw / SOURCE)
    for name, path in files.items():
        for part in (explain_wf, derivatives_wf):
            if name in part.get_node('inputnode').inputs.copyable_trait_names():
                setattr(part.get_node('inputnode').inputs, name, path)
    derivatives_wf.inputs.inputnode.skull_stripped_input = False
    prepare_output(base / 'out', {'raw': raw}, tiny_bundle)
    with pytest.MonkeyPatch.context() as patch:
        # How well the anatomy is measured is tested elsewhere.
        quick = replace(deformation._SYN, iterations='2x1')
        patch.setattr(deformation, '_SYN', quick)
        put_template(patch, template_brain)
        workflow.run(plugin='Linear')
    return base / 'out'


def test_the_tree_is_the_one_that_was_promised(out):
    expected = {f'{STEM}_desc-explain_prediction.json'}
    with_sidecar = [
        f'{STEM}_desc-preproc_T1w.nii.gz',
        f'{STEM}_desc-brain_mask.nii.gz',
        f'{STEM}_from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.txt',
        f'{STEM}_from-MNI152NLin2009aSym_to-T1w_mode-image_xfm.txt',
        f'{SPACED}_desc-brain_T1w.nii.gz',
        f'{SPACED}_desc-brain_mask.nii.gz',
        f'{STEM}_space-MNI152NLin2009aSym_res-4_desc-anatomy_logjacobian.nii.gz',
        f'{STEM}_space-MNI152NLin2009aSym_res-model_desc-input_T1w.nii.gz',
        f'{STEM}_desc-doseresponse_stats.tsv',
        f'{STEM}_desc-counterfactual_stats.tsv',
        f'{STEM}_seg-Halves_desc-regions_stats.tsv',
        f'{IN_OTHER}_desc-brain_T1w.nii.gz',
        f'{IN_OTHER}_desc-brain_mask.nii.gz',
    ]
    for direction in ('inject', 'remove'):
        with_sidecar.append(
            f'{STEM}_space-MNI152NLin2009aSym_res-model_desc-{direction}_velocity.nii.gz'
        )
        for start in (STEM, SPACED, IN_OTHER):
            for dose in ('050', '100'):
                for suffix in ('T1w', 'logjacobian'):
                    with_sidecar.append(f'{start}_desc-{direction}{dose}_{suffix}.nii.gz')
    expected.update(with_sidecar, (sidecar_name(name).as_posix() for name in with_sidecar))
    found = {p.relative_to(out).as_posix() for p in (out / 'sub-01').rglob('*') if p.is_file()}
    assert found == expected
    assert {path.name for path in out.iterdir()} == {
        'sub-01',
        'dataset_description.json',
        '.bidsignore',
        'README.md',
    }


def test_the_validator_finds_no_error(out, validate_bids):
    (out / 'sub-01_ses-a_run-1.html').write_text('<!doctype html>')
    figures = out / 'sub-01' / 'figures'
    figures.mkdir(exist_ok=True)
    (figures / 'sub-01_ses-a_run-1_desc-mask_T1w.svg').write_text('<svg/>')
    (out / 'logs').mkdir(exist_ok=True)
    (out / 'logs' / 'CITATION.md').write_text('Methods.\n')
    assert validate_bids(out) == ''


def test_every_image_has_agreeing_headers_and_the_code_of_its_world(out):
    images = list(out.rglob('*.nii.gz'))
    assert len(images) == 34
    for path in images:
        image = nib.load(path)
        code = 4 if '_space-' in path.name else 1
        assert (image.header['sform_code'], image.header['qform_code']) == (code, code), path.name
        np.testing.assert_allclose(image.get_sform(), image.get_qform(), atol=1e-3)
        wanted = np.uint8 if path.name.endswith('_mask.nii.gz') else np.float32
        assert image.get_data_dtype() == wanted, path.name


def test_sidecars_tell_model_seed_sources_and_what_was_learned(out, tiny_bundle):
    for path in (out / 'sub-01').rglob('*.json'):
        content = json.loads(path.read_text())
        assert content['ModelHash'] == tiny_bundle.version_hash
        assert content['RandomSeed'] == 7
        assert content['DemonstrationNote'] == DEMONSTRATION_NOTE
        for uri in content['Sources']:
            dataset, name = uri.removeprefix('bids:').split(':')
            assert ((out.parent / 'raw' if dataset == 'raw' else out) / name).is_file(), uri
        assert str(out.parent) not in path.read_text()
    preproc = json.loads((out / f'{STEM}_desc-preproc_T1w.json').read_text())
    assert preproc['SkullStripped'] is False
    assert preproc['Conformation'] == {'Reoriented': True}
    assert preproc['Sources'] == [f'bids:raw:{SOURCE}']
    transform = f'{STEM}_from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.json'
    assert json.loads((out / transform).read_text())['Registration']['correlation'] == 0.97
    change = json.loads((out / f'{SPACED}_desc-inject050_logjacobian.json').read_text())
    assert (change['Direction'], change['Dose']) == ('inject', 0.5)
    assert change['FoldsUsed'] == [0, 1]
    assert change['InTrainingSet'] is False
    assert change['VoxelsFolded'] == 0
    assert change['Units'].startswith('1 ')


def test_native_and_template_maps_agree(out):
    """The native grid is the template's with its first axis flipped."""
    for label in ('inject100', 'remove050'):
        native = nib.load(out / f'{STEM}_desc-{label}_logjacobian.nii.gz')
        template = nib.load(out / f'{SPACED}_desc-{label}_logjacobian.nii.gz')
        assert nib.aff2axcodes(native.affine)[0] == 'L'
        assert nib.aff2axcodes(template.affine)[0] == 'R'
        expected = template.get_fdata()[::-1]
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(native.get_fdata(), expected, atol=5e-3)


def test_maps_in_another_template_are_those_of_the_model(out):
    own, other = (nib.load(out / f'{stem}_desc-inject100_logjacobian.nii.gz') for stem in
                  (SPACED, IN_OTHER))  # fmt: skip
    np.testing.assert_allclose(other.affine[:3, 3] - own.affine[:3, 3], [0, 10, 0], atol=1e-4)
    np.testing.assert_allclose(other.get_fdata(), own.get_fdata(), atol=1e-5)
    content = json.loads((out / f'{IN_OTHER}_desc-inject100_logjacobian.json').read_text())
    assert content['SourceSpace'] == 'MNI152NLin2009aSym'
    assert content['Convention'] == RESAMPLED_CONVENTION
    assert (content['Dose'], content['VoxelsFolded']) == (1.0, 0)
    # Reports read the maps in the template of the model.
    files = ScanFiles(out, 'sub-01_ses-a_run-1')
    assert files.template_name == 'MNI152NLin2009aSym'
    assert files.template('desc-brain_T1w.nii.gz') == out / f'{SPACED}_desc-brain_T1w.nii.gz'
    assert files.full_dose('inject')[1] == out / f'{SPACED}_desc-inject100_logjacobian.nii.gz'


def test_the_table_of_regions(out):
    path = out / f'{STEM}_seg-Halves_desc-regions_stats.tsv'
    rows = load_table(path, COLUMNS)
    assert len(rows) == 2 * 2 * 2
    content = json.loads(sidecar_name(path).read_text())
    assert content['Atlas'] == {
        'File': 'atlas-Halves_space-MNI152NLin2009aSym_dseg.nii.gz',
        'Space': 'MNI152NLin2009aSym',
    }
    assert set(COLUMNS) <= set(content)
    image = nib.load(out / f'{STEM}_desc-inject100_logjacobian.nii.gz')
    inside = nib.load(out / f'{STEM}_desc-brain_mask.nii.gz').get_fdata() > 0
    left = Grid.from_image(image).world_coordinates()[0] < 0
    (row,) = (
        row for row in rows if (row['direction'], row['dose'], row['index']) == ('inject', '1', '1')
    )
    assert (row['region'], row['side']) == ('half', 'left')
    values = image.get_fdata()[inside & left]
    assert float(row['volume_mm3']) == pytest.approx(125 * values.size, rel=1e-6)
    assert float(row['simulated_mm3']) == pytest.approx(125 * np.exp(values).sum(), rel=1e-5)
    files = ScanFiles(out, 'sub-01_ses-a_run-1')
    assert files.read_prediction().atlas == 'Halves'
    assert files.regions == path
    assert not files.damaged()
    shown = {(one.label, one.direction): one for one in measure_regions(files)}
    assert len(shown) == 4
    assert shown['left half', 'inject'].volume_change_percent == pytest.approx(float(row['pct']))
    path.write_text(path.read_text().replace('direction', 'way'))
    assert [str(path) in error.message for error in files.damaged()] == [True]
    path.write_text(path.read_text().replace('way', 'direction'))


def test_the_snippet_of_the_documentation_runs(out, monkeypatch, capsys):
    text = (ROOT / 'docs' / 'outputs.md').read_text()
    blocks = re.findall(r'^```python\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
    assert blocks
    monkeypatch.chdir(out)
    namespace = {}
    for block in blocks:
        # The documented names are of a dataset without sessions and runs.
        code = block.replace("'sub-01/anat/sub-01", f"'{STEM}")
        assert code != block or 'sub-01' not in block
        exec(compile(code, 'docs/outputs.md', 'exec'), namespace)
    assert '%' in capsys.readouterr().out
    assert (out / 'overlay.png').stat().st_size > 5000
    (out / 'overlay.png').unlink()
