"""The device that is computed on."""

from __future__ import annotations

import pytest

from bids_interp import device
from bids_interp.errors import DeviceError


@pytest.mark.parametrize(
    ('environ', 'count'),
    [
        ({}, None),
        ({'CUDA_VISIBLE_DEVICES': 'GPU-1,GPU-2'}, 2),
        ({'CUDA_VISIBLE_DEVICES': '-1'}, 0),
        ({'CUDA_VISIBLE_DEVICES': 'NoDevFiles', 'SLURM_JOB_GPUS': '0'}, 0),
        ({'SLURM_JOB_GPUS': '2,3,4'}, 3),
    ],
)
def test_gpus_of_a_job(environ: dict[str, str], count: int | None) -> None:
    assert device.visible_gpus(environ) == count


def test_a_job_without_a_gpu_on_a_machine_that_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, 'GPU_FILES', ('/dev/null',))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert device.resolve_device('auto') == 'cpu'
    with pytest.raises(DeviceError) as caught:
        device.resolve_device('cuda')
    assert '--gres' in caught.value.advice
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '5')
    with pytest.raises(DeviceError):
        device.resolve_device('cuda:1')


def test_devices_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, 'GPU_FILES', ())
    assert device.resolve_device('auto') == 'cpu'
    assert device.resolve_device('cpu') == 'cpu'
    for name in ('cuda', 'cuda:3'):
        with pytest.raises(DeviceError, match=name) as caught:
            device.resolve_device(name)
        assert '--device' in caught.value.advice


def test_a_driver_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(device, 'GPU_FILES', ('/dev/null',))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert device.resolve_device('auto') == 'cpu'
    with pytest.raises(DeviceError):
        device.resolve_device('cuda')


def test_unknown_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('tpu', 'cpu:1', 'auto:0', 'cuda:x'):
        with pytest.raises(DeviceError, match=name):
            device.resolve_device(name)


def test_a_gpu_that_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(device, 'GPU_FILES', ('/dev/null',))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert device.resolve_device('auto') == 'cuda'
    assert device.resolve_device('cuda:1') == 'cuda:1'
    with pytest.raises(DeviceError, match='cuda:2'):
        device.resolve_device('cuda:2')
