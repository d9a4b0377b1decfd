"""Where shards are worked on: in processes of this machine, or on a Ray cluster whose machines share the workdir.

Work on a shard reads and writes files and depends on no other shard, so every engine gives the same tables.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, TypeVar

from toremi_cli.errors import MissingExtraError, ToremiError, UsageError
from toremi_cli.settings import Setting

WORKERS = Setting("Processes that work on shards; the result is the same.", "Where", least=1, unset="every core")
ENGINE = Setting(
    "Where they are; ray: the cluster at RAY_ADDRESS, over a shared --workdir", "Where", choices=("local", "ray")
)
SEED = Setting("Seed of everything that is drawn.", least=0, most=2**32 - 1)

Item = TypeVar("Item")
Result = TypeVar("Result")
ShardWork = Callable[[int], None]
"""Does what is to be done for the shard of this number. Has to be picklable."""


def check_engine(engine: str) -> None:
    """Refuse an engine that doesn't exist or isn't installed."""
    if engine not in ENGINE.choices:
        raise UsageError(f"--engine {engine}: expected one of {', '.join(ENGINE.choices)}")
    if engine == "ray" and find_spec("ray") is None:
        raise MissingExtraError("ray[data]", "ray", "--engine ray")


def default_workers() -> int:
    """Processes to work with on this machine: the cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1))


def run_shards(
    work: ShardWork, shards: Sequence[int], *, engine: str = "local", workers: int = 1, num_gpus: float = 0
) -> Iterator[int]:
    """Do `work` for every shard; yield the shards' numbers as they are done.

    Args:
        work: what to do for a shard.
        shards: their numbers.
        engine: as `ENGINE`. Ray uses the cluster at RAY_ADDRESS, else the one on this machine, else starts one.
        workers: processes, on all machines together.
        num_gpus: GPUs that each worker of a Ray cluster gets.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    if engine == "ray":
        yield from _run_on_ray(work, shards, workers, num_gpus)
    else:
        yield from (shards[number] for number, _ in in_processes(work, shards, workers))


def in_processes(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[tuple[int, Result]]:
    """Do `work` for every item in processes of this machine; yield an item's number and its result as they are done.

    Args:
        work: what to do with an item. Has to be picklable, as items and results have, if there are several workers.
        items: what to work on.
        workers: processes; with 1, or one item, this process does it.
    """
    if workers == 1 or len(items) < 2:
        yield from ((number, work(item)) for number, item in enumerate(items))
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(items)), mp_context=spawn, initializer=_end_with_parent) as pool:
        with _without_main():
            jobs = {pool.submit(work, item): number for number, item in enumerate(items)}
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        except BaseException:
            _stop(pool)
            raise


@contextmanager
def _without_main() -> Iterator[None]:
    """Start processes that don't import the script that was started: it would call us again, unless it is guarded.

    So work has to be a function of a module, as all of ours is.
    """
    main = sys.modules["__main__"].__dict__
    before: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    try:
        main.pop("__file__", None)
        main["__spec__"] = None
        yield
    finally:
        main.update(before)


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the processes where they stand: whoever tries again would meet what they go on writing."""
    for process in list((pool._processes or {}).values()):  # `terminate_workers` from Python 3.14 on
        process.terminate()
    pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this process with the one that started it, which cannot tell it to when it is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


class _OnShard:
    """What a Ray worker keeps between shards."""

    def __init__(self, work: ShardWork) -> None:
        self._work = work

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Work on a batch of one shard."""
        for shard in batch["shard"]:
            self._work(int(shard))
        return batch


def _run_on_ray(work: ShardWork, shards: Sequence[int], workers: int, num_gpus: float) -> Iterator[int]:
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("ray[data]", "ray", "--engine ray") from None
    if not shards:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
    done = rows.map_batches(
        _OnShard,
        fn_constructor_args=(work,),
        batch_size=1,
        concurrency=(1, max(1, min(workers, len(shards)))),
        num_gpus=num_gpus or None,
    )
    try:
        for row in done.iter_rows():
            yield int(row["shard"])
    except ray.exceptions.RayError as problem:
        cause = _ours_in(problem)
        raise cause if cause else ToremiError(f"--engine ray: {_last_line(problem)}") from None


def _ours_in(problem: BaseException | None) -> ToremiError | None:
    """The error of ours that Ray wrapped, if it is one."""
    while problem is not None:
        if isinstance(problem, ToremiError):
            return ToremiError(str(getattr(problem, "cause", problem)))
        problem = getattr(problem, "cause", None) or problem.__cause__
    return None


def _last_line(problem: BaseException) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[-1]
