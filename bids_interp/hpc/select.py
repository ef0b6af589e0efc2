"""Jobs for a cluster: who is processed, what a job needs, and the scripts on disk."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_interp.bids.read.query import T1wRecord, collect
from bids_interp.bids.write.atomic import write_text
from bids_interp.bids.write.folders import check_writable
from bids_interp.errors import BidsInterpError, InputDatasetError, NothingToDoError, OutputError
from bids_interp.hpc.job import JobPlan, Resources, bound_paths
from bids_interp.hpc.render import SUBMIT_FILE
from bids_interp.levels.preflight import bytes_needed
from bids_interp.levels.run_reports import is_done
from bids_interp.settings import Settings

# Printed by `make benchmark` (benchmarks/bench_participant.py) for one head of 160 x 192 x 192
# voxels with two cores, see docs/development.md: seconds, and peak of the summed resident memory.
BENCH_SECONDS, BENCH_GB, BENCH_CPUS, BENCH_VOXELS = 89.0, 2.19, 2, 160 * 192 * 192
# The same for `--saliency all`, in seconds an image; docs/usage.md.
SALIENCY_SECONDS = 60.0
# Printed by `python benchmarks/bench_group.py --sizes 40 --spacing 1` on two busy cores: 112 s for
# 80 maps, and the peak of the memory, which does not grow with their number.
GROUP_SECONDS, GROUP_GB = 112 / 80, 1.31
# Bytes a subject in an exploratory voxel-wise test; docs/group.md.
VOXELWISE_BYTES = 4 * 70_000
# A node may be busy, its disk slow and its cores older than those of the benchmark.
SAFETY_TIME, SAFETY_MEMORY = 4.0, 2.0
LEAST_MINUTES = 30
# The training depends on the recipe; these are what one may want to change first.
TRAIN = Resources(cpus=8, mem_gb=32, minutes=24 * 60, gpus=0)

SUBMIT_COMMANDS = {
    'slurm': 'sbatch',
    'pbs': 'qsub',
    'torque': 'qsub',
    'sge': 'qsub',
    'lsf': 'bsub',
}


@dataclass(frozen=True)
class Selection:
    """Who is processed.

    Parameters
    ----------
    records : tuple of T1wRecord
        Images of these participants.
    participants : tuple of str
        Their labels, sorted.
    done : tuple of str
        Participants that were left out because all their images are finished.
    """

    records: tuple[T1wRecord, ...]
    participants: tuple[str, ...]
    done: tuple[str, ...] = ()


def select(settings: Settings, *, only_missing: bool = False) -> Selection:
    """Find the participants as the participant level does.

    Parameters
    ----------
    settings : Settings
        Of the participant level.
    only_missing : bool
        Leave out participants whose images are all finished.

    Raises
    ------
    NothingToDoError
        If nobody is left.
    InputDatasetError
        If the dataset cannot be used.
    """
    records = collect(settings)
    everybody = sorted({record.subject for record in records})
    done: set[str] = set()
    if only_missing:
        open_ones = {r.subject for r in records if not is_done(settings, r.prefix)}
        done = set(everybody) - open_ones
    left = tuple(label for label in everybody if label not in done)
    if not left:
        raise NothingToDoError(
            f'All {len(done)} participants are finished in {settings.output_dir}.',
            'Leave --only-missing out to process them again.',
        )
    kept = tuple(record for record in records if record.subject not in done)
    return Selection(kept, left, tuple(sorted(done)))


def image_shapes(records: Sequence[T1wRecord]) -> list[tuple[int, ...]]:
    """Return the voxels of images along their axes, from the headers alone.

    An image that cannot be read counts as that of the benchmark: its task will say what is wrong.
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


