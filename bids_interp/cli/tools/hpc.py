"""Command ``bids_interp_tools hpc``: write job scripts for a cluster."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bids_interp.cli.app import given_options
from bids_interp.cli.params import Command, absolute
from bids_interp.cli.tools.hpc_options import hpc_options
from bids_interp.errors import UsageError
from bids_interp.hpc.job import SCHEDULERS, ClusterJobs, Resources, check_sources

if TYPE_CHECKING:
    from bids_interp.cli.tools.job_options import AppOptions
    from bids_interp.hpc.participant_selection import ParticipantSelection


def hpc_callback(**given: Any) -> None:
    """Write the scripts and, with ``--submit``, submit them."""
    from bids_interp.hpc.render import SUBMIT_FILE, render
    from bids_interp.hpc.submission import submit, write_scripts

    if given['dry_run'] and given['submit']:
        raise UsageError('--dry-run and --submit exclude each other.', 'Remove one of them.')
    _refuse_unused(given)
    jobs, selection, disk = cluster_jobs(given)
    check_sources(jobs)
    texts = render(jobs)
    for line in _summary(jobs, selection, disk):
        click.echo(line)
    if given['dry_run']:
        for name, text in texts.items():
            click.echo(f'\n=== {jobs.jobs_dir / name}\n{text}', nl=False)
        return
    for path in write_scripts(jobs.jobs_dir, texts, overwrite=given['overwrite']):
        click.echo(f'Wrote {path}')
    if given['submit']:
        click.echo(submit(jobs.jobs_dir, jobs.scheduler), nl=False)
    else:
        click.echo(f'Submit with: bash {shlex.quote(str(jobs.jobs_dir / SUBMIT_FILE))}')


def _refuse_unused(given: dict[str, Any]) -> None:
    """Refuse options of jobs or programs that will not run."""
    unused = {
        'with --no-group': not given['group'] and ('group_', 'dependency'),
        'without --train-options': given['train_options'] is None and ('train_',),
        f'with --engine {given["engine"]}': given['engine'] != 'none' and ('program',),
    }
    for option in given_options(click.get_current_context()):
        for reason, names in unused.items():
            if names and str(option.name).startswith(names):
                raise UsageError(
                    f'{option.flag_name} has no effect {reason}.', 'Remove the option.'
                )


def cluster_jobs(
    given: dict[str, Any],
) -> tuple[ClusterJobs, ParticipantSelection, tuple[float, float]]:
    """Select the participants and describe their jobs.

    Parameters
    ----------
    given : dict
        Values of the options.

    Returns
    -------
    tuple of ClusterJobs, ParticipantSelection, (float, float)
        The jobs, the selected participants, and gigabytes of outputs and of work directories.
    """
    from bids_interp.cli.tools.job_options import read_app_options
    from bids_interp.execution.run_folders import MARKER
    from bids_interp.hpc.estimate import disk_gb, image_shapes
    from bids_interp.hpc.participant_selection import select_participants

    bids, out = (absolute(given[name]) for name in ('bids_dir', 'output_dir'))
    app = read_app_options(
        given['app_options'], bids, out, 'participant', given['participant_label']
    )
    group = train = None
    if given['group']:
        group = read_app_options(shlex.split(given['group_options']), bids, out, 'group')
    if given['train_options'] is not None:
        train = read_app_options(shlex.split(given['train_options']), bids, out, 'train')
    selection = select_participants(app.settings, only_missing=given['only_missing'])
    shapes = image_shapes(selection.records)
    parts = _resources(given, app, group, train, selection, shapes)
    used = [part for part in (app, group, train) if part is not None]
    environment, bound = _environment(given)
    jobs = ClusterJobs(
        scheduler=given['scheduler'],
        bids_dir=bids,
        output_dir=out,
        work_dir=absolute(given['work_dir'] or out / MARKER),
        jobs_dir=absolute(given['out']),
        participants=selection.participants,
        participant=parts[0],
        group=parts[1],
        train=parts[2],
        engine=given['engine'],
        image=_image(given),
        program=str(absolute(given['program']) if given['program'] else _own_program()),
        options=app.words,
        group_options=group.words if group else (),
        train_options=train.words if train else (),
        read_only=tuple(dict.fromkeys([*bound, *(p for part in used for p in part.read_only)])),
        writable=tuple(dict.fromkeys(p for part in used for p in part.writable)),
        environment=environment,
        grace_s=given['grace'],
        scheduler_options=given['scheduler_option'],
        command=shlex.join(['bids_interp_tools', *sys.argv[1:]]),
        **{name: given[name] for name in _SAME},
    )
    return jobs, selection, disk_gb(shapes, app.settings)


_SAME = (
    'account', 'qos', 'parallel_environment', 'setup', 'dependency', 'max_running', 'max_array',
    'retries', 'requeues', 'node_scratch', 'delete_work',
)  # fmt: skip


def _resources(
    given: dict[str, Any],
    app: AppOptions,
    group: AppOptions | None,
    train: AppOptions | None,
    selection: ParticipantSelection,
    shapes: list[tuple[int, ...]],
) -> tuple[Resources, Resources | None, Resources | None]:
    """Return the resources of a participant, the group level and the train level."""
    from bids_interp.hpc.estimate import TRAIN, estimate_group, estimate_participant

    def finish(part: Resources, prefix: str) -> Resources:
        wanted = {
            name: given[prefix + option]
            for name, option in (('cpus', 'cpus'), ('minutes', 'time'), ('gpus', 'gpus'))
            if given.get(prefix + option) is not None
        }
        if given[f'{prefix}mem'] is not None:
            wanted['mem_gb'] = max(1, round(given[f'{prefix}mem'] * 1e9 / 2**30 + 0.499))
        part = replace(part, **wanted)
        queue = (given['gpu_partition'] if part.gpus else None) or given['partition']
        return replace(part, partition=queue)

    settings = app.settings
    saliency = bool(settings.saliency)
    own = estimate_participant(selection.records, shapes, cpus=given['cpus'], saliency=saliency)
    own = finish(own, '')
    grouped = trained = None
    if group is not None:
        n_images = len(selection.records) + len(selection.done)
        grouped = estimate_group(
            n_images,
            n_maps=2 * len(settings.doses),
            voxelwise=bool(group.settings.voxelwise),
        )
        grouped = finish(grouped, 'group_')
    if train is not None:
        trained = replace(TRAIN, gpus=1 if given['gpu_partition'] else 0)
        trained = finish(trained, 'train_')
    return own, grouped, trained


def _environment(given: dict[str, Any]) -> tuple[tuple[tuple[str, str], ...], list[Path]]:
    """Return the environment variables of the jobs, and the folders to bind."""
    # The caller's templates would hide those in a container.
    own = os.environ.get('TEMPLATEFLOW_HOME', '') if given['engine'] == 'none' else ''
    named = {
        'TEMPLATEFLOW_HOME': given['templateflow'] or (own if Path(own).is_dir() else ''),
        'BIDS_INTERP_MODEL': os.environ.get('BIDS_INTERP_MODEL', ''),
    }
    found = {name: absolute(path) for name, path in named.items() if path}
    folders = [*found.values(), *(absolute(path) for path in given['bind'])]
    return tuple((name, str(path)) for name, path in found.items()), folders


def _image(given: dict[str, Any]) -> str | None:
    image = given['image']
    if image is None or '://' in image or given['engine'] not in ('apptainer', 'singularity'):
        return image
    return str(absolute(image))


def _own_program() -> Path:
    """Return the path of ``bids_interp`` next to the running Python."""
    own = Path(sys.executable).with_name('bids_interp')
    return own if own.exists() else Path(shutil.which('bids_interp') or own)


def _summary(
    jobs: ClusterJobs, selection: ParticipantSelection, disk: tuple[float, float]
) -> list[str]:
    """Return a summary of the jobs."""
    lines = [
        f'{len(jobs.participants)} participants, {len(selection.records)} T1w images; '
        f'about {disk[0]:.1f} GB of output and {disk[1]:.1f} GB of intermediate results.'
    ]
    if selection.done:
        lines.append(f'{len(selection.done)} finished participants are skipped.')
    for name, part in (
        ('Each participant', jobs.participant),
        ('Group', jobs.group),
        ('Training', jobs.train),
    ):
        if part is not None:
            gpus = f', {part.gpus} GPU' if part.gpus else ''
            lines.append(
                f'{name}: {part.cpus} CPUs, {part.mem_gb} GiB{gpus}, at most '
                f'{part.minutes // 60}:{part.minutes % 60:02d} h.'
            )
    return lines


hpc = Command(
    'hpc',
    callback=hpc_callback,
    params=[
        click.Argument(['scheduler'], type=click.Choice(tuple(SCHEDULERS))),
        click.Argument(['bids_dir'], metavar='BIDS_DIR'),
        click.Argument(['output_dir'], metavar='OUTPUT_DIR'),
        click.Argument(
            ['app_options'], nargs=-1, required=False, metavar='[-- OPTIONS OF bids_interp]'
        ),
        *hpc_options(),
    ],
    help='Write job scripts that run bids_interp on BIDS_DIR: a job array with one participant per '
    'task, followed by the group level.\n\nEach task runs `bids_interp BIDS_DIR OUTPUT_DIR '
    'participant` in a container, with the options after -- and the CPUs and memory that the '
    'scheduler has granted. Options of the other levels go into --group-options and '
    '--train-options.',
)
