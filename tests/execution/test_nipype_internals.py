"""The private parts of nipype that the package relies on: each test fails when nipype changes."""

from __future__ import annotations

import inspect
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import nipype
import pytest
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from nipype.pipeline.plugins import tools
from nipype.pipeline.plugins.base import DistributedPluginBase
from nipype.pipeline.plugins.multiproc import MultiProcPlugin

import bids_interp
from bids_interp.execution import nipype_internals
from bids_interp.execution.nipype_internals import (
    DistributedPlugin,
    ProcessPlugin,
    failure,
    find_in_folder,
    pool_processes,
    raised_on_reading_results,
    run_nipype_node,
    run_node,
    traceback_of,
)

# Documented by Python in spite of its name.
ALLOWED = ('._exit',)
HOOKS = {
    '_submit_job': ['self', 'node', 'updatehash'],
    '_get_result': ['self', 'taskid'],
    '_clear_task': ['self', 'taskid'],
    '_postrun_check': ['self'],
    '_report_crash': ['self', 'node', 'result'],
}


def add_one(value):
    """Return the next number."""
    return value + 1


def fail(value):
    """Raise an error."""
    raise ValueError(f'no {value}')


@pytest.mark.parametrize('name', ['plain', '123[7].srv', 'a b\'"é'])
def test_finished_work_is_kept_in_any_folder(tmp_path: Path, name: str) -> None:
    def mtime(value: int) -> int:
        workflow = pe.Workflow('odd_wf', base_dir=tmp_path / name)
        node = pe.Node(niu.Function(function=add_one), name='node')
        node.inputs.value = value
        workflow.add_nodes([node])
        workflow.run()
        (found,) = find_in_folder(f'{tmp_path}/{name}/odd_wf/node/result_*.pklz')
        assert len(find_in_folder(f'{tmp_path}/{name}/odd_wf/node/_0x*.json')) == 1
        return Path(found).stat().st_mtime_ns

    first = mtime(1)
    assert mtime(1) == first
    assert mtime(2) != first


class Here:
    """Runs nodes in this process, and notes which hooks nipype calls."""

    def __init__(self, n_procs: int = 1) -> None:
        super().__init__({'status_callback': self.note, 'n_procs': n_procs, 'memory_gb': 4})
        self.calls: list[tuple[str, Any]] = []
        self.nodes: dict[str, pe.Node] = {}
        self.results: dict[int, Any] = {}

    def note(self, node: pe.Node, status: str) -> None:
        self.nodes[node.name] = node
        self.calls.append((status, node.name))

    def submit(self, task: int, node: pe.Node, updatehash: bool) -> None:
        self.calls.append(('submit', task))
        self.results[task] = run_node(node, updatehash, task)

    def result(self, task: int) -> dict[str, Any] | None:
        return self.results[task]

    def forget(self, task: int) -> None:
        self.calls.append(('forget', task))

    def close(self) -> None:
        self.calls.append(('close', None))


class HerePlugin(Here, DistributedPlugin):
    """With the base of nipype's distributed plugins."""


class HereMultiProcPlugin(Here, ProcessPlugin):
    """With nipype's MultiProc."""


def make(folder: Path, function) -> pe.Workflow:
    workflow = pe.Workflow('small_wf', base_dir=str(folder))
    workflow.config['execution'] = {
        'crashdump_dir': str(folder / 'crashes'),
        'crashfile_format': 'txt',
        'poll_sleep_duration': '0.05',
        'local_hash_check': 'true',
    }
    first = pe.Node(niu.Function(function=add_one), name='first')
    first.inputs.value = 1
    second = pe.Node(niu.Function(function=function), name='second')
    workflow.connect(first, 'out', second, 'value')
    return workflow


def test_the_tested_minor_version_is_installed() -> None:
    assert nipype.__version__.split('.')[:2] == ['1', '11']


@pytest.mark.parametrize('kind', [DistributedPluginBase, MultiProcPlugin])
@pytest.mark.parametrize('name', HOOKS)
def test_hooks_have_the_known_signatures(kind: type, name: str) -> None:
    assert list(inspect.signature(getattr(kind, name)).parameters) == HOOKS[name]


