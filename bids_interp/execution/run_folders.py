"""Folders of a run: the choice of the work directory, and checks before the computation."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from bids_interp.bids.write.dataset_description import check_output
from bids_interp.bids.write.folders import check_writable, is_inside
from bids_interp.container import container, in_container
from bids_interp.errors import OutputError, UsageError, is_unavailable
from bids_interp.execution.locks import WORK_LOCK, holder_of, share_work_dir
from bids_interp.execution.manifest import damage
from bids_interp.execution.resources import available_cpus
from bids_interp.execution.run import walk_nodes
from bids_interp.settings import Settings

if TYPE_CHECKING:
    from nipype.pipeline.engine import Workflow

logger = logging.getLogger('bids_interp')

MARKER = '.bids_interp_work'
_NOTE = 'Intermediate results of bids_interp. --clean-workdir may delete everything in here.\n'


def choose_work_dir(settings: Settings) -> Path:
    """Return the work directory: the requested one, ``./work``, or a hidden one in the output.

    The last is used in containers, whose current folder may be read-only, temporary, or in memory
    (Apptainer's ``--containall``).
    """
    if settings.work_dir is not None:
        return settings.work_dir
    current = Path.cwd()
    if container() is None and os.access(current, os.W_OK | os.X_OK) and current != Path('/'):
        work = current / 'work'
        if not is_inside(work, settings.bids_dir) and (not work.exists() or is_ours(work)):
            return work
    return settings.output_dir / MARKER


def is_ours(work_dir: Path) -> bool:
    """Tell whether a folder is empty or a work directory of this program."""
    return (work_dir / MARKER).is_file() or (work_dir.is_dir() and not any(work_dir.iterdir()))


def check_folders(settings: Settings, work_dir: Path) -> None:
    """Refuse folders that overlap with the input or are not writable.

    Output inside ``BIDS_DIR/derivatives`` is accepted, because BIDS recommends it.

    Raises
    ------
    OutputError
        If the output or work directory overlaps with the input, contains another dataset, or is
        not writable, or other users can write into the work directory.
    UsageError
        If ``--clean-workdir`` would empty a folder that is not a work directory.
    """
    output, bids = settings.output_dir, settings.bids_dir
    if is_inside(output, bids) and not _is_derivative(output, bids):
        where = 'is' if output.resolve() == bids.resolve() else 'is inside'
        raise OutputError(
            f'The output directory {output} {where} the input dataset {bids}.',
            f'Choose a separate folder, for example {bids / "derivatives" / "bids_interp"}.',
        )
    if is_inside(bids, output):
        raise OutputError(
            f'The input dataset {bids} is inside the output directory {output}.',
            'Choose a separate folder for the output.',
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
    check_private(work_dir, create=not settings.dry_run)
    for folder, what in ((output, 'output directory'), (work_dir, 'work directory')):
        check_writable(folder, what, create=not settings.dry_run)
    if settings.clean_workdir and work_dir.is_dir() and not is_ours(work_dir):
        raise UsageError(
            f'--clean-workdir: {work_dir} is not a work directory of bids_interp (it has no '
            f'{MARKER}); nothing was deleted.',
            'Empty it yourself, or choose another --work-dir.',
        )


def check_private(work_dir: Path, *, create: bool = True) -> None:
    """Check that only its owner can write into a work directory, and create it if needed.

    nipype keeps results as pickles, and reading a pickle can run any code in it.

    Parameters
    ----------
    work_dir : Path
        Work directory. An empty or marked one is closed to other users.
    create : bool
        Create it; otherwise only check an existing one.

    Raises
    ------
    OutputError
        If it belongs to somebody else, or has files that other users may have written.
    """
    try:
        if create:
            work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = work_dir.stat()
    except OSError:
        return  # it does not exist, or cannot: other checks say so
    is_docker_root = os.geteuid() == 0 and in_container()  # the container protects the host
    is_foreign = status.st_uid != os.geteuid() and not is_docker_root
    is_open = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) and any(work_dir.iterdir())
    if (is_foreign or is_open) and not _keeps_modes(work_dir):
        logger.warning(
            'The disk of %s keeps no owners and modes of files. Nobody else should write there, '
            'because files in it can run any program.',
            work_dir,
        )
        return
    if is_foreign:
        raise OutputError(
            f'The work directory {work_dir} belongs to another user (id {status.st_uid}), who '
            'could make this run execute any program.',
            'Choose a folder of your own with --work-dir.',
        )
    if is_open:
        raise OutputError(
            f'Other users can write into the work directory {work_dir}, and could make this run '
            'execute any program.',
            'Choose an empty folder with --work-dir. If all files in it are yours, close it with '
            f'`chmod go-w {work_dir}`.',
        )
    if create and status.st_uid == os.geteuid() and is_ours(work_dir):
        work_dir.chmod(0o700)


def _keeps_modes(folder: Path) -> bool:
    """Return False if a new file cannot be closed to others, as on FAT, CIFS and Windows drives."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix='.mode-') as stream:
            os.chmod(stream.name, 0o600)
            status = os.stat(stream.name)
    except OSError:
        return True  # a read-only disk: other checks say so
    return stat.S_IMODE(status.st_mode) == 0o600 and status.st_uid == os.geteuid()


def _is_derivative(output: Path, bids: Path) -> bool:
    derivatives = bids.resolve() / 'derivatives'
    return derivatives in output.resolve().parents


def prepare_work_dir(work_dir: Path, *, clean: bool) -> None:
    """Create, mark and hold the work directory, and empty it if requested.

    A folder with other files is used, but not marked, so that it is never emptied.

    Raises
    ------
    OutputError
        If it must be emptied, but another run works in it.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    if not is_ours(work_dir):
        share_work_dir(work_dir)
        return
    if clean:
        holder = holder_of(work_dir)
        if holder:
            raise OutputError(
                f'--clean-workdir: {work_dir} is used by {holder}; nothing was deleted.',
                'Wait until that run has ended, or choose another --work-dir.',
            )
        for path in work_dir.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != WORK_LOCK:
                path.unlink()
    (work_dir / MARKER).write_text(_NOTE)
    share_work_dir(work_dir)


def forget_damaged(workflow: Workflow) -> None:
    """Delete the results of finished steps whose files have changed, so that they are repeated.

    Scratch disks are purged file by file, and a machine may stop while a file is written. nipype
    reads results in the main process, where a damaged one would stop the run of all images.

    Parameters
    ----------
    workflow : nipype.Workflow
        Workflow with a ``base_dir``.
    """
    steps = [
        (Path(workflow.base_dir, workflow.name, *names), node)
        for names, node in walk_nodes(workflow)
        if not node.interface.always_run
    ]
    finished = [(folder, node) for folder, node in steps if _is_finished(folder)]
    with ThreadPoolExecutor(available_cpus()) as pool:
        damages = list(pool.map(_damage_of_files, [folder for folder, _ in finished]))
    for (folder, node), changed in zip(finished, damages, strict=True):
        result = folder / f'result_{node.name}.pklz'
        problem = changed or _damage_of_result(result)
        if problem and result.exists():
            logger.warning('%s is damaged: %s. The step is repeated.', folder, problem)
            result.unlink()


def _is_finished(folder: Path) -> bool:
    """Tell whether nipype considers the step of a folder finished, by its hash file."""
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return any(name.startswith('_0x') and not name.endswith('_unfinished.json') for name in names)


def _damage_of_files(folder: Path) -> str:
    try:
        return damage(folder)
    except OSError as error:
        return _unless_unavailable(error, 'a file')


def _damage_of_result(result: Path) -> str:
    """Return why a result, or a file that it names, cannot be read; empty if it can."""
    from nipype.pipeline.engine.utils import load_resultfile

    try:
        load_resultfile(result)
    except MemoryError:
        return ''
    except Exception as error:  # noqa: BLE001 - unpickling raises anything
        return _unless_unavailable(error, result.name)
    return ''


def _unless_unavailable(error: Exception, what: str) -> str:
    """Return a problem; none for an unavailable disk or missing rights, which damage nothing."""
    return '' if is_unavailable(error) else f'{what} cannot be read'
