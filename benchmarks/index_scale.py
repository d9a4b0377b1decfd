"""What the index of a run costs a rank: memory, time to the first batch, time of a batch; mapped, and held in memory.

    python benchmarks/index_scale.py FOLDER [--samples 1000000 10000000 100000000] [--stored-up-to 10000000]

Synthetic corpora of samples of 128 tokens on average, 41 labels, one or two a sample; tokens are a file of holes. Each
figure is of processes of their own: two ranks at a time on the mapped index, one that holds index and orders in memory
(as toremi did until 2026-11-29), and one that builds batches of 2^19 tokens by both in turns, as rank 0 of 8. Memory is
`Pss_Anon` of /proc/self/smaps_rollup, less what the process had after its imports; pages of files are shared by the
ranks and given back when others need them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from toremi_cli.files import read_json, write_json
from toremi_cli.lm.streams import permutation
from toremi_cli.reweight import PolicyConfig
from toremi_cli.reweight.strata import chunks_of
from toremi_cli.schemas import TRAIN
from toremi_cli.train.adaptive_sampling import AdaptiveSampling
from toremi_cli.train.evaluation import choose_samples
from toremi_cli.train.index import SampleIndex, TopicPairs, build_index
from toremi_cli.train.index_folder import index_folder, open_index
from toremi_cli.train.loader import BatchBuilder
from toremi_cli.train.npy import NpyAppender
from toremi_cli.train.order import SampleOrder, shuffled_order
from toremi_cli.train.packing import RowStream
from toremi_cli.train.tokenizing import ARRAYS
from toremi_cli.train.tokens import TokenCache

MODE, NUM_LABELS, NUM_SOURCES, MEAN_LENGTH = "labels", 41, 16, 128
ROWS, ROW_LENGTH, WORLD_SIZE = 512, 1024, 8
BATCHES = 20


class StoredOrder(SampleOrder):
    """The same draws, each stratum's order of an epoch a permutation in memory."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.orders: dict[tuple[int, int], np.ndarray] = {}

    def _samples(self, strata: np.ndarray, ordinals: np.ndarray) -> np.ndarray:
        epochs, positions = np.divmod(ordinals, self.sizes[strata])
        found = np.empty(len(strata), np.int64)
        order = np.lexsort((epochs, strata))
        new_run = (np.diff(strata[order]) != 0) | (np.diff(epochs[order]) != 0)
        for draws in np.split(order, np.flatnonzero(new_run) + 1):
            found[draws] = self._epoch_order(int(strata[draws[0]]), int(epochs[draws[0]]))[positions[draws]]
        return found

    def _epoch_order(self, stratum: int, epoch: int) -> np.ndarray:
        if (stratum, epoch) not in self.orders:
            begin, size = int(self._begins[stratum]), int(self.sizes[stratum])
            order = permutation(size, int(self._key), stratum, epoch)
            self.orders[stratum, epoch] = self.samples[begin : begin + size][order]
        return self.orders[stratum, epoch]


class StoredShuffle(StoredOrder):
    """Every sample once an epoch, by one permutation of all."""

    def take(self, num_tokens: int) -> np.ndarray:
        begin = self.draws.index
        ahead = self._epoch_order(0, 0)[begin : begin + num_tokens // 2 + 1]
        count = int(np.searchsorted(np.cumsum(self.num_predicted(ahead)), num_tokens)) + 1
        self.draws.index += count
        return ahead[:count]


def write_corpus(folder: Path, num_samples: int) -> None:
    """The arrays of a token cache, without the tokens themselves."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    arrays = {name: NpyAppender(folder / f"{name}.npy", dtype) for name, dtype in ARRAYS.items()}
    share = 1 / np.arange(1, NUM_LABELS + 1)
    edges, end = np.cumsum(share / share.sum()), 0
    for part in chunks_of(num_samples):
        n = part.stop - part.start
        length = generator.integers(16, 2 * MEAN_LENGTH - 16, n)
        ends = end + np.cumsum(length + 1)
        count = 1 + (generator.random(n) < 0.5)
        label = np.minimum(np.searchsorted(edges, generator.random((n, 2))), NUM_LABELS - 2)
        label[:, 1] += label[:, 1] >= label[:, 0]
        values = {
            "offset": ends - length - 1, "length": length, "num_bytes": 4 * length, "labels_count": count,
            "source": generator.integers(0, NUM_SOURCES, n), "split": generator.random(n) < 0.01,
            "labels_topic": label[np.arange(2) < count[:, None]], "fine_topic": np.full(n, -1),
        }  # fmt: skip
        for name, array in values.items():
            arrays[name].append(array)
        end = int(ends[-1])
    for appender in arrays.values():
        appender.close()
    with (folder / "tokens.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"shape": (end,), "fortran_order": False, "descr": "<u2"})
        file.truncate(file.tell() + 2 * end)
    names = {"labels": [f"l{k}" for k in range(NUM_LABELS)], "sources": [f"s{k}" for k in range(NUM_SOURCES)]}
    meta = {**names, "fine_names": [], "crowding": None, "fingerprint": str(num_samples), "eos_id": 0, "absent": []}
    write_json(folder / "meta.json", meta)


def private_mb() -> float:
    """Memory of this process that no file stands behind."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:")) / 1e3


