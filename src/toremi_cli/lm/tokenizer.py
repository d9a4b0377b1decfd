"""A tokenizer in Hugging Face layout, read with the `tokenizers` library alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from toremi_cli.errors import CorpusError, TrainingError, reason
from toremi_cli.schemas import END_OF_TEXT

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.*"),
    *("vocab.*", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece*.model", "tokenization_*.py"),
)
"""What a tokenizer's folder in Hugging Face layout may hold of the tokenizer itself."""


class TextTokenizer:
    """Encodes plain text: no special tokens added, none recognised in the text, nothing cut off or padded."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is a `tokenizers.Tokenizer`."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # "<|endoftext|>" written out in a text is plain text
        self.raw = tokenizer

    def encode(self, texts: Sequence[str]) -> list[Any]:
        """Encodings with character offsets."""
        return self.raw.encode_batch(list(texts), add_special_tokens=False)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return [e.ids for e in self.raw.encode_batch_fast(list(texts), add_special_tokens=False)]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text."""
        return [len(e) for e in self.raw.encode_batch_fast(list(texts), add_special_tokens=False)]

    @cached_property
    def splits_at_spaces(self) -> bool:
        """Whether no token spans the end of a word, so that cutting there changes no token (GPT-2's own splitting)."""
        parts = json.loads(self.raw.to_str())
        wanted = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
        return parts["normalizer"] is None and wanted.items() <= (parts["pre_tokenizer"] or {}).items()


def load_tokenizer(folder: Path) -> TextTokenizer:
    """The tokenizer that stands in a folder.

    Raises:
        CorpusError: none there, or damaged.
    """
    return TextTokenizer(read_tokenizer(folder / "tokenizer.json"))


def read_tokenizer(path: Path) -> Any:
    """The `tokenizers.Tokenizer` of a file.

    Raises:
        CorpusError: none there, or damaged.
    """
    from tokenizers import Tokenizer

    if not path.is_file():
        raise CorpusError(f"{path}: no such file; expected a tokenizer in Hugging Face layout")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as problem:  # the library raises bare Exception
        raise CorpusError(f"{path}: not a tokenizer ({reason(problem)})") from None


@dataclass(frozen=True)
class TokenizerFolder:
    """A tokenizer in Hugging Face layout: `tokenizer.json` and, beside it, `tokenizer_config.json`."""

    folder: Path
    eos_id: int
    vocab_size: int
    """One more than its largest id."""
    fingerprint: str

    def load(self) -> TextTokenizer:
        """The tokenizer itself."""
        return load_tokenizer(self.folder)


def open_tokenizer(folder: Path) -> TokenizerFolder:
    """Read what the trainer needs to know of a tokenizer.

    Raises:
        TrainingError: no tokenizer there, or one without an end-of-text token.
        CorpusError: it is damaged.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise TrainingError(f"{path}: no such file; run `toremi annotate CORPUS` first, or name one with --tokenizer")
    tokenizer = read_tokenizer(path)
    name = _eos_token(folder)
    eos_id = tokenizer.token_to_id(name)
    if eos_id is None:
        raise TrainingError(f"{path}: no end-of-text token {name!r}; name it as eos_token in tokenizer_config.json")
    digest = hashlib.sha256(path.read_bytes() + name.encode()).hexdigest()[:16]
    vocab_size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1  # ids may have gaps
    return TokenizerFolder(folder, eos_id, vocab_size, digest)


def copy_tokenizer(folder: Path, to: Path) -> None:
    """Copy contents alone: beside them may lie a whole model, or a download's cache, or nothing may be writable."""
    for path in sorted({path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)}):
        if path.is_file():
            shutil.copyfile(path, to / path.name)


def _eos_token(folder: Path) -> str:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return END_OF_TEXT
    token = json.loads(path.read_text(encoding="utf-8")).get("eos_token") or END_OF_TEXT
    return str(token["content"]) if isinstance(token, dict) else str(token)
