"""Estimates of the resources that a job needs, from measured times and memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bids_interp.bids.read.query import T1wRecord
from bids_interp.hpc.job import Resources
from bids_interp.levels.preflight import bytes_needed
from bids_interp.settings import Settings

# Seconds and peak of the summed resident memory for one head of 160 x 192 x 192 voxels on two
# cores, as measured by `make benchmark` (benchmarks/bench_participant.py); docs/development.md.
BENCH_SECONDS, BENCH_GB, BENCH_CPUS, BENCH_VOXELS = 89.0, 2.19, 2, 160 * 192 * 192
# Seconds per image for `--saliency all`; docs/usage.md.
SALIENCY_SECONDS = 60.0
# Measured by `python benchmarks/bench_group.py --sizes 40 --spacing 1` on two busy cores: 112 s for
# 80 maps, and the peak of the memory, which does not depend on their number.
GROUP_SECONDS, GROUP_GB = 112 / 80, 1.31
# Bytes per subject in an exploratory voxel-wise test; docs/group.md.
VOXELWISE_BYTES = 4 * 70_000
# A node may be busy, its disk slow and its cores older than those of the benchmark.
SAFETY_TIME, SAFETY_MEMORY = 4.0, 2.0
LEAST_MINUTES = 30
# Defaults for training, whose needs depend on the recipe.
TRAIN = Resources(cpus=8, mem_gb=32, minutes=24 * 60, gpus=0)


def image_shapes(records: Sequence[T1wRecord]) -> list[tuple[int, ...]]:
    """Return the shapes of images, from their headers.

    An image that cannot be read counts as one of average size: its task will report the error.
    """
    import nibabel as nib

    shapes = []
    for record in records:
        try:
            shape = nib.load(record.path).shape[:3]
        except Exception:  # noqa: BLE001 - nibabel and zlib raise all kinds of errors
            shape = ()
        shapes.append(shape if len(shape) == 3 else (round(BENCH_VOXELS ** (1 / 3)),) * 3)
    return shapes


def estimate_participant(
    records: Sequence[T1wRecord],
    shapes: Sequence[Sequence[int]],
    *,
    cpus: int | None = None,
    saliency: bool = False,
) -> Resources:
    """Return the estimated resources of one participant's task.

    All tasks of an array get the same resources, so the largest task decides. Time grows with the
    number of images of a participant, and with their voxels beyond the head of the benchmark. With
    more cores, several images of a participant are processed at once, which needs more memory.

    Parameters
    ----------
    records : sequence of T1wRecord
        Images to process.
    shapes : sequence of (int, int, int)
        Shapes of the images.
    cpus : int, optional
        Number of cores; by default two for each image of a participant, up to eight.
    saliency : bool
        Whether saliency maps are computed.

    Returns
    -------
    Resources
        Resources with the safety factors 4 for time and 2 for memory.
    """
    sizes: dict[str, list[float]] = {}
    for record, shape in zip(records, shapes, strict=True):
        voxels = float(math.prod(shape))
        sizes.setdefault(record.subject, []).append(max(1.0, voxels / BENCH_VOXELS))
    most = max((len(own) for own in sizes.values()), default=1)
    cpus = cpus or min(8, BENCH_CPUS * most)
    at_once = max(1, min(most, cpus // BENCH_CPUS))
    extra = SALIENCY_SECONDS if saliency else 0.0
    seconds = max(
        (sum(BENCH_SECONDS * size + extra for size in own) for own in sizes.values()), default=0.0
    )
    minutes = SAFETY_TIME * seconds / at_once * max(1.0, BENCH_CPUS / cpus) / 60
    largest = max((size for own in sizes.values() for size in own), default=1.0)
    memory = SAFETY_MEMORY * BENCH_GB * largest * at_once * 1e9 / 2**30
    return Resources(cpus, math.ceil(memory), _rounded_minutes(minutes))


def estimate_group(n_images: int, *, n_maps: int = 2, voxelwise: bool = False) -> Resources:
    """Return the estimated resources of the group job; only its time grows with the images.

    Parameters
    ----------
    n_images : int
        Number of images to summarise.
    n_maps : int
        Maps per image: two directions for each dose.
    voxelwise : bool
        Whether maps are tested voxel by voxel, which keeps all of them in memory.
    """
    minutes = SAFETY_TIME * GROUP_SECONDS * n_images * n_maps / 60
    memory = SAFETY_MEMORY * (GROUP_GB * 1e9 + voxelwise * n_images * VOXELWISE_BYTES) / 2**30
    return Resources(2, math.ceil(memory), _rounded_minutes(minutes))


def _rounded_minutes(minutes: float) -> int:
    """Round up to quarters of an hour, with a minimum of half an hour."""
    return max(LEAST_MINUTES, 15 * math.ceil(minutes / 15))


def disk_gb(shapes: Sequence[Sequence[int]], settings: Settings) -> tuple[float, float]:
    """Return the estimated gigabytes of all outputs and of all work directories."""
    needs = [bytes_needed(shape, settings) for shape in shapes]
    return sum(need[0] for need in needs) / 1e9, sum(need[1] for need in needs) / 1e9
