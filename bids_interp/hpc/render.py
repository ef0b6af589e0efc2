"""Job scripts for clusters: a plan as files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from bids_interp.hpc.job import SCHEDULERS, JobPlan, Resources, bound_paths
from bids_interp.version import __version__

LIST_FILE = 'participants.txt'
SUBMIT_FILE = 'submit.sh'


def render(plan: JobPlan) -> dict[str, str]:
    """Write the scripts of a plan.

    Returns
    -------
    dict of str to str
        File name -> text: ``participants.txt``, the scripts of array, group and training, and
        ``submit.sh``, which submits them.
    """
    suffix = SCHEDULERS[plan.scheduler]
    environment = _environment()
    scripts: dict[str, str] = {LIST_FILE: ''.join(f'{label}\n' for label in plan.participants)}
    arrays = _arrays(plan, suffix)
    for name, offset, number in arrays:
        scripts[name] = _job(environment, plan, 'participant', plan.participant, offset, number)
    for level, part in (('group', plan.group), ('train', plan.train)):
        if part is not None:
            scripts[f'{level}.{suffix}'] = _job(environment, plan, level, part, 0, 0)
    submit = environment.get_template('submit.sh.j2')
    scripts[SUBMIT_FILE] = submit.render(
        plan=plan, suffix=suffix, arrays=[name for name, _, _ in arrays], made_by=_made_by(plan)
    )
    return scripts


def _arrays(plan: JobPlan, suffix: str) -> list[tuple[str, int, int]]:
    """Name, lines of the list before it, and number of tasks of every array."""
    total, size = len(plan.participants), plan.max_array
    starts = range(0, total, size)
    names = ['participant'] if len(starts) == 1 else [f'participant-{i + 1}' for i in range(total)]
    return [
        (f'{name}.{suffix}', start, min(size, total - start))
        for name, start in zip(names, starts, strict=False)
    ]


def _job(
    environment: Environment, plan: JobPlan, level: str, part: Resources, offset: int, number: int
) -> str:
    options = {
        'participant': plan.options,
        'group': plan.group_options,
        'train': plan.train_options,
    }[level]
    context: dict[str, Any] = {
        'plan': plan,
        'level': level,
        'part': part,
        'offset': offset,
        'number': number,
        'options': options,
        'binds': bound_paths(plan),
        'made_by': _made_by(plan),
        'local_image': _local_image(plan),
    }
    context['directives'] = environment.get_template(f'{plan.scheduler}.j2').render(context)
    return environment.get_template('job.sh.j2').render(context)


def _local_image(plan: JobPlan) -> str | None:
    """Return the image where it is a file, which must be there when a task starts."""
    if plan.engine not in ('apptainer', 'singularity') or '://' in str(plan.image):
        return None
    return plan.image


def _made_by(plan: JobPlan) -> str:
    # A line break in a word would end the comment.
    return f'bids_interp {__version__}: {plan.command}'.replace('\n', ' ').replace('\r', ' ')


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
    """Return a time as hours, minutes and perhaps seconds.

    Examples
    --------
    >>> clock(1501), clock(90, seconds=False)
    ('25:01:00', '01:30')
    """
    text = f'{minutes // 60:02d}:{minutes % 60:02d}'
    return f'{text}:00' if seconds else text


def slurm_log(folder: object, level: str, number: int) -> str:
    r"""Return the log for ``#SBATCH``, quoted; percent signs stand for fields there.

    Examples
    --------
    >>> print(slurm_log('/my "5%" study', 'group', 0))
    "/my \"5%%\" study/group_%j.log"
    """
    text = str(folder).replace('\\', '\\\\').replace('"', '\\"').replace('%', '%%')
    return f'"{text}/{level}_{"%A_%a" if number else "%j"}.log"'


def variable(path: str) -> str:
    """Quote a path that may begin with a variable of the node.

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
