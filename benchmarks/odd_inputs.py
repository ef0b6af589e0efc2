"""Benchmark of odd inputs: each is handled right, refused by name, or wrong without a word.

    python benchmarks/odd_inputs.py --cases ../shared/cases --data ../shared/data/ds002748-2mm

CASES is a folder of makers: `odd_images.py` (`V`: functions of a brain and a new file),
`odd_tables.py` (`TABLES` and `WANT`) and `odd_datasets.sh` (arguments: a brain and a new folder).
Odd images are made from five brains, then conformed, prepared and registered. Kinds in one row of
the table share what is right; if a row has many kinds, each is made from two of the brains. The
exit code is 1 if a row is wrong.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
from measure import machine
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_interp.anatomical.cubic_resampler import brain_in_template
from bids_interp.anatomical.prepared_brain import BrainOptions, PreparedBrain, prepare_brain
from bids_interp.anatomical.raw.conform import ConformReport, conform
from bids_interp.anatomical.registration import AffineResult, register_brain
from bids_interp.anatomical.templates import brain_template
from bids_interp.bids.read.query import T1wRecord, collect
from bids_interp.errors import BidsInterpError, ImageError
from bids_interp.levels.labels import read_labels
from bids_interp.settings import Settings

SUBJECTS = ('09', '17', '27', '39', '45')
STEP = 3  # voxels of 1 mm between those that are compared in the space of the template
#: Largest mean distance in mm, smallest correlation, largest difference of volumes.
AS_CLEAN_MM, ALIGNED_MM, MIN_NCC, VOLUME = 1.0, 2.0, 0.98, 0.03

RIGHT, CAUTION, REFUSED, WRONG = 'right', 'with a caution', 'refused by name', 'wrong'

ROTATIONS = {
    'pitch35': (0, 35), 'pitchm35': (0, -35), 'roll35': (1, 35), 'yaw35': (2, 35),
    'yaw60': (2, 60), 'roll90': (1, 90), 'yaw90': (2, 90), 'pitch90': (0, 90),
}  # fmt: skip
PAD = 16  # voxels that the maker of rotations adds on each side
FLIPS = {'flipy': (1,), 'flipz': (2,), 'turnx180': (1, 2), 'turny180': (0, 2), 'flipxyz': (0, 1, 2)}
TURNS = {'perm120': (1, 2, 0), 'perm201': (2, 0, 1), 'perm021': (0, 2, 1), 'perm102': (1, 0, 2)}


@dataclass(frozen=True)
class Verdict:
    """Verdict on one input.

    Attributes
    ----------
    kind, subject, row : str
        Kind of input, brain, and row of the table.
    outcome : str
        One of the four columns of the table.
    error_mm : float
        Mean distance from where the clean image is placed; NaN if it was not registered.
    detail : str
        Message or measurement.
    seconds : float
        Processor time.
    """

    kind: str
    subject: str
    row: str
    outcome: str
    error_mm: float = float('nan')
    detail: str = ''
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Processed:
    """An image after the anatomical steps."""

    img: nib.Nifti1Image
    report: ConformReport
    prepared: PreparedBrain
    result: AffineResult
    placed: np.ndarray

    @property
    def litres(self) -> float:
        """Volume of the brain mask."""
        return float(self.prepared.facts['BrainVolumeLitres'])


def process(path: Path, clean: Processed | None = None) -> Processed:
    """Conform, prepare and register an image as the app does with ``--fast``.

    The result is that of the clean image if both are the same after conforming.
    """
    img, report = conform(path)
    if clean is not None and _same(img, clean.img):
        return clean
    prepared = prepare_brain(img, BrainOptions(fast=True), name=str(path))
    template = brain_template()
    result = register_brain(prepared.brain, template, name=str(path), fast=True)
    placed, _ = brain_in_template(
        prepared.brain, prepared.mask, template, result.native_to_template
    )
    low = np.asarray(placed.dataobj, np.float32)[::STEP, ::STEP, ::STEP]
    return Processed(img, report, prepared, result, low)


def _same(first: nib.Nifti1Image, second: nib.Nifti1Image) -> bool:
    pair = [np.asarray(img.dataobj) for img in (first, second)]
    return np.array_equal(first.affine, second.affine) and np.array_equal(*pair)


def moved(kind: str, clean: nib.Nifti1Image, odd: nib.Nifti1Image) -> np.ndarray | None:
    """Return the map (4, 4) from world points of a clean image to those of an odd one.

    None if the odd image shows a mirrored brain, which no rotation makes right again.
    """
    shape = np.array(clean.shape)
    back = np.eye(4)  # voxels of the odd image to those of the clean one
    if kind in ROTATIONS:
        axis, degrees = ROTATIONS[kind]
        # The maker turns the plane of the two other axes, in their order.
        turn = np.radians(degrees) * np.eye(3)[axis] * (-1 if axis == 1 else 1)
        back[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
        centre = (shape + 2 * PAD - 1) / 2
        back[:3, 3] = centre - back[:3, :3] @ centre - PAD
    elif kind in FLIPS:
        for axis in FLIPS[kind]:
            back[axis, axis], back[axis, 3] = -1, shape[axis] - 1
    elif kind in TURNS:
        back[:3, :3] = np.eye(3)[:, TURNS[kind]]
    elif kind == 'far':
        return odd.affine @ np.linalg.inv(clean.affine)
    else:
        return np.eye(4)
    if np.linalg.det(back[:3, :3]) < 0:
        return None
    return odd.affine @ np.linalg.inv(clean.affine @ back)


def displacement(
    clean: AffineResult, odd: AffineResult, world: np.ndarray, mask: nib.Nifti1Image
) -> float:
    """Return the mean distance in mm between two placements of a brain in the template.

    Parameters
    ----------
    clean, odd : AffineResult
        Both placements.
    world : ndarray (4, 4)
        Map from world points of the clean image to those of the odd one.
    mask : Nifti1Image
        Brain of the odd image; what it does not show has no place.
    """
    template = brain_template()
    data = np.asarray(template.dataobj)
    points = nib.affines.apply_affine(template.affine, np.argwhere(data > 0)[::500])
    there = world @ np.linalg.inv(clean.native_to_template)
    native = nib.affines.apply_affine(there, points)
    voxels = nib.affines.apply_affine(np.linalg.inv(mask.affine), native)
    shown = ndimage.map_coordinates(np.asarray(mask.dataobj, np.float32), voxels.T, order=0) > 0.5
    placed = nib.affines.apply_affine(odd.native_to_template, native)
    return float(np.linalg.norm(placed - points, axis=1)[shown].mean())


# What is right ------------------------------------------------------------------------
# A judge takes the kind, the clean image and the odd one (after conforming or after all steps) with
# the distance between both, and returns an outcome and a detail.
Judgement = tuple[str, str]


def same_input(clean: Processed, odd: nib.Nifti1Image, kind: str) -> Judgement:
    """Judge a conformed image that must be that of the clean one."""
    first, second = (np.asarray(i.dataobj, np.float64) for i in (clean.img, odd))
    if first.shape != second.shape:
        return WRONG, f'shape {second.shape}'
    scale = second.max() / first.max() if kind in ('tiny', 'hugeval') else 1.0
    off = float(np.abs(second / scale - first).max() / first.max())
    place = np.abs(odd.affine - clean.img.affine)
    if kind == 'far':
        place[2, 3] = abs(place[2, 3] - 3000)
    good = off < 1e-4 and place.max() < 1e-3
    return (RIGHT if good else WRONG), f'voxels differ by {off:.1e}, affine by {place.max():.1e}'


def lost_form(clean: Processed, odd: nib.Nifti1Image, report: ConformReport) -> Judgement:
    """Judge an image whose sform was lost: brain as large as the clean one, one warning."""
    size = nib.affines.voxel_sizes(odd.affine)
    litres = [float((np.asarray(i.dataobj) > 0).sum() * np.linalg.det(i.affine[:3, :3])) / 1e6
              for i in (clean.img, odd)]  # fmt: skip
    good = np.allclose(size, 1.25, atol=1e-3) and abs(litres[1] / litres[0] - 1) < 0.1
    good = good and len(report.warnings) == 1
    return (RIGHT if good else WRONG), f'voxels of {size.round(2)} mm, {litres[1]:.2f} l'


def as_clean(clean: Processed, odd: Processed, mm: float) -> Judgement:
    """Judge a scan that must be placed as the clean one."""
    return (RIGHT if mm <= AS_CLEAN_MM else WRONG), f'{mm:.2f} mm'


def same_brain(clean: Processed, odd: Processed, mm: float) -> Judgement:
    """Judge a scan with other intensities by the brain in the space of the template."""
    ncc = float(np.corrcoef(clean.placed.ravel(), odd.placed.ravel())[0, 1])
    return (RIGHT if ncc >= MIN_NCC else WRONG), f'NCC {ncc:.3f}'


def stripped(clean: Processed, odd: Processed, mm: float) -> Judgement:
    """Judge a stripped brain that does not look like one."""
    good = odd.prepared.stripped_input and mm <= AS_CLEAN_MM
    return (RIGHT if good else WRONG), f'stripped {odd.prepared.stripped_input}, {mm:.2f} mm'


def same_mask(clean: Processed, odd: Processed, mm: float) -> Judgement:
    """Judge a stripped brain with a soft or noisy background by its volume."""
    ratio = odd.litres / clean.litres
    return (RIGHT if abs(ratio - 1) <= VOLUME else WRONG), f'volume {100 * (ratio - 1):+.1f} %'


def aligned(clean: Processed, odd: Processed, mm: float) -> Judgement:
    """Judge an image with a wrong or unusual orientation."""
    if odd.result.warnings:
        return CAUTION, f'{mm:.2f} mm'
    return (RIGHT if mm <= ALIGNED_MM else WRONG), f'{mm:.2f} mm'


def partial(clean: Processed, odd: Processed, mm: float) -> Judgement:
    """Judge an image without a part of the brain."""
    good = bool(odd.result.warnings) and mm <= ALIGNED_MM
    missing = ', '.join(odd.result.to_dict()['missing_regions'])  # type: ignore[arg-type]
    return (CAUTION if good else WRONG), f'{mm:.2f} mm; {missing}'


def never(clean: Processed, odd: Processed, mm: float) -> Judgement:
    """Judge an image that must be refused."""
    return WRONG, f'accepted, {mm:.2f} mm'


Judge = Callable[[Processed, Processed, float], Judgement]

#: Rows whose images are conformed only: what follows depends on nothing else.
CONFORMED: dict[str, tuple[str, ...]] = {
    'header oddities': (
        'psr', 'las', 'bigendian', 'slopenan', 'slope0', 'pixneg', 'pixzero', 'units', 'nifti2',
        'extension', 'garbage', 'members', 'far', 'onevolume', 'fived', 'tiny', 'hugeval',
    ),
    'sform lost': ('sformeye',),
    'background NaN': ('nanbg',),
    'plain file named .gz': ('plaingz',),
}  # fmt: skip
#: Other rows, with their judge.
REGISTERED: dict[str, tuple[Judge, tuple[str, ...]]] = {
    'shifts and scales of intensities': (same_brain, (
        'offset1024', 'offsetplus', 'zscorebg0', 'int8', 'frame', 'framebright', 'ratio', 'wrap16',
        'wrap16wm', 'uint8wrap',
    )),
    'labels, phase and T2w named T1w': (never, ('seg', 'phase', 'partphase', 'inverted', 'mask')),
    'outliers': (same_brain, ('outliers', 'spikeout')),
    'receive field 1:6': (stripped, ('bias',)),
    'noisy or soft background': (same_mask, ('noisebg', 'softbg')),
    'orientation': (aligned, (*ROTATIONS, *FLIPS, *TURNS)),
    'missing parts': (partial, (
        'cropcereb', 'croptop', 'croptopzero', 'cropfront', 'halfbrain', 'lesion', 'lesionzero',
    )),
    'shear of 0.2 degrees': (as_clean, ('shear',)),
}  # fmt: skip


def outliers(source: Path, out: Path) -> None:
    """Make single voxels a thousand times as bright as the brain."""
    img = nib.load(source)
    data = np.asarray(img.dataobj, np.float32)
    places = np.random.default_rng(0).choice(np.flatnonzero(data > 0), 20, replace=False)
    data.flat[places] = 1000 * np.percentile(data, 99)
    nib.save(nib.Nifti1Image(data, img.affine), out)


def mask(source: Path, out: Path) -> None:
    """Make the binary mask of a brain."""
    img = nib.load(source)
    nib.save(nib.Nifti1Image((np.asarray(img.dataobj) > 0).astype(np.uint8), img.affine), out)


OWN = {'outliers': outliers, 'mask': mask}


def load_maker(path: Path) -> ModuleType:
    """Import a maker of odd inputs from its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f'{path} is not a Python module.')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(makers: Iterable[str]) -> dict[str, str]:
    """Return the row of each kind of image that can be made."""
    kinds = {kind: row for row, kinds in CONFORMED.items() for kind in kinds}
    kinds |= {kind: row for row, (_, kinds_) in REGISTERED.items() for kind in kinds_}
    return {kind: row for kind, row in kinds.items() if kind in {*makers, *OWN}}


