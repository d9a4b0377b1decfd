"""Task results of several runs side by side: those measured under unlike conditions stand apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from toremi_cli.evaluate.footing import UNRECORDED
from toremi_cli.evaluate.results import read_rows
from toremi_cli.evaluate.run_facts import RunFacts
from toremi_cli.runs.checkpoints import step_of
from toremi_cli.schemas import CONDITIONS, GLUE, TASKS

TASK_SUITES = {TASKS: "", GLUE: f"{GLUE}/"}
"""Suites of table `eval` that are tasks, and what their names get in front."""
Value = tuple[float, float]
"""A value and its standard error, nan where there is none."""
_Variant = tuple[str, ...]
"""What a number was measured under: conditions, number of items and, if it was not the run's last, the step."""


def task_values(facts: Sequence[RunFacts]) -> tuple[list[dict[str, Value]], list[str]]:
    """Each run's task results by 'piqa accuracy' (fine-tuned: 'glue/cola mcc'), and what a reader must know of them.

    Of a task that was measured under several conditions those are taken that all runs share. Without such, or where
    they share several, each has a name of its own: 'piqa accuracy (limit 100)'.
    """
    found = [_of_run(run) for run in facts]
    variants: dict[str, list[_Variant]] = {}
    for name, variant in dict.fromkeys(key for values in found for key in values):
        variants.setdefault(name, []).append(variant)
    for name, several in variants.items():
        shared = [v for v in several if all((name, v) in values for values in found)]
        variants[name] = shared or several
    labels = {(name, v): _label(name, v, several) for name, several in variants.items() for v in several}
    named = [{labels[key]: value for key, value in values.items() if key in labels} for values in found]
    notes: dict[str, list[str]] = {}
    for name, several in variants.items():
        if len(several) > 1:
            notes.setdefault("; ".join(", ".join(v) for v in several), []).append(name)
    return named, [f"{', '.join(names)}: measured under unlike conditions ({how})" for how, names in notes.items()]


def _of_run(run: RunFacts) -> dict[tuple[str, _Variant], Value]:
    """Under each conditions the results of the last checkpoint that was measured under them."""
    latest: dict[tuple[str, str, int], tuple[int, Value]] = {}
    for row in read_rows(run.run):
        step = step_of(row["checkpoint"])
        if row["suite"] not in TASK_SUITES or step is None:
            continue
        key = (f"{TASK_SUITES[row['suite']]}{row['domain']} {row['metric']}", row[CONDITIONS], row["num_samples"])
        if key not in latest or step >= latest[key][0]:
            latest[key] = (step, (row["value"], math.nan if row["stderr"] is None else row["stderr"]))
    found = {}
    for (name, conditions, num_items), (step, value) in latest.items():
        parts = [*(conditions or UNRECORDED).split(", "), f"{num_items:,} items"]
        if step < run.step:
            parts.append(f"step {step:,}")
        found[name, tuple(parts)] = value
    return found


def _label(name: str, variant: _Variant, variants: Sequence[_Variant]) -> str:
    """The name, with what sets this variant apart from the others."""
    if len(variants) == 1:
        return name
    own = [part for part in variant if not all(part in other for other in variants)]
    return f"{name} ({', '.join(own) or 'to the end'})"
