"""Device to compute on."""

from __future__ import annotations

import os
from collections.abc import Mapping

from bids_interp.container import container
from bids_interp.errors import DeviceError

# Device files of GPU drivers.
GPU_FILES = ('/dev/nvidiactl', '/dev/nvidia0', '/dev/dxg', '/dev/kfd')
JOB_GPUS = ('CUDA_VISIBLE_DEVICES', 'SLURM_STEP_GPUS', 'SLURM_JOB_GPUS')


def visible_gpus(environ: Mapping[str, str] = os.environ) -> int | None:
    """Return the number of GPUs that a job may use; None if it is not specified.

    Examples
    --------
    >>> visible_gpus({'CUDA_VISIBLE_DEVICES': '0,3'}), visible_gpus({'CUDA_VISIBLE_DEVICES': ''})
    (2, 0)
    """
    for name in JOB_GPUS:
        if name in environ:
            ids = [part.strip() for part in environ[name].split(',')]
            return sum(one not in ('', '-1', 'NoDevFiles', 'none', 'void') for one in ids)
    return None


def resolve_device(device: str) -> str:
    """Return the device to compute on.

    PyTorch is imported only if there may be a GPU, because the import takes seconds.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns
    -------
    str
        ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    DeviceError
        If the name is invalid, or a GPU was requested and cannot be used.
    """
    kind, _, index = device.partition(':')
    if kind not in ('auto', 'cpu', 'cuda') or (index and not (kind == 'cuda' and index.isdigit())):
        raise DeviceError(f'The device {device!r} is unknown.', 'Use auto, cpu, cuda or cuda:N.')
    if kind == 'cpu':
        return device
    problem = _why_no_gpu(int(index or 0))
    if problem is None:
        return 'cuda' if kind == 'auto' else device
    if kind == 'auto':
        return 'cpu'
    message, advice = problem
    raise DeviceError(f'--device {device} was requested, but {message}', advice)


def _why_no_gpu(index: int) -> tuple[str, str | None] | None:
    """Return message and advice if the GPU with this number cannot be used, else None."""
    given = visible_gpus()
    if given is not None and given <= index:
        return (
            f'this job may use {given} GPUs (according to CUDA_VISIBLE_DEVICES or the scheduler).',
            'Request a GPU from the scheduler (SLURM: --gres=gpu:1), or use --device cpu.',
        )
    if not any(os.path.exists(path) for path in GPU_FILES):
        advice = 'Use --device auto or --device cpu.'
        if container() is not None:
            advice += ' A container sees a GPU with docker run --gpus all or apptainer run --nv.'
        return 'no GPU driver was found on this machine.', advice
    import torch

    if not torch.cuda.is_available():
        return 'PyTorch cannot use a CUDA device here.', None
    if index >= torch.cuda.device_count():
        return f'PyTorch sees only {torch.cuda.device_count()} CUDA device(s).', None
    return None
