"""The outcomes of one set as Markdown."""

from __future__ import annotations

import math

import numpy as np
from benchmarks.topic_quality.scores import (
    COVERAGES,
    Coherence,
    Outcome,
    paired_differences,
    precision_by_coverage,
    quality,
)

SHOWN = ("K", "AMI", "NMI", "purity", "NPMI", "diversity", "seconds", "MB")


def render(name: str, labels: np.ndarray, coherence: Coherence, by_seed: list[dict[str, dict[str, Outcome]]]) -> str:
    """Tables at equal and own K, of `fused` on each vectors less the others, and of precision by agreement."""
    lines = [f"\n## {name}: {len(labels):,} documents, {len(set(labels))} labels\n"]
    for kind in by_seed[0]:
        several = {
            row: [outcomes[kind][row] for outcomes in by_seed if row in outcomes[kind]] for row in by_seed[0][kind]
        }
        lines += [f"| {kind} | " + " | ".join(SHOWN) + " |", "|---|" + "---:|" * len(SHOWN)]
        for row, outcomes in several.items():
            for outcome in outcomes:
                if len(outcome.topic):
                    outcome.scores |= quality(outcome, labels) | coherence.of(outcome)
            lines.append(f"| {row} | " + " | ".join(_cell(key, outcomes) for key in SHOWN) + " |")
        lines += ["", *_differences(kind, several, labels)]
    return "\n".join(lines + _coverage(by_seed, labels))


def _differences(kind: str, several: dict[str, list[Outcome]], labels: np.ndarray) -> list[str]:
    most = max(map(len, several.values()))
    compared = {row: found for row, found in several.items() if len(found) == most and len(found[0].topic)}
    fused = [row for row in compared if row.startswith("fused")]
    if not fused:
        return []
    lines = [
        f"| AMI, {kind} | " + " | ".join(f"{row}, less it" for row in fused) + " |",
        "|---|" + "---:|" * len(fused),
    ]
    less = {ours: paired_differences(compared, ours, labels) for ours in fused}
    for row in compared:
        cells = [_interval(less[ours][row]) if row != ours else "" for ours in fused]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _coverage(by_seed: list[dict[str, dict[str, Outcome]]], labels: np.ndarray) -> list[str]:
    lines = ["| precision, by coverage | " + " | ".join(f"{share:.0%}" for share in COVERAGES) + " |"]
    lines.append("|---|" + "---:|" * len(COVERAGES))
    for row in by_seed[0]["equal K"]:
        if row.startswith("fused"):
            found = [precision_by_coverage(outcomes["equal K"][row], labels) for outcomes in by_seed]
            lines.append(f"| {row} | " + " | ".join(f"{p:.3f}" for p in np.mean(found, axis=0)) + " |")
    return lines


def _interval(difference: dict[str, float]) -> str:
    return f"{difference['mean']:+.3f} ({difference['low']:+.3f} to {difference['high']:+.3f})"


def _cell(key: str, outcomes: list[Outcome]) -> str:
    values = [outcome.scores[key] for outcome in outcomes if not math.isnan(outcome.scores.get(key, math.nan))]
    if not values:
        return ""
    if key in ("K", "seconds", "MB"):
        return f"{np.median(values):.0f}"
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}" if key == "AMI" else f"{np.mean(values):.3f}"
