"""From rows to tensors: what one micro-step of one rank needs, on its device.

Every rank computes the segments of the whole global batch, which is index arithmetic, and reads the tokens of its own
rows only. So the step's normaliser is known without communication.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toremi_cli.train.documents import DENSE, GROUPS, STRETCHES, Documents, Groups, Stretches
from toremi_cli.train.index import SampleIndex
from toremi_cli.train.packing import PackedRows, RowStream, micro_batch_rows
from toremi_cli.train.tokens import TokenCache

BATCHES_AHEAD = 2


@dataclass(frozen=True)
class MicroBatch:
    """Rows b of T tokens, their S segments, and the P pairs of segment and topic."""

    inputs: Tensor
    """(b, T) int64"""
    targets: Tensor
    """(b, T) int64: the token after each input"""
    segment: Tensor
    """(b * T,) int64: segment of each predicted token"""
    num_predicted: Tensor
    """(S,) float32: predicted tokens of the segment's whole sample"""
    mass: Tensor
    """(S,) float32: the fraction of them in this segment"""
    num_tokens: Tensor
    """(S,) float32: predicted tokens in this segment"""
    num_bytes: Tensor
    """(S,) float32: bytes of text they stand for, in proportion to the sample's"""
    begins: Tensor
    """(S,) float32: 1 where the segment is the first of its sample, else 0"""
    stratum: Tensor
    """(S,) int64: stratum of the segment's sample"""
    batch_sample: Tensor
    """(S,) int64: the segment's sample, numbered within the global batch"""
    pair_segment: Tensor
    """(P,) int64"""
    pair_topic: Tensor
    """(P,) int64"""
    pair_prob: Tensor
    """(P,) float32"""
    bounds: Tensor | None = None
    """See `Stretches`; None where attention isn't by these."""
    padded: Tensor | None = None
    """See `Groups`, as the next two; None where attention isn't by these."""
    places: Tensor | None = None
    shapes: tuple[tuple[int, int], ...] = ()
    buffer: Tensor | None = None
    """uint8: all of these end to end, where they are to be copied as one."""

    @property
    def documents(self) -> Documents | None:
        """What attention is to stay in, unless a mask says so or it may see all of a row."""
        if self.bounds is not None:
            return Stretches(self.bounds)
        if self.padded is None or self.places is None:
            return None
        return Groups(self.shapes, self.padded, self.places)

    def packed(self) -> MicroBatch:
        """The same in one buffer, pinned where there is a GPU: one copy to it instead of one for each tensor."""
        tensors = self._tensors().values()
        pinned = torch.cuda.is_available()
        buffer = torch.empty(sum(t.nbytes for t in tensors), dtype=torch.uint8, pin_memory=pinned)
        packed = self._over(buffer)
        for name, tensor in self._tensors().items():
            getattr(packed, name).copy_(tensor)
        return packed

    def to(self, device: torch.device) -> MicroBatch:
        """Copy to a device, without waiting where it has a queue."""
        if device.type == "cpu":
            return self
        if self.buffer is not None:
            return self._over(self.buffer.to(device, non_blocking=self.buffer.is_pinned()))
        return MicroBatch(**{name: tensor.to(device) for name, tensor in self._tensors().items()}, shapes=self.shapes)

    def _tensors(self) -> dict[str, Tensor]:
        """Those of 8 bytes first: each begins where its type may."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "buffer"}
        tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
        return dict(sorted(tensors.items(), key=lambda item: -item[1].element_size()))

    def _over(self, buffer: Tensor) -> MicroBatch:
        """Tensors of the same types and shapes that are views of a buffer."""
        views, begin = {}, 0
        for name, tensor in self._tensors().items():
            end = begin + tensor.nbytes
            views[name], begin = buffer[begin:end].view(tensor.dtype).view(tensor.shape), end
        return MicroBatch(**views, shapes=self.shapes, buffer=buffer)


@dataclass(frozen=True)
class StepBatch:
    """One rank's part of a global batch."""

    micro_batches: list[MicroBatch]
    total_mass: float
    """Sum of the masses of the global batch: its number of samples, cut ones counted in part."""
    total_tokens: int
    """Predicted tokens of the global batch."""
    num_samples: int
    """Different samples in the global batch."""
    state: dict[str, Any]
    """Where the stream stands after this batch."""


