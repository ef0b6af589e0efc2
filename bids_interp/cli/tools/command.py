"""Command ``bids_interp_tools`` with its subcommands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from bids_interp.cli.faults import check_current_folder, faults_reported
from bids_interp.version import __version__

# Module and attribute, and help text, of each subcommand.
TOOLS = {
    'bench': (
        'bids_interp.cli.tools.bench:bench',
        'Compare all methods with a known ground truth.',
    ),
    'demo': ('bids_interp.cli.tools.demo:demo', 'Try bids_interp on two synthetic heads.'),
    'hpc': ('bids_interp.cli.tools.hpc:hpc', 'Write job scripts for a cluster.'),
    'inject': (
        'bids_interp.cli.tools.inject:inject',
        'Add a known volume change to real scans.',
    ),
    'model': ('bids_interp.cli.tools.model:model', 'Show, verify, export or import a model.'),
    'phantom': (
        'bids_interp.cli.tools.phantom:phantom',
        'Make a synthetic dataset with a known effect.',
    ),
    'power': (
        'bids_interp.cli.tools.power:power',
        'Show which planted changes a study of your scans would find.',
    ),
}


class LazyGroup(click.Group):
    """Group whose commands are imported when they are used.

    Parameters
    ----------
    tools : dict
        Name of a command to (``module:attribute``, short help).
    """

    def __init__(self, *args: Any, tools: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tools = tools

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, sorted."""
        return sorted(self.tools)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.tools:
            return None
        module, _, name = self.tools[cmd_name][0].partition(':')
        return getattr(import_module(module), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section('Commands'):
            formatter.write_dl([(name, self.tools[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; print an error and exit with its code."""
        with faults_reported():
            return super().invoke(ctx)


@click.group(
    cls=LazyGroup,
    tools=TOOLS,
    context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 100},
)
@click.version_option(__version__, prog_name='bids_interp_tools', message='%(prog)s %(version)s')
def tools() -> None:
    """Companion commands of bids_interp: demonstration, known-truth data, models and clusters.

    `bids_interp_tools COMMAND --help` explains a command.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    with faults_reported():
        check_current_folder()
        tools.main(args=list(sys.argv[1:] if argv is None else argv), prog_name='bids_interp_tools')
