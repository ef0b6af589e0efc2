"""Command ``bids_interp_tools phantom``: synthetic heads or blobs with a known effect."""

from __future__ import annotations

from pathlib import Path

import click

_HEAD_ONLY = ('effect', 'spacing', 'stripped')
_BLOBS_ONLY = ('dim', 'variant')


@click.command()
@click.argument('out', metavar='OUT', type=click.Path(path_type=Path))
@click.option(
    '--kind',
    type=click.Choice(['head', 'blobs']),
    default='head',
    show_default=True,
    help='head: synthetic whole heads. blobs: small images with blobs.',
)
@click.option('--n', 'number', default=8, show_default=True, help='Number of subjects.')
@click.option(
    '--effect',
    default='hippocampus',
    show_default=True,
    help='Heads only: a named effect (hippocampus, hippocampus_mild, thalamus_left, ventricles, '
    'frontal, distributed, none), or regions and their volume changes, such as '
    'thalamus_left=-0.2,absorb=shell.',
)
@click.option(
    '--severity',
    nargs=2,
    type=float,
    default=(0.7, 1.3),
    show_default=True,
    metavar='LOW HIGH',
    help='Range of the severities of the patients; 1 is the effect as named.',
)
@click.option('--fraction', default=0.5, show_default=True, help='Fraction of patients.')
@click.option('--seed', default=0, show_default=True, help='Random seed.')
@click.option(
    '--spacing', default=1.5, show_default=True, help='Heads only: voxel size in mm, 1 to 4.'
)
@click.option('--stripped', is_flag=True, help='Heads only: write skull-stripped brains.')
@click.option(
    '--dim',
    type=click.Choice(['2', '3']),
    default='2',
    show_default=True,
    help='Blobs only: number of dimensions.',
)
@click.option(
    '--variant',
    type=click.Choice(['plain', 'xor', 'intensity', 'null']),
    default='plain',
    show_default=True,
    help='Blobs only: difference between the groups. plain: the sizes of two blobs. xor: whether '
    'exactly one of two blobs is small. intensity: intensity only. null: none.',
)
@click.option('--overwrite', is_flag=True, help='Replace an existing phantom dataset in OUT.')
@click.pass_context
def phantom(
    context: click.Context,
    out: Path,
    kind: str,
    number: int,
    effect: str,
    severity: tuple[float, float],
    fraction: float,
    seed: int,
    spacing: float,
    stripped: bool,
    dim: str,
    variant: str,
    overwrite: bool,
) -> None:
    """Write a synthetic BIDS dataset to OUT, in which patients have a known effect.

    OUT/derivatives/truth holds the ground truth, such as the exact log-Jacobian maps.
    """
    _refuse(context, _HEAD_ONLY if kind == 'blobs' else _BLOBS_ONLY, kind)
    if kind == 'blobs':
        from bids_interp.phantom.blobs.blob_dataset import make_blobs_dataset

        folder = make_blobs_dataset(
            out,
            n=number,
            dim=int(dim),
            variant=variant,
            severity=severity,
            seed=seed,
            fraction=fraction,
            overwrite=overwrite,
            progress=click.echo,
        )
    else:
        from bids_interp.phantom.heads.head_dataset import make_phantom_dataset

        folder = make_phantom_dataset(
            out,
            n=number,
            effect=effect,
            severity=severity,
            seed=seed,
            spacing_mm=spacing,
            stripped=stripped,
            fraction=fraction,
            overwrite=overwrite,
            progress=click.echo,
        )
    click.echo(f'Dataset: {folder}\nTruth:   {folder / "derivatives" / "truth"}')


def _refuse(context: click.Context, names: tuple[str, ...], kind: str) -> None:
    """Refuse options of the other kind of phantom."""
    default = click.core.ParameterSource.DEFAULT
    for name in names:
        if context.get_parameter_source(name) is not default:
            raise click.UsageError(f'--kind {kind} does not use --{name}.')
