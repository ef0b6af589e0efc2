"""The training loop: Lightning's, with checkpoints that a killed run goes on from."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from bids_interp.errors import TrainingError
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.loop.checkpoints import AtomicCheckpointIO, FinalCheckpoint, WholeSteps
from bids_interp.training.loop.fold_progress import ProgressLines
from bids_interp.training.loop.optimizers import SharedAdam

logger = logging.getLogger('bids_interp')

LAST = 'last.ckpt'
#: On CPUs, PyTorch 2.13 takes the weight gradients of bfloat16 convolutions over 2 x 2 x 2 voxels
#: from memory that nobody has written.
SMALLEST_REDUCED = 3
MOST_PASSES = 64


class IndivisibleError(TrainingError):
    """A batch cannot be shared equally."""


@cache
def _cpu_computes_bfloat16() -> bool:
    """Return True if the processor has instructions for bfloat16."""
    return bool(torch.cpu.get_capabilities().get('avx512_bf16'))


class StepTask(lightning.LightningModule):
    """A training task counted in steps; the batch is drawn inside :meth:`training_step`.

    What is random at a step depends on the seed and the number of the step alone, so a resumed
    run repeats an uninterrupted one. Where several processes (or several passes, where memory is
    short) share a step, each draws the whole batch and takes its :meth:`part`.

    Parameters
    ----------
    optimizer : {'adamw', 'adam', 'shared'}
        Adam with decoupled weight decay, with weight decay in the gradient, or
        :class:`bids_interp.training.loop.optimizers.SharedAdam`.
    schedule : {'onecycle', 'constant'}
        Of the learning rate.
    """

    #: Adam's (largest) rate.
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    max_steps: int = 1
    #: Whether networks compute in bfloat16 where the device has instructions for it.
    reduced: bool = True
    #: By how much the coarsest convolution whose weights are trained has halved the grid.
    coarsest: int = 8
    cohort: Cohort

    def __init__(self, optimizer: str = 'adamw', schedule: str = 'onecycle') -> None:
        super().__init__()
        self.optimizer_name, self.schedule = optimizer, schedule

    def mixed_precision(self) -> torch.autocast:
        """bfloat16 for networks where the device computes it; geometry stays outside, in float32.

        Processors with instructions for it take half the time; on others it would be slower. Very
        small grids are computed in float32, see :data:`SMALLEST_REDUCED`.
        """
        kind = self.device.type
        if kind == 'cuda':
            has_it = torch.cuda.is_bf16_supported()
        else:
            smallest = min(self.cohort.grid.shape) // self.coarsest
            has_it = kind == 'cpu' and smallest >= SMALLEST_REDUCED and _cpu_computes_bfloat16()
        return torch.autocast(kind, torch.bfloat16, enabled=has_it and self.reduced)

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        """Parameters that the optimiser moves."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def configure_optimizers(self) -> Any:
        """Make the optimiser, and the schedule of its rate."""
        moved, rate = self.trained_parameters(), self.learning_rate
        optimizer: torch.optim.Optimizer
        if self.optimizer_name == 'shared':
            optimizer = SharedAdam(moved, lr=rate)
        else:
            kind = {'adamw': torch.optim.AdamW, 'adam': torch.optim.Adam}[self.optimizer_name]
            optimizer = kind(moved, lr=rate, weight_decay=self.weight_decay)
        if self.schedule == 'constant':
            return optimizer
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.max_steps + 1
        )
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': scheduler, 'interval': 'step'},
        }

    def finish(self) -> None:
        """Do what is left after the last step, in this process; also of a task found finished."""

    def part(self, batch: int, batch_index: int) -> slice:
        """Return which images of a batch this process takes in this pass.

        Raises
        ------
        IndivisibleError
            If the batch cannot be shared equally.
        """
        passes = self.trainer.accumulate_grad_batches
        parts = self.trainer.world_size * passes
        if batch % parts:
            raise IndivisibleError(
                f'A batch of {batch} images cannot be shared by {self.trainer.world_size} devices '
                f'in {passes} passes.',
                'Choose a number of devices that divides the batch.',
            )
        first = self.global_rank + self.trainer.world_size * (batch_index % passes)
        return slice(first, None, parts)

    def check_finite(self, loss: torch.Tensor) -> torch.Tensor:
        """Stop with the last good checkpoint kept when the loss is no longer a number."""
        if not torch.isfinite(loss):
            raise TrainingError(
                f'The loss of {type(self).__name__} is not finite at step {self.global_step}.',
                'The last checkpoint is kept; lower the learning rate or check the images.',
            )
        return loss