@pytest.mark.parametrize('kind', [HerePlugin, HereMultiProcPlugin])
def test_nipype_calls_the_hooks(tmp_path: Path, kind: type) -> None:
    plugin = kind()
    make(tmp_path, add_one).run(plugin=plugin)
    assert plugin.calls == [
        ('start', 'first'), ('submit', 1), ('end', 'first'), ('forget', 1),
        ('start', 'second'), ('submit', 2), ('end', 'second'), ('forget', 2), ('close', None),
    ]  # fmt: skip
    assert plugin.results[2]['result'].outputs.out == 3


def test_a_failed_node_keeps_its_traceback_and_has_a_crash_file(tmp_path: Path) -> None:
    plugin = HerePlugin()
    with pytest.raises(RuntimeError, match='no 2'):
        make(tmp_path, fail).run(plugin=plugin)
    assert plugin.calls[-3:] == [('exception', 'second'), ('forget', 2), ('close', None)]
    assert 'ValueError: no 2' in ''.join(traceback_of(plugin.nodes['second']) or ())
    assert traceback_of(plugin.nodes['first']) is None
    assert len(list((tmp_path / 'crashes').glob('crash-*-second-*.txt'))) == 1


def test_a_run_ends_in_order_when_no_crash_file_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(tools, 'crash2txt', full)
    plugin = HerePlugin()
    with pytest.raises(RuntimeError, match='no 2'):
        make(tmp_path, fail).run(plugin=plugin)
    assert 'ValueError: no 2' in ''.join(traceback_of(plugin.nodes['second']) or ())


def test_a_failure_is_what_nipype_expects(tmp_path: Path) -> None:
    assert run_node.__module__ == nipype_internals.__name__  # imported by every worker
    assert list(inspect.signature(run_nipype_node).parameters) == ['node', 'updatehash', 'taskid']
    node = pe.Node(niu.Function(function=fail), name='alone', base_dir=str(tmp_path))
    node.inputs.value = 5
    theirs, ours = run_node(node, False, 7), failure(7, ValueError('no 5'))
    assert theirs.keys() == ours.keys()
    assert (theirs['taskid'], ours['taskid']) == (7, 7)
    assert 'ValueError: no 5\n' in theirs['traceback'][-1] + ''.join(theirs['traceback'])
    assert ours['traceback'] == ['builtins.ValueError: no 5\n']
    assert run_node(node.clone('other'), False, 8)['taskid'] == 8


def test_a_result_that_cannot_be_read_is_recognised(tmp_path: Path) -> None:
    make(tmp_path, add_one).run(plugin=HereMultiProcPlugin())
    (tmp_path / 'small_wf' / 'first' / 'result_first.pklz').write_bytes(b'')
    with pytest.raises(EOFError) as damaged:
        make(tmp_path, add_one).run(plugin=HereMultiProcPlugin())
    assert raised_on_reading_results(damaged.value)
    with pytest.raises(RuntimeError) as failed:
        make(tmp_path / 'other', fail).run(plugin=HereMultiProcPlugin())
    assert not raised_on_reading_results(failed.value)


def test_the_pool_of_multiproc_is_replaced() -> None:
    plugin = HereMultiProcPlugin(n_procs=3)
    assert isinstance(plugin.pool, ProcessPoolExecutor)
    assert plugin.processors == 3
    with pytest.raises(RuntimeError):
        plugin.pool.submit(add_one, 1)


@pytest.mark.parametrize('kind', [DistributedPlugin, ProcessPlugin])
def test_a_plugin_that_lacks_a_hook_cannot_be_made(kind: type) -> None:
    with pytest.raises(TypeError, match='submit'):
        kind({})


def test_processes_of_a_pool_are_known_until_it_is_shut_down() -> None:
    with ProcessPoolExecutor(1) as pool:
        assert pool.submit(add_one, 1).result() == 2
        ((pid, process),) = pool_processes(pool).items()
        assert (process.pid, process.is_alive()) == (pid, True)
    assert pool_processes(pool) == {}


ROOMS = ('execution', 'workflows', 'interfaces', 'reports')


@pytest.mark.parametrize('room', ROOMS)
def test_no_other_module_touches_private_parts_of_others(room: str) -> None:
    private = re.compile(r'(?<!\bself)(?<!\bcls)(?<!super\(\))\._(?!_)\w+')
    modules = sorted((Path(bids_interp.__file__).parent / room).rglob('*.py'))
    found = {
        (path.name, name)
        for path in modules
        for name in private.findall(path.read_text())
        if path.stem != 'nipype_internals' and name not in ALLOWED
    }
    assert len(modules) > 3
    assert found == set()
