"""What the tool `inject` plants: read from the command line, planned, and written down."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_interp.bids.read.query import T1wRecord
from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.errors import UsageError
from bids_interp.settings import Settings

if TYPE_CHECKING:
    from bids_interp.phantom.change.atrophy import AtrophyField
    from bids_interp.phantom.inject.scenarios import Scenario
    from bids_interp.phantom.regions.atlas import Atlas

logger = logging.getLogger('bids_interp')

#: The template that needs no file.


@dataclass(frozen=True)
class Injection:
    """What is planted.

    Parameters
    ----------
    scenario : Scenario
        The change and what is put in its way.
    severity : tuple of float
        Range of the severities.
    fraction : float
        Share of patients.
    replicates : int
        Replicates of each brain.
    seed : int
        Seed of everything random.
    anatomy_mm : float
        Standard deviation of the random anatomy of each replicate.
    template : str
        Name of the brain template.
    atlas : Atlas, optional
        Where the regions of the effect are; built-in ellipsoids in MNI152 space without it.
    overwrite : bool
        Replace a dataset that was made with other settings.
    """

    scenario: Scenario
    severity: tuple[float, float] = (0.7, 1.3)
    fraction: float = 0.5
    replicates: int = 1
    seed: int = 0
    anatomy_mm: float = 2.0
    template: str = EMBEDDED_TEMPLATE
    atlas: Atlas | None = None
    overwrite: bool = False


def choose_effect(
    effects: Sequence[str],
    atlas: str | None = None,
    labels: Path | None = None,
    template: str | None = None,
) -> tuple[Scenario, str, Atlas | None]:
    """Read an effect in words, and the atlas that it is about.

    Parameters
    ----------
    effects : sequence of str
        As :func:`bids_interp.phantom.change.effects.parse_effect` takes them.
    atlas : str, optional
        Label image, or ``TEMPLATE:ATLAS[:DESC]`` of TemplateFlow.
    labels : Path, optional
        Table of the labels, where it does not lie beside the image.
    template : str, optional
        Brain template; that of the atlas, or the embedded one, where not given.

    Returns
    -------
    scenario : Scenario
        What is planted.
    template : str
        Name of the brain template.
    atlas : Atlas or None
        The atlas.

    Raises
    ------
    UsageError
        The effect cannot be read, or the atlas has no such region or is of another template.
    """
    from bids_interp.anatomical.templates import flow_home
    from bids_interp.phantom.change.effects import parse_effect
    from bids_interp.phantom.inject.scenarios import custom_scenario
    from bids_interp.phantom.regions.atlas import check_names, find_flow_atlas, open_atlas

    if atlas is None:
        if labels is not None:
            raise UsageError('--atlas-labels without --atlas.', 'Give the label image, too.')
        return custom_scenario(parse_effect(effects)), template or EMBEDDED_TEMPLATE, None
    image: str | Path = atlas
    if ':' in atlas and not Path(atlas).exists():
        owner = atlas.split(':')[0]
        if template not in (None, owner):
            raise UsageError(
                f'The atlas {atlas} is in {owner} space, the template is {template}.',
                f'Leave out --template, or give --template {owner}.',
            )
        template = owner
        image, found = find_flow_atlas(flow_home(), atlas)
        labels = labels or found
    opened = open_atlas(image, labels)
    effect = parse_effect(effects, opened.index)
    check_names(opened, effect.changes)
    return custom_scenario(effect), template or EMBEDDED_TEMPLATE, opened


def recipe_of(
    settings: Settings, injection: Injection, records: Sequence[T1wRecord], key: str
) -> dict[str, Any]:
    """Return everything that the dataset depends on, but for the files themselves."""
    scenario = injection.scenario
    return {
        'Scenario': scenario.name,
        'Purpose': scenario.purpose,
        'Effect': scenario.effect.name,
        'Changes': scenario.changes,
        'ShamsAfter': dict(scenario.effect.changes),
        'AbsorbedBy': scenario.effect.absorb,
        'Atlas': injection.atlas
        and {
            'Name': injection.atlas.path.name,
            'Digest': injection.atlas.digest,
        },
        'Confound': None if scenario.confound is None else list(scenario.confound),
        'ScalingSD': scenario.scaling_sd,
        'Severity': list(injection.severity),
        'Fraction': injection.fraction,
        'Replicates': injection.replicates,
        'Seed': injection.seed,
        'AnatomyMM': injection.anatomy_mm,
        'Template': injection.template,
        'SkullStrip': settings.skull_strip_t1w,
        'Fast': settings.fast,
        'Source': key,
        'Images': [record.prefix for record in records],
    }


def plan_injection(settings: Settings, injection: Injection) -> AtrophyField:
    """Plan the change on a grid around the brain of the template."""
    from bids_interp.anatomical.templates import brain_template
    from bids_interp.phantom.change.atrophy import ABSORBERS, check_severity, fit_atrophy
    from bids_interp.phantom.inject.warps import field_grid
    from bids_interp.phantom.regions.atlas import atlas_masks, check_atlas_space
    from bids_interp.spatial import Grid

    effect, atlas = injection.scenario.effect, injection.atlas
    template = brain_template(injection.template, offline=settings.offline)
    brain = Grid.from_image(template, injection.template)
    grid = field_grid(brain)
    masks = {}
    names = list(effect.changes)
    if atlas is not None:
        check_atlas_space(atlas, np.asarray(template.dataobj), brain)
        if effect.absorb not in ABSORBERS:
            names.append(effect.absorb)
        masks = atlas_masks(atlas, names, grid)
    drawn = [name for name in (*names, effect.absorb) if name not in masks]
    if drawn and not injection.template.startswith('MNI152'):
        raise UsageError(
            f'The built-in regions ({", ".join(drawn)}) lie in MNI152 space, the template is '
            f'{injection.template}.',
            'Give --atlas, and a label of it that absorbs (--effect absorb=NAME).',
        )
    logger.info('Planning the effect %s ...', effect.name)
    plan = fit_atrophy(grid, effect.changes, effect.absorb, masks=masks)
    check_severity(plan, injection.severity[1], effect.name)
    return plan
