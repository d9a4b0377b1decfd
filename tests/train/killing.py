"""Kills a training run at random moments and goes on with it, again and again: `python -m tests.train.killing`.

Each attempt is a process of its own, forked where everything is imported already, so that a kill costs a second.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import time
from pathlib import Path
from typing import Any

from toremi_cli.train.config import TrainConfig
from toremi_cli.train.worker import run_worker

SETTINGS: dict[str, Any] = {
    "context_length": 32,
    "batch_size": 12,
    "max_steps": 24,
    "interval": 4,
    "log_every": 3,
    "eval_every": 6,
    "checkpoint_every": 5,
    "eval_samples": 3,
    "learning_rate": 0.01,
    "keep_checkpoints": None,
    "gpus": 0,
    "topics": "fine",
    "quiet": True,
}
POLICIES = ({"name": "toremi-2", "normalize": True}, {"name": "toremi", "apply": "both"})
"""Under the second one, a thread writes the checkpoints."""


def attempt(config: TrainConfig, resume: bool) -> None:
    """One process: train to the end."""
    run_worker(config, resume)


def start(workdir: Path, name: str, policy: dict[str, Any], resume: bool) -> multiprocessing.Process:
    settings = {**SETTINGS, "model": str(workdir / "dropout.json"), "workdir": str(workdir), "policy": policy}
    settings["async_checkpoint"] = policy is POLICIES[1]
    process = multiprocessing.get_context("fork").Process(
        target=attempt, args=(TrainConfig(name=name, **settings), resume)
    )
    process.start()
    return process


def main() -> None:
    """Kill `num_kills` times; print the names of the runs, each beside the one that nothing disturbed."""
    workdir, seed, num_kills = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    import transformers.models.gpt2.modeling_gpt2  # noqa: F401

    import toremi_cli.train.loop
    import toremi_cli.train.state  # noqa: F401

    moments, pairs, kills = random.Random(seed), [], 0
    wholes, seconds = [], 0.0
    for index, policy in enumerate(POLICIES):
        begun = time.monotonic()
        whole = start(workdir, f"whole-{seed}-{index}", policy, resume=False)
        whole.join()
        assert whole.exitcode == 0
        seconds = time.monotonic() - begun
        wholes.append(f"whole-{seed}-{index}")
    while kills < num_kills:
        index = len(pairs) % len(POLICIES)
        name, finished, first = f"killed-{seed}-{len(pairs)}", False, True
        while not finished:
            process = start(workdir, name, POLICIES[index], resume=not first)
            process.join(moments.uniform(0, 0.9 * seconds) if kills < num_kills else None)
            finished, first = process.exitcode == 0, False
            if not finished:
                assert process.exitcode is None, process.exitcode
                process.kill()
                process.join()
                kills += 1
        pairs.append((name, wholes[index]))
    print("RESULT", json.dumps({"kills": kills, "pairs": pairs}))


if __name__ == "__main__":
    main()