def estimate(
    records: Sequence[T1wRecord],
    shapes: Sequence[Sequence[int]],
    *,
    cpus: int | None = None,
    saliency: bool = False,
) -> Resources:
    """Estimate what the task of one participant needs, from measured numbers.

    The task that needs most sets it for all, as an array has one size. Time grows with the images
    of a participant and with their voxels, where they have more than the head of the benchmark;
    with more cores images of one participant are processed side by side, and the memory grows.

    Parameters
    ----------
    records : sequence of T1wRecord
        The images.
    shapes : sequence of (int, int, int)
        Their voxels.
    cpus : int, optional
        Cores; two where a participant has one image, else two for each image, up to eight.
    saliency : bool
        Saliency maps are made too.

    Returns
    -------
    Resources
        With the safety factors 4 for time and 2 for memory.
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
    return Resources(cpus, math.ceil(memory), _asked_minutes(minutes))


def estimate_group(n_images: int, *, n_maps: int = 2, voxelwise: bool = False) -> Resources:
    """Estimate what the group job needs: its time grows with the images, its memory does not.

    Parameters
    ----------
    n_images : int
        Images that are summarised.
    n_maps : int
        Maps of each: two directions for every dose.
    voxelwise : bool
        Whether maps are tested voxel by voxel, which holds all of them.
    """
    minutes = SAFETY_TIME * GROUP_SECONDS * n_images * n_maps / 60
    memory = SAFETY_MEMORY * (GROUP_GB * 1e9 + voxelwise * n_images * VOXELWISE_BYTES) / 2**30
    return Resources(2, math.ceil(memory), _asked_minutes(minutes))


def _asked_minutes(minutes: float) -> int:
    """Quarters of an hour, half an hour at least."""
    return max(LEAST_MINUTES, 15 * math.ceil(minutes / 15))


def disk_gb(shapes: Sequence[Sequence[int]], settings: Settings) -> tuple[float, float]:
    """Return gigabytes of all outputs and of all work directories, as the preflight table does."""
    needs = [bytes_needed(shape, settings) for shape in shapes]
    return sum(need[0] for need in needs) / 1e9, sum(need[1] for need in needs) / 1e9


def check_sources(plan: JobPlan) -> None:
    """Refuse a plan whose image or mounts are not there.

    Raises
    ------
    InputDatasetError
        Naming what is missing and the remedy.
    """
    image = plan.image or ''
    is_file = plan.engine in ('apptainer', 'singularity') and '://' not in image
    if is_file and not Path(image).exists():
        raise InputDatasetError(
            f'The image {image} is not there.',
            'Give the path of an Apptainer image (.sif) or sandbox with --image, or '
            'docker://NAME; docs/hpc.md says how one is made.',
        )
    if not plan.in_container and not os.access(plan.program, os.X_OK):
        raise InputDatasetError(
            f'The program {plan.program} cannot be run.',
            'Activate the environment with bids_interp first, or name it with --program.',
        )
    for path in plan.read_only:
        if not path.exists():
            raise InputDatasetError(
                f'{path}, which the jobs are to see, is not there.', 'Check its path.'
            )
    for path, writes in bound_paths(plan).items():
        if writes:
            check_writable(path, 'folder', create=False)


def write_scripts(folder: Path, scripts: Mapping[str, str], *, overwrite: bool) -> list[Path]:
    """Write the scripts, all or none.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    scripts : mapping of str to str
        File name -> text.
    overwrite : bool
        Replace files with another content.

    Raises
    ------
    OutputError
        If a file has another content, or cannot be written.
    """
    different = [
        name
        for name, text in scripts.items()
        if (folder / name).exists() and (folder / name).read_bytes() != text.encode()
    ]
    if different and not overwrite:
        raise OutputError(
            f'{folder} has other files of these names: {", ".join(sorted(different))}.',
            'Jobs that still wait read them. Choose another folder with --out, or replace them '
            'with --overwrite.',
        )
    check_writable(folder, 'folder of the scripts')
    (folder / 'logs').mkdir(exist_ok=True)
    written = []
    for name, text in scripts.items():
        path = write_text(folder / name, text)
        path.chmod(0o644 if path.suffix == '.txt' else 0o755)
        written.append(path)
    return written


def submit(folder: Path, scheduler: str) -> str:
    """Submit the jobs by ``submit.sh`` and return what it says.

    Returns
    -------
    str
        One line for each job: ``submitted NAME ID``.

    Raises
    ------
    BidsInterpError
        If the scheduler is not there or refuses a job, with its words.
    """
    command = SUBMIT_COMMANDS[scheduler]
    script = folder / SUBMIT_FILE
    if shutil.which(command) is None:
        raise BidsInterpError(
            f'{command} is not on this machine, so that nothing was submitted.',
            f'Run {script} on a machine where jobs are submitted.',
        )
    done = subprocess.run(
        ['bash', str(script)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return done.stdout
    accepted = re.findall('^submitted (.+)$', done.stdout, re.MULTILINE)
    already = f' Already submitted: {"; ".join(accepted)}; cancel these first.' if accepted else ''
    raise BidsInterpError(
        f'{command} refused a job: {(done.stderr.strip() or done.stdout.strip()).rstrip(".")}.',
        'Change what it names (--partition, --account, --time, --mem, --max-array) and run this '
        f'again with --overwrite.{already}',
    )