class _Steps(torch.utils.data.Dataset):
    """As many items as there are passes; they only count."""

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
    n_devices: int = 1,
    checkpoint_every: int = 50,
    name: str = '',
    tell: Callable[[str], None] | None = None,
) -> StepTask:
    """Train a task to its end, or go on from where a killed run stopped.

    Parameters
    ----------
    task : StepTask
        What to train; holds the result afterwards.
    directory : pathlib.Path
        For checkpoints (``last.ckpt``) and ``metrics.csv``.
    device : str
        ``'cpu'``, ``'cuda'`` or ``'cuda:N'``. On a GPU the networks compute in bfloat16 where it
        can, geometry always in float32.
    n_devices : int
        Processes that share each batch (distributed data parallel: one GPU each, or CPU).
    checkpoint_every : int
        Steps between checkpoints.
    name : str
        What is trained, for the progress.
    tell : callable, optional
        Takes a line of text about the progress.

    Raises
    ------
    TrainingError
        If the loss is not finite, or one image at a time is too much for the GPU's memory.
    """
    directory.mkdir(parents=True, exist_ok=True)
    passes = 1
    # Where memory ends before the first checkpoint, a training begins anew, not with what it had.
    beginning = {key: value.detach().cpu().clone() for key, value in task.state_dict().items()}
    while passes <= MOST_PASSES:
        try:
            _fit(task, directory, device, n_devices, checkpoint_every, passes, name, tell)
        except torch.cuda.OutOfMemoryError:
            passes *= 2
            task.load_state_dict(beginning)
            torch.cuda.empty_cache()
            logger.warning(
                '%s: out of GPU memory; each batch is now computed in %d passes.', name, passes
            )
        except IndivisibleError:
            if passes == 1:
                raise
            passes += 1
        else:
            task.finish()
            return task
    raise TrainingError(
        'The memory of the GPU is too small for this training.',
        'Use another device, --preset fast or a coarser --resolution.',
    )


def _fit(
    task: StepTask,
    directory: Path,
    device: str,
    n_devices: int,
    checkpoint_every: int,
    passes: int,
    name: str,
    tell: Callable[[str], None] | None,
) -> None:
    last = directory / LAST
    callbacks: list[Callback] = [
        ModelCheckpoint(
            directory,
            'last',
            every_n_train_steps=checkpoint_every,
            save_top_k=1,
            enable_version_counter=False,
        ),
        WholeSteps(),
        FinalCheckpoint(last),
    ]
    if tell is not None:
        callbacks.append(ProgressLines(name, tell))
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', module='lightning.*')
        warnings.filterwarnings('ignore', message='.*treespec.*')
        trainer = lightning.Trainer(
            **_placement(device, n_devices),
            max_steps=task.max_steps,
            accumulate_grad_batches=passes,
            logger=CSVLogger(directory, name=None, version=''),
            callbacks=callbacks,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=25,
        )
        steps = DataLoader(_Steps(task.max_steps * passes), batch_size=None)
        trainer.fit(task, steps, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    if n_devices > 1:
        # The processes that trained are gone; what they did is in their last checkpoint.
        kept = torch.load(last, map_location='cpu', weights_only=True)
        task.load_state_dict(kept['state_dict'])
        task.on_load_checkpoint(kept)


def _placement(device: str, n_devices: int) -> dict[str, Any]:
    """Arguments of the trainer that say where and how it computes."""
    kind, _, index = device.partition(':')
    is_gpu = kind == 'cuda'
    # Of its own, so that the variables of a batch system are not taken for Lightning's.
    plugins: list[Any] = [LightningEnvironment(), AtomicCheckpointIO()]
    placement: dict[str, Any] = {
        'accelerator': 'gpu' if is_gpu else 'cpu',
        'devices': [int(index)] if index and n_devices == 1 else n_devices,
        'plugins': plugins,
    }
    if n_devices > 1:
        placement['strategy'] = DDPStrategy(
            start_method='spawn', process_group_backend='nccl' if is_gpu else 'gloo'
        )
        placement['sync_batchnorm'] = is_gpu
    return placement
