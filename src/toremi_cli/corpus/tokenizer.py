"""The tokenizer in use: trained on the corpus, or any that is named; kept in Hugging Face layout in the workdir."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from toremi_cli import console
from toremi_cli.corpus.hub import fetch_snapshot
from toremi_cli.errors import CorpusError, reason
from toremi_cli.files import atomic_folder, find_json, write_json
from toremi_cli.lm.tokenizer import read_tokenizer
from toremi_cli.provenance import digest
from toremi_cli.schemas import END_OF_TEXT

TRAINING_BYTES = 16_000_000
"""Text that the tokenizer is trained on, in bytes, all sources alike as far as they have it."""
BYTES_PER_ENTRY = 64
"""A vocabulary needs at least so much text an entry, lest it learn whole sentences of a small corpus by heart."""
MIN_VOCAB_SIZE = 512
RECORD = "toremi.json"
_NO_WORDS = re.compile(r"[!-~]{200,}")
"""Base64 and the like: no words to learn from, and quadratic to train on."""
_LONG_RUN = re.compile(r"\S{200}(?=\S)")
"""Of text without spaces: cut after so many characters, since longer words are quadratic to train on as well."""
HUB_FILES = ("tokenizer*", "vocab*", "merges.txt", "*.model", "special_tokens_map.json")
OLDER_LAYOUTS = ("vocab.json", "vocab.txt", "*.model")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_USUAL_END_TOKENS = (END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>", "<|im_end|>", "[SEP]")


def tokenizer_fingerprint(name: str | None) -> str:
    """Identifies a named tokenizer: a local one by its contents, one of the hub by its name."""
    if name is None:
        return "trained"
    path = Path(name)
    if path.is_dir():
        files = [p for p in sorted(path.iterdir()) if p.suffix in (".json", ".txt", ".model") and p.name != RECORD]
        return digest("tokenizer", [(p.name, p.read_bytes().hex()) for p in files if p.stat().st_size < 100_000_000])
    return digest("tokenizer", path.read_bytes().hex()) if path.is_file() else digest("hub", name)


def is_saved(folder: Path, fingerprint: str) -> bool:
    """Whether the tokenizer in `folder` is the one that `fingerprint` stands for."""
    return (find_json(folder / RECORD) or {}).get("fingerprint") == fingerprint


def train_tokenizer(texts: Iterable[str], vocab_size: int, num_bytes: int) -> Any:
    """Train a byte-level BPE, the vocabulary shrunk to what `num_bytes` of text can fill.

    Byte-level: any text can be encoded, and decodes to itself.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    wanted = min(vocab_size, max(MIN_VOCAB_SIZE, num_bytes // BYTES_PER_ENTRY // 64 * 64))
    if wanted < vocab_size:
        console.note(f"vocabulary: {wanted:,} entries instead of {vocab_size:,}, as the corpus is small")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=wanted,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=64,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_words_only(texts), trainer)
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path, fingerprint: str, end_of_text: str, extra: dict[str, Any]) -> None:
    """Write the folder whole or not at all: tokenizer.json, tokenizer_config.json, and what it was made from."""
    config = {
        **extra,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": end_of_text,
        "bos_token": extra.get("bos_token") or end_of_text,
        "unk_token": extra.get("unk_token") or end_of_text,
        "model_max_length": int(1e30),
        "clean_up_tokenization_spaces": False,
    }
    with atomic_folder(folder) as temporary:
        tokenizer.save(str(temporary / "tokenizer.json"))
        write_json(temporary / "tokenizer_config.json", config)
        write_json(temporary / RECORD, {"fingerprint": fingerprint})


def fetch_tokenizer(name: str) -> tuple[Any, str, dict[str, Any]]:
    """A named tokenizer, its end-of-text token, and its own configuration.

    `name` is a folder, a tokenizer.json, or else a name on the Hugging Face hub.

    Raises:
        CorpusError: no such path or name, or not a tokenizer that can be used.
    """
    path = Path(name)
    if path.is_file():
        folder, file = path.parent, path
    elif path.is_dir():
        folder, file = path, path / "tokenizer.json"
    elif _HUB_NAME.fullmatch(name) and not name.startswith("."):
        folder = fetch_snapshot(name, HUB_FILES, "--tokenizer")
        file = folder / "tokenizer.json"
    else:
        raise CorpusError(f"--tokenizer {name}: no such file or folder, and not a name on the hub")
    tokenizer = read_tokenizer(file) if file.exists() else _convert(folder, name)
    _check_encodes(tokenizer, name)
    config = _read_config(folder)
    return tokenizer, _end_token(tokenizer, config, name), config


def _check_encodes(tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer that fails on, and tell of one that drops, what it doesn't know."""
    unheard = "\ue000 qxjzvk \U000f0000"  # for private use
    try:
        encoding = tokenizer.encode(unheard, add_special_tokens=False)
    except Exception as problem:  # the library raises bare Exception
        raise CorpusError(
            f"--tokenizer {name}: cannot encode characters that it doesn't know ({reason(problem)}); "
            "give it an unknown token, or take one that is byte-level"
        ) from None
    if not encoding.offsets or max(end for _, end in encoding.offsets) < len(unheard):
        console.warn(f"--tokenizer {name}: has no unknown token and drops characters that it doesn't know")


def _convert(folder: Path, name: str) -> Any:
    """Convert an older layout (vocab.json and merges.txt, a sentencepiece model)."""
    if not any(path for pattern in OLDER_LAYOUTS for path in folder.glob(pattern)):
        raise CorpusError(
            f"--tokenizer {name}: no tokenizer in it; expected tokenizer.json, vocab.json with merges.txt, vocab.txt, "
            "or a sentencepiece model"
        )
    if any(folder.glob("*.model")) and find_spec("sentencepiece") is None:
        raise CorpusError(
            f"--tokenizer {name}: holds a sentencepiece model and no tokenizer.json; `pip install sentencepiece` lets "
            "it be converted"
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder)).backend_tokenizer
    except Exception as problem:  # whatever a foreign layout provokes
        why = reason(problem)
        raise CorpusError(f"--tokenizer {name}: no tokenizer.json, and none can be made of it ({why})") from None


def _read_config(folder: Path) -> dict[str, Any]:
    config = find_json(folder / "tokenizer_config.json") or {}
    tokens = {key: _token_text(config.get(key)) for key in ("eos_token", "bos_token", "unk_token", "pad_token")}
    return {key: value for key, value in tokens.items() if value}


def _token_text(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _end_token(tokenizer: Any, config: dict[str, Any], name: str) -> str:
    for token in (config.get("eos_token"), *_USUAL_END_TOKENS):
        if token and tokenizer.token_to_id(token) is not None:
            return token
    console.note(f"{name}: has no end-of-text token; adding {END_OF_TEXT}")
    tokenizer.add_special_tokens([END_OF_TEXT])
    return END_OF_TEXT


def _words_only(texts: Iterable[str]) -> Iterator[str]:
    return (_LONG_RUN.sub(r"\g<0>\n", _NO_WORDS.sub(" ", text)) for text in texts)
