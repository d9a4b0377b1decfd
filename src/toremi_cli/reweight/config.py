"""Settings of a reweighting policy: one frozen dataclass, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass

RULES = ("multiplicative", "additive")
LOSS_UNITS = ("token", "byte")
AT_SWITCH = ("keep", "reset", "anneal")
APPLY = ("auto", "loss", "sampling", "both")


@dataclass(frozen=True)
class PolicyConfig:
    """Settings of a policy.

    Raises:
        ValueError: a value out of its range; the message names the field.
    """

    name: str = "toremi-2"
    """Name of the policy: a key of `toremi_cli.reweight.POLICIES`."""
    alpha: float = 1.0
    """Step size a of the weight update (reference: 1)."""
    w_min: float = 0.1
    """Lower bound of a topic's weight (reference: 0.1)."""
    w_max: float = 5.0
    """Upper bound of a topic's weight (reference: 5.0)."""
    rule: str = "multiplicative"
    """`multiplicative` (the reference code) or `additive` (the paper's printed formula)."""
    normalize: bool = False
    """Scale the loss so that the mean sample weight is 1: keeps the effective learning rate that of uniform."""
    stage_switch: str = "plateau"
    """When stage 2 begins: `plateau`, `step:N`, `fraction:F` or `never`."""
    plateau_threshold: float = 0.01
    """`plateau`: relative decrease of the validation loss between two evaluations at or below which stage 2 begins."""
    at_switch: str = "keep"
    """What stage 2 finds: the weights of stage 1 (`keep`), all 1 (`reset`), or weights drawn to 1 by half of their
    logarithm before each of its first 4 updates (`anneal`)."""
    loss_unit: str = "token"
    """`token`: nats a token, as the paper. `byte`: nats a byte, comparable between topics."""
    apply: str = "auto"
    """What the weights act on: `loss`; `sampling` (what is drawn next); `both` (sampling, and the loss corrected where
    floor or cap keep a share from following its weight); `auto`: what the policy was made for."""
    sampling_floor: float = 0.1
    """`sampling`: every stratum is drawn at least at this fraction of its natural rate, so that it stays measured."""
    max_repeats: float = 4.0
    """`sampling`: how often a sample may be drawn in a run, on average over its stratum; 0: without limit."""
    seed: int = 0
    """Seed of policies that draw random numbers."""

    eta: float = 1.0
    """`group-dro`, `shearing`: step size of the exponentiated update."""
    smoothing: float = -1.0
    """`group-dro`, `shearing`: share c of the uniform distribution mixed in; -1: the paper's (1e-3, 1e-4)."""
    temperature: float = 10 / 3
    """`temperature`: T of shares proportional to size^(1/T)."""
    burn_in_steps: int = 1000
    """`linupper`, `ado`: steps with uniform weights at the beginning."""
    softmax_scale: float = 0.4
    """`linupper`: r of softmax(f / r)."""
    of: str = "toremi-2"
    """`shuffled-topics`: the policy whose weights land on the wrong topics."""

    def __post_init__(self) -> None:
        _check_choice("rule", self.rule, RULES)
        _check_choice("loss_unit", self.loss_unit, LOSS_UNITS)
        _check_choice("at_switch", self.at_switch, AT_SWITCH)
        _check_choice("apply", self.apply, APPLY)
        _check(math.isfinite(self.alpha) and self.alpha >= 0, "alpha", self.alpha, "a number of at least 0")
        _check(0 <= self.w_min <= 1, "w_min", self.w_min, "between 0 and 1, the weight that topics start with")
        _check(1 <= self.w_max < math.inf, "w_max", self.w_max, "at least 1, the weight that topics start with")
        _check(math.isfinite(self.plateau_threshold), "plateau_threshold", self.plateau_threshold, "a number")
        _check(0 <= self.sampling_floor <= 1, "sampling_floor", self.sampling_floor, "between 0 and 1")
        _check(self.max_repeats == 0 or self.max_repeats >= 1, "max_repeats", self.max_repeats, "0, or at least 1")
        _check(math.isfinite(self.eta) and self.eta >= 0, "eta", self.eta, "a number of at least 0")
        _check(self.smoothing == -1 or 0 <= self.smoothing <= 1, "smoothing", self.smoothing, "between 0 and 1, or -1")
        _check(self.temperature >= 1, "temperature", self.temperature, "at least 1")
        _check(self.burn_in_steps >= 0, "burn_in_steps", self.burn_in_steps, "a number of steps")
        _check(self.softmax_scale > 0, "softmax_scale", self.softmax_scale, "above 0")


def _check(ok: bool, field: str, found: object, expected: str) -> None:
    if not ok:
        raise ValueError(f"{field} is {found!r}; expected {expected}")


def _check_choice(field: str, found: str, choices: tuple[str, ...]) -> None:
    _check(found in choices, field, found, f"one of {', '.join(choices)}")
