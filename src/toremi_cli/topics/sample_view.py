"""The view of a sample that knows no words: how predictable it is, what its order tells, which lines come again.

It is the same for prose of any language, code, tables and noise, and it is measured in the corpus' own terms: tokens
are predicted by bigrams of a bounded sample of it, as they stand and mixed, each by the one before its place. Of text
the order tells much; of numbers and encoded files, whose tokens are of one kind, it tells next to nothing. The sample
of the corpus is halved by the texts' hashes, and a text is predicted from the half that it doesn't belong to, so that
no text is known by heart because it was counted itself.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from toremi_cli.corpus.hashing import text_hashes
from toremi_cli.errors import TableError, reason
from toremi_cli.files import atomic_file
from toremi_cli.lm.tokenizer import TextTokenizer
from toremi_cli.ngrams import NgramOrder, TokenRows

FILE = "sample_view.npz"
MOST_TOKENS = 8_000_000
"""Tokens to count, at most."""
CHARACTERS_PER_TOKEN = 3
MOST_PAIRS = 4_000_000
"""Different bigrams to keep, the most frequent: 64 MB."""
MOST_LINES = 1_000_000
"""Repeated lines to keep."""
FEWEST_REPEATS = 3
"""In so many counted samples a line stands that counts as repeated."""
BATCH = 2048
NO_SCRIPT = "none"
"""Script of a text without letters."""
_JAPANESE = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK"}


@dataclass(frozen=True)
class SampleViews:
    """What the view tells of some samples, each array of (num_samples,).

    `ngram` and `shuffled`: cross-entropies of the tokens as they stand and in random order, by the same predictions,
    nats a token; `repeated_lines`: the part of its characters in lines that
    stand in other samples, too, 0 to 1; `script`: Unicode's name of the script of most of its letters, in lower case.
    """

    ngram: np.ndarray
    shuffled: np.ndarray
    repeated_lines: np.ndarray
    script: np.ndarray

    def numbers(self) -> np.ndarray:
        """(num_samples, 3): the numbers among them."""
        return np.column_stack([self.ngram, self.shuffled, self.repeated_lines])


@dataclass(frozen=True)
class ViewModel:
    """Counts to measure samples by, in both halves.

    `pairs` (num_pairs,) ascending, each `first << 32 | second`; `pair_counts` (num_pairs, 2); `token_counts`
    (num_ids, 2); `lines` (num_lines,) ascending hashes of the lines that are repeated.
    """

    pairs: np.ndarray
    pair_counts: np.ndarray
    token_counts: np.ndarray
    lines: np.ndarray

    @classmethod
    def fit(cls, texts: Sequence[str], tokenizer: TextTokenizer) -> ViewModel:
        """Count a sample of a corpus; of very much text only a part, chosen by hash."""
        part = MOST_TOKENS / max(sum(map(len, texts)) / CHARACTERS_PER_TOKEN, 1)
        chosen = [text for text, value in zip(texts, text_hashes(texts), strict=True) if (value >> 1) < part * 2**63]
        rows, half = encoded(chosen, tokenizer), half_of(chosen)
        num_ids = max(int(rows.ids.max(initial=0)) + 1, tokenizer.raw.get_vocab_size())
        token_counts = np.bincount(2 * rows.ids + half[rows.sample], minlength=2 * num_ids).reshape(-1, 2)
        second = rows.with_one_before()
        pairs, which = np.unique(rows.ids[second - 1] << 32 | rows.ids[second], return_inverse=True)
        counts = np.bincount(2 * which + half[rows.sample[second]], minlength=2 * len(pairs)).reshape(-1, 2)
        if len(pairs) > MOST_PAIRS:
            kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:MOST_PAIRS])
            pairs, counts = pairs[kept], counts[kept]
        return cls(pairs, counts, token_counts, repeated_lines(chosen))

    def measure(self, texts: Sequence[str], tokenizer: TextTokenizer) -> SampleViews:
        """The view of each text, which depends on no other text."""
        measured = [self._entropies(texts[start : start + BATCH], tokenizer) for start in range(0, len(texts), BATCH)]
        ngram, shuffled = np.concatenate(measured, axis=1) if measured else np.zeros((2, 0))
        repeated = np.array([share_repeated(text, self.lines) for text in texts])
        return SampleViews(ngram, shuffled, repeated, np.array([script_of(text) for text in texts], dtype=object))

    def save(self, folder: Path) -> None:
        """Write `sample_view.npz`."""
        with atomic_file(folder / FILE) as path, path.open("wb") as file:
            np.savez(
                file, pairs=self.pairs, pair_counts=self.pair_counts.astype(np.int32),
                token_counts=self.token_counts.astype(np.int32), lines=self.lines,
            )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> ViewModel:
        """Read what `save` wrote.

        Raises:
            TableError: the file is missing or damaged.
        """
        try:
            with np.load(folder / FILE, allow_pickle=False) as found:
                return cls(found["pairs"], found["pair_counts"], found["token_counts"], found["lines"])
        except (OSError, ValueError, KeyError) as problem:
            raise TableError(
                f"{folder / FILE}: cannot be read ({reason(problem)}); run `toremi cluster` again"
            ) from None

    def _entropies(self, texts: Sequence[str], tokenizer: TextTokenizer) -> np.ndarray:
        """(2, num_texts) nats a token, of the tokens as they stand and in random order; 0 for a text without any."""
        rows = encoded(texts, tokenizer)
        other = 1 - half_of(texts)[rows.sample]
        ids = np.minimum(rows.ids, len(self.token_counts) - 1)
        unigram, second = self._unigram(ids, other), rows.with_one_before()
        sizes = np.maximum(np.bincount(rows.sample, minlength=len(texts)), 1)
        costs = []
        for order in (np.arange(len(ids)), random_order(rows, text_hashes(texts))):
            chance = unigram[order]
            level = self._after(ids[second - 1], ids[order[second]], other[second])
            chance[second] = level.smoothed(chance[second])
            costs.append(np.bincount(rows.sample, weights=-np.log(chance), minlength=len(texts)) / sizes)
        return np.array(costs)

    def _unigram(self, ids: np.ndarray, half: np.ndarray) -> np.ndarray:
        totals, kinds = self.token_counts.sum(axis=0), (self.token_counts > 0).sum(axis=0)
        uniform = np.full(len(ids), 1 / len(self.token_counts))
        return NgramOrder(self.token_counts[ids, half], totals[half], kinds[half]).smoothed(uniform)

    def _after(self, first: np.ndarray, second: np.ndarray, half: np.ndarray) -> NgramOrder:
        """Counts of `second` after `first` in the halves, for pairs of tokens, (num_pairs,) all three."""
        in_context, followers = self._contexts
        if not len(self.pairs):
            return NgramOrder(np.zeros(len(first)), np.zeros(len(first)), np.zeros(len(first)))
        wanted, which = np.unique(first << 32 | second, return_inverse=True)  # in order, so that the search is quick
        place = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
        counts = np.where((self.pairs[place] == wanted)[:, None], self.pair_counts[place], 0)
        return NgramOrder(counts[which, half], in_context[first, half], followers[first, half])

    @cached_property
    def _contexts(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each token how often, and by how many different ones, it is followed: (num_ids, 2) both."""
        first, num_ids = self.pairs >> 32, len(self.token_counts)
        by_half = [self.pair_counts[:, half] for half in range(2)]
        in_context = [np.bincount(first, weights=counts, minlength=num_ids) for counts in by_half]
        followers = [np.bincount(first, weights=counts > 0, minlength=num_ids) for counts in by_half]
        return np.stack(in_context, axis=1), np.stack(followers, axis=1)