@dataclass(frozen=True, eq=False)
class Bench:
    """Brains, makers and a folder for files of one run."""

    cases: Path
    data: Path
    folder: Path

    def source(self, subject: str) -> Path:
        """Return the clean scan of a brain."""
        return next((self.data / f'sub-{subject}' / 'anat').glob('*_T1w.nii*'))

    def judge(self, task: tuple[str, str]) -> Verdict:
        """Make and judge one image of a (subject, kind)."""
        subject, kind = task
        module = load_maker(self.cases / 'odd_images.py')
        row = rows_of(module.V)[kind]
        path = self.folder / f'sub-{subject}_acq-{kind}_T1w.nii.gz'
        {**module.V, **OWN}[kind](str(self.source(subject)), str(path))
        start = time.process_time()
        try:
            outcome, detail, mm = self._compared(subject, kind, row, path)
        except ImageError as error:
            named = path.name in error.message
            outcome = REFUSED if named and row not in CONFORMED else WRONG
            detail, mm = error.message.replace(str(self.folder), ''), float('nan')
        finally:
            path.unlink()
        seconds = time.process_time() - start
        return Verdict(kind, subject, row, outcome, mm, detail, seconds)

    def _compared(self, subject: str, kind: str, row: str, path: Path) -> tuple[str, str, float]:
        clean = self.clean(subject)
        if row in CONFORMED:
            img, report = conform(path)
            if kind == 'sformeye':
                return *lost_form(clean, img, report), float('nan')
            return *same_input(clean, img, kind), float('nan')
        odd = process(path, clean)
        world = moved(kind, nib.load(self.source(subject)), nib.load(path))
        mm = float('nan')
        if world is not None:
            mm = displacement(clean.result, odd.result, world, odd.prepared.mask)
        judge, _ = REGISTERED[row]
        return *judge(clean, odd, mm), mm

    def clean(self, subject: str) -> Processed:
        """Return the clean brain, which the first task on it processes and leaves in the folder."""
        if subject not in _CLEAN:
            kept = self.folder / f'sub-{subject}.pickle'
            if not kept.exists():
                path = self.folder / f'sub-{subject}_T1w.nii.gz'
                path.symlink_to(self.source(subject).resolve())
                kept.write_bytes(pickle.dumps(process(path)))
            _CLEAN[subject] = pickle.loads(kept.read_bytes())
        return _CLEAN[subject]


