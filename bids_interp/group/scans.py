"""Who is in the group and who is not, and why: read from the derivatives alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bids_interp.bids.prediction import Prediction, read_prediction
from bids_interp.bids.read.scan_files import is_of
from bids_interp.bids.read.sessions import natural_key, order_visits
from bids_interp.constants import ANATOMY_MM
from bids_interp.errors import ImageError, InputDatasetError, NothingToDoError

PREDICTION = '_desc-explain_prediction.json'
#: Reason of further images of one subject; they count for changes over time only.
FURTHER = 'another image of the subject stands for it'
#: Note of an image that is in although the folds that explain it have seen it.
TRAINED_WITH = 'the model was trained with it'
#: Note of a training subject that is in, because the folds that explain it have not seen it.
HELD_OUT = 'training subject, explained by folds without it'
#: Reasons of subjects and images that the participant level has not, or not wholly, explained.
ABSENT = 'not in the derivatives'
UNEXPLAINED = 'no explanation yet: its processing failed or has not ended'
NO_MAP = 'no map in template space (--output-spaces template)'
STALE_MAPS = (
    'its maps in template space were made with another model than its prediction: '
    'run the participant level again'
)
#: Reasons of images whose maps do not lie on the grid of the others, or of each other.
OTHER_GRID = 'its maps lie on another grid'
OWN_GRIDS = 'its own maps lie on different grids'
_MAP = re.compile(r'_space-([a-zA-Z0-9]+)_.*?desc-((?:inject|remove)\d{3})_logjacobian\.nii\.gz$')
_VELOCITY = re.compile(r'_space-([a-zA-Z0-9]+)_res-model_desc-inject_velocity\.nii\.gz$')


@dataclass(frozen=True)
class Scan:
    """What the participant level has left of one T1w image.

    Parameters
    ----------
    prefix, subject, session : str
        Source entities of the image, and two of them; an empty session where there is none.
    folder : pathlib.Path
        Where its derivatives lie.
    prediction : Prediction, optional
        Content of ``*_desc-explain_prediction.json``; None where it is not there.
    maps : dict
        ``inject100`` etc. to the log-Jacobian in template space.
    velocity : pathlib.Path, optional
        Velocity field of ``inject`` on the grid of the model.
    space : str
        Name of the template.
    grid : tuple, optional
        Space, shape and affine of the maps, rounded, so that grids can be compared.
    reason : str
        Why it is left out; empty where it is not.
    note : str
        What else is to be known of one that is in.
    """

    prefix: str
    subject: str
    session: str
    folder: Path
    prediction: Prediction | None = None
    maps: Mapping[str, Path] = field(default_factory=dict)
    velocity: Path | None = None
    space: str = ''
    grid: tuple[str, tuple[int, int, int], tuple[float, ...]] | None = None
    reason: str = ''
    note: str = ''

    @property
    def model(self) -> tuple[str, str]:
        """Name and hash of the model; the hash has the contrast in it."""
        if self.prediction is None:
            return '', ''
        return self.prediction.model_name or '', self.prediction.model_hash or ''

    @property
    def version(self) -> str:
        """Version of bids_interp that made the derivatives."""
        return self.prediction.version if self.prediction else ''

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds that explain it: none of their models was trained with it."""
        return self.prediction.folds if self.prediction else ()

    @property
    def in_training(self) -> bool:
        """Whether the model, in any of its folds, was trained with the subject."""
        return self.prediction is not None and self.prediction.in_training

    @property
    def held_out(self) -> bool | None:
        """Whether the folds that explain it have not seen it; None where nobody has noted it."""
        return self.prediction.held_out if self.prediction else None

    @property
    def block(self) -> str:
        """Name of the folds that explain it, which others share: ``'0'``, ``'0-1-2'``."""
        return '-'.join(str(fold) for fold in self.folds)

    @property
    def model_input(self) -> Path | None:
        """What the classifier saw."""
        return self._in_template('res-model_desc-input_T1w')

    @property
    def anatomy(self) -> Path | None:
        """Local volumes of the observed brain, relative to the template."""
        return self._in_template(f'res-{ANATOMY_MM}_desc-anatomy_logjacobian')

    @property
    def displacement(self) -> Path | None:
        """Displacement field of ``inject``, of a simulator of the published method."""
        return self._in_template('res-model_desc-inject_displacement')

    def _in_template(self, ending: str) -> Path | None:
        path = self.folder / f'{self.prefix}_space-{self.space}_{ending}.nii.gz'
        return path if path.is_file() and is_of(path, self.model[1]) else None

    def left_out(self, reason: str) -> Scan:
        """The same, left out for a reason; the first reason stays."""
        return self if self.reason else replace(self, reason=reason)


