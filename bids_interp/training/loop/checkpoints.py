"""Checkpoints that are always complete and resume a training at the right step."""

from __future__ import annotations

import errno
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback

from bids_interp.bids.write.temporaries import put_in_place
from bids_interp.errors import is_unavailable

logger = logging.getLogger('bids_interp')


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint writer that replaces a file only when the new one is complete.

    The checkpoint before is kept, see :func:`usable_checkpoint`.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a temporary file, then replace the old checkpoint."""
        partial = f'{path}.{os.getpid()}.partial'
        try:
            super().save_checkpoint(checkpoint, partial, storage_options)
            if os.path.exists(path):
                os.replace(path, checkpoint_before(path))
            put_in_place(Path(partial), Path(path))
        finally:
            Path(partial).unlink(missing_ok=True)


def checkpoint_before(path: Path | str) -> Path:
    """Return the path of the checkpoint that preceded another.

    Examples
    --------
    >>> checkpoint_before('fold-0/last.ckpt').as_posix()
    'fold-0/last.before.ckpt'
    """
    return Path(path).with_suffix('.before.ckpt')


def usable_checkpoint(last: Path) -> Path | None:
    """Return the last checkpoint that can be read, or None to start again.

    Damaged ones are renamed, so that none of them takes the place of a good one later.

    Parameters
    ----------
    last : pathlib.Path
        Path of the last checkpoint.

    Raises
    ------
    OSError, MemoryError
        If the disk or the memory is the problem, not the file.
    """
    for path in (last, checkpoint_before(last)):
        if not path.exists():
            continue
        problem = _damage_of(path)
        if not problem:
            return path
        damaged = path.with_suffix('.damaged')
        logger.warning(
            '%s is damaged (%s) and is now %s. The training continues from the checkpoint '
            'before, or starts this stage again.',
            path,
            problem,
            damaged.name,
        )
        path.replace(damaged)
    return None


def _damage_of(path: Path) -> str:
    """Return why a checkpoint cannot be used; empty if it can."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            return f'the checksum of {damaged} is wrong'
        torch.load(path, map_location='cpu', weights_only=True)['state_dict']
    except MemoryError:
        raise
    except Exception as error:
        # Damaged offsets of an archive lead to places that no file has: EINVAL.
        if is_unavailable(error) and getattr(error, 'errno', None) != errno.EINVAL:
            raise
        return ' '.join(str(error).split()) or type(error).__name__
    return ''


class WholeSteps(Callback):
    """Resume at the first pass of a step, even if a checkpoint was made with fewer passes."""

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Convert the completed steps to the current number of passes."""
        count = checkpoint['loops']['fit_loop']['epoch_loop.batch_progress']['current']
        change = checkpoint['global_step'] * trainer.accumulate_grad_batches - count['ready']
        for name in count:
            count[name] += change


class FinalCheckpoint(Callback):
    """Save the final state, which regular checkpoints usually miss.

    Processes that share a batch return their result through this file, and a run that is killed
    later does not repeat the last steps.

    Parameters
    ----------
    path : pathlib.Path
        Last checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the checkpoint."""
        trainer.save_checkpoint(self.path)
