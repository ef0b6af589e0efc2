"""Templates come from TemplateFlow's folder, else from nilearn; the network is never needed."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical import templates
from bids_interp.errors import TemplateError


def put(folder, name, resolution='res-02', mask_shape=(12, 14, 12)):
    stem = folder / f'tpl-{name}' / f'tpl-{name}_{resolution}'
    stem.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-8.0, 8, 8, 1])
    nib.save(nib.Nifti1Image(np.ones((12, 14, 12), np.int16), affine), f'{stem}_T1w.nii.gz')
    mask = np.zeros(mask_shape, np.uint8)
    mask[3:9, 3:9, 2:9] = 1
    nib.save(nib.Nifti1Image(mask, affine), f'{stem}_desc-brain_mask.nii.gz')


def test_a_head_template_on_this_machine_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    put(tmp_path, 'MNI152NLin6Asym')
    found = templates.strip_template()
    assert (found.name, found.source) == ('MNI152NLin6Asym', 'templateflow')
    assert nib.aff2axcodes(found.head.affine) == ('R', 'A', 'S')
    assert set(np.unique(found.mask.dataobj)) == {0, 1}
    put(tmp_path, 'MNI152NLin2009cAsym')
    assert templates.strip_template().name == 'MNI152NLin2009cAsym'
    assert templates.strip_template('MNI152NLin6Asym').name == 'MNI152NLin6Asym'


def test_the_name_of_the_template_is_known_before_anything_is_computed(tmp_path, monkeypatch):
    """Work and results of another template are not taken for those of this one."""
    from bids_interp.anatomical.templates import with_head_template
    from bids_interp.bids.read.prepared import prepared_with
    from bids_interp.settings import Settings

    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    settings = Settings(tmp_path, tmp_path / 'out', 'participant')
    before = with_head_template(settings)
    assert before.template == 'MNI152NLin2009aSym'
    put(tmp_path, 'MNI152NLin6Asym')
    after = with_head_template(settings)
    assert after.template == 'MNI152NLin6Asym'
    assert prepared_with(before) != prepared_with(after)
    named = Settings(tmp_path, tmp_path / 'out', 'participant', template='OASIS30ANTs')
    assert with_head_template(named) == named


def test_files_that_were_never_fetched_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    put(tmp_path, 'MNI152NLin6Asym')
    for path in tmp_path.rglob('*_T1w.nii.gz'):
        path.write_bytes(b'')
    with pytest.raises(TemplateError, match='MNI152NLin6Asym'):
        templates.strip_template('MNI152NLin6Asym')


def test_head_and_mask_on_two_grids_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    put(tmp_path, 'MNI152NLin6Asym', mask_shape=(10, 14, 12))
    with pytest.raises(TemplateError, match=r'_T1w\.nii\.gz .*_mask\.nii\.gz'):
        templates.strip_template()


def test_without_any_the_embedded_brain_gets_a_synthetic_head(tmp_path, monkeypatch):
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path / 'nothing'))
    found = templates.strip_template()
    assert (found.name, found.source) == ('MNI152NLin2009aSym', 'synthetic')
    head, mask = np.asarray(found.head.dataobj), np.asarray(found.mask.dataobj) > 0.5
    assert head.shape == mask.shape
    assert 1.5 < mask.sum() * np.prod(found.mask.header.get_zooms()) / 1e6 < 2.2
    assert head[~mask].max() > 0.3 * head[mask].mean()  # there is a scalp
    assert not (tmp_path / 'nothing').exists()


@pytest.mark.parametrize('load', [templates.strip_template, templates.brain_template])
def test_a_template_that_is_not_here_is_an_error_with_a_remedy(tmp_path, monkeypatch, load):
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    with pytest.raises(TemplateError, match='Nowhere') as caught:
        load('Nowhere')
    assert caught.value.advice


def test_the_embedded_brain_lies_in_mni_space():
    brain = templates.brain_template()
    assert brain.shape == (197, 233, 189)
    assert np.allclose(nib.affines.voxel_sizes(brain.affine), 1)
    data = np.asarray(brain.dataobj)
    assert data.min() == 0
    # The anterior commissure is at the origin: tissue there, none at the corner.
    voxel = nib.affines.apply_affine(np.linalg.inv(brain.affine), [0, -15, 0]).round().astype(int)
    assert data[tuple(voxel)] > 0
    assert data[0, 0, 0] == 0


def test_a_brain_template_from_the_folder_is_masked(tmp_path, monkeypatch):
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    put(tmp_path, 'MNI152NLin2009cAsym', 'res-01')
    brain = templates.brain_template('MNI152NLin2009cAsym')
    assert np.asarray(brain.dataobj).sum() == 6 * 6 * 7
