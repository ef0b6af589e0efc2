"""Checkpoints that are always complete and resume a training at the right step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint writer that replaces a file only when the new one is complete."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a temporary file, then replace the old checkpoint."""
        partial = f'{path}.{os.getpid()}.partial'
        try:
            super().save_checkpoint(checkpoint, partial, storage_options)
            with open(partial, 'rb') as stream:
                os.fsync(stream.fileno())
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)


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
