"""Two processes that share each batch train what one process trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bids_interp.models.networks.simulator import Simulator
from bids_interp.training.classifier import ClassifierTask
from bids_interp.training.loop.engine import run_task
from bids_interp.training.simulator import Opponent, SimulatorTask
from helpers.balls import BINARY, CLASSIFIER, GRID, SIMULATOR, binary_cohort, folds_of

pytestmark = pytest.mark.slow

RECIPE = replace(CLASSIFIER, steps=12, validate_every=6, batch=4)


def without_idle_biases(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Leave out what a normalisation takes away at once: rounding alone moves it."""
    idle = ('features.0.bias', 'features.3.bias')
    return {name: value for name, value in weights.items() if not name.endswith(idle)}


def test_a_classifier(tmp_path: Path) -> None:
    cohort = binary_cohort()
    fold = folds_of(cohort)[0]
    tasks = []
    for count in (1, 2):
        task = ClassifierTask(cohort, fold, RECIPE, seed=1)
        task.reduced = False
        run_task(task, tmp_path / str(count), n_devices=count, checkpoint_every=5)
        tasks.append(task)
    one, two = (without_idle_biases(task.network.state_dict()) for task in tasks)
    began = without_idle_biases(ClassifierTask(cohort, fold, RECIPE, 1).network.state_dict())
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=0, msg=name)
    assert max(float((began[name] - value).abs().max()) for name, value in one.items()) > 0.01
    assert tasks[1].best_loss == pytest.approx(tasks[0].best_loss, abs=1e-4)
    assert set(tasks[1].best_state) == set(tasks[0].best_state)


def test_a_template(tmp_path: Path) -> None:
    cohort = binary_cohort()
    fold = folds_of(cohort)[0]
    torch.manual_seed(0)
    network = ClassifierTask(cohort, fold, RECIPE, seed=1).network.eval().requires_grad_(False)
    recipe = replace(SIMULATOR, template_steps=6, batch=4)
    made = []
    for count in (1, 2):
        simulator = Simulator(GRID, cohort.mask, contrasts=len(BINARY.contrasts))
        task = SimulatorTask(
            cohort,
            fold.train,
            Opponent((network,), ((1.0,),)),
            simulator,
            recipe,
            'template',
            seed=2,
        )
        task.reduced = False
        run_task(task, tmp_path / str(count), n_devices=count, checkpoint_every=4)
        made.append(task.simulator.template.detach())
    torch.testing.assert_close(made[1], made[0], atol=1e-4, rtol=0)
    assert made[0].abs().max() > 0.01
