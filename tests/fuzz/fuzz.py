"""Coverage-guided fuzzing of the readers, from the seeds of the hostile corpus.

    python tests/fuzz/fuzz.py --seconds 1800 --folder FOLDER
    python tests/fuzz/fuzz.py --targets table card --seconds 200 --folder FOLDER

The first command fuzzes each target in a process of its own and prints a table. The corpus stays in
FOLDER, so that a later run goes on from it. An input that raises anything but the documented error
of its reader is kept in FOLDER/TARGET/findings, once for each place that raises it. It needs
atheris (``pip install atheris``), which the package and its tests do not.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

BUNDLE = ROOT / 'bids_interp' / 'data' / 'demo_model'
#: File that each target is written to, and its largest size in bytes.
TARGETS = {
    'image': ('sub-01_T1w.nii', 9000),
    'table': ('participants.tsv', 4000),
    'description': ('dataset_description.json', 2000),
    'filter': ('filter.json', 2000),
    'card': ('card.json', 2000),
    'prediction': ('sub-01_desc-explain_prediction.json', 2000),
    'settings': ('run.toml', 2000),
    'plugin': ('plugin.yml', 2000),
    'bundle': ('config.json', 12_000),
    'archive': ('model.zip', 40_000),
}
#: Module of the hostile corpus that has the seeds; ``texts`` by default.
MODULES = {'image': 'images', 'table': 'tables', 'bundle': 'bundles', 'archive': 'bundles'}
#: Packages whose branches count as coverage.
MEASURED = ['bids_interp', 'nibabel', 'tomllib', 'yaml', 'zipfile']


def main() -> None:
    """Fuzz one target, or all of them one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seconds', type=int, default=600, help='time of all targets together')
    parser.add_argument('--folder', type=Path, required=True, help='corpus and findings')
    parser.add_argument('--targets', choices=TARGETS, nargs='+', default=list(TARGETS))
    parser.add_argument('--here', action='store_true', help='fuzz one target in this process')
    given = parser.parse_args()
    if given.here:
        fuzz(given.targets[0], given.folder / given.targets[0], given.seconds)
    else:
        fuzz_all(given.folder, given.seconds, given.targets)


def fuzz_all(folder: Path, seconds: int, targets: list[str]) -> None:
    """Fuzz every target in a process of its own and print what was found."""
    share = max(1, seconds // len(targets))
    print(f'Machine: {platform.machine()}, {os.cpu_count()} cores, Python '
          f'{platform.python_version()}; {share} s for each target, one process.\n')  # fmt: skip
    print('| target | executions | coverage | features | corpus | findings |\n' + '|---' * 6 + '|')
    n_findings = 0
    for target in targets:
        command = [sys.executable, __file__, '--here', '--targets', target]
        command += ['--seconds', str(share), '--folder', str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        (folder / f'{target}.log').write_text(done.stdout + done.stderr)
        progress = re.findall(r'cov: (\d+) ft: (\d+) corp: (\d+)/', done.stderr)
        runs = re.findall(r'(?:executed_units: +|^#)(\d+)', done.stderr, re.M)
        kept = (folder / target / 'findings').iterdir()
        found = sum(not path.name.startswith('slow-unit') for path in kept)
        n_findings += found
        row = [target, runs[-1] if runs else '0', *(progress[-1] if progress else '000'), found]
        print(f'| {" | ".join(map(str, row))} |', flush=True)
    sys.exit(1 if n_findings else 0)


def fuzz(target: str, folder: Path, seconds: int) -> None:
    """Fuzz one target; atheris ends the process."""
    import atheris

    with atheris.instrument_imports(include=MEASURED):
        from bids_interp.errors import BidsInterpError, UsageError
        from hostile.case import READERS, Bases

        with contextlib.suppress(BidsInterpError):
            READERS[target].read(folder / 'none')  # imports the reader
    name, largest = TARGETS[target]
    corpus, findings = folder / 'corpus', folder / 'findings'
    for made in (corpus, findings):
        made.mkdir(parents=True, exist_ok=True)
    write_seeds(target, corpus, Bases(BUNDLE), largest)
    warnings.simplefilter('ignore')
    logging.disable(logging.CRITICAL)
    place = Path(tempfile.mkdtemp(dir='/dev/shm' if Path('/dev/shm').is_dir() else None))
    if target == 'bundle':
        shutil.copytree(BUNDLE, place, dirs_exist_ok=True)
    reader = READERS[target]
    # Only a user may permit a bundle whose classifier is code.
    documented = (reader.error, UsageError) if target == 'bundle' else (reader.error,)

    def read(data: bytes) -> None:
        path = place / name
        path.write_bytes(data)
        try:
            reader.read(path)
        except BidsInterpError as error:
            named = str(place if target == 'bundle' else path)
            if type(error) in documented and named in error.message and error.advice:
                return
            keep(findings, data, error)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            keep(findings, data, error)

    options = [f'-max_total_time={seconds}', f'-max_len={largest}', '-timeout=60', '-verbosity=1']
    options += ['-rss_limit_mb=3000', '-print_final_stats=1', f'-artifact_prefix={findings}/']
    if target == 'archive':
        _forget_imports(place)
    atheris.Setup([sys.argv[0], *options, str(corpus)], read)
    atheris.Fuzz()


def _forget_imports(place: Path) -> None:
    """Remove an imported bundle before the next one."""
    from hostile import case

    original = case.READERS['archive'].read

    def read(path: Path) -> object:
        shutil.rmtree(place / 'imported', ignore_errors=True)
        return original(path)

    object.__setattr__(case.READERS['archive'], 'read', read)


def write_seeds(target: str, corpus: Path, bases: object, largest: int) -> None:
    """Write the hostile inputs of a target, and good ones, as seeds."""
    from hostile.seeds import good_inputs

    cases = import_module(f'hostile.{MODULES.get(target, "texts")}').CASES

    contents = list(good_inputs(target, bases))
    for case in cases:
        if case.reader == target:
            with tempfile.TemporaryDirectory() as folder:
                path = case.make(Path(folder), bases)
                path = path / 'config.json' if target == 'bundle' else path
                if path.is_file() and path.stat().st_size <= largest:
                    contents.append(path.read_bytes())
    for content in contents:
        (corpus / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content[:largest])


def keep(findings: Path, data: bytes, error: Exception) -> None:
    """Keep an input, once for each kind of error and place that raises it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if 'bids_interp' in f.filename] or frames
    where = f'{Path(own[-1].filename).name}-{own[-1].lineno}'
    file = findings / f'{type(error).__name__}-{where}'
    if not file.exists():
        file.write_bytes(data)
        print(f'FINDING {file.name}: {error!r:.300}', file=sys.stderr, flush=True)


if __name__ == '__main__':
    main()
