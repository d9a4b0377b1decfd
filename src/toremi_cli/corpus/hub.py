"""What the user names on the Hugging Face hub; nothing else is ever downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toremi_cli.errors import CorpusError, reason


def fetch_snapshot(name: str, patterns: Sequence[str], flag: str) -> Path:
    """The folder that holds a repository's files of these patterns, downloaded unless they are there already.

    Raises:
        CorpusError: no such name, no access, or no network; names the `flag` that asked for it.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except Exception as problem:  # many kinds: no network, no such name, no access
        why = reason(problem)
        raise CorpusError(f"{flag} {name}: no such path here, and not to be had from the hub ({why})") from None
