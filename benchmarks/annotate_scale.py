"""What annotation costs as the corpus grows: rates, peak memory and disk of each stage at 10k, 100k and 1M samples.

    python benchmarks/annotate_scale.py TEXT… [--sizes 10000 100000 1000000] [--words 80] [--dir DIR] [--json FILE]

TEXT are JSONL files (.jsonl, .jsonl.zst) of real documents with `text` and, if they like, `source`, or folders of
such. Samples are made of them by drawing a passage with replacement and shuffling its sentences, so that any number of
different ones can be had with the words of real text; a smaller corpus is the beginning of a larger one. Each stage
runs as a user runs it, a process of its own, on one thread; rates are samples a CPU second, which other users of the
machine don't slow. Exits with 1 where memory or time grows faster than it may.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STAGES = {"embed": "embeddings", "cluster": "clusters", "annotate": "annotated"}
"""Each stage and the table that its manifest stands in."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")
DOCUMENTS_A_FILE = 50_000
PASSAGE = 40
"""Sentences around a drawn one that a sample is shuffled from: about a page, so that a sample has a topic."""
SHORTEST, LONGEST = 4, 60
"""Words of a sentence that is used; lists and tables come as one endless sentence."""
MOST_MEMORY, MOST_TIME = 1.3, 1.1
"""Peak memory at the largest size relative to the one before it; time relative to that of so many samples."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass
class Cost:
    """What one stage took at one size."""

    stage: str
    num_samples: int
    wall_seconds: float
    cpu_seconds: float
    peak_mb: float
    disk_mb: float

    @property
    def rate(self) -> float:
        """Samples a CPU second."""
        return self.num_samples / self.cpu_seconds


def main() -> None:
    arguments = parse()
    folder = arguments.dir or Path(tempfile.mkdtemp(prefix="annotate-scale-"))
    costs: list[Cost] = []
    for size in sorted(arguments.sizes):
        corpus, workdir = folder / f"corpus-{size}", folder / f"out-{size}"
        if not corpus.exists():
            # in a process of its own: a child counts its parent's memory as its own until it has started
            writer = multiprocessing.get_context("spawn").Process(
                target=write_corpus, args=(arguments.text, corpus, size, arguments.words)
            )
            writer.start()
            writer.join()
            if writer.exitcode:
                sys.exit(writer.exitcode)
        shutil.rmtree(workdir, ignore_errors=True)
        for stage in STAGES:
            costs.append(measure(stage, corpus, workdir))
            print(f"{stage} {size:,}: {costs[-1].wall_seconds:,.0f} s, {costs[-1].peak_mb:,.0f} MB", file=sys.stderr)
            if arguments.json:
                arguments.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=1))
        if not arguments.keep:
            shutil.rmtree(corpus)
            shutil.rmtree(workdir)
    print(render(costs))
    problems = list(violations(costs))
    print("\n" + ("\n".join(problems) if problems else "Memory and time grow as they may."))
    sys.exit(bool(problems))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="+", help="JSONL files of real text, or folders of such")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--words", type=int, default=80, help="words of a sample, about")
    parser.add_argument("--dir", type=Path, help="folder for corpora and tables; default: a temporary one")
    parser.add_argument("--keep", action="store_true", help="leave corpora and tables there")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    return parser.parse_args()


def measure(stage: str, corpus: Path, workdir: Path) -> Cost:
    """Run one stage to its end."""
    command = [sys.executable, "-m", "toremi_cli.cli", stage, "-w", str(workdir), "--workers", "1", "--quiet"]
    cost = read_cost([*command, *([str(corpus)] if stage == "embed" else [])])
    table = workdir / STAGES[stage]
    num_samples = json.loads((table / "_manifest.json").read_text())["num_rows"]
    tables = [table, *([workdir / "samples"] if stage == "embed" else [])]
    disk = sum(path.stat().st_size for folder in tables for path in folder.glob("*.parquet"))
    return Cost(stage, num_samples, **cost, disk_mb=disk / 1e6)


def read_cost(command: Sequence[str], cwd: Path | None = None) -> dict[str, float]:
    """Run a command to its end on one thread: its wall_seconds, cpu_seconds and peak_mb (resident)."""
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", **dict.fromkeys(THREADS, "1")}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, cwd=cwd, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command[:4])} … ended with {process.returncode}")
    unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024  # ru_maxrss is in KiB, on macOS in bytes
    cpu = usage.ru_utime + usage.ru_stime
    return {"wall_seconds": wall, "cpu_seconds": cpu, "peak_mb": usage.ru_maxrss / unit}


def write_corpus(texts: Sequence[Path], corpus: Path, size: int, num_words: int) -> None:
    """Write `size` documents of about `num_words` words as JSONL files, whole or not at all."""
    import zstandard

    sentences, source_of = read_sentences(texts)
    documents = draw_documents(sentences, source_of, size, num_words)
    temporary = corpus.with_name(corpus.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for first in range(0, size, DOCUMENTS_A_FILE):
        with zstandard.open(temporary / f"{first // DOCUMENTS_A_FILE:05d}.jsonl.zst", "wt", encoding="utf-8") as file:
            for number in range(first, min(first + DOCUMENTS_A_FILE, size)):
                source, text = next(documents)
                file.write(json.dumps({"id": f"{number:09d}", "source": source, "text": text}) + "\n")
    temporary.rename(corpus)


def read_sentences(texts: Sequence[Path]) -> tuple[list[str], list[str]]:
    """All sentences in order, and the source of each."""
    sentences: list[str] = []
    source_of: list[str] = []
    for path in (file for text in texts for file in files_of(text)):
        for row in rows_of(path):
            found = [s for s in _SENTENCE_END.split(row["text"]) if SHORTEST <= len(s.split()) <= LONGEST]
            sentences += found
            source_of += [sys.intern(row.get("source") or path.name.split(".")[0])] * len(found)
    return sentences, source_of


def files_of(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*.jsonl*") if p.is_file()) if path.is_dir() else [path]


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    import zstandard

    opened = zstandard.open(path, "rt", encoding="utf-8") if path.suffix == ".zst" else path.open(encoding="utf-8")
    with opened as file:
        yield from map(json.loads, file)


def draw_documents(
    sentences: Sequence[str], source_of: Sequence[str], count: int, num_words: int
) -> Iterator[tuple[str, str]]:
    """Source and text of `count` documents: shuffled sentences of a passage that is drawn with replacement."""
    import numpy as np

    generator = np.random.default_rng(0)
    for _ in range(count):
        middle = int(generator.integers(len(sentences)))
        first = max(0, min(middle - PASSAGE // 2, len(sentences) - PASSAGE))
        chosen: list[str] = []
        missing = num_words
        for place in first + generator.permutation(min(PASSAGE, len(sentences))):
            if missing <= 0:
                break
            if source_of[place] == source_of[middle]:
                chosen.append(sentences[place])
                missing -= len(sentences[place].split())
        yield source_of[middle], " ".join(chosen)


def render(costs: Iterable[Cost]) -> str:
    lines = ["| stage | samples | wall s | CPU s | samples/s | peak RSS MB | bytes a sample |", "|---|" + "---:|" * 6]
    for cost in costs:
        cells = [cost.stage, f"{cost.num_samples:,}", f"{cost.wall_seconds:,.1f}", f"{cost.cpu_seconds:,.1f}"]
        cells += [f"{cost.rate:,.0f}", f"{cost.peak_mb:,.0f}", f"{cost.disk_mb * 1e6 / cost.num_samples:,.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def violations(costs: Sequence[Cost]) -> Iterator[str]:
    """Where the largest size took more memory or time, by the one before it, than it may."""
    for stage in STAGES:
        before, last = ([cost for cost in costs if cost.stage == stage] * 2)[-2:]
        if last.peak_mb > MOST_MEMORY * before.peak_mb:
            yield f"FAILED: {stage}: peak memory {last.peak_mb / before.peak_mb:.2f} times, at most {MOST_MEMORY}"
        growth = last.num_samples / before.num_samples
        if last.cpu_seconds > MOST_TIME * growth * before.cpu_seconds:
            longer = last.cpu_seconds / before.cpu_seconds
            yield f"FAILED: {stage}: {longer:.1f} times the CPU seconds for {growth:.1f} times the samples"


if __name__ == "__main__":
    main()
