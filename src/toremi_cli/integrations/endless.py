"""A stream that begins anew where it ends, read forwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Endless(Generic[T]):
    """The samples of a topic, by number."""

    def __init__(self, topic: str, opener: Callable[[], Iterable[T]]) -> None:
        """Nothing is opened yet; each call of `opener` begins anew."""
        self.topic, self.opener = topic, opener
        self._rewind()

    def _rewind(self) -> None:
        self._source: Any = None
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
            self._open()
            is_fresh = True

    def _open(self, state: Any = None) -> None:
        self._source = self.opener()
        if state is not None:
            self._source.load_state_dict(state)
        self._stream = iter(self._source)

    def state_dict(self) -> dict[str, Any]:
        """Samples read, and the state of what they come from, if it has one."""
        has_state = hasattr(self._source, "state_dict") and hasattr(self._source, "load_state_dict")
        return {"reached": self._reached, "source": self._source.state_dict() if has_state else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; without a state of the source all is read again."""
        self._rewind()
        if state["source"] is not None:
            self._reached = int(state["reached"])
            self._open(state["source"])
