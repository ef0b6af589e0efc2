"""``bids_interp_tools phantom``: heads with a known effect."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument('out', metavar='OUT', type=click.Path(path_type=Path))
@click.option('--n', 'number', default=8, show_default=True, help='Number of subjects.')
@click.option(
    '--effect',
    default='hippocampus',
    show_default=True,
    help='Name of an effect (hippocampus, hippocampus_mild, thalamus_left, ventricles, frontal, '
    'distributed, none), or regions with their volume change: thalamus_left=-0.2,absorb=shell.',
)
@click.option(
    '--severity',
    nargs=2,
    type=float,
    default=(0.7, 1.3),
    show_default=True,
    metavar='LOW HIGH',
    help='Range of the severities of the patients; 1 is the effect as it is named.',
)
@click.option('--fraction', default=0.5, show_default=True, help='Share of patients.')
@click.option('--seed', default=0, show_default=True, help='The same seed gives the same files.')
@click.option('--spacing', default=1.5, show_default=True, help='Voxel size in mm, 1 to 4.')
@click.option('--stripped', is_flag=True, help='Write skull-stripped brains instead of heads.')
@click.option('--overwrite', is_flag=True, help='Replace an earlier phantom dataset in OUT.')
def phantom(
    out: Path,
    number: int,
    effect: str,
    severity: tuple[float, float],
    fraction: float,
    seed: int,
    spacing: float,
    stripped: bool,
    overwrite: bool,
) -> None:
    """Write a BIDS dataset of made-up heads to OUT, half of them with a known effect.

    OUT/derivatives/truth holds the exact log-Jacobian maps, brain masks and positions.
    """
    from bids_interp.phantom.dataset import make_phantom_dataset

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
