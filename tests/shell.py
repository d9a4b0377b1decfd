"""Running `toremi` as a user does: a real process, its exit code and both of its streams."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from tests import forks
from toremi_cli.cli import app


def environment(**extra: str) -> dict[str, str]:
    """The environment of a shell 80 columns wide, without a terminal."""
    return {**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", **extra}


def toremi(*arguments: str | Path, cwd: Path | None = None, timeout: float = 300, **env: str):
    """Run the console command; return the finished process with text streams."""
    command = ["-m", "toremi_cli.cli", *map(str, arguments)]
    if all(name.startswith(forks.READ_LATE) for name in env):
        return forks.run(command, cwd, environment(**env), timeout)
    # What is read when Python or a library starts needs a process that nothing was imported in.
    command = [sys.executable, *command]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=timeout, env=environment(**env))


def start(*arguments: str | Path, module: str = "toremi_cli.cli", cwd: Path | None = None, **env: str) -> forks.Process:
    """The console command, or another module, while it runs; `env` holds what is read late (see `forks.READ_LATE`)."""
    return forks.Process(["-m", module, *map(str, arguments)], cwd, environment(**env))


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The console command within this process: importing torch anew for each call would take most of a test's time."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def assert_one_line_error(process: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Assert a failure that says what is wrong, with all of `parts`, in one line and without a traceback."""
    assert process.returncode != 0, process.stdout
    assert "Traceback" not in process.stderr, process.stderr
    errors = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, process.stderr
    for part in parts:
        assert part in errors[0], errors[0]


def times(*folders: Path) -> dict[Path, int]:
    """When each Parquet file in some folders was written: what a command left alone has the times of before."""
    return {path: path.stat().st_mtime_ns for folder in folders for path in sorted(folder.glob("*.parquet"))}