def find_scans(
    output_dir: Path, subjects: Iterable[str] = (), sessions: Iterable[str] = ()
) -> list[Scan]:
    """List the images that the participant level has worked on, in order of their names.

    Subjects without a prediction are listed too, with a reason: their processing failed, or it
    has not come to its end.

    Parameters
    ----------
    output_dir : pathlib.Path
        Root of the derivatives.
    subjects, sessions : iterable of str
        Labels to look at; all where empty.

    Raises
    ------
    NothingToDoError
        If nothing was explained there.
    """
    wanted, visits = set(subjects), set(sessions)
    scans: list[Scan] = []
    for folder in sorted(output_dir.glob('sub-*')):
        subject = folder.name.removeprefix('sub-')
        if not folder.is_dir() or (wanted and subject not in wanted):
            continue
        found = [*folder.glob(f'anat/*{PREDICTION}'), *folder.glob(f'*/anat/*{PREDICTION}')]
        found.sort(key=lambda path: natural_key(path.name))
        read = [_read_scan(path, subject) for path in found]
        scans += [scan for scan in read if not visits or scan.session in visits]
        if not found:
            scans.append(Scan(folder.name, subject, '', folder, reason=UNEXPLAINED))
    for subject in sorted(wanted - {scan.subject for scan in scans}):
        scans.append(Scan(f'sub-{subject}', subject, '', output_dir, reason=ABSENT))
    if not any(scan.prediction for scan in scans):
        raise NothingToDoError(
            f'{output_dir} holds no explained image.',
            'The group level summarises what the participant level has written: run '
            '`bids_interp BIDS_DIR OUTPUT_DIR participant` first, with the same OUTPUT_DIR.',
        )
    return scans


def in_order(scans: Sequence[Scan], bids_dir: Path) -> tuple[list[Scan], bool]:
    """Sort the sessions of each subject by time.

    Parameters
    ----------
    scans : sequence of Scan
        Of :func:`find_scans`, those of a subject side by side.
    bids_dir : pathlib.Path
        Dataset, whose tables may tell when the sessions were.

    Returns
    -------
    list of Scan, bool
        The same scans; whether some sessions are in the order of their names alone.
    """
    of_subject: dict[str, list[Scan]] = {}
    for scan in scans:
        of_subject.setdefault(scan.subject, []).append(scan)
    ordered: list[Scan] = []
    by_name = False
    for subject, own in of_subject.items():
        sessions = list(dict.fromkeys(scan.session for scan in own))
        order, is_told = order_visits(bids_dir, subject, sessions)
        by_name |= not is_told
        ordered += sorted(own, key=lambda scan: order.index(scan.session))
    return ordered, by_name


def _read_scan(path: Path, subject: str) -> Scan:
    prefix = path.name.removesuffix(PREDICTION)
    entities = dict(part.split('-', 1) for part in prefix.split('_') if '-' in part)
    prediction = None
    with suppress(ImageError):
        prediction = read_prediction(path)
    maps, space, velocity, is_stale = {}, '', None, False
    for file in sorted(path.parent.glob(f'{prefix}_space-*.nii.gz')):
        found, moved = _MAP.search(file.name), _VELOCITY.search(file.name)
        if not (found or moved):
            continue
        if prediction and not is_of(file, prediction.model_hash):
            # An earlier run with another model has left it.
            is_stale = True
        elif found:
            maps[found[2]], space = file, found[1]
        elif moved:
            velocity, space = file, space or moved[1]
    scan = Scan(
        prefix, subject, entities.get('ses', ''), path.parent, prediction, maps, velocity, space
    )
    if not prediction:
        return scan.left_out(f'{path.name} cannot be read')
    if not scan.folds:
        return scan.left_out('its prediction does not say which folds explain it')
    if not maps and velocity is None:
        return scan.left_out(STALE_MAPS if is_stale else NO_MAP)
    return scan


def choose_summarised_model(
    scans: Sequence[Scan], wanted: tuple[str, str] | None = None
) -> tuple[str, str]:
    """Name and hash of the model that is summarised: the one asked for, else the most frequent.

    Raises
    ------
    InputDatasetError
        If no image was explained by the model asked for.
    """
    counts = Counter(scan.model for scan in scans if scan.prediction and not scan.reason)
    if wanted is not None:
        if wanted not in counts:
            there = ', '.join(f'{name} ({digest})' for name, digest in sorted(counts)) or 'none'
            raise InputDatasetError(
                f'No image was explained by the model {wanted[0]} ({wanted[1]}).',
                f'There are images of {there}; choose one with --model.',
            )
        return wanted
    if not counts:
        reasons = '; '.join(sorted({scan.reason for scan in scans}))
        raise InputDatasetError(f'No image can be used: {reasons}.')
    return max(sorted(counts), key=lambda model: counts[model])


