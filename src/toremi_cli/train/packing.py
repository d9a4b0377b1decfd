"""Rows without padding: the samples' tokens end to end, cut every `row_length` predicted tokens.

The stream is an end-of-text token, then each sample's tokens and an end-of-text token. A sample of n tokens predicts
n + 1: its own and the end. Every token of the stream is predicted exactly once, and each predicted token belongs to
one sample. A sample that crosses the end of a row is cut into segments; a segment's *mass* is the fraction of the
sample's predicted tokens in it, so that sums over segments are exactly sums over samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from toremi_cli.train.order import SampleOrder


@dataclass(frozen=True)
class PackedRows:
    """Consecutive rows of the stream as segments, in stream order. All arrays are (num_segments,) int64."""

    num_rows: int
    row_length: int
    row: np.ndarray
    """Row of the segment: 0, 1, …, num_rows - 1."""
    sample: np.ndarray
    """Sample that it is part of."""
    start: np.ndarray
    """Its first token, as a position among the sample's predicted tokens."""
    length: np.ndarray
    """Its predicted tokens."""

    def select(self, rows: np.ndarray) -> PackedRows:
        """Some of the rows, renumbered 0, 1, … in the order of `rows`, which rises."""
        new_row = np.full(self.num_rows, -1)
        new_row[rows] = np.arange(len(rows))
        kept = new_row[self.row] >= 0
        return PackedRows(
            len(rows),
            self.row_length,
            new_row[self.row[kept]],
            self.sample[kept],
            self.start[kept],
            self.length[kept],
        )


class RowStream:
    """Cuts the stream of an order into rows."""

    def __init__(self, order: SampleOrder, row_length: int) -> None:
        """Begin the stream of an order, in rows of `row_length` predicted tokens."""
        self.order, self.row_length = order, row_length
        self.open_sample, self.consumed = -1, 0  # the sample that the last row cut, and how far it has been read

    def next_rows(self, num_rows: int) -> PackedRows:
        """The next rows, all of them full."""
        total = num_rows * self.row_length
        carried = np.array([self.open_sample] if self.open_sample >= 0 else [], np.int64)
        remaining = int(self.order.num_predicted(carried).sum()) - self.consumed
        samples = np.concatenate([carried, self.order.take(total - remaining)])
        # Where each sample begins in these rows; negative for the one that is carried over.
        predicted = self.order.num_predicted(samples)
        ends = np.cumsum(predicted) - self.consumed
        begins = ends - predicted
        edges = np.union1d(np.maximum(begins, 0), np.arange(num_rows) * self.row_length)
        edges = edges[edges < total]
        index = np.searchsorted(begins, edges, side="right") - 1
        length = np.diff(np.append(edges, total))
        self._remember(samples, begins, ends, total)
        return PackedRows(
            num_rows, self.row_length, edges // self.row_length, samples[index], edges - begins[index], length
        )

    def _remember(self, samples: np.ndarray, begins: np.ndarray, ends: np.ndarray, total: int) -> None:
        cut = int(ends[-1]) > total  # only the last sample can reach beyond
        self.open_sample = int(samples[-1]) if cut else -1
        self.consumed = total - int(begins[-1]) if cut else 0

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, as JSON-able values."""
        return {"sample": self.open_sample, "consumed": self.consumed, "order": self.order.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.open_sample, self.consumed = int(state["sample"]), int(state["consumed"])
        self.order.load_state_dict(state["order"])


def micro_batch_rows(num_rows: int, world_size: int, rank: int, num_micro_steps: int) -> list[np.ndarray]:
    """Which rows of a step a rank reads in each of its micro-steps: its stride, cut into near-equal parts."""
    return np.array_split(np.arange(rank, num_rows, world_size), num_micro_steps)
