"""The training loop: Lightning's, with checkpoints that a killed run goes on from."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from bids_interp.errors import TrainingError


class StepTask(lightning.LightningModule):
    """A training task counted in steps; the batch is drawn inside :meth:`training_step`.

    What is random at a step depends on the seed and the number of the step alone, so a resumed
    run repeats an uninterrupted one.
    """

    #: Adam's largest rate in the one-cycle schedule.
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    max_steps: int = 1

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        """Parameters that the optimiser moves."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def configure_optimizers(self) -> Any:
        """AdamW under a one-cycle schedule."""
        optimizer = torch.optim.AdamW(
            self.trained_parameters(), self.learning_rate, weight_decay=self.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.max_steps + 1
        )
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': scheduler, 'interval': 'step'},
        }

    def check_finite(self, loss: torch.Tensor) -> torch.Tensor:
        """Stop with the last good checkpoint kept when the loss is no longer a number."""
        if not torch.isfinite(loss):
            raise TrainingError(
                f'The loss of {type(self).__name__} is not finite at step {self.global_step}.',
                'The last checkpoint is kept; lower the learning rate or check the images.',
            )
        return loss


class _Steps(torch.utils.data.Dataset):
    """As many items as there are steps; they only count."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


def run_task(
    task: StepTask,
    directory: Path,
    *,
    device: str = 'cpu',
    checkpoint_every: int = 50,
    progress: bool = False,
) -> StepTask:
    """Train a task to its end, or go on from where a killed run stopped.

    Parameters
    ----------
    task : StepTask
        What to train; holds the result afterwards.
    directory : pathlib.Path
        For checkpoints (``last.ckpt``) and ``metrics.csv``.
    device : str
        ``'cpu'``, ``'cuda'`` or ``'cuda:N'``.
    checkpoint_every : int
        Steps between checkpoints.
    progress : bool
        Show a progress bar.
    """
    directory.mkdir(parents=True, exist_ok=True)
    last = directory / 'last.ckpt'
    kind, _, index = device.partition(':')
    checkpoints = ModelCheckpoint(
        directory,
        'last',
        every_n_train_steps=checkpoint_every,
        save_top_k=1,
        enable_version_counter=False,
    )
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', module='lightning.*')
        warnings.filterwarnings('ignore', message='.*treespec.*')
        trainer = lightning.Trainer(
            accelerator='gpu' if kind == 'cuda' else 'cpu',
            devices=[int(index)] if index else 1,
            max_steps=task.max_steps,
            logger=CSVLogger(directory, name=None, version=''),
            callbacks=[checkpoints],
            enable_progress_bar=progress,
            enable_model_summary=False,
            log_every_n_steps=25,
        )
        steps = DataLoader(_Steps(task.max_steps), batch_size=None)
        trainer.fit(
            task, steps, ckpt_path=str(last) if last.is_file() else None, weights_only=False
        )
    return task
