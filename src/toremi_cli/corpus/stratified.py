"""A bounded, seeded sample of a stream, fair to its sources."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

T = TypeVar("T")


class _Last(str):
    """A name that sorts before those that sort before it."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


class StratifiedSample(Generic[T]):
    """Keeps items of at most `budget` in all, each source as much as every other as far as it has it.

    Within a source the items of smallest key stay, so with hashes as keys it is a uniform sample. What one small
    source leaves unused goes to the others (max-min fairness). Memory is that of the budget.
    """

    def __init__(self, budget: int) -> None:
        """`budget` is in the unit of the costs given to `add`: bytes, or 1 an item."""
        self.budget = budget
        self._heaps: dict[str, list[tuple[int, int, int, T]]] = {}
        self._costs: dict[str, int] = {}
        self._ceiling: dict[str, int] = {}
        self._fullest: list[tuple[int, _Last]] = []
        """Each source under minus its cost, and under costs it had before."""
        self._num_seen = self._num_kept = 0
        self.total = 0

    def wants(self, source: str, key: int) -> bool:
        """Whether an item of this key has a chance to stay."""
        return key < self._ceiling.get(source, key + 1)

    def add(self, source: str, key: int, cost: int, item: T) -> None:
        """Offer an item; `key` decides whether it stays."""
        if not self.wants(source, key):
            return  # one with a smaller key has already been turned out
        self._num_seen += 1
        self._num_kept += 1
        heapq.heappush(self._heaps.setdefault(source, []), (-key, self._num_seen, cost, item))
        self._costs[source] = self._costs.get(source, 0) + cost
        self._rank(source)
        self.total += cost
        while self.total > self.budget and self._num_kept > 1:
            self._drop_from(self._pop_fullest())

    def items(self) -> list[T]:
        """What was kept, source by source in the order of their names, by key within."""
        return [entry[3] for name in sorted(self._heaps) for entry in sorted(self._heaps[name], key=lambda e: -e[0])]

    def _drop_from(self, source: str) -> None:
        negative_key, _, cost, _ = heapq.heappop(self._heaps[source])
        self._ceiling[source] = -negative_key
        self._costs[source] -= cost
        self._num_kept -= 1
        self.total -= cost
        if self._heaps[source]:
            self._rank(source)
        else:
            del self._heaps[source], self._costs[source]

    def _rank(self, source: str) -> None:
        if len(self._fullest) > 2 * len(self._costs) + 100:
            self._fullest = [(-cost, _Last(name)) for name, cost in self._costs.items()]
            heapq.heapify(self._fullest)
        else:
            heapq.heappush(self._fullest, (-self._costs[source], _Last(source)))

    def _pop_fullest(self) -> str:
        """The source of most cost, of several the last by name."""
        while True:
            negative_cost, source = heapq.heappop(self._fullest)
            if self._costs.get(source) == -negative_cost:
                return source
