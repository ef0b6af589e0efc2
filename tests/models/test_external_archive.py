"""Nothing that the writer of an archive put there is run."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

from bids_interp.errors import ModelError
from bids_interp.models.external.export_archive import load_program
from helpers.exports import SHAPE, export, seeded

MODEL = 'models/model.json'
WEIGHTS = 'data/weights/model_weights_config.json'
CONSTANTS = 'data/constants/model_constants_config.json'
SAMPLES = 'data/sample_inputs/model.pt'

Records = dict[str, bytes]
Change = Callable[[Any], None]


@pytest.fixture(scope='module')
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """The files inside a good archive."""
    path = export(seeded(), tmp_path_factory.mktemp('archive') / 'good.pt2')
    reader = PT2ArchiveReader(str(path))
    ours = [name for name in reader.get_file_names() if name.startswith(('data/', 'models/'))]
    return {name: reader.read_bytes(name) for name in ours}


def packed(records: Records) -> bytes:
    """An archive of these files."""
    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        for name, content in records.items():
            writer.write_bytes(name, content)
    return buffer.getvalue()


def edited(records: Records, name: str, change: Change) -> Records:
    """The same files, one of JSON changed."""
    content = json.loads(records[name])
    change(content)
    return {**records, name: json.dumps(content).encode()}


class _Pickled:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def _pickled_payload(config: str, name: str) -> Callable[[Records, Path], Records]:
    """An archive that says that a weight or constant is a pickled object."""

    def attack(records: Records, trace: Path) -> Records:
        def change(content: Any) -> None:
            entry = next(iter(content['config'].values()))
            entry.update(path_name=name, use_pickle=True)

        folder = config.rpartition('/')[0]
        payload = pickle.dumps(_Pickled(trace))
        return {**edited(records, config, change), f'{folder}/{name}': payload}

    return attack


def _saved(trace: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(_Pickled(trace), buffer)
    return buffer.getvalue()


def _pickled_weight(records: Records, trace: Path) -> Records:
    return {
        **_pickled_payload(WEIGHTS, 'weight_0')(records, trace),
        'data/weights/weight_0': _saved(trace),
    }


def _text(place: Callable[[dict[str, Any], str], None], text: str):
    """An archive with a text in its graph that would be compiled or evaluated."""

    def attack(records: Records, trace: Path) -> Records:
        return edited(records, MODEL, lambda content: place(content, text.format(trace=trace)))

    return attack


def _as_size(content: dict[str, Any], text: str) -> None:
    values = content['graph_module']['graph']['tensor_values']
    values['image']['sizes'][0]['as_expr']['expr_str'] = text


def _convolution(content: dict[str, Any]) -> dict[str, Any]:
    nodes = content['graph_module']['graph']['nodes']
    return next(node for node in nodes if 'conv3d' in node['target'])


def _as_name(content: dict[str, Any], text: str) -> None:
    plain = json.dumps(content['graph_module']['graph'])
    old = _convolution(content)['outputs'][0]['as_tensor']['name']
    renamed = plain.replace(json.dumps(old), json.dumps(text))
    content['graph_module']['graph'] = json.loads(renamed)


def _as_target(content: dict[str, Any], text: str) -> None:
    _convolution(content)['target'] = text


def _as_argument(content: dict[str, Any], text: str) -> None:
    content['graph_module']['module_call_graph'][0]['signature']['forward_arg_names'] = [text]


def _as_option(content: dict[str, Any], text: str) -> None:
    _convolution(content)['inputs'].append({'name': 'mode', 'arg': {'as_string': text}, 'kind': 2})


REFUSED: dict[str, tuple[Callable[[Records, Path], Records], str]] = {
    'pickled weight': (_pickled_weight, 'pickled'),
    'custom object': (_pickled_payload(CONSTANTS, 'custom_obj_0'), 'pickled'),
    'opaque object': (_pickled_payload(CONSTANTS, 'opaque_obj_0'), 'pickled'),
    'compiled code': (
        lambda records, trace: {**records, 'data/aotinductor/model/x.so': b'ELF'},
        'compiled',
    ),
    'size': (_text(_as_size, "__import__('os').mkdir('{trace}')"), '__import__'),
    'size by attribute': (_text(_as_size, "Symbol.mro('{trace}')"), r'Symbol\.mro'),
    'size by builtin': (_text(_as_size, 'breakpoint()'), 'breakpoint'),
    'size without end': (_text(_as_size, '9**9**9'), '9'),
    'size by calls without end': (_text(_as_size, 'Pow(9, Pow(9, 9))'), 'Pow'),
    'name': (_text(_as_name, 'x\n    __import__("os").mkdir("{trace}")'), '__import__'),
    'argument': (_text(_as_argument, 'x=__import__("os").mkdir("{trace}")'), '__import__'),
    'option': (_text(_as_option, '")+__import__("os")'), '__import__'),
    'python function': (_text(_as_target, 'torch.load'), 'ATen'),
    'nested function': (_text(_as_target, 'torch.hub.load'), 'ATen'),
    'operator.methodcaller': (_text(_as_target, '_operator.methodcaller'), 'ATen'),
    'no operator': (_text(_as_target, 'torch.ops.aten.__class__.__init__'), 'ATen'),
    'other library': (_text(_as_target, 'torch.ops.image.read_file.default'), 'ATen'),
    'file': (_text(_as_target, 'torch.ops.aten.from_file.default'), 'ATen'),
    'extension': (_text(_as_target, '#evil:run'), 'ATen'),
    'outside': (
        lambda records, trace: edited(
            records,
            WEIGHTS,
            lambda c: next(iter(c['config'].values())).update(path_name='weight_/../../x'),
        ),
        r'weight_/\.\./\.\./x',
    ),
}


def _rewritten(records: Records, compression: int) -> bytes:
    """The same archive, written by Python; one weight grows by zeros that are easily compressed."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(packed(records))) as source,
        zipfile.ZipFile(buffer, 'w', compression) as target,
    ):
        for name in source.namelist():
            grown = bytes(10_000_000) if name.endswith('/weight_0') else b''
            target.writestr(name, source.read(name) + grown)
    return buffer.getvalue()


