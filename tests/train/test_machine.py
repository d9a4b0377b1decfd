"""GPUs that are there and cannot be used are never replaced by the CPU without a word."""

from __future__ import annotations

import pytest
import torch

from toremi_cli.errors import UsageError
from toremi_cli.train import machine
from toremi_cli.train.config import TrainConfig


@pytest.fixture
def devices(monkeypatch, tmp_path):
    """A machine without any devices yet, and nothing that hides them."""
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in machine.HIDING:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_gpus_of_nvidia_that_torch_cannot_use(devices, monkeypatch):
    (devices / "nvidia0").touch()
    with pytest.raises(UsageError, match=r"torch .* cannot use them \(.+\).*--gpus 0"):
        machine.resolve_devices(TrainConfig())
    assert machine.resolve_devices(TrainConfig(gpus=0)) == (0, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.resolve_devices(TrainConfig()) == (0, 1)


@pytest.mark.parametrize("name", ["nvidiactl", "kfd", "dxg", "null"])
def test_what_is_no_gpu_of_nvidia(devices, name):
    """A driver without a card, the graphics of a laptop's processor, Windows under Linux."""
    (devices / name).touch()
    assert machine.resolve_devices(TrainConfig()) == (0, 1)


def test_ranks_are_refused_the_cpu_likewise(devices, monkeypatch):
    (devices / "nvidia0").touch()
    with pytest.raises(UsageError, match="--gpus 0"):
        machine.check_launched(TrainConfig())
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    with pytest.raises(UsageError, match="--processes 2: 8 ranks were started on this machine"):
        machine.check_launched(TrainConfig(gpus=0, processes=2))
    machine.check_launched(TrainConfig(gpus=0, processes=8))
