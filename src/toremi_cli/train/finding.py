"""What a run finds out by trying before its first step: how many rows fit, and whether compiling pays.

On a GPU the rows of a micro-step are the most that a rank has of a step, halved until they fit (`--micro-batch` says
otherwise). On the CPU, where more rows at once are no faster, they are reckoned (`plan_schedule`); they are tried where
the process may have so much memory and no more (`ulimit -v`): else the system would kill it rather than refuse. Under
FSDP, whose ranks pass a model on together, one that lacks memory would leave the others waiting: they are reckoned.
"""

from __future__ import annotations

from typing import Any

from toremi_cli.train.compiling import compare
from toremi_cli.train.device import smallest_gpu_memory
from toremi_cli.train.found import Found
from toremi_cli.train.run import Training
from toremi_cli.train.sharding import is_sharded
from toremi_cli.train.trial import largest, memory_of, rows_that_fit


def find_out(run: Training) -> None:
    """Settle how the run takes its steps: as the checkpoint that it goes on from says, or by trying. Every rank calls.

    Nothing that the run computes depends on whether it tried.

    Raises:
        TrainingError: not even one row of a micro-step has room.
        UsageError: a micro-step of a rank would have no row.
    """
    under = circumstances(run)
    if run.found is None or run.found.under != under:
        run.found = try_out(run, under)
    run.part_steps(run.found.micro_batch)
    if run.losses.is_compiled != run.found.compiled:
        run.losses.compile_body(run.found.compiled)


def circumstances(run: Training) -> dict[str, Any]:
    """What may differ when a run goes on, and decides how many rows fit and what is faster; the same on all ranks."""
    config = run.config
    return {
        "ranks": int(run.accelerator.num_processes),
        "sharded": is_sharded(run.accelerator),
        "gpu_memory": smallest_gpu_memory(run.device),
        "micro_batch": config.micro_batch,
        "compile": config.compile,
        "documents": run.builder.documents,
        "chunked_loss": config.chunked_loss,
        "gradient_checkpointing": config.gradient_checkpointing,
    }


def try_out(run: Training, under: dict[str, Any]) -> Found:
    """What is best under these circumstances."""
    config, on_gpu = run.config, run.device.type == "cuda"
    rows = run.micro_batch
    tries = largest(memory_of(run.device), run.device) > 0 and not under["sharded"]
    if tries and config.micro_batch is None:
        rows = rows_that_fit(run, run.rank_rows if on_gpu else rows)
        if config.compile:  # each size that is compiled takes a minute: first the one that fits as it is
            run.losses.compile_body(True)
            rows = rows_that_fit(run, rows)
    run.part_steps(rows)
    if config.compile is None and on_gpu and tries:
        compiled, *seconds = compare(run, rows)
        return Found(under, rows, compiled, *seconds)
    return Found(under, rows, bool(config.compile))
