"""Brains that an earlier run has prepared in the output directory, and whether they still hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_interp.bids.names import output_name, sidecar_name
from bids_interp.bids.read.query import T1wRecord
from bids_interp.settings import NATIVE_SPACE, Settings
from bids_interp.version import __version__

#: Key in the sidecar of the preprocessed image.
PREPARED_WITH = 'PreparedWith'
#: Key below ``Conformation`` in the same sidecar.
FINGERPRINT = 'SourceFingerprint'


@dataclass(frozen=True)
class Prepared:
    """What an earlier run left of one image.

    Parameters
    ----------
    t1w, mask : pathlib.Path
        Preprocessed native image and brain mask.
    transform : pathlib.Path
        Sidecar of the transform, which has the matrix.
    """

    t1w: Path
    mask: Path
    transform: Path


def prepared_with(settings: Settings) -> dict[str, Any]:
    """Return what decides how a brain is prepared, beside the image.

    Raises
    ------
    ValueError
        If the settings do not name the whole-head template: which one is best may change between
        two runs.
    """
    if settings.template is None:
        raise ValueError('The settings do not name the whole-head template.')
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
) -> Prepared | None:
    """Look for an image's preprocessing of an earlier run, by content.

    Parameters
    ----------
    settings : Settings
        Choices of the user; the files are looked for below their output directory.
    record : T1wRecord
        The image.
    template : str
        Template that it must be registered to.
    fingerprint : str
        Of the image, see :func:`bids_interp.models.bundle.fingerprint.image_fingerprint`.

    Returns
    -------
    Prepared or None
        None where a file is missing, or was made of other voxels or in another way.
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
        facts, registration = (json.loads(path.read_text(encoding='utf-8')) for path in side)
    except (OSError, ValueError):
        return None
    is_same = (
        facts.get(PREPARED_WITH) == prepared_with(settings)
        and (facts.get('Conformation') or {}).get(FINGERPRINT) == fingerprint
        and 'native_to_template' in (registration.get('Registration') or {})
    )
    return Prepared(t1w, mask, side[1]) if is_same else None