def half_of(texts: Sequence[str]) -> np.ndarray:
    """(num_texts,) 0 or 1: the half of the corpus that a text belongs to, by its hash."""
    return (text_hashes(texts) & np.uint64(1)).astype(np.int64)


def random_order(rows: TokenRows, seeds: np.ndarray) -> np.ndarray:
    """(num_tokens,) places of the tokens, mixed within each sample; `seeds` (num_samples,) uint64."""
    start = np.searchsorted(rows.sample, rows.sample)
    place = (np.arange(len(rows.sample)) - start).astype(np.uint64)
    mixed = seeds[rows.sample] + place * np.uint64(0x9E3779B97F4A7C15)  # SplitMix64 (Steele et al. 2014)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.lexsort((mixed ^ (mixed >> np.uint64(31)), rows.sample))


def encoded(texts: Sequence[str], tokenizer: TextTokenizer) -> TokenRows:
    """The texts' tokens."""
    parts = [TokenRows.of(tokenizer.ids(texts[start : start + BATCH])) for start in range(0, len(texts), BATCH)]
    if not parts:
        return TokenRows.of([])
    samples = [part.sample + BATCH * number for number, part in enumerate(parts)]
    return TokenRows(np.concatenate([part.ids for part in parts]), np.concatenate(samples))


def repeated_lines(texts: Sequence[str]) -> np.ndarray:
    """(num_lines,) ascending hashes of the lines that stand in at least FEWEST_REPEATS of the texts."""
    hashes = [np.unique(text_hashes(lines_of(text))) for text in texts]
    values, counts = np.unique(np.concatenate([*hashes, np.zeros(0, np.uint64)]), return_counts=True)
    found = counts >= FEWEST_REPEATS
    values, counts = values[found], counts[found]
    return np.sort(values[np.argsort(-counts, kind="stable")[:MOST_LINES]])


def share_repeated(text: str, repeated: np.ndarray) -> float:
    """The part of a text's characters that stand in `repeated` lines (num_lines,); 0 for a text without any."""
    lines = lines_of(text)
    sizes = np.array([len(line) for line in lines], dtype=np.float64)
    if not len(repeated) or not sizes.sum():
        return 0.0
    hashes = text_hashes(lines)
    place = np.minimum(np.searchsorted(repeated, hashes), len(repeated) - 1)
    return float(sizes[repeated[place] == hashes].sum() / sizes.sum())


def lines_of(text: str) -> list[str]:
    """The lines of a text with single spaces, without those that are blank."""
    return [line for line in (" ".join(each.split()) for each in text.splitlines()) if line]


def script_of(text: str) -> str:
    """The script of most of its letters, by their Unicode names; Japanese counts as CJK."""
    if text.isascii():
        return "latin" if any(map(str.isalpha, text)) else NO_SCRIPT
    letters: Counter[str] = Counter()
    for character, count in Counter(text).items():
        if character.isalpha():
            letters[_script(character)] += count
    return min(letters, key=lambda script: (-letters[script], script)) if letters else NO_SCRIPT


@cache
def _script(letter: str) -> str:
    first = unicodedata.name(letter, "UNKNOWN").split(" ")[0]
    return _JAPANESE.get(first, first).lower()
