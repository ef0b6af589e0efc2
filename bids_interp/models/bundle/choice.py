"""Choice of the model bundle: requested, trained here, from the environment, or demonstration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bids_interp.bids.entities import LABEL
from bids_interp.errors import ModelError, UsageError
from bids_interp.records import parse_json
from bids_interp.settings import NATIVE_SPACE, TEMPLATE_SPACE, Settings

if TYPE_CHECKING:
    from bids_interp.models.bundle.reader import ModelBundle

VARIABLE = 'BIDS_INTERP_MODEL'


def choose_bundle(settings: Settings, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the model bundle of a run.

    In this order: ``--model``; the only bundle under ``OUTPUT_DIR/models``; the environment
    variable ``BIDS_INTERP_MODEL``; the packaged demonstration model.

    Raises
    ------
    ModelError
        If ``OUTPUT_DIR/models`` contains several bundles.
    """
    if settings.model is not None:
        return settings.model
    models = settings.output_dir / 'models'
    trained = sorted(path.parent for path in models.glob('[!.]*/config.json'))
    if len(trained) > 1:
        names = ', '.join(path.name for path in trained)
        raise ModelError(f'{models} contains several models: {names}.', 'Choose one with --model.')
    if trained:
        return trained[0]
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE]).expanduser().absolute()
    from bids_interp.models.bundle.reader import default_bundle_path

    return default_bundle_path()


def open_model(settings: Settings) -> ModelBundle:
    """Open the model of a run; check its files and the output spaces.

    Raises
    ------
    ModelError
        If the bundle is missing, damaged or made for another grid.
    UsageError
        If an output space is not native or a template at 1 mm.
    """
    from bids_interp.models.bundle.reader import load_bundle

    bundle = load_bundle(choose_bundle(settings), settings.contrast, allow_code=settings.allow_code)
    output_spaces(settings, bundle.template)
    return bundle


def check_contrast(out_dir: Path, bundle: ModelBundle) -> None:
    """Refuse an output folder that contains another contrast of the same model.

    Files of two contrasts have the same names, so the second would replace the first.

    Raises
    ------
    UsageError
        If it contains one.
    """
    try:
        described = parse_json((out_dir / 'dataset_description.json').read_text(encoding='utf-8'))
        makers = described.get('GeneratedBy') or []
    except (OSError, ValueError, AttributeError):
        return  # no description yet; an unreadable one is refused elsewhere
    own, _, _ = bundle.version_hash.partition('-')
    for maker in makers:
        written = str(maker.get('Version', ''))
        if written.partition('-')[0] == own and written != bundle.version_hash:
            raise UsageError(
                f'{out_dir} contains a contrast of {bundle.name} other than '
                f'{bundle.contrast_name}.',
                'Use a separate output folder for each --contrast.',
            )


def output_spaces(settings: Settings, template: str) -> tuple[str, ...]:
    """Return ``T1w`` and ``template`` for any accepted name of them, and names of other templates.

    Examples
    --------
    >>> settings = Settings('/bids', '/out', output_spaces=('anat', 'MNI152:res-1', 'Colin27'))
    >>> output_spaces(settings, 'MNI152')
    ('T1w', 'template', 'Colin27')

    Raises
    ------
    UsageError
        If a space is not native or a template at 1 mm.
    """
    names = {'t1w': NATIVE_SPACE, 'anat': NATIVE_SPACE, 'native': NATIVE_SPACE}
    names |= {'template': TEMPLATE_SPACE, template.lower(): TEMPLATE_SPACE}
    spaces = []
    for name in settings.output_spaces:
        whole = name.removesuffix(':res-1')
        space = names.get(whole.lower(), whole)
        if not LABEL.fullmatch(space):
            raise UsageError(
                f'--output-spaces: {name!r} is not available.',
                'Give T1w (native), or names of templates without resolution or cohort; images are '
                'written at 1 mm.',
            )
        spaces.append(space)
    return tuple(dict.fromkeys(spaces))
