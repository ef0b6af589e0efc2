"""Make build/tree: the package as it is installed, from links, for tools that read source trees.

`workflows/` and `boilerplate/` stand at the top of the repository and are installed as
`bids_interp.workflows` and `bids_interp.boilerplate`; mypy and import-linter see that only here.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / 'build' / 'tree'
SOURCES = {
    ROOT / 'bids_interp': TREE / 'bids_interp',
    ROOT / 'workflows': TREE / 'bids_interp' / 'workflows',
    ROOT / 'boilerplate': TREE / 'bids_interp' / 'boilerplate',
}


def main() -> None:
    """Link every Python file; folders are real, since the tools do not follow linked folders."""
    shutil.rmtree(TREE, ignore_errors=True)
    for source, target in SOURCES.items():
        for file in sorted(source.rglob('*.py')):
            link = target / file.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(file, link.parent))


if __name__ == '__main__':
    main()
