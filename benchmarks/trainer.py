"""What the trainer costs: reweighting over plain training, our loop over a minimal one, packing over padding.

    python benchmarks/trainer.py CORPUS [--model 1m] [--rounds 5] [--steps 10] [--clock wall|cpu] [--json FILE]

CORPUS is any folder of text; each sample's source stands for its topic. All variants train the same model shape on
the same corpus in one process, in turns, a few steps a turn, so that a busy machine slows all alike; the numbers are
medians over the turns, and medians of the ratios within a turn with an interval by bootstrap over the turns. `--clock
cpu` counts this process's CPU seconds: for machines that others use too.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from toremi_cli import console
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.stage import build_samples
from toremi_cli.layout import Workdir
from toremi_cli.provenance import provenance_of
from toremi_cli.schemas import ANNOTATED, SAMPLES
from toremi_cli.stage import StageFolder
from toremi_cli.tables import TableReader
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.device import make_accelerator
from toremi_cli.train.loader import prefetch
from toremi_cli.train.loop import set_learning_rate, train_step, update_weights
from toremi_cli.train.model import build_model, model_config
from toremi_cli.train.optimizers import build_optimizer
from toremi_cli.train.run import Training, assemble
from toremi_cli.train.tokens import TokenCache, open_cache

LEARNING_RATE = 1e-4
FOREVER = 1_000_000
INTERVAL = 20
CONFIDENCE = 0.95
Turn = Callable[[int], int]
"""Trains some steps and returns how many tokens of text it predicted."""


def annotate_by_source(workdir: Workdir) -> None:
    """Make table `annotated` of table `samples`: a sample's source is its topic."""
    reader = TableReader(workdir.samples, SAMPLES)
    folder = StageFolder(
        workdir.annotated, ANNOTATED, provenance_of(ANNOTATED, "benchmark", {}, {"s": reader.fingerprint})
    )
    folder.begin()
    ids: dict[str, int] = {}
    with folder.writer(0) as writer:
        for batch in reader.iter_batches():
            rows = batch.to_pylist()
            for row in rows:
                topic = ids.setdefault(row["source"], len(ids))
                row |= {"topic": topic, "labels": [row["source"]], "probs": [], "agreement": 1.0}
            writer.write(rows)
    folder.finish(1)


def trainer(workdir: Path, policy: str, cache: TokenCache, **settings: Any) -> tuple[Training, Turn]:
    """Our trainer, step by step, with an interval's end every `INTERVAL` steps, without evaluations and checkpoints."""
    config = TrainConfig(
        workdir=str(workdir),
        name=f"bench-{policy}-{settings.get('sensitivity', False)}",
        interval=INTERVAL,
        max_steps=FOREVER,
        learning_rate=LEARNING_RATE,
        policy={"name": policy},
        quiet=True,
        **settings,
    )
    run, _ = assemble(config, make_accelerator(config, workdir), cache, resume=False)
    return run, stepping(run)


def stepping(run: Training) -> Turn:
    """The steps of a run, so many at a time, with an interval's end every `INTERVAL`; returns their tokens."""
    batches = prefetch(run.builder, range(FOREVER), lambda step: True)

    def turn(num_steps: int) -> int:
        for _ in range(num_steps):
            run.window.reset()
            set_learning_rate(run, 1.0)
            train_step(run, next(batches))
            run.step += 1
            if run.step % INTERVAL == 0:
                end_interval(run)
        return num_steps * run.schedule.batch_tokens

    return turn


def end_interval(run: Training) -> None:
    """Update the weights without a folder to write them to."""
    run.weights_table = run.metrics_table = NoTable()  # type: ignore[assignment]
    update_weights(run)


class NoTable:
    """Where the intervals' rows go: a benchmark has no run on disk."""

    def add(self, **row: Any) -> None:
        """Forget a row."""

    def flush(self) -> None:
        """Do nothing."""


def in_memory(cache: TokenCache) -> TokenCache:
    """The same cache with its tokens read into memory, not mapped."""
    copy = TokenCache(cache.folder, cache.meta, cache.tokenizer)
    copy.__dict__["tokens"] = np.array(cache.tokens)
    return copy


def minimal_loop(run: Training) -> Turn:
    """The way of nanoGPT: random windows of one long token array, the model's own mean loss."""
    model, optimizer = fresh_model(run)
    tokens, rows, length = run.cache.tokens, run.schedule.batch_size, run.schedule.context_length
    draw = np.random.default_rng(0)

    def turn(num_steps: int) -> int:
        for _ in range(num_steps):
            begins = draw.integers(len(tokens) - length - 1, size=rows)
            windows = torch.from_numpy(np.stack([tokens[b : b + length + 1] for b in begins]).astype(np.int64))
            windows = windows.to(run.device)
            logits = model(input_ids=windows[:, :-1], use_cache=False).logits
            step(model, optimizer, mean_loss(logits, windows[:, 1:]))
        return num_steps * rows * length

    return turn


def padded_loop(run: Training) -> Turn:
    """The way of the paper's code: a sample a row, filled up to the row's length, padding masked in the loss."""
    model, optimizer = fresh_model(run)
    rows, length, eos = run.schedule.batch_size, run.schedule.context_length, run.cache.meta["eos_id"]
    chunks = padded_chunks(run, length, eos)

    def turn(num_steps: int) -> int:
        useful = 0
        for _ in range(num_steps):
            inputs = torch.full((rows, length), eos)
            targets = torch.full((rows, length), -100)
            for row in range(rows):
                tokens = next(chunks)
                useful += len(tokens) - 1
                inputs[row, : len(tokens) - 1] = tokens[:-1]
                targets[row, : len(tokens) - 1] = tokens[1:]
            logits = model(input_ids=inputs.to(run.device), use_cache=False).logits
            step(
                model,
                optimizer,
                functional.cross_entropy(logits.flatten(0, 1).float(), targets.to(run.device).flatten()),
            )
        return useful

    return turn