def in_memory(cache: TokenCache) -> SampleIndex:
    """The index as a rank would hold it that maps nothing."""
    cache.__dict__["length"] = np.array(cache.length)
    counted = np.concatenate([cache.is_of(TRAIN, part) for part in chunks_of(len(cache.length))])
    count, topic = np.array(cache.array("labels_count")), np.array(cache.array("labels_topic"))
    pairs = TopicPairs(
        cache.meta["labels"], np.concatenate([[0], np.cumsum(count)]), topic, np.ones(len(topic), np.float32)
    )
    return build_index(pairs, cache.length, counted=counted)


def builders(cache: TokenCache, index: SampleIndex, stored: bool) -> dict[str, BatchBuilder]:
    """What builds batches, drawn by strata and shuffled."""
    drawn = AdaptiveSampling(index, cache.length, PolicyConfig(), "fp", 0, corrects_loss=False).order
    every = shuffled_order(index.samples, cache.length, "fp", 0)
    if stored:
        both = (StoredOrder, drawn), (StoredShuffle, every)
        drawn, every = (kind(o.samples, o.sizes, o.length, o.draws.shares, "fp", 0) for kind, o in both)
    ranks = {"batch_size": ROWS, "world_size": WORLD_SIZE, "rank": 0, "num_micro_steps": 1}
    return {
        name: BatchBuilder(cache, index, RowStream(order, ROW_LENGTH), **ranks)
        for name, order in (("drawn", drawn), ("shuffled", every))
    }


def rank(cache: TokenCache, stored: bool) -> dict[str, float]:
    """One rank's start and its first batches: by strata, which costs the most."""
    before, begin, begin_cpu = private_mb(), time.perf_counter(), time.process_time()
    index = in_memory(cache) if stored else open_index(cache, MODE)
    choose_samples(cache, 100)
    builder = builders(cache, index, stored)["drawn"]
    builder.next_batch()
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    for _ in range(BATCHES):
        builder.next_batch()
    return {"first batch, s": seconds, "CPU s": cpu, "private MB": private_mb() - before, "of the program": before}


def turns(cache: TokenCache) -> dict[str, float]:
    """Milliseconds of a batch, by both ways in turns."""
    other = TokenCache(cache.folder, cache.meta, cache.tokenizer)
    both = {"computed": builders(cache, open_index(cache, MODE), False)}
    both["stored"] = builders(other, in_memory(other), True)
    found: dict[str, list[float]] = {}
    for _ in range(BATCHES):
        for way, made in both.items():
            for name, builder in made.items():
                begin = time.process_time()
                builder.next_batch()
                found.setdefault(f"{name}, {way}, ms", []).append(1e3 * (time.process_time() - begin))
    return {name: median(values[2:]) for name, values in found.items()}


def make(cache: TokenCache) -> dict[str, float]:
    """Make the index, once for all ranks."""
    before, begin = private_mb(), time.process_time()
    open_index(cache, MODE)
    seconds = time.process_time() - begin
    size = sum(path.stat().st_size for path in index_folder(cache.folder, MODE).iterdir())
    return {
        "index made, CPU s": seconds,
        "private MB": private_mb() - before,
        "bytes a sample": size / len(cache.length),
    }


WORK = {"make": make, "rank": lambda c: rank(c, False), "stored": lambda c: rank(c, True), "turns": turns}


def processes(folder: Path, work: str, number: int = 1) -> list[dict[str, float]]:
    """What processes that do the same at the same time say."""
    command = [sys.executable, __file__, str(folder), "--work", work]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
    return [json.loads(process.communicate()[0]) for process in started]


def main() -> None:
    """Print a line a process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, nargs="+", default=[10**6, 10**7, 10**8])
    parser.add_argument("--stored-up-to", type=int, default=10**7)
    parser.add_argument("--work", choices=list(WORK), help="do this on the corpus in FOLDER")
    arguments = parser.parse_args()
    if arguments.work:
        cache = TokenCache(arguments.folder, read_json(arguments.folder / "meta.json"), arguments.folder)
        print(json.dumps(WORK[arguments.work](cache)))
        return
    for num_samples in arguments.samples:
        folder = arguments.folder / str(num_samples)
        if not folder.exists():
            write_corpus(folder, num_samples)
        todo = [("make", 1), ("rank", 2)] + [("stored", 1), ("turns", 1)] * (num_samples <= arguments.stored_up_to)
        for work, number in todo:
            for found in processes(folder, work, number):
                shown = ", ".join(f"{name} {value:,.1f}" for name, value in found.items())
                print(f"{num_samples:>12,} {work:>7}: {shown}", flush=True)


if __name__ == "__main__":
    main()
