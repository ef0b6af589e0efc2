"""Engine of the training loop: Lightning with checkpoints that resume a killed run."""

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
from bids_interp.training.loop.checkpoints import (
    AtomicCheckpointIO,
    FinalCheckpoint,
    WholeSteps,
    usable_checkpoint,
)
from bids_interp.training.loop.fold_progress import ProgressLines
from bids_interp.training.loop.optimizers import SharedAdam

logger = logging.getLogger('bids_interp')

LAST = 'last.ckpt'
#: Curve that Lightning's logger writes, and the steps between its rows.
CURVE, LOG_STEPS = 'metrics.csv', 25
#: Smallest grid for bfloat16 on CPUs. PyTorch 2.13 reads the weight gradients of bfloat16
#: convolutions over 2 x 2 x 2 voxels from uninitialised memory.
SMALLEST_REDUCED = 3
MOST_PASSES = 64


class IndivisibleError(TrainingError):
    """Batch that cannot be divided equally."""


@cache
def _cpu_computes_bfloat16() -> bool:
    """Return True if the processor has instructions for bfloat16."""
    return bool(torch.cpu.get_capabilities().get('avx512_bf16'))


class StepTask(lightning.LightningModule):
    """Training task that is counted in steps and draws its batch in :meth:`training_step`.

    All randomness of a step depends only on the seed and the step number, so that a resumed run
    repeats an uninterrupted one. Where several processes (or several passes, if memory is short)
    share a step, each draws the whole batch and computes its :meth:`part`.

    Parameters
    ----------
    optimizer : {'adamw', 'adam', 'shared'}
        Adam with decoupled weight decay, Adam with weight decay in the gradient, or
        :class:`bids_interp.training.loop.optimizers.SharedAdam`.
    schedule : {'onecycle', 'constant'}
        Schedule of the learning rate.
    """

    #: (Largest) learning rate.
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    max_steps: int = 1
    #: Whether networks compute in bfloat16 on devices that support it.
    reduced: bool = True
    #: Downsampling factor of the coarsest trained convolution.
    coarsest: int = 8
    cohort: Cohort

    def __init__(self, optimizer: str = 'adamw', schedule: str = 'onecycle') -> None:
        super().__init__()
        self.optimizer_name, self.schedule = optimizer, schedule

    def mixed_precision(self) -> torch.autocast:
        """Return a bfloat16 autocast for networks, if the device supports it.

        Geometry stays outside, in float32. bfloat16 halves the time on CPUs with instructions for
        it and would slow down others. Very small grids use float32, see :data:`SMALLEST_REDUCED`.
        """
        kind = self.device.type
        if kind == 'cuda':
            is_supported = torch.cuda.is_bf16_supported()
        else:
            smallest = min(self.cohort.grid.shape) // self.coarsest
            is_supported = (
                kind == 'cpu' and smallest >= SMALLEST_REDUCED and _cpu_computes_bfloat16()
            )
        return torch.autocast(kind, torch.bfloat16, enabled=is_supported and self.reduced)

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters that the optimiser updates."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def configure_optimizers(self) -> Any:
        """Make the optimiser and its learning-rate schedule."""
        trained, rate = self.trained_parameters(), self.learning_rate
        optimizer: torch.optim.Optimizer
        if self.optimizer_name == 'shared':
            optimizer = SharedAdam(trained, lr=rate)
        else:
            kind = {'adamw': torch.optim.AdamW, 'adam': torch.optim.Adam}[self.optimizer_name]
            optimizer = kind(trained, lr=rate, weight_decay=self.weight_decay)
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
        """Complete the task in this process after the last step, even if none was left to run."""

    def part(self, batch: int, batch_index: int) -> slice:
        """Return the images of a batch that this process computes in this pass.

        Raises
        ------
        IndivisibleError
            If the batch cannot be divided equally.
        """
        passes = self.trainer.accumulate_grad_batches
        parts = self.trainer.world_size * passes
        if batch % parts:
            raise IndivisibleError(
                f'A batch of {batch} images cannot be divided among {self.trainer.world_size} '
                f'devices in {passes} passes.',
                'Choose a number of devices that divides the batch size.',
            )
        first = self.global_rank + self.trainer.world_size * (batch_index % passes)
        return slice(first, None, parts)

    def check_finite(self, loss: torch.Tensor) -> torch.Tensor:
        """Stop if the loss is not finite; the last good checkpoint is kept."""
        if not torch.isfinite(loss):
            raise TrainingError(
                f'The loss of {type(self).__name__} is not finite at step {self.global_step}.',
                'Lower the learning rate or check the images. The last checkpoint is kept.',
            )
        return loss


