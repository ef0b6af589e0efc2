"""Scans of the group: which images are included, and why others are not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from bids_interp.bids.names import visible
from bids_interp.bids.prediction import Prediction, read_prediction
from bids_interp.bids.read.scan_files import is_made_with
from bids_interp.bids.read.sessions import natural_key, order_sessions
from bids_interp.bids.write.atomic import Cell
from bids_interp.bids.write.sidecars import Column
from bids_interp.constants import ANATOMY_MM
from bids_interp.errors import ImageError, InputDatasetError, NothingToDoError

PREDICTION = '_desc-explain_prediction.json'
#: Reason for further images of one subject; they are used for changes over time only.
FURTHER = 'another image of the subject is used'
#: Note for an included image that was used to train the folds that explain it.
TRAINED_WITH = 'used to train the models that explain it'
#: Note for an included training subject that is explained only by the fold that held it out.
HELD_OUT = 'training subject, explained out of fold'
#: Reason and note for a subject whose relatives trained the folds that explain it.
RELATED = 'a relative was used to train the models that explain it'
#: Reasons for subjects and images without a complete explanation.
ABSENT = 'not in the derivatives'
UNEXPLAINED = 'not explained: processing failed or is not complete'
UNTRAINED = 'nothing to explain: the simulator of its fold was not trained'
NO_MAP = 'no map in template space (--output-spaces template)'
STALE_MAPS = (
    'maps in template space and prediction were made with different models: '
    'run the participant level again'
)
#: Reasons for images whose maps have another grid than other images, or different grids.
OTHER_GRID = 'maps on another grid than most images'
OWN_GRIDS = 'maps on different grids'
_MAP = re.compile(r'_space-([a-zA-Z0-9]+)_.*?desc-((?:inject|remove)\d{3})_logjacobian\.nii\.gz$')
_ON_MODEL_GRID = re.compile(r'_space-([a-zA-Z0-9+]+)_res-model_')
_VELOCITY = re.compile(r'_space-([a-zA-Z0-9]+)_res-model_desc-inject_velocity\.nii\.gz$')

#: Data dictionary of the columns that identify an image and its group.
IMAGE_COLUMNS: dict[str, Column] = {
    'participant_id': {'Description': 'Participant.'},
    'session_id': {'Description': 'Session.'},
    'image': {'Description': 'Name of the T1w image without suffix.'},
    'group': {'Description': 'Group (--group-by).'},
}


@dataclass(frozen=True)
class GroupScan:
    """Derivatives of one T1w image, and whether the group includes it.

    Parameters
    ----------
    prefix, subject, session : str
        Source entities of the image, its subject and session (may be empty).
    folder : pathlib.Path
        Folder of the derivatives.
    prediction : Prediction, optional
        Content of ``*_desc-explain_prediction.json``; None if missing.
    maps : dict
        Log-Jacobian maps in template space by direction and dose (``inject100``).
    velocity : pathlib.Path, optional
        Velocity field of ``inject`` on the grid of the model.
    space : str
        Name of the template.
    grid : tuple, optional
        Space, shape and affine of the maps, rounded for comparison.
    reason : str
        Reason for exclusion; empty if included.
    note : str
        Remark about an included image.
    is_damaged : bool
        Whether a map cannot be read.
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
    is_damaged: bool = False

    @property
    def model(self) -> tuple[str, str]:
        """Return name and hash of the model; the hash depends on the contrast."""
        if self.prediction is None:
            return '', ''
        return self.prediction.model_name or '', self.prediction.model_hash or ''

    @property
    def version(self) -> str:
        """Return the version of bids_interp that wrote the derivatives."""
        return self.prediction.version if self.prediction else ''

    @property
    def folds(self) -> tuple[int, ...]:
        """Return the folds that explain the image."""
        return self.prediction.folds if self.prediction else ()

    @property
    def in_training(self) -> bool:
        """Return whether any fold of the model was trained with the subject."""
        return self.prediction is not None and self.prediction.in_training

    @property
    def held_out(self) -> bool | None:
        """Return whether the image is explained out of fold; None if not recorded."""
        return self.prediction.held_out if self.prediction else None

    @property
    def block(self) -> str:
        """Return the exchangeability block: the folds that explain the image (``'0-1-2'``)."""
        return '-'.join(str(fold) for fold in self.folds)

    @property
    def identity(self) -> dict[str, Cell]:
        """Return the cells that identify the image in tables."""
        return {
            'participant_id': f'sub-{self.subject}',
            'session_id': f'ses-{self.session}' if self.session else None,
            'image': self.prefix,
        }

    @property
    def model_input(self) -> Path | None:
        """Return the input of the classifier."""
        return self._in_template('res-model_desc-input_T1w')

    @property
    def anatomy(self) -> Path | None:
        """Return the map of local volumes of the observed brain."""
        return self._in_template(f'res-{ANATOMY_MM}_desc-anatomy_logjacobian')

    @property
    def displacement(self) -> Path | None:
        """Return the displacement field of ``inject`` (published method)."""
        return self._in_template('res-model_desc-inject_displacement')

    def _in_template(self, ending: str) -> Path | None:
        path = self.folder / f'{self.prefix}_space-{self.space}_{ending}.nii.gz'
        return path if path.is_file() and is_made_with(path, self.model[1]) else None

    def left_out(self, reason: str) -> GroupScan:
        """Return a copy that is excluded for a reason; the first reason is kept."""
        return self if self.reason else replace(self, reason=reason)


