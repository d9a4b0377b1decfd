"""`toremi`: two stages, gradient sensitivity and learning state joined. Ours; reasons in docs/policy.md.

Medians `m` are over the text: a topic of twice the bytes counts twice. Noise may be in most of the topics, as long as
it is less than half of the text.

*Learning state.* For each topic, a regression of log loss on log samples seen, over the intervals that saw it, gives
its progress r_l = -d log L / d log n, and its standard error s_l. What lies back by `memory` in log samples counts
1/e. Progress has no unit and doesn't know levels: a topic of high entropy and an easy one are alike if both lose 5%
for a doubling of their data; what stands still, because it is noise or because it is learnt, has none.

    m, d   = median of r over the text, and the spread: max(1.4826 MAD, |m| / 3)
    z_l    = (r_l - m) / sqrt(d^2 + s_l^2)                   unsure topics are drawn to the middle
    v_l    = tanh(max(z_l - 3/2, 0) / 2) / 2                 to gain is a bet: half as strong, and from the
           - tanh(max(-z_l - 3/2, 0) / 2)                    8th interval on only; near the median nothing moves

*Gradient sensitivity* g_l. A topic of high loss should move the model much; one whose loss a byte is above the others'
while its gradients are below them holds nothing that can be learnt. Either alone misleads: code and tables have small
gradients because they are easy, poetry and chat high losses because they are hard.

    h_l, q_l = score of log loss a byte, score of - log g_l                          each less what all have moved by,
             score(x) = (x - m) / max(1.4826 median of m - x over x <= m, 0.02)       averaged with half that memory;
                                                                                      at least 3 topics x
    u_l    = tanh(max(max(h_l, 0)^(2/3) max(q_l, c_l, p_l)^(1/3) - 1, 0))            noise; such a topic never gains
    c_l    = max(1 - 2 f_l, 0) min(max(1 + q_l, 0), 1)       what is condemned has to become easier, or to move the
                                                             model more than other text does: like any other it moves
                                                             it again just for not being trained on
    p_l    = max(-z_l - 1, 0)                                nor is it free if it stands still once drawn again: where
                                                             it was acquitted at w_min, by its losses since then, from
                                                             the 8th interval on, and if s_l is at most 2/3 m; then
                                                             q_l no longer counts in c_l

A topic that is easy and moves nothing is learnt out: boilerplate, templates, near-duplicates. Its slope in log loss
stays steep, but of what it loses hardly anything is left. Deviations don't tell it from code; halvings do.

    e_l, o_l = halvings of loss a byte and of g_l below the median, averaged in the same way
    t_l    = tanh(max(max(e_l, 0)^(2/3) max(o_l, 0)^(1/3) - 3/2, 0))                 learnt; never gains either

    log f_l <- (log f_l + gain * (v_l - 2 (u_l + t_l))) / 2  within the bounds; where the topic was seen, or falls by
                                                             its levels

    stage 1   1/2 <= f_l <= w_max      explore: what stands still keeps half of its share; noise (u_l > 0) does not,
                                       since what noise does to a young model stays
    stage 2   w_min <= f_l <= w_max    commit

    b_l    = (size_l^(1/T) / k_l / sum) / (size_l / sum)     what makes natural shares tempered; k_l topics of a kind
                                                             share what one that stands alone gets (`crowding`); none
                                                             below `stratify_floor`: large topics don't pay for it
    w_l    = f_l * b_l^min(f_l, 1), scaled to mean 1 over the training text; w_min where f_l is; applied to the loss,
             between w_min and w_max

A verdict against a topic takes its share of the tempering away as well: a small noisy topic must not be drawn often
because it is small. Ablations: `sensitivity`, `learning_state`, `stratify`, `spread`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from toremi_cli.reweight.policies.base import Policy
from toremi_cli.reweight.policies.data import tempered_shares, weights_of_shares
from toremi_cli.reweight.robust import centre_of_text, median_of_text, score_above
from toremi_cli.reweight.sampling import factor_between, shares_between
from toremi_cli.reweight.stats import IntervalStats

EXPLORE_FLOOR = 0.5
"""Lower bound of the factor in stage 1, but for noise."""
DEAD_ZONE = 1.0
"""Standard score of noise, a geometric mean of two, that is left alone; also of the progress of hard topics."""
LEARNT = 1.5
"""Halvings of loss and sensitivity, their geometric mean, up to which easy text is left alone: code and tables are."""
HARDNESS = 2 / 3
"""Part of the loss in that mean: it is the surer witness, gradients the one that tells noise from what is hard."""
PROGRESS_DEAD_ZONE = 1.5
"""Standard score of progress that is left alone: weights that follow the jitter of slopes cost more than they find."""
BET = 0.5
"""How strongly a topic gains, relative to how strongly one loses."""
CONVICTION = 0.5
"""Factor below which a topic is believed to be still, the more the less weight it has; less so where its gradients are
larger than those of others, and from a standard score of 1 on not at all."""
INERTIA = 0.5
"""What is left of the old log factor at an update."""
LEVELS_COUNT = 2.0
"""How strongly levels act, relative to standing still: two measures bear witness."""
MIN_INTERVALS = 4
"""Intervals that must have seen a topic before its progress is judged."""
PATIENCE = 8
"""Intervals before a topic may gain, or standing still speaks against a hard one: at first all fall, noise the fastest,
as the counts of its letters are learnt."""
KNOWN = 2 / 3
"""Standard error of a topic's progress, over the median progress, up to which it counts that the topic stands still."""
FREE, CONDEMNED, ON_TRIAL, FAILED = range(4)
_WEIGHT, _X, _Y, _XX, _XY, _YY, _SEEN = range(7)


