"""Where bf16 saves no time."""

from __future__ import annotations

from functools import cache

import torch

from toremi_cli import console


@cache
def warn_of_slow_bf16(device: torch.device) -> None:
    """Say so, once, where a CPU has no instruction that multiplies bf16.

    Measured on such a CPU: one product of matrices takes eighty times as long as in float32.
    """
    if device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # torch's own test
        console.warn("--precision bf16: this CPU cannot multiply bf16; fp32 takes a fraction of the time")
