"""What the runs came to, in one table, a number a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.evidence.corpora import UNSEEN
from benchmarks.evidence.grid import Arm, Cell, Preset, cells
from benchmarks.evidence.rates import chosen_rate
from benchmarks.evidence.runs import is_measured
from benchmarks.evidence.scores import clean_bits, noisy_sources, run_of

from toremi_cli.evaluate.bootstrap import DocumentScores, tokens_to_reach
from toremi_cli.evaluate.noise import NoiseReport, judge
from toremi_cli.evaluate.run_facts import RunFacts, read_facts
from toremi_cli.schemas import TEST

BASELINE = "uniform"


@dataclass
class Measured:
    """Bits per byte of one held-out text."""

    final: dict[str, float]
    """By source; 'macro' and 'micro' over the clean ones."""
    curve: list[tuple[int, float]]
    """Tokens and 'macro' of each measured checkpoint."""
    scores: DocumentScores
    """What `final` sums up."""


@dataclass
class Result:
    """One run."""

    cell: Cell
    learning_rate: float
    test: Measured
    """On the test split: other pieces of documents that were trained on, where a source is a few documents in all."""
    num_tokens: int
    tokens_per_second: float
    unseen: Measured | None = None
    """On documents of which nothing was in the corpus, of the sources that have enough."""
    saved: float = math.nan
    """Share of the baseline's tokens (same seed) that was left when its final headline was reached; nan: never."""
    noise: NoiseReport | None = None
    noisy_sources: set[str] = field(default_factory=set)
    validation: list[tuple[int, float]] = field(default_factory=list)
    """Tokens and macro bits per byte (all sources) in the run."""

    @property
    def headline(self) -> Measured:
        """What is reported first: unseen documents, where there are any."""
        return self.unseen or self.test


def collect(preset: Preset, out: Path) -> list[Result]:
    """All measured cells, each beside the baseline of the same arm and seed."""
    found = []
    for cell in cells(preset):
        if is_measured(cell, out):
            rate = cell.rate or (chosen_rate(cell.arm, cell.tuned_as, out) if preset.tune else 1.0)
            found.append(_result(cell, out, rate * preset.learning_rate))
    baseline = baseline_label([result.cell.label for result in found])
    base = {(r.cell.arm, r.cell.seed): r for r in found if r.cell.label == baseline}
    for result in found:
        if (partner := base.get((result.cell.arm, result.cell.seed))) is not None:
            result.saved = saved(result, partner)
    return found


def baseline_label(labels: Sequence[str]) -> str:
    """What others are compared with: `uniform`, or where it is there at a given rate only, that one."""
    given = (label for label in labels if label.startswith(f"{BASELINE}@"))
    return BASELINE if BASELINE in labels else next(given, BASELINE)


def saved(result: Result, base: Result, on: Callable[[Result], Measured] = attrgetter("headline")) -> float:
    """Share of the baseline's tokens that were not needed for its final macro value; below 0 is impossible: nan."""
    tokens, values = zip(*on(result).curve, strict=True)
    target = np.array([on(base).final["macro"]])
    return 1 - float(tokens_to_reach(tokens, np.array(values)[:, None], target)[0]) / base.num_tokens


def _result(cell: Cell, out: Path, learning_rate: float) -> Result:
    run, truth = run_of(cell, out)
    facts = read_facts(run, TEST)
    noisy = noisy_sources(truth)
    result = Result(
        cell,
        learning_rate,
        _measured(facts, noisy),
        facts.tokens,
        facts.tokens / facts.seconds,
        noisy_sources=noisy,
        validation=_validation(facts),
    )
    unseen = read_facts(run, f"{cell.arm.corpus}-{UNSEEN}")
    if unseen.final is not None:
        result.unseen = _measured(unseen, noisy)
    if truth is not None:
        result.noise = judge(run, truth, TEST)
    return result


def _measured(facts: RunFacts, noisy: set[str]) -> Measured:
    assert facts.final is not None
    curve = [(tokens, clean_bits(scores, noisy)["macro"]) for tokens, scores in facts.series]
    return Measured(clean_bits(facts.final, noisy), curve, facts.final)


def _validation(facts: RunFacts) -> list[tuple[int, float]]:
    course = facts.history.metrics[("eval_bits_per_byte", "macro")]
    return list(zip(course.tokens.tolist(), course.values.tolist(), strict=True))


def rows_of(result: Result) -> Iterator[dict[str, object]]:
    """The result as rows of the table."""
    arm: Arm = result.cell.arm
    head = {
        "corpus": arm.corpus, "topics": arm.topics, "noise": arm.noise, "kind": arm.kind if arm.noise else "",
        "policy": result.cell.label, "seed": result.cell.seed, "learning_rate": result.learning_rate,
    }  # fmt: skip
    for text, measured in (("test", result.test), (UNSEEN, result.unseen)):
        if measured is None:
            continue
        for domain, value in measured.final.items():
            metric = f"{text}_bits_per_byte"
            yield {**head, "tokens": result.num_tokens, "metric": metric, "domain": domain, "value": value}
        for tokens, value in measured.curve:
            yield {**head, "tokens": tokens, "metric": f"{text}_curve", "domain": "macro", "value": value}
    for tokens, value in result.validation:
        yield {**head, "tokens": tokens, "metric": "validation_curve", "domain": "macro", "value": value}
    single = {
        "compute_saved": result.saved,
        "tokens_per_second": result.tokens_per_second,
    }
    if result.noise is not None:
        single |= {"noise_auroc": result.noise.auroc, "noise_taken": result.noise.noise_taken}
    for metric, value in single.items():
        yield {**head, "tokens": result.num_tokens, "metric": metric, "domain": "all", "value": value}


def write_results(results: list[Result], path: Path) -> None:
    """Write the one table of all results."""
    table = pa.Table.from_pylist([row for result in results for row in rows_of(result)])
    pq.write_table(table, path, compression="zstd")
