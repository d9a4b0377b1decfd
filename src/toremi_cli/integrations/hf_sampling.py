"""Adaptive sampling of a data set's rows: the draws of `toremi pretrain`, counted in rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from toremi_cli.integrations.hf_rows import RowTopics
from toremi_cli.reweight import Policy
from toremi_cli.train.sampling import AdaptiveSampling


class RowSampling:
    """Draws rows by the weights of their topics; every rank holds the same."""

    def __init__(self, rows: RowTopics, policy: Policy) -> None:
        every, ones = np.arange(rows.num_rows), np.ones(rows.num_rows, np.int64)
        self.rows, self.corrects_loss = rows, policy.apply == "both"
        self.adaptive = AdaptiveSampling(
            every,
            rows.rows,
            ones,
            policy.config,
            soft=rows.is_soft,
            corrects_loss=self.corrects_loss,
            key=(rows.fingerprint, policy.config.seed),
        )
        self.handed: deque[np.ndarray] = deque()
        """(batch_size,) rows of each micro-batch of this rank that was handed out and is not trained on yet."""
        self.put_in_force(policy.weights)

    def put_in_force(self, weights: Tensor) -> None:
        """Let what follows from the shares act: factors on the loss, and on the statistics; both (num_strata,)."""
        self.loss_factors = self.adaptive.loss_factors(weights)
        self.propensities = self.adaptive.propensities()

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
        strata = self.adaptive.stratum_of[drawn]
        return self.loss_factors[strata].to(place), self.propensities[strata].to(place)

    def state_dict(self) -> dict[str, Any]:
        """Where the draws stand, as JSON-able values."""
        return {"rows": self.rows.fingerprint, "draws": self.adaptive.order.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: the state is of other rows.
        """
        if state["rows"] != self.rows.fingerprint:
            raise ValueError("the checkpoint drew from other rows; go on with the data set that it was trained on")
        self.adaptive.order.load_state_dict(state["draws"])


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
            self.sampling.handed.append(own)
            yield own.tolist()
