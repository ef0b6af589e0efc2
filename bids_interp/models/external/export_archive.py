"""Export archives of ``torch.export``, read without running any code in them.

:func:`torch.export.load` is made for trusted files. In torch 2.13 it unpickles weights, constants
and example inputs if the archive requests it, loads compiled libraries, evaluates the text of
symbolic sizes (``sympy.sympify``), and compiles names of nodes and guards into Python source. The
archive is therefore never passed on unchanged. :func:`load_program` copies its plain parts (raw
weights, and the graph as JSON in which every text is checked against a pattern) into a new archive
in memory, and loads that one.

The archive is opened by Python, not by the reader of torch, which ends the process when a record
claims more memory than there is. Records must be stored as they are, as torch writes them, so that
none is larger than the file.

It is guaranteed that no byte of the file is unpickled, imported, evaluated or linked, and that the
graph calls only ATen operators on tensors, none of which reads or writes files. It is not
guaranteed that the graph ends or fits into memory, that the kernels of torch are free of faults, or
that the numbers make sense.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import zipfile
from typing import Any

import torch
from torch.export.pt2_archive import PT2ArchiveWriter

from bids_interp.errors import ModelError
from bids_interp.records import parse_json

EXPORT_ADVICE = (
    'Export it with model.eval(), torch.export.export(model, (torch.rand(2, 1, X, Y, Z),), '
    "dynamic_shapes=({0: torch.export.Dim('batch')},)) and torch.export.save."
)
_MODEL = 'models/model.json'
_PAYLOADS = {
    'data/weights/': ('data/weights/model_weights_config.json', 'weight_'),
    'data/constants/': ('data/constants/model_constants_config.json', 'tensor_'),
}
_SAMPLE_INPUTS = 'data/sample_inputs/model.pt'
_RECORD = re.compile(r'(weight|tensor)_\d+', re.ASCII)
_NAME = re.compile(r'[\w.+-]*', re.ASCII)
_IDENTIFIER = re.compile(r'[A-Za-z_]\w*', re.ASCII)
_OPTION = re.compile(r'[\w ,.>-]*', re.ASCII)  # 'same', 'bilinear', 'bij,bjk->bik'
_TARGET = re.compile(r'(torch\.ops\.aten|_operator|torch|math)\.(\w+)(?:\.(\w+))?', re.ASCII)
#: ATen operators that access files or the state of the process.
_REFUSED = {'from_file', 'manual_seed', 'save', 'seed', 'set_grad_enabled'}
#: Fixes the device and precision of the export; removed, so that autocast works.
_ASSERTION = 'torch.ops.aten._assert_tensor_metadata.default'
_ON_NUMBERS = {
    '_operator': {
        *('add', 'and_', 'eq', 'floordiv', 'ge', 'getitem', 'gt', 'le', 'lt', 'mod', 'mul'),
        *('ne', 'neg', 'not_', 'or_', 'pos', 'pow', 'sub', 'truediv'),
    },
    'torch': {'sym_float', 'sym_int', 'sym_ite', 'sym_max', 'sym_min', 'sym_not', 'sym_sum'},
    'math': {'ceil', 'floor', 'trunc'},
}
#: Length of the text of a symbolic size, and powers in it.
_LONGEST, _MOST_POWERS = 1000, 4
#: Functions allowed in the text of a symbolic size.
_SYMBOLIC = {
    *('Symbol', 'Integer', 'Float', 'Rational', 'Add', 'Mul', 'Max', 'Min', 'Mod'),
    *('FloorDiv', 'CeilDiv', 'CleanDiv', 'ModularIndexing', 'PythonMod', 'IntTrueDiv'),
    *('Eq', 'Ne', 'Equality', 'Unequality', 'And', 'Or', 'Not'),
    *('LessThan', 'GreaterThan', 'StrictLessThan', 'StrictGreaterThan'),
}
_PARTS = (
    *(ast.Expression, ast.Call, ast.Name, ast.Load, ast.keyword, ast.Constant),
    *(ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop),
)
#: Type of an operator; torch has no public name for it.
_OPERATOR = type(torch.ops.aten.relu.default)
_ONE_TENSOR: dict[str, Any] = {'type': None, 'context': None, 'children_spec': []}


def load_program(data: bytes, name: str) -> torch.export.ExportedProgram:
    """Load an exported program from the bytes of its archive; the module states the guarantees.

    Parameters
    ----------
    data : bytes
        Content of the ``.pt2`` file.
    name : str
        File name for messages.

    Returns
    -------
    torch.export.ExportedProgram
        Program on the CPU, with one tensor as input and one tensor as output.

    Raises
    ------
    ModelError
        If it does not have the current format, needs code or pickled objects, was exported in
        training mode, or does not map one tensor to one tensor.
    """
    try:
        clean = _copy_plain_parts(data)
    except ModelError as error:
        raise ModelError(f'{name}: {error.message}', error.advice) from error
    except (
        *(zipfile.BadZipFile, NotImplementedError, EOFError, OSError),
        *(RuntimeError, KeyError, IndexError, TypeError, AttributeError, ValueError),
    ) as error:
        raise ModelError(
            f'{name} is not an archive of torch.export, or is damaged: {_first_line(error)}.',
            f'Archives of torch before 2.9 must be exported again. {EXPORT_ADVICE}',
        ) from error
    # It logs a traceback, which the error below repeats in one line.
    logger = logging.getLogger('torch.export')
    logger.disabled = True
    try:
        return torch.export.load(io.BytesIO(clean))
    except Exception as error:  # the loader of torch raises many types
        raise ModelError(
            f'torch {torch.__version__} cannot load {name}: {_first_line(error)}.', EXPORT_ADVICE
        ) from error
    finally:
        logger.disabled = False


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip('.')


def _refused(what: str, advice: str = EXPORT_ADVICE) -> ModelError:
    return ModelError(f'{what}.', advice)


class _Archive:
    """Records of an archive by their names without the outermost folder."""

    def __init__(self, data: bytes) -> None:
        self._zip = zipfile.ZipFile(io.BytesIO(data))
        records = self._zip.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise _refused('its records are compressed, which torch never does')
        if sum(max(record.file_size, record.compress_size) for record in records) > len(data):
            raise _refused('its records claim to be larger than the file')
        self.names = {record.filename.partition('/')[2]: record for record in records}
        if self.read('archive_format') != b'pt2':
            raise _refused('it is an archive of another kind')

    def read(self, name: str) -> bytes:
        """Return the content of a record."""
        return self._zip.read(self.names[name])


def _copy_plain_parts(data: bytes) -> bytes:
    """Copy only weights, constants and the graph into a new archive."""
    reader = _Archive(data)
    if any(record.startswith('data/aotinductor/') for record in reader.names):
        raise _refused(
            'it contains compiled code, which would be run', 'Export the program itself.'
        )
    program = parse_json(reader.read(_MODEL))
    clean = io.BytesIO()
    with PT2ArchiveWriter(clean) as writer:
        for folder, (config_name, prefix) in _PAYLOADS.items():
            config = parse_json(reader.read(config_name))
            for record in _plain_records(config, prefix):
                writer.write_bytes(folder + record, reader.read(folder + record))
            writer.write_string(config_name, json.dumps(_screened(config)))
        writer.write_string(_MODEL, json.dumps(_plain_program(program)))
        writer.write_bytes(_SAMPLE_INPUTS, b'')
    return clean.getvalue()


def _plain_records(config: dict[str, Any], prefix: str) -> list[str]:
    """Return the names of the files of raw numbers; refuse pickled ones."""
    records = {}
    for name, entry in config['config'].items():
        record = entry['path_name']
        if entry['use_pickle'] is not False or not record.startswith(prefix):
            raise _refused(
                f'{name} is stored as a pickled object, which is never loaded',
                'Make it a plain float tensor (a parameter or a buffer) and export again.',
            )
        if not _RECORD.fullmatch(record):
            raise _refused(f'it refers to a file {record!r}')
        records[record] = True
    return list(records)


def _plain_program(program: dict[str, Any]) -> dict[str, Any]:
    """Return graph, signature and versions, without metadata, guards and submodule calls."""
    module = program['graph_module']
    outer = module['module_call_graph'][0]['signature']
    if not _takes_one_tensor(outer['in_spec']) or parse_json(outer['out_spec'])[1] != _ONE_TENSOR:
        raise _refused('it does not map one tensor to one tensor')
    kinds = {kind for item in module['signature']['input_specs'] for kind in item}
    if not kinds <= {'user_input', 'parameter', 'buffer', 'tensor_constant'}:
        raise _refused(f'its graph takes {", ".join(sorted(kinds))}')
    changed = {kind for item in module['signature']['output_specs'] for kind in item}
    graph = module['graph']
    if changed != {'user_output'} or any(map(_is_training, graph['nodes'])):
        raise _refused('it was exported in training mode: dropout or batch statistics are active')
    nodes = [{**node, 'metadata': {}} for node in graph['nodes'] if node['target'] != _ASSERTION]
    for node in nodes:
        _check_target(node['target'])
    specs = {'in_spec': outer['in_spec'], 'out_spec': outer['out_spec']}
    arguments = _screened(outer['forward_arg_names'], 'forward_arg_names')
    call = {'inputs': [], 'outputs': [], **specs, 'forward_arg_names': arguments}
    versions = ('opset_version', 'range_constraints', 'schema_version', 'verifiers')
    return {
        **{key: _screened(program[key]) for key in versions},
        'graph_module': {
            'graph': _screened({**graph, 'nodes': nodes}),
            'signature': _screened(module['signature']),
            'module_call_graph': [{'fqn': '', 'signature': call}],
            'metadata': {},
            'treespec_namedtuple_fields': {},
        },
        'guards_code': [],
    }


def _takes_one_tensor(spec: str) -> bool:
    """Return True if a call's tree is ((tensor,), {}) with plain tuples and dictionaries."""
    top = parse_json(spec)[1]
    positional, named = top['children_spec']
    return (
        top['type'] == positional['type'] == 'builtins.tuple'
        and top['context'] == positional['context'] == 'null'
        and positional['children_spec'] == [_ONE_TENSOR]
        and named == {'type': 'builtins.dict', 'context': '[]', 'children_spec': []}
    )


