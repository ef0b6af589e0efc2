"""Command ``bids_interp_tools inject``: add a known volume change to scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bids_interp.cli.params import Command, FileOrName, Option, OptionGroup, flag, path_option
from bids_interp.cli.tools.brains import preparation_options, preparation_settings
from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.errors import UsageError

if TYPE_CHECKING:
    from bids_interp.phantom.inject.scenarios import Scenario
    from bids_interp.phantom.regions.atlas import Atlas

CHANGE = OptionGroup('Change')
IMAGES = OptionGroup('Images')


def inject_callback(**given: Any) -> None:
    """Write the changed dataset."""
    from bids_interp.levels.inject import run_inject
    from bids_interp.levels.inject_request import Injection

    planted, space, regions = _planted(
        given['scenario'],
        given['strength'],
        given['effect'],
        given['atlas'],
        given['atlas_labels'],
        given['template'],
    )
    settings = preparation_settings(given, given['bids_in'], given['bids_out'])
    names = ('severity', 'fraction', 'replicates', 'seed', 'overwrite')
    injection = Injection(
        scenario=planted, template=space, atlas=regions, **{name: given[name] for name in names}
    )
    click.get_current_context().exit(run_inject(settings, injection))


def _planted(
    scenario: str | None,
    strength: str | None,
    effect: tuple[str, ...],
    atlas: str | None,
    atlas_labels: Path | None,
    template: str | None,
) -> tuple[Scenario, str, Atlas | None]:
    """Return scenario, template and atlas from the options."""
    if (scenario is None) == (not effect):
        raise UsageError('Give either --scenario or --effect.', _ADVICE)
    from bids_interp.levels.inject_request import read_effect
    from bids_interp.phantom.inject.scenarios import scenario as named_scenario

    if scenario is None:
        if strength is not None:
            raise UsageError('--strength requires --scenario.', _ADVICE)
        return read_effect(effect, atlas, atlas_labels, template)
    if atlas is not None or atlas_labels is not None:
        raise UsageError(
            '--atlas and --atlas-labels require --effect: scenarios have their own regions.',
            _ADVICE,
        )
    chosen = named_scenario(scenario, strength or 'moderate')
    if chosen.benchmark_only:
        raise UsageError(
            f'{scenario} can only be planted by `bids_interp_tools bench truth`.',
            'Choose a scenario from S1 to S8.',
        )
    return chosen, template or EMBEDDED_TEMPLATE, None


_ADVICE = 'See `bids_interp_tools inject --help`.'


def _change() -> list[Option]:
    return [
        Option(
            ['--scenario'],
            group=CHANGE,
            metavar='NAME',
            help='Scenario of the known-truth benchmark, S1 to S8.',
        ),
        Option(
            ['--strength'],
            group=CHANGE,
            type=click.Choice(['mild', 'moderate', 'strong']),
            show_default='moderate',
            help='Strength of the scenario.',
        ),
        Option(
            ['--effect'],
            group=CHANGE,
            is_list=True,
            metavar='EFFECT...',
            show_default=False,
            help='Instead of a scenario, a named effect (hippocampus, hippocampus_mild, '
            'thalamus_left, ventricles, frontal, distributed, none), or regions and their volume '
            'changes, such as thalamus_left=-15%. absorb=ventricles (or shell, csf) sets where '
            'the volume goes.',
        ),
        Option(
            ['--severity'],
            group=CHANGE,
            nargs=2,
            type=float,
            default=(0.7, 1.3),
            metavar='LOW HIGH',
            help='Range of the severities of the patients; 1 is the change as named.',
        ),
        Option(
            ['--atlas'],
            group=CHANGE,
            type=FileOrName(),
            show_default='built-in ellipsoids',
            help='Atlas with the regions of --effect: a label image in the space of the template, '
            'or TEMPLATE:ATLAS[:DESC] for an atlas of TemplateFlow.',
        ),
        path_option(
            '--atlas-labels',
            group=CHANGE,
            type=click.Path(path_type=Path),
            metavar='FILE',
            show_default='the table next to the atlas',
            help='TSV table with the columns index and name for the atlas.',
        ),
        Option(
            ['--template'],
            group=CHANGE,
            metavar='NAME',
            show_default='the embedded MNI152NLin2009aSym',
            help='TemplateFlow name of the brain template in which the change is defined.',
        ),
    ]


def _images() -> list[Option]:
    return [
        Option(['--fraction'], group=IMAGES, default=0.5, help='Fraction of patients.'),
        Option(['--replicates'], group=IMAGES, default=1, help='Number of images per scan.'),
        Option(['--seed'], group=IMAGES, default=0, help='Random seed.'),
        flag('--overwrite', group=IMAGES, help='Replace a dataset made with other settings.'),
    ]


inject = Command(
    'inject',
    callback=inject_callback,
    params=[
        click.Argument(['bids_in'], metavar='BIDS_IN', type=click.Path(path_type=Path)),
        click.Argument(['bids_out'], metavar='BIDS_OUT', type=click.Path(path_type=Path)),
        *_change(),
        *_images(),
        *preparation_options('family', 'device'),
    ],
    help='Add a known volume change to the T1w images of BIDS_IN and write them to BIDS_OUT.\n\n'
    'Patients get the change, controls a sham warp of the same size. BIDS_OUT/derivatives/truth '
    'holds the exact log-Jacobian maps. To continue an interrupted run, run the same command '
    'again.',
)
