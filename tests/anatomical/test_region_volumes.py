"""Volumes of regions in the scan and in its simulation, on grids of every orientation."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical.spaces.atlas import Atlas, segmentation_atlas, split_side
from bids_interp.anatomical.spaces.region_volumes import label_scan, region_volumes
from bids_interp.bids.write.atomic import write_json
from bids_interp.errors import ImageError
from bids_interp.interfaces.regions import COLUMNS, MeasureRegions
from bids_interp.spatial import Grid

TEMPLATE = 'MNI152NLin2009aSym'
#: From the world of the scan to the template: turned, 10 % smaller along one axis, and shifted.
TO_TEMPLATE = np.array(
    [[0.99, -0.1, 0, 6], [0.09, 0.9, 0.05, -4], [0, -0.04, 1.0, 9], [0, 0, 0, 1]]
)
#: Centre in the template (mm), half the edges of the box (mm), label and planted log-Jacobian.
BOXES = {
    3: ((-30.0, -12.0, -8.0), (9.0, 15.0, 7.0), -0.25),
    4: ((30.0, -12.0, -8.0), (9.0, 15.0, 7.0), 0.15),
    7: ((0.0, 30.0, 24.0), (8.0, 8.0, 8.0), 0.0),
}
NAMES = {3: 'Left-Hippocampus', 4: 'Right-Hippocampus', 7: 'Front'}


def inside(points: np.ndarray, label: int, grow: float = 0.0) -> np.ndarray:
    """Return the template points (3, N) in a box."""
    centre, halves, _ = BOXES[label]
    offset = np.abs(points - np.array(centre)[:, None])
    return (offset <= np.array(halves)[:, None] + grow).all(axis=0)


def flat(grid: Grid, affine: np.ndarray | None = None) -> np.ndarray:
    """Return the world points (3, N) of a grid, moved by an affine."""
    points = grid.world_coordinates().reshape(3, -1)
    return points if affine is None else nib.affines.apply_affine(affine, points.T).T


def grid_of(orientation: str) -> Grid:
    """Return a native grid around the brain: any axes, oblique or not, voxels of 2 x 2 x 2.5."""
    name, _, kind = orientation.partition(' ')
    turn = nib.eulerangles.euler2mat(0.2, -0.15, 0.1) if kind else np.eye(3)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([2.0, 2.0, 2.5])
    affine[:3, 3] = -affine[:3, :3] @ (np.array([80, 96, 72]) / 2)
    image = nib.Nifti1Image(np.zeros((80, 96, 72), np.uint8), affine)
    target = nib.orientations.axcodes2ornt(tuple(name))
    now = nib.io_orientation(affine)
    return Grid.from_image(image.as_reoriented(nib.orientations.ornt_transform(now, target)), 'T1w')


def native_images(grid: Grid) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Return a brain mask and the planted log-Jacobian."""
    points = flat(grid, TO_TEMPLATE)
    values = np.zeros(points.shape[1], np.float32)
    for label, (_, _, planted) in BOXES.items():
        values[inside(points, label, grow=5.0)] = planted
    mask = np.ones(grid.shape, np.uint8)
    return grid.to_image(mask, np.uint8), grid.to_image(values.reshape(grid.shape))


@pytest.fixture(scope='module')
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    """An atlas of the template, whose axes point to the left and downwards."""
    affine = np.diag([-1.5, 1.5, -1.5, 1.0])
    affine[:3, 3] = [90, -90, 80]
    grid = Grid((120, 120, 100), affine, TEMPLATE)
    points, data = flat(grid), np.zeros(grid.shape, np.int16)
    for label in BOXES:
        data[inside(points, label).reshape(grid.shape)] = label
    path = tmp_path_factory.mktemp('atlas') / 'atlas-Boxes_dseg.nii.gz'
    nib.save(grid.to_image(data, np.int16), path)
    return Atlas(path, TEMPLATE, NAMES, 'Boxes')


@pytest.mark.parametrize('orientation', ['RAS', 'LPI', 'PIR', 'RAS oblique', 'LPI oblique'])
def test_a_planted_change_is_in_the_row_of_its_region(orientation: str, atlas: Atlas) -> None:
    mask, change = native_images(grid_of(orientation))
    voxels = label_scan(atlas, mask, TO_TEMPLATE, TEMPLATE)
    rows = {row.index: row for row in region_volumes(voxels, change, atlas)}
    assert sorted(rows) == sorted(BOXES)
    shrink = abs(np.linalg.det(TO_TEMPLATE))
    drawn = np.asarray(atlas.image.dataobj)
    for label, (_, _, planted) in BOXES.items():
        row = rows[label]
        assert row.logj == pytest.approx(planted, abs=1e-6)
        assert row.pct == pytest.approx(100 * np.expm1(planted), abs=1e-4)
        size = 1.5**3 * (drawn == label).sum()
        assert row.volume_mm3 == pytest.approx(size / shrink, rel=0.06)
        assert row.simulated_mm3 == pytest.approx(row.volume_mm3 * np.exp(planted), rel=1e-6)
    assert (rows[3].region, rows[3].side) == ('Hippocampus', 'left')
    assert (rows[7].region, rows[7].side) == ('Front', 'midline')
    # A map whose first axis is flipped has the change on the other side.
    right = int(np.flatnonzero([code in 'LR' for code in nib.aff2axcodes(mask.affine)])[0])
    data = np.flip(np.asarray(change.dataobj), right)
    flipped = region_volumes(voxels, nib.Nifti1Image(data, change.affine), atlas)
    assert flipped[0].logj > -0.1
    assert flipped[1].logj < 0.1


