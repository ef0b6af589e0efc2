"""Accuracy page: writes the results of the known-truth benchmark into docs/accuracy.md.

    bids_interp_tools bench truth BIDS_DIR --out OUT --size small --nprocs 2
    python benchmarks/accuracy_page.py OUT --machine 'name, cores, memory'

Uses OUT/table.md and OUT/figures/summary.png. The text before the line ``<!-- results -->`` is
written by hand and kept.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / 'docs'
MARK = '<!-- results -->'


def main() -> None:
    """Replace the results in the page, and its picture."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path, help='output directory of the benchmark')
    parser.add_argument('--machine', required=True, help='description of the machine')
    options = parser.parse_args()
    page = DOCS / 'accuracy.md'
    text, mark, _ = page.read_text(encoding='utf-8').partition(MARK)
    if not mark:
        raise SystemExit(f'{page} has no line {MARK}.')
    table = (options.out / 'table.md').read_text(encoding='utf-8')
    # The paths of one machine are of no use to readers.
    table = re.sub(r'(bench truth) \S+ --out \S+', r'\1 BIDS_DIR --out OUT', table)
    table = re.sub(r' --(?:work-dir) \S+', '', table)
    page.write_text(f'{text}{MARK}\n\nMachine: {options.machine}.\n\n{table}', encoding='utf-8')
    shutil.copyfile(options.out / 'figures' / 'summary.png', DOCS / 'images' / 'accuracy.png')
    print(f'Wrote {page}.')


if __name__ == '__main__':
    main()
