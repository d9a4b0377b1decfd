"""How fast a run trains, where its time goes, and how much of what the device can compute it uses."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

PHASES = ("data", "evaluation", "reweighting", "checkpoint")
"""What a run spends time on besides its steps: waiting for a batch, and what is due between two steps."""
T = TypeVar("T")


class Clock:
    """Seconds by phase; what belongs to none is a step's."""

    def __init__(self, device: torch.device, flops_per_token: float, peak: float) -> None:
        """Begin; `peak` operations a second are what all ranks' devices could do together."""
        self._device, self._flops_per_token, self._peak = device, flops_per_token, peak
        self._restart()

    def _restart(self) -> None:
        self._start, self._tokens = time.perf_counter(), 0
        self._seconds = dict.fromkeys(PHASES, 0.0)

    def count(self, tokens: int) -> None:
        """Add tokens trained on."""
        self._tokens += tokens

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches, the wait for each counted as data."""
        source = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(source, None)
            self._seconds["data"] += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count a block as one of `PHASES`; steps that a GPU still has to do are none of it."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        start = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """Metrics since the last reading: rate and MFU by steps and their data alone, seconds by phase, memory."""
        between = sum(seconds for name, seconds in self._seconds.items() if name != "data")
        training = time.perf_counter() - self._start - between
        rate = self._tokens / max(training, 1e-9)
        seconds = {"step": max(training - self._seconds["data"], 0.0), **self._seconds}
        self._restart()
        return {
            "tokens_per_second": rate,
            "mfu": rate * self._flops_per_token / self._peak,
            **{f"{name}_seconds": value for name, value in seconds.items()},
            "peak_memory_gib": peak_memory(self._device) / 2**30,
        }


def flops_per_token(model: nn.Module, context_length: int) -> float:
    """Floating-point operations of a token's forward and backward pass, none counted twice.

    6 for each parameter that multiplies (not an embedding that only looks up), and 12 x layers x width of the heads x
    tokens a row for attention (PaLM, arXiv 2204.02311, appendix B: as if it were not causal).
    """
    shape: Any = model.config
    tied = bool(getattr(shape, "tie_word_embeddings", False))
    looked_up = 0 if tied else model.get_input_embeddings().weight.numel()  # type: ignore[operator]
    multiplied = sum(p.numel() for p in model.parameters()) - looked_up
    heads = getattr(shape, "num_attention_heads", 0) or 0
    head_width = getattr(shape, "head_dim", None) or (shape.hidden_size // heads if heads else 0)
    return float(6 * multiplied + 12 * shape.num_hidden_layers * heads * head_width * context_length)


def peak_memory(device: torch.device) -> int:
    """Most bytes that tensors held on a GPU so far, or, on the CPU, this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
