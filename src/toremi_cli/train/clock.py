"""How fast a run trains."""

from __future__ import annotations

import time


class Clock:
    """Tokens a second, evaluations and checkpoints left out."""

    def __init__(self) -> None:
        self._start, self._tokens = time.perf_counter(), 0
        self._paused_at = 0.0

    def count(self, tokens: int) -> None:
        """Add tokens trained on."""
        self._tokens += tokens

    def read(self) -> float:
        """Tokens a second since the last reading."""
        now = time.perf_counter()
        rate = self._tokens / max(now - self._start, 1e-9)
        self._start, self._tokens = now, 0
        return rate

    def paused(self) -> Clock:
        """Stop the clock for a block."""
        return self

    def __enter__(self) -> None:
        self._paused_at = time.perf_counter()

    def __exit__(self, *problem: object) -> None:
        self._start += time.perf_counter() - self._paused_at
