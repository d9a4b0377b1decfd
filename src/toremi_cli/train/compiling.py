"""Whether compiling the model pays, by the run's own micro-steps, compiled and not."""

from __future__ import annotations

import math

import torch

from toremi_cli import console
from toremi_cli.errors import reason
from toremi_cli.train.documents import GROUPS
from toremi_cli.train.run import Training
from toremi_cli.train.trial import free_memory, largest, seconds_of

SECONDS_A_LAYER = 5.0
"""That compiling takes: nanoGPT's train.py speaks of a minute for the twelve layers of GPT-2."""
TIMES_AS_LONG = 10
"""How many times that a run must take for compiling to be tried: of a fifth that it may save, half is then left."""
GAIN = 0.02
"""Of a micro-step's time that compiling has to save: less is noise, and each resume compiles again."""


def compare(run: Training, rows: int) -> tuple[bool, float | None, float | None]:
    """Leave the model compiled or not, whichever is faster on the slowest rank. Every rank calls it.

    Returns:
        Whether it is compiled, and the seconds of a micro-step of `rows` rows: eager, and compiled; None where that was
        not measured, since the run is too short or each batch has shapes of its own, or where compiling failed.
    """
    if run.builder.documents == GROUPS:
        return False, None, None
    eager = largest(seconds_of(run, rows), run.device)
    compiling = SECONDS_A_LAYER * int(run.model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    if not is_long_enough(run, eager, compiling):
        return False, eager, None
    console.note(f"comparing with torch.compile, which takes about {compiling:.0f} seconds")
    run.losses.compile_body(True)
    try:
        compiled = seconds_of(run, rows)
    except Exception as problem:  # the compiler raises what it likes; without it the run goes on
        console.note(f"torch.compile failed ({reason(problem, 120)}); training without it")
        compiled = math.inf
    compiled = largest(compiled, run.device)
    is_faster = compiled < (1 - GAIN) * eager
    if not is_faster:
        run.losses.compile_body(False)
        torch.compiler.reset()
    free_memory(run.device)
    return is_faster, eager, compiled if math.isfinite(compiled) else None


def is_long_enough(run: Training, eager: float, compiling: float) -> bool:
    """Whether the steps that are left take well over the seconds of `compiling`, at `eager` seconds a micro-step."""
    left = (run.schedule.max_steps - run.step) * run.schedule.num_micro_steps
    return left * eager >= TIMES_AS_LONG * compiling
