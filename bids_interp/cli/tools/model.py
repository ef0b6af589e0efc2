"""Command ``bids_interp_tools model``: show, verify, export or import a model bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bids_interp.models.bundle.schema import ClassifierConfig
    from bids_interp.models.target import Target


@click.group()
def model() -> None:
    """Show, verify, export or import a model bundle."""


@model.command(short_help='Describe a model.')
@click.argument('directory', metavar='[DIR]', type=click.Path(), required=False)
def show(directory: str | None) -> None:
    """Describe the model in DIR, or the packaged demonstration model if DIR is not given."""
    from bids_interp.models.bundle.reader import default_bundle_path, load_bundle

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
    """Return the classes, or mean and standard deviation of a number."""
    if target.kind == 'regression':
        return f'mean {target.mean:.4g}, standard deviation {target.sd:.4g}'
    return ' / '.join(target.classes)


def _verdict(metrics: dict[str, Any]) -> str:
    """Return whether the trained model was better than chance."""
    if metrics.get('verdict'):
        return str(metrics['verdict'])
    return (
        'explanations are not warranted' if not metrics.get('explanation_warranted', True) else '-'
    )


def _classifier(config: ClassifierConfig) -> str:
    if config.external is not None and config.card is not None:
        return f'{config.card.name}, trained elsewhere ({config.external.kind})'
    members = (config.arguments or {}).get('members', 1)
    return str(config.architecture) + (f', {members} per fold' if members > 1 else '')


@model.command(short_help='Check that the files of a model are intact.')
@click.argument('directory', metavar='DIR', type=click.Path())
def verify(directory: str) -> None:
    """Check SHA-256 and numbers of every file of the model in DIR, and load the model."""
    from bids_interp.models.bundle.contents import verify_bundle
    from bids_interp.models.bundle.reader import load_bundle

    problems = verify_bundle(directory)
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        click.get_current_context().exit(5)
    bundle = load_bundle(directory)
    for index in range(bundle.n_folds):
        bundle.fold(index)
    click.echo(f'{directory}: {bundle.name} {bundle.version_hash} is intact.')


@model.command(short_help='Write a model to a ZIP file.')
@click.argument('directory', metavar='DIR', type=click.Path())
@click.argument('archive', metavar='FILE.zip', type=click.Path())
@click.option('--overwrite', is_flag=True, help='Replace an existing FILE.zip.')
def export(directory: str, archive: str, overwrite: bool) -> None:
    """Check the model in DIR and write it to FILE.zip."""
    from bids_interp.models.bundle.archive import archive_hash, export_bundle

    path = export_bundle(directory, archive, overwrite=overwrite)
    click.echo(f'{path}\nSHA-256: {archive_hash(path)}')


@model.command('import', short_help='Unpack a model from a ZIP file.')
@click.argument('archive', metavar='FILE.zip', type=click.Path())
@click.argument('directory', metavar='DIR', type=click.Path())
@click.option('--overwrite', is_flag=True, help='Replace an existing model in DIR.')
def import_(archive: str, directory: str, overwrite: bool) -> None:
    """Unpack the model in FILE.zip into the new folder DIR, such as OUTPUT_DIR/models/NAME.

    Names, sizes and hashes of all files are checked. Nothing is unpickled or executed.
    """
    from bids_interp.models.bundle.archive import import_bundle

    bundle = import_bundle(archive, directory, overwrite=overwrite)
    click.echo(f'{directory}: {bundle.name} {bundle.version_hash} is intact.')
