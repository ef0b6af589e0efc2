"""The anatomical workflow builds with every option, and runs on a small brain."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical.prepared_brain import NOT_BACKGROUND
from bids_interp.workflows.anatomical import (
    ANATOMICAL_INPUTS,
    ANATOMICAL_OUTPUTS,
    init_anatomical_wf,
)

SHIFT = np.array([10.0, -20.0, 30.0])  # mm


@pytest.mark.parametrize(
    ('skull_strip', 'template', 'fast'),
    list(itertools.product(['auto', 'force', 'skip'], [None, 'MNI152NLin6Asym'], [False, True])),
)
def test_the_graph_builds(skull_strip, template, fast):
    workflow = init_anatomical_wf(
        skull_strip=skull_strip,
        strip_template=template,
        model_template='MNI152NLin2009aSym',
        omp_nthreads=2,
        random_seed=1,
        fast=fast,
    )
    graph = workflow._create_flat_graph()
    assert {node.name for node in graph} >= {'conform', 'prepare_brain', 'register_brain'}
    assert set(workflow.get_node('inputnode').inputs.copyable_trait_names()) == set(
        ANATOMICAL_INPUTS
    )
    outputs = workflow.get_node('outputnode').outputs.copyable_trait_names()
    assert set(outputs) == set(ANATOMICAL_OUTPUTS)
    for name in ('prepare_brain', 'register_brain'):
        node = workflow.get_node(name)
        assert node.n_procs == node.inputs.num_threads == 2
    assert ('was extracted' in workflow.visit_desc()) == (skull_strip != 'skip')


@pytest.fixture(scope='module')
def finished(tmp_path_factory, template_brain) -> dict[str, Path | bool]:
    """Outputs for a brain at 4 mm, stored left to right reversed, moved by a known shift."""
    base = tmp_path_factory.mktemp('anatomical')
    data = np.asarray(template_brain.dataobj)[::-4, ::4, ::4]
    affine = np.diag([-4.0, 4.0, 4.0, 1.0])
    start = [template_brain.shape[0] - 1, 0, 0, 1]
    affine[:3, 3] = (template_brain.affine @ start)[:3] + SHIFT
    source = base / 'sub-01_T1w.nii.gz'
    nib.save(nib.Nifti1Image(data, affine), source)
    workflow = init_anatomical_wf(fast=True, name='anatomical_wf')
    workflow.base_dir = base
    workflow.inputs.inputnode.t1w = str(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('bids_interp.anatomical.registration.WORK_MM', 4.0)
        graph = workflow.run(plugin='Linear')
    found = {}
    for node in graph:
        found |= node.result.outputs.get()
    return {name: found[name] for name in ANATOMICAL_OUTPUTS}


def test_every_output_is_there(finished):
    assert finished['skull_stripped_input'] is True
    files = [value for name, value in finished.items() if name != 'skull_stripped_input']
    assert all(Path(path).stat().st_size > 0 for path in files)


def test_the_shift_is_found_and_all_forms_of_it_agree(finished):
    from bids_interp.anatomical.itk import parse_itk_text

    matrix = np.array(
        json.loads(Path(finished['native_to_template']).read_text())['native_to_template']
    )
    centre = np.array([0.0, -20, 10])
    moved = nib.affines.apply_affine(matrix, centre + SHIFT)
    assert np.linalg.norm(moved - centre) < 2
    forward = parse_itk_text(Path(finished['xfm_forward_itk']).read_text())
    inverse = parse_itk_text(Path(finished['xfm_inverse_itk']).read_text())
    assert np.allclose(forward, np.linalg.inv(matrix))
    assert np.allclose(inverse, matrix)


def test_native_files_share_one_grid_and_the_template_brain_has_its_own(finished, template_brain):
    native = [nib.load(finished[name]) for name in ('t1w_preproc', 'brain_mask', 'brain')]
    for img in native:
        assert img.shape == native[0].shape
        assert np.allclose(img.affine, native[0].affine)
        assert nib.aff2axcodes(img.affine) == ('R', 'A', 'S')
    placed = nib.load(finished['template_brain'])
    assert placed.shape == template_brain.shape
    assert np.allclose(placed.affine, template_brain.affine)
    pair = [np.asarray(i.dataobj)[::3, ::3, ::3].ravel() for i in (placed, template_brain)]
    assert np.corrcoef(*pair)[0, 1] > 0.95


def test_the_report_says_what_was_done(finished):
    report = json.loads(Path(finished['conform_report']).read_text())
    assert report['Orientation'] == 'LAS'
    assert report['BrainMask'] == NOT_BACKGROUND
    assert report['BiasCorrection'] == 'N4'
    assert 1 < report['BrainVolumeLitres'] < 2.2
