"""Templates and atlases of other spaces."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical import templates
from bids_interp.anatomical.spaces import atlas as atlases
from bids_interp.anatomical.spaces import template_transform as transforms
from bids_interp.anatomical.spaces.atlas import read_atlas
from bids_interp.anatomical.spaces.template_transform import TemplateTransform, template_transform
from bids_interp.anatomical.templates import brain_template
from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.errors import TemplateError, UsageError
from bids_interp.group.maps.map_reader import MaskedGrid
from bids_interp.group.maps.named_regions import find_regions
from bids_interp.levels.train_inputs import save_model_grid
from bids_interp.settings import Settings
from bids_interp.spatial import Grid
from bids_interp.training.cohort.storage import load_input_space
from bids_interp.training.recipe import make_recipe

OTHER = 'MNI152NLinTest'
#: From the embedded template to the other one: 3 % larger, and shifted by some mm.
SCALED = np.array([[1.03, 0, 0, 2], [0, 1.03, 0, -3], [0, 0, 1.03, 2], [0, 0, 0, 1]])


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TemplateFlow with the embedded brain, scaled and shifted, as another template."""
    brain = brain_template()
    data = np.asarray(brain.dataobj)[::2, ::2, ::2]
    affine = SCALED @ brain.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    folder = tmp_path / 'flow' / f'tpl-{OTHER}'
    folder.mkdir(parents=True)
    for name, values in (('T1w', data), ('desc-brain_mask', (data > 0).astype(np.float32))):
        image = nib.Nifti1Image(values, affine)
        nib.save(image, folder / f'tpl-{OTHER}_res-02_{name}.nii.gz')
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path / 'flow'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return folder


def brain_points() -> np.ndarray:
    brain = brain_template()
    grid = Grid.from_image(brain)
    return grid.world_coordinates()[:, np.asarray(brain.dataobj) > 0][:, ::97]


def test_templates_are_registered_once(flow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, 'FIELD_MM', 8.0)
    points = brain_points()
    found = template_transform(EMBEDDED_TEMPLATE, OTHER)
    assert found.source == 'SyN'
    expected = nib.affines.apply_affine(SCALED, points.T).T
    errors = np.linalg.norm(found(points) - expected, axis=0)
    before = np.linalg.norm(points - expected, axis=0)
    assert errors.mean() < 0.5 * before.mean()
    (kept,) = (flow.parents[1] / 'cache').rglob('*.npz')

    def refuse(*_: object) -> None:
        raise AssertionError('the templates were registered again')

    monkeypatch.setattr(transforms, '_registered', refuse)
    np.testing.assert_array_equal(
        template_transform(EMBEDDED_TEMPLATE, OTHER)(points), found(points)
    )
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(AssertionError):
        template_transform(EMBEDDED_TEMPLATE, OTHER)


def test_templates_that_are_not_alike(flow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, 'FIELD_MM', 12.0)
    monkeypatch.setattr(transforms, 'ENOUGH', 0.9999)
    with pytest.raises(TemplateError, match=OTHER):
        template_transform(EMBEDDED_TEMPLATE, OTHER)
    assert not list(flow.parents[1].glob('cache/**/*.npz'))


