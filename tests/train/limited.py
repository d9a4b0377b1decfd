"""Trains with less memory than a run would take: `python -m tests.train.limited WORKDIR NAME MIB RANK SETTINGS`.

MIB is what the process of rank RANK may take from its first try on, besides what it has by then. Whatever asks for more
gets torch's own error.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch._dynamo.backends.debugging  # else it would be imported where there is no room for it

from tests.train.both_ranks import config
from toremi_cli.errors import ToremiError
from toremi_cli.train import finding
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.run import Training
from toremi_cli.train.worker import run_worker

ROWS: dict[str, Any] = {"context_length": 64, "batch_size": 1536, "max_steps": 4, "checkpoint_every": 2, "interval": 2}


def settings(workdir: Path, name: str, **more: Any) -> TrainConfig:
    """A run of so many rows a step that only a part of them has room."""
    return config(workdir, "uniform", name, **{**ROWS, "keep_checkpoints": None, **more})


def main() -> None:
    """Train, and say what stood in the way if anything did."""
    workdir, name, mib, rank, more = sys.argv[1:]
    torch.set_num_threads(1)
    torch.compile = partial(torch.compile, backend="aot_eager")  # inductor starts processes, which need room, too
    if os.environ.get("RANK", "0") == rank:
        limit_before_trying(int(mib) * 2**20)
    try:
        run_worker(settings(Path(workdir), name, **json.loads(more)), resume=False)
    except ToremiError as problem:
        print("REFUSED", problem, flush=True)


def limit_before_trying(more: int) -> None:
    """Let this process take so many bytes more once all is there that a run begins with."""
    find_out = finding.find_out

    def limited(run: Training) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (taken() + more, resource.RLIM_INFINITY))
        find_out(run)

    finding.find_out = limited


def taken() -> int:
    """Bytes of this process' address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main()
