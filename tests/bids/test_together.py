"""Many jobs prepare and use one output directory at the same moment."""

from __future__ import annotations

import json
import multiprocessing as mp
from pathlib import Path

import pytest

from bids_interp.bids.write.atomic import write_json
from bids_interp.bids.write.dataset_description import DESCRIPTION, IGNORED, README, prepare_output
from bids_interp.boilerplate.methods import write_citation

JOBS, ROUNDS = 4, 25


def work(number: int, out: str, bids: str, start, errors) -> None:
    """Do what an array task writes outside its subject's folder, again and again."""
    start.wait()
    try:
        for turn in range(ROUNDS):
            prepare_output(out, {'raw': bids, f'job{number}': bids})
            write_citation(Path(out) / 'logs', '# Methods\n' + 'A sentence. ' * 400)
            subject = Path(out) / f'sub-{number:02d}' / 'anat'
            write_json(subject / f'sub-{number:02d}_T1w.json', {'Turn': turn})
    except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
        errors.put(f'job {number}: {error!r}')


def look(out: Path) -> None:
    """Read every file that is visible; each must be whole."""
    if (out / DESCRIPTION).exists():
        content = json.loads((out / DESCRIPTION).read_text())
        assert content['DatasetType'] == 'derivative'
        assert content['GeneratedBy'][0]['Name'] == 'bids_interp'
    if (out / '.bidsignore').exists():
        lines = (out / '.bidsignore').read_text().splitlines()
        assert sorted(lines) == sorted(IGNORED)
    if (out / 'README.md').exists():
        assert (out / 'README.md').read_text() == README
    if (out / 'logs' / 'CITATION.html').exists():
        assert (out / 'logs' / 'CITATION.html').read_text().endswith('</html>\n')
        assert (out / 'logs' / 'CITATION.md').read_text().count('A sentence.') == 400
    # pathlib's star matches hidden files too, which are those that are still being written.
    for path in out.glob('sub-*/anat/sub-*.json'):
        assert 'Turn' in json.loads(path.read_text())


@pytest.mark.parametrize('first', ['empty', 'prepared'])
def test_jobs_write_one_dataset_at_once(tmp_path: Path, first: str) -> None:
    out, bids = tmp_path / 'out', tmp_path / 'bids'
    bids.mkdir()
    (bids / DESCRIPTION).write_text(json.dumps({'Name': 'Study', 'BIDSVersion': '1.10.0'}))
    if first == 'prepared':
        prepare_output(out, {'raw': bids})
    context = mp.get_context('fork')
    start, errors = context.Barrier(JOBS), context.Queue()
    jobs = [
        context.Process(target=work, args=(number, str(out), str(bids), start, errors))
        for number in range(JOBS)
    ]
    for job in jobs:
        job.start()
    while any(job.is_alive() for job in jobs):
        look(out)
    for job in jobs:
        job.join()
        assert job.exitcode == 0
    assert errors.empty(), errors.get()
    look(out)
    left = [path.name for path in out.rglob('.*') if path.name != '.bidsignore']
    assert left == []
    links = json.loads((out / DESCRIPTION).read_text())['DatasetLinks']
    assert 'raw' in links
    assert {name for name in links if name.startswith('job')}
