"""``bids_interp_tools model``: look into a model bundle."""

from __future__ import annotations

import click


@click.group()
def model() -> None:
    """Look into a model bundle, or verify that its files are intact."""


@model.command()
@click.argument('directory', metavar='[DIR]', type=click.Path(), required=False)
def show(directory: str | None) -> None:
    """Say what the model in DIR is; without DIR, the packaged demonstration model."""
    from bids_interp.models.bundle import default_bundle_path, load_bundle

    bundle = load_bundle(directory or default_bundle_path())
    target = bundle.target
    spacing = ' x '.join(f'{size:g}' for size in bundle.grid.spacing)
    lines = {
        'Name': bundle.name,
        'Hash': bundle.version_hash,
        'Demonstration': 'yes, not for research' if bundle.demonstration else 'no',
        'Target': f'{target.get("label", "")} ({target.get("negative")} / '
        f'{target.get("positive")})',
        'Template': bundle.template,
        'Grid': f'{" x ".join(map(str, bundle.grid.shape))} voxels of {spacing} mm',
        'Folds': str(bundle.n_folds),
        'Files': str(bundle.path),
    }
    for name, value in lines.items():
        click.echo(f'{name + ":":15}{value}')
    metrics = bundle.config.get('metrics', {})
    for name, value in metrics.items():
        if isinstance(value, (int, float, str)):
            click.echo(
                f'  {name}: {value:.4g}' if isinstance(value, float) else f'  {name}: {value}'
            )


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