def test_a_cache_that_cannot_be_written(flow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (flow.parents[1] / 'cache').touch()  # a file in the place of the folder
    known = np.full((3, *transforms.Grid.from_image(brain_template()).with_spacing(3.0).shape), 2.0)
    monkeypatch.setattr(transforms, '_registered', lambda *_: known)
    points = np.array([[1.0], [2.0], [3.0]])
    np.testing.assert_allclose(
        template_transform(EMBEDDED_TEMPLATE, OTHER)(points), points + 2, atol=1e-6
    )


def test_a_transform_of_templateflow_is_preferred(flow: Path, tmp_path: Path) -> None:
    import ants

    folder = tmp_path / 'flow' / f'tpl-{EMBEDDED_TEMPLATE}'
    folder.mkdir()
    shift = ants.new_ants_transform(dimension=3, transform_type='AffineTransform')
    shift.set_parameters([1, 0, 0, 0, 1, 0, 0, 0, 1, 4, 5, 6])  # LPS
    path = folder / f'tpl-{EMBEDDED_TEMPLATE}_from-{OTHER}_mode-image_xfm.h5'
    ants.write_transform(shift, str(path))
    found = template_transform(EMBEDDED_TEMPLATE, OTHER)
    assert found.source == 'TemplateFlow'
    np.testing.assert_allclose(found(np.zeros((3, 1)))[:, 0], [-4, -5, 6], atol=1e-4)


def test_a_template_to_itself_and_to_nowhere(flow: Path) -> None:
    same = template_transform(EMBEDDED_TEMPLATE, EMBEDDED_TEMPLATE)
    assert same.source == 'identity'
    np.testing.assert_array_equal(same(np.ones((3, 2))), np.ones((3, 2)))
    with pytest.raises(TemplateError, match='MNI305'):
        template_transform(EMBEDDED_TEMPLATE, 'MNI305')


def test_a_template_at_2_mm_alone_is_interpolated(
    flow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, own = brain_template(OTHER), brain_template()
    np.testing.assert_allclose(nib.affines.voxel_sizes(other.affine), 1.0, atol=1e-4)
    grid = Grid.from_image(other)
    points = nib.affines.apply_affine(SCALED, brain_points().T)
    moved = transforms._sampled(other, points.T)
    known = transforms._sampled(own, brain_points())
    assert np.corrcoef(moved, known)[0, 1] > 0.95
    assert grid.shape == tuple(round(2.06 * n) for n in nib.load(next(flow.glob('*T1w*'))).shape)
    # Nor is it refused if the finer one cannot be downloaded.
    monkeypatch.setattr(templates, '_fetched', no_network)
    assert Grid.from_image(brain_template(OTHER, offline=False)).matches(grid)
    for path in flow.iterdir():
        path.unlink()
    for offline in (True, False):
        with pytest.raises(TemplateError, match=OTHER):
            brain_template(OTHER, offline=offline)


def no_network(name: str, resolutions: tuple[str, ...]) -> None:
    raise TemplateError(f'Template {name} could not be downloaded: no network.')


def test_a_model_in_another_template(flow: Path, tmp_path: Path) -> None:
    settings = Settings('/bids', '/out', 'train', label='dx', positive='a', model_template=OTHER)
    recipe = make_recipe(preset='fast', spacing_mm=8.0)
    assert save_model_grid(tmp_path / 'grid.safetensors', settings, recipe) == OTHER
    grid, mask, _ = load_input_space(tmp_path / 'grid.safetensors')
    assert grid.space == OTHER
    # The brain of the scaled template is in the middle of the grid, and 9 % larger.
    corners = nib.affines.apply_affine(grid.affine, np.argwhere(mask))
    usual = settings.replace(model_template=None)
    assert save_model_grid(tmp_path / 'own.safetensors', usual, recipe) == EMBEDDED_TEMPLATE
    own_grid, own_mask, _ = load_input_space(tmp_path / 'own.safetensors')
    own = nib.affines.apply_affine(own_grid.affine, np.argwhere(own_mask))
    expected = nib.affines.apply_affine(SCALED, own).mean(axis=0)
    np.testing.assert_allclose(corners.mean(axis=0), expected, atol=2)
    assert 1.03 < mask.sum() / own_mask.sum() < 1.16


@pytest.fixture
def labels(flow: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An atlas of the other template: two blocks in its world."""
    data = np.zeros((40, 40, 40), np.int16)
    data[8:16, 18:24, 18:24], data[24:32, 18:24, 18:24] = 3, 4
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -80
    image = nib.Nifti1Image(data, affine)
    nib.save(image, flow / f'tpl-{OTHER}_res-01_atlas-Two_desc-all_dseg.nii.gz')
    table = 'index\tname\n3\tLeft-Block\n4\tRight-Block\n'
    (flow / f'tpl-{OTHER}_atlas-Two_desc-all_dseg.tsv').write_text(table)
    own = flow.parents[1] / 'mine'
    own.mkdir()
    for name in (f'atlas_space-{OTHER}_dseg', 'plain', 'atlas_space-MNI152_dseg'):
        nib.save(image, own / f'{name}.nii.gz')
        (own / f'{name}.tsv').write_text(table)

    def shifted(origin: str, target: str, **_: object) -> TemplateTransform:
        assert (origin, target) == (EMBEDDED_TEMPLATE, OTHER)
        grid = Grid((2, 2, 2), np.diag([100.0, 100.0, 100.0, 1.0]), origin)
        return TemplateTransform(grid, np.full((3, 2, 2, 2), 20.0), 'made up')

    monkeypatch.setattr(atlases, 'template_transform', shifted)
    return own


@pytest.mark.parametrize(
    ('text', 'moves'),
    [
        ('{mine}/plain.nii.gz', False),
        ('{mine}/atlas_space-MNI152_dseg.nii.gz', False),  # not a template
        ('{mine}/atlas_space-' + OTHER + '_dseg.nii.gz', True),
        (OTHER + ':{mine}/plain.nii.gz', True),
        (OTHER + ':Two', True),
        (OTHER + ':Two:all', True),
    ],
)
def test_an_atlas_in_the_space_of_the_model_or_another(
    text: str, moves: bool, labels: Path
) -> None:
    found = read_atlas(text.format(mine=labels), None, EMBEDDED_TEMPLATE)
    assert (found.space == OTHER) is moves
    # In the world of the atlas the left block is around (-34, 2, 2).
    place = np.array([[-34.0], [2.0], [2.0]])
    assert found.at(place - (20 if moves else 0), EMBEDDED_TEMPLATE).tolist() == [3]
    assert found.at(place + 500, EMBEDDED_TEMPLATE).tolist() == [0]
    assert (found.name(4), found.name(9)) == ('Right-Block', 'region 9')


def test_regions_of_a_group_in_another_space(labels: Path) -> None:
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -100
    masked = MaskedGrid(Grid((45, 45, 45), affine, EMBEDDED_TEMPLATE), np.ones((45,) * 3, bool))
    regions = find_regions(masked, f'{OTHER}:Two', None)
    assert regions.names == [('Block', 'left'), ('Block', 'right')]
    assert regions.sizes.tolist() == [288, 288]
    assert OTHER in regions.source
    rows = regions.members.toarray().reshape(2, 45, 45, 45)
    centre = nib.affines.apply_affine(affine, np.argwhere(rows[0]).mean(axis=0))
    np.testing.assert_allclose(centre, [-54, -18, -18], atol=2.1)


def test_atlases_that_cannot_be_used(labels: Path) -> None:
    with pytest.raises(TemplateError, match='Three'):
        read_atlas(f'{OTHER}:Three', None, EMBEDDED_TEMPLATE)
    with pytest.raises(TemplateError, match='Two:some'):
        read_atlas(f'{OTHER}:Two:some', None, EMBEDDED_TEMPLATE)
    (labels / 'names.tsv').write_text('number\n1\n')
    with pytest.raises(UsageError, match=r'names\.tsv'):
        read_atlas(str(labels / 'plain.nii.gz'), labels / 'names.tsv', EMBEDDED_TEMPLATE)


@pytest.mark.real
@pytest.mark.slow
def test_a_published_atlas_in_the_space_of_the_model(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AAL, drawn in FSL's space: its regions keep their sides and their tissue."""
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(shared_data / 'templateflow'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    file = shared_data / 'data' / 'atlases' / 'atlas-AAL_space-MNI152_dseg.nii.gz'
    brain = brain_template()
    inside = np.asarray(brain.dataobj) > 0
    masked = MaskedGrid(Grid.from_image(brain, EMBEDDED_TEMPLATE), inside)
    regions = find_regions(masked, f'MNI152NLin6Asym:{file}', None, threads=2)
    assert len(regions.names) == 116
    points = masked.grid.world_coordinates()[:, inside]
    for name, side, expected in (
        ('Thalamus', 'left', [-11, -18, 8]),
        ('Hippocampus', 'right', [29, -20, -10]),
        ('Caudate', 'right', [15, 12, 9]),
    ):
        row = regions.members[[regions.names.index((name, side))]]
        centre = points[:, row.indices].mean(axis=1)
        assert np.linalg.norm(centre - expected) < 4
