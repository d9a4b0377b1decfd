"""Adaptive sampling of a data set's rows: the draws of `toremi pretrain`, counted in rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from toremi_cli.integrations.hf_rows import RowTopics
from toremi_cli.reweight import Policy, StratumDraws
from toremi_cli.train.adaptive_sampling import AdaptiveSampling
from toremi_cli.train.index import build_index


class Sampling(ABC):
    """Draws rows by the weights of their topics; every rank holds the same."""

    draws: StratumDraws
    loss_factors: Tensor
    """(num_strata,) float64 in force on the loss."""
    propensities: Tensor
    """(num_strata,) float64 in force on the statistics."""

    def __init__(self, policy: Policy) -> None:
        self.corrects_loss = policy.apply == "both"
        self.handed: deque[np.ndarray] = deque()
        """(batch_size,) strata of each micro-batch of this rank that was handed out and is not trained on yet."""
        self.put_in_force(policy.weights)

    def factors(self, num_rows: int, place: torch.device) -> tuple[Tensor, Tensor]:
        """Factors of the rows of the next batch, (num_rows,) float64 each: on the loss, on the statistics.

        Raises:
            ValueError: it has other rows than were drawn.
        """
        drawn = self.handed.popleft() if self.handed else np.zeros(0, np.int64)
        if len(drawn) != num_rows:
            raise ValueError(
                f"a batch has {num_rows} rows where {len(drawn)} were drawn; draws by topic need a collator that keeps "
                "each row of the data set a row of the batch"
            )
        return self.loss_factors[drawn].to(place), self.propensities[drawn].to(place)

    @abstractmethod
    def check(self, data: Any) -> None:
        """Refuse training data that can't be drawn from: ValueError."""

    @abstractmethod
    def update(self, weights: Tensor, remaining: int, interval: int) -> None:
        """Draw by new weights from the next row on; rows to come in the run, and before the next update."""

    @abstractmethod
    def put_in_force(self, weights: Tensor) -> None:
        """Let what follows from the shares act: factors on the loss, and on the statistics."""

    @abstractmethod
    def drawn_weights(self) -> Tensor:
        """(num_topics,) float64: rate at which each topic's rows are drawn over the natural one."""

    @abstractmethod
    def loader(self, data: Any, batch_size: int, rank: int, world_size: int, step_rows: int, **how: Any) -> DataLoader:
        """One rank's micro-batches, each drawn when it is asked for; `how` goes to the DataLoader."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Where the draws stand, as JSON-able values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; ValueError where the state is of other rows."""


class RowSampling(Sampling):
    """Of a map-style data set: a stratum is a set of topics."""

    def __init__(self, rows: RowTopics, policy: Policy) -> None:
        self.rows = rows
        length = np.zeros(rows.num_rows, np.int64)  # the end alone: each row counts as one
        index, key = build_index(rows.rows, length, soft=rows.is_soft), (rows.fingerprint, policy.config.seed)
        self.adaptive = AdaptiveSampling(index, length, policy.config, *key, corrects_loss=policy.apply == "both")
        self.draws = self.adaptive.order.draws
        super().__init__(policy)

    def check(self, data: Any) -> None:
        """Only the rows that were read can be drawn."""
        if not hasattr(data, "__getitem__") or len(data) != self.rows.num_rows:
            raise ValueError(
                f"the training data isn't the data set of {self.rows.num_rows:,} rows whose topics were read: expected "
                "that one, map-style; streams are for StreamedRows"
            )

    def update(self, weights: Tensor, remaining: int, interval: int) -> None:
        """Draw by new weights."""
        self.adaptive.update(weights, remaining, interval)

    def put_in_force(self, weights: Tensor) -> None:
        """Let the shares act."""
        self.loss_factors = self.adaptive.loss_factors(weights)
        self.propensities = self.adaptive.propensities()

    def drawn_weights(self) -> Tensor:
        """Rates of the topics."""
        return self.adaptive.drawn_weights()

    def loader(self, data: Any, batch_size: int, rank: int, world_size: int, step_rows: int, **how: Any) -> DataLoader:
        """An epoch is as many whole steps as the data set fills."""
        steps = max(self.rows.num_rows // step_rows, 1)
        length = steps * step_rows // (batch_size * world_size)
        return DataLoader(data, batch_sampler=DrawnBatches(self, batch_size, rank, world_size, length), **how)

    def state_dict(self) -> dict[str, Any]:
        """The rows, and where the draws stand."""
        return {"rows": self.rows.fingerprint, "draws": self.draws.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if state.get("rows") != self.rows.fingerprint:
            raise ValueError("the checkpoint drew from other rows; go on with the data set that it was trained on")
        self.draws.load_state_dict(state["draws"])


class DrawnBatches(Sampler[list[int]]):
    """One rank's micro-batches: each is drawn when it is asked for, so by the weights in force then."""

    def __init__(self, sampling: RowSampling, batch_size: int, rank: int, world_size: int, length: int) -> None:
        """`length` micro-batches are an epoch."""
        self.sampling, self.batch_size, self.length = sampling, batch_size, length
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[int]]:
        self.sampling.handed.clear()
        for _ in range(self.length):
            drawn = self.sampling.adaptive.order.take(self.batch_size * self.world_size)
            own = drawn[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
            strata = self.sampling.adaptive.strata.stratum_of[own].astype(np.int64)
            self.sampling.handed.append(strata)
            yield own.tolist()
