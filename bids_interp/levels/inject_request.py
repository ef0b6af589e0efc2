"""Injection request: the change to plant, read from the options and planned on a grid."""

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


@dataclass(frozen=True)
class Injection:
    """Change to plant into a dataset.

    Parameters
    ----------
    scenario : Scenario
        Scenario with the effect, and the difficulty it adds.
    severity : tuple of float
        Range of the severities.
    fraction : float
        Fraction of patients.
    replicates : int
        Number of replicates per brain.
    seed : int
        Random seed.
    anatomy_mm : float
        Standard deviation of the random anatomy of each replicate.
    template : str
        Name of the brain template.
    atlas : Atlas, optional
        Atlas with the regions of the effect; built-in ellipsoids in MNI152 space by default.
    overwrite : bool
        Replace a dataset made with other settings.
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


def read_effect(
    effects: Sequence[str],
    atlas: str | None = None,
    labels: Path | None = None,
    template: str | None = None,
) -> tuple[Scenario, str, Atlas | None]:
    """Parse an effect and open its atlas.

    Parameters
    ----------
    effects : sequence of str
        Effect as in :func:`bids_interp.phantom.change.effects.parse_effect`.
    atlas : str, optional
        Label image, or ``TEMPLATE:ATLAS[:DESC]`` for an atlas of TemplateFlow.
    labels : Path, optional
        Table of the labels; the one next to the image by default.
    template : str, optional
        Brain template; by default that of the atlas, or the embedded one.

    Returns
    -------
    scenario : Scenario
        Scenario with this effect.
    template : str
        Name of the brain template.
    atlas : Atlas or None
        The atlas.

    Raises
    ------
    UsageError
        If the effect cannot be parsed, or the atlas lacks a region or is in another space.
    """
    from bids_interp.anatomical.templates import flow_home
    from bids_interp.phantom.change.effects import parse_effect
    from bids_interp.phantom.inject.scenarios import custom_scenario
    from bids_interp.phantom.regions.atlas import check_names, find_flow_atlas, open_atlas

    if atlas is None:
        if labels is not None:
            raise UsageError('--atlas-labels requires --atlas.', 'Give the label image, too.')
        return custom_scenario(parse_effect(effects)), template or EMBEDDED_TEMPLATE, None
    image: str | Path = atlas
    if ':' in atlas and not Path(atlas).exists():
        owner = atlas.split(':')[0]
        if template not in (None, owner):
            raise UsageError(
                f'The atlas {atlas} is in {owner} space, but the template is {template}.',
                f'Remove --template, or use --template {owner}.',
            )
        template = owner
        image, found = find_flow_atlas(flow_home(), atlas)
        labels = labels or found
    opened = open_atlas(image, labels)
    effect = parse_effect(effects, opened.index)
    check_names(opened, effect.changes)
    return custom_scenario(effect), template or EMBEDDED_TEMPLATE, opened


def injection_record(
    settings: Settings, injection: Injection, records: Sequence[T1wRecord], key: str
) -> dict[str, Any]:
    """Return the settings that determine the dataset, as written into its description."""
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


def fit_injection(settings: Settings, injection: Injection) -> AtrophyField:
    """Return the change on a grid around the brain of the template."""
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
    built_in = [name for name in (*names, effect.absorb) if name not in masks]
    if built_in and not injection.template.startswith('MNI152'):
        raise UsageError(
            f'The built-in regions ({", ".join(built_in)}) are in MNI152 space, but the template '
            f'is {injection.template}.',
            'Give --atlas, and the label that absorbs the volume (--effect absorb=NAME).',
        )
    logger.info('Planning the effect %s ...', effect.name)
    change = fit_atrophy(grid, effect.changes, effect.absorb, masks=masks)
    check_severity(change, injection.severity[1], effect.name)
    return change