_CLEAN: dict[str, Processed] = {}


# Datasets and tables ------------------------------------------------------------------
T1W = 'sub-01_T1w.nii.gz'
#: Images that each dataset must give, its key, or None if it must be refused.
DATASETS: dict[str, tuple[tuple[str, ...], str] | None] = {
    'appledouble': ((T1W,), 'x'),
    'bidsignore': ((T1W,), 'x'),
    'part': (('sub-01_part-mag_T1w.nii.gz',), 'x'),
    'mp2rage': (('sub-01_UNIT1.nii.gz',), 'x'),
    'invT1w': (('sub-02_T1w.nii.gz',), 'x'),
    'bom': ((T1W,), 'doi:10.18112/openneuro.ds000001.v1'),
    'sourcedata': ((T1W,), 'x'),
    'latin1': None,
}
#: Images that a filter must be able to choose.
FILTERS = {
    'mp2rage': ({'suffix': 'MP2RAGE', 'inv': 2}, 'sub-01_inv-2_MP2RAGE.nii.gz'),
    'invT1w': ({'inv': 1}, 'sub-01_inv-1_T1w.nii.gz'),
    'part': ({'part': 'phase'}, 'sub-01_part-phase_T1w.nii.gz'),
}
POSITIVE = {'booleans': 'True', 'floats 0.0/1.0': '1.0', 'mixed 1 and 1.0': '1.0'}


