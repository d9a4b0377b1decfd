"""Starting the ranks: `accelerate launch` as a child process, its signals, its exit code, its errors in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any

from toremi_cli import console
from toremi_cli.errors import TrainingError, UsageError
from toremi_cli.train import outcome
from toremi_cli.train.config import TrainConfig

KEPT_LINES = 400
WORKER = "toremi_cli.train.worker"


def is_launched() -> bool:
    """Whether this process is a rank already (torchrun, srun with torch's variables, accelerate launch)."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


def num_gpus() -> int:
    """GPUs of this machine; torch is asked only where there may be one."""
    if not any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")):
        return 0
    import torch

    return torch.cuda.device_count()


def resolve_devices(config: TrainConfig) -> tuple[int, int]:
    """(GPUs, processes) that a run uses on this machine.

    Raises:
        UsageError: more GPUs than there are, processes asked for beside GPUs, or more of them than CPU cores.
    """
    found = num_gpus() if config.gpus != 0 else 0
    if config.gpus > found:
        raise UsageError(
            f"--gpus {config.gpus}: this machine has {found}; use --gpus {found}"
            + ("" if found else " --processes N to train on the CPU")
        )
    gpus = found if config.gpus < 0 else config.gpus
    if gpus and config.processes > 1:
        raise UsageError(f"--processes {config.processes}: with GPUs, each gets one process; use --gpus or --gpus 0")
    cores = os.cpu_count() or 1
    if not gpus and config.processes > cores:
        raise UsageError(f"--processes {config.processes}: this machine has {cores} CPU cores; use --processes {cores}")
    return gpus, gpus or config.processes


def launch(config: TrainConfig, resume: bool) -> dict[str, Any]:
    """Run the ranks in child processes and wait for them; return the outcome of the run.

    Raises:
        UsageError: more GPUs than there are.
        TrainingError: what stopped the run, as the worker said it.
        KeyboardInterrupt: Ctrl-C before the run had begun.
    """
    gpus, processes = resolve_devices(config)
    with tempfile.TemporaryDirectory(prefix="toremi-") as name:
        folder = Path(name)
        request = folder / "request.json"
        request.write_text(json.dumps({"config": {**config.to_json(), "gpus": gpus}, "resume": resume}))
        command = accelerate_command(config, gpus, processes, request)
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # the lifeline: workers end when this end of it closes
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=_environment(folder, gpus, processes),
            start_new_session=True,
        )
        assert child.stderr is not None
        with _forwarding(child, folder) as signals:
            last_lines = _pass_on(child.stderr, folder, show_all=config.debug)
            child.wait()
        found = outcome.read(folder)
        if found is None:
            if signals:
                raise KeyboardInterrupt
            raise TrainingError(_death(child.returncode, last_lines))
    if "error" in found:
        error = UsageError if found["exit_code"] == UsageError.exit_code else TrainingError
        raise error(found["error"])
    return found


def accelerate_command(config: TrainConfig, gpus: int, processes: int, request: Path) -> list[str]:
    """The command line of `accelerate launch`.

    Every key option is passed, since accelerate silently merges the user's default config otherwise.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    if config.accelerate_config:
        command += ["--config_file", config.accelerate_config]
    else:
        command += ["--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no"]
        command += ["--dynamo_backend", "no", "--main_process_port", "0"]
        if processes > 1:
            command += ["--multi_gpu"]  # also for gloo on the CPU: the only way to several processes on one machine
        elif gpus == 0:
            command += ["--cpu"]
    return [*command, "--quiet", "-m", WORKER, "--config", str(request)]


def _environment(folder: Path, gpus: int, processes: int) -> dict[str, str]:
    env = {**os.environ, outcome.LAUNCH_FOLDER_ENV: str(folder)}
    if gpus == 0:
        env["ACCELERATE_USE_CPU"] = "true"
        env.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // processes, 1)))
    if console.err.is_terminal:
        # The worker's stderr is a pipe to us, but what it prints ends on this terminal.
        env |= {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "COLUMNS": str(console.err.width)}
    return env


@contextmanager
def _forwarding(child: subprocess.Popen[bytes], folder: Path) -> Iterator[list[int]]:
    """Pass SIGTERM and SIGINT on to the workers while the block runs; a second one ends everything."""
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        workers = [int(path.read_text() or 0) for path in folder.glob("pid-*")]
        if len(received) == 1 and workers:
            console.note("stopping at the next step; once more to stop at once")
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, number if len(received) == 1 else signal.SIGKILL)
        if not workers or len(received) > 1:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(stream: IO[bytes], folder: Path, show_all: bool) -> list[str]:
    """Copy the workers' stderr to ours until it ends; return the last lines.

    Once a worker has reported, what follows is the launcher's traceback about it, which only `show_all` shows.
    """
    last: deque[str] = deque(maxlen=KEPT_LINES)
    for chunk in iter(lambda: os.read(stream.fileno(), 65536), b""):
        last.extend(chunk.decode("utf-8", "replace").splitlines())
        if show_all or not (folder / outcome.OUTCOME).exists():
            sys.stderr.buffer.write(chunk)
            sys.stderr.buffer.flush()
    return list(last)


def _death(code: int, last_lines: list[str]) -> str:
    """One line about a worker that died without a word."""
    if code < 0 or code in (128 + signal.SIGKILL, 1):
        hint = next((line.strip() for line in reversed(last_lines) if "Signal" in line or "Error" in line), "")
    else:
        hint = next((line.strip() for line in reversed(last_lines) if line.strip()), "")
    return f"the training process died (exit code {code}{': ' + hint if hint else ''}); go on with --resume"
