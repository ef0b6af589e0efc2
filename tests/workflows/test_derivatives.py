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
from bids_interp.bids.names import sidecar_name
from bids_interp.bids.write.atomic import write_json, write_text
from bids_interp.bids.write.dataset_description import prepare_output
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.bids.write.provenance import DEMONSTRATION_NOTE
from bids_interp.spatial import Grid, resample
from bids_interp.workflows.derivatives import init_derivatives_wf
from bids_interp.workflows.explain import OUTPUTS, init_explain_wf

ROOT = Path(__file__).resolve().parents[2]
SOURCE = 'sub-01/ses-a/anat/sub-01_ses-a_run-1_T1w.nii.gz'
STEM = 'sub-01/ses-a/anat/sub-01_ses-a_run-1'
SPACED = f'{STEM}_space-MNI152NLin2009aSym_res-1'
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

    explain_wf = init_explain_wf(
        bundle=tiny_bundle, dataset_key='doi:10.1/heads', participant='01', doses=DOSES
    )
    derivatives_wf = init_derivatives_wf(
        source=raw / SOURCE,
        out_dir=base / 'out',
        roots={'raw': raw},
        bundle=tiny_bundle,
        doses=DOSES,
        random_seed=7,
    )
    workflow = pe.Workflow('scan_wf', base_dir=str(base / 'work'))
    wanted = derivatives_wf.get_node('inputnode').inputs.copyable_trait_names()
    pairs = [(f'outputnode.{name}', f'inputnode.{name}') for name in OUTPUTS if name in wanted]
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
    ]
    for direction in ('inject', 'remove'):
        with_sidecar.append(
            f'{STEM}_space-MNI152NLin2009aSym_res-model_desc-{direction}_velocity.nii.gz'
        )
        for start in (STEM, SPACED):
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
    assert len(images) == 24
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
