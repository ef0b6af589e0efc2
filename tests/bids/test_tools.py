"""Brains that other tools have found, each on a skeleton of the tool's real tree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_from_to

from bids_interp.anatomical.given_mask import load_mask
from bids_interp.bids.read.query import T1wRecord, collect
from bids_interp.bids.read.tools import TOOLS, find_tool_file
from bids_interp.errors import ImageError, UsageError
from bids_interp.levels.preflight import preflight
from bids_interp.settings import Settings
from helpers import skeletons

#: FreeSurfer's grid: 256 voxels of 1 mm, axes to the left, down and to the front.
CONFORMED = np.array([[-1, 0, 0, 128], [0, 0, 1, -128], [0, -1, 0, 128], [0, 0, 0, 1.0]])


@pytest.fixture(scope='module')
def scan(template_brain: nib.Nifti1Image) -> nib.Nifti1Image:
    """The brain of the template in an oblique image of 3 mm."""
    turn = nib.eulerangles.euler2mat(0.15, 0.1, -0.2)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([3.0, 3.0, 3.0])
    affine[:3, 3] = [0, -18, 8] - affine[:3, :3] @ (np.array([72, 80, 72]) / 2)
    return resample_from_to(template_brain, ((72, 80, 72), affine), order=1)


@pytest.fixture(scope='module')
def tissue(template_brain: nib.Nifti1Image) -> nib.Nifti1Image:
    """Fluid, grey and white matter of the template as 1, 2 and 3, as CAT12 numbers them."""
    data = np.asarray(template_brain.dataobj)
    data = data / np.percentile(data[data > 0], 98)
    labels = 1.0 * (data > 0.02) + (data > 0.45) + (data > 0.75)
    return nib.Nifti1Image(labels.astype(np.float32), template_brain.affine)


@pytest.fixture(scope='module')
def conformed(tissue: nib.Nifti1Image) -> nib.Nifti1Image:
    return resample_from_to(tissue, ((256, 256, 256), CONFORMED), order=0)


Save = Callable[[str, np.ndarray], None]


def _mgz(folder: Path, image: nib.Nifti1Image) -> Save:
    def save(name: str, values: np.ndarray) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.MGHImage(values, image.affine), folder / name)

    return save


def _nifti(folder: Path, image: nib.Nifti1Image) -> Save:
    def save(name: str, values: np.ndarray) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, image.affine), folder / name)

    return save


def make_tree(tool: str, folder: Path, images: dict[str, nib.Nifti1Image]) -> str:
    """Write what a tool makes of sub-01_T1w.nii.gz; return the file with its brain."""
    conformed, scan, tissue = (images[name] for name in ('conformed', 'scan', 'tissue'))
    labels = np.asarray(conformed.dataobj)
    native = resample_from_to(tissue, scan, order=0).get_fdata()
    mgz, nifti = _mgz(folder, conformed), _nifti(folder, scan)
    if tool == 'FreeSurfer':
        for name in ('surf/lh.white', 'label/lh.aparc.annot', 'stats/aseg.stats'):
            (folder / 'sub-01' / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / 'sub-01' / name).touch()
        mgz('sub-01/mri/T1.mgz', (80 * labels).astype(np.uint8))
        mgz('sub-01/mri/brainmask.mgz', (35 * labels).astype(np.uint8))
        mgz('fsaverage/mri/brainmask.mgz', np.ones((4, 4, 4), np.uint8))
        return 'sub-01/mri/brainmask.mgz'
    if tool == 'FastSurfer':
        mgz('sub-01_T1w/mri/orig.mgz', (80 * labels).astype(np.uint8))
        segmented = np.select([labels > 2, labels > 1], [2, 1017], 0).astype(np.int16)
        mgz('sub-01_T1w/mri/aparc.DKTatlas+aseg.deep.mgz', segmented)
        return 'sub-01_T1w/mri/aparc.DKTatlas+aseg.deep.mgz'
    if tool == 'SynthSeg':
        whole = np.select([labels > 2, labels > 1, labels > 0], [2, 3, 24], 0).astype(np.int32)
        _nifti(folder, conformed)('sub-01_T1w_synthseg.nii.gz', whole)
        (folder / 'volumes.csv').touch()
        return 'sub-01_T1w_synthseg.nii.gz'
    if tool == 'HD-BET':
        nifti('sub-01_T1w_bet.nii.gz', (100 * native).astype(np.float32))
        nifti('sub-01_T1w_bet_mask.nii.gz', (native > 0).astype(np.uint8))
        return 'sub-01_T1w_bet_mask.nii.gz'
    if tool == 'SynthStrip':
        nifti('sub-01/anat/sub-01_desc-synthstrip_mask.nii', 255 * (native > 0).astype(np.uint8))
        nifti('sub-01/anat/sub-01_label-lesion_mask.nii', (native > 2).astype(np.uint8))
        return 'sub-01/anat/sub-01_desc-synthstrip_mask.nii'
    if tool == 'CAT12':
        background = np.where(native > 0, native, np.nan).astype(np.float32)
        nifti('sub-01/anat/mri/p0sub-01_T1w.nii', background)
        nifti('sub-01/anat/mri/mwp1sub-01_T1w.nii', np.ones((4, 4, 4), np.float32))
        (folder / 'sub-01/anat/report').mkdir()
        return 'sub-01/anat/mri/p0sub-01_T1w.nii'
    for number, value in enumerate((2, 3, 1), start=1):
        nifti(f'sub-01/anat/c{number}sub-01_T1w.nii', 0.9 * (native == value))
    nifti('sub-01/anat/c4sub-01_T1w.nii', 1.0 * (native == 0))
    (folder / 'sub-01/anat/sub-01_T1w_seg8.mat').touch()
    return 'sub-01/anat/c1sub-01_T1w.nii'


NAMES = ('FreeSurfer', 'FastSurfer', 'SynthSeg', 'HD-BET', 'SynthStrip', 'CAT12', 'SPM')


@pytest.mark.parametrize('tool', NAMES)
def test_the_brain_of_a_tool(tool: str, tmp_path: Path, scan, tissue, conformed) -> None:
    images = {'scan': scan, 'tissue': tissue, 'conformed': conformed}
    expected = make_tree(tool, tmp_path / 'tool', images)
    bids = skeletons.make_dataset(tmp_path / 'bids', 'sub-01_T1w.nii.gz')
    (record,) = collect(Settings(bids, tmp_path / 'out', derivatives=(('any', tmp_path / 'tool'),)))
    assert record.derivative_mask == tmp_path / 'tool' / expected
    assert record.derivative_notes == ()
    image = nib.as_closest_canonical(scan)
    mask = load_mask(record.derivative_mask, image)
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
    found, truth = (
        np.asarray(mask.dataobj) > 0.5,
        image.get_fdata() > 0.02 * image.get_fdata().max(),
    )
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.96


def of(bids: Path, tool: Path, **choices: object) -> dict[str, T1wRecord]:
    settings = Settings(bids, bids.parent / 'out', derivatives=(('tool', tool),), **choices)
    return {record.prefix: record for record in collect(settings)}


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_folder_of_several_images_belongs_to_none(tmp_path: Path) -> None:
    bids = skeletons.make_dataset(
        tmp_path / 'bids',
        'sub-01_ses-a_T1w.nii',
        'sub-01_ses-b_run-1_T1w.nii',
        'sub-01_ses-b_run-2_T1w.nii',
        'sub-02_ses-a_T1w.nii',
        empty=True,
    )
    tool = touch(
        tmp_path / 'tool',
        'sub-01/mri/brainmask.mgz',
        'sub-01_ses-a/mri/brainmask.mgz',
        'sub-01_ses-b/mri/brainmask.mgz',
        'sub-01_ses-b_run-2/mri/aparc+aseg.mgz',
        'sub-01_ses-a.long.sub-01/mri/brainmask.mgz',
        'sub-02/ses-a/mri/mask.mgz',
    )
    found = of(bids, tool)
    names = {name: record.derivative_mask for name, record in found.items()}
    assert names['sub-01_ses-a'] == tool / 'sub-01_ses-a/mri/brainmask.mgz'
    assert names['sub-01_ses-b_run-1'] is None
    assert names['sub-01_ses-b_run-2'] == tool / 'sub-01_ses-b_run-2/mri/aparc+aseg.mgz'
    assert names['sub-02_ses-a'] == tool / 'sub-02/ses-a/mri/mask.mgz'


def test_masks_of_others_and_of_other_things(tmp_path: Path) -> None:
    bids = skeletons.make_dataset(
        tmp_path / 'bids', 'sub-roi1_T1w.nii', 'sub-roi1_acq-b_T1w.nii', empty=True
    )
    tool = touch(
        tmp_path / 'tool',
        'sub-roi1_acq-b_T1w_mask.nii.gz',
        'sub-roi1_T1w_lesion_mask.nii.gz',
        'sub-roi1_label-GM_mask.nii.gz',
        'sub-roi1_space-MNI152NLin6Asym_mask.nii.gz',
        'sub-roi11_T1w_mask.nii.gz',
        'sub-roi1_mask.nii.gz',  # of which of the two?
        '._sub-roi1_T1w_mask.nii.gz',
    )
    found = of(bids, tool)
    assert found['sub-roi1'].derivative_mask is None
    assert found['sub-roi1_acq-b'].derivative_mask == tool / 'sub-roi1_acq-b_T1w_mask.nii.gz'
    touch(tool, 'sub-roi1_T1w_bet_mask.nii.gz')
    path = tool / 'sub-roi1_T1w_bet_mask.nii.gz'
    assert of(bids, tool)['sub-roi1'].derivative_mask == path


@pytest.mark.parametrize(
    ('files', 'named'),
    [
        (['sub-01/mri/T1.mgz'], 'mri/brainmask.mgz'),
        (['c1sub-01_T1w.nii', 'c3sub-01_T1w.nii'], 'c2sub-01_T1w.nii'),
        (['sub-01_T1w_a_mask.nii', 'sub-01_T1w_b_mask.nii'], 'sub-01_T1w_b_mask.nii'),
    ],
)
def test_missing_and_ambiguous_files_are_named(
    files: list[str], named: str, tmp_path: Path
) -> None:
    bids = skeletons.make_dataset(tmp_path / 'bids', 'sub-01_T1w.nii.gz')
    record = of(bids, touch(tmp_path / 'tool', *files))['sub-01']
    assert record.derivative_mask is None
    assert any(named in note for note in record.derivative_notes)
    settings = Settings(bids, tmp_path / 'out', derivatives=(('tool', tmp_path / 'tool'),))
    (row,) = preflight([record], settings.replace(skip_bids_validation=True), None)
    assert any(named in note for note in row.notes)


@pytest.mark.parametrize(
    ('name', 'file'),
    [
        ('aparc+aseg', 'sub-01_T1w/mri/aparc+aseg.mgz'),
        ('aparc+aseg', 'sub-01/mri/aparc.DKTatlas+aseg.deep.mgz'),
        ('aseg', 'sub-01/mri/aseg.mgz'),
        ('synthseg', 'sub-01/anat/sub-01_T1w_synthseg.nii.gz'),
    ],
)
def test_the_regions_of_a_scan(name: str, file: str, tmp_path: Path) -> None:
    bids = skeletons.make_dataset(tmp_path / 'bids', 'sub-01_T1w.nii.gz', 'sub-02_T1w.nii.gz')
    tool = touch(tmp_path / 'tool', file, 'sub-02/mri/aseg.presurf.mgz')
    found = of(bids, tool, atlas=name)
    assert found['sub-01'].segmentation == tool / file
    assert found['sub-02'].segmentation is None
    assert any(name in note for note in found['sub-02'].derivative_notes)
    assert not any(name in note for note in found['sub-01'].derivative_notes)
    # Without --atlas they are masks at most.
    assert of(bids, tool)['sub-01'].segmentation is None


def test_regions_that_no_scan_has(tmp_path: Path) -> None:
    bids = skeletons.make_dataset(tmp_path / 'bids', 'sub-01_T1w.nii.gz')
    tool = touch(tmp_path / 'tool', 'sub-01/mri/aseg.mgz')
    with pytest.raises(UsageError, match='synthseg') as caught:
        of(bids, tool, atlas='synthseg')
    assert str(tool) in caught.value.message
    with pytest.raises(UsageError, match='aseg'):
        collect(Settings(bids, tmp_path / 'out', atlas='aseg'))


def test_a_folder_of_clinica_is_refused_by_name(tmp_path: Path) -> None:
    bids = skeletons.make_dataset(tmp_path / 'bids', 'sub-01_T1w.nii.gz')
    space = 'space-MNI152NLin2009cSym'
    caps = touch(
        tmp_path / 'caps',
        f'subjects/sub-01/ses-M000/t1_linear/sub-01_ses-M000_{space}_desc-Crop_res-1x1x1_T1w.nii.gz',
    )
    with pytest.raises(UsageError, match='CAPS') as caught:
        of(bids, caps)
    assert str(caps) in caught.value.message


def test_each_tool_can_be_found_alone() -> None:
    assert len({tool.name for tool in TOOLS}) == len(TOOLS)
    nowhere = T1wRecord(Path('sub-01_T1w.nii'), '01', None, {'sub': '01'})
    assert find_tool_file(nowhere, [nowhere], Path('/nowhere')).path is None


@pytest.mark.parametrize('fault', ['elsewhere', 'background', 'tissue', 'series', 'empty'])
def test_a_brain_of_another_image_is_refused(fault: str, tmp_path: Path, scan) -> None:
    image = nib.as_closest_canonical(scan)
    values = (image.get_fdata() > 0.02 * image.get_fdata().max()).astype(np.float32)
    affine, name = image.affine.copy(), 'sub-01_T1w_mask.nii.gz'
    if fault == 'elsewhere':
        affine[:3, 3] += 120
    elif fault == 'background':
        values = np.roll(values, 8, axis=0)
    elif fault == 'tissue':
        name = 'c1sub-01_T1w.nii'
        nib.save(nib.Nifti1Image(values[1:], affine), tmp_path / 'c2sub-01_T1w.nii')
    elif fault == 'series':
        values = np.stack([values, values], axis=-1)
    else:
        values[:] = np.nan
    nib.save(nib.Nifti1Image(values, affine), tmp_path / name)
    with pytest.raises(ImageError) as caught:
        load_mask(tmp_path / name, image)
    assert name in caught.value.message
