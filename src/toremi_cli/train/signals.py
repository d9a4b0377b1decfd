"""Stopping at a step boundary: SIGTERM and Ctrl-C set a flag, and all ranks agree on the step at which they stop."""

from __future__ import annotations

import signal
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist


class StopRequest:
    """Whether the run was asked to stop, the same on every rank at the same step.

    The flags of all ranks are reduced on the CPU while the step runs on the device, so that agreeing costs no wait:
    `poll` returns what was requested before the previous poll.
    """

    def __init__(self, world_size: int, timeout: timedelta) -> None:
        """`timeout` is how long a rank may wait for another: the others wait here while one writes a checkpoint."""
        self._received = 0
        self._group = dist.new_group(timeout=timeout, backend="gloo") if world_size > 1 else None
        self._pending: Any = None
        self._flag = torch.zeros(1, dtype=torch.int64)
        self._before = {n: signal.signal(n, self._on_signal) for n in (signal.SIGTERM, signal.SIGINT)}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._received = max(self._received, number)

    def poll(self) -> int:
        """The signal that all ranks shall stop for now, 0 for none. Call it once a step on every rank."""
        if self._group is None:
            return self._received
        agreed = 0
        if self._pending is not None:
            self._pending.wait()
            agreed = int(self._flag)
        self._flag = torch.tensor([self._received], dtype=torch.int64)
        self._pending = dist.all_reduce(self._flag, dist.ReduceOp.MAX, group=self._group, async_op=True)
        return agreed

    def close(self) -> None:
        """Let the last exchange end, and the signals do what they did before."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None
        for number, handler in self._before.items():
            signal.signal(number, handler)
