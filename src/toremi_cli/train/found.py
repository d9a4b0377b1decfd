"""What a run found out by trying before its first step; its checkpoints have it, so that it goes on alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Found:
    """How a run takes its steps; JSON-able."""

    under: dict[str, Any]
    """What it holds for; under anything else the run tries anew."""
    micro_batch: int
    """Rows of a micro-step on each process, at most."""
    compiled: bool
    """Whether the model's body is compiled."""
    eager_seconds: float | None = None
    """Of a micro-step; None where that was not measured."""
    compiled_seconds: float | None = None
    """Likewise; also None where torch.compile failed."""
