"""Putting runs on one footing before they are compared: the same conditions, and the same step or the end of each."""

from __future__ import annotations

from collections.abc import Sequence

from toremi_cli.evaluate.run_facts import RunFacts

UNRECORDED = "conditions that were not recorded"


def put_on_one_footing(facts: Sequence[RunFacts]) -> list[str]:
    """Judge all runs by numbers measured under the same conditions and, if not each at its end, at the same step.

    Where that can't be had, each is judged by its newest numbers; `why_unlike` then says so of each two.

    Returns:
        what a reader must know, in words.
    """
    measured = [run for run in facts if run.measured]
    shared = [c for c in measured[0].measured if all(c in run.measured for run in measured)] if measured else []
    if not shared:
        return []
    conditions = shared[-1]
    for run in measured:
        run.judge_by(conditions)
    if all(is_at_its_end(run) for run in measured):
        return []
    common = set.intersection(*(set(run.measured[conditions]) for run in measured))
    early = [run for run in measured if not is_at_its_end(run)]
    names = ", ".join(f"{run.name} at step {run.final_step:,} of {run.step:,}" for run in early)
    if not common:
        return [f"measured before their end: {names}"]
    step = max(common)
    for run in measured:
        run.judge_by(conditions, step)
    return [f"last measured before their end: {names}; all are compared as they were at step {step:,}"]


def is_at_its_end(run: RunFacts) -> bool:
    """Whether the run is judged by its last step; the last that it logged may be a few before it."""
    return run.final_step >= run.step


def why_unlike(run: RunFacts, other: RunFacts) -> str | None:
    """Why the numbers of two measured runs can't be compared, and what to do; None where they can."""
    if run.conditions != other.conditions:
        under = [f"{r.name} under {r.conditions or UNRECORDED}" for r in (other, run)]
        return f"measured {under[0]}, {under[1]}: no difference is given; run `toremi eval` on both with the same flags"
    if run.final_step != other.final_step and not (is_at_its_end(run) and is_at_its_end(other)):
        at = [f"{r.name} at step {r.final_step:,}" for r in (other, run)]
        return (
            f"measured {at[0]}, {at[1]}: no difference is given; "
            f"run `toremi eval {other.name} {run.name} --checkpoint all`"
        )
    return None
