"""When stage 2 begins: by plateau of the validation loss, at a step, or at a fraction of the run."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

PLATEAU, NEVER = "plateau", "never"


class StageSwitch:
    """Decides the stage of each weight update.

    An interval that ends at a step >= the switch step is already updated by stage 2. At a step that both evaluates and
    ends an interval, call `observe` first.
    """

    def __init__(self, spec: str = PLATEAU, total_steps: int = 0, threshold: float = 0.01) -> None:
        """Read `spec`.

        Args:
            spec: `plateau`, `step:N`, `fraction:F` (of `total_steps`) or `never`.
            total_steps: length of the run in optimizer steps; used by `fraction:F` only.
            threshold: `plateau` switches when the relative decrease of the validation loss between two evaluations is
                at most this (ToReMi's code: 0.01).

        Raises:
            ValueError: `spec` is none of these.
        """
        self.spec, self.threshold = spec, threshold
        self.switch_step, self.reason = _planned(spec, total_steps)
        self._previous: float | None = None

    def observe(self, step: int, validation_loss: float) -> bool:
        """Take note of an evaluation; True when it makes the run enter stage 2.

        Raises:
            ValueError: the loss is not a finite number.
        """
        if not math.isfinite(validation_loss):
            raise ValueError(f"step {step}: the validation loss is {validation_loss}; expected a finite number")
        previous, self._previous = self._previous, validation_loss
        if self.spec != PLATEAU or self.switch_step is not None or previous is None:
            return False
        decrease = (previous - validation_loss) / previous if previous else 0.0
        if decrease > self.threshold:
            return False
        self.switch_step = step
        self.reason = (
            f"plateau: validation loss {previous:.4f} -> {validation_loss:.4f} at step {step}, a decrease of "
            f"{decrease:.2%} (at most {self.threshold:.2%})"
        )
        return True

    def stage_for(self, step: int) -> int:
        """Stage, 1 or 2, that updates the interval which ends at `step`."""
        return 2 if self.switch_step is not None and step >= self.switch_step else 1

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state."""
        return {"switch_step": self.switch_step, "reason": self.reason, "previous": self._previous}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` gave."""
        self.switch_step, self.reason, self._previous = state["switch_step"], state["reason"], state["previous"]


def _planned(spec: str, total_steps: int) -> tuple[int | None, str]:
    """The switch step that `spec` fixes beforehand, and why; None where it doesn't."""
    if spec in (PLATEAU, NEVER):
        return None, ""
    kind, _, value = spec.partition(":")
    if kind == "step" and value.isascii() and value.isdigit():
        return int(value), f"step {value} was asked for"
    if kind == "fraction":
        try:
            fraction = Fraction(value)
        except (ValueError, ZeroDivisionError):
            fraction = Fraction(-1)
        if 0 <= fraction <= 1:
            step = math.ceil(fraction * total_steps)
            return step, f"fraction {value} of {total_steps} steps was asked for"
    raise ValueError(
        f"stage switch is {spec!r}; expected 'plateau', 'step:N', 'fraction:F' with F between 0 and 1, or 'never'"
    )