def judge_datasets(cases: Path, brain: Path, folder: Path) -> list[Verdict]:
    """Make and judge the datasets."""
    root = folder / 'datasets'
    subprocess.run(['bash', str(cases / 'odd_datasets.sh'), str(brain), str(root)], check=True)
    found = []
    for name, wanted in DATASETS.items():
        if not (root / name).is_dir():
            continue
        try:
            records = collect(Settings(root / name, folder / 'out'))
        except BidsInterpError as error:
            named = str(root / name) in error.message
            outcome, detail = (REFUSED if wanted is None and named else WRONG), error.message
        else:
            chosen = tuple(r.path.name for r in records if not r.problem)
            good = wanted == (chosen, records[0].dataset_key) and _filter_works(name, root, folder)
            outcome, detail = (RIGHT if good else WRONG), ', '.join(chosen)
        found.append(Verdict(name, '', 'datasets', outcome, detail=detail))
    return found


def _filter_works(name: str, root: Path, folder: Path) -> bool:
    """Return whether a filter chooses the image that it must."""
    if name not in FILTERS:
        return True
    query, wanted = FILTERS[name]
    path = folder / 'filter.json'
    path.write_text(json.dumps({'t1w': query}))
    records = collect(Settings(root / name, folder / 'out', bids_filter_file=path))
    return [r.path.name for r in records if not r.problem] == [wanted]


