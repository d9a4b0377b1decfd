"""Rows of streams, a stream a topic, in the Hugging Face `Trainer`: mixed by the shares of a policy.

    rows = StreamedRows({"code": open_code, "web": open_web}, sizes)
    policy = make_policy(PolicyConfig(name="toremi"), rows.topics, rows.policy_data())
    reweighting = TopicReweighting(policy, interval=100, rows=rows)
    ReweightingTrainer(model=model, args=args, train_dataset=rows, reweighting=reweighting).train()

Streams are described in `streams`; theirs are rows with `input_ids` and `labels`. A row with `segment_ids` is packed of
samples of its topic, any other is one sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from toremi_cli.integrations.hf_rows import read_rows
from toremi_cli.integrations.hf_sampling import Sampling
from toremi_cli.integrations.streams import TopicStreams
from toremi_cli.reweight import Policy, PolicyData, importance

Row = dict[str, Any]


class StreamedRows(IterableDataset[Row]):
    """Endless rows with their topics."""

    def __init__(
        self,
        streams: Mapping[str, Callable[[], Iterable[Row]]],
        sizes: Iterable[float],
        seed: int = 0,
        topics: Sequence[str] | None = None,
    ) -> None:
        """Begin with natural shares.

        Args:
            streams: by topic; each call opens the stream at its beginning.
            sizes: rows of each.
            seed: what the draws are derived from.
            topics: the names of the streams in the order of their ids; that of the streams, if not given.

        Raises:
            ValueError: a size that is missing or not above 0; topics that aren't those of the streams.
        """
        self.streams, self.node = dict(streams), TopicStreams(streams, list(sizes), seed)
        self.topics = tuple(topics or streams)
        if sorted(self.topics) != sorted(streams):
            raise ValueError(
                f"topics are {', '.join(self.topics)}; expected those of the streams, {', '.join(streams)}"
            )
        self.ids = np.array([self.topics.index(topic) for topic in streams], np.int64)
        """(num_topics,) id of each stream's topic."""

    def policy_data(self, num_rows: int = 200, eos_id: int | None = None) -> PolicyData:
        """Sizes of the topics, and what the tokens of their first rows cost under n-grams: for `make_policy`.

        Args:
            num_rows: read of each stream.
            eos_id: the token between samples, which says nothing of their topics.
        """
        head = (self.labelled(t, row) for t, opener in self.streams.items() for row in islice(opener(), num_rows))
        known = read_rows(head, self.topics, eos_id).policy_data()
        sizes = self.node.natural[np.argsort(self.ids)].tolist()
        return PolicyData(sizes=sizes, ngram_loss=known.ngram_loss, unigram_loss=known.unigram_loss)

    def labelled(self, topic: str, row: Row) -> Row:
        """The row with its topic as the batch has it; topics of its own stay."""
        if row.get("topic_ids") is not None or row.get("token_topic_ids") is not None:
            return row
        place = self.topics.index(topic)
        if row.get("segment_ids") is None:
            return {**row, "topic_ids": [place]}
        return {**row, "token_topic_ids": [place] * len(row["labels"])}

    def __iter__(self) -> Iterator[Row]:
        return (self.labelled(topic, row) for topic, row in self.node)


class StreamSampling(Sampling):
    """Of streams: a stratum is a topic's stream."""

    def __init__(self, rows: StreamedRows, policy: Policy) -> None:
        self.rows, self.node, self.draws = rows, rows.node, rows.node.draws
        self.node.floor, self.node.max_repeats = policy.config.sampling_floor, policy.config.max_repeats
        super().__init__(policy)

    def check(self, data: Any) -> None:
        """Only these streams can be drawn from."""
        if data is not self.rows:
            raise ValueError("the training data isn't the StreamedRows given as rows: expected the same object")

    def update(self, weights: Tensor, remaining: int, interval: int) -> None:
        """Draw by new weights."""
        self.node.set_weights(weights[self.rows.ids], remaining)

    def put_in_force(self, weights: Tensor) -> None:
        """Let the shares act."""
        self.propensities = torch.from_numpy(self.node.propensities())
        self.loss_factors = torch.ones_like(self.propensities)
        if self.corrects_loss:
            factors = importance(weights[self.rows.ids].numpy(), self.node.natural, self.draws.shares)
            self.loss_factors = torch.from_numpy(factors)

    def drawn_weights(self) -> Tensor:
        """Rates of the topics."""
        return torch.from_numpy(1 / self.node.propensities()[np.argsort(self.rows.ids)])

    def loader(self, data: Any, batch_size: int, rank: int, world_size: int, step_rows: int, **how: Any) -> DataLoader:
        """Without end."""
        self.node.rank, self.node.world_size = rank, world_size
        return DataLoader(_StreamedBatches(self, batch_size), batch_size=None, **how)

    def state_dict(self) -> dict[str, Any]:
        """Where draws and streams stand."""
        return {"streams": self.node.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if "streams" not in state:
            raise ValueError("the checkpoint drew from a data set of rows, not from streams; go on with that")
        self.node.load_state_dict(state["streams"])


class _StreamedBatches(IterableDataset[list[Row]]):
    """One rank's micro-batches."""

    def __init__(self, sampling: StreamSampling, batch_size: int) -> None:
        self.sampling, self.batch_size = sampling, batch_size

    def __iter__(self) -> Iterator[list[Row]]:
        rows, node = self.sampling.rows, iter(self.sampling.node)
        self.sampling.handed.clear()
        while True:
            drawn = list(islice(node, self.batch_size))
            strata = [node.topics.index(topic) for topic, _ in drawn]
            self.sampling.handed.append(np.array(strata, np.int64))
            yield [rows.labelled(topic, row) for topic, row in drawn]
