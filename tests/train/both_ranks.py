"""One of two ranks that train under every policy, one after the other: `python -m tests.train.both_ranks`.

The process group is made anew for each run, as it is when every run has a process of its own.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor

from toremi_cli.errors import TrainingError
from toremi_cli.reweight import POLICIES
from toremi_cli.reweight.policies.toremi import Toremi
from toremi_cli.reweight.policies.toremi_paper import ToremiTwo
from toremi_cli.train.adaptive_sampling import AdaptiveSampling
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.device import make_accelerator
from toremi_cli.train.loop import set_learning_rate
from toremi_cli.train.run import Training, assemble
from toremi_cli.train.worker import open_run_cache, run_worker

SETTINGS: dict[str, dict[str, Any]] = {
    "toremi": {"apply": "both", "max_repeats": None},
    "toremi-1": {"rule": "additive"},
    "toremi-2": {"stage_switch": "step:8", "normalize": True},
    "linupper": {"burn_in_steps": 4},
    "odm": {"apply": "both"},
    "group-dro": {"apply": "sampling"},
    "ado": {"burn_in_steps": 0},
    "temperature": {"apply": "loss"},
    "shuffled-topics": {"of": "toremi-2", "stage_switch": "step:8"},
}
"""Settings under which a run of 16 steps shows what the policy does."""


def config(workdir: Path, policy: str, name: str, **more: Any) -> TrainConfig:
    """A short run under a policy; `stratified` must have been trained as `NAME-stratified` before `frozen`."""
    small = {"context_length": 32, "batch_size": 6, "max_steps": 16, "interval": 4, "log_every": 4, "gpus": 0}
    small |= {"eval_samples": 3, "learning_rate": 0.01, "model": str(workdir / "model.json"), "quiet": True}
    if policy in ("frozen", "shearing", "group-dro"):
        table = str(workdir / "runs" / f"{name}-random-weights" / "weights")
        small |= {"weights_from" if policy == "frozen" else "reference_losses": table}
    small |= {"sensitivity": policy == "toremi", "topics": "fine", "loss_average": "sample"}
    small |= {"optimizer": "muon" if policy == "toremi-1" else "adamw", "schedule": "wsd"}
    values = {"policy": {"name": policy, **SETTINGS.get(policy, {})}, "workdir": str(workdir)}
    return TrainConfig(**{**small, **values, "name": f"{name}-{policy}", **more})


def assembled(workdir: Path, name: str, policy: str = "toremi", **more: Any) -> Training:
    """Such a run before its first step, in this process, at its peak learning rate."""
    run_config = config(workdir, policy, name, **more)
    cache = open_run_cache(run_config, build=True)
    run, _ = assemble(run_config, make_accelerator(run_config, workdir), cache, resume=False)
    set_learning_rate(run, 1.0)
    return run


def in_order() -> list[str]:
    """The policies, those first whose tables others read."""
    return sorted(POLICIES, key=lambda name: name != "random-weights")


def main() -> None:
    """Arguments: the workdir, and a free port for each run."""
    workdir, ports = Path(sys.argv[1]), iter(sys.argv[2:])
    for policy in in_order():
        train(config(workdir, policy, "both", micro_batch=2), next(ports))
    rank = int(os.environ["RANK"])
    print("IN FORCE", json.dumps(in_force_where_cpus_differ(rank, workdir, next(ports))))
    updated = ToremiTwo._updated  # as if a machine of the cluster computed otherwise
    ToremiTwo._updated = lambda *args: updated(*args) * (1 + rank)  # type: ignore[method-assign]
    try:
        train(config(workdir, "toremi-2", "differing", seed=rank), next(ports))
    except TrainingError as problem:
        print("REFUSED", problem, flush=True)
    try:
        train(config(workdir, "toremi-2", "differing"), next(ports))
    except TrainingError as problem:
        print("REFUSED", problem, flush=True)
        os._exit(0)  # as a worker ends: taken down right after a reduction, a gloo group may wait for itself for good


def in_force_where_cpus_differ(rank: int, workdir: Path, port: str) -> list[list[float]]:
    """Weights and shares with which a rank comes to each update, the second rank rounding otherwise than the first."""
    found: list[list[float]] = []
    update, resample = Toremi.update, AdaptiveSampling.update

    def updated(policy: Toremi, *arguments: Any) -> Tensor:
        gloo = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))  # type: ignore[union-attr]
        assert gloo.options._timeout == timedelta(minutes=7)
        found.append(policy.weights.tolist())
        update(policy, *arguments)
        policy.weights = policy.weights * (1 + rank * 1e-12)
        return policy.weights.clone()

    def resampled(sampling: AdaptiveSampling, *arguments: Any) -> None:
        draws = sampling.order.draws
        found.append(draws.shares.tolist())
        resample(sampling, *arguments)
        draws.set_shares(draws.shares * (1 + rank * 1e-12))

    Toremi.update, AdaptiveSampling.update = updated, resampled  # type: ignore[method-assign, assignment]
    train(config(workdir, "toremi", "drifting", rank_timeout=7.0), port)
    Toremi.update, AdaptiveSampling.update = update, resample  # type: ignore[method-assign]
    return found


def train(settings: TrainConfig, port: str) -> None:
    os.environ["MASTER_PORT"] = port
    AcceleratorState._reset_state()
    PartialState._reset_state()
    run_worker(settings, resume=False)


if __name__ == "__main__":
    main()
