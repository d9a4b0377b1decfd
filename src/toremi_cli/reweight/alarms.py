"""What to watch of a policy's weights: numbers for `metrics`, and the warnings they call for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from toremi_cli.policy_config import PolicyConfig, settings_read
from toremi_cli.reweight.stats import IntervalStats

LONG_UNSEEN_INTERVALS = 10
AT_BOUND_ALARM = 0.5
LEARNING_RATE_ALARM = 1.5
CONCENTRATION_ALARM = 0.5
HALF, NAMED = 0.5, 5


def weight_health(
    weights: Tensor,
    config: PolicyConfig,
    stats: IntervalStats | None = None,
    natural: Tensor | None = None,
    average: str = "sample",
) -> dict[str, float]:
    """Numbers about the weights of topics.

    Args:
        weights: (num_topics,) float64.
        config: for its bounds.
        stats: the interval, for the mean weight over its samples or tokens.
        natural: (num_topics,) the topics' shares of the corpus, for what the weights make of them; equal where unknown.
        average: what the loss averages over, "sample" or "token".

    Returns:
        weight_entropy: of the weights as a distribution, over its largest possible value: 1 = all equal.
        weight_effective_topics: effective sample size (sum w)^2 / sum w^2 over the number of topics: 1 = all equal.
        weight_at_bound: share of topics at `w_min` or `w_max`.
        weight_mean: mean weight over the interval's samples or tokens, or over topics: the factor on the learning rate.
        mixture_effective_topics: how many topics the mixture (weight times share of the corpus) amounts to, e^entropy,
            over how many the corpus does: 1 = as evenly spread, below 1 = more concentrated.
    """
    total = weights.sum().clamp_min(1e-300)
    shares = weights / total
    entropy = float(torch.special.entr(shares).sum())
    num_topics = max(len(weights), 1)
    at_bound = (weights <= config.w_min) | (weights >= config.w_max)
    mean = float(weights.mean()) if len(weights) else 1.0
    if stats is not None and stats.share is not None:
        total_seen, weighted = stats.totals(weights, average)
        mean = weighted / total_seen if total_seen > 0 else mean
    natural = torch.full_like(weights, 1 / num_topics) if natural is None else natural
    return {
        "weight_entropy": entropy / float(torch.log(torch.tensor(num_topics).double())) if num_topics > 1 else 1.0,
        "weight_effective_topics": float(total**2 / (weights**2).sum().clamp_min(1e-300)) / num_topics,
        "weight_at_bound": float(at_bound.double().mean()) if len(weights) else 0.0,
        "weight_mean": mean,
        "mixture_effective_topics": _effective(weights * natural) / _effective(natural),
    }


def _effective(masses: Tensor) -> float:
    """e^entropy of the distribution that masses (num_topics,) stand for: the number of equal ones it amounts to."""
    return float(torch.special.entr(masses / masses.sum().clamp_min(1e-300)).sum().exp())


def alarms(
    health: dict[str, float], config: PolicyConfig, topics: Sequence[str], unseen_intervals: Sequence[int]
) -> list[str]:
    """Warnings in words; none where all is well.

    `unseen_intervals`: since when each topic was not seen. Told once, of all topics together, as long as one of them
    stays unseen: in a short run many small topics are late.
    """
    found = []
    reads = settings_read(config.name, config.of)
    steps = "alpha" in reads  # weights that go on from what they were, between bounds
    if steps and health["weight_at_bound"] > AT_BOUND_ALARM:
        found.append(
            f"{health['weight_at_bound']:.0%} of the topics stand at a bound ({config.w_min:g} or {config.w_max:g}): "
            "the weights say little more; a smaller alpha keeps them apart"
        )
    mean = health["weight_mean"]
    if not config.normalize and not 1 / LEARNING_RATE_ALARM <= mean <= LEARNING_RATE_ALARM:
        found.append(
            f"the mean weight is {mean:.2f}, as if the learning rate were {mean:.2f} times what it is: "
            "a comparison with uniform needs --set normalize=true"
        )
    spread = health["mixture_effective_topics"]
    if spread < CONCENTRATION_ALARM:
        found.append(
            f"the weights have drawn training together on few topics: as spread as {spread:.0%} of the corpus's"
            + ("; a smaller alpha or tighter bounds keep more in play" if steps else "")
        )
    if max(unseen_intervals, default=0) == LONG_UNSEEN_INTERVALS:
        found.append(_unseen([t for t, n in zip(topics, unseen_intervals, strict=True) if n == LONG_UNSEEN_INTERVALS]))
    return found


def _unseen(topics: Sequence[str]) -> str:
    long = f"not been seen for {LONG_UNSEEN_INTERVALS} intervals"
    if len(topics) == 1:
        return f"topic {topics[0]!r} has {long}; its weight stands still"
    names = ", ".join(map(repr, topics[:NAMED])) + (", …" if len(topics) > NAMED else "")
    return f"{len(topics)} topics have {long}; their weights stand still: {names}"


def held_down(weights: Tensor, natural: Tensor, topics: Sequence[str]) -> str:
    """Which topics weigh less than half of what they began with, and how much of the text they are; '' for none.

    Args:
        weights: (num_topics,)
        natural: (num_topics,) the topics' shares of the text.
        topics: their names.
    """
    low = (weights < HALF).nonzero().flatten().tolist()
    if not low:
        return ""
    low.sort(key=lambda k: -float(natural[k]))
    names = ", ".join(topics[k] for k in low[:NAMED]) + (", …" if len(low) > NAMED else "")
    part = float(natural[low].sum() / natural.sum())
    return f"{len(low)} of {len(topics)} topics, {part:.0%} of the text, weigh less than half: {names}"