class BatchBuilder:
    """Builds a rank's micro-batches of each step."""

    def __init__(
        self,
        cache: TokenCache,
        index: SampleIndex,
        stream: RowStream,
        *,
        batch_size: int,
        world_size: int,
        rank: int,
        num_micro_steps: int,
        packs: bool = False,
        documents: str = DENSE,
    ) -> None:
        """Read `batch_size` rows a step from `stream`, of which rank `rank` of `world_size` builds its stride.

        `packs`: have each micro-batch in one buffer. `documents`: DENSE, GROUPS or STRETCHES, for attention.
        """
        self.packs, self.documents = packs, documents
        self.cache, self.index, self.stream = cache, index, stream
        self.batch_size, self.world_size, self.rank = batch_size, world_size, rank
        self.part(num_micro_steps)

    def part(self, num_micro_steps: int) -> None:
        """Build so many micro-batches a step from now on."""
        self.parts = micro_batch_rows(self.batch_size, self.world_size, self.rank, num_micro_steps)

    def first_rows(self, num_rows: int) -> MicroBatch:
        """The first `num_rows` of the rank's rows of the next step as one micro-batch; the step still has them."""
        state = self.stream.state_dict()
        rows = self.stream.next_rows(self.batch_size)
        self.stream.load_state_dict(state)
        return self._micro_batch(rows.select(np.concatenate(self.parts)[:num_rows]), np.unique(rows.sample))

    def next_batch(self) -> StepBatch:
        """The next step's batch."""
        rows = self.stream.next_rows(self.batch_size)
        mass = rows.length / self.stream.order.num_predicted(rows.sample)
        distinct = np.unique(rows.sample)
        return StepBatch(
            [self._micro_batch(rows.select(part), distinct) for part in self.parts],
            float(mass.sum()),
            self.batch_size * rows.row_length,
            len(distinct),
            self.stream.state_dict(),
        )

    def _micro_batch(self, rows: PackedRows, distinct: np.ndarray) -> MicroBatch:
        targets, inputs = self._tokens(rows)
        predicted = self.stream.order.num_predicted(rows.sample)
        mass = rows.length / predicted
        pair_segment, pair_topic, pair_prob = self.index.pairs.of(rows.sample)
        strata = self.index.strata.stratum_of[rows.sample]
        batch = MicroBatch(
            inputs=torch.from_numpy(inputs),
            targets=torch.from_numpy(targets),
            segment=torch.from_numpy(np.repeat(np.arange(len(rows.sample)), rows.length)),
            num_predicted=_float(predicted),
            mass=_float(mass),
            num_tokens=_float(rows.length),
            num_bytes=_float(self.cache.num_bytes[rows.sample] * mass),
            begins=_float(rows.start == 0),
            stratum=torch.from_numpy(strata.astype(np.int64)),
            batch_sample=torch.from_numpy(np.searchsorted(distinct, rows.sample)),
            pair_segment=torch.from_numpy(pair_segment),
            pair_topic=torch.from_numpy(pair_topic),
            pair_prob=_float(pair_prob),
            **self._documents(rows.length),
        )
        return batch.packed() if self.packs else batch

    def _documents(self, lengths: np.ndarray) -> dict[str, Any]:
        """Where the segments, of (S,) `lengths`, lie: index arithmetic that no device has to be asked for."""
        if self.documents == STRETCHES:
            return {"bounds": Stretches.of(lengths).bounds}
        if self.documents == GROUPS:
            groups = Groups.of(lengths)
            return {"padded": groups.padded, "places": groups.places, "shapes": groups.shapes}
        return {}

    def _tokens(self, rows: PackedRows) -> tuple[np.ndarray, np.ndarray]:
        """Targets and inputs, both (num_rows, row_length) int64."""
        begins = self.cache.offset[rows.sample] + rows.start
        first = np.searchsorted(rows.row, np.arange(rows.num_rows))  # each row's first segment
        tokens = self.cache.read(
            np.append(begins, np.maximum(begins[first] - 1, 0)), np.append(rows.length, np.ones_like(first))
        ).astype(np.int64)
        targets, before = tokens[: -rows.num_rows].reshape(rows.num_rows, rows.row_length), tokens[-rows.num_rows :]
        inputs = np.empty_like(targets)
        inputs[:, 1:] = targets[:, :-1]
        # Whatever sample came before, a sample's first token is predicted from the end-of-text token.
        inputs[:, 0] = np.where(rows.start[first] > 0, before, self.cache.meta["eos_id"])
        return targets, inputs


def _float(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def prefetch(builder: BatchBuilder, steps: range, may_look_ahead: Callable[[int], bool]) -> Iterator[StepBatch]:
    """Yield a batch for each of `steps`, built by a thread while those before it are trained on.

    `may_look_ahead(step)` tells whether the batch of `step` can be built before the step before it has ended: not
    where the end of that step may change what is drawn.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
        ahead: deque[Future[StepBatch]] = deque()
        for step in steps:
            batch = ahead.popleft().result() if ahead else builder.next_batch()
            while len(ahead) < BATCHES_AHEAD:
                following = step + len(ahead) + 1
                if following not in steps or not may_look_ahead(following):
                    break
                ahead.append(pool.submit(builder.next_batch))
            yield batch
