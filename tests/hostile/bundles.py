"""Model bundles, and archives of them, whose parts lie about each other."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from bids_interp.errors import UsageError
from bids_interp.models.external.card import ClassifierCard
from helpers.exports import CARD
from hostile.case import Bases, Case
from hostile.texts import BROKEN

Files = dict[str, bytes]
Change = Callable[[Files], None]
_HUGE = 10**400
IMAGES = 'context.safetensors'
CLASSIFIER = 'fold-0_classifier.safetensors'
SIMULATOR = 'fold-0_simulator.safetensors'


def _set(place: str, value: object) -> Change:
    """Set a value in the configuration, such as ``folds.0.temperature``."""

    def change(files: Files) -> None:
        config = json.loads(files['config.json'])
        *around, name = place.split('/')
        inner: Any = config
        for step in around:
            inner = inner[int(step) if step.isdigit() else step]
        inner[name] = value
        files['config.json'] = json.dumps(config).encode()

    return change


def _with(name: str, data: bytes) -> Change:
    """Replace or add a file, with its right hash."""

    def change(files: Files) -> None:
        files[name] = data
        _hashed(files, name)

    return change


def _hashed(files: Files, name: str) -> None:
    config = json.loads(files['config.json'])
    config['files'][name] = hashlib.sha256(files[name]).hexdigest()
    files['config.json'] = json.dumps(config).encode()


def _tensors(name: str, edit: Callable[[dict[str, torch.Tensor]], None]) -> Change:
    def change(files: Files) -> None:
        weights = load(files[name])
        edit(weights)
        files[name] = save(weights)
        _hashed(files, name)

    return change


def _raw(header: object, data: bytes = b'', size: int | None = None) -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(text) if size is None else size) + text + data


def _tensor(shape: list[int], kind: str = 'F32', end: int = 4) -> dict[str, Any]:
    return {'brain_mask': {'dtype': kind, 'shape': shape, 'data_offsets': [0, end]}}


def _as(name: str, kind: torch.dtype) -> Change:
    return _tensors(IMAGES, lambda weights: weights.update({name: weights[name].to(kind)}))


def _shape(name: str, *shape: int) -> Change:
    return _tensors(IMAGES, lambda weights: weights.update({name: torch.ones(shape)}))


def _code(kind: str = 'module', **given: object) -> Change:
    """Claim that the classifier is a module of Python, or something else."""
    card = ClassifierCard.from_dict({**CARD, 'architecture': 'robust'}).to_dict()
    return _set('classifier', {'external': {'kind': kind, **given}, 'card': card})


_CONFIGS: dict[str, Change] = {
    'grid of infinity': _set('grid/shape', [float('inf')] * 3),
    'grid of huge numbers': _set('grid/shape', [_HUGE] * 3),
    'grid of many voxels': _set('grid/shape', [10**6] * 3),
    'grid of fractions': _set('grid/shape', [20.5, 20, 20]),
    'affine of huge numbers': _set('grid/affine', [[_HUGE] * 4] * 4),
    'affine of texts': _set('grid/affine', 'RAS'),
    'space that is a list': _set('grid/space', ['x']),
    'another template': _set('template', '../../etc'),
    'temperature of huge numbers': _set('folds/0/temperature', _HUGE),
    'gap of huge numbers': _set('folds/0/class_gap', [_HUGE]),
    'several intercepts': _set('folds/0/intercept', [1.0, 2.0, 3.0]),
    'several temperatures': _set('folds/0/temperature', [1.0, 2.0]),
    'several gaps': _set('folds/0/class_gap', []),
    'no folds': _set('folds', []),
    'subjects of a huge fold': _set('subjects', {'ab': [_HUGE]}),
    'subjects of a negative fold': _set('subjects', {'ab': [-1]}),
    'percentile of 1e9': _set('preprocessing/percentile', 1e9),
    'ceiling of NaN': _set('preprocessing/ceiling', float('nan')),
    'a class that is a list': _set('target/positive', ['x']),
    'a class with half a character': _set('target/positive', '\ud800'),
    'the same class twice': _set('target/positive', 'control'),
    'a name that leads upwards': _set('name', '../../evil'),
    'a name with a page': _set('name', '<script>alert(1)</script>'),
    'a name with a newline': _set('name', 'a\nb'),
    'no name': _set('name', ''),
    'a long file name': _with('x' * 300, b''),
    'a file name with a zero': _with('a\0b', b''),
    'a file name with a newline': _with('a\nb', b''),
    'an unknown architecture': _set('classifier', {'architecture': '__import__', 'arguments': {}}),
    'many members': _set('classifier/arguments', {'members': 10**9}),
    'a negative number of members': _set('classifier/arguments', {'members': -1}),
    'channels beyond memory': _set('classifier/arguments', {'channels': [40_000, 40_000]}),
    'no channels': _set('classifier/arguments', {'channels': []}),
    'negative channels': _set('classifier/arguments', {'channels': [-4, 8]}),
    'channels that are texts': _set('classifier/arguments', {'channels': 'xy'}),
    'a shape of its own': _set('classifier/arguments', {'shape': [2, 2, 2]}),
    'many outputs': _set('classifier/arguments', {'channels': [4, 8], 'outputs': 10**10}),
    'an unknown norm': _set('classifier/arguments', {'channels': [4, 8], 'norm': '__init__'}),
    'a wide simulator': _set('simulator/width', 20_000),
    'a simulator without width': _set('simulator/width', 0),
    'many contrasts': _set('simulator/contrasts', 10**7),
    'a negative number of contrasts': _set('simulator/contrasts', -1),
    'many experts': _set('simulator', {'capacity': 'condconv', 'experts': 10**7}),
    'smoothing of NaN': _set('simulator/smoothing_mm', float('nan')),
    'smoothing of 1e300 mm': _set('simulator/smoothing_mm', 1e300),
    'negative smoothing': _set('simulator/smoothing_mm', -5.0),
    'an unknown capacity': _set('simulator/capacity', '__import__'),
    'a classifier of an unknown kind': _code('pickle'),
}
#: Only a user may permit it.
_CODE: dict[str, Change] = {
    'a classifier that is code': _code(location='os:system'),
    'a classifier that is code without a name': _code(),
}
_WEIGHTS: dict[str, Change] = {
    'weights of no bytes': _with(CLASSIFIER, b''),
    'weights of a pickle': _with(SIMULATOR, b'\x80\x04\x95' + bytes(100)),
    'weights with a header of 2^63 bytes': _with(CLASSIFIER, _raw({}, size=2**63)),
    'weights with a header of 100 MB': _with(CLASSIFIER, _raw({}, size=10**8)),
    'weights with a header that is no JSON': _with(CLASSIFIER, _raw(b'{"x"')),
    'weights with a deep header': _with(CLASSIFIER, _raw(b'[' * 100_000)),
    'weights of no tensors': _with(CLASSIFIER, _raw({})),
    'a mask of 2^124 values': _with(IMAGES, _raw(_tensor([2**62, 2**62]), bytes(4))),
    'a mask of negative size': _with(IMAGES, _raw(_tensor([-1, -1]), bytes(4))),
    'a mask beyond the file': _with(IMAGES, _raw(_tensor([10**9], end=4 * 10**9), bytes(4))),
    'a mask of an unknown type': _with(IMAGES, _raw(_tensor([1], 'F999'), bytes(4))),
    'a mask of one value': _with(IMAGES, _raw(_tensor([1]), bytes(4))),
    'a mask in bfloat16': _as('brain_mask', torch.bfloat16),
    'a mask in float8': _as('brain_mask', torch.float8_e4m3fn),
    'a mask in complex numbers': _as('brain_mask', torch.complex64),
    'a mean image in float8': _as('mean_image', torch.float8_e5m2),
    'a mean image of another shape': _shape('mean_image', 2, 2),
    'a mask of another shape': _shape('brain_mask', 5),
    'a mask of two volumes': _shape('brain_mask', 2, 2, 2, 2),
    'a second mean image of another shape': _shape('mean_image_1', 3),
    'weights of another shape': _tensors(
        CLASSIFIER, lambda weights: weights.update({key: torch.zeros(3) for key in weights})
    ),
    'weights in float8': _tensors(
        SIMULATOR,
        lambda weights: weights.update({k: v.to(torch.float8_e4m3fn) for k, v in weights.items()}),
    ),
}


def bundle_files(bases: Bases) -> Files:
    """Return the files of a good bundle."""
    return {path.name: path.read_bytes() for path in bases.bundle.iterdir()}


def _bundle(what: str, change: Change, **expected: Any) -> Case:
    def make(folder: Path, bases: Bases) -> Path:
        files = bundle_files(bases)
        change(files)
        path = folder / 'model'
        path.mkdir()
        for name, data in files.items():
            if '\0' not in name and len(name) < 256:
                (path / name).write_bytes(data)
        return path

    return Case(f'bundle {what}', 'bundle', make, **expected)


def _linked(what: str, target: str) -> Case:
    def make(folder: Path, bases: Bases) -> Path:
        path = Path(shutil.copytree(bases.bundle, folder / 'model'))
        (path / CLASSIFIER).unlink()
        (path / CLASSIFIER).symlink_to(target)
        return path

    return Case(f'bundle {what}', 'bundle', make)


def _zip(files: Files, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', **{'compression': zipfile.ZIP_DEFLATED, **options}) as target:
        for name, data in files.items():
            target.writestr(name, data)
    return buffer.getvalue()


def _archive(what: str, content: Callable[[Files], bytes], **expected: Any) -> Case:
    def make(folder: Path, bases: Bases) -> Path:
        path = folder / 'model.zip'
        path.write_bytes(content(bundle_files(bases)))
        return path

    return Case(f'archive {what}', 'archive', make, **expected)


def _changed(*changes: Change) -> Callable[[Files], bytes]:
    def content(files: Files) -> bytes:
        for change in changes:
            change(files)
        return _zip(files)

    return content


def _bomb(files: Files) -> bytes:
    """A small archive of 100 MB of zeros."""
    files['zeros.bin'] = bytes(100 * 2**20)
    _set('files/zeros.bin', '0' * 64)(files)
    return _zip(files)


def _patched(signature: bytes, offset: int, value: bytes) -> Callable[[Files], bytes]:
    """Overwrite bytes at an offset from the last occurrence of a signature."""

    def content(files: Files) -> bytes:
        data = bytearray(_zip(files))
        start = data.rindex(signature) + offset
        data[start : start + len(value)] = value
        return bytes(data)

    return content


def _many_entries(files: Files) -> bytes:
    return _zip({**files, **{f'x{index}': b'' for index in range(5_000)}})


_END, _ENTRY, _LOCAL = b'PK\5\6', b'PK\1\2', b'PK\3\4'
_ARCHIVES: dict[str, Callable[[Files], bytes]] = {
    'of nothing': lambda files: b'',
    'of only an end': lambda files: _END + bytes(18),
    'of a bundle in lzma with damage': lambda files: (
        lambda data: data[:2000] + b'\xff' * 200 + data[2200:]
    )(_zip(files, compression=zipfile.ZIP_LZMA)),
    'of a bundle in bzip2 with damage': lambda files: (
        lambda data: data[:2000] + b'\xff' * 200 + data[2200:]
    )(_zip(files, compression=zipfile.ZIP_BZIP2)),
    'with an unknown method': _patched(_ENTRY, 10, b'\x63\0'),
    'with a later version': _patched(_ENTRY, 6, b'\xff\xff'),
    'with a directory beyond the file': _patched(_END, 16, b'\xff\xff\xff\x7f'),
    'with a directory of 4 GB': _patched(_END, 12, b'\xff\xff\xff\x7f'),
    'with an entry beyond the file': _patched(_ENTRY, 42, b'\xff\xff\xff\x7f'),
    'with an entry of 4 GB': _patched(_ENTRY, 24, b'\xff\xff\xff\xfe'),
    'with a wrong checksum': _patched(_ENTRY, 16, b'\1\2\3\4'),
    'with another local name': _patched(_LOCAL, 30, b'evil'),
    'with a name of no text': _patched(_ENTRY, 46, b'\xff\xfe'),
    'of many entries': _many_entries,
    'that is a bomb': _bomb,
    'with a folder': lambda files: _zip({**files, 'folder/': b''}),
    'of another program': lambda files: _zip({'word/document.xml': b'<x/>'}),
    'with a long name': _changed(_with('x' * 300, b'')),
    'with a name of a terminal sequence': _changed(_with('\x1b[2J', b'')),
    'with a grid of infinity': _changed(_set('grid/shape', [float('inf')] * 3)),
    'with weights of a pickle': _changed(_with(CLASSIFIER, b'\x80\x04.')),
}

CASES = [
    *(_bundle(what, change) for what, change in {**_CONFIGS, **_WEIGHTS}.items()),
    *(_bundle(what, change, error=UsageError) for what, change in _CODE.items()),
    *(
        _bundle(f'with {what}', lambda files, text=text: files.update({'config.json': text}))
        for what, text in BROKEN.items()
    ),
    _archive('with a wrong number of entries', _patched(_END, 10, b'\xff\xfe'), refused=False),
    _archive('with a date that is none', _patched(_ENTRY, 12, b'\xff\xff\xff\xff'), refused=False),
    _archive(
        'with an extra field beyond the end', _patched(_ENTRY, 30, b'\xff\xff'), refused=False
    ),
    # Only --allow-code runs it.
    _archive(
        'with code',
        _changed(_with('__init__.py', b'import os'), _code(location='os:system')),
        refused=False,
    ),
    _linked('with a link to a device', '/dev/zero'),
    _linked('with a link to a file of the system', '/etc/passwd'),
    _linked('with a link to itself', CLASSIFIER),
    *(_archive(what, content) for what, content in _ARCHIVES.items()),
    *(
        _archive(f'with {what}', lambda files, text=text: _zip({**files, 'config.json': text}))
        for what, text in BROKEN.items()
    ),
]
