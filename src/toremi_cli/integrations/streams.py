"""Streams of topics, mixed by shares that may change at any time: a data node for loops of any kind.

    node = TopicStreams({"code": open_code, "web": open_web}, sizes, seed=0)
    for topic, sample in node: ...
    node.set_weights(policy.weights)      # once an interval; every rank must come to the same weights
    node.load_state_dict(node.state_dict())

It is an `IterableDataset` with a state, which torchtitan and `torchdata` load from as it is.
Draw n is a pure function of (seed, n, shares), as in `toremi pretrain`; a stream that ends begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from toremi_cli.integrations.endless import Endless
from toremi_cli.reweight import StratumDraws, importance, sampling_shares

T = TypeVar("T")


class TopicStreams(IterableDataset[tuple[str, T]], Iterator[tuple[str, T]]):
    """Endless samples with the names of their topics; of several ranks, each reads its stride of the same sequence."""

    def __init__(
        self,
        streams: Mapping[str, Callable[[], Iterable[T]]],
        natural: Sequence[float] | Tensor,
        seed: int = 0,
        *,
        floor: float = 0.1,
        max_repeats: float | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Begin with natural shares.

        Args:
            streams: by topic, in the policy's order; each call opens the stream at its beginning. What it opens comes
                in the same order each time, or has a state (`state_dict`, `load_state_dict`) to go on from.
            natural: (num_topics,) how much there is of each, in samples.
            seed: what the draws are derived from.
            floor: least rate of a topic, as a fraction of the natural one.
            max_repeats: most draws of a topic in all, as a multiple of its samples; see `set_weights`.
            rank, world_size: this process, and how many share the draws.

        Raises:
            ValueError: a size that is missing or not above 0.
        """
        self.topics, self._streams = tuple(streams), [Endless(*stream) for stream in streams.items()]
        self.natural = np.asarray(natural, np.float64)
        if self.natural.shape != (len(self.topics),) or not (self.natural > 0).all():
            raise ValueError(
                f"natural is {self.natural.tolist()}; expected a number above 0 for each of {len(self.topics)} topics"
            )
        self.floor, self.max_repeats, self.rank, self.world_size = floor, max_repeats, rank, world_size
        self.draws = StratumDraws(self.natural / self.natural.sum(), seed, "streams")

    def set_weights(self, weights: Sequence[float] | Tensor, remaining: int = 0) -> None:
        """Draw by a policy's weights, (num_topics,), from the next sample on.

        Args:
            weights: of the topics.
            remaining: samples still to come in the run, all ranks; without it `max_repeats` has no say.
        """
        limits: dict[str, Any] = {"floor": self.floor, "max_repeats": self.max_repeats}
        limits |= {"drawn": self.draws.counts, "remaining": remaining}
        self.draws.set_shares(sampling_shares(np.asarray(weights, np.float64), self.natural, **limits))

    def propensities(self) -> np.ndarray:
        """(num_topics,) natural share over that of the draws: factors under which topic losses stay unbiased."""
        return importance(np.ones(len(self.topics)), self.natural, self.draws.shares)

    def __iter__(self) -> TopicStreams[T]:
        """Itself.

        Raises:
            ValueError: in a worker process, which a policy's weights never reach.
        """
        if get_worker_info() is not None:
            raise ValueError("TopicStreams in a worker of a DataLoader: weights don't reach it; use num_workers=0")
        return self

    def __next__(self) -> tuple[str, T]:
        # All that the ranks draw at a time, so that new shares find every rank at the same draw.
        strata, ordinals = self.draws.advance(self.world_size)
        topic = strata[self.rank]
        return self.topics[topic], self._streams[topic].sample(int(ordinals[self.rank]))

    def state_dict(self) -> dict[str, Any]:
        """Where draws and streams stand, as JSON-able values where those of the streams are."""
        streams = {stream.topic: stream.state_dict() for stream in self._streams}
        return {"topics": list(self.topics), "draws": self.draws.state_dict(), "streams": streams}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; a stream without a state of its own is read up to its place again.

        Raises:
            ValueError: the state is of other topics.
        """
        if tuple(state["topics"]) != self.topics:
            raise ValueError(f"the state is of topics {', '.join(state['topics'])}, not {', '.join(self.topics)}")
        self.draws.load_state_dict(state["draws"])
        for stream in self._streams:
            stream.load_state_dict(state["streams"][stream.topic])
