"""Small good inputs, from which a fuzzer starts beside the hostile ones."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterator

import nibabel as nib
import numpy as np

from hostile.case import Bases
from hostile.texts import JSON


def good_inputs(reader: str, bases: Bases) -> Iterator[bytes]:
    """Yield inputs that a reader accepts, or nearly."""
    if reader == 'image':
        values = np.random.default_rng(0).integers(0, 200, (16, 16, 16)).astype(np.uint8)
        for kind in (nib.Nifti1Image, nib.Nifti2Image):
            content = kind(values, np.diag([5.0, 5, 5, 1])).to_bytes()
            yield content
            yield gzip.compress(content)
    elif reader in JSON:
        yield json.dumps(JSON[reader][1]).encode()
    elif reader == 'table':
        yield b'participant_id\tage\tgroup\nsub-01\t40\tCN\nsub-02\tn/a\tAD\n'
    elif reader == 'settings':
        yield b'participant_label = ["01"]\ndoses = [0.5, 1]\n\n[derivatives]\n"prep" = "/prep"\n'
    elif reader == 'plugin':
        yield b'plugin: Dask\nplugin_args: {n_workers: 2, memory_limit: 4GB, tls: false}\n'
    elif reader == 'bundle':
        yield (bases.bundle / 'config.json').read_bytes()
    elif reader == 'archive':
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as target:
            target.writestr('config.json', (bases.bundle / 'config.json').read_bytes())
            target.writestr('README.md', b'x')
        yield buffer.getvalue()
