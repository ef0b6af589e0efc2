"""Progress lines of the training of a fold."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch.callbacks import Callback

#: Seconds between progress lines.
REPORT_SECONDS = 60.0


class ProgressLines(Callback):
    """Report the current step and the remaining time at regular intervals.

    Lines are used instead of a bar, because several folds train at once and the logs of batch
    systems are read later.

    Parameters
    ----------
    name : str
        Name of the training.
    report : callable
        Function that takes a line of text.
    """

    def __init__(self, name: str, report: Callable[[str], None]) -> None:
        self.name, self.report = name, report
        self.began, self.reported, self.first = 0.0, 0.0, 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self.began = self.reported = time.monotonic()
        self.first = pl_module.global_step
        verb = 'resumes at' if self.first else 'starts at'
        self.report(f'{self.name}: {verb} step {self.first} of {pl_module.max_steps}')

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        """Report the progress once a minute."""
        now, step = time.monotonic(), pl_module.global_step
        if now - self.reported < REPORT_SECONDS or step == self.first:
            return
        self.reported = now
        left = (now - self.began) / (step - self.first) * (pl_module.max_steps - step)
        loss = trainer.callback_metrics.get('loss', trainer.callback_metrics.get('hinge'))
        shown = '' if loss is None else f', loss {float(loss):.3f}'
        self.report(
            f'{self.name}: step {step} of {pl_module.max_steps}{shown}, '
            f'about {_duration(left)} left'
        )


def _duration(seconds: float) -> str:
    """Format a number of seconds as minutes or hours.

    Examples
    --------
    >>> _duration(40), _duration(600), _duration(9000)
    ('1 min', '10 min', '2.5 h')
    """
    return f'{seconds / 3600:.1f} h' if seconds > 5400 else f'{max(1, round(seconds / 60))} min'
