"""Benchmark of the registration that measures volumes: its response to random smooth changes.

    python benchmarks/bench_registration.py BIDS_DIR CACHE [--spacing 3] [--brains 8] [--seed 0]

BIDS_DIR contains skull-stripped T1w images. CACHE keeps their affine registrations. No labels are
used: the volumes of some brains change by smooth noise of a given grain (standard deviation of the
log-Jacobian 0.1), each image is interpolated once, and its volumes are measured before and after
the change against the mean of the other brains.

Prints for each registration and grain the gain (slope of measured on true change of log-volume in
the brain, at half the resolution) and the NCC; the same for the mean of one and the same change of
all brains, as a contrast of groups sees it; and the time and memory of an image, forwards and with
the gradient.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from measure import machine

from bids_interp.anatomical.registration import register_brain
from bids_interp.anatomical.templates import brain_template
from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.models.networks.morphometric import REGISTRATIONS, VolumeMeasure
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.phantom.change.smooth_noise import draw_smooth_change
from bids_interp.spatial import (
    Grid,
    exponential,
    flow_log_jacobian,
    resample,
    sample,
    voxel_coordinates,
)
from bids_interp.training.cohort.model_grid import model_grid
from bids_interp.training.pattern.response import (
    GRAINS_MM,
    SPREAD,
    inner_mask,
    measure_response,
    slope_and_correlation,
)

#: Voxels, grid, and affine to the template.
Brain = tuple[np.ndarray, Grid, np.ndarray]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('bids_dir', type=Path)
    parser.add_argument('cache', type=Path)
    parser.add_argument('--spacing', type=float, default=3.0, help='voxel size of the model in mm')
    parser.add_argument('--brains', type=int, default=8, help='brains that are changed')
    parser.add_argument('--others', type=int, default=27, help='brains of the mean image')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--registrations', nargs='+', default=list(REGISTRATIONS))
    options = parser.parse_args()
    print(machine(), flush=True)
    template = brain_template(EMBEDDED_TEMPLATE, offline=True)
    grid, mask = model_grid(template, EMBEDDED_TEMPLATE, options.spacing)
    brains = [
        prepare(path, template, options.cache)
        for path in sorted(options.bids_dir.glob('sub-*/**/*_T1w.nii.gz'))
    ][: options.brains + options.others]
    others, changed = brains[: -options.brains], brains[-options.brains :]
    training = torch.cat([image_of(brain, grid, mask) for brain in others])
    for name in options.registrations:
        volumes = VolumeMeasure(grid.shape, name).eval()
        volumes.mean.copy_(training.mean(dim=0, keepdim=True))
        print(f'{name}, {options.spacing:g} mm, {cost(volumes, training[:1])}', flush=True)
        for shared in (False, True):
            what = 'mean of all brains' if shared else 'one brain'
            scores = respond_all(volumes, changed, grid, mask, options.seed, shared)
            for grain, (gain, ncc) in scores.items():
                line = f'  {what}, grain {grain:g} mm'
                print(f'{line}: gain {gain:.2f}, NCC {ncc:.3f}', flush=True)
        response = measure_response(volumes, training, grid, mask, options.seed)
        pair = f'gain {response.gain:.2f}, NCC {response.ncc:.3f}'
        print(f'  training images, all grains: {pair}', flush=True)


def prepare(path: Path, template: nib.Nifti1Image, cache: Path) -> Brain:
    """Return a brain, its grid and its affine to the template, registered once."""
    cache.mkdir(parents=True, exist_ok=True)
    image = nib.load(path)
    kept = cache / f'{path.name.removesuffix(".nii.gz")}.npy'
    if not kept.exists():
        np.save(kept, register_brain(image, template, fast=True).native_to_template)
    return np.asarray(image.dataobj, np.float32), Grid.from_image(image, 'T1w'), np.load(kept)


def image_of(
    brain: Brain,
    grid: Grid,
    mask: np.ndarray,
    shift: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the classifier's input, pulled back by a displacement in the same interpolation."""
    data, own, matrix = brain
    image = torch.from_numpy(data)[None, None]
    inverse = np.linalg.inv(matrix)
    moved = resample(image, own, grid, inverse, antialias=True, displacement=shift)
    return Preprocessing().normalise(moved.clamp_min(0) * torch.from_numpy(mask))


@torch.no_grad()
def respond_all(
    volumes: VolumeMeasure,
    brains: list[Brain],
    grid: Grid,
    mask: np.ndarray,
    seed: int,
    shared: bool,
) -> dict[float, tuple[float, float]]:
    """Return gain and NCC of each grain.

    If the brains share one change, both are measured in their mean. Otherwise each brain has its
    own change, and both are means over the brains.
    """
    found: dict[float, list[torch.Tensor]] = {grain: [] for grain in GRAINS_MM}
    true: dict[float, list[torch.Tensor]] = {grain: [] for grain in GRAINS_MM}
    for number, brain in enumerate(brains):
        image = image_of(brain, grid, mask)
        unchanged = volumes(image)
        # The map of the registration leads from the mean image to this image.
        places = voxel_coordinates(grid.shape, image) + volumes.register(image)
        rng = np.random.default_rng([seed, shared, 0 if shared else number])
        for grain in GRAINS_MM:
            drawn = draw_smooth_change(grid, mask, grain, SPREAD, rng)
            velocity = torch.from_numpy(drawn)[None]
            changed = image_of(brain, grid, mask, exponential(-velocity, grid))
            found[grain].append((volumes(changed) - unchanged)[0])
            change = sample(flow_log_jacobian(velocity, grid), places, padding='border')
            true[grain].append(F.avg_pool3d(change, 2)[0])
    scores = {}
    for grain in GRAINS_MM:
        pairs = list(zip(found[grain], true[grain], strict=True))
        if shared:
            means = [torch.stack(parts).mean(dim=0) for parts in zip(*pairs, strict=True)]
            pairs = [(means[0], means[1])]
        each = [slope_and_correlation(one, other, inner_mask(mask)) for one, other in pairs]
        gain, ncc = np.mean(each, axis=0)
        scores[grain] = float(gain), float(ncc)
    return scores


def cost(volumes: VolumeMeasure, image: torch.Tensor) -> str:
    """Return processor time and memory of one image, forwards and with the gradient."""
    image = image.clone().requires_grad_()
    started = time.process_time()
    with torch.no_grad():
        volumes(image)
    middle = time.process_time()
    volumes(image).sum().backward()
    ended = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return f'{middle - started:.2f} s forwards, {ended - middle:.2f} s with gradient, {peak:.1f} GB'


if __name__ == '__main__':
    main()
