"""`toremi`: two stages, gradient sensitivity and learning state joined. Ours; reasons in docs/policy.md.

For each topic, a regression of log loss on log samples seen, over the intervals that saw it, gives the *learning
state*: progress r_l = -d log L / d log n, and its standard error s_l. What lies back by `memory` in log samples counts
1/e. Progress has no unit and doesn't know levels: a topic of high entropy and an easy one are alike if both lose 5%
for a doubling of their data; noise, however high its loss, stands still.

    m, d   = median of r over topics, and their spread: max(1.4826 MAD, |m| / 3)
    z_l    = (r_l - m) / sqrt(d^2 + s_l^2)                   unsure topics are drawn to the middle
    v_l    = tanh(max(z_l - 1/2, 0) / 2) / 2                 to gain is a bet: half as strong, and from the
           - tanh(max(-z_l - 1/2, 0) / 2)                    8th interval on only; near the median nothing moves
    c_l    = sqrt(g_l / mean g), within 1/2 and 2            g: gradient sensitivity; 1 where not measured
    log f_l <- (log f_l + gain * c_l * v_l) / 2              within the bounds

    stage 1   1/2 <= f_l <= w_max      explore: even a topic that looks like noise keeps half of its share
    stage 2   w_min <= f_l <= w_max    commit

    w_l    = f_l * (size_l^(1/T) / sum) / (size_l / sum), scaled to mean 1 over the training tokens

A topic that stands still costs the more the further its samples push the model around, and one that is being learnt
pays the more: so sensitivity scales both directions. Ablations: `sensitivity`, `learning_state`, `stratify`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from toremi_cli.reweight.policies.base import Policy
from toremi_cli.reweight.policies.data import tempered_shares, weights_of_shares
from toremi_cli.reweight.stats import IntervalStats

EXPLORE_FLOOR = 0.5
"""Lower bound of the factor in stage 1."""
DEAD_ZONE = 0.5
"""Standardised progress that is left alone."""
BET = 0.5
"""How strongly a topic gains, relative to how strongly one loses."""
INERTIA = 0.5
"""What is left of the old log factor at an update."""
SENSITIVITY_RANGE = (0.5, 2.0)
SENSITIVITY_MEMORY = 0.8
MIN_INTERVALS = 4
"""Intervals that must have seen a topic before its progress is judged."""
PATIENCE = 8
"""Intervals before a topic may gain: at first all fall, noise the fastest, as the counts of its letters are learnt."""
_WEIGHT, _X, _Y, _XX, _XY, _YY, _SEEN = range(7)


class Toremi(Policy):
    """Hard and learnable topics gain weight, topics that stand still lose it, from stratified shares."""

    name: ClassVar[str] = "toremi"
    summary: ClassVar[str] = "ours: stratified shares, moved by learning state and gradient sensitivity"
    num_stages: ClassVar[int] = 2
    acts_on: ClassVar[str] = "sampling"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        num_topics = len(self.topics)
        self.log_factor = torch.zeros(num_topics, dtype=torch.float64)
        self.moments = torch.zeros(7, num_topics, dtype=torch.float64)
        """Forgetful sums for the regression of log loss on log samples."""
        self.samples = torch.zeros(num_topics, dtype=torch.float64)
        """(num_topics,) samples seen so far."""
        self.sensitivity = torch.full((num_topics,), torch.nan, dtype=torch.float64)
        self.weights = self._weights()

    def _updated(self, losses: Tensor, stats: IntervalStats, stage: int) -> Tensor:
        self._observe(losses, stats)
        if self.config.learning_state:
            target = self.config.gain * self._confidence() * self._signal()
            moved = INERTIA * self.log_factor + (1 - INERTIA) * target
            low = max(self.config.w_min, EXPLORE_FLOOR) if stage == 1 else self.config.w_min
            bounded = moved.clamp(math.log(max(low, 1e-9)), math.log(self.config.w_max))
            self.log_factor = torch.where(stats.seen, bounded, self.log_factor)
        return self._weights()

    def _draw_to_one(self, power: float) -> None:
        self.log_factor = self.log_factor * power
        self.weights = self._weights()

    def _observe(self, losses: Tensor, stats: IntervalStats) -> None:
        seen = stats.seen
        before = self.samples.clamp_min(1).log()
        self.samples = self.samples + stats.num_samples.double()
        x = self.samples.clamp_min(1).log()
        y = torch.where(seen, losses, 1.0).clamp_min(1e-9).log()
        point = torch.stack((torch.ones_like(x), x, y, x * x, x * y, y * y, torch.zeros_like(x)))
        # Forgetting by samples, not by intervals: the reach of the regression stays the same however long the run.
        kept = torch.exp((before - x) / self.config.memory)
        forgetful = torch.where(seen, kept * self.moments + point, self.moments)
        forgetful[_SEEN] = self.moments[_SEEN] + seen.double()
        self.moments = forgetful
        if stats.sensitivity is not None:
            new = stats.sensitivity.double()
            old = torch.where(torch.isfinite(self.sensitivity), self.sensitivity, new)
            blended = SENSITIVITY_MEMORY * old + (1 - SENSITIVITY_MEMORY) * new
            self.sensitivity = torch.where(torch.isfinite(new) & seen, blended, self.sensitivity)

    def progress(self) -> tuple[Tensor, Tensor]:
        """Progress -d log L / d log n and its standard error, both (num_topics,); NaN before it can be judged."""
        weight, sx, sy, sxx, sxy, syy, seen = self.moments
        total = weight.clamp_min(1e-300)
        spread = sxx - sx * sx / total
        joint = sxy - sx * sy / total
        judged = (seen >= MIN_INTERVALS) & (spread > 1e-12)
        slope = joint / spread.clamp_min(1e-300)
        residual = (syy - sy * sy / total - slope * joint).clamp_min(0) / (weight - 2).clamp_min(0.5)
        error = (residual / spread.clamp_min(1e-300)).sqrt()
        return torch.where(judged, -slope, torch.nan), torch.where(judged, error, torch.nan)

    def _signal(self) -> Tensor:
        """(num_topics,) between -1 and 1/2: how the topic's progress compares with that of the others."""
        progress, error = self.progress()
        judged = torch.isfinite(progress)
        if int(judged.sum()) < 2:
            return torch.zeros_like(progress)
        known = progress[judged]
        middle = known.quantile(0.5)
        deviation = (known - middle).abs().quantile(0.5)
        spread = torch.maximum(1.4826 * deviation, middle.abs() / 3).clamp_min(1e-12)
        z = (progress - middle) / (spread**2 + error**2).sqrt()
        verdict = ((z.abs() - DEAD_ZONE).clamp_min(0) / 2).tanh()
        gain = torch.where(self.moments[_SEEN] >= PATIENCE, BET * verdict, 0.0)
        return torch.where(judged, torch.where(z > 0, gain, -verdict), 0.0)

    def _confidence(self) -> Tensor:
        """(num_topics,) factor on the signal: how much the topic's samples move the model, relative to the others."""
        measured = torch.isfinite(self.sensitivity)
        if not self.config.sensitivity or not bool(measured.any()):
            return torch.ones_like(self.sensitivity)
        average = self.sensitivity[measured].mean().clamp_min(1e-300)
        relative = (self.sensitivity.clamp_min(0) / average).sqrt().clamp(*SENSITIVITY_RANGE)
        return torch.where(measured, relative, 1.0)

    def _weights(self) -> Tensor:
        base = torch.ones_like(self.log_factor)
        if self.config.stratify:
            shares = tempered_shares(self.natural, self.config.stratify_temperature)
            base = weights_of_shares(shares, self.natural)
        weights = base * self.log_factor.exp()
        weights = weights / (weights * self.natural).sum()
        # Drawing a small topic often is what stratifying means; a huge weight on few samples is noise in the gradient.
        return weights.clamp(self.config.w_min, self.config.w_max) if self.apply == "loss" else weights

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state; NaN stands as None."""
        sensitivity = [x if math.isfinite(x) else None for x in self.sensitivity.tolist()]
        return {
            **super().state_dict(),
            "log_factor": self.log_factor.tolist(),
            "moments": self.moments.tolist(),
            "samples": self.samples.tolist(),
            "sensitivity": sensitivity,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` gave."""
        super().load_state_dict(state)
        self.log_factor = torch.tensor(state["log_factor"], dtype=torch.float64)
        self.moments = torch.tensor(state["moments"], dtype=torch.float64)
        self.samples = torch.tensor(state["samples"], dtype=torch.float64)
        self.sensitivity = torch.tensor([torch.nan if x is None else x for x in state["sensitivity"]]).double()
