"""Folders of a run: checked before anything is computed."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from bids_interp.bids.write.dataset_description import check_output
from bids_interp.bids.write.folders import check_writable, is_inside
from bids_interp.container import container
from bids_interp.errors import OutputError, UsageError
from bids_interp.execution.run import walk_nodes
from bids_interp.settings import Settings

if TYPE_CHECKING:
    from nipype.pipeline.engine import Workflow

logger = logging.getLogger('bids_interp')

MARKER = '.bids_interp_work'
_NOTE = 'Intermediate results of bids_interp. --clean-workdir may delete everything in here.\n'


def choose_work_dir(settings: Settings) -> Path:
    """Return the work directory: the one asked for, ``./work``, or a hidden one in the output.

    The last is for containers, whose current folder cannot be written to, is lost at the end, or is
    a small one in memory (Apptainer's ``--containall``).
    """
    if settings.work_dir is not None:
        return settings.work_dir
    here = Path.cwd()
    if container() is None and os.access(here, os.W_OK | os.X_OK) and here != Path('/'):
        work = here / 'work'
        if not is_inside(work, settings.bids_dir) and (not work.exists() or is_ours(work)):
            return work
    return settings.output_dir / MARKER


def is_ours(work_dir: Path) -> bool:
    """Tell whether a folder is empty or a work directory of this program."""
    return (work_dir / MARKER).is_file() or (work_dir.is_dir() and not any(work_dir.iterdir()))


def check_folders(settings: Settings, work_dir: Path) -> None:
    """Refuse folders that would harm the input or cannot be written to.

    Output below ``BIDS_DIR/derivatives`` is where BIDS wants derivatives and is accepted.

    Raises
    ------
    OutputError
        If output or work directory overlap with the input, hold somebody else's dataset, or
        cannot be written to.
    UsageError
        If ``--clean-workdir`` would delete what is not a work directory of this program.
    """
    output, bids = settings.output_dir, settings.bids_dir
    if is_inside(output, bids) and not _is_derivative(output, bids):
        where = 'is' if output.resolve() == bids.resolve() else 'is inside'
        raise OutputError(
            f'The output directory {output} {where} the input dataset {bids}.',
            f'Choose a folder of its own, for example {bids / "derivatives" / "bids_interp"}.',
        )
    if is_inside(bids, output):
        raise OutputError(
            f'The input dataset {bids} is inside the output directory {output}.',
            'Choose a folder of its own for the output.',
        )
    if is_inside(work_dir, bids) and not is_inside(work_dir, output):
        raise OutputError(
            f'The work directory {work_dir} is inside the input dataset {bids}.',
            'Choose another folder with --work-dir.',
        )
    if work_dir.resolve() == output.resolve():
        raise OutputError(
            f'{output} is both output and work directory.', 'Choose another --work-dir.'
        )
    check_output(output)
    for folder, what in ((output, 'output directory'), (work_dir, 'work directory')):
        check_writable(folder, what, create=not settings.dry_run)
    if settings.clean_workdir and work_dir.is_dir() and not is_ours(work_dir):
        raise UsageError(
            f'--clean-workdir: {work_dir} is not a work directory of bids_interp (it has no '
            f'{MARKER}); nothing was deleted.',
            'Empty it yourself or choose another --work-dir.',
        )


def _is_derivative(output: Path, bids: Path) -> bool:
    derivatives = bids.resolve() / 'derivatives'
    return derivatives in output.resolve().parents


def prepare_work_dir(work_dir: Path, *, clean: bool) -> None:
    """Make the work directory, mark it as ours, and empty it if asked to.

    A folder that holds other things is used, but not marked, so that it is never emptied.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    if not is_ours(work_dir):
        return
    if clean:
        for path in work_dir.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    (work_dir / MARKER).write_text(_NOTE)


def forget_damaged(workflow: Workflow) -> None:
    """Forget the finished steps of a workflow whose results cannot be read any more.

    Scratch disks are purged file by file, and a machine may stop while a file is written. nipype
    reads results in the main process, where one that is damaged ends the run of all images. Without
    its result, a step is repeated in an empty folder.

    Parameters
    ----------
    workflow : nipype.Workflow
        Its ``base_dir`` is set.
    """
    for names, node in walk_nodes(workflow):
        folder = Path(workflow.base_dir, workflow.name, *names)
        result = folder / f'result_{node.name}.pklz'
        if not node.interface.always_run and _is_finished(folder) and _is_damaged(result):
            logger.warning('%s is damaged or incomplete; the step is repeated.', folder)
            result.unlink(missing_ok=True)


def _is_finished(folder: Path) -> bool:
    """Tell whether nipype takes a folder for that of a finished step, by its file of hashes."""
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return any(name.startswith('_0x') and not name.endswith('_unfinished.json') for name in names)


def _is_damaged(result: Path) -> bool:
    """Tell whether nipype cannot read a result, or misses a file that it names."""
    from nipype.pipeline.engine.utils import load_resultfile

    if not result.exists():
        return False
    try:
        load_resultfile(result)
    except MemoryError:
        return False
    except Exception as error:  # noqa: BLE001 - unpickling raises anything
        # A disk that does not answer, or forbids to read, says nothing about the file.
        return not isinstance(error, OSError) or error.errno in (None, errno.ENOENT)
    return False
