"""Which precision a device gets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from toremi_cli.errors import UsageError
from toremi_cli.lm.bf16 import warn_of_slow_bf16
from toremi_cli.reweight import sums_device
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.device import gpu_memory, make_accelerator, uses_bf16


@pytest.fixture
def gpu(monkeypatch):
    """Let torch believe in a GPU of some compute capability that can hold bf16 tensors, as all of them can."""

    def present(major):
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=major))
        monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)

    return present


@pytest.mark.parametrize(("major", "expected"), [(7, False), (8, True), (9, True)])  # V100 and T4, A100, H100
def test_auto_takes_bf16_only_from_gpus_that_compute_in_it(gpu, major, expected):
    gpu(major)
    assert uses_bf16("auto", use_cpu=False) is expected
    assert uses_bf16("bf16", use_cpu=False)  # asked for, also where it is emulated
    assert not uses_bf16("fp32", use_cpu=False)


def test_a_cpu_computes_in_bf16_only_where_asked_to():
    assert [uses_bf16(precision, use_cpu=True) for precision in ("auto", "fp32", "bf16")] == [False, False, True]


@pytest.mark.parametrize(("supported", "place", "count"), [(False, "cpu", 1), (True, "cpu", 0), (False, "meta", 0)])
def test_a_cpu_that_cannot_multiply_bf16_is_told_of_once(monkeypatch, capsys, supported, place, count):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    warn_of_slow_bf16.cache_clear()
    for _ in range(2):
        warn_of_slow_bf16(torch.device(place))
    assert capsys.readouterr().err.count("this CPU cannot multiply bf16; fp32 takes a fraction of the time") == count
    warn_of_slow_bf16.cache_clear()


def test_tf32_is_for_gpus(tmp_path):
    with pytest.raises(UsageError, match="--precision tf32: GPUs alone have it; use --precision fp32"):
        make_accelerator(TrainConfig(precision="tf32", gpus=0), tmp_path)


def test_sums_in_float64_stay_on_the_cpu_where_the_device_has_none():
    assert sums_device(torch.device("mps")) == torch.device("cpu")
    assert [sums_device(torch.device(name)).type for name in ("cuda", "cpu")] == ["cuda", "cpu"]


def test_the_memory_of_a_gpu_is_all_of_it(monkeypatch):
    """What is free would change from start to start."""
    of_card = SimpleNamespace(total_memory=24 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: of_card)
    assert gpu_memory(torch.device("cuda:1")) == 24 * 2**30
    assert gpu_memory(torch.device("cpu")) == 0
