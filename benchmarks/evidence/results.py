"""What the runs came to: in one table, a number a row; and beside the baseline, a run a row."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.evidence.corpora import UNSEEN
from benchmarks.evidence.grid import Arm, Cell, Preset, cells
from benchmarks.evidence.rates import chosen_rate
from benchmarks.evidence.runs import is_measured
from benchmarks.evidence.scores import clean_bits, noisy_sources, run_of

from toremi_cli.evaluate.bootstrap import tokens_to_reach
from toremi_cli.evaluate.noise import NoiseReport, judge
from toremi_cli.evaluate.run_facts import RunFacts, read_facts
from toremi_cli.schemas import TEST

BASELINE = "uniform"


@dataclass
class Result:
    """One run."""

    cell: Cell
    learning_rate: float
    bits_per_byte: dict[str, float]
    """On the test split by source; 'macro' over the clean ones, 'micro' over all."""
    curve: list[tuple[int, float]]
    """Tokens and 'macro' of each measured checkpoint."""
    num_tokens: int
    tokens_per_second: float
    saved: float = math.nan
    """Share of the baseline's tokens (same seed) that was left when its final 'macro' was reached; nan: never."""
    noise: NoiseReport | None = None
    noisy_sources: set[str] = field(default_factory=set)
    unseen_bits_per_byte: float = math.nan
    """Macro over the clean sources on documents of which nothing was in the corpus; nan: not measured."""
    validation: list[tuple[int, float]] = field(default_factory=list)
    """Tokens and macro bits per byte (all sources) in the run."""


def collect(preset: Preset, out: Path) -> list[Result]:
    """All measured cells, each beside the baseline of the same arm and seed."""
    found = []
    for cell in cells(preset):
        if is_measured(cell, out):
            rate = cell.rate or (chosen_rate(cell.arm, cell.base_policy, out) if preset.tune else 1.0)
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


def saved(result: Result, base: Result) -> float:
    """Share of the baseline's tokens that were not needed for its final macro value; below 0 is impossible: nan."""
    tokens, values = zip(*result.curve, strict=True)
    target = np.array([base.bits_per_byte["macro"]])
    return 1 - float(tokens_to_reach(tokens, np.array(values)[:, None], target)[0]) / base.num_tokens


def _result(cell: Cell, out: Path, learning_rate: float) -> Result:
    run, truth = run_of(cell, out)
    facts = read_facts(run, TEST)
    noisy = noisy_sources(truth)
    assert facts.final is not None
    result = Result(
        cell,
        learning_rate,
        clean_bits(facts.final, noisy),
        [(tokens, clean_bits(scores, noisy)["macro"]) for tokens, scores in facts.series],
        facts.tokens,
        facts.tokens / facts.seconds,
        noisy_sources=noisy,
        validation=_validation(facts),
    )
    unseen = read_facts(run, f"{cell.arm.corpus}-{UNSEEN}").final
    if unseen is not None:
        result.unseen_bits_per_byte = clean_bits(unseen, noisy)["macro"]
    if truth is not None:
        result.noise = judge(run, truth, TEST)
    return result


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
    for domain, value in result.bits_per_byte.items():
        yield {**head, "tokens": result.num_tokens, "metric": "test_bits_per_byte", "domain": domain, "value": value}
    for tokens, value in result.curve:
        yield {**head, "tokens": tokens, "metric": "test_curve", "domain": "macro", "value": value}
    for tokens, value in result.validation:
        yield {**head, "tokens": tokens, "metric": "validation_curve", "domain": "macro", "value": value}
    single = {
        "compute_saved": result.saved,
        "unseen_bits_per_byte": result.unseen_bits_per_byte,
        "tokens_per_second": result.tokens_per_second,
    }
    if result.noise is not None:
        single |= {"noise_auroc": result.noise.auroc, "noisy_weight": result.noise.noisy_weight}
    for metric, value in single.items():
        yield {**head, "tokens": result.num_tokens, "metric": metric, "domain": "all", "value": value}


def write_results(results: list[Result], path: Path) -> None:
    """Write the one table of all results."""
    table = pa.Table.from_pylist([row for result in results for row in rows_of(result)])
    pq.write_table(table, path, compression="zstd")


def write_beside(results: list[Result], path: Path) -> None:
    """Write what each run came to beside the baseline at the same seed, as CSV: what docs/results.md shows."""
    baseline = baseline_label([result.cell.label for result in results])
    base = {(r.cell.arm, r.cell.seed): r for r in results if r.cell.label == baseline}
    pairs = ((r, base.get((r.cell.arm, r.cell.seed))) for r in results if r.cell.label != baseline)
    rows = [beside(result, partner) for result, partner in pairs if partner is not None]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0] if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def beside(result: Result, base: Result) -> dict[str, object]:
    """A run beside the baseline's of the same arm and seed; AUROC and weight are empty where nothing is noise."""
    ours, theirs = result.bits_per_byte, base.bits_per_byte
    clean = [name for name in ours if name not in {"macro", "micro"} | result.noisy_sources]
    unseen = result.unseen_bits_per_byte - base.unseen_bits_per_byte
    noise = result.noise
    return {
        "arm": result.cell.arm.name,
        "policy": result.cell.trained_by,
        "seed": result.cell.seed,
        "learning_rate": result.learning_rate,
        "tokens": result.num_tokens,
        "uniform": round(theirs["macro"], 3),
        "difference": round(ours["macro"] - theirs["macro"], 3),
        "saved": round(result.saved, 2),
        "unseen": "" if math.isnan(unseen) else round(unseen, 3),
        "worst_source": round(max(ours[name] / theirs[name] - 1 for name in clean), 3),
        "auroc": "" if noise is None else round(noise.auroc, 2),
        "noisy_weight": "" if noise is None else round(noise.noisy_weight, 2),
    }
