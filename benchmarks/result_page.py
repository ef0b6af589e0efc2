"""Result pages: writes the results of a benchmark into its page under docs.

    bids_interp_tools bench truth BIDS_DIR --out OUT --size small --nprocs 2
    python benchmarks/result_page.py accuracy OUT --machine 'name, cores, memory'
    bids_interp_tools bench blobs --out OUT --size small
    python benchmarks/result_page.py paper OUT --machine 'name, cores, memory'
    python benchmarks/real_labels.py OUT WORK --models age sex depression
    python benchmarks/result_page.py real-labels OUT --machine 'name, cores, memory'

Uses the text and the picture in OUT. The text of the page before the line ``<!-- results -->`` is
written by hand and kept.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / 'docs'
MARK = '<!-- results -->'
#: Text and picture in the output of the benchmark of each page.
RESULTS = {
    'accuracy': ('table.md', 'figures/summary.png'),
    'paper': ('paper.md', 'figure.png'),
    'real-labels': ('real_labels.md', 'real_labels.png'),
}


def main() -> None:
    """Replace the results in the page, and its picture."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('page', choices=sorted(RESULTS), help='page to write')
    parser.add_argument('out', type=Path, help='output directory of the benchmark')
    parser.add_argument('--machine', required=True, help='description of the machine')
    options = parser.parse_args()
    written, picture = RESULTS[options.page]
    page = DOCS / f'{options.page}.md'
    text, mark, _ = page.read_text(encoding='utf-8').partition(MARK)
    if not mark:
        raise SystemExit(f'{page} has no line {MARK}.')
    table = (options.out / written).read_text(encoding='utf-8')
    table = without_paths(table).replace(f'({picture})', f'(images/{options.page}.png)')
    page.write_text(f'{text}{MARK}\n\nMachine: {options.machine}.\n\n{table}', encoding='utf-8')
    shutil.copyfile(options.out / picture, DOCS / 'images' / f'{options.page}.png')
    print(f'Wrote {page}.')


def without_paths(table: str) -> str:
    """Remove the paths of one machine, which are of no use to readers."""
    table = re.sub(r'(bench truth) \S+ --out \S+', r'\1 BIDS_DIR --out OUT', table)
    table = re.sub(r'(bench blobs) --out \S+', r'\1 --out OUT', table)
    return re.sub(r' --work-dir \S+', '', table)


if __name__ == '__main__':
    main()
