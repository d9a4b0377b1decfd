"""Cutting documents into samples of at most so many tokens; a document's samples joined give its text back."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from toremi_cli.corpus.blocks import best_cut, split_blocks
from toremi_cli.lm.tokenizer import TextTokenizer

BLOCK_CHARS = 1 << 18
"""A longer text is tokenised in blocks of so many characters, which bounds the memory that one document takes."""
GROUP_CHARS = 1 << 20
"""Characters encoded in one call, at most (or one block)."""
CHARS_PER_TOKEN_AT_MOST = 64
SEEK_BACK = 0.1
"""Share of a sample, at its end, in which a good place to cut is looked for."""
_GAP = " \n\t\r"


class Chunk(NamedTuple):
    """A piece of a document."""

    text: str
    num_tokens: int
    """Of this very text, encoded by itself."""


class Chunker:
    """Cuts texts with one tokenizer at one length."""

    def __init__(self, tokenizer: TextTokenizer, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._gap_lengths: dict[str, int] = {}
        self._block_chars = max(BLOCK_CHARS, CHARS_PER_TOKEN_AT_MOST * max_tokens)

    def cut(self, texts: Sequence[str]) -> list[list[Chunk]]:
        """The samples of each text, in order.

        A piece is measured by encoding it alone, and cut again until it fits: a cut changes how the ends are encoded.
        """
        pieces: list[tuple[int, str, int]] = [
            (index, block, 0) for index, text in enumerate(texts) for block in split_blocks(text, self._block_chars)
        ]
        while any(not num_tokens for _, _, num_tokens in pieces):
            pieces = self._measure_and_cut(pieces)
        chunks: list[list[Chunk]] = [[] for _ in texts]
        for index, text, num_tokens in pieces:
            chunks[index].append(Chunk(text, num_tokens))
        return chunks

    def _measure_and_cut(self, pieces: list[tuple[int, str, int]]) -> list[tuple[int, str, int]]:
        encodings = self._encode_in_groups([text for _, text, num_tokens in pieces if not num_tokens])
        result: list[tuple[int, str, int]] = []
        for index, text, num_tokens in pieces:
            if num_tokens:
                result.append((index, text, num_tokens))
                continue
            encoding = next(encodings)
            if len(encoding) <= self._max_tokens or len(text) == 1:
                # A tokenizer may make nothing of a blank; it still counts as a token, so that all lengths are positive
                result.append((index, text, max(len(encoding), 1)))
                continue
            starts = [start for start, _ in encoding.offsets]
            cuts = cut_points(text, starts, self._max_tokens)
            for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
                result.append((index, text[begin:end], self._known_length(text, starts, begin, end)))
        return result

    def _encode_in_groups(self, texts: Sequence[str]) -> Iterator[Any]:
        """Encode a bounded number of characters at a time: an encoding takes some 30 times the memory of its text."""
        begin = 0
        while begin < len(texts):
            end, num_chars = begin, 0
            while end < len(texts) and (end == begin or num_chars + len(texts[end]) <= GROUP_CHARS):
                num_chars += len(texts[end])
                end += 1
            yield from self._tokenizer.encode(texts[begin:end])
            begin = end

    def _known_length(self, text: str, starts: Sequence[int], begin: int, end: int) -> int:
        """Tokens of `text[begin:end]` where the whole text's tokens tell, else 0: it has to be encoded by itself."""
        if not (self._tokenizer.splits_at_spaces and is_word_gap(text, begin) and is_word_gap(text, end)):
            return 0
        body = begin + len(text[begin:end].rstrip(_GAP))
        if end == len(text) or body == begin:
            body = end
        first, last = bisect_left(starts, begin), bisect_left(starts, body)
        if starts[first] != begin or (last < len(starts) and starts[last] != body):
            return 0
        # Blanks at the end of a text are joined to one run, which in the middle of a text they are not.
        num_tokens = last - first + (self._count_gap(text[body:end]) if body < end else 0)
        return num_tokens if num_tokens <= self._max_tokens else 0

    def _count_gap(self, blanks: str) -> int:
        if blanks not in self._gap_lengths:
            self._gap_lengths[blanks] = self._tokenizer.count([blanks])[0]
        return self._gap_lengths[blanks]


def is_word_gap(text: str, place: int) -> bool:
    """Whether a cut at `place` changes no token after it, and before it only blanks at the end.

    GPT-2's splitting joins one space to the word that follows; other blanks are tokens of their own.
    """
    if place in (0, len(text)):
        return True
    before, after = text[place - 1], text[place]
    if before == "\n":
        return not after.isspace()
    following = text[place + 1 : place + 2]
    return after == " " and not before.isspace() and bool(following) and not following.isspace()


def cut_points(text: str, starts: Sequence[int], max_tokens: int) -> list[int]:
    """Where to cut `text`, as character positions between its ends.

    `starts` holds the first character of each token, ascending; several tokens may share one character. A rest that is
    a little longer than one sample is cut in two halves, rather than into a full sample and a splinter.
    """
    cuts: list[int] = []
    begin = token = 0
    while len(starts) - token > max_tokens:
        rest = len(starts) - token
        limit = max_tokens if rest > 1.25 * max_tokens else math.ceil(rest * 0.55)
        high = max(starts[token + limit], begin + 1)
        if high >= len(text):
            break
        low = min(max(starts[token + int(limit * (1 - SEEK_BACK))], begin + 1), high)
        begin = best_cut(text, low, high)
        cuts.append(begin)
        token = bisect_left(starts, begin)
    return cuts
