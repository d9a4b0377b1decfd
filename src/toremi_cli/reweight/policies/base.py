"""What every policy is: weights of topics that are updated once an interval from what the interval saw."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from toremi_cli.policy_config import PolicyConfig
from toremi_cli.reweight.policies.data import PolicyData, natural_shares
from toremi_cli.reweight.stats import IntervalStats, check_finite

NEEDS = {
    "sizes": "how much of the training text each topic has",
    "reference_loss": "the loss aimed at for each topic",
    "course": "the weights of another run",
    "loss_per_byte": "the bytes of each sample",
    "num_bytes": "the bytes of each sample",
    "sensitivity": "how strongly each topic's text moves the model",
    "holdout_loss": "each topic's loss on held-out samples",
    "num_tokens": "the predicted tokens of each topic",
    "token_loss": "the mean loss of each topic's tokens",
    "shuffled_loss": "the loss of the same predictions on other tokens of the sample",
    "word_gain": "what context gains on tokens that begin a word",
    "num_words": "the tokens that begin a word",
}
"""What a policy may need: fields of `PolicyData`, known beforehand, and of `IntervalStats`, measured in intervals."""
MEASURES = frozenset(field.name for field in fields(IntervalStats))


class MissingNeed(ValueError):
    """Something that a policy needs is not given."""

    def __init__(self, policy: str, need: str) -> None:
        super().__init__(f"policy {policy!r} needs {need}: {NEEDS[need]}")
        self.need = need
        """A key of `NEEDS`."""


class Policy(ABC):
    """Weights of topics: pure arithmetic in float64 on the CPU, the same on every rank that saw the same statistics."""

    name: ClassVar[str]
    """What users call it."""
    num_stages: ClassVar[int] = 1
    """1: the policy doesn't know stages. 2: its updates differ between stages."""
    acts_on: ClassVar[str] = "loss"
    """What its weights were made to act on, `loss` or `sampling`; see `PolicyConfig.apply`."""
    sample_level: ClassVar[bool] = False
    """True: it weighs single samples by `sample_factors`; its topic weights stay 1."""
    static: ClassVar[bool] = False
    """True: its weights are known before training, from the sizes of topics, and never change."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """Keys of `NEEDS` that must be given; see `needed`."""
    uses_ngrams: ClassVar[bool] = False
    """True: it is better for knowing `PolicyData.ngram_loss` and `unigram_loss`."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Of a plug-in: the fields of `PolicyConfig` that it reads; those of built-in policies stand in `POLICY_LIST`."""
    state: ClassVar[tuple[str, ...]] = ()
    """All its attributes that updates change, besides its weights: tensors, what JSON can hold, or a policy."""

    def __init__(self, config: PolicyConfig, topics: Sequence[str], data: PolicyData | None = None) -> None:
        """All weights start at 1, but for policies that set shares beforehand.

        Raises:
            ValueError: a topic's name occurs twice; something in `data` that the policy needs is missing.
        """
        self.config = config
        data = data or PolicyData()
        self._check_given({**vars(data), **dict.fromkeys(MEASURES, True)})
        if len(set(topics)) != len(topics):
            twice = next(t for i, t in enumerate(topics) if t in topics[:i])
            raise ValueError(f"topic {twice!r} occurs twice among the topics of a policy")
        self.topics = tuple(topics)
        self.data = data
        self.natural = natural_shares(data.sizes, len(topics))
        self.weights = torch.ones(len(topics), dtype=torch.float64)

    def update(self, stats: IntervalStats, stage: int = 1) -> Tensor:
        """Update the weights from an interval and return them: (num_topics,) float64.

        Args:
            stats: what the interval saw.
            stage: 1 or 2, of the run; a policy with one stage doesn't mind.

        Raises:
            ValueError: a loss that is NaN or infinite (names topic and step), statistics of other topics, or without
                something that the policy needs.
        """
        if stats.loss.shape != self.weights.shape:
            raise ValueError(f"statistics of {len(stats.loss)} topics for a policy with {len(self.weights)}")
        self.check_measures({name for name in MEASURES if getattr(stats, name) is not None})
        losses = stats.losses(self.config.loss_unit)
        check_finite(losses, stats.seen, stats.step, self.topics)
        if bool(stats.seen.any()):
            self.weights = self._updated(losses.double(), stats, self.stage_of(stage))
        return self.weights.clone()

    @property
    def needed(self) -> frozenset[str]:
        """What it can't do without under its settings: keys of `NEEDS`."""
        return self.needs

    def check_measures(self, given: Collection[str]) -> None:
        """Refuse to go on by less than the policy needs.

        Args:
            given: names of the fields of `IntervalStats` that are measured.

        Raises:
            MissingNeed: something else is needed, too.
        """
        self._check_given({**vars(self.data), **dict.fromkeys(given, True)})

    def _check_given(self, given: Mapping[str, Any]) -> None:
        for need in sorted(self.needed):
            if given.get(need) is None:
                raise MissingNeed(self.name, need)

    @abstractmethod
    def _updated(self, losses: Tensor, stats: IntervalStats, stage: int) -> Tensor:
        """New weights: (num_topics,). `losses` are in the configured unit; at least one topic was seen."""

    @property
    def apply(self) -> str:
        """What the weights act on: `loss`, `sampling` or `both`."""
        return self.acts_on if self.config.apply == "auto" else self.config.apply

    def sample_factors(self, sample_loss: Tensor, step: int) -> Tensor:
        """(S,) factor on each sample's loss besides its topics' weights, with mean 1. For `sample_level` policies.

        Args:
            sample_loss: (S,) detached losses of the samples that are weighed against each other.
            step: optimizer steps done.
        """
        return torch.ones_like(sample_loss)

    def stage_of(self, stage: int) -> int:
        """The stage that an update at the run's `stage` is made by."""
        return min(stage, self.num_stages)

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state: topics, weights and what `state` declares."""
        head = {"policy": self.name, "topics": list(self.topics)}
        return {**head, **{name: _saved(getattr(self, name)) for name in ("weights", *self.state)}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` gave.

        Raises:
            ValueError: the state is of another policy or of other topics.
        """
        if state["policy"] != self.name:
            raise ValueError(f"the state is of policy {state['policy']!r}, not of {self.name!r}")
        if tuple(state["topics"]) != self.topics:
            raise ValueError(f"the state is of {len(state['topics'])} other topics than this policy's")
        for name in ("weights", *self.state):
            setattr(self, name, _loaded(getattr(self, name), state[name]))


def _saved(value: Any) -> Any:
    """A part of a policy's state as JSON can hold it, which has no NaN."""
    if isinstance(value, Policy):
        return value.state_dict()
    if isinstance(value, Tensor):
        return _saved(value.tolist())
    if isinstance(value, list):
        return [_saved(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _loaded(current: Any, saved: Any) -> Any:
    """What `_saved` gave, in the kind of the part as it is now."""
    if isinstance(current, Policy):
        current.load_state_dict(saved)
        return current
    if isinstance(current, Tensor):
        return torch.tensor(_with_nan(saved), dtype=current.dtype)
    return saved


def _with_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value


def mean(values: Tensor) -> float:
    """The mean, independent of the order and exact where all values are equal (a plain sum is neither)."""
    numbers = values.tolist()
    first = math.fsum(numbers) / len(numbers)
    return first + math.fsum([*numbers, *([-first] * len(numbers))]) / len(numbers)