def test_a_small_archive_with_large_records(records: Records):
    """The reader of torch ends the process if such a record does not fit into the memory."""
    compressed = _rewritten(records, zipfile.ZIP_DEFLATED)
    assert len(compressed) < 200_000
    with pytest.raises(ModelError, match='compressed'):
        load_program(compressed, 'theirs.pt2')
    stored = bytearray(_rewritten(records, zipfile.ZIP_STORED))
    size = struct.pack('<I', 10_000_000 + 432)  # of weight_0, twice in each of its two headers
    assert stored.count(2 * size) == 2
    with pytest.raises(ModelError, match='larger than the file'):
        load_program(bytes(stored).replace(2 * size, 2 * struct.pack('<I', 2**31)), 'theirs.pt2')


@pytest.mark.parametrize('attack', REFUSED)
def test_what_would_run_is_refused(attack: str, records: Records, tmp_path: Path):
    make, message = REFUSED[attack]
    trace = tmp_path / 'trace'
    with pytest.raises(ModelError, match=message) as caught:
        load_program(packed(make(records, trace)), 'theirs.pt2')
    assert 'theirs.pt2' in str(caught.value)
    assert not trace.exists()


def _in_guards(content: dict[str, Any], text: str) -> None:
    content['guards_code'] = [text]


def _in_remarks(content: dict[str, Any], text: str) -> None:
    for node in content['graph_module']['graph']['nodes']:
        node['metadata'] = dict.fromkeys(('stack_trace', 'torch_fn'), text)


LEFT_BEHIND: dict[str, Callable[[Records, Path], Records]] = {
    'example inputs': lambda records, trace: {**records, SAMPLES: _saved(trace)},
    'guards': _text(_in_guards, "__import__('os').mkdir('{trace}') or True"),
    'remarks': _text(_in_remarks, 'x\n__import__("os").mkdir("{trace}")'),
    'old weights': lambda records, trace: {**records, 'data/weights/model.pt': _saved(trace)},
    'old constants': lambda records, trace: {**records, 'data/constants/model.pt': _saved(trace)},
}


@pytest.mark.parametrize('attack', LEFT_BEHIND)
def test_what_is_not_needed_is_left_behind(attack: str, records: Records, tmp_path: Path):
    trace = tmp_path / 'trace'
    program = load_program(packed(LEFT_BEHIND[attack](records, trace)), 'theirs.pt2')
    image = torch.rand(2, 1, *SHAPE)
    torch.testing.assert_close(program.module(check_guards=False)(image), seeded()(image))
    assert not trace.exists()


def test_the_traps_of_these_tests_close(records: Records, tmp_path: Path):
    """The same archives, as torch itself reads them: that is why they are not handed over."""
    for attack in ('example inputs', 'old weights'):
        trace = tmp_path / attack
        make = LEFT_BEHIND[attack]
        with pytest.raises(Exception, match='.'):
            torch.export.load(io.BytesIO(packed(make(records, trace))))
        assert trace.exists()


@pytest.mark.parametrize('device', ['cuda', 'mps'])
def test_what_was_exported_on_a_gpu_loads_on_a_cpu(device: str, records: Records):
    changed = {
        name: content.replace(
            b'"type": "cpu", "index": null', b'"type": "%s", "index": 0' % device.encode()
        )
        if name.endswith('.json')
        else content
        for name, content in records.items()
    }
    assert changed != records
    program = load_program(packed(changed), 'gpu.pt2')
    image = torch.rand(1, 1, *SHAPE)
    torch.testing.assert_close(program.module(check_guards=False)(image), seeded()(image))


def test_an_export_in_training_mode_is_refused(tmp_path: Path):
    for name, network in {
        'dropout': nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(960, 1)),
        'batch': nn.Sequential(nn.BatchNorm3d(1), nn.Flatten(), nn.Linear(960, 1)),
    }.items():
        path = export(network.train(), tmp_path / f'{name}.pt2')
        with pytest.raises(ModelError, match=rf'{name}\.pt2.*model\.eval\(\)'):
            load_program(path.read_bytes(), str(path))


class _Two(nn.Module):
    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return image.mean((1, 2, 3, 4)), image


class _NoGradient(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            image = image * 2
        return image.mean((1, 2, 3, 4))


def test_programs_of_another_form_are_refused(tmp_path: Path):
    path = export(_Two(), tmp_path / 'two.pt2')
    with pytest.raises(ModelError, match=r'two\.pt2.*tensor'):
        load_program(path.read_bytes(), 'two.pt2')
    path = export(_NoGradient(), tmp_path / 'without.pt2')
    with pytest.raises(ModelError, match='no_grad'):
        load_program(path.read_bytes(), 'without.pt2')


def test_what_is_no_archive(records: Records):
    whole = packed(records)
    for content in (b'', b'no archive', whole[: len(whole) // 2], packed({MODEL: b'{}'})):
        with pytest.raises(ModelError, match=r'broken\.pt2.*\b2\.9\b'):
            load_program(content, 'broken.pt2')
