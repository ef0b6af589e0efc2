"""Every module of the package is named by a test, or holds examples that the tests run."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = 'bids_interp'
#: Modules that only tests of whole commands run, at most; lower it with each test that is added.
STILL_UNNAMED = 0


def module_files(root: Path) -> dict[str, Path]:
    """Dotted name and file of each module; the links in the package are followed."""
    found = {}
    for folder, _, names in os.walk(root / PACKAGE, followlinks=True):
        for name in names:
            if name.endswith('.py'):
                path = Path(folder, name)
                parts = path.relative_to(root).with_suffix('').parts
                found['.'.join(parts).removesuffix('.__init__')] = path
    return found


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _imports(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of each ``from module import name``."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


def _only_imports(path: Path) -> bool:
    """A folder's ``__init__.py`` without code of its own needs no test."""
    return path.name == '__init__.py' and all(
        isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.Expr)
        for node in _tree(path).body
    )


def _needs_a_test(path: Path) -> bool:
    # The two lines of `python -m bids_interp` are run in another process by test_imports.
    return not (_only_imports(path) or _has_examples(path) or path.name == '__main__.py')


def _has_examples(path: Path) -> bool:
    return '>>> ' in path.read_text()


def _prefixes(text: str) -> set[str]:
    """Dotted names in a text, such as those given to monkeypatch, and the modules they lie in."""
    found = set(re.findall(rf'\b{PACKAGE}(?:\.\w+)+', text))
    return found | {name.rpartition('.')[0] for name in found}


def named_modules(tests: list[Path], modules: dict[str, Path]) -> set[str]:
    """Modules whose dotted name a test contains, or from which it imports something.

    A name that a folder's ``__init__.py`` passes on counts for the module that defines it.
    """
    named: set[str] = set()
    for test in tests:
        named.update(_prefixes(test.read_text()))
        for module, name in _imports(test):
            named |= {module, f'{module}.{name}'}
            source = modules.get(module)
            if source is not None and source.name == '__init__.py':
                named.update(origin for origin, passed in _imports(source) if passed == name)
    return named


def test_every_module_is_named_by_a_test() -> None:
    modules = module_files(ROOT)
    named = named_modules(sorted((ROOT / 'tests').rglob('*.py')), modules)
    unnamed = {name for name, path in modules.items() if name not in named and _needs_a_test(path)}
    assert len(unnamed) <= STILL_UNNAMED, sorted(unnamed)


def test_an_unnamed_module_is_found(tmp_path: Path) -> None:
    package = tmp_path / PACKAGE
    package.mkdir()
    (tmp_path / 'linked').mkdir()
    (package / 'linked').symlink_to(Path('..', 'linked'))
    (package / '__init__.py').write_text(f'from {PACKAGE}.passed import one\n')
    for name in ('passed', 'direct', 'dotted', 'forgotten'):
        (package / f'{name}.py').write_text('one = 1\n')
    (tmp_path / 'linked' / 'inner.py').write_text('one = 1\n')
    test = tmp_path / 'test_it.py'
    test.write_text(
        f'from {PACKAGE} import direct, one\nfrom {PACKAGE}.linked.inner import one as other\n'
        f"patched = '{PACKAGE}.dotted.one'\n"
    )
    modules = module_files(tmp_path)
    assert len(modules) == 6
    assert {f'{PACKAGE}.linked.inner', f'{PACKAGE}.forgotten'} <= modules.keys()
    assert modules.keys() - named_modules([test], modules) == {f'{PACKAGE}.forgotten'}
