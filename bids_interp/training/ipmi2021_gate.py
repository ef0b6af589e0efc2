"""Gate of the published method: where there is something to explain, its simulator is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from bids_interp.evaluation.classifier_choice import contrast_auc
from bids_interp.models.bundle.fold_metrics import GateMetrics, SimulatorMetrics
from bids_interp.models.networks.ipmi2021 import PaperSimulator
from bids_interp.models.networks.registry import joined
from bids_interp.training.classifier import predict_outputs
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.ipmi2021 import PaperRecipe, PaperSimulatorTask
from bids_interp.training.simulator import Opponent

if TYPE_CHECKING:
    from bids_interp.training.fold import FoldRun


def recognised_images(
    cohort: Cohort, images: np.ndarray, outputs: np.ndarray, number: int
) -> dict[float, np.ndarray]:
    """Return the images that a classifier gets right, by the direction of their simulation.

    Parameters
    ----------
    cohort : Cohort
        Cohort with the labels.
    images : numpy.ndarray
        (N,) indices to select from.
    outputs : numpy.ndarray
        (N, K) outputs of the classifier for them.
    number : int
        Index of the contrast.

    Returns
    -------
    dict
        Images predicted as the negative class, for injection (1), and as the positive class, for
        removal (-1).
    """
    contrast = cohort.target.contrasts[number]
    scores, labels = outputs @ np.array(contrast.weights), cohort.labels[images]
    sides = {}
    for sign, name in ((1.0, contrast.negative), (-1.0, contrast.positive)):
        is_own = labels == cohort.target.classes.index(name)
        sides[sign] = images[is_own & (sign * scores < 0)]
    return sides


def train_published_simulator(
    run: FoldRun, recipe: PaperRecipe, opponent: Opponent, judge: nn.Module, folder: Path
) -> tuple[PaperSimulator, SimulatorMetrics]:
    """Train the network of each contrast with which the classifier does well enough.

    Where it does not, the displacement is zero, and the metrics say why.

    Parameters
    ----------
    run : FoldRun
        Training of a fold.
    recipe : PaperRecipe
        Settings.
    opponent : Opponent
        Frozen classifiers, whose mean output is explained.
    judge : torch.nn.Module
        Classifier for the validation split.
    folder : pathlib.Path
        Folder of the checkpoints.
    """
    cohort, fold = run.cohort, run.fold
    classifier = joined(list(opponent.members)).to(run.workspace.device)
    outputs = predict_outputs(classifier, cohort.images[fold.train])
    held_out = predict_outputs(judge, cohort.images[fold.validation])
    labels = cohort.labels[fold.validation]
    torch.manual_seed(run.seed_of('simulator', 'paper', run.index))
    simulator = PaperSimulator(cohort.grid, cohort.mask, len(cohort.target.contrasts))
    gates = []
    for number, contrast in enumerate(cohort.target.contrasts):
        sides = recognised_images(cohort, fold.train, outputs, number)
        gate = GateMetrics(
            contrast.name,
            contrast_auc(held_out, labels, cohort.target, number) or 0.0,
            recipe.least_auc,
            {contrast.negative: len(sides[1.0]), contrast.positive: len(sides[-1.0])},
        )
        gates.append(gate)
        network, name = simulator.networks[number], f'{run.name}, simulator {contrast.name}'
        if gate.reason:
            simulator.silence(number)
            run.workspace.say(f'{name}: not trained, because {gate.reason}')
            continue
        seed = run.seed_of('simulator', 'paper', run.index, number)
        task = PaperSimulatorTask(cohort, sides, classifier, network, recipe, seed, number)
        run.workspace.run(task, folder / f'paper-{number}', name)
    return simulator, SimulatorMetrics(gates=gates)
