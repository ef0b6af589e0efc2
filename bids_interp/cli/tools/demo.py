"""Command ``bids_interp_tools demo``: the participant level on synthetic heads."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument('out', metavar='OUT', type=click.Path(path_type=Path))
@click.option('--seed', default=7, show_default=True, help='Random seed of the synthetic heads.')
@click.option(
    '--nprocs',
    type=click.IntRange(1),
    metavar='INTEGER',
    show_default='all CPUs available to this job',
    help='Number of CPUs.',
)
def demo(out: Path, seed: int, nprocs: int | None) -> None:
    """Make two synthetic heads in OUT/bids, one with atrophy, and explain them.

    The derivatives and reports are written to OUT/derivatives. The packaged model is for
    demonstration only and says nothing about any disease.
    """
    from bids_interp.levels.participant import run_participant
    from bids_interp.phantom.heads.head_dataset import make_phantom_dataset
    from bids_interp.settings import Settings

    bids, derivatives = out / 'bids', out / 'derivatives'
    if not (bids / 'dataset_description.json').is_file():
        click.echo(f'Making two heads in {bids} ...')
        make_phantom_dataset(bids, n=2, effect='hippocampus', seed=seed, progress=click.echo)
    code = run_participant(
        Settings(bids, derivatives, work_dir=out / 'work', nprocs=nprocs, offline=True)
    )
    if code == 0:
        click.echo('Open these reports in a browser.')
    click.get_current_context().exit(code)
