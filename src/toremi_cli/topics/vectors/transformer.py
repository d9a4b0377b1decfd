"""Vectors of a sentence-transformers model: any name on the hub or local folder (the paper's: BAAI/bge-m3).

A model reads so many tokens of a text and no more (all-MiniLM-L6-v2: 256). A longer sample is read in windows of that
length, each ending between words; its vector is their mean, weighted by their tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toremi_cli import console
from toremi_cli.corpus.hub import fetch_snapshot
from toremi_cli.errors import MissingExtraError, UsageError, reason
from toremi_cli.files import write_json
from toremi_cli.topics.vectors.bags import normalize_rows
from toremi_cli.topics.vectors.base import DESCRIPTION

BATCH = 32


class SentenceTransformerBackend:
    """A pre-trained model; uses every GPU that is there, in half precision."""

    name = "sentence-transformers"
    needs_fit = False

    def __init__(self, model: str) -> None:
        """Load the model.

        Raises:
            MissingExtraError: sentence-transformers is not installed.
            UsageError: no such folder, or not a model.
            CorpusError: the hub has none of that name, or cannot be reached.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise MissingExtraError("sentence-transformers", "embed", "--vectors sentence-transformers") from None
        import torch

        if not Path(model).is_dir():
            fetch_snapshot(model, ("config.json", "modules.json"), "--vector-model")  # fails at once without network
        logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
        self.model = model
        self._num_gpus = torch.cuda.device_count()
        half = {"torch_dtype": torch.float16} if self._num_gpus else {}
        try:
            self._encoder = SentenceTransformer(model, model_kwargs=half)
        except (OSError, ValueError) as problem:
            raise UsageError(f"--vector-model {model}: cannot be loaded ({reason(problem)})") from None
        self.dim = len(self._encoder.encode("text", show_progress_bar=False))
        self._pool: Any = None
        self._window_tokens = _window_tokens(self._encoder, model)

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing to learn."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(num_texts, dim) float32 of length 1."""
        if not len(texts):
            return np.zeros((0, self.dim), np.float32)
        windows = self._windows(texts)
        pieces = [piece for pieces in windows for piece, _ in pieces]
        weights = np.array([num_tokens for pieces in windows for _, num_tokens in pieces], np.float64)
        starts = np.cumsum([0, *(len(pieces) for pieces in windows[:-1])])
        vectors = self._encode(pieces) * weights[:, None]  # (num_windows, dim)
        return normalize_rows(np.add.reduceat(vectors, starts)).astype(np.float32)

    def _encode(self, texts: list[str]) -> np.ndarray:
        """(num_texts, dim) float64 of length 1, of what the model reads of each text."""
        if self._num_gpus > 1 and self._pool is None:
            self._pool = self._encoder.start_multi_process_pool([f"cuda:{i}" for i in range(self._num_gpus)])
        vectors = self._encoder.encode(
            texts, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True, pool=self._pool
        )
        return normalize_rows(np.asarray(vectors, dtype=np.float64))

    def _windows(self, texts: Sequence[str]) -> list[list[tuple[str, int]]]:
        """Each text in pieces that the model can read whole, with their numbers of tokens."""
        length = self._window_tokens
        if length is None:
            return [[(text, 1)] for text in texts]
        whole = [len(text.encode()) <= length for text in texts]  # no token is shorter than a byte
        long = [text for text, fits in zip(texts, whole, strict=True) if not fits]
        options = {"add_special_tokens": False, "truncation": False, "padding": False, "verbose": False}
        encodings = iter(self._encoder.tokenizer(long, **options).encodings) if long else iter(())
        return [
            [(text, 1)] if fits else cut_windows(text, next(encodings), length)
            for text, fits in zip(texts, whole, strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Write the model's name: its weights stay where they are."""
        write_json(folder / DESCRIPTION, {"backend": self.name, "model": self.model, "dim": self.dim})


def _window_tokens(encoder: Any, model: str) -> int | None:
    """Tokens of a text that the model reads beside those of its own; None where windows can't or needn't be cut."""
    most = encoder.max_seq_length
    if most is None:
        return None
    if not getattr(encoder.tokenizer, "is_fast", False):
        console.warn(f"--vector-model {model}: reads the first {most} tokens of a sample, and not what follows")
        return None
    prompt = encoder.prompts.get(encoder.default_prompt_name, "") if encoder.default_prompt_name else ""
    own = encoder.tokenizer.num_special_tokens_to_add() + len(encoder.tokenizer.tokenize(prompt))
    return max(1, int(most) - own)


def cut_windows(text: str, encoding: Any, length: int) -> list[tuple[str, int]]:
    """A text in pieces of at most `length` tokens, cut between words where a word isn't longer, with their tokens.

    Args:
        text: what to cut.
        encoding: of the text, a `tokenizers.Encoding`.
        length: in tokens.
    """
    spans, words = encoding.offsets, encoding.word_ids
    pieces: list[tuple[str, int]] = []
    begin, num_tokens = 0, len(spans)
    while num_tokens - begin > length:
        end = begin + length
        while end > begin and words[end] == words[end - 1]:
            end -= 1
        if end == begin:
            end = begin + length
        pieces.append((text[spans[begin][0] : spans[end][0]], end - begin))
        begin = end
    rest = text[spans[begin][0] :] if num_tokens else text
    return [*pieces, (rest, max(num_tokens - begin, 1))]
