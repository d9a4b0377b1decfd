"""Is the hub there? Asked once, so that a machine without network is told so at once instead of after many retries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import Request, urlopen

PATIENCE = 5.0
"""Seconds to wait for the hub."""


@contextmanager
def cache_only_if_unreachable() -> Iterator[bool]:
    """Within this, `datasets` and `huggingface_hub` read only their caches, if the hub does not answer.

    They retry each request five times, with growing pauses, which takes a minute for each file that a task needs.

    Yields:
        Whether the hub answered (False also where offline mode was set before: it isn't asked).
    """
    import datasets.config
    from huggingface_hub import constants

    if constants.is_offline_mode():
        yield False
        return
    answers = hub_answers(constants.ENDPOINT)
    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if not answers:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield answers
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def hub_answers(endpoint: str) -> bool:
    """Whether anything, an error page included, answers at a URL within PATIENCE seconds; proxies are honoured."""
    try:
        urlopen(Request(endpoint, method="HEAD"), timeout=PATIENCE).close()
    except HTTPError:
        return True
    except OSError:
        return False
    return True