def find_scans(
    output_dir: Path, subjects: Iterable[str] = (), sessions: Iterable[str] = ()
) -> list[GroupScan]:
    """Return the images processed by the participant level, sorted by name.

    Subjects without a prediction are included with a reason: their processing failed or is not
    complete.

    Parameters
    ----------
    output_dir : pathlib.Path
        Root of the derivatives.
    subjects, sessions : iterable of str
        Labels to include; all if empty.

    Raises
    ------
    NothingToDoError
        If no image was explained.
    """
    wanted, visits = set(subjects), set(sessions)
    scans: list[GroupScan] = []
    for folder in sorted(output_dir.glob('sub-*')):
        subject = folder.name.removeprefix('sub-')
        if not folder.is_dir() or (wanted and subject not in wanted):
            continue
        places = (f'anat/*{PREDICTION}', f'*/anat/*{PREDICTION}')
        found = visible(path for place in places for path in folder.glob(place))
        found.sort(key=lambda path: natural_key(path.name))
        read = [_read_scan(path, subject) for path in found]
        scans += [scan for scan in read if not visits or scan.session in visits]
        if not found:
            scans.append(GroupScan(folder.name, subject, '', folder, reason=UNEXPLAINED))
    for subject in sorted(wanted - {scan.subject for scan in scans}):
        scans.append(GroupScan(f'sub-{subject}', subject, '', output_dir, reason=ABSENT))
    if not any(scan.prediction for scan in scans):
        raise NothingToDoError(
            f'{output_dir} contains no explained images.',
            'Run `bids_interp BIDS_DIR OUTPUT_DIR participant` first, with the same OUTPUT_DIR.',
        )
    return scans


def order_scans(scans: Sequence[GroupScan], bids_dir: Path) -> tuple[list[GroupScan], bool]:
    """Sort the sessions of each subject by time.

    Parameters
    ----------
    scans : sequence of GroupScan
        Result of :func:`find_scans`.
    bids_dir : pathlib.Path
        Dataset whose tables may contain the times of the sessions.

    Returns
    -------
    list of Scan, bool
        Sorted scans, and whether some sessions could be sorted only by name.
    """
    of_subject: dict[str, list[GroupScan]] = {}
    for scan in scans:
        of_subject.setdefault(scan.subject, []).append(scan)
    ordered: list[GroupScan] = []
    by_name = False
    for subject, own in of_subject.items():
        sessions = list(dict.fromkeys(scan.session for scan in own))
        order, is_dated = order_sessions(bids_dir, subject, sessions)
        by_name |= not is_dated
        ordered += sorted(own, key=lambda scan: order.index(scan.session))
    return ordered, by_name


