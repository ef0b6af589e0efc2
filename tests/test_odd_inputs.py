"""The benchmark of odd inputs judges: right is right, and what is wrong without a word is found."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from helpers.scripts import load_script

BENCHMARKS = Path(__file__).parent.parent / 'benchmarks'


@pytest.fixture(scope='module')
def scripts():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        names = ('odd_inputs', 'brain_limits')
        return SimpleNamespace(**{n: load_script(BENCHMARKS / f'{n}.py') for n in names})
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope='module')
def odd_inputs(scripts):
    return scripts.odd_inputs


SHAPE = (30, 36, 32)
AFFINE = nib.affines.from_matvec(np.diag([2.0, 2, 2]), (-28, -40, -20))
SPOT = np.array([20, 9, 24])


def spot() -> np.ndarray:
    data = np.zeros(SHAPE, np.float32)
    data[tuple(SPOT)] = 1
    return ndimage.gaussian_filter(data, 1.5)


def centre(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return nib.affines.apply_affine(affine, ndimage.center_of_mass(data))


def turned(data: np.ndarray, axis: int, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """A head turned in the plane of the two other axes, on a grid with 16 voxels more."""
    padded = np.pad(data, 16)
    middle = (np.array(padded.shape) - 1) / 2
    i, j = (k for k in range(3) if k != axis)
    angle = np.radians(degrees)
    turn = np.eye(3)
    turn[[i, j, i, j], [i, j, j, i]] = np.cos(angle), np.cos(angle), -np.sin(angle), np.sin(angle)
    affine = AFFINE.copy()
    affine[:3, 3] -= AFFINE[:3, :3] @ np.full(3, 16)
    return ndimage.affine_transform(padded, turn, middle - turn @ middle, order=1), affine


def made(odd_inputs, kind: str) -> nib.Nifti1Image:
    data, affine = spot(), AFFINE
    if kind in odd_inputs.ROTATIONS:
        data, affine = turned(data, *odd_inputs.ROTATIONS[kind])
    elif kind in odd_inputs.FLIPS:
        data = np.flip(data, odd_inputs.FLIPS[kind])
    elif kind in odd_inputs.TURNS:
        data, affine = data.transpose(odd_inputs.TURNS[kind]), np.diag([2.0, 2, 2, 1])
    elif kind == 'far':
        affine = affine + np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 3000], [0] * 4])
    return nib.Nifti1Image(data, affine)


@pytest.mark.parametrize(
    'kind',
    ['clean', 'far', 'pitch35', 'pitchm35', 'roll35', 'yaw60', 'roll90', 'turnx180', 'turny180',
     'perm120', 'perm201'],
)  # fmt: skip
def test_a_place_in_a_clean_brain_is_found_in_an_odd_one(odd_inputs, kind: str) -> None:
    clean, odd = nib.Nifti1Image(spot(), AFFINE), made(odd_inputs, kind)
    world = odd_inputs.moved(kind, clean, odd)
    where = nib.affines.apply_affine(world, centre(spot(), AFFINE))
    np.testing.assert_allclose(where, centre(np.asarray(odd.dataobj), odd.affine), atol=0.1)


@pytest.mark.parametrize('kind', ['flipy', 'flipz', 'flipxyz', 'perm021', 'perm102'])
def test_a_mirrored_brain_has_no_right_place(odd_inputs, kind: str) -> None:
    clean = nib.Nifti1Image(spot(), AFFINE)
    assert odd_inputs.moved(kind, clean, made(odd_inputs, kind)) is None


def test_displacement_is_the_distance_between_two_placements(odd_inputs) -> None:
    shift = nib.affines.from_matvec(np.diag([1, 1, 1.1]), (3, 4, 0))
    first = SimpleNamespace(native_to_template=np.diag([1.1, 1.1, 1.1, 1]))
    second = SimpleNamespace(native_to_template=shift @ first.native_to_template)
    mask = np.zeros((200, 200, 200))
    mask[:, :, 100:102] = 1
    shown = nib.Nifti1Image(mask, nib.affines.from_matvec(np.eye(3), (-100, -100, -100)))
    found = odd_inputs.displacement(first, second, np.eye(4), shown)
    assert found == pytest.approx(5, abs=0.02)


def processed(**changes):
    image = nib.Nifti1Image(np.arange(24.0).reshape(2, 3, 4), np.eye(4))
    result = SimpleNamespace(warnings=(), to_dict=lambda: {'missing_regions': ['vertex']})
    default = {
        'img': image, 'report': SimpleNamespace(warnings=[]), 'result': result, 'litres': 1.0,
        'placed': np.arange(8.0), 'prepared': SimpleNamespace(stripped_input=True),
    }  # fmt: skip
    return SimpleNamespace(**{**default, **changes})


def test_a_judge_tells_right_from_wrong(odd_inputs) -> None:
    clean, good = processed(), processed()
    warned = processed(result=SimpleNamespace(**{**vars(good.result), 'warnings': ('x',)}))
    right, caution, wrong = odd_inputs.RIGHT, odd_inputs.CAUTION, odd_inputs.WRONG
    for judge, odd, mm, outcome in [
        (odd_inputs.as_clean, good, 0.9, right),
        (odd_inputs.as_clean, good, 1.1, wrong),
        (odd_inputs.same_brain, good, 9.0, right),
        (odd_inputs.same_brain, processed(placed=np.arange(8.0) % 3), 0.0, wrong),
        (odd_inputs.stripped, good, 0.5, right),
        (odd_inputs.stripped, good, 1.5, wrong),
        (odd_inputs.stripped, processed(prepared=SimpleNamespace(stripped_input=False)), 0, wrong),
        (odd_inputs.same_mask, processed(litres=1.02), 0.0, right),
        (odd_inputs.same_mask, processed(litres=0.95), 0.0, wrong),
        (odd_inputs.aligned, good, 1.9, right),
        (odd_inputs.aligned, good, 90.0, wrong),
        (odd_inputs.aligned, good, float('nan'), wrong),
        (odd_inputs.aligned, warned, 90.0, caution),
        (odd_inputs.partial, warned, 1.9, caution),
        (odd_inputs.partial, warned, 2.1, wrong),
        (odd_inputs.partial, good, 0.0, wrong),
        (odd_inputs.never, good, 0.0, wrong),
    ]:
        assert judge(clean, odd, mm)[0] == outcome, (judge.__name__, mm)


def test_the_same_input_has_the_same_voxels_and_place(odd_inputs) -> None:
    clean = processed()
    data = np.asarray(clean.img.dataobj)
    outcomes = [
        odd_inputs.same_input(clean, nib.Nifti1Image(voxels, affine), kind)[0]
        for voxels, affine, kind in [
            (data, np.eye(4), 'las'),
            (1e9 * data, np.eye(4), 'hugeval'),
            (1e9 * data, np.eye(4), 'las'),
            (data, np.diag([1.1, 1, 1, 1]), 'las'),
            (data[::-1], np.eye(4), 'las'),
        ]
    ]
    right, wrong = odd_inputs.RIGHT, odd_inputs.WRONG
    assert outcomes == [right, right, wrong, wrong, wrong]


TABLES = """
H = 'participant_id\\tgroup\\n'
WANT = {'sub-01': 0.0, 'sub-02': 1.0}
TABLES = {
    'plain': H + 'sub-01\\tCN\\nsub-02\\tAD\\n',
    'encoding': (H + 'sub-01\\tCN\\nsub-02\\tAD\\xe9\\n').encode('latin-1'),
    'swapped': H + 'sub-01\\tAD\\nsub-02\\tCN\\n',
}
"""
DATASETS = """
for name in appledouble latin1; do
  mkdir -p "$2/$name/sub-01/anat"
  cp "$1" "$2/$name/sub-01/anat/sub-01_T1w.nii.gz"
