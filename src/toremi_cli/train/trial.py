"""Micro-steps that are tried before a run's first step: what they show is kept, and nothing else of them.

A try is the run's own forward and backward pass over the first rows that it will train on. While it runs, memory is
held as large as what a later step needs besides: the optimizer's state where that does not exist yet, a reserve, and,
where a step has several micro-steps, the gradients that those before have left.
"""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap

import torch
import torch.distributed as dist
from torch import Tensor

from toremi_cli.errors import TrainingError
from toremi_cli.lm.memory import give_back_freed_memory
from toremi_cli.train.device import gpu_memory
from toremi_cli.train.loader import MicroBatch
from toremi_cli.train.loop import pass_micro_batch
from toremi_cli.train.needs import GIB, is_out_of_memory, less_memory
from toremi_cli.train.run import Training

RESERVE = 0.1
"""Of the memory that there is: for what a step takes besides, for evaluation's batches and for fragmentation."""
WARM_UP, TIMED = 2, 5
"""Micro-steps that `seconds_of` takes."""


@contextmanager
def nothing_changed(run: Training) -> Iterator[None]:
    """Whatever is tried in the block: gradients, random numbers and measurements are afterwards what they were."""
    parameters = list(run.token_loss.parameters())
    gradients = [parameter.grad for parameter in parameters]
    run.token_loss.zero_grad(set_to_none=True)
    try:
        with torch.random.fork_rng([run.device] if run.device.type == "cuda" else [], device_type="cuda"):
            yield
    finally:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        run.losses.shuffled_losses = run.losses.token_sensitivity = None


def missing_state(run: Training) -> list[Tensor]:
    """Tensors as large as those that the optimizer makes in its first step: two a parameter for AdamW, one for Muon."""
    return [
        torch.empty_like(parameter)
        for group in run.optimizer.param_groups
        for parameter in group["params"]
        if not run.optimizer.state.get(parameter)
        for _ in range(1 if "muon" in group else 2)
    ]


def reserve(device: torch.device) -> Tensor | mmap:
    """Memory that a try leaves alone, and that a GPU's allocator, or the system, has back when this is gone."""
    size = int(RESERVE * memory_of(device))
    if device.type == "cuda":
        return torch.empty(size, dtype=torch.uint8, device=device)
    return mmap(-1, size + 1)  # a block of the C library's would stay with it, and threads start on the system's


@contextmanager
def ready(run: Training, rows: int) -> Iterator[MicroBatch]:
    """A micro-batch of so many rows, with the memory taken that a step needs besides it; nothing is changed."""
    with nothing_changed(run):
        held = [*missing_state(run), reserve(run.device)]
        if rows < run.rank_rows:
            for parameter in run.token_loss.parameters():
                parameter.grad = torch.zeros_like(parameter)
        yield run.builder.first_rows(rows).to(run.device)
        held.clear()


def micro_step(run: Training, micro: MicroBatch) -> None:
    """Forward and backward of a micro-batch, without a word to the other ranks."""
    with run.accelerator.no_sync(run.token_loss):
        pass_micro_batch(run, micro, torch.ones_like(micro.mass), 1.0)


def fits(run: Training, rows: int) -> bool:
    """Whether a micro-step of so many rows has room on this rank's device."""
    try:
        with ready(run, rows) as micro:
            micro_step(run, micro)
            wait_for(run.device)
    except Exception as problem:
        if not is_out_of_memory(problem):
            raise
        return False
    return True


def rows_that_fit(run: Training, rows: int) -> int:
    """The rows of a micro-step, halved from `rows` on until one has room on every rank. Every rank calls it.

    Raises:
        TrainingError: not even one row has.
    """
    rows = even_rows(run.rank_rows, rows)
    while not everywhere(fits(run, rows), run.device):
        free_memory(run.device)
        if run.losses.is_compiled:
            torch.compiler.reset()  # a second size would be compiled for any, which is slower
        if rows == 1:
            raise TrainingError(no_room(run))
        rows = even_rows(run.rank_rows, -(-rows // 2))
    free_memory(run.device)
    return rows


def even_rows(rank_rows: int, most: int) -> int:
    """Rows of the largest micro-step where a rank's rows are parted evenly, `most` at most in each."""
    return -(-rank_rows // -(-rank_rows // most))


def memory_of(device: torch.device) -> int:
    """Bytes of a GPU, or those that this process may take of the machine's memory; 0 where nothing limits them."""
    if device.type == "cuda":
        return gpu_memory(device)
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return 0 if most == resource.RLIM_INFINITY else most


def no_room(run: Training) -> str:
    """One line that one row has no room, with what helps."""
    limit = f"{memory_of(run.device) / GIB:.1f} GiB"
    where = f"a GPU of {limit}" if run.device.type == "cuda" else f"a process that may take {limit} (ulimit -v)"
    return (
        f"--model {run.config.model}: one row of {run.schedule.context_length:,} tokens has no room in {where}, beside "
        f"parameters, gradients and optimizer; use {less_memory(run.config, fewer_rows=False)}, or a smaller model"
    )


def seconds_of(run: Training, rows: int) -> float:
    """Seconds of a micro-step of so many rows: the median of some, after others that warm up."""
    with ready(run, rows) as micro:
        taken = []
        for _ in range(WARM_UP + TIMED):
            wait_for(run.device)
            begun = time.perf_counter()
            micro_step(run, micro)
            wait_for(run.device)
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken[WARM_UP:])


def everywhere(holds: bool, device: torch.device) -> bool:
    """Whether something holds on every rank."""
    return largest(float(not holds), device) == 0


def largest(value: float, device: torch.device) -> float:
    """The largest of all ranks' values."""
    shared = torch.tensor([value], dtype=torch.float32, device=device)
    if dist.is_initialized():
        dist.all_reduce(shared, dist.ReduceOp.MAX)
    return float(shared)


def wait_for(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free_memory(device: torch.device) -> None:
    """Give back what a try has left; the run's peak is to be its own."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        give_back_freed_memory()
