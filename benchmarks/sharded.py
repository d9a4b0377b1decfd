"""FSDP on two gloo ranks of the CPU beside one rank without it: a part of `benchmarks.exactness`.

`python -m benchmarks.sharded WORKDIR SEED` is one of the two ranks.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from accelerate.state import AcceleratorState
from tests.shell import environment
from tests.train.both_ranks import config
from tests.train.sharded_ranks import CHECKPOINTING, offer_fsdp_on_cpus, train
from tests.train.smallrun import metrics, weights, write_workdir

from toremi_cli.train import token_loss
from toremi_cli.train.checkpoint import OPTIMIZER
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.shards import Shards
from toremi_cli.train.worker import run_worker

STEPS = 4
SAME = ("train_loss", "objective", "grad_norm", "eval_loss")
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Case:
    """How a model is trained: its precision, and what FSDP has to get along with."""

    precision: str
    untied: bool
    checkpointing: bool = False
    chunked: bool = False

    @property
    def name(self) -> str:
        """In words."""
        words = [self.precision, "untied" if self.untied else "tied"]
        words += ["activation checkpointing"] * self.checkpointing + ["chunked"] * self.chunked
        return ", ".join(words)

    def settings(self, workdir: Path, seed: int, where: str, micro_batch: int | None) -> TrainConfig:
        """A run of a few steps of 6 rows, each of them counted and weighed."""
        name = f"{where}-{self.name.replace(', ', '-').replace(' ', '-')}"
        model = str(workdir / ("untied.json" if self.untied else "model.json"))
        every = {"max_steps": STEPS, "interval": 2, "log_every": 1, "eval_every": 2, "checkpoint_every": STEPS}
        more = {"chunked_loss": self.chunked, "precision": self.precision, "micro_batch": micro_batch}
        return config(workdir, "toremi-2", name, seed=seed, model=model, **every, **more)


CASES = [Case(*values) for values in product(("fp32", "bf16"), *[(False, True)] * 3)]


def compared(seed: int) -> Iterator[tuple[str, list[Pair], Pair]]:
    """Of each case what the ranks and one rank have measured, and Adam's means of their gradients.

    Parameters are not compared: where a gradient is 0 but for rounding, as a key's bias has it, Adam follows its sign.
    """
    with tempfile.TemporaryDirectory() as folder:
        workdir = write_workdir(Path(folder) / "work")
        ranks = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "benchmarks.sharded"]
        command = [sys.executable, "-m", *ranks, str(workdir), str(seed)]
        subprocess.run(command, check=True, env=environment(), stdout=subprocess.DEVNULL)
        alone = {}
        for case in CASES:
            plain = Case(case.precision, case.untied)
            settings = plain.settings(workdir, seed, "one", micro_batch=None)
            if plain not in alone:
                AcceleratorState._reset_state()
                run_worker(settings, resume=False)
                alone[plain] = workdir / "runs" / settings.run_name
            sharded = workdir / "runs" / case.settings(workdir, seed, "two", micro_batch=2).run_name
            yield case.name, list(_measured(sharded, alone[plain])), _gradients(sharded, alone[plain])


def _measured(*runs: Path) -> Iterator[Pair]:
    for name in SAME:
        one, other = (np.array([row["value"] for row in metrics(run, name)]) for run in runs)
        yield one, other
    for column in ("loss", "weight"):
        one, other = (np.array([row[column] for row in weights(run)], float) for run in runs)
        yield one, other


def _gradients(*runs: Path) -> Pair:
    one, other = (_optimizer(run / f"checkpoint-{STEPS}") for run in runs)
    names = [name for name in one if name.endswith("exp_avg")]
    assert names and one.keys() == other.keys()
    first, second = (np.concatenate([state[name].ravel() for name in names]) for state in (one, other))
    return first, second


def _optimizer(checkpoint: Path) -> dict[str, np.ndarray]:
    """The optimizer's tensors, whole."""
    shards = Shards(checkpoint, len(list(checkpoint.glob("shard-*"))))
    return {
        key: shards.fill(OPTIMIZER + key, torch.empty(shape)).numpy() for key, shape in shards.below(OPTIMIZER).items()
    }


def main() -> None:
    """Train every case as one of the ranks."""
    workdir, seed = Path(sys.argv[1]), int(sys.argv[2])
    token_loss.CHUNK_LOGITS = 10 * 320  # several chunks also of so few tokens
    offer_fsdp_on_cpus()
    for case in CASES:
        train(case.settings(workdir, seed, "two", micro_batch=2), **(CHECKPOINTING if case.checkpointing else {}))


if __name__ == "__main__":
    main()