def select(
    scans: Sequence[Scan], model: tuple[str, str], n_folds: int | None, include_training: bool
) -> list[Scan]:
    """Leave out what must not be mixed: other models, versions and grids, and training subjects.

    An image is held out if none of the folds that explain it was trained with its subject. Those
    of new subjects are; those of training subjects are too where a single fold, which has not
    seen them, explains them (cross-fitting). Where all folds of the model explain a subject of its
    training set, a classifier that was brought along has seen it.

    Parameters
    ----------
    scans : sequence of Scan
        Of :func:`find_scans`.
    model : tuple of str
        Name and hash of the model.
    n_folds : int, optional
        Folds of the model; as many as are named, and at least two, where it is not at hand.
    include_training : bool
        Take images that are not held out as well.

    Returns
    -------
    list of Scan
        All of them, with their reasons. Of several images of a subject the first one is in.
    """
    named = {fold for scan in scans if scan.model == model for fold in scan.folds}
    total = n_folds or max(2, len(named))
    kept = [_check_model(scan, model) for scan in scans]
    kept = _of_most(kept, 'version', 'made by version {} of bids_interp; the others by {}')
    kept = [_with_grid(scan) for scan in kept]
    kept = _of_most(kept, 'grid', OTHER_GRID)
    chosen: list[Scan] = []
    there: set[str] = set()
    for scan in kept:
        # Predictions of earlier versions do not say it; there all folds mean that it was seen.
        is_seen = scan.in_training and len(scan.folds) >= total
        if scan.held_out is not None:
            is_seen = not scan.held_out
        if not scan.reason and is_seen:
            if include_training:
                scan = replace(scan, note=TRAINED_WITH)
            else:
                scan = scan.left_out(f'{TRAINED_WITH} (--include-training)')
        elif not scan.reason and scan.in_training:
            scan = replace(scan, note=HELD_OUT)
        if not scan.reason and scan.subject in there:
            scan = scan.left_out(FURTHER)
        if not scan.reason:
            there.add(scan.subject)
        chosen.append(scan)
    return chosen


def _check_model(scan: Scan, model: tuple[str, str]) -> Scan:
    if scan.reason or scan.model == model:
        return scan
    what = 'another contrast or version of the model' if scan.model[0] == model[0] else 'the model'
    return scan.left_out(f'explained by {what} {scan.model[0]} ({scan.model[1]})')


def _of_most(scans: Sequence[Scan], name: str, reason: str) -> list[Scan]:
    """Leave out who differs in something from most of the others."""
    counts = Counter(getattr(scan, name) for scan in scans if not scan.reason)
    if len(counts) < 2:
        return list(scans)
    usual = max(sorted(counts, key=str), key=lambda value: counts[value])
    return [
        scan
        if scan.reason or getattr(scan, name) == usual
        else scan.left_out(reason.format(getattr(scan, name) or 'unknown', usual))
        for scan in scans
    ]


def _with_grid(scan: Scan) -> Scan:
    """Read the grid of the maps from their headers."""
    if scan.reason:
        return scan
    import nibabel as nib

    grids = set()
    for path in scan.maps.values() if scan.maps else [scan.velocity]:
        try:
            image = nib.load(path)
        except (nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError):
            return scan.left_out(f'{Path(str(path)).name} is damaged')
        affine = tuple(float(value) for value in image.affine.round(3).ravel() + 0.0)
        grids.add((scan.space, tuple(image.shape[:3]), affine))
    if len(grids) > 1:
        return scan.left_out(OWN_GRIDS)
    return replace(scan, grid=grids.pop())


def inclusion_row(scan: Scan, group: str | None) -> dict[str, Any]:
    """Row of the table of who is in."""
    is_known = scan.prediction is not None
    return {
        'participant_id': f'sub-{scan.subject}',
        'session_id': f'ses-{scan.session}' if scan.session else None,
        'image': scan.prefix,
        'group': group,
        'included': not scan.reason,
        'reason': scan.reason or scan.note or None,
        'in_training_set': scan.in_training if is_known else None,
        'folds': scan.block or None,
        'model': scan.model[0] or None,
        'model_hash': scan.model[1] or None,
        'version': scan.version or None,
    }