def judge_tables(cases: ModuleType, folder: Path) -> list[Verdict]:
    """Judge the tables by the labels that are read from them."""
    found = []
    for name, content in cases.TABLES.items():
        path = folder / 'participants.tsv'
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        sessions = 'ab' if 'session' in name else (None,)
        records = [
            T1wRecord(Path('x'), s[4:], session, {'sub': s[4:], 'ses': session or ''})
            for s in cases.WANT
            for session in sessions
        ]
        options = {'label': 'group', 'positive': POSITIVE.get(name, 'AD')}
        try:
            table = read_labels(Settings(folder, folder / 'out', 'train', **options), records)
        except BidsInterpError as error:
            named = str(path) in error.message
            outcome, detail = (REFUSED if named else WRONG), error.message
        else:
            labels = {f'sub-{image.record.subject}': image.label for image in table.images}
            outcome, detail = (RIGHT if labels == cases.WANT else WRONG), str(labels)
        found.append(Verdict(name, '', 'tables', outcome, detail=detail))
    return found


# The run ------------------------------------------------------------------------------
def markdown(verdicts: Sequence[Verdict]) -> str:
    """Return the table of all rows, and a line for each input that is wrong."""
    columns = (RIGHT, CAUTION, REFUSED, WRONG)
    lines = [
        f'| row | kinds | inputs | {" | ".join(columns)} | error in mm: median, largest |',
        f'|---|---|{"---|" * (len(columns) + 2)}',
    ]
    for row in dict.fromkeys(verdict.row for verdict in verdicts):
        own = [verdict for verdict in verdicts if verdict.row == row]
        counts = [sum(v.outcome == column for v in own) for column in columns]
        errors = [v.error_mm for v in own if np.isfinite(v.error_mm)]
        spread = f'{np.median(errors):.2f}, {max(errors):.2f}' if errors else ''
        kinds = len({verdict.kind for verdict in own})
        lines.append(
            f'| {row} | {kinds} | {len(own)} | {" | ".join(map(str, counts))} | {spread} |'
        )
    wrong = [
        f'* wrong: {v.kind} sub-{v.subject}: {v.detail}' for v in verdicts if v.outcome == WRONG
    ]
    return '\n'.join([*lines, *([''] if wrong else []), *wrong])


