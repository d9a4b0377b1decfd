"""`toremi`, or its worker, whose second rank fails after two steps while the first waits for it in an exchange."""

from __future__ import annotations

import os
import sys

from toremi_cli import cli
from toremi_cli.train import launch, loop, worker

train_step = loop.train_step


def failing(run, batch):
    if run.step == 2 and os.environ["RANK"] == "1":
        raise RuntimeError("the card has fallen off the bus")
    train_step(run, batch)


if __name__ == "__main__":
    loop.train_step, launch.WORKER = failing, "tests.train.failing_rank"
    cli.main() if "pretrain" in sys.argv else worker.main()
