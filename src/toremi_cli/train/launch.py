"""Starting the ranks: one as a child, several through `accelerate launch`; their signals, exit code and errors."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any

from toremi_cli import console
from toremi_cli.engine import default_workers
from toremi_cli.errors import TrainingError, UsageError
from toremi_cli.layout import Workdir
from toremi_cli.runs.checkpoints import how_to_go_on
from toremi_cli.runs.record import RUN_FILE
from toremi_cli.train import outcome
from toremi_cli.train.accelerate_config import without_launchers, write_own_config
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.machine import resolve_devices

KEPT_LINES = 400
LAST_WORDS_SECONDS = 3.0
"""How long the other ranks have to end by themselves once one has failed."""
WORKER = "toremi_cli.train.worker"


def launch(config: TrainConfig, resume: bool, overwrite: bool = False) -> dict[str, Any]:
    """Run the ranks in child processes and wait for them; return the outcome of the run.

    Raises:
        UsageError: more GPUs than there are.
        TrainingError: what stopped the run, as the worker said it.
        KeyboardInterrupt: Ctrl-C before the run had begun.
    """
    gpus, processes = resolve_devices(config)
    run = Workdir(Path(config.workdir)).run(config.run_name)
    before = _stamp(run)
    with tempfile.TemporaryDirectory(prefix="toremi-") as name:
        folder = Path(name)
        request = folder / "request.json"
        how = {"resume": resume, "overwrite": overwrite}
        request.write_text(json.dumps({"config": config.to_json(), **how}))
        child = subprocess.Popen(
            launch_command(config, processes, request),
            stdin=subprocess.PIPE,  # the lifeline: workers end when this end of it closes
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # our stdout is for results; on theirs libraries speak (NCCL_DEBUG)
            env=_environment(folder, gpus, processes),
            start_new_session=True,
        )
        assert child.stdout is not None
        with _forwarding(child, folder) as signals:
            last_lines = _pass_on(child.stdout, child, folder, show_all=config.debug)
            child.wait()
        found = outcome.read(folder)
        if found is None:
            if signals:
                raise KeyboardInterrupt
            begun = bool(_worker_pids(folder))
            advice = how_to_go_on(run) if _stamp(run) != before else "run the same command again"
            raise TrainingError(f"{_death(child.returncode, last_lines, begun=begun)}; {advice}")
    if "error" in found:
        error = UsageError if found["exit_code"] == UsageError.exit_code else TrainingError
        raise error(found["error"])
    return found


def launch_command(config: TrainConfig, processes: int, request: Path) -> list[str]:
    """The command line of one rank, or of the launcher that starts several: `accelerate launch`."""
    worker = ["-m", WORKER, "--config", str(request)]
    if processes == 1 and not config.accelerate_config:
        return [sys.executable, *worker]
    config_file = Path(config.accelerate_config or "")
    if not config.accelerate_config:
        config_file = request.with_name("accelerate.json")
        write_own_config(config_file, processes)
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config_file), "--quiet", *worker]


def _environment(folder: Path, gpus: int, processes: int) -> dict[str, str]:
    env = {**without_launchers(os.environ), outcome.LAUNCH_FOLDER_ENV: str(folder)}
    env["PYTHONSAFEPATH"] = "1"  # a file `random.py` where the user happens to be is none of the worker's modules
    if gpus == 0:
        env["ACCELERATE_USE_CPU"] = "true"
    env.setdefault("OMP_NUM_THREADS", str(max(default_workers() // processes, 1)))
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
        workers = _worker_pids(folder)
        if len(received) > 1 or not workers:
            _end(child, folder)
            return
        console.note("stopping at the next step; once more to stop at once")
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(stream: IO[bytes], child: subprocess.Popen[bytes], folder: Path, show_all: bool) -> list[str]:
    """Copy what the workers say to our stderr until all have ended; return the last lines.

    Before there is a worker and once one has reported, it is the launcher that speaks, for the most part in tracebacks,
    which only `show_all` shows. Once a worker has failed, the others may be waiting for it in the middle of an
    exchange: they are ended.
    """
    last: deque[bytes] = deque([b""], maxlen=KEPT_LINES)
    deadline = math.inf
    while True:
        if select.select([stream], [], [], 0.5)[0]:
            chunk = os.read(stream.fileno(), 65536)
            if not chunk:
                return [line.decode("utf-8", "replace") for line in last]
            last.extend((last.pop() + chunk).splitlines(keepends=True))  # a read may end within a line
            if show_all or (_worker_pids(folder) and not (folder / outcome.OUTCOME).exists()):
                sys.stderr.buffer.write(chunk)
                sys.stderr.buffer.flush()
        found = outcome.read(folder)
        if found is not None and "error" in found:
            deadline = min(deadline, time.monotonic() + LAST_WORDS_SECONDS)
        if time.monotonic() > deadline:
            _end(child, folder)
            deadline = math.inf


def _worker_pids(folder: Path) -> list[int]:
    """Those that have said their number; a file that is still empty is none: 0 would mean ourselves."""
    return [int(text) for text in (path.read_text() for path in folder.glob("pid-*")) if text]


def _end(child: subprocess.Popen[bytes], folder: Path) -> None:
    """Kill the workers and what started them."""
    for pid in _worker_pids(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _stamp(run: Path) -> int:
    """When a run's record was written last, 0 where there is none: tells whether a run has begun."""
    with suppress(OSError):
        return (run / RUN_FILE).stat().st_mtime_ns
    return 0


def _death(code: int, last_lines: list[str], begun: bool) -> str:
    """One line about a worker that died without a word, or about what could not start one."""
    if code < 0 or code in (128 + signal.SIGKILL, 1):
        hint = next((line.strip() for line in reversed(last_lines) if "Signal" in line or "Error" in line), "")
    else:
        hint = next((line.strip() for line in reversed(last_lines) if line.strip()), "")
    why = f"exit code {code}{': ' + hint if hint else ''}"
    return f"the training process {'died' if begun else 'could not be started'} ({why})"