def _earlier(log: Path | None) -> list[Verdict]:
    """Return the verdicts that a log holds."""
    if log is None or not log.exists():
        return []
    return [Verdict(**json.loads(line)) for line in log.read_text().splitlines()]


def shared_out(
    subjects: Sequence[str], kinds: dict[str, str], every: bool
) -> list[tuple[str, str]]:
    """Return the (subject, kind) to judge; a kind of a row of many kinds needs not all brains.

    Parameters
    ----------
    subjects : sequence of str
        Brains.
    kinds : dict
        Row of each kind.
    every : bool
        Judge each kind on all brains.
    """
    tasks, n = [], len(subjects)
    rows = list(kinds.values())
    for place, (kind, row) in enumerate(kinds.items()):
        few = every or row in CONFORMED or rows.count(row) <= n
        some = subjects if few else dict.fromkeys((subjects[place % n], subjects[(place + 2) % n]))
        tasks += [(subject, kind) for subject in some]
    return sorted(tasks)


def run_images(bench: Bench, options: argparse.Namespace) -> list[Verdict]:
    """Judge all images, those of one brain in one process."""
    kinds = rows_of(load_maker(bench.cases / 'odd_images.py').V)
    wanted = {kind: kinds[kind] for kind in options.kinds or kinds}
    verdicts = _earlier(options.log)
    done = {(v.subject, v.kind) for v in verdicts}
    tasks = shared_out(options.subjects, wanted, bool(options.kinds) or options.every)
    tasks = [task for task in tasks if task not in done]
    with multiprocessing.get_context('spawn').Pool(options.processes) as pool:
        pool.map(bench.clean, {subject for subject, _ in tasks}, chunksize=1)
        for verdict in pool.imap_unordered(bench.judge, tasks, chunksize=4):
            verdicts.append(verdict)
            if options.log:
                with options.log.open('a') as log:
                    log.write(json.dumps(asdict(verdict)) + '\n')
    order = [*CONFORMED, *REGISTERED]
    return sorted(verdicts, key=lambda v: (order.index(v.row), v.kind, v.subject))


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge all inputs, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cases', type=Path, default=Path('../shared/cases'))
    parser.add_argument('--data', type=Path, default=Path('../shared/data/ds002748-2mm'))
    parser.add_argument('--subjects', nargs='+', default=SUBJECTS)
    parser.add_argument('--kinds', nargs='+', help='only these kinds of images')
    parser.add_argument('--every', action='store_true', help='each kind of image on all brains')
    parser.add_argument('--processes', type=int, default=2)
    parser.add_argument('--log', type=Path, help='file of verdicts, which a later run continues')
    options = parser.parse_args(arguments)
    if not options.cases.is_dir() or not options.data.is_dir():
        print(
            f'Skipped: {options.cases} or {options.data} does not exist; give --cases and --data.'
        )
        return 0
    print(machine())
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bench = Bench(options.cases, options.data, folder)
        verdicts = run_images(bench, options)
        if not options.kinds:
            verdicts += judge_datasets(options.cases, bench.source(options.subjects[0]), folder)
            verdicts += judge_tables(load_maker(options.cases / 'odd_tables.py'), folder)
    print(markdown(verdicts))
    print(f'\n{time.monotonic() - start:.0f} s with {options.processes} processes')
    return int(any(verdict.outcome == WRONG for verdict in verdicts))


if __name__ == '__main__':
    sys.exit(main())
