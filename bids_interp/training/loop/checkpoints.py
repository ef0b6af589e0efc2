"""Checkpoints that are whole, and from which a training goes on at the right place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that appear under their name only when they are whole."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write beside the old checkpoint, then take its place."""
        partial = f'{path}.{os.getpid()}.partial'
        try:
            super().save_checkpoint(checkpoint, partial, storage_options)
            with open(partial, 'rb') as stream:
                os.fsync(stream.fileno())
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)


class WholeSteps(Callback):
    """Go on at the first pass of a step, also where a checkpoint was made in fewer passes."""

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Count the passes of the steps that are done as they would be now."""
        count = checkpoint['loops']['fit_loop']['epoch_loop.batch_progress']['current']
        change = checkpoint['global_step'] * trainer.accumulate_grad_batches - count['ready']
        for name in count:
            count[name] += change


class FinalCheckpoint(Callback):
    """Keep the end too, whose step is mostly none of those at which checkpoints are made.

    Processes that share a batch hand their result over in it, and a run that is killed later does
    not do the last steps again.

    Parameters
    ----------
    path : pathlib.Path
        File of the last checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Write it."""
        trainer.save_checkpoint(self.path)
