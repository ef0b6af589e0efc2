"""Lines that say how far a training is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch.callbacks import Callback

#: How often a training says where it is.
REPORT_SECONDS = 60.0


class ProgressLines(Callback):
    """Say now and then which step it is and when the training will end.

    Lines, not a bar: several folds train at once, and logs of batch systems are read later.

    Parameters
    ----------
    name : str
        What is trained.
    tell : callable
        Takes a line of text.
    """

    def __init__(self, name: str, tell: Callable[[str], None]) -> None:
        self.name, self.tell = name, tell
        self.began, self.told, self.first = 0.0, 0.0, 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self.began = self.told = time.monotonic()
        self.first = pl_module.global_step
        how = 'goes on at' if self.first else 'starts with'
        self.tell(f'{self.name}: {how} step {self.first} of {pl_module.max_steps}')

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        """Say where it is, once a minute."""
        now, step = time.monotonic(), pl_module.global_step
        if now - self.told < REPORT_SECONDS or step == self.first:
            return
        self.told = now
        left = (now - self.began) / (step - self.first) * (pl_module.max_steps - step)
        loss = trainer.callback_metrics.get('loss', trainer.callback_metrics.get('hinge'))
        shown = '' if loss is None else f', loss {float(loss):.3f}'
        self.tell(
            f'{self.name}: step {step} of {pl_module.max_steps}{shown}, '
            f'about {_duration(left)} to go'
        )


def _duration(seconds: float) -> str:
    """Seconds in words.

    Examples
    --------
    >>> _duration(40), _duration(600), _duration(9000)
    ('1 min', '10 min', '2.5 h')
    """
    return f'{seconds / 3600:.1f} h' if seconds > 5400 else f'{max(1, round(seconds / 60))} min'