class _Steps(torch.utils.data.Dataset):
    """Dataset that only counts the passes."""

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
    report: Callable[[str], None] | None = None,
) -> StepTask:
    """Train a task to its end, resuming from the checkpoint of a killed run.

    Parameters
    ----------
    task : StepTask
        Task to train, which holds the result afterwards.
    directory : pathlib.Path
        Folder of the checkpoints (``last.ckpt``) and ``metrics.csv``.
    device : str
        ``'cpu'``, ``'cuda'`` or ``'cuda:N'``.
    n_devices : int
        Number of processes that share each batch (distributed data parallel, one GPU each or CPU).
    checkpoint_every : int
        Steps between checkpoints.
    name : str
        Name of the training in progress lines.
    report : callable, optional
        Function that takes a line of text about the progress.

    Raises
    ------
    TrainingError
        If the loss is not finite, or a single image exceeds the memory of the GPU.
    """
    directory.mkdir(parents=True, exist_ok=True)
    passes = 1
    # If memory runs out before the first checkpoint, the training restarts from this state.
    initial = {key: value.detach().cpu().clone() for key, value in task.state_dict().items()}
    while passes <= MOST_PASSES:
        try:
            _fit(task, directory, device, n_devices, checkpoint_every, passes, name, report)
        except torch.cuda.OutOfMemoryError:
            passes *= 2
            task.load_state_dict(initial)
            torch.cuda.empty_cache()
            logger.warning(
                '%s: GPU memory is full. Each batch is now computed in %d passes.', name, passes
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
    report: Callable[[str], None] | None,
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
    if report is not None:
        callbacks.append(ProgressLines(name, report))
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    checkpoint = usable_checkpoint(last)
    keep_curve(directory, resumed=checkpoint is not None)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', module='lightning.*')
        warnings.filterwarnings('ignore', message='.*treespec.*')
        trainer = lightning.Trainer(
            **_device_arguments(device, n_devices),
            max_steps=task.max_steps,
            accumulate_grad_batches=passes,
            logger=CSVLogger(directory, name=None, version='', flush_logs_every_n_steps=LOG_STEPS),
            callbacks=callbacks,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=LOG_STEPS,
        )
        steps = DataLoader(_Steps(task.max_steps * passes), batch_size=None)
        trainer.fit(task, steps, ckpt_path=checkpoint, weights_only=True)
    if n_devices > 1:
        # The training processes have ended; their result is in the last checkpoint.
        kept = torch.load(last, map_location='cpu', weights_only=True)
        task.load_state_dict(kept['state_dict'])
        task.on_load_checkpoint(kept)


def keep_curve(directory: Path, *, resumed: bool) -> None:
    """Put the curve of an earlier run aside, which Lightning's logger would delete.

    Parameters
    ----------
    directory : Path
        Folder of the training.
    resumed : bool
        The training goes on; otherwise it begins anew, and earlier curves are deleted.
    """
    earlier = sorted(directory.glob('metrics-*.csv'))
    if not resumed:
        for path in (*earlier, directory / CURVE):
            path.unlink(missing_ok=True)
    elif (directory / CURVE).exists():
        (directory / CURVE).rename(directory / f'metrics-{len(earlier):04d}.csv')


def _device_arguments(device: str, n_devices: int) -> dict[str, Any]:
    """Return the trainer arguments that select devices and processes."""
    kind, _, index = device.partition(':')
    is_gpu = kind == 'cuda'
    # Explicit, so that Lightning does not act on the variables of a batch system.
    plugins: list[Any] = [LightningEnvironment(), AtomicCheckpointIO()]
    arguments: dict[str, Any] = {
        'accelerator': 'gpu' if is_gpu else 'cpu',
        'devices': [int(index)] if index and n_devices == 1 else n_devices,
        'plugins': plugins,
    }
    if n_devices > 1:
        arguments['strategy'] = DDPStrategy(
            start_method='spawn', process_group_backend='nccl' if is_gpu else 'gloo'
        )
        arguments['sync_batchnorm'] = is_gpu
    return arguments
