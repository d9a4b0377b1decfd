"""How long training stands still for a checkpoint: written at once, and by a thread (`--async-checkpoint`).

    python -m benchmarks.checkpoints [--rounds 3] [--width 512] [--layers 8]

The same run in both ways, in turns, in one process on the CPU; of each, medians over all checkpoints but the last, and
the seconds of the whole, in which the thread takes its share of the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from tests.train.smallrun import MODEL, table, write_workdir

from toremi_cli.runs.checkpoints import list_checkpoints
from toremi_cli.schemas import METRICS
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.worker import run_worker

EVERY, CHECKPOINTS = 8, 4
SMALL = {"context_length": 32, "batch_size": 4, "eval_samples": 0, "log_every": 1, "gpus": 0, "quiet": True}


def train(workdir: Path, name: str, in_thread: bool) -> tuple[list[float], float]:
    """Seconds for which each checkpoint but the last held the steps up, and seconds of the whole run."""
    steps = {"max_steps": EVERY * CHECKPOINTS + EVERY - 1, "checkpoint_every": EVERY, "keep_checkpoints": 1}
    settings = {**SMALL, **steps, "workdir": str(workdir), "model": str(workdir / "model.json")}
    began = time.perf_counter()
    run_worker(TrainConfig(name=name, async_checkpoint=in_thread, **settings), resume=False)
    seconds = time.perf_counter() - began
    rows = table(workdir / "runs" / name, METRICS).to_pylist()
    held_up = [row["value"] for row in rows if row["name"] == "checkpoint_seconds"]
    return [value for value in held_up if value > 0], seconds


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, default in (("--rounds", 3), ("--width", 512), ("--layers", 8)):
        parser.add_argument(flag, type=int, default=default)
    options = parser.parse_args()
    found: dict[bool, list[tuple[list[float], float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        workdir = write_workdir(Path(folder) / "work")
        shape = {**MODEL, "n_embd": options.width, "n_layer": options.layers, "n_head": 8}
        (workdir / "model.json").write_text(json.dumps(shape))
        for number in range(2 * options.rounds):
            name, in_thread = f"run-{number}", number % 2 == 1
            found[in_thread].append(train(workdir, name, in_thread))
            files = list_checkpoints(workdir / "runs" / name)[-1].folder.iterdir()
        size = sum(path.stat().st_size for path in files)
    print(f"checkpoints of {size / 2**20:,.0f} MiB, every {EVERY} steps, {CHECKPOINTS} in a run, and one at its end")
    print("| written | steps stand still, s (first; others: median, all) | the run, s: median, all |")
    for in_thread, runs in found.items():
        first = statistics.median(held_up[0] for held_up, _ in runs)
        others = [value for held_up, _ in runs for value in held_up[1:]]
        totals = [seconds for _, seconds in runs]
        print(
            f"| {'by a thread' if in_thread else 'at once'} | {first:.2f}; {statistics.median(others):.2f} "
            f"({min(others):.2f} to {max(others):.2f}) | {statistics.median(totals):.1f} "
            f"({min(totals):.1f} to {max(totals):.1f}) |"
        )


if __name__ == "__main__":
    main()