def test_only_the_brain_is_measured(atlas: Atlas) -> None:
    mask, change = native_images(grid_of('RAS'))
    half = np.asarray(mask.dataobj) * (flat(grid_of('RAS'))[0].reshape(mask.shape) < 0)
    voxels = label_scan(atlas, nib.Nifti1Image(half, mask.affine), TO_TEMPLATE, TEMPLATE)
    assert 4 not in voxels.labels
    assert [row.index for row in region_volumes(voxels, change, atlas)] == [3, 7]
    with pytest.raises(ImageError, match=r'atlas-Boxes_dseg\.nii\.gz'):
        label_scan(atlas, nib.Nifti1Image(0 * half, mask.affine), TO_TEMPLATE, TEMPLATE)


def test_a_segmentation_keeps_the_volumes_of_its_tool(tmp_path: Path) -> None:
    """FreeSurfer's grid: 1 mm, axes to the left, down and to the front."""
    conformed = np.array([[-1, 0, 0, 80], [0, 0, 1, -80], [0, -1, 0, 70], [0, 0, 0, 1.0]])
    grid = Grid((160, 140, 160), conformed, 'T1w')
    points, data = flat(grid, TO_TEMPLATE), np.zeros(grid.shape, np.int32)
    numbers = {3: 17, 4: 2015, 7: 9999}
    for label, number in numbers.items():
        data[inside(points, label).reshape(grid.shape)] = number
    nib.save(nib.MGHImage(data, conformed), tmp_path / 'aparc+aseg.mgz')
    atlas = segmentation_atlas('aparc+aseg', tmp_path / 'aparc+aseg.mgz')
    assert (atlas.space, atlas.label) == ('T1w', 'aparcaseg')
    mask, change = native_images(grid_of('LPI oblique'))
    voxels = label_scan(atlas, mask, np.eye(4), TEMPLATE)  # the template does not matter
    rows = {row.index: row for row in region_volumes(voxels, change, atlas)}
    for label, number in numbers.items():
        assert rows[number].volume_mm3 == (data == number).sum()
        assert rows[number].logj == pytest.approx(BOXES[label][2], abs=1e-6)
    named = {number: (rows[number].region, rows[number].side) for number in rows}
    assert named == {
        17: ('Hippocampus', 'left'),
        2015: ('ctx-middletemporal', 'right'),
        9999: ('region 9999', 'midline'),
    }


def test_the_names_of_freesurfer(tmp_path: Path) -> None:
    names = segmentation_atlas('synthseg', tmp_path).names
    # Both hemispheres have the same structures, the cortex 1000 further.
    sides = {name: split_side(name) for name in names.values()}
    left = {region for region, side in sides.values() if side == 'left'}
    assert left == {region for region, side in sides.values() if side == 'right'}
    assert len(left) == 17 + 36
    assert all(names[n + 1000] == names[n].replace('lh', 'rh') for n in range(1000, 1036))
    assert (names[17], names[53], names[1035]) == (
        'Left-Hippocampus',
        'Right-Hippocampus',
        'ctx-lh-insula',
    )


def test_the_table_of_the_node(tmp_path: Path, atlas: Atlas) -> None:
    mask, change = native_images(grid_of('PIR'))
    nib.save(mask, tmp_path / 'mask.nii.gz')
    doses, paths = [0.5, 1.0], []
    for direction, sign in (('remove', -1), ('inject', 1)):
        for percent in (100, 50):
            data = sign * percent / 100 * np.asarray(change.dataobj)
            paths.append(tmp_path / f'logjacobian_native_{direction}{percent:03d}.nii.gz')
            nib.save(nib.Nifti1Image(data, change.affine), paths[-1])
    matrix = write_json(tmp_path / 'x.json', {'native_to_template': TO_TEMPLATE.tolist()})
    (tmp_path / 'node').mkdir()
    node = MeasureRegions(
        log_jacobian=[str(path) for path in paths],
        doses=doses,
        mask=str(tmp_path / 'mask.nii.gz'),
        to_template=str(matrix),
        template=TEMPLATE,
        atlas=str(atlas.path),
        atlas_space=atlas.space,
        names=atlas.names,
    )
    table = Path(node.run(cwd=str(tmp_path / 'node')).outputs.regions)
    header, *lines = (line.split('\t') for line in table.read_text().splitlines())
    assert tuple(header) == COLUMNS
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    found = {
        (row['direction'], float(row['dose']), int(row['index'])): float(row['logj'])
        for row in rows
    }
    assert found == {
        (direction, dose, label): pytest.approx(sign * dose * BOXES[label][2], abs=1e-6)
        for direction, sign in (('inject', 1), ('remove', -1))
        for dose in doses
        for label in BOXES
    }
