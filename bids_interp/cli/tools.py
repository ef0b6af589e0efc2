"""``bids_interp_tools``: what does not fit the form of a BIDS App."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from bids_interp.cli.main import report_error
from bids_interp.errors import BidsInterpError
from bids_interp.version import __version__

# Name of the tool: where its command is, and its line in the list.
TOOLS = {
    'bench': ('bids_interp.cli.tools_bench:bench', 'Hold all methods against a known truth.'),
    'demo': ('bids_interp.cli.tools_demo:demo', 'The main job on two made-up heads.'),
    'hpc': ('bids_interp.cli.tools_hpc:hpc', 'Write the job scripts of a dataset for a cluster.'),
    'inject': ('bids_interp.cli.tools_inject:inject', 'Plant a known change into scans.'),
    'model': ('bids_interp.cli.tools_model:model', 'Look into a model, verify it, hand it on.'),
    'phantom': (
        'bids_interp.cli.tools_phantom:phantom',
        'Make heads or blobs with a known effect.',
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used.

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
        """Write the list from the table, so that the help text imports nothing."""
        with formatter.section('Tools'):
            formatter.write_dl([(name, self.tools[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a tool; errors that the user can mend end with their message and exit code."""
        try:
            return super().invoke(ctx)
        except BidsInterpError as error:
            report_error(error)
            ctx.exit(error.exit_code)


@click.group(
    cls=LazyGroup,
    tools=TOOLS,
    context_settings={'help_option_names': ['-h', '--help']},
)
@click.version_option(__version__, prog_name='bids_interp_tools')
def tools() -> None:
    """Tools around bids_interp: a demonstration, phantoms with known truth, model bundles."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    tools.main(args=list(sys.argv[1:] if argv is None else argv), prog_name='bids_interp_tools')
