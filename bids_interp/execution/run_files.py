"""Run files, which describe a run: its settings and the graph of its workflow."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bids_interp.bids.write.atomic import write_text
from bids_interp.execution.run import Run
from bids_interp.version import __version__

if TYPE_CHECKING:
    from nipype.pipeline.engine import Workflow

logger = logging.getLogger('bids_interp')


def save_settings(run: Run, subjects: Iterable[str]) -> None:
    """Write the settings into the log folder of each subject, for ``--config-file``."""
    text = f'# bids_interp {__version__}\n{run.settings.to_toml()}'
    for subject in set(subjects):
        write_text(run.log_dir(subject) / 'bids_interp.toml', text)


def write_graph(run: Run, workflow: Workflow) -> Path:
    """Write the graph as DOT, and as SVG if Graphviz is installed; return the path of the DOT."""
    path = run.settings.output_dir / 'logs' / f'{run.uuid}_graph.dot'
    try:
        workflow.write_graph(str(path), graph2use='colored', format='svg', simple_form=True)
    except OSError as error:
        logger.warning('The graph was written as DOT only: %s', error)
    return path
