"""Archives of ``torch.export`` that are damaged, or whose graph says what no graph may say.

Attacks that would run code are in ``tests/models/test_external_archive.py``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.export.pt2_archive import PT2ArchiveWriter

from hostile.case import Case
from hostile.texts import BROKEN

MODEL = 'models/model.json'
WEIGHTS = 'data/weights/model_weights_config.json'
Records = dict[str, bytes]


def packed(records: Records) -> bytes:
    """Return an archive of these files."""
    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        for name, content in records.items():
            writer.write_bytes(name, content)
    return buffer.getvalue()


def _edited(name: str, change: Callable[[Any], None]) -> Callable[[Records], bytes]:
    def content(records: Records) -> bytes:
        plain = json.loads(records[name])
        change(plain)
        return packed({**records, name: json.dumps(plain).encode()})

    return content


def _graph(plain: dict[str, Any]) -> dict[str, Any]:
    return plain['graph_module']['graph']


def _first_weight(**changes: object) -> Callable[[Any], None]:
    return lambda plain: next(iter(plain['config'].values())).update(changes)


def _sizes(expression: str) -> Callable[[Any], None]:
    def change(plain: dict[str, Any]) -> None:
        _graph(plain)['tensor_values']['image']['sizes'][0]['as_expr']['expr_str'] = expression

    return change


def _meta(**changes: object) -> Callable[[Any], None]:
    """Change what the archive says about the shape of a weight."""

    def change(plain: dict[str, Any]) -> None:
        for entry in plain['config'].values():
            entry['tensor_meta'].update(changes)

    return change


_EXPORTS: dict[str, Callable[[Records], bytes]] = {
    'without weights': lambda records: packed(
        {k: v for k, v in records.items() if not k.startswith('data/weights/weight')}
    ),
    'of a list of nodes': _edited(MODEL, lambda plain: _graph(plain).update(nodes=[])),
    'without nodes': _edited(MODEL, lambda plain: _graph(plain).pop('nodes')),
    'of nodes that are numbers': _edited(MODEL, lambda plain: _graph(plain).update(nodes=[1])),
    'of a target that is a number': _edited(
        MODEL, lambda plain: _graph(plain)['nodes'][0].update(target=3)
    ),
    'with a node twice': _edited(
        MODEL, lambda plain: _graph(plain)['nodes'].append(_graph(plain)['nodes'][0])
    ),
    'with nodes in the wrong order': _edited(MODEL, lambda plain: _graph(plain)['nodes'].reverse()),
    'with a size of many digits': _edited(MODEL, _sizes('9' * 5000)),
    'with a size of a tower': _edited(MODEL, _sizes('9**9**9**9')),
    'with a size of a tower of calls': _edited(MODEL, _sizes('Pow(9, Pow(9, Pow(9, 9)))')),
    'with a size of many powers': _edited(MODEL, _sizes('((((((9**8)**8)**8)**8)**8)**8)**8')),
    'with a size of a shift': _edited(MODEL, _sizes('1 << 99999999999')),
    'with a size of a long text': _edited(MODEL, _sizes("'x' * 99999999999")),
    'with a size of many brackets': _edited(MODEL, _sizes('(' * 10_000)),
    'with a size of a long sum': _edited(MODEL, _sizes('+'.join(['s0'] * 20_000))),
    'with weights of negative size': _edited(WEIGHTS, _meta(sizes=[{'as_int': -1}])),
    'with weights of 2^62 values': _edited(WEIGHTS, _meta(sizes=[{'as_int': 2**62}])),
    'with weights of an unknown type': _edited(WEIGHTS, _meta(dtype=99)),
    'with strides beyond the file': _edited(WEIGHTS, _meta(strides=[{'as_int': 2**40}])),
    'with an offset beyond the file': _edited(WEIGHTS, _meta(storage_offset={'as_int': 2**40})),
    'with a weight without a file': _edited(WEIGHTS, _first_weight(path_name='weight_999')),
    'with a weight whose file is a number': _edited(WEIGHTS, _first_weight(path_name=3)),
    'with a weight without a description': _edited(WEIGHTS, _first_weight(tensor_meta=None)),
    'with half a weight': lambda records: packed(
        {k: v[:-4] if k == 'data/weights/weight_0' else v for k, v in records.items()}
    ),
    'with no weights at all': _edited(WEIGHTS, lambda plain: plain.update(config={})),
    'with weights in a list': _edited(WEIGHTS, lambda plain: plain.update(config=[])),
    'with another version': _edited(MODEL, lambda plain: plain.update(schema_version='x')),
    'with a later version': _edited(
        MODEL, lambda plain: plain.update(schema_version={'major': 999, 'minor': 0})
    ),
    'of a zip file': lambda records: b'PK\5\6' + bytes(18),
    'of a saved module': lambda records: b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.',
}
CASES = [
    Case(
        f'export {what}',
        'export',
        lambda folder, bases, content=content: _write(folder, content(dict(bases.export))),
    )
    for what, content in {
        **_EXPORTS,
        **{
            f'with {what}': lambda records, text=text: packed({**records, MODEL: text})
            for what, text in BROKEN.items()
        },
    }.items()
]


def _write(folder: Path, content: bytes) -> Path:
    path = folder / 'classifier.pt2'
    path.write_bytes(content)
    return path
