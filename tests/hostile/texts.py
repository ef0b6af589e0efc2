"""JSON, TOML and YAML files that are broken, contradict their schema or are not what they seem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.exports import CARD
from hostile.case import Bases, Case

DESCRIPTION = {'Name': 'study', 'BIDSVersion': '1.10.0'}
FILTER = {'t1w': {'acquisition': 'mprage'}}
PREDICTION = {
    'Target': {'kind': 'binary'},
    'ExplanationWarranted': True,
    'InTrainingSet': False,
    'FoldsUsed': [0],
    'Observed': {'LogitMean': 0.5},
    'Simulated': {},
}
JSON = {
    'description': ('dataset_description.json', DESCRIPTION),
    'filter': ('filter.json', FILTER),
    'card': ('card.json', CARD),
    'prediction': ('sub-01_desc-explain_prediction.json', PREDICTION),
}
DEEP = 100_000
#: Content that is no valid JSON text for any reader.
BROKEN: dict[str, bytes] = {
    'nothing': b'',
    'half an object': b'{"Name": "x",',
    'two values': b'{} {}',
    'a comment': b'// {}\n',
    'zeros': bytes(1000),
    'bytes of no text': bytes(range(128, 256)),
    'UTF-32': '{"Name": "x"}'.encode('utf-32'),
    'a number of 5000 digits': b'{"Name": %s}' % (b'9' * 5000),
    'half a character': b'{"Name": "\\ud800", "t1w": {"acquisition": "\\ud800"}}',
    'many brackets': b'[' * DEEP,
    'many objects': b'{"t1w":' * DEEP,
    'a pickle': b'\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix',
    'a list': b'[]',
    'a text': b'"Name"',
    'no value': b'null',
    'a number': b'1e999',
}


def _file(name: str, content: bytes, reader: str, what: str, **expected: Any) -> Case:
    def make(folder: Path, bases: Bases) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return Case(f'{reader} {what}', reader, make, **expected)


def _json(reader: str, what: str, content: Any, **expected: Any) -> Case:
    return _file(JSON[reader][0], json.dumps(content).encode(), reader, what, **expected)


def _changed(reader: str, **changes: Any) -> Case:
    what = ' '.join(f'{key}={str(value)[:30]}' for key, value in changes.items())
    return _json(reader, f'with {what}', {**JSON[reader][1], **changes})


_HUGE = 10**400
_FIELDS = [
    *(_changed('description', Name=name) for name in (None, 3, ['x'], {'x': 1}, True)),
    *(_changed('card', input_shape=shape) for shape in ([_HUGE] * 3, [1e9] * 3, [1e400] * 3)),
    *(_changed('card', voxel_size=size) for size in ([1e-300] * 3, [_HUGE] * 3, [[[1]]])),
    _changed('card', origin=[1e308, 1e308, 1e308, 1]),
    _changed('card', target_mean=_HUGE),
    _changed('card', preprocessing={'normalisation': ['percentile']}),
    _changed('card', preprocessing={'normalisation': 'percentile', 'percentile': _HUGE}),
    _changed('card', preprocessing={'normalisation': 'percentile', 'percentile': 1e9}),
    _changed('card', preprocessing={'normalisation': 'percentile', 'ceiling': -1}),
    _changed('card', output=['logit']),
    _changed('card', orientation=['R', 'A', 'S']),
    _changed('card', classes=[['a'], ['b']]),
    _changed('card', golden='../../../etc/passwd'),
    _changed('card', golden='/etc/passwd'),
    _changed('card', arguments=[]),
    _changed('card', architecture={'x': 1}),
    *(_changed('prediction', FoldsUsed=folds) for folds in (3, ['0'], [0.5], {'0': 1})),
    _changed('prediction', Observed=[]),
    _changed('prediction', Simulated={'inject100': 5}),
    _changed('prediction', Target={'kind': 5}),
    _changed('prediction', Target=None),
    _changed('prediction', GeneratedBy=['x']),
    _json('filter', 'of an entity that is a number', {'t1w': {'run': {'x': 1}}}),
    _json('filter', 'of an entity that is nested', {'t1w': {'run': [[1], [2]]}}),
    _json('filter', 'of an entity without a name', {'t1w': {'': 'x'}}),
    _json('filter', 'of a query without a name', {'': {}}),
    _json('filter', 'of an entity with a huge number', {'t1w': {'run': _HUGE}}),
]

_TOML: dict[str, str] = {
    'no table': '[',
    'a date that is none': 'a = 1979-99-99',
    'a number of 5000 digits': f'nprocs = {"9" * 5000}',
    'a key twice': 'nprocs = 1\nnprocs = 2',
    'a table of an array': '[[nprocs]]\na = 1',
    'a path that is a number': 'model = 3',
    'a path that is a list': 'work_dir = ["a"]',
    'a path that is a date': 'bids_filter_file = 1979-05-27',
    'a path with a zero': 'work_dir = "a\\u0000b"',
    'a home of nobody': 'model = "~no-such-user-here/model"',
    'derivatives that are a number': 'derivatives = 3',
    'derivatives that are texts': 'derivatives = ["prep"]',
    'derivatives of a number': '[derivatives]\nprep = 3',
    'derivatives of a table': '[derivatives.prep]\nx = 1',
    'labels that are a number': 'participant_label = 3',
    'labels that lead upwards': 'participant_label = ["../01"]',
    'labels with a newline': 'participant_label = ["01\\n02"]',
    'labels that are tables': 'participant_label = [{a = 1}]',
    'doses that are dates': 'doses = [1979-05-27]',
    'doses that are texts': 'doses = ["1"]',
    'doses that are lists': 'doses = [[1]]',
    'infinite memory': 'mem_gb = inf',
    'memory of no number': 'mem_gb = nan',
    'a device with a command': 'device = "cuda:$(id)"',
    'a template with a path': 'template = "../../etc"',
    'a space with a path': 'output_spaces = ["../x"]',
    'brackets': f'a = {"[" * DEEP}',
    'tables': f'a = {"{a=" * DEEP}',
    'long dotted keys': '.'.join(['a'] * DEEP) + ' = 1',
}
_YAML: dict[str, str] = {
    'an object of Python': 'plugin: !!python/object/apply:os.system ["id"]',
    'a module of Python': 'plugin: !!python/module:os',
    'a date that is none': 'plugin: 2001-99-99',
    'a number that is none': 'plugin: !!int "x"',
    'a number of 5000 digits': f'plugin: {"9" * 5000}',
    'a float that is none': 'plugin: !!float "x"',
    'bytes that are none': 'plugin: !!binary "=x="',
    'a key that is a list': '? [a]\n: b',
    'a key that is itself': '&a {*a : b}',
    'an anchor that does not exist': 'plugin: *a',
    'a list in itself': 'plugin: Dask\nplugin_args: &a [*a]',
    'arguments in themselves': 'plugin: Dask\nplugin_args: &a {slurm: *a, pbs: *a}',
    'a billion laughs': (
        'a: &a [x,x,x,x,x,x,x,x,x]\n'
        + ''.join(
            f'{new}: &{new} [{",".join([f"*{old}"] * 9)}]\n'
            for old, new in zip('abcdefgh', 'bcdefghi', strict=True)
        )
        + 'plugin: Dask\nplugin_args: {n_workers: *i}'
    ),
    'two documents': 'plugin: Linear\n---\nplugin: Dask',
    'a control character': 'plugin: "\x01"',
    'a tab': 'plugin:\n\t- Dask',
    'brackets': '[' * 5_000,
    'arguments that are numbers': 'plugin: Dask\nplugin_args: {1: 2}',
    'workers that are none': 'plugin: Dask\nplugin_args: {n_workers: -3}',
    'workers that are a text': 'plugin: Dask\nplugin_args: {n_workers: many}',
    'a scheduler that is a list': 'plugin: Dask\nplugin_args: {scheduler: [a, b]}',
    'memory that is none': 'plugin: MultiProc\nplugin_args: {memory_gb: all}',
    'certificates that are none': 'plugin: Dask\nplugin_args: {tls: {ca_file: 3, cert: [x]}}',
}

CASES = [
    *(
        _file(name, content, reader, what)
        for reader, (name, _) in JSON.items()
        for what, content in BROKEN.items()
    ),
    *_FIELDS,
    *(_file('run.toml', text.encode(), 'settings', what) for what, text in _TOML.items()),
    _file(
        'run.toml',
        b'omp_nthreads = 99999999999999999999',
        'settings',
        'endless threads',
        refused=False,
    ),
    *(_file('plugin.yml', text.encode(), 'plugin', what) for what, text in _YAML.items()),
    *(
        _file(name, content, reader, what)
        for name, reader in (('run.toml', 'settings'), ('plugin.yml', 'plugin'))
        for what, content in BROKEN.items()
        if what in ('zeros', 'bytes of no text', 'UTF-32', 'a pickle')
    ),
]
