"""Rendered job scripts, as texts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from bids_interp.hpc.job import SCHEDULERS, ClusterJobs, Resources, bound_paths
from bids_interp.version import __version__

LIST_FILE = 'participants.txt'
SUBMIT_FILE = 'submit.sh'


def render(jobs: ClusterJobs) -> dict[str, str]:
    """Return the scripts of the jobs.

    Returns
    -------
    dict of str to str
        Text of each file, by its name: ``participants.txt``, the scripts of the array, the group
        level and the training, and ``submit.sh``, which submits them.
    """
    suffix = SCHEDULERS[jobs.scheduler]
    environment = _environment()
    scripts: dict[str, str] = {LIST_FILE: ''.join(f'{label}\n' for label in jobs.participants)}
    arrays = _arrays(jobs, suffix)
    for name, offset, number in arrays:
        scripts[name] = _job(environment, jobs, 'participant', jobs.participant, offset, number)
    for level, part in (('group', jobs.group), ('train', jobs.train)):
        if part is not None:
            scripts[f'{level}.{suffix}'] = _job(environment, jobs, level, part, 0, 0)
    submit = environment.get_template('submit.sh.j2')
    scripts[SUBMIT_FILE] = submit.render(
        jobs=jobs, suffix=suffix, arrays=[name for name, _, _ in arrays], made_by=_made_by(jobs)
    )
    return scripts


def _arrays(jobs: ClusterJobs, suffix: str) -> list[tuple[str, int, int]]:
    """Return name, first line of the list (from 0), and number of tasks of each array."""
    total, size = len(jobs.participants), jobs.max_array
    starts = range(0, total, size)
    names = ['participant'] if len(starts) == 1 else [f'participant-{i + 1}' for i in range(total)]
    return [
        (f'{name}.{suffix}', start, min(size, total - start))
        for name, start in zip(names, starts, strict=False)
    ]


def _job(
    environment: Environment,
    jobs: ClusterJobs,
    level: str,
    part: Resources,
    offset: int,
    number: int,
) -> str:
    options = {
        'participant': jobs.options,
        'group': jobs.group_options,
        'train': jobs.train_options,
    }[level]
    values: dict[str, Any] = {
        'jobs': jobs,
        'level': level,
        'part': part,
        'offset': offset,
        'number': number,
        'options': options,
        'binds': bound_paths(jobs),
        'made_by': _made_by(jobs),
        'local_image': _local_image(jobs),
    }
    values['directives'] = environment.get_template(f'{jobs.scheduler}.j2').render(values)
    return environment.get_template('job.sh.j2').render(values)


def _local_image(jobs: ClusterJobs) -> str | None:
    """Return the image if it is a file, which must exist when a task starts."""
    if jobs.engine not in ('apptainer', 'singularity') or '://' in str(jobs.image):
        return None
    return jobs.image


def _made_by(jobs: ClusterJobs) -> str:
    # A line break would end the comment.
    return f'bids_interp {__version__}: {jobs.command}'.replace('\n', ' ').replace('\r', ' ')


def _environment() -> Environment:
    folder = files('bids_interp.hpc').joinpath('templates')
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding='utf-8')),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - shell, not HTML
    )
    environment.filters |= {
        'quote': lambda value: shlex.quote(str(value)),
        'words': _words,
        'clock': clock,
        'slurm_log': slurm_log,
        'variable': variable,
    }
    return environment


def _words(values: Sequence[str]) -> str:
    return ' '.join(shlex.quote(str(value)) for value in values)


def clock(minutes: int, seconds: bool = True) -> str:
    """Return a time as HH:MM:SS, or as HH:MM.

    Examples
    --------
    >>> clock(1501), clock(90, seconds=False)
    ('25:01:00', '01:30')
    """
    text = f'{minutes // 60:02d}:{minutes % 60:02d}'
    return f'{text}:00' if seconds else text


def slurm_log(folder: object, level: str, number: int) -> str:
    r"""Return the quoted path of the log for ``#SBATCH``, where % begins a field.

    Examples
    --------
    >>> print(slurm_log('/my "5%" study', 'group', 0))
    "/my \"5%%\" study/group_%j.log"
    """
    text = str(folder).replace('\\', '\\\\').replace('"', '\\"').replace('%', '%%')
    return f'"{text}/{level}_{"%A_%a" if number else "%j"}.log"'


def variable(path: str) -> str:
    """Quote a path that may begin with an environment variable of the node.

    Examples
    --------
    >>> print(variable('$TMPDIR/my data'))
    "${TMPDIR:?is not set on this node}"'/my data'
    >>> print(variable('/local/scratch'))
    /local/scratch
    """
    match = re.fullmatch(r'\$\{?([A-Za-z_]\w*)\}?(/.*)?', path)
    if match is None:
        return shlex.quote(path)
    name, rest = match.groups()
    return f'"${{{name}:?is not set on this node}}"{shlex.quote(rest) if rest else ""}'
