"""`toremi`: text that is worth less than most is drawn less. Ours; reasons and measurements in docs/policy.md.

    worth   = L (S - L)          what is left to learn x what context tells, see `reweight/worth.py`
    u_l     = min(1, worth_l / m)                by n-grams, before the first step; m: median of worth over the text
    v_l     = min(1, worth_l (S_l - L_l) / m)    by the model: noise is what context goes on telling it little of
    k_l     = min(1, (S_l - L_l) of the model / that of n-grams)
    h_l     = max(min(1, u_l v_l^k_l / ENOUGH), LEAST)^STEEP    how far the topic is trusted
    share_l ~ n_l h_l min(1, b_l / n_l)          of topics of at least their part b_l, n_l: the natural share
              n_l h_l (b_l / n_l)^h_l            of smaller ones: what isn't trusted isn't raised
    b_l     equal shares, those of a kind share one (`crowding`), between FLOOR and w_max times the natural share

So noise, which no context tells, what is known by heart, and text of few different words are drawn less, from the
first step on; topics that are worth about as much as most are drawn alike. k is how far the model's own measurement of
a topic counts: as far as it uses the context there as well as n-grams do. Or what is new to the model would look like
noise, be drawn less, and stay new. L and S are means over the tokens seen so far, the recent ones first.
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

FLOOR = 0.8
"""Least share of a topic among them, as a fraction of the natural one: small topics are where a model that is judged by
each of its domains has most to gain, and large ones shall not pay for it."""
ENOUGH = 0.65
"""Worth, over the median, from which text is trusted: clean topics lie above it, by n-grams as by the model."""
STEEP = 8.0
"""How steeply trust falls below that: at half of ENOUGH to a 256th."""
MEMORY = 4.0
"""What was measured after n of N tokens counts (n/N)^MEMORY: for the most part, the last fifth of what was seen."""
LEAST = 0.4
"""To the power of STEEP a share of 0.0007: well below the floor of the sampling, so that nothing less is ever drawn."""


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
        low, high = FLOOR * self.natural, (self.config.w_max * self.natural).clamp_max(1.0)
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
        measured = self.sums[:2] / self.sums[2]  # 0 / 0 = NaN: not known
        gains = ((losses[1] - losses[0]).clamp_min(0) for losses in (measured, self.before))
        count = torch.div(*gains).nan_to_num(1.0, posinf=1.0).clamp_max(1.0)
        value = self._relative(self.before, power=1) * self._relative(measured, power=2) ** count
        trust = (value / ENOUGH).clamp(LEAST, 1.0) ** STEEP
        raised = torch.where(self.natural > 0, self.base / self.natural, 1.0)
        shares = self.natural * trust * torch.where(raised > 1, raised**trust, raised)
        shares = shares / shares.sum()
        if self.apply == "loss":
            low, high = self.config.w_min * self.natural, self.config.w_max * self.natural
            shares = torch.from_numpy(shares_between(shares.numpy(), low.numpy(), high.numpy()))
        return weights_of_shares(shares, self.natural)

    def _relative(self, losses: Tensor, power: int) -> Tensor:
        """u or v of each topic, (num_topics,): L (S - L)^power over its median, at most 1; 1 where it isn't known.

        Args:
            losses: (2, num_topics) L and S; NaN where not known.
            power: that of S - L.
        """
        values = worth(losses[0], losses[1], power)
        known = torch.isfinite(values) & (self.natural > 0)
        if not bool(known.any()):
            return torch.ones_like(self.natural)
        middle = median(values[known], self.natural[known] / self.natural[known].sum())
        relative = torch.where(known & (middle > 0), values / middle.clamp_min(1e-300), 1.0)
        return relative.clamp_max(1.0)


def median(values: Tensor, text: Tensor) -> Tensor:
    """The value of the topic at which half of the text is reached, from the lowest value up.

    Args:
        values: (n,), at least one.
        text: (n,) share of the text that has each value.
    """
    order = values.argsort()
    half = int((text[order].cumsum(0) < 0.5 - 1e-12).sum())
    return values[order][min(half, len(values) - 1)]
