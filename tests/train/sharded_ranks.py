"""One of two ranks that train under FSDP, on the CPU: `python -m tests.train.sharded_ranks WORKDIR`.

FSDP itself runs on gloo and CPUs, but accelerate turns it on for GPUs only. So it is told here that these are some;
all else is the real thing: parameters, gradients and optimizer state are sharded over two processes.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import save_file

from tests.train.both_ranks import config
from toremi_cli.errors import TrainingError, UsageError
from toremi_cli.runs.checkpoints import list_checkpoints
from toremi_cli.train import checkpoint, document_attention, loop, state
from toremi_cli.train.checkpoint import MODEL, OPTIMIZER, model_tensors, optimizer_tensors
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.run import Training
from toremi_cli.train.sharding import gathered
from toremi_cli.train.worker import run_worker

EXAMPLE = Path(__file__).parents[2] / "examples" / "fsdp.yaml"
CHECKPOINTING = {"FSDP_ACTIVATION_CHECKPOINTING": "true"}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "muon": ({"optimizer": "muon"}, {}),
    "bf16": ({"precision": "bf16"}, {}),
    "untied": ({"chunked_loss": True, "loss_average": "token"}, CHECKPOINTING),
    "untied-bf16": ({"chunked_loss": True, "loss_average": "token", "precision": "bf16"}, CHECKPOINTING),
    "untied-whole-bf16": ({"precision": "bf16", "gradient_checkpointing": True, "mask_documents": True}, {}),
}
"""Settings of further runs, and what their config of accelerate says besides."""


def fsdp_environment(config_file: Path) -> dict[str, str]:
    """What accelerate's launcher tells its workers of a config file with FSDP."""
    arguments = launch_command_parser().parse_args(["--config_file", str(config_file), "worker.py"])
    arguments, *_ = _validate_launch_command(arguments)
    found = prepare_multi_gpu_env(arguments)
    return {key: value for key, value in found.items() if key == "ACCELERATE_USE_FSDP" or key.startswith("FSDP_")}


def sharded(workdir: Path, name: str) -> TrainConfig:
    """A run of 16 steps under `toremi`, with a checkpoint after the 8th."""
    return config(workdir, "toremi", name, micro_batch=2, checkpoint_every=8, keep_checkpoints=None, eval_every=8)


def variant(workdir: Path, name: str) -> TrainConfig:
    """A run of 8 steps, with a checkpoint after the 4th."""
    settings = {**VARIANTS[name][0], "max_steps": 8, "checkpoint_every": 4, "keep_checkpoints": None, "eval_every": 4}
    settings["micro_batch"] = 2
    if name.startswith("untied"):
        settings["model"] = str(workdir / "untied.json")
    found = config(workdir, "toremi", name, **settings)
    # `toremi` is steep in what it measures: what bf16 rounds off may decide what is drawn.
    return replace(found, policy={"name": "toremi-2"}) if name.endswith("bf16") else found


def main() -> None:
    """Train; again with the model loaded by the first rank alone, checkpoints in a thread; go on after step 8.

    Go on with what one rank has trained. Train the variants, go on with each after step 4. Ask for FSDP 1. Train with
    folders apart; go on there; with a full disk; and die.
    """
    workdir = Path(sys.argv[1])
    offer_fsdp_on_cpus()
    document_attention.SHORTEST_ROWS_IN_GROUPS = 1  # one process beside them has a dense mask
    keep_what_is_saved_and_restored()
    train(sharded(workdir, "sharded"))
    in_thread = replace(sharded(workdir, "efficient"), async_checkpoint=True)
    train(in_thread, FSDP_CPU_RAM_EFFICIENT_LOADING="true")
    resume_copy(sharded(workdir, "sharded"), "resumed")
    resume_copy(sharded(workdir, "single"), "from-one")
    for name, (_, more) in VARIANTS.items():
        train(variant(workdir, name), **more)
        resume_copy(variant(workdir, name), f"{name}-resumed", **more)
    try:
        train(sharded(workdir, "first"), FSDP_VERSION="1")
    except UsageError as problem:
        print("REFUSED", problem)
    os.environ["LOCAL_RANK"] = "0"
    train(on_machine(workdir, "apart"))
    go_on_from_what_both_have(on_machine(workdir, "behind"))
    train_on_a_full_disk(replace(on_machine(workdir, "full"), async_checkpoint=True))
    if rank() == 1:
        die_writing(8)
    try:
        train(on_machine(workdir, "dying"))
    except RuntimeError as problem:
        print("DIED", problem, flush=True)
        os._exit(0)


