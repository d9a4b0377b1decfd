"""What an action costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def measured(action: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """The action's result and its cost.

    Returns:
        The result, and `seconds` of processor time of this process, which other jobs on the machine hardly change; `MB`
        is the peak of resident memory meanwhile, sampled 50 times a second.
    """
    done, peak = threading.Event(), resident_mb()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.process_time()
    try:
        result = action()
        return result, {"seconds": time.process_time() - start, "MB": peak}
    finally:
        done.set()
        watcher.join()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
