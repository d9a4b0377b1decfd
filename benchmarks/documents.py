"""What masked documents cost on the CPU: a step's seconds with a dense mask and in groups, beside one without masking.

    OMP_NUM_THREADS=1 python -m benchmarks.documents WORKDIR --model 1m --lengths 128,256,512,1024

WORKDIR holds a table `annotated`. Steps of each way are taken in turns, on the same rows; printed are medians of the
process's CPU time, and of the ratio to the dense mask within a turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.gpu import TOY, begin

from toremi_cli import console
from toremi_cli.train.documents import DENSE, GROUPS

OPEN = "not masked"


def main() -> None:
    """Print a row for each length."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--model", default="1m")
    parser.add_argument("--lengths", default="128,256,512,1024", help="tokens a row")
    parser.add_argument("--tokens", type=int, default=4096, help="a step")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    console.set_quiet(True)
    print(f"| rows x tokens | {OPEN} | {DENSE} | {GROUPS} | {GROUPS} over {DENSE} |\n|---|---:|---:|---:|---:|")
    for length in map(int, options.lengths.split(",")):
        rows = max(options.tokens // length, 1)
        taken = measure(options.workdir, options.model, rows, length, options.rounds)
        ratio = statistics.median(b / a for a, b in zip(taken[DENSE], taken[GROUPS], strict=True))
        cells = " | ".join(f"{statistics.median(taken[way]):.3f}" for way in (OPEN, DENSE, GROUPS))
        print(f"| {rows} x {length} | {cells} | {ratio:.2f} |", flush=True)


def measure(workdir: Path, model: str, rows: int, length: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of a step of each way, one a round; the order turns with the round."""
    size, turns = replace(TOY, rows=rows, context_length=length), {}
    for way in (OPEN, DENSE, GROUPS):
        run, turns[way] = begin(workdir, model, size, {"mask_documents": way != OPEN, "optimizer": "adamw"})
        run.builder.documents = DENSE if way == OPEN else way
        turns[way](1)
    taken: dict[str, list[float]] = {way: [] for way in turns}
    for number in range(rounds):
        for way in sorted(turns, reverse=bool(number % 2)):
            start = time.process_time()
            turns[way](1)
            taken[way].append(time.process_time() - start)
    return taken


if __name__ == "__main__":
    main()
