"""Streams of topics, mixed by shares that may change at any time: a data node for loops of any kind.

    node = TopicStreams({"code": open_code, "web": open_web}, policy.natural, seed=0)
    for topic, sample in node: ...
    node.set_weights(policy.weights)      # once an interval; every rank must come to the same weights
    node.load_state_dict(node.state_dict())

Draw n is a pure function of (seed, n, shares), as in `toremi pretrain`; a stream that ends begins anew. Its state is
how many samples were drawn of each stream, so a stream has to come in the same order each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

from toremi_cli.reweight import StratumDraws, sampling_shares

T = TypeVar("T")


class TopicStreams(Iterator[tuple[str, T]], Generic[T]):
    """Endless samples with the names of their topics; of several ranks, each reads its stride of the same sequence."""

    def __init__(
        self,
        streams: Mapping[str, Callable[[], Iterable[T]]],
        natural: Sequence[float] | Tensor,
        seed: int = 0,
        *,
        floor: float = 0.1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Begin with natural shares.

        Args:
            streams: by topic, in the policy's order; each call opens the stream at its beginning.
            natural: (num_topics,) how much there is of each, in samples.
            seed: what the draws are derived from.
            floor: least rate of a topic, as a fraction of the natural one.
            rank, world_size: this process, and how many share the draws.

        Raises:
            ValueError: a size that is missing or not above 0.
        """
        self.topics, self._streams = tuple(streams), [_Endless(*stream) for stream in streams.items()]
        self.natural = np.asarray(natural, np.float64)
        if self.natural.shape != (len(self.topics),) or not (self.natural > 0).all():
            raise ValueError(
                f"natural is {self.natural.tolist()}; expected a number above 0 for each of {len(self.topics)} topics"
            )
        self.floor, self.rank, self.world_size = floor, rank, world_size
        self.draws = StratumDraws(self.natural / self.natural.sum(), seed, "streams")

    def set_weights(self, weights: Sequence[float] | Tensor) -> None:
        """Draw by a policy's weights, (num_topics,), from the next sample on."""
        self.draws.set_shares(sampling_shares(np.asarray(weights, np.float64), self.natural, floor=self.floor))

    def __next__(self) -> tuple[str, T]:
        while True:
            number = self.draws.index
            (topic,), (ordinal,) = self.draws.advance(1)
            if number % self.world_size == self.rank:
                return self.topics[topic], self._streams[topic].sample(int(ordinal))

    def state_dict(self) -> dict[str, Any]:
        """Where the draws stand, as JSON-able values."""
        return {"topics": list(self.topics), "draws": self.draws.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there: each stream is read up to its place again.

        Raises:
            ValueError: the state is of other topics.
        """
        if tuple(state["topics"]) != self.topics:
            raise ValueError(f"the state is of topics {', '.join(state['topics'])}, not {', '.join(self.topics)}")
        self.draws.load_state_dict(state["draws"])
        for stream in self._streams:
            stream.rewind()


class _Endless(Generic[T]):
    """A stream that begins anew where it ends, read forwards."""

    def __init__(self, topic: str, opener: Callable[[], Iterable[T]]) -> None:
        self.topic, self.opener = topic, opener
        self.rewind()

    def rewind(self) -> None:
        self._stream: Iterator[T] = iter(())
        self._reached = 0  # samples read

    def sample(self, ordinal: int) -> T:
        """Sample number `ordinal`, not below that of an earlier call.

        Raises:
            ValueError: the stream has no samples.
        """
        is_fresh = False
        while True:
            for sample in self._stream:
                self._reached, is_fresh = self._reached + 1, False
                if self._reached > ordinal:
                    return sample
            if is_fresh:
                raise ValueError(f"the stream of topic {self.topic!r} has no samples")
            self._stream, is_fresh = iter(self.opener()), True
