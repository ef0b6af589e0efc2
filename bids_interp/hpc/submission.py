"""Submission of the jobs: the scripts on disk, and the call of the scheduler."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bids_interp.bids.write.atomic import write_text
from bids_interp.bids.write.folders import check_writable
from bids_interp.errors import BidsInterpError, OutputError
from bids_interp.hpc.render import SUBMIT_FILE

SUBMIT_COMMANDS = {
    'slurm': 'sbatch',
    'pbs': 'qsub',
    'torque': 'qsub',
    'sge': 'qsub',
    'lsf': 'bsub',
}


def write_scripts(folder: Path, scripts: Mapping[str, str], *, overwrite: bool) -> list[Path]:
    """Write the scripts, and return their paths.

    Parameters
    ----------
    folder : Path
        Folder of the scripts; it is created if it does not exist.
    scripts : mapping of str to str
        Text of each file, by its name.
    overwrite : bool
        Replace files with different content.

    Raises
    ------
    OutputError
        If a file exists with different content, or cannot be written.
    """
    different = [
        name
        for name, text in scripts.items()
        if (folder / name).exists() and (folder / name).read_bytes() != text.encode()
    ]
    if different and not overwrite:
        raise OutputError(
            f'{folder} already has different versions of {", ".join(sorted(different))}.',
            'Waiting jobs may still read them. Choose another folder with --out, or replace them '
            'with --overwrite.',
        )
    check_writable(folder, 'folder of the scripts')
    (folder / 'logs').mkdir(exist_ok=True)
    written = []
    for name, text in scripts.items():
        path = write_text(folder / name, text)
        path.chmod(0o644 if path.suffix == '.txt' else 0o755)
        written.append(path)
    return written


def submit(folder: Path, scheduler: str) -> str:
    """Submit the jobs with ``submit.sh`` and return its output.

    Returns
    -------
    str
        One line for each job: ``submitted NAME ID``.

    Raises
    ------
    BidsInterpError
        If there is no scheduler, or it refuses a job; the message quotes it.
    """
    command = SUBMIT_COMMANDS[scheduler]
    script = folder / SUBMIT_FILE
    if shutil.which(command) is None:
        raise BidsInterpError(
            f'{command} does not exist on this machine; nothing was submitted.',
            f'Run {script} on a submit host of the cluster.',
        )
    done = subprocess.run(
        ['bash', str(script)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return done.stdout
    accepted = re.findall('^submitted (.+)$', done.stdout, re.MULTILINE)
    already = (
        f' Cancel the jobs that were already submitted first: {"; ".join(accepted)}.'
        if accepted
        else ''
    )
    raise BidsInterpError(
        f'{command} refused a job: {(done.stderr.strip() or done.stdout.strip()).rstrip(".")}.',
        'Change the option it complains about (--partition, --account, --time, --mem, --max-array) '
        f'and run the command again with --overwrite.{already}',
    )
