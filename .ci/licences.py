"""Write the table of dependencies and their licences, docs/licences.md.

    python .ci/licences.py          # write it
    python .ci/licences.py --check  # fail if it names another set of packages

The packages are those that setup.cfg requires, and what they require in turn, as installed here.
"""

from __future__ import annotations

import configparser
import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / 'docs' / 'licences.md'
HEAD = """# Licences of the dependencies

`bids_interp` is under the Apache License 2.0. `python .ci/licences.py` writes this table from the
metadata of the installed packages: those that `setup.cfg` requires (in bold), and what these
require in turn. The extra `test` is not shipped and not listed. The libraries of CUDA, which the
default build of PyTorch brings, are not listed either; NVIDIA publishes their licences.

| package | licence |
|---|---|
"""


def required() -> list[str]:
    """Return the names of the packages that setup.cfg requires, also for the extra ``dask``."""
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg', encoding='utf-8')
    lines = config['options']['install_requires'] + config['options.extras_require']['dask']
    return sorted({_normal(_name(line)) for line in lines.splitlines() if line.strip()})


def all_packages() -> dict[str, Distribution]:
    """Return the installed packages that are required, also indirectly, by name."""
    found: dict[str, Distribution] = {}
    queue = required()
    while queue:
        name = queue.pop()
        if name in found or name.startswith(('nvidia', 'cuda', 'triton')):
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # of another platform
        needed = [line for line in found[name].requires or [] if 'extra ==' not in line]
        queue += [_normal(_name(line)) for line in needed]
    return dict(sorted(found.items()))


def licence_of(package: Distribution) -> str:
    """Return the licence from the metadata: the expression, the classifiers or the text."""
    meta = package.metadata
    if meta['License-Expression']:
        return str(meta['License-Expression'])
    classifiers = [c for c in meta.get_all('Classifier') or [] if c.startswith('License ::')]
    named = [c.rpartition(' :: ')[2] for c in classifiers if not c.endswith('OSI Approved')]
    text = ' '.join((meta['License'] or '').split())
    return ', '.join(named) or (text if 0 < len(text) < 60 else 'see the package')


def page() -> str:
    """Return the page."""
    own = set(required())
    rows = [
        f'| {f"**{name}**" if name in own else name} | {licence_of(package).replace("|", "/")} |'
        for name, package in all_packages().items()
    ]
    return HEAD + '\n'.join(rows) + '\n'


def names_in(text: str) -> set[str]:
    """Return the names of the packages in bold, which setup.cfg requires.

    Examples
    --------
    >>> sorted(names_in('| **a-b** | MIT |' + chr(10) + '| c | BSD |'))
    ['a-b']
    """
    return set(re.findall(r'^\| \*\*([\w.-]+)\*\* \| \S', text, re.M))


def _name(requirement: str) -> str:
    return re.match(r'\s*([\w.-]+)', requirement)[1]  # type: ignore[index]


def _normal(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()


if __name__ == '__main__':
    if '--check' in sys.argv:
        missing = set(required()) ^ names_in(PAGE.read_text(encoding='utf-8'))
        sys.exit(f'{PAGE} is not up to date: {", ".join(sorted(missing))}' if missing else 0)
    PAGE.write_text(page(), encoding='utf-8')
