"""Which tokens begin a word: told from the vocabulary, for any kind of tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np

SPACES = ("Ġ", "▁", " ")
"""What stands for a space before a word in byte-level and in SentencePiece's vocabularies."""


def word_beginnings(tokenizer: Any, vocab_size: int) -> np.ndarray:
    """(vocab_size,) bool: which tokens begin a word, or are no part of one.

    Words are runs of cased letters and digits. In scripts without case, many of which have no spaces either, each token
    counts as a beginning, and so do punctuation and special tokens. A word after a line break has no space that would
    tell, and counts as going on: a few are missed.

    Args:
        tokenizer: a `tokenizers.Tokenizer`.
        vocab_size: ids are below it; those that the tokenizer lacks count as beginnings.
    """
    names = [tokenizer.id_to_token(index) for index in range(vocab_size)]
    if goes_on := getattr(tokenizer.model, "continuing_subword_prefix", None):  # of WordPiece
        return np.array([not (name or "").startswith(goes_on) for name in names])
    return np.array([not name or name.startswith(SPACES) or not _goes_on(tokenizer, i) for i, name in enumerate(names)])


def _goes_on(tokenizer: Any, index: int) -> bool:
    first = tokenizer.decode([index], skip_special_tokens=True)[:1]
    return first.islower() or first.isupper() or first.isdigit()
