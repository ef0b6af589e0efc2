"""``bids_interp_tools inject``: plant a known change into scans."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bids_interp.cli.argv import normalise

if TYPE_CHECKING:
    from bids_interp.phantom.atlas import Atlas
    from bids_interp.phantom.scenarios import Scenario

_END = 'end'
_LISTS = ('--participant-label', '--session-label', '--effect')


class _ListCommand(click.Command):
    """A command whose lists are written as in BIDS Apps: ``--participant-label 01 02``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat list options before click sees them."""
        takes_value = {
            name
            for param in self.params
            if isinstance(param, click.Option) and not param.is_flag and param.nargs == 1
            for name in param.opts
            if name not in _LISTS
        }
        return super().parse_args(ctx, order_words(args, takes_value))


def order_words(args: Sequence[str], takes_value: Collection[str]) -> list[str]:
    """Bring the words of the command line into click's order.

    Parameters
    ----------
    args : sequence of str
        Words after the name of the tool.
    takes_value : collection of str
        Options that take exactly one value.

    Examples
    --------
    >>> order_words(['--effect', 'a=-1%', 'b=-2%', '--severity', '1', '2', 'in', 'out'], [])
    ['--effect', 'a=-1%', '--effect', 'b=-2%', '--severity', '1', '2', '--', 'in', 'out']
    >>> order_words(['in', 'out', '--effect', 'a=-1%', 'b=-2%'], [])
    ['--effect', 'a=-1%', '--effect', 'b=-2%', '--', 'in', 'out']
    >>> order_words(['--effect', 'a=-1%', 'in', 'out'], [])
    ['--effect', 'a=-1%', '--', 'in', 'out']
    """
    words = list(args)
    pair: list[str] = []
    if '--severity' in words:
        # One word while the others are ordered: its two numbers belong together.
        place = words.index('--severity')
        pair = words[place : place + 3]
        words[place : place + 3] = ['--severity=']
    # The ordering is made for commands that end with the name of a level.
    end = [] if words and words[-1] in takes_value else [_END]
    ordered = normalise([*words, *end], _LISTS, takes_value, end, n_positional=2 + len(end))
    made: list[str] = []
    for word in ordered:
        made += pair if word == '--severity=' else [word] if word != _END else []
    return made


@click.command(cls=_ListCommand)
@click.argument('bids_in', metavar='BIDS_IN', type=click.Path(path_type=Path))
@click.argument('bids_out', metavar='BIDS_OUT', type=click.Path(path_type=Path))
@click.option('--scenario', help='Scenario of the known-truth benchmark, S1 to S8.')
@click.option(
    '--strength',
    type=click.Choice(['mild', 'moderate', 'strong']),
    default='moderate',
    show_default=True,
    help='Strength of a scenario.',
)
@click.option(
    '--effect',
    multiple=True,
    metavar='EFFECT',
    help='Instead of a scenario: a named effect (hippocampus, thalamus_left, ventricles, frontal, '
    'distributed, none), or regions with their volume change: thalamus_left=-15%. Repeatable; '
    'absorb=ventricles, shell or csf says what takes up the volume.',
)
@click.option(
    '--severity',
    nargs=2,
    type=float,
    default=(0.7, 1.3),
    show_default=True,
    metavar='LOW HIGH',
    help='Range of the severities; 1 is the change as it is named.',
)
@click.option('--fraction', default=0.5, show_default=True, help='Share of patients.')
@click.option('--replicates', default=1, show_default=True, help='Images made of each scan.')
@click.option('--seed', default=0, show_default=True, help='The same seed gives the same images.')
@click.option(
    '--participant-label', multiple=True, metavar='LABEL', help='Only these participants.'
)
@click.option('--session-label', multiple=True, metavar='LABEL', help='Only these sessions.')
@click.option(
    '--atlas',
    metavar='FILE',
    help='Where the regions of --effect are: a label image in the space of the template, or '
    'TEMPLATE:ATLAS[:DESC] of TemplateFlow. Without it: built-in ellipsoids.',
)
@click.option(
    '--atlas-labels',
    type=click.Path(path_type=Path),
    metavar='TSV',
    help='Its table with the columns index and name, where it does not lie beside it.',
)
@click.option('--template', help='Brain template, by its TemplateFlow name.')
@click.option(
    '--skull-strip-t1w',
    type=click.Choice(['auto', 'force', 'skip']),
    default='auto',
    show_default=True,
    help='Whether the brain has to be found in a head.',
)
@click.option('--offline', is_flag=True, help='Never ask the network for a template.')
@click.option('--fast', is_flag=True, help='Trade accuracy of the registration for time.')
@click.option(
    '--work-dir', type=click.Path(path_type=Path), metavar='DIR', help='Folder of registrations.'
)
@click.option('--nprocs', type=click.IntRange(1), help='CPUs used at once.')
@click.option(
    '--use-plugin',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help='YAML file of a plugin.',
)
@click.option('--overwrite', is_flag=True, help='Replace a dataset made with other settings.')
def inject(
    bids_in: Path,
    bids_out: Path,
    scenario: str | None,
    strength: str,
    effect: tuple[str, ...],
    severity: tuple[float, float],
    fraction: float,
    replicates: int,
    seed: int,
    participant_label: tuple[str, ...],
    session_label: tuple[str, ...],
    atlas: str | None,
    atlas_labels: Path | None,
    template: str | None,
    skull_strip_t1w: str,
    offline: bool,
    fast: bool,
    work_dir: Path | None,
    nprocs: int | None,
    use_plugin: Path | None,
    overwrite: bool,
) -> None:
    """Plant a known change into the T1w images of BIDS_IN and write them to BIDS_OUT.

    Patients carry the change, controls a sham warp of equal size. BIDS_OUT/derivatives/truth
    holds the exact log-Jacobian maps. The same command continues an interrupted run.
    """
    from bids_interp.settings import Settings
    from bids_interp.workflows.injecting import run_inject
    from bids_interp.workflows.injection import Injection

    planted, space, regions = _planted(scenario, strength, effect, atlas, atlas_labels, template)
    settings = Settings(
        bids_in,
        bids_out,
        participant_label=_labels(participant_label),
        session_label=_labels(session_label),
        skull_strip_t1w=skull_strip_t1w,
        offline=offline,
        fast=fast,
        work_dir=work_dir,
        nprocs=nprocs,
        use_plugin=use_plugin,
    )
    injection = Injection(
        scenario=planted,
        severity=severity,
        fraction=fraction,
        replicates=replicates,
        seed=seed,
        template=space,
        atlas=regions,
        overwrite=overwrite,
    )
    click.get_current_context().exit(run_inject(settings, injection))


def _planted(
    scenario: str | None,
    strength: str,
    effect: tuple[str, ...],
    atlas: str | None,
    atlas_labels: Path | None,
    template: str | None,
) -> tuple[Scenario, str, Atlas | None]:
    """Scenario, template and atlas that the options name."""
    if (scenario is None) == (not effect):
        raise click.UsageError('Give either --scenario or --effect.')
    from bids_interp.conventions import EMBEDDED_TEMPLATE
    from bids_interp.phantom.scenarios import scenario as named_scenario
    from bids_interp.workflows.injection import choose_effect

    if scenario is None:
        return choose_effect(effect, atlas, atlas_labels, template)
    if atlas is not None:
        raise click.UsageError('--atlas goes with --effect; scenarios have their own regions.')
    return named_scenario(scenario, strength), template or EMBEDDED_TEMPLATE, None


def _labels(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(label for value in values for label in value.replace(',', ' ').split())
