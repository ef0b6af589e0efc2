"""Prepared brains: preprocessing of an earlier run that can be reused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_interp.bids.names import output_name, sidecar_name
from bids_interp.bids.read.query import T1wRecord
from bids_interp.records import parse_json
from bids_interp.settings import NATIVE_SPACE, Settings
from bids_interp.version import __version__

#: Key in the sidecar of the preprocessed image.
PREPARED_WITH = 'PreparedWith'
#: Key below ``Conformation`` in the same sidecar.
FINGERPRINT = 'SourceFingerprint'


@dataclass(frozen=True)
class PreparedFiles:
    """Preprocessed files of one image from an earlier run.

    Parameters
    ----------
    t1w, mask : pathlib.Path
        Preprocessed native image and brain mask.
    transform : pathlib.Path
        Sidecar of the transform, which contains the matrix.
    """

    t1w: Path
    mask: Path
    transform: Path


def prepared_with(settings: Settings) -> dict[str, Any]:
    """Return the settings that determine how a brain is prepared.

    Raises
    ------
    ValueError
        If the settings do not name the whole-head template: the automatic choice may differ
        between runs.
    """
    if settings.template is None:
        raise ValueError('The settings must name the whole-head template.')
    return {
        'Version': __version__,
        'SkullStrip': settings.skull_strip_t1w,
        'StripTemplate': settings.template,
        'Fast': settings.fast,
        'RandomSeed': settings.random_seed,
        'Derivatives': [name for name, _ in settings.derivatives],
    }


def find_prepared(
    settings: Settings, record: T1wRecord, template: str, fingerprint: str
) -> PreparedFiles | None:
    """Find the preprocessing of an image by an earlier run, compared by content.

    Parameters
    ----------
    settings : Settings
        Settings of this run; the files are searched in its output directory.
    record : T1wRecord
        The image.
    template : str
        Template of the registration.
    fingerprint : str
        Result of :func:`bids_interp.models.bundle.fingerprint.image_fingerprint`.

    Returns
    -------
    Prepared or None
        None if a file is missing or was made from other voxels or with other settings.
    """
    out = settings.output_dir
    t1w = out / output_name(record.path, 'preproc')
    mask = out / output_name(record.path, 'mask')
    transform = out / output_name(
        record.path, 'transform', **{'from': NATIVE_SPACE, 'to': template}
    )
    side = sidecar_name(t1w), sidecar_name(transform)
    if not all(path.is_file() for path in (t1w, mask, transform, *side)):
        return None
    try:
        facts, registration = (parse_json(path.read_text(encoding='utf-8')) for path in side)
    except (OSError, ValueError):
        return None
    is_same = (
        facts.get(PREPARED_WITH) == prepared_with(settings)
        and (facts.get('Conformation') or {}).get(FINGERPRINT) == fingerprint
        and 'native_to_template' in (registration.get('Registration') or {})
    )
    return PreparedFiles(t1w, mask, side[1]) if is_same else None
