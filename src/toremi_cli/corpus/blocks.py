"""Cutting text at good places, by characters alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]]*(?=\s)|[。！？]")


def split_blocks(text: str, block_chars: int) -> Iterator[str]:
    """Cut a huge text into blocks, at line ends or spaces where there are any."""
    begin = 0
    while len(text) - begin > block_chars:
        end = best_cut(text, begin + block_chars // 2, begin + block_chars)
        yield text[begin:end]
        begin = end
    if begin < len(text) or not text:
        yield text[begin:]


def best_cut(text: str, low: int, high: int) -> int:
    """The best place between `low` and `high`: after a paragraph, a line, a sentence, before a space, or `high`.

    Lines keep their end and words their leading space: byte-level tokenizers join a space to the word that follows.
    """
    for mark in ("\n\n", "\n"):
        place = text.rfind(mark, low, high)
        if place >= 0:
            return place + len(mark)
    sentence_ends = [match.end() for match in _SENTENCE_END.finditer(text, low, high)]
    if sentence_ends:
        return sentence_ends[-1]
    place = text.rfind(" ", low, high)
    return place if place >= low else high
