"""`toremi`: text that is worth less than most is drawn less. Ours; reasons and measurements in docs/policy.md.

    worth   = L (S - L)          what is left to learn x what context tells, see `reweight/worth.py`
    u_l     = min(1, worth_l / m)    by n-grams, before the first step; m: median of worth over the text
    v_l     = min(1, worth_l / m)    by the model
    w_l     = min(1, worth_l / m)    by the model, with S - L of tokens that begin a word
    k_l     = min(1, (S_l - L_l) of the model / that of n-grams)
    h_l     = min(1, u_l (v_l w_l)^k_l / ENOUGH)^STEEP    how far the topic is trusted
    share_l ~ n_l h_l min(1, b_l / n_l)          of topics of at least their part b_l, n_l: the natural share
              n_l h_l (b_l / n_l)^h_l            of smaller ones: what isn't trusted isn't raised
    b_l     equal shares, those of a kind share one (`crowding`), between FLOOR and w_max times the natural share

So noise, which no context tells, what is known by heart, and text of few different words are drawn less, from the
first step on; topics that are worth about as much as most are drawn alike. Shuffled words keep an order within them,
which w doesn't see. k is how far the model's own measurement of a topic counts: as far as it uses the context there as
well as n-grams do. Or what is new to the model would look like noise, be drawn less, and stay new. L and S are means
over the tokens seen so far, the recent ones first.
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


class Toremi(Policy):
    """Nearly equal shares, less for text of little worth."""

    name: ClassVar[str] = "toremi"
    acts_on: ClassVar[str] = "sampling"
    needs: ClassVar[frozenset[str]] = frozenset({"num_tokens", "num_words", "shuffled_loss", "token_loss", "word_gain"})
    uses_ngrams: ClassVar[bool] = True
    state: ClassVar[tuple[str, ...]] = ("sums", "total")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        unknown = [torch.nan] * len(self.topics)
        before = [self.data.ngram_loss or unknown, self.data.unigram_loss or unknown]
        ngram, unigram = torch.tensor([list(losses) for losses in before], dtype=torch.float64)
        self.before = torch.stack((ngram, unigram - ngram))
        """(2, num_topics): cross-entropy under n-grams and what they gain over unigrams: L and S - L beforehand."""
        self.sums = torch.zeros(5, len(self.topics), dtype=torch.float64)
        """(5, num_topics): tokens, L and S - L times tokens; tokens that begin a word, S - L times those; older ones
        count less."""
        self.total = torch.zeros((), dtype=torch.float64)
        """Tokens seen."""
        equal = tempered_shares(self.natural, math.inf, self.data.crowding).numpy()
        low, high = FLOOR * self.natural, (self.config.w_max * self.natural).clamp_max(1.0)
        self.base = torch.from_numpy(shares_between(equal, low.numpy(), high.numpy()))
        """(num_topics,) b."""
        self.weights = self._weights()

    def _updated(self, losses: Tensor, stats: IntervalStats, stage: int) -> Tensor:
        assert stats.num_tokens is not None and stats.token_loss is not None and stats.shuffled_loss is not None
        assert stats.num_words is not None and stats.word_gain is not None
        tokens, words = stats.num_tokens.double(), stats.num_words.double()
        gain = stats.shuffled_loss - stats.token_loss
        sums = torch.stack((tokens, tokens * stats.token_loss, tokens * gain, words, words * stats.word_gain))
        earlier, self.total = self.total, self.total + tokens.sum()
        kept = (earlier / self.total) ** MEMORY
        self.sums = kept * self.sums + sums.nan_to_num(0.0)
        return self._weights()

    def _weights(self) -> Tensor:
        tokens, loss, gain, words, word_gain = self.sums
        loss, gain, word_gain = loss / tokens, gain / tokens, word_gain / words  # 0 / 0 = NaN: not known
        count = (gain.clamp_min(0) / self.before[1].clamp_min(0)).nan_to_num(1.0, posinf=1.0).clamp_max(1.0)
        by_model = self._relative(worth(loss, gain)) * self._relative(worth(loss, word_gain))
        value = self._relative(worth(*self.before)) * by_model**count
        trust = (value / ENOUGH).clamp_max(1.0) ** STEEP
        trust = trust.clamp_min(1e-14)  # never 0: or all might have none
        raised = torch.where(self.natural > 0, self.base / self.natural, 1.0)
        shares = self.natural * trust * torch.where(raised > 1, raised**trust, raised)
        shares = shares / shares.sum()
        if self.apply == "loss":
            low, high = self.config.w_min * self.natural, self.config.w_max * self.natural
            shares = torch.from_numpy(shares_between(shares.numpy(), low.numpy(), high.numpy()))
        return weights_of_shares(shares, self.natural)

    def _relative(self, values: Tensor) -> Tensor:
        """Worth over its median, (num_topics,), at most 1; 1 where it isn't known (NaN)."""
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
