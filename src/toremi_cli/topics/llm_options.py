"""Which options of a chat request a server takes, found out by what it refuses.

Servers differ: many know no JSON schema, models that reason want `max_completion_tokens` in place of `max_tokens` and
no temperature. A refusal (HTTP 400 or 422) usually names the option; then only that one goes. Where it names none, the
options are left out one at a time, then all. What is left out is remembered when a request without it is served.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

NEWER_LIMIT = "max_completion_tokens"
LIMITS = ("max_tokens", NEWER_LIMIT)


class KnownOptions:
    """The options that a server takes as far as is known, for several threads."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._lock = threading.Lock()

    def current(self) -> dict[str, Any]:
        """A copy to send."""
        with self._lock:
            return dict(self._options)

    def learn(self, served: Mapping[str, Any]) -> None:
        """Remember that a request with these was served: only options that it had too are sent from now on."""
        with self._lock:
            limit = self._options.pop("max_tokens", None)
            if limit is not None:
                self._options[next((name for name in LIMITS if name in served), "max_tokens")] = limit
            self._options = {name: value for name, value in self._options.items() if name in served}


class Negotiation:
    """The options of one request, fewer after each refusal."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self._guesses: Iterator[dict[str, Any]] | None = None

    def refused(self, message: str) -> bool:
        """Leave out what the server's `message` refuses; False if nothing is left to leave out."""
        if "max_tokens" in self.options and NEWER_LIMIT in message:
            self.options = {**self.options, NEWER_LIMIT: self.options["max_tokens"]}
            del self.options["max_tokens"]
            return True
        named = [name for name in self.options if re.search(rf"\b{name}\b", message)]
        if named and self._guesses is None:
            self.options = {name: value for name, value in self.options.items() if name not in named}
            return True
        if self._guesses is None:
            self._guesses = _one_less_each(self.options)
        guess = next(self._guesses, None)
        if guess is None:
            return False
        self.options = guess
        return True


def _one_less_each(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for left_out in options:
        yield {name: value for name, value in options.items() if name != left_out}
    if len(options) > 1:
        yield {}
