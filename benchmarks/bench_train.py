"""Benchmark of training: speed and memory of conditional convolutions and of each preset.

    python benchmarks/bench_train.py [--steps 6] [--device cpu] [--presets fast default ipmi2021]

Prints the ratio of a loop over samples to the vectorised conditional convolution (batch 8, 64^3),
and for each preset seconds per step, images per second and peak memory of every network, measured
in separate processes. ``--steps`` counts the iterations of the published simulator, each of up to
eight optimiser steps; its time is that of one optimiser step.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measure import machine

from bids_interp.anatomical.templates import brain_template
from bids_interp.models.networks.condconv import CondConv3d
from bids_interp.models.networks.registry import build_classifier
from bids_interp.models.networks.simulator import build_simulator
from bids_interp.models.target import Target
from bids_interp.training.classifier import ClassifierTask
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.cohort.model_grid import model_grid
from bids_interp.training.ipmi2021 import PaperRecipe, PaperSimulatorTask
from bids_interp.training.loop.engine import run_task
from bids_interp.training.recipe import make_recipe
from bids_interp.training.simulator import Opponent, SimulatorTask

SPACE = 'MNI152NLin2009aSym'


def main() -> None:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--steps', type=int, default=6)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--batch', type=int, default=0, help='images a step; 0: of the preset')
    parser.add_argument('--presets', nargs='+', default=['fast', 'default', 'ipmi2021'])
    options = parser.parse_args()
    print(machine())
    torch.set_num_threads(options.threads)
    # Resolutions of the published U-Net.
    for channels, size in ((16, 64), (32, 32), (64, 16), (16, 8), (16, 4)):
        print(condconv_line(options.device, channels, size), flush=True)
    print('\n| preset | network | grid | images a step | s a step | images/s | peak memory, GB |')
    print('|---|---|---|---|---|---|---|')
    for preset in options.presets:
        for stage in ('classifier', 'template', 'residual', 'paper'):
            with multiprocessing.get_context('spawn').Pool(1) as pool:
                line = pool.apply(preset_line, (preset, stage, options))
            if line:
                print(line, flush=True)


def looped(layer: CondConv3d, data: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """Return the same convolution, sample by sample as in the published code."""
    weights = layer.routing_weights(data, code)
    parts = [
        F.conv3d(
            data[index : index + 1],
            torch.einsum('e,eoixyz->oixyz', weights[index], layer.kernels),
            layer.bias,
            stride=layer.stride,
            padding=layer.padding,
        )
        for index in range(len(data))
    ]
    return torch.cat(parts)


def condconv_line(device: str, channels: int = 16, size: int = 64) -> str:
    """Return the time of the loop divided by that of the layer, forward and backward."""
    torch.manual_seed(0)
    layer = CondConv3d(channels, channels, 1).to(device)
    data = torch.randn(8, channels, size, size, size, device=device, requires_grad=True)
    code = torch.ones(8, 1, device=device)

    def once(call: Callable[[], torch.Tensor]) -> float:
        started = time.perf_counter()
        call().square().mean().backward()
        if device != 'cpu':
            torch.cuda.synchronize()
        return time.perf_counter() - started

    calls: dict[str, Callable[[], torch.Tensor]] = {
        'loop': lambda: looped(layer, data, code),
        'vectorised': lambda: layer(data, code),
    }
    with torch.no_grad():
        difference = float((calls['loop']() - calls['vectorised']()).abs().max())
    times = {name: min(once(call) for _ in range(5)) for name, call in calls.items()}
    ratio = times['loop'] / times['vectorised']
    return (
        f'CondConv3d {channels}-{channels}, batch 8, {size}^3, forward and backward: '
        f'loop {times["loop"]:.3f} s, vectorised {times["vectorised"]:.3f} s, ratio {ratio:.2f}; '
        f'largest difference {difference:.1e}'
    )


def preset_line(preset: str, stage: str, options: Any) -> str:
    """Return one line of the table; empty if the preset has no such stage."""
    torch.set_num_threads(options.threads)
    recipe = make_recipe(
        preset,
        classifier_steps=options.steps,
        simulator_steps=options.steps,
        batch=options.batch or None,
    )
    is_paper = isinstance(recipe.simulator, PaperRecipe)
    if (stage == 'paper') != is_paper and stage != 'classifier':
        return ''
    grid, mask = model_grid(brain_template(SPACE), SPACE, recipe.spacing_mm, recipe.cube)
    count = 2 * recipe.classifier.batch
    images = torch.rand(count, 1, *grid.shape) * torch.from_numpy(mask.astype(np.float32))
    labels, everybody = np.arange(count) % 2, np.arange(count)
    cohort = Cohort(
        images,
        labels,
        everybody,
        tuple(() for _ in everybody),
        grid,
        mask,
        recipe.preprocessing,
        Target('binary', 'group', ('control', 'patient')),
    )
    classifier = build_classifier(recipe.classifier.architecture, grid.shape)
    opponent = Opponent((classifier.eval().requires_grad_(False),), ((1.0,),))
    if stage == 'classifier':
        task: Any = ClassifierTask(
            cohort, Fold(everybody, everybody[:2], everybody[:2]), recipe.classifier, 0
        )
        batch = recipe.classifier.batch
    else:
        simulator = build_simulator(grid, mask, recipe.simulator.network_arguments())
        batch = recipe.simulator.batch
        if is_paper:
            sides = {1.0: everybody[labels == 0], -1.0: everybody[labels == 1]}
            task = PaperSimulatorTask(
                cohort, sides, classifier, simulator.networks[0], recipe.simulator, 0
            )
        else:
            task = SimulatorTask(cohort, everybody, opponent, simulator, recipe.simulator, stage, 0)
    if not task.max_steps:
        return ''
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        run_task(task, Path(folder), device=options.device)
    seconds = (time.perf_counter() - started) / task.max_steps
    shape = ' x '.join(map(str, grid.shape))
    return (
        f'| {preset} | {stage} | {shape} | {batch} | {seconds:.2f} | {batch / seconds:.1f} | '
        f'{peak_gb(options.device)} |'
    )


def peak_gb(device: str) -> str:
    """Return the peak memory of this process, or of the GPU and its share of the card."""
    if device != 'cpu':
        peak = torch.cuda.max_memory_allocated()
        return f'{peak / 1e9:.1f} ({peak / torch.cuda.mem_get_info()[1]:.0%} of the GPU)'
    return f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.1f}'


if __name__ == '__main__':
    sys.exit(main())