def _read_scan(path: Path, subject: str) -> GroupScan:
    prefix = path.name.removesuffix(PREDICTION)
    entities = dict(part.split('-', 1) for part in prefix.split('_') if '-' in part)
    prediction = None
    with suppress(ImageError):
        prediction = read_prediction(path)
    maps, space, velocity, is_stale = {}, '', None, False
    files = sorted(path.parent.glob(f'{prefix}_space-*.nii.gz'))
    template = _model_template(files, prediction)
    for file in files:
        found, moved = _MAP.search(file.name), _VELOCITY.search(file.name)
        if not (found or moved):
            continue
        if prediction and not is_made_with(file, prediction.model_hash):
            # The map is from an earlier run with another model.
            is_stale = True
        elif found and template and found[1] != template:
            continue  # resampled (--output-spaces)
        elif found:
            maps[found[2]], space = file, found[1]
        elif moved:
            velocity, space = file, space or moved[1]
    scan = GroupScan(
        prefix, subject, entities.get('ses', ''), path.parent, prediction, maps, velocity, space
    )
    if not prediction:
        return scan.left_out(f'{path.name} cannot be read')
    if not scan.folds:
        return scan.left_out('the prediction does not list the folds used')
    if not maps and velocity is None:
        return scan.left_out(STALE_MAPS if is_stale else NO_MAP)
    return scan


def _model_template(files: Sequence[Path], prediction: Prediction | None) -> str:
    """Return the template of the files on the grid of the model; empty if there are none."""
    model_hash = prediction.model_hash if prediction else None
    for file in files:
        found = _ON_MODEL_GRID.search(file.name)
        if found and is_made_with(file, model_hash):
            return found[1]
    return ''


def choose_summarised_model(
    scans: Sequence[GroupScan], wanted: tuple[str, str] | None = None
) -> tuple[str, str]:
    """Return name and hash of the model to summarise: the requested or the most frequent one.

    Raises
    ------
    InputDatasetError
        If no image was explained by the requested model.
    """
    counts = Counter(scan.model for scan in scans if scan.prediction and not scan.reason)
    if wanted is not None:
        if wanted not in counts:
            available = ', '.join(f'{name} ({digest})' for name, digest in sorted(counts)) or 'none'
            raise InputDatasetError(
                f'No image was explained by the model {wanted[0]} ({wanted[1]}).',
                f'Models of the derivatives: {available}. Choose one with --model.',
            )
        return wanted
    if not counts:
        reasons = '; '.join(sorted({scan.reason for scan in scans}))
        raise InputDatasetError(f'No image can be used: {reasons}.')
    return max(sorted(counts), key=lambda model: counts[model])


def select_scans(
    scans: Sequence[GroupScan], model: tuple[str, str], n_folds: int | None, include_training: bool
) -> list[GroupScan]:
    """Exclude other models, versions and grids, and training subjects that are not out of fold.

    New subjects are always out of fold. Training subjects are, if only the fold that held them out
    explains them. If all folds explain a training subject, an external classifier was trained with
    it.

    Parameters
    ----------
    scans : sequence of GroupScan
        Result of :func:`find_scans`.
    model : tuple of str
        Name and hash of the model.
    n_folds : int, optional
        Number of folds; by default the number found in the predictions, at least two.
    include_training : bool
        Include images that are not out of fold.

    Returns
    -------
    list of Scan
        All scans with their reasons. Only the first image of a subject is included.
    """
    named = {fold for scan in scans if scan.model == model for fold in scan.folds}
    total = n_folds or max(2, len(named))
    kept = [_check_model(scan, model) for scan in scans]
    kept = _keep_most_frequent(
        kept, 'version', 'processed with version {} of bids_interp, the others with {}'
    )
    kept = [_with_grid(scan) for scan in kept]
    kept = _keep_most_frequent(kept, 'grid', OTHER_GRID)
    chosen: list[GroupScan] = []
    used: set[str] = set()
    for scan in kept:
        # Earlier versions did not record this; there, all folds mean that none held it out.
        is_trained_on = scan.in_training and len(scan.folds) >= total
        if scan.held_out is not None:
            is_trained_on = not scan.held_out
        if not scan.reason and is_trained_on:
            if include_training:
                scan = replace(scan, note=TRAINED_WITH)
            else:
                scan = scan.left_out(f'{TRAINED_WITH} (--include-training)')
        elif not scan.reason and scan.in_training:
            scan = replace(scan, note=HELD_OUT)
        if not scan.reason and scan.subject in used:
            scan = scan.left_out(FURTHER)
        if not scan.reason:
            used.add(scan.subject)
        chosen.append(scan)
    return chosen