class Toremi(Policy):
    """Hard and learnable topics gain weight, topics that stand still lose it, from stratified shares."""

    name: ClassVar[str] = "toremi"
    num_stages: ClassVar[int] = 2
    acts_on: ClassVar[str] = "sampling"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        num_topics = len(self.topics)
        self.log_factor = torch.zeros(num_topics, dtype=torch.float64)
        self.moments = torch.zeros(7, num_topics, dtype=torch.float64)
        """Forgetful sums for the regression of log loss on log samples."""
        self.samples = torch.zeros(num_topics, dtype=torch.float64)
        """(num_topics,) samples seen so far; one that rows cut counts once for each part."""
        self.levels = torch.full((2, num_topics), torch.nan, dtype=torch.float64)
        """Logarithms of the loss a byte and of the gradient sensitivity, less what all topics have moved by; NaN where
        not measured. Only differences count, since levels of a young model move faster than a small topic is seen."""
        self.evidence = torch.zeros(num_topics, dtype=torch.float64)
        """(num_topics,) samples behind `levels`, the older ones forgotten in part."""
        self.text = torch.zeros(num_topics, dtype=torch.float64)
        """(num_topics,) bytes that natural draws would have shown of each topic so far."""
        self.record = torch.full((num_topics,), FREE)
        """(num_topics,) FREE, CONDEMNED (at the lower bound as noise), ON_TRIAL (acquitted there) or FAILED (condemned
        again since it stood still)."""
        self.weights = self._weights()

    def _updated(self, losses: Tensor, stats: IntervalStats, stage: int) -> Tensor:
        self._observe(losses, stats)
        if self.config.learning_state or self.config.sensitivity:
            noise, learnt = self._noise(), self._learnt()
            target = self.config.gain * self._verdict(noise, learnt)
            moved = INERTIA * self.log_factor + (1 - INERTIA) * target
            low = torch.full_like(moved, max(self.config.w_min, 1e-9))
            if stage == 1:
                low = torch.where(noise > 0, low, low.clamp_min(EXPLORE_FLOOR))
            bounded = moved.clamp_max(math.log(self.config.w_max)).maximum(low.log())
            # A verdict against a topic is carried out even while none of it is drawn.
            standing = (noise + learnt > 0) & (bounded < self.log_factor)
            self.log_factor = torch.where(stats.seen | standing, bounded, self.log_factor)
            self._keep_record((noise > 0) & (self.log_factor <= low.log()))
        return self._weights()

    def _keep_record(self, held: Tensor) -> None:
        """Note who is `held` at the lower bound as noise, who no longer is, and who is again for standing still."""
        failed = (self.record == FAILED) | (self.record == ON_TRIAL) & (self._stopped() > 0)
        acquitted = ~held & ((self.record == CONDEMNED) | (self.record == FAILED))
        self.record = torch.where(held, torch.where(failed, FAILED, CONDEMNED), self.record)
        self.record[acquitted] = ON_TRIAL
        self.moments[:, acquitted] = 0  # untrained, the text had been forgotten: its progress counts from now on

    def _draw_to_one(self, power: float) -> None:
        self.log_factor = self.log_factor * power
        self.weights = self._weights()

    def _observe(self, losses: Tensor, stats: IntervalStats) -> None:
        seen = stats.seen
        if stats.num_bytes is not None:
            self.text = self.text + stats.num_bytes.double()
        earlier, self.samples = self.samples, self.samples + stats.num_observations.double()
        before, x = earlier.clamp_min(1).log(), self.samples.clamp_min(1).log()
        y = torch.where(seen, losses, 1.0).clamp_min(1e-9).log()
        point = torch.stack((torch.ones_like(x), x, y, x * x, x * y, y * y, torch.zeros_like(x)))
        # Forgetting by samples, not by intervals: the reach of the regression stays the same however long the run.
        kept = torch.exp((before - x) / self.config.memory)
        forgetful = torch.where(seen, kept * self.moments + point, self.moments)
        forgetful[_SEEN] = self.moments[_SEEN] + seen.double()
        self.moments = forgetful
        if stats.sensitivity is not None and stats.loss_per_byte is not None:
            # By the samples of all topics: one that is hardly drawn any more must forget no slower than the others.
            kept = (earlier.sum() / self.samples.sum().clamp_min(1)) ** (2 / self.config.memory)
            self.evidence = self.evidence * kept
            measured = torch.stack((stats.loss_per_byte, stats.sensitivity)).double()
            self._compare(measured, stats.num_observations.double())

    def _compare(self, measured: Tensor, observations: Tensor) -> None:
        """Take up the interval's loss a byte and sensitivity, (2, num_topics)."""
        new = measured.clamp_min(1e-12).log()
        known = torch.isfinite(new).all(dim=0) & (observations > 0)
        if not bool(known.any()):
            return
        # What all have moved by, each topic against itself: which of them happen to be seen makes no difference.
        before = known & (self.evidence > 0)
        moved = new[:, before] - self.levels[:, before] if bool(before.any()) else new[:, known]
        new = new - moved.quantile(0.5, dim=1, keepdim=True)
        remembered = torch.where(self.evidence > 0, self.levels, 0.0) * self.evidence
        evidence = self.evidence + observations
        self.levels = torch.where(known, (remembered + new * observations) / evidence, self.levels)
        self.evidence = torch.where(known, evidence, self.evidence)

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

    def _verdict(self, noise: Tensor, learnt: Tensor) -> Tensor:
        """(num_topics,) between -3 and 1/2: what the signals say for or against each topic."""
        state = self._learning_state()
        against = noise + learnt  # never both: one is hard, the other easy
        return torch.where(against > 0, state.clamp_max(0), state) - LEVELS_COUNT * against

    def _learning_state(self) -> Tensor:
        """(num_topics,) between -1 and 1/2: how the topic's progress compares with that of the others."""
        z, _ = self._progress_score()
        gain = torch.where(self.moments[_SEEN] >= PATIENCE, BET * (_beyond(z, PROGRESS_DEAD_ZONE) / 2).tanh(), 0.0)
        return gain - (_beyond(-z, PROGRESS_DEAD_ZONE) / 2).tanh()

    def _progress_score(self) -> tuple[Tensor, Tensor]:
        """Standard score of progress among the topics, 0 where it can't be judged, and bool: known well enough to count
        that a topic stands still; both (num_topics,)."""
        progress, error = self.progress()
        judged = torch.isfinite(progress) & self.config.learning_state
        if int(judged.sum()) < 2:
            return torch.zeros_like(progress), torch.zeros_like(judged)
        middle, deviation = centre_of_text(progress[judged], self._text()[judged])
        spread = max(deviation, abs(middle) / 3, 1e-12)
        score = torch.where(judged, (progress - middle) / (spread**2 + error**2).sqrt(), 0.0)
        return score, error <= KNOWN * middle

    def _noise(self) -> Tensor:
        """(num_topics,) between 0 and 1: how surely the topic is hard and moves the model little, or stands still."""
        measured = self._measured()
        if int(measured.sum()) < 2:
            return torch.zeros_like(self.log_factor)
        loss, sensitivity = self.levels
        text = self._text()
        hard, still = score_above(loss, measured, text), score_above(-sensitivity, measured, text)
        lively = torch.where(self.record == FAILED, 0.0, -still)
        convicted = (1 - self.log_factor.exp() / CONVICTION).clamp_min(0) * (1 - lively).clamp(0, 1)
        both = _joint(hard, still.maximum(convicted).maximum(self._stopped()))
        return torch.where(measured, _beyond(both, DEAD_ZONE).tanh(), 0.0)

    def _stopped(self) -> Tensor:
        """(num_topics,) how surely a topic that was acquitted stands still while the others learn."""
        z, known = self._progress_score()
        tried = (self.record == ON_TRIAL) & (self.moments[_SEEN] >= PATIENCE) & known
        return torch.where(tried, _beyond(-z, DEAD_ZONE), 0.0)

    def _learnt(self) -> Tensor:
        """(num_topics,) between 0 and 1: how surely little is left to learn of the topic, and that moves nothing."""
        measured = self._measured()
        if int(measured.sum()) < 2:
            return torch.zeros_like(self.log_factor)
        text = self._text()[measured]
        loss, sensitivity = (median_of_text(level[measured], text) - level for level in self.levels)
        halvings = _joint(loss, sensitivity) / math.log(2)
        return torch.where(measured, _beyond(halvings, LEARNT).tanh(), 0.0)

    def _measured(self) -> Tensor:
        """(num_topics,) bool: whose levels are known; none where sensitivity is switched off."""
        return torch.isfinite(self.levels).all(dim=0) & self.config.sensitivity

    def _text(self) -> Tensor:
        """(num_topics,) how much text each topic is: bytes, or natural shares where they were not counted."""
        return self.text if bool((self.text > 0).any()) else self.natural

    def _weights(self) -> Tensor:
        base = torch.ones_like(self.log_factor)
        if self.config.stratify:
            crowding = self.data.crowding if self.config.spread else None
            shares = tempered_shares(self.natural, self.config.stratify_temperature, crowding)
            known = self.moments[_SEEN] >= PATIENCE
            low = torch.where(known, self.config.stratify_floor * self.natural, 0.0)
            high = (self.natural > 0).double()
            shares = torch.from_numpy(shares_between(shares.numpy(), low.numpy(), high.numpy()))
            base = weights_of_shares(shares, self.natural)
        factor = self.log_factor.exp()
        weights = factor * base ** factor.clamp_max(1)
        lowest = (self.log_factor < 0) & (self.log_factor <= math.log(max(self.config.w_min, 1e-9)) + 1e-9)
        if bool(lowest.any()) and not bool(lowest.all()):
            left = 1 - self.config.w_min * self.natural[lowest].sum()
            weights = weights * left / (weights * self.natural)[~lowest].sum().clamp_min(1e-300)
            weights = torch.where(lowest, self.config.w_min, weights)
        else:
            weights = weights / (weights * self.natural).sum()
        # Drawing a small topic often is what stratifying means; a huge weight on few samples is noise in the gradient.
        return self._within_bounds(weights, lowest) if self.apply == "loss" else weights

    def _within_bounds(self, weights: Tensor, lowest: Tensor) -> Tensor:
        """The weights scaled anew so that, clipped to the bounds, their mean is 1; what is `lowest` stays so.

        Where so much is lowest that the upper bound keeps the rest from making up for it, the mean stays below 1.
        """
        high = torch.full_like(weights, self.config.w_max)
        high[lowest & ~lowest.all()] = self.config.w_min
        shares, low = weights * self.natural, self.config.w_min * self.natural
        scale = factor_between(shares.numpy(), low.numpy(), (high * self.natural).numpy())
        return (scale * weights).clamp_min(self.config.w_min).minimum(high)

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state; NaN stands as None."""
        levels = [[x if math.isfinite(x) else None for x in level] for level in self.levels.tolist()]
        return {
            **super().state_dict(),
            "log_factor": self.log_factor.tolist(),
            "moments": self.moments.tolist(),
            "samples": self.samples.tolist(),
            "levels": levels,
            "evidence": self.evidence.tolist(),
            "text": self.text.tolist(),
            "record": self.record.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` gave."""
        super().load_state_dict(state)
        self.log_factor = torch.tensor(state["log_factor"], dtype=torch.float64)
        self.moments = torch.tensor(state["moments"], dtype=torch.float64)
        self.samples = torch.tensor(state["samples"], dtype=torch.float64)
        levels = [[math.nan if x is None else x for x in level] for level in state["levels"]]
        self.levels = torch.tensor(levels, dtype=torch.float64)
        self.evidence = torch.tensor(state["evidence"], dtype=torch.float64)
        self.text = torch.tensor(state.get("text", [0.0] * len(self.topics)), dtype=torch.float64)
        self.record = torch.tensor(state.get("record", [FREE] * len(self.topics)))  # none in states of before


def _joint(by_loss: Tensor, by_sensitivity: Tensor) -> Tensor:
    """Geometric mean of what two witnesses say, 0 where one says nothing."""
    return by_loss.clamp_min(0) ** HARDNESS * by_sensitivity.clamp_min(0) ** (1 - HARDNESS)


def _beyond(z: Tensor, dead_zone: float) -> Tensor:
    """How far a standard score lies above what is left alone; 0 where it does not."""
    return (z - dead_zone).clamp_min(0)
