"""``bids_interp_tools model``: look into a model bundle, verify it, hand it on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bids_interp.models.bundle_schema import ClassifierConfig
    from bids_interp.models.target import Target


@click.group()
def model() -> None:
    """Look into a model bundle, verify that its files are intact, or hand it on as one file."""


@model.command()
@click.argument('directory', metavar='[DIR]', type=click.Path(), required=False)
def show(directory: str | None) -> None:
    """Say what the model in DIR is; without DIR, the packaged demonstration model."""
    from bids_interp.models.bundle import default_bundle_path, load_bundle

    bundle = load_bundle(directory or default_bundle_path())
    target, metrics = bundle.full_target, bundle.config.metrics
    spacing = ' x '.join(f'{size:g}' for size in bundle.grid.spacing)
    lines = {
        'Name': bundle.name,
        'Hash': bundle.version_hash,
        'Demonstration': 'yes, not for research' if bundle.demonstration else 'no',
        'Target': f'{target.label} ({_sides(target)})',
        'Contrasts': ', '.join(contrast.name for contrast in target.contrasts),
        'Verdict': _verdict(metrics),
        'Template': bundle.template,
        'Grid': f'{" x ".join(map(str, bundle.grid.shape))} voxels of {spacing} mm',
        'Classifier': _classifier(bundle.config.classifier),
        'Simulator': bundle.config.simulator.capacity or 'template',
        'Folds': str(bundle.n_folds),
        'Files': str(bundle.path),
    }
    for name, value in lines.items():
        click.echo(f'{name + ":":15}{value}')
    for name, value in metrics.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            click.echo(
                f'  {name}: {value:.4g}' if isinstance(value, float) else f'  {name}: {value}'
            )


def _sides(target: Target) -> str:
    """Classes, or mean and spread of a number."""
    if target.kind == 'regression':
        return f'mean {target.mean:.4g}, standard deviation {target.sd:.4g}'
    return ' / '.join(target.classes)


def _verdict(metrics: dict[str, Any]) -> str:
    """Whether it is better than chance, as it was found when it was trained."""
    if metrics.get('verdict'):
        return str(metrics['verdict'])
    return 'no explanation is warranted' if not metrics.get('explanation_warranted', True) else '-'


def _classifier(config: ClassifierConfig) -> str:
    if config.external is not None and config.card is not None:
        return f'{config.card.name}, brought along ({config.external.kind})'
    members = (config.arguments or {}).get('members', 1)
    return str(config.architecture) + (f', {members} of each fold' if members > 1 else '')


@model.command()
@click.argument('directory', metavar='DIR', type=click.Path())
def verify(directory: str) -> None:
    """Check every file of the model in DIR against its recorded SHA-256 and load it."""
    from bids_interp.models.bundle import load_bundle, verify_bundle

    problems = verify_bundle(directory)
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        click.get_current_context().exit(5)
    bundle = load_bundle(directory)
    for index in range(bundle.n_folds):
        bundle.fold(index)
    click.echo(f'{directory}: {bundle.name} {bundle.version_hash} is intact.')


@model.command()
@click.argument('directory', metavar='DIR', type=click.Path())
@click.argument('archive', metavar='FILE.zip', type=click.Path())
@click.option('--overwrite', is_flag=True, help='Replace FILE.zip.')
def export(directory: str, archive: str, overwrite: bool) -> None:
    """Write the model in DIR, after a check of its files, as one FILE.zip."""
    from bids_interp.models.bundle_archive import archive_hash, export_bundle

    path = export_bundle(directory, archive, overwrite=overwrite)
    click.echo(f'{path}\nSHA-256: {archive_hash(path)}')


@model.command('import')
@click.argument('archive', metavar='FILE.zip', type=click.Path())
@click.argument('directory', metavar='DIR', type=click.Path())
@click.option('--overwrite', is_flag=True, help='Replace the model in DIR.')
def import_(archive: str, directory: str, overwrite: bool) -> None:
    """Unpack the model of FILE.zip into the new folder DIR, such as OUTPUT_DIR/models/NAME.

    Nothing of it is unpickled or run. Names, sizes and hashes of all files are checked.
    """
    from bids_interp.models.bundle_archive import import_bundle

    bundle = import_bundle(archive, directory, overwrite=overwrite)
    click.echo(f'{directory}: {bundle.name} {bundle.version_hash} is intact.')
