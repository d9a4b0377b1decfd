"""Calls of `toremi`, as a user would make them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ONE_RANK = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}


def toremi(*arguments: object, one_rank: bool = False, flags: tuple[str, ...] = ("--json", "--quiet")) -> Any:
    """Run a command; return the JSON that it prints.

    `one_rank` trains in the command's own process, as under torchrun: a launcher takes longer to start than a small run
    takes to train.

    Raises:
        SystemExit: the command failed; its own message has been printed.
    """
    environment = os.environ | (ONE_RANK if one_rank else {})
    command = [sys.executable, "-m", "toremi_cli.cli", *map(str, arguments), *flags]
    process = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True)
    if process.returncode:
        raise SystemExit(f"failed ({process.returncode}): toremi {' '.join(map(str, arguments))}")
    return json.loads(process.stdout) if process.stdout.strip() else {}


def run_status(folder: Path) -> str:
    """What a run's own record says: 'finished', another word, or '' where there is none."""
    try:
        return str(json.loads((folder / "run.json").read_text("utf-8")).get("status", ""))
    except (OSError, ValueError):
        return ""
