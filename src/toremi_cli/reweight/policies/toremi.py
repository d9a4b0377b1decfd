"""`toremi`: text that is worth less than most is drawn less. Ours; reasons and measurements in docs/policy.md.

    worth_l = L_l (S_l - L_l)                     nats squared a token: what is left to learn x what context tells;
                                                  see `reweight/worth.py`
    v_l     = min(1, worth_l / (ENOUGH m))        m: the median of worth over the text; 1 where worth is not known
    share_l ~ b_l max(v0_l v_l^k, LEAST)^STEEP    v0 by n-grams before the first step, v by the model's own losses
    k       = min(1, mean of S - L over that of n-grams)
    b_l     = equal shares, those of a kind share one (`crowding`), none below FLOOR of its natural share

So noise, which no context tells, what is known by heart, and text of few different words are drawn less, from the first
step on; topics that are worth about as much as most are drawn alike. k is how far the model's own measurement counts:
as far as it has learnt to use context, compared with n-grams. L and S are means over the tokens seen so far, the recent
ones first.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from toremi_cli.reweight.policies.base import Policy
from toremi_cli.reweight.policies.data import tempered_shares, weights_of_shares
from toremi_cli.reweight.sampling import shares_between
from toremi_cli.reweight.stats import IntervalStats
from toremi_cli.reweight.worth import worth

FLOOR = 0.7
"""Least share of a topic among them, as a fraction of the natural one: small topics are where a model that is judged by
each of its domains has most to gain, and large ones shall not pay for it."""
ENOUGH = 0.8
"""Worth over the median from which text is not held back: clean topics lie above it, by n-grams as by the model."""
STEEP = 4.0
"""How steeply shares fall below that: at half of ENOUGH to a sixteenth."""
MEMORY = 4.0
"""What was measured after n of N tokens counts (n/N)^MEMORY: for the most part, the last fifth of what was seen."""
LEAST = 0.2
"""Least v0 v^k, to the power of STEEP a share of 0.0016: well below the floor of the sampling, so that nothing less is
ever drawn."""


class Toremi(Policy):
    """Nearly equal shares, less for text of little worth."""

    name: ClassVar[str] = "toremi"
    acts_on: ClassVar[str] = "sampling"
    needs: ClassVar[frozenset[str]] = frozenset({"num_tokens", "shuffled_loss", "token_loss"})
    uses_ngrams: ClassVar[bool] = True
    state: ClassVar[tuple[str, ...]] = ("sums", "total")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        unknown = [torch.nan] * len(self.topics)
        before = [self.data.ngram_loss or unknown, self.data.unigram_loss or unknown]
        self.before = torch.tensor([list(losses) for losses in before], dtype=torch.float64)
        """(2, num_topics): cross-entropies under n-grams and under unigrams, which stand for L and S."""
        self.sums = torch.zeros(3, len(self.topics), dtype=torch.float64)
        """(3, num_topics): L and S times tokens, and tokens; older ones count less."""
        self.total = torch.zeros((), dtype=torch.float64)
        """Tokens seen."""
        equal = tempered_shares(self.natural, math.inf, self.data.crowding).numpy()
        low, high = FLOOR * self.natural, (self.natural > 0).double()
        self.base = torch.from_numpy(shares_between(equal, low.numpy(), high.numpy()))
        """(num_topics,) b."""
        self.weights = self._weights()

    def _updated(self, losses: Tensor, stats: IntervalStats, stage: int) -> Tensor:
        assert stats.num_tokens is not None and stats.token_loss is not None and stats.shuffled_loss is not None
        tokens = stats.num_tokens.double()
        measured = torch.stack((stats.token_loss, stats.shuffled_loss, torch.ones_like(tokens)))
        earlier, self.total = self.total, self.total + tokens.sum()
        kept = (earlier / self.total) ** MEMORY
        self.sums = kept * self.sums + torch.where(tokens > 0, tokens * measured, 0.0)
        return self._weights()

    def _weights(self) -> Tensor:
        before, gain_before = self._value(self.before)
        value, gain = self._value(self.sums[:2] / self.sums[2])  # 0 / 0 = NaN: not known
        count = min(1.0, gain / gain_before) if gain_before > 0 else float(gain > 0)
        shares = self.base * (before * value**count).clamp_min(LEAST) ** STEEP
        shares = shares / shares.sum()
        if self.apply == "loss":
            low, high = self.config.w_min * self.natural, self.config.w_max * self.natural
            shares = torch.from_numpy(shares_between(shares.numpy(), low.numpy(), high.numpy()))
        return weights_of_shares(shares, self.natural)

    def _value(self, losses: Tensor) -> tuple[Tensor, float]:
        """v of each topic, (num_topics,), and the mean over the text of S - L.

        Args:
            losses: (2, num_topics) L and S; NaN where not known.
        """
        values = worth(*losses)
        known = torch.isfinite(values) & (self.natural > 0)
        if not bool(known.any()):
            return torch.ones_like(self.natural), 0.0
        text = self.natural[known] / self.natural[known].sum()
        gain = float((text * (losses[1] - losses[0])[known].clamp_min(0)).sum())
        enough = ENOUGH * median(values[known], text)
        relative = torch.where(known & (enough > 0), values / enough.clamp_min(1e-300), 1.0)
        return relative.clamp_max(1.0), gain


def median(values: Tensor, text: Tensor) -> Tensor:
    """The value of the topic at which half of the text is reached, from the lowest value up.

    Args:
        values: (n,), at least one.
        text: (n,) share of the text that has each value.
    """
    order = values.argsort()
    half = int((text[order].cumsum(0) < 0.5 - 1e-12).sum())
    return values[order][min(half, len(values) - 1)]
