"""Shares in the forms that other trainers' configurations take."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from toremi_cli.corpus.hashing import keyed_hash
from toremi_cli.errors import UsageError
from toremi_cli.export.config import CONFIGS
from toremi_cli.export.shares import NO_LABEL, Mixture

Shares = dict[str, float]
PathOf = Callable[[str], str]


def render(mixture: Mixture, form: str, by: str, pattern: str) -> str:
    """The mixture as text.

    Args:
        mixture: by `mixture_of`.
        form: one of `CONFIGS`, or 'json' or 'yaml' for the mixture file.
        by: parts by 'topic' or 'source' (not for the mixture file, which has both).
        pattern: path of a part's data, '{name}' in it stands for the part; empty: as the form's tools leave it.

    Raises:
        UsageError: a pattern without {name}.
    """
    if form == "json":
        return json.dumps(mixture.to_json(), indent=2, ensure_ascii=False) + "\n"
    if form == "yaml":
        return _yaml(mixture.to_json())
    pattern = pattern or PATTERNS[form]
    if "{name}" not in pattern:
        raise UsageError(f"--data-path {pattern}: has no {{name}} in it, which stands for the topic or source")
    shares = mixture.shares(by)
    names = file_names(shares)
    return RENDER[form](shares, lambda name: pattern.replace("{name}", names[name]))


def missing_data(mixture: Mixture, form: str, by: str, pattern: str) -> list[str]:
    """Local files and folders that a form names and that aren't there; as `render` takes them."""
    if form not in CONFIGS:
        return []
    names = file_names(mixture.parts(by)).values()
    paths = [(pattern or PATTERNS[form]).replace("{name}", name) for name in names]
    suffix = ".idx" if form == "megatron" else ""
    local = [path + suffix for path in paths if "://" not in path]
    return [path for path in local if not any(Path().glob(path) if "*" in path else [Path(path).exists()])]


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Topics' or sources' names as parts of paths; those that would be alike get a hash of the name at the end."""
    plain = {name: _plain("no_topic" if name == NO_LABEL else name) for name in names}
    number = Counter(path.lower() for path in plain.values())  # some file systems don't tell case
    return {
        name: path if number[path.lower()] == 1 else f"{path}-{keyed_hash('file name', name):016x}"[: len(path) + 9]
        for name, path in plain.items()
    }


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def decimal(value: float) -> str:
    """All digits of a number, without an exponent."""
    return np.format_float_positional(value, trim="0")


def _yaml(values: Any) -> str:
    # An explicit width, since a path that was folded over lines is hard to read.
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10_000)


def mosaicml(shares: Shares, path_of: PathOf) -> str:
    """`streams` of MosaicML's StreamingDataset (also in llm-foundry's `train_loader.dataset`)."""
    return _yaml({"streams": {name: {"local": path_of(name), "proportion": share} for name, share in shares.items()}})


def olmo_core(shares: Shares, path_of: PathOf) -> str:
    """`sources` of OLMo-core's SourceMixtureList (`SourceMixtureConfig`, one each)."""
    sources = [
        {"source_name": name, "target_ratio": share, "paths": [path_of(name)], "max_repetition_ratio": 4.0}
        for name, share in shares.items()
    ]
    return _yaml({"sources": sources})


def megatron(shares: Shares, path_of: PathOf) -> str:
    """`--data-path` of Megatron-LM: weight and prefix in turn."""
    return "--data-path " + " ".join(f"{decimal(share)} {path_of(name)}" for name, share in shares.items()) + "\n"


def nanotron(shares: Shares, path_of: PathOf) -> str:
    """`data.dataset` of nanotron's Nanosets."""
    folders = [path_of(name) for name in shares]
    return _yaml({"data": {"dataset": {"dataset_folder": folders, "dataset_weights": list(shares.values())}}})


RENDER: dict[str, Callable[[Shares, PathOf], str]] = dict(
    zip(CONFIGS, (mosaicml, olmo_core, megatron, nanotron), strict=True)
)
PATTERNS = {
    "mosaicml": "data/{name}",
    "olmo-core": "data/{name}/*.npy",
    "megatron": "data/{name}_text_document",
    "nanotron": "data/{name}",
}
"""Where a part's data is by default: a folder of MDS shards; token files; the prefix that Megatron's preprocess_data.py
leaves; a folder that datatrove's tokenizer wrote."""
