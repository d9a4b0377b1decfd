"""Who writes a checkpoint, and when: this thread at once, or another one while training goes on."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from toremi_cli.errors import TrainingError
from toremi_cli.train.checkpoint import MODEL, Content
from toremi_cli.train.exchange import first_problem


class CheckpointWriter:
    """Writes one checkpoint after the other; it is seen once all ranks have written what is theirs."""

    def __init__(self, in_thread: bool, world_size: int, timeout: timedelta) -> None:
        """`timeout` is how long a rank may wait for another to have written."""
        self._group = dist.new_group(timeout=timeout, backend="gloo") if world_size > 1 else None
        self._thread = ThreadPoolExecutor(1, "checkpoint") if in_thread else None
        self._pending: Future[None] | None = None
        self._copies: dict[str, Tensor] = {}
        self.seconds = 0.0
        """How long the last one took to write."""

    def write(self, content: Content, at_once: bool) -> None:
        """Write this rank's part of a checkpoint, or, unless `at_once`, have it written; every rank calls this.

        Raises:
            TrainingError: a rank could not write this one, or the one before.
        """
        self.wait()
        if self._thread is None or at_once:
            self._write(content)
        else:
            self._pending = self._thread.submit(self._write, self._copied(content))

    def wait(self) -> None:
        """Let the checkpoint that is being written, if one is, come to its end.

        Raises:
            TrainingError: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, content: Content) -> None:
        began, problem = time.monotonic(), ""
        try:
            content.write()
        except TrainingError as error:
            problem = str(error)
        problem = first_problem(problem, self._group)
        if problem:
            content.discard()
            raise TrainingError(problem)
        content.publish()
        self.seconds = time.monotonic() - began

    def _copied(self, content: Content) -> Content:
        """The same on the CPU, where training does not change it; its memory is used again by the next one."""
        parts, model = content.parts, content.model_state
        if parts is not None:
            parts = {name: replace(part, tensor=self._copy(name, part.tensor)) for name, part in parts.items()}
        if model is not None:
            model = {name: self._copy(MODEL + name, tensor) for name, tensor in model.items()}
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return replace(content, parts=parts, model_state=model, state=deepcopy(content.state))

    def _copy(self, name: str, tensor: Tensor) -> Tensor:
        if name not in self._copies or self._copies[name].shape != tensor.shape:
            self._copies[name] = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
        return self._copies[name].copy_(tensor.detach(), non_blocking=True)
