"""Blob results: scores and pictures of finished units in the output folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from bids_interp.bench.blobs.blob_design import BlobBenchmark, BlobUnit
from bids_interp.bench.blobs.blob_unit import UnitResult
from bids_interp.bench.records import Score
from bids_interp.bids.write.atomic import atomic, write_json
from bids_interp.errors import OutputError
from bids_interp.records import read_record, to_plain

FOLDER = 'units'


@dataclass(frozen=True)
class BlobRecord:
    """Content of ``units/<name>.json``.

    Parameters
    ----------
    variant, dim, seed
        See :class:`BlobUnit`.
    digest : str
        Digest of the design; records of another design are computed again.
    seconds : float
        Time of the computation, on one thread.
    rows : sequence of Score
        Scores.
    notes : mapping
        Why a method has no map, by method.
    """

    variant: str
    dim: int
    seed: int
    digest: str
    seconds: float
    rows: Sequence[Score]
    notes: Mapping[str, str]

    @property
    def unit(self) -> BlobUnit:
        """What was drawn."""
        return BlobUnit(self.variant, self.dim, self.seed)


def save_unit(
    out: Path, unit: BlobUnit, digest: str, seconds: float, result: UnitResult
) -> BlobRecord:
    """Write the pictures and then the record of a unit."""
    record = BlobRecord(*unit, digest, round(seconds, 1), result.rows, result.notes)
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {name: np.ascontiguousarray(part) for name, part in result.pictures.items()}
    with atomic(_pictures_file(out, unit)) as partial:
        save_file(pictures, partial)
    # Written last, because it marks the unit as finished.
    write_json(folder / f'{unit.name}.json', to_plain(record))
    return record


def finished_units(out: Path, benchmark: BlobBenchmark) -> dict[BlobUnit, BlobRecord]:
    """Return the records of the units of a design that are finished."""
    found = {}
    for unit in benchmark.units:
        path = out / FOLDER / f'{unit.name}.json'
        if path.is_file() and _pictures_file(out, unit).is_file():
            record = read_record(BlobRecord, path, OutputError, 'Move or delete the file.')
            if record.digest == benchmark.digest(unit.dim):
                found[unit] = record
    return found


def load_pictures(out: Path, unit: BlobUnit) -> dict[str, np.ndarray]:
    """Return the pictures of a finished unit."""
    return load_file(_pictures_file(out, unit))


def _pictures_file(out: Path, unit: BlobUnit) -> Path:
    return out / FOLDER / f'{unit.name}.safetensors'
