"""The corpus's tokenizer, read with the `tokenizers` library alone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toremi_cli.errors import TrainingError, reason
from toremi_cli.schemas import END_OF_TEXT


@dataclass(frozen=True)
class TokenizerFolder:
    """A tokenizer in Hugging Face layout: `tokenizer.json` and, beside it, `tokenizer_config.json`."""

    folder: Path
    eos_id: int
    vocab_size: int
    """One more than its largest id."""
    fingerprint: str

    def load(self) -> Any:
        """The `tokenizers.Tokenizer`, as it encodes plain text."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.encode_special_tokens = True  # "<|endoftext|>" written out in a text is plain text
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def open_tokenizer(folder: Path) -> TokenizerFolder:
    """Read what the trainer needs to know of a tokenizer.

    Raises:
        TrainingError: no tokenizer there, a damaged one, or one without an end-of-text token.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise TrainingError(f"{path}: no such file; run `toremi annotate CORPUS` first, or name one with --tokenizer")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as problem:  # the library raises bare Exception
        raise TrainingError(f"{path}: not a tokenizer ({reason(problem)})") from None
    name = _eos_token(folder)
    eos_id = tokenizer.token_to_id(name)
    if eos_id is None:
        raise TrainingError(f"{path}: no end-of-text token {name!r}; name it as eos_token in tokenizer_config.json")
    digest = hashlib.sha256(path.read_bytes() + name.encode()).hexdigest()[:16]
    vocab_size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1  # ids may have gaps
    return TokenizerFolder(folder, eos_id, vocab_size, digest)


def _eos_token(folder: Path) -> str:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return END_OF_TEXT
    token = json.loads(path.read_text(encoding="utf-8")).get("eos_token") or END_OF_TEXT
    return str(token["content"]) if isinstance(token, dict) else str(token)
