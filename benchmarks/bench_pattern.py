"""Time and memory of the pattern of many images, from volumes that are measured already.

Usage::

    python benchmarks/bench_pattern.py [--images 1000] [--voxels 80000]

The volumes are noise with a planted difference, as many as a brain has voxels of 3 mm. Targets for
1,000 images on two cores: 60 s and 3 GB.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from bids_interp.training.pattern.contrast import ContrastDesign, contrast_volumes
from bids_interp.training.pattern.shrinkage import shrink_effects


def main() -> None:
    """Estimate one pattern and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--images', type=int, default=1000)
    parser.add_argument('--voxels', type=int, default=80000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    values = (np.arange(options.images) % 2).astype(float)
    families = np.arange(options.images) // 2
    volumes = rng.standard_normal((options.images, options.voxels), np.float32)
    volumes[values == 1, : options.voxels // 50] += 0.5
    covariates = rng.standard_normal((options.images, 3))
    design = ContrastDesign(values, families, np.arange(options.images), covariates)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    started = time.monotonic()
    found = contrast_volumes(volumes, design, 0)
    shrunk = shrink_effects(found.effects, found.errors)
    spent = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f'{options.images} images, {options.voxels} voxels: {spent:.1f} s, {spent / 60:.0%} of 60 s'
    )
    print(f'peak {peak:.2f} GB ({before:.2f} GB before), {peak / 3:.0%} of 3 GB')
    print(f'mean of the planted voxels {shrunk[: options.voxels // 50].mean():.2f} of 0.5')


if __name__ == '__main__':
    main()
