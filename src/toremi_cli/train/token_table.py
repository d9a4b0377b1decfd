"""A table of tokens elsewhere, as `toremi tokenize` made it: a folder, or a prefix behind any fsspec URL.

What there is for each sample is fetched whole, or linked where it lies on this machine; the tokens of a URL stay there.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from toremi_cli import console
from toremi_cli.errors import TrainingError, reason
from toremi_cli.files import atomic_folder, write_json
from toremi_cli.layout import Workdir
from toremi_cli.lm.tokenizer import copy_tokenizer, open_tokenizer
from toremi_cli.remote import is_local, open_filesystem, with_patience
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.index_folder import MODE_COLUMNS, open_index
from toremi_cli.train.npy import read_npy
from toremi_cli.train.token_store import TokenStore, open_remote_tokens
from toremi_cli.train.tokenizing import ARRAYS
from toremi_cli.train.tokens import TokenCache
from toremi_cli.train.topic_costs import topic_costs
from toremi_cli.train.waiting import build_once

META, TOKENS, TOKENIZER = "meta.json", "tokens.npy", "tokenizer"
NUM_PROBED = 64
"""Samples whose ends are looked at, to see that tokens and offsets belong together."""


def is_token_table(path: str) -> bool:
    """Whether `--tokens` names such a table rather than a Megatron dataset or bare shards."""
    return "://" in path or all((Path(path) / name).is_file() for name in (META, TOKENS))


def open_token_table(
    workdir: Path, url: str, tokenizer: Path | None, cache_gb: float, build: bool = True
) -> TokenCache:
    """The table at `url`, what is needed of it brought here first where it is missing (`build`) or waited for.

    Args:
        workdir: `tokens/` in it gets that, and the blocks of tokens that are kept.
        url: the table.
        tokenizer: folder of its tokenizer; None for the one in the table.
        cache_gb: 10^9 bytes of its tokens to keep here, at most.
        build: False to wait until another process has brought it.

    Raises:
        TrainingError: not there, damaged, another tokenizer's, or the store fails.
    """
    url = url.rstrip("/")
    filesystem, root = open_filesystem(url)
    meta = _read_meta(url, filesystem, root)
    folder = Workdir(workdir).tokens / meta["fingerprint"]
    build_once(folder, (lambda: _bring(url, filesystem, root, meta, folder)) if build else None)
    tokenizer = _check_tokenizer(url, meta, tokenizer or folder / TOKENIZER)
    store = None
    if not (folder / TOKENS).is_file():
        remote = open_remote_tokens(f"{url}/{TOKENS}", filesystem, f"{root}/{TOKENS}", meta["num_tokens"])
        store = TokenStore(remote, meta["num_tokens"], folder / "blocks", cache_gb * 1e9)
    cache = TokenCache(folder, {**meta, "annotated": url}, tokenizer, store).check_trainable()
    if build:
        _check_ends(url, cache)
    return cache


def copy_token_table(cache: TokenCache, url: str) -> None:
    """Put a table into a folder or behind a URL, what says that it is whole last.

    What its topics cost under n-grams goes with it: else every machine would read samples of all of it to know.

    Raises:
        TrainingError: there is another one, or the store fails.
    """
    url = url.rstrip("/")
    filesystem, root = open_filesystem(url)
    folder, meta, mode = cache.folder, cache.meta, TrainConfig.topics
    if with_patience(url, lambda: filesystem.exists(f"{root}/{META}")):
        if _read_meta(url, filesystem, root)["fingerprint"] == meta["fingerprint"]:
            return
        raise TrainingError(f"--output {url}: holds tokens of another table; remove them, or name another place")
    if MODE_COLUMNS[mode] not in meta.get("absent", ()):
        topic_costs(cache, mode, open_index(cache, mode))
    if not (folder / TOKENIZER).is_dir():  # as an earlier version made it
        (folder / TOKENIZER).mkdir()
        copy_tokenizer(cache.tokenizer, folder / TOKENIZER)
    files = [folder / TOKENS, *(folder / f"{name}.npy" for name in ARRAYS)]
    files += [*sorted((folder / TOKENIZER).glob("*")), *sorted(folder.glob("costs-*.npy")), folder / META]
    with console.progress(f"copying to {url}", sum(file.stat().st_size for file in files), unit="bytes") as progress:
        for file in files:
            with_patience(url, partial(_put, filesystem, file, f"{root}/{file.relative_to(folder)}"))
            progress.advance(file.stat().st_size)


def _put(filesystem: Any, file: Path, to: str) -> None:
    if is_local(filesystem):
        Path(to).parent.mkdir(parents=True, exist_ok=True)
    filesystem.put_file(str(file), to)


def _read_meta(url: str, filesystem: Any, root: str) -> dict[str, Any]:
    """What `meta.json` says of the table."""
    path = f"{url}/{META}"
    try:
        meta = json.loads(with_patience(path, lambda: filesystem.cat_file(f"{root}/{META}")))
        is_ours = re.fullmatch(r"\w+", meta["fingerprint"]) and {"num_samples", "num_tokens", "sources"} <= meta.keys()
    except (ValueError, TypeError, KeyError):
        is_ours = False
    if not is_ours:
        raise TrainingError(f"{path}: damaged; expected what `toremi tokenize` has written there")
    return meta


def _bring(url: str, filesystem: Any, root: str, meta: dict[str, Any], folder: Path) -> None:
    """Fetch all but the tokens; of a folder of this machine, link all."""
    arrays = [f"{name}.npy" for name in ARRAYS] + [TOKENS, META] * is_local(filesystem)
    found = with_patience(url, lambda: [*filesystem.ls(root, False), *filesystem.find(f"{root}/{TOKENIZER}")])
    others = [path[len(root) :].strip("/") for path in found]
    names = arrays + [name for name in others if re.fullmatch(rf"{TOKENIZER}/[^/]+|costs-\w+\.npy", name)]
    with atomic_folder(folder) as temporary, console.progress(f"fetching {url}", len(names), "files") as progress:
        (temporary / TOKENIZER).mkdir()
        for name in names:
            if is_local(filesystem):
                (temporary / name).symlink_to(Path(root, name).resolve())
            else:
                get = partial(filesystem.get_file, f"{root}/{name}", str(temporary / name))
                with_patience(f"{url}/{name}", get)
            progress.advance()
        _check_arrays(url, meta, temporary)
        if not is_local(filesystem):
            write_json(temporary / META, meta)


def _check_arrays(url: str, meta: dict[str, Any], folder: Path) -> None:
    for name in ARRAYS:
        file = f"{url}/{name}.npy"
        try:
            length = len(read_npy(folder / f"{name}.npy"))
        except (OSError, ValueError) as problem:
            raise TrainingError(f"{file}: damaged ({reason(problem)}); copy it again") from None
        expected = meta["num_samples"]
        if name == "labels_topic":
            expected = int(read_npy(folder / "labels_count.npy").sum())
        if length != expected:
            raise TrainingError(f"{file}: {length:,} entries, expected {expected:,}: of another table; copy it again")


def _check_tokenizer(url: str, meta: dict[str, Any], folder: Path) -> Path:
    """Where the tokenizer is: the one that made the table."""
    if not (folder / "tokenizer.json").is_file():
        raise TrainingError(f"--tokens {url}: has no {TOKENIZER}/; name the one that made them with --tokenizer")
    found = open_tokenizer(folder)
    for key, made in (("fingerprint", meta.get("tokenizer")), ("eos_id", meta["eos_id"])):
        if made is not None and getattr(found, key) != made:
            raise TrainingError(
                f"--tokens {url}: made by another tokenizer than that of {folder} (its {key} is {made}, not "
                f"{getattr(found, key)}); leave --tokenizer out, or name the one that made them"
            )
    return folder


def _check_ends(url: str, cache: TokenCache) -> None:
    """See that samples end where the offsets say."""
    samples = np.unique(np.linspace(0, len(cache.length) - 1, NUM_PROBED).astype(np.int64))
    places = cache.offset[samples] + cache.length[samples]
    ends = np.concatenate(cache.store.peek(places, places + 1)) if cache.store else cache.tokens[places]
    if (ends != cache.meta["eos_id"]).any():
        raise TrainingError(f"{url}/{TOKENS}: of another table than the arrays beside it; copy all again")