done
echo '{"Name": "x", "BIDSVersion": "1.8.0"}' > "$2/appledouble/dataset_description.json"
printf '{"Name": "\\xe9"}' > "$2/latin1/dataset_description.json"
"""


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    cases, anat = tmp_path / 'cases', tmp_path / 'data' / 'sub-09' / 'anat'
    cases.mkdir()
    anat.mkdir(parents=True)
    (cases / 'odd_images.py').write_text('V = {}')
    (cases / 'odd_tables.py').write_text(TABLES)
    (cases / 'odd_datasets.sh').write_text(DATASETS)
    nib.save(nib.Nifti1Image(spot(), AFFINE), anat / 'sub-09_T1w.nii.gz')
    return ['--cases', str(cases), '--data', str(tmp_path / 'data'), '--subjects', '09']


def test_a_row_that_is_wrong_ends_with_an_error(odd_inputs, places, capsys, monkeypatch) -> None:
    image = odd_inputs.Verdict('yaw60', '09', 'orientation', odd_inputs.RIGHT, 0.4)
    monkeypatch.setattr(odd_inputs, 'run_images', lambda bench, options: [image])
    assert odd_inputs.main(places) == 1
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split(' | ')[0].strip('| '): line.split(' | ')[1:-1] for line in lines[1:6]}
    assert rows['orientation'] == ['1', '1', '1', '0', '0', '0']
    assert rows['datasets'] == ['2', '2', '1', '0', '1', '0']
    assert rows['tables'] == ['3', '3', '1', '0', '1', '1']
    assert [line for line in lines if 'wrong: swapped' in line]


def test_a_log_is_continued(odd_inputs, places, tmp_path: Path, monkeypatch) -> None:
    maker = "def seg(source, out): open(out, 'wb').write(b'no image')\nV = {'seg': seg}"
    (tmp_path / 'cases' / 'odd_images.py').write_text(maker)
    (tmp_path / 'files').mkdir()
    bench = odd_inputs.Bench(tmp_path / 'cases', tmp_path / 'data', tmp_path / 'files')
    monkeypatch.setattr(odd_inputs.Bench, 'clean', lambda self, subject: processed())
    verdict = bench.judge(('09', 'seg'))
    assert (verdict.outcome, verdict.row) == (odd_inputs.REFUSED, 'labels, phase and T2w named T1w')
    log = tmp_path / 'log.jsonl'
    options = SimpleNamespace(log=log, kinds=['seg'], subjects=['09'], processes=1, every=False)
    log.write_text(odd_inputs.json.dumps(odd_inputs.asdict(verdict)) + '\n')
    assert odd_inputs.run_images(bench, options) == odd_inputs._earlier(log)
    assert len(log.read_text().splitlines()) == 1


def test_every_kind_and_every_brain_is_judged_in_each_row(odd_inputs) -> None:
    kinds = odd_inputs.rows_of([*odd_inputs.ROTATIONS, 'seg', 'psr', 'bias', 'unknown'])
    assert 'unknown' not in kinds
    subjects = ('1', '2', '3', '4', '5')
    few = odd_inputs.shared_out(subjects, kinds, False)
    assert {k for _, k in few} == set(kinds)
    for row in kinds.values():
        assert {s for s, k in few if kinds[k] == row} == set(subjects)
    assert sum(k == 'yaw60' for _, k in few) == 2
    assert len(odd_inputs.shared_out(subjects, kinds, True)) == 5 * len(kinds)


def test_without_makers_nothing_is_measured(odd_inputs, tmp_path: Path, capsys) -> None:
    assert odd_inputs.main(['--cases', str(tmp_path / 'none'), '--data', str(tmp_path)]) == 0
    assert 'Skipped' in capsys.readouterr().out


@pytest.mark.real
def test_all_kinds_can_be_made(odd_inputs, shared_data: Path) -> None:
    cases = shared_data / 'cases'
    kinds = odd_inputs.rows_of(odd_inputs.load_maker(cases / 'odd_images.py').V)
    listed = [*odd_inputs.CONFORMED.values(), *(k for _, k in odd_inputs.REGISTERED.values())]
    assert set(kinds) == {kind for names in listed for kind in names}


def test_changed_brains_are_beyond_the_limits(scripts, template_brain) -> None:
    limits = scripts.brain_limits
    data = limits.coarse(np.asarray(template_brain.dataobj, np.float32))
    assert limits.measure_contrast(data, data).is_t1w
    for kind, change in limits.CONTRASTS.items():
        assert not limits.measure_contrast(change(data), data).is_t1w, kind
    assert not limits.measure_values(limits.labels(data), data > 0).are_a_scan
    affine = np.diag([2.0, 2, 2, 1])
    assert not limits.largest_gap(data, data, affine).is_large
    hole = limits.coarse(limits.cavity(np.asarray(template_brain.dataobj, np.float32)))
    assert limits.largest_gap(hole, data, affine).is_large
    cells = limits.row('local', 'at least 0.06', [0.3, 0.2, 0.5], {'mask': [0.0]}).split(' | ')
    assert cells[1] == '0.20 / 0.30 / 0.50 (3)'


def test_the_table_of_limits_has_both_distributions(scripts) -> None:
    scans = [{'kinds': {'': {'vertex': v, 'local': 0.4}, 'cut': {'vertex': 0.1}}} for v in (0.9, 1)]
    lines = scripts.brain_limits.table(scans).splitlines()
    assert [line.split(' | ')[0] for line in lines[2:]] == ['| vertex', '| local']
    assert lines[2].split(' | ')[1:3] == ['0.90 / 0.95 / 1.00 (2)', 'cut 0.10 to 0.10']
