"""What a policy may need to know beforehand, besides its settings."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class WeightCourse:
    """Topic weights over a run, as a `weights` table tells them."""

    steps: Tensor
    """(num_steps,) int64, ascending."""
    weights: Tensor
    """(num_steps, num_topics) float64: in force after each step."""


@dataclass(frozen=True)
class PolicyData:
    """Facts about the topics, in the order of the policy's topics. Which are needed, `Policy.needs` tells."""

    sizes: Sequence[float] | None = None
    """How much of the training text each topic has, counted in what the loss averages over (tokens or samples): a
    policy's shares are shares of the objective. A sample of several topics counts in part for each."""
    crowding: Sequence[float] | None = None
    """How many topics there are of each topic's kind, itself included; at least 1."""
    ngram_loss: Sequence[float] | None = None
    """What the topic's tokens cost under n-grams, nats a token; NaN where not known. See `toremi_cli.ngrams`."""
    unigram_loss: Sequence[float] | None = None
    """The same under unigrams."""
    reference_loss: Sequence[float] | None = None
    """`group-dro`: losses of a reference model; `shearing`: the losses aimed at. In the policy's loss unit."""
    course: WeightCourse | None = None
    """`frozen`: the weights of another run."""


def weight_course(rows: Iterable[tuple[int, str, float]], topics: Sequence[str]) -> WeightCourse:
    """The course that rows (step, topic, weight) tell, in any order.

    Raises:
        ValueError: a topic of `topics` that the rows lack, a step at which it has no weight or two, a weight that is
            below 0 or no number, or none above 0.
    """
    index = {topic: i for i, topic in enumerate(topics)}
    found: dict[int, dict[int, float]] = {}
    for step, topic, weight in rows:
        if topic not in index:
            continue
        if weight is None or not 0 <= weight < math.inf:
            raise ValueError(f"the frozen weight of topic {topic!r} is {weight}; expected a number of at least 0")
        weights = found.setdefault(step, {})
        if index[topic] in weights:
            raise ValueError(f"the frozen weights have two rows for topic {topic!r} at step {step}")
        weights[index[topic]] = weight
    if not found:
        raise ValueError("the frozen weights have no row for any of the topics")
    for step, weights in found.items():
        if len(weights) < len(topics):
            lacking = next(topic for topic, i in index.items() if i not in weights)
            raise ValueError(f"the frozen weights have no row for topic {lacking!r} at step {step}")
        if not any(weights.values()):
            raise ValueError(f"the frozen weights are 0 for every topic at step {step}")
    steps = sorted(found)
    values = [[found[step][i] for i in range(len(topics))] for step in steps]
    return WeightCourse(torch.tensor(steps), torch.tensor(values, dtype=torch.float64))


def natural_shares(topic_sizes: Sequence[float] | None, num_topics: int) -> Tensor:
    """(num_topics,) float64 shares of the training text; equal where sizes are not known."""
    if topic_sizes is None:
        return torch.full((num_topics,), 1 / max(num_topics, 1), dtype=torch.float64)
    sizes = torch.tensor(list(topic_sizes), dtype=torch.float64)
    if len(sizes) != num_topics or not bool((sizes >= 0).all()) or not float(sizes.sum()) > 0:
        raise ValueError(f"expected the size of each of {num_topics} topics, not all of them 0")
    return sizes / sizes.sum()


def tempered_shares(natural: Tensor, temperature: float, crowding: Sequence[float] | None = None) -> Tensor:
    """(num_topics,) shares proportional to size^(1/temperature) / crowding; an empty topic keeps none.

    Raises:
        ValueError: not a crowding for each topic, or one below 1.
    """
    powered = torch.where(natural > 0, natural ** (1 / temperature), 0.0)
    if crowding is not None:
        crowded = torch.tensor(list(crowding), dtype=torch.float64)
        if crowded.shape != natural.shape or not bool((crowded > 0.999).all()):
            raise ValueError(
                f"crowding {list(crowding)}: expected a number of at least 1 for each of {len(natural)} topics"
            )
        powered = powered / crowded
    return powered / powered.sum()


def weights_of_shares(shares: Tensor, natural: Tensor) -> Tensor:
    """(num_topics,) weights that turn natural shares into `shares`: 1 for an empty topic.

    Weight times size is what adaptive sampling draws by, and what a weighted loss adds up to.
    """
    return torch.where(natural > 0, shares / natural.clamp_min(torch.finfo(torch.float64).tiny), 1.0)


def generator(*key: object) -> torch.Generator:
    """A random stream of its own, derived from (seed, purpose, …)."""
    text = "\x1f".join(map(str, key))
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
    return torch.Generator().manual_seed(seed)
