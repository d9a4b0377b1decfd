"""How a worker tells the launcher what became of the run: one small JSON file, whatever stands between them."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

LAUNCH_FOLDER_ENV = "TOREMI_LAUNCH_FOLDER"
OUTCOME = "outcome.json"


def report(outcome: dict[str, Any]) -> None:
    """Leave the outcome for the launcher; the first rank to report wins, since its error is the cause."""
    folder = os.environ.get(LAUNCH_FOLDER_ENV)
    if not folder:
        return
    temporary = Path(folder) / f".outcome-{os.getpid()}"
    temporary.write_text(json.dumps(outcome), encoding="utf-8")
    with suppress(FileExistsError):
        os.link(temporary, Path(folder) / OUTCOME)


def read(folder: Path) -> dict[str, Any] | None:
    """The outcome, None while there is none."""
    with suppress(FileNotFoundError):
        return json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
    return None