def _is_training(node: dict[str, Any]) -> bool:
    flags = {'train', 'training'}
    return any(
        item['name'] in flags and item['arg'].get('as_bool') is True for item in node['inputs']
    )


def _check_target(target: str) -> None:
    """Refuse a node that calls anything except an ATen operator or arithmetic on sizes."""
    parts = _TARGET.fullmatch(target)
    space, name, overload = parts.groups() if parts else ('', '', '')
    if space == 'torch.ops.aten' and name not in _REFUSED:
        operator = getattr(getattr(torch.ops.aten, name, None), overload or '', None)
        if isinstance(operator, _OPERATOR):
            return
    elif name in _ON_NUMBERS.get(space, set()) and not overload:
        return
    raise _refused(
        f'its graph calls {target[:80]!r}, but only ATen operators on tensors are allowed',
        f'Remove control flow, no_grad blocks and custom operators. {EXPORT_ADVICE}',
    )


def _screened(value: Any, key: str = '') -> Any:
    """Copy JSON values; check every text, and replace every device by the CPU."""
    if isinstance(value, dict):
        if 'type' in value and 'index' in value:
            return {'type': 'cpu', 'index': None}
        if {'as_graph', 'as_custom_obj', 'as_operator'} & set(value):
            raise _refused('its graph contains objects or further graphs')
        for name in value:
            _screened_text(name, '')
        return {name: _screened(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_screened(item, key) for item in value]
    return _screened_text(value, key) if isinstance(value, str) else value


def _screened_text(text: str, key: str) -> str:
    if key == 'expr_str':
        fits = _is_arithmetic(text)
    elif key in ('as_string', 'as_strings'):
        fits = bool(_OPTION.fullmatch(text))
    elif key in ('name', 'as_name', 'forward_arg_names'):
        fits = bool(_IDENTIFIER.fullmatch(text))
    else:
        fits = bool(_NAME.fullmatch(text))
    if not fits:
        raise _refused(f'it contains the text {text[:60]!r}, which is not valid in a graph')
    return text


def _is_arithmetic(text: str) -> bool:
    """Return True if the text of a symbolic size has only arithmetic and allowed functions.

    It is evaluated later, so powers and shifts, which make huge numbers, are bounded.
    """
    if len(text) > _LONGEST:
        return False
    try:
        parts = list(ast.walk(ast.parse(text, mode='eval')))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    names = {id(value) for part in parts if isinstance(part, ast.Call) for value in part.args}
    powers = 0
    for part in parts:
        if not isinstance(part, _PARTS) or isinstance(part, ast.LShift):
            return False
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow):
            # A power of numbers, such as 9**9**9, would never end.
            small = isinstance(part.right, ast.Constant) and part.right.value in range(-9, 10)
            if not (small and isinstance(part.left, ast.Name)):
                return False
        if isinstance(part, ast.Call) and not (
            isinstance(part.func, ast.Name) and part.func.id in _SYMBOLIC
        ):
            return False
        if isinstance(part, ast.Constant) and not (
            isinstance(part.value, bool | int | float)
            or (id(part) in names and _is_identifier(part.value))
        ):
            return False
        exponent = _exponent(part)
        if exponent is not None:
            powers += 1
            if not _is_small(exponent):
                return False
    return powers <= _MOST_POWERS


def _exponent(part: ast.AST) -> ast.expr | None:
    """Return the exponent of a power; None for anything else."""
    if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow):
        return part.right
    if isinstance(part, ast.Call) and getattr(part.func, 'id', '') == 'Pow' and part.args:
        return part.args[-1]
    return None


def _is_identifier(value: object) -> bool:
    return isinstance(value, str) and bool(_IDENTIFIER.fullmatch(value))


def _is_small(exponent: ast.expr) -> bool:
    """Return True for a whole number up to 8, also as ``Integer(2)`` or ``-1``."""
    if isinstance(exponent, ast.UnaryOp):
        exponent = exponent.operand
    if isinstance(exponent, ast.Call) and len(exponent.args) == 1:
        exponent = exponent.args[0]
    value = exponent.value if isinstance(exponent, ast.Constant) else None
    return isinstance(value, int) and abs(value) <= 8
