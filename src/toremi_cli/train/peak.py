"""What a device can compute at most, in large matrix products: MFU is a fraction of it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import torch

from toremi_cli.caches import own_cache
from toremi_cli.files import find_json, write_json

OPERATIONS = "floating_point_operations_per_second"


@cache
def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of the best of some large matrix products.

    Measured, since a data sheet's figure is that of a clock rate which no card holds: once for each kind of GPU, type
    and torch, so that MFUs of different runs are fractions of the same. A CPU is measured by each process anew: other
    programs use it, too, and a figure from a busy hour would stay.
    """
    if device.type != "cuda":
        return measure(device, dtype)
    return remembered(_name_of(device, dtype), lambda: measure(device, dtype))


def _name_of(device: torch.device, dtype: torch.dtype) -> str:
    """What a GPU's peak is one of: its model and parts of it in use, the arithmetic, torch with its CUDA."""
    of = torch.cuda.get_device_properties(device)
    arithmetic = torch.get_float32_matmul_precision() if dtype == torch.float32 else ""  # TF32, or not
    return f"{of.name} {of.multi_processor_count} {dtype} {arithmetic} torch {torch.__version__}"


def remembered(name: str, measured: Callable[[], float]) -> float:
    """What was `measured` under a name by any process of this user: kept as a file of its own in the user's cache.

    Processes that measure at the same time each write a whole file, and the last one's stays. Where none can be
    written, each measures.
    """
    path = own_cache() / "peaks" / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.json"
    known = find_json(path)
    value = known.get(OPERATIONS) if isinstance(known, dict) and known.get("of") == name else None
    if isinstance(value, float) and math.isfinite(value) and value > 0:
        return value
    value = measured()
    with suppress(OSError):
        write_json(path, {"of": name, OPERATIONS: value})
    return value


def measure(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second, measured now."""
    on_gpu = device.type == "cuda"
    size, rounds = (8192, 20) if on_gpu else (1024, 6)
    draw = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(size, size, device=device, dtype=dtype, generator=draw) for _ in range(2))
    best = float("inf")
    for _ in range(3):
        torch.mm(a, b)
        if on_gpu:
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        for _ in range(rounds if on_gpu else 1):
            torch.mm(a, b)
        if on_gpu:
            torch.cuda.synchronize(device)
        best = min(best, (time.perf_counter() - start) / (rounds if on_gpu else 1))
    return 2 * size**3 / best