def rank() -> int:
    return torch.distributed.get_rank()


def on_machine(workdir: Path, name: str) -> TrainConfig:
    """A run of 12 steps for which each rank has a workdir of its own, as on machines that share no folder."""
    settings = replace(sharded(workdir, name), max_steps=12, checkpoint_every=4)
    return replace(settings, workdir=str(workdir.with_name(f"machine-{rank()}")))


def go_on_from_what_both_have(settings: TrainConfig) -> None:
    """The second machine lacks the last checkpoint, as if it had died before it came to its name; then all."""
    run = Path(settings.workdir) / "runs" / settings.run_name
    copy_stopped(run.with_name("apart-toremi"), run, lacking=rank())
    train(settings, resume=True)
    for saved in list_checkpoints(run) if rank() == 1 else []:
        shutil.rmtree(saved.folder)
    try:
        train(settings, resume=True)
    except TrainingError as problem:
        print("NONE", problem)


def train_on_a_full_disk(settings: TrainConfig) -> None:
    """It is the second rank's that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if rank() == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # bytes a file may have: less than a shard
    try:
        train(settings)
    except TrainingError as problem:
        print("FULL", problem)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def die_writing(step: int) -> None:
    """Have this process killed where it has written its shard of a step, and perhaps the others theirs."""
    write = checkpoint.write_shard

    def write_and_die(path: Path, parts: Any) -> None:
        write(path, parts)
        if f"checkpoint-{step}." in path.parent.name:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.write_shard = write_and_die


def train(settings: TrainConfig, resume: bool = False, **more: str) -> None:
    """Train on this rank as the example's config of accelerate says, with `more` of its variables."""
    os.environ.update({"FSDP_ACTIVATION_CHECKPOINTING": "false", **fsdp_environment(EXAMPLE), **more})
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    AcceleratorState._reset_state()
    PartialState._reset_state()
    run_worker(settings, resume)


def offer_fsdp_on_cpus() -> None:
    """Have accelerate take this process' CPU for a GPU, where it decides about FSDP."""
    cpu = torch.device("cpu")

    def backend(*_: Any, **__: Any) -> tuple[str, DistributedType]:
        return "gloo", DistributedType.MULTI_GPU

    PartialState._prepare_backend = backend  # type: ignore[method-assign]
    PartialState.set_device = lambda self: setattr(self, "device", cpu)  # type: ignore[method-assign]
    PartialState.default_device = property(lambda self: cpu)  # type: ignore[assignment]
    PartialState.destroy_process_group = lambda self, group=None: None  # type: ignore[method-assign]


def keep_what_is_saved_and_restored() -> None:
    """Have each run keep the whole state that it saves after step 8, and that it goes on with, as torch gathers it."""
    saved, restored = state.save, state.restore

    def save(run: Training, at_once: bool) -> None:
        saved(run, at_once)
        if run.step == 8:
            keep_whole(run, "saved")

    def restore(run: Training, folder: Path) -> None:
        restored(run, folder)
        keep_whole(run, "restored")

    loop.save, state.restore = save, restore  # type: ignore[attr-defined]


def keep_whole(run: Training, name: str) -> None:
    optimizer = ((OPTIMIZER + key, tensor) for key, tensor in optimizer_tensors(run.model, run.optimizer))
    model = ((MODEL + key, tensor) for key, tensor in model_tensors(run.model))
    tensors = dict(gathered((*model, *optimizer), keep=True))
    if run.is_main:
        save_file(tensors, run.folder / f"{name}.safetensors")


def resume_copy(settings: TrainConfig, name: str, **more: str) -> None:
    """Go on with a copy of a run from its last checkpoint but one."""
    run = Path(settings.workdir) / "runs" / settings.run_name
    if rank() == 0:
        copy_stopped(run, run.with_name(f"{name}-toremi"))
    torch.distributed.barrier()
    train(replace(settings, name=f"{name}-toremi"), resume=True, **more)


def copy_stopped(run: Path, copy: Path, lacking: int = 1) -> None:
    """The run as a kill after its last checkpoint but one would have left it, under another name."""
    shutil.copytree(run, copy)
    saved = list_checkpoints(copy)
    for last in saved[len(saved) - lacking :]:
        shutil.rmtree(last.folder)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "config": {**record["config"], "name": copy.name}}))


if __name__ == "__main__":
    main()