def exclude_relatives(
    scans: Sequence[GroupScan], family_of: Callable[[str], str], include_training: bool
) -> list[GroupScan]:
    """Exclude subjects explained by folds that were trained with a relative.

    Relatives resemble each other, so such a subject is not out of fold.

    Parameters
    ----------
    scans : sequence of GroupScan
        Result of :func:`select_scans`.
    family_of : callable
        Family of a subject.
    include_training : bool
        Include these subjects, with a note.
    """
    trained: dict[str, list[GroupScan]] = {}
    for scan in scans:
        if scan.in_training:
            trained.setdefault(family_of(scan.subject), []).append(scan)
    kept = []
    for scan in scans:
        is_related = any(
            other.subject != scan.subject
            and other.model == scan.model
            and not set(scan.folds) <= _held_out_folds(other)
            for other in trained.get(family_of(scan.subject), ())
        )
        if is_related and not scan.reason and include_training:
            scan = replace(scan, note=RELATED)
        elif is_related:
            scan = scan.left_out(f'{RELATED} (--include-training)')
        kept.append(scan)
    return kept


def _held_out_folds(scan: GroupScan) -> set[int]:
    """Return the folds that held out a training subject."""
    is_trained_on = scan.note == TRAINED_WITH or scan.reason.startswith(TRAINED_WITH)
    return set() if is_trained_on else set(scan.folds)


def _check_model(scan: GroupScan, model: tuple[str, str]) -> GroupScan:
    if scan.reason or scan.model == model:
        return scan.left_out(UNTRAINED) if _has_empty_maps(scan) else scan
    what = 'another contrast or version of the model' if scan.model[0] == model[0] else 'the model'
    return scan.left_out(f'explained by {what} {scan.model[0]} ({scan.model[1]})')


def _has_empty_maps(scan: GroupScan) -> bool:
    """Return True if only this scan has nothing to explain, unlike most of the model."""
    found = scan.prediction
    if found is None or found.pattern is None or not found.warranted:
        return False
    return found.pattern.capacity == 'ipmi2021' and not found.pattern.found


def _keep_most_frequent(scans: Sequence[GroupScan], name: str, reason: str) -> list[GroupScan]:
    """Exclude scans that differ from the majority in one attribute."""
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


def _with_grid(scan: GroupScan) -> GroupScan:
    """Read the grid of the maps from their headers."""
    if scan.reason:
        return scan
    import nibabel as nib

    grids = set()
    for path in scan.maps.values() if scan.maps else [scan.velocity]:
        try:
            image = nib.load(path)
        except (nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError):
            reason = f'{Path(str(path)).name} is damaged'
            return replace(scan.left_out(reason), is_damaged=True)
        affine = tuple(float(value) for value in image.affine.round(3).ravel() + 0.0)
        grids.add((scan.space, tuple(image.shape[:3]), affine))
    if len(grids) > 1:
        return scan.left_out(OWN_GRIDS)
    return replace(scan, grid=grids.pop())


def inclusion_row(scan: GroupScan, group: str | None) -> dict[str, Cell]:
    """Return the row of an image in the inclusion table."""
    has_prediction = scan.prediction is not None
    return {
        **scan.identity,
        'group': group,
        'included': not scan.reason,
        'reason': scan.reason or scan.note or None,
        'in_training_set': scan.in_training if has_prediction else None,
        'folds': scan.block or None,
        'model': scan.model[0] or None,
        'model_hash': scan.model[1] or None,
        'version': scan.version or None,
    }