def padded_chunks(run: Training, length: int, eos: int) -> Iterator[torch.Tensor]:
    """Samples between end-of-text tokens, cut where they are longer than a row."""
    while True:
        for sample in run.builder.stream.order.take(100_000):  # type: ignore[attr-defined]
            tokens = torch.from_numpy(run.cache.sample_tokens(int(sample)).astype(np.int64))
            whole = functional.pad(tokens, (1, 1), value=eos)
            for begin in range(0, len(whole) - 1, length):
                yield whole[begin : begin + length + 1]


def fresh_model(run: Training) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    shape = model_config(run.config, run.cache.meta["vocab_size"], run.cache.meta["eos_id"])
    model = build_model(run.config, shape).to(run.device)
    optimizer = build_optimizer(model, run.config, run.device)
    for group in optimizer.param_groups:
        group["lr"] = LEARNING_RATE
    return model, optimizer


def mean_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def measure(
    turns: dict[str, Turn], rounds: int, steps: int, clock: Callable[[], float], wait: Callable[[], None]
) -> dict[str, list[float]]:
    """Tokens a second of each variant, one number a round; the order of the variants turns with the round."""
    rates: dict[str, list[float]] = {name: [] for name in turns}
    names = list(turns)
    for name in names:
        turns[name](2)  # warm-up
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            wait()
            start = clock()
            tokens = turns[name](steps)
            wait()
            rates[name].append(tokens / (clock() - start))
    return rates


def report(rates: dict[str, list[float]], facts: dict[str, Any]) -> dict[str, Any]:
    """Print medians and ratios; return them."""
    median = {name: statistics.median(values) for name, values in rates.items()}
    # Ratios within a round, then the median: what slows a whole round cancels out.
    ratio = {
        name: statistics.median(b / a for a, b in zip(values, rates["uniform"], strict=True))
        for name, values in rates.items()
    }
    interval = {name: bootstrap(values, rates["uniform"]) for name, values in rates.items()}
    for key, value in facts.items():
        print(f"{key}: {value}")
    print(f"{'variant':<20}{'tokens/s':>10}{'uniform / it':>14}{f'{CONFIDENCE:.0%} interval':>18}{'spread':>9}")
    for name, values in rates.items():
        low, high = interval[name]
        spread = (np.quantile(values, 0.9) - np.quantile(values, 0.1)) / median[name]
        print(f"{name:<20}{median[name]:>10,.0f}{ratio[name]:>14.3f}{f'{low:.3f} to {high:.3f}':>18}{spread:>9.1%}")
    return {"facts": facts, "tokens_per_second": median, "uniform_over": ratio, "interval": interval, "rates": rates}


def bootstrap(values: list[float], reference: list[float], draws: int = 4000) -> tuple[float, float]:
    """Interval of the median of reference over value within a turn, over resampled turns."""
    ratios = np.array(reference) / np.array(values)
    stream = np.random.default_rng(0)
    medians = np.median(ratios[stream.integers(len(ratios), size=(draws, len(ratios)))], axis=1)
    low, high = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the trainer costs.")
    parser.add_argument("corpus")
    parser.add_argument("--workdir", type=Path, help="keep the tables here (default: a temporary folder)")
    parser.add_argument("--model", default="1m")
    parser.add_argument("--rows", type=int, help="rows a step (default: the preset's)")
    parser.add_argument("--context-length", type=int, help="tokens a row (default: the preset's)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    console.set_quiet(True)
    with tempfile.TemporaryDirectory() as temporary:
        workdir = Workdir(arguments.workdir or Path(temporary))
        if not workdir.annotated.exists():
            build_samples(arguments.corpus, workdir, CorpusConfig())
            annotate_by_source(workdir)
        cache = open_cache(workdir.root, workdir.annotated, workdir.tokenizer)
        settings = {"model": arguments.model, "batch_size": arguments.rows, "context_length": arguments.context_length}
        runs = {p: trainer(workdir.root, p, cache, **settings) for p in ("uniform", "toremi-2", "toremi")}
        runs["toremi, sensitivity"] = trainer(workdir.root, "toremi", cache, sensitivity=True, **settings)
        runs["from memory"] = trainer(workdir.root, "uniform", in_memory(cache), **settings)
        run = runs["uniform"][0]
        turns = {name: turn for name, (_, turn) in runs.items()}
        turns |= {"minimal loop": minimal_loop(run), "padded": padded_loop(run)}
        on_gpu = run.device.type == "cuda"
        wait = torch.cuda.synchronize if on_gpu else lambda: None
        clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
        rates = measure(turns, arguments.rounds, arguments.steps, clock, wait)
        lengths = cache.length[run.builder.stream.order.samples]
        facts = {
            "model": f"{arguments.model}, {sum(p.numel() for p in run.model.parameters()):,} parameters",
            "rows": f"{run.schedule.batch_size} x {run.schedule.context_length} tokens",
            "samples": f"{len(lengths):,}, median {int(np.median(lengths))} tokens, mean {math.ceil(lengths.mean())}",
            "device": torch.cuda.get_device_name()
            if on_gpu
            else f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
            "torch": torch.__version__,
            "clock": arguments.clock,
            "rounds": f"{arguments.rounds} x {arguments.steps} steps",
        }
        result = report(rates, facts)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
