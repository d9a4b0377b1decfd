"""Backends that turn a sample's text into a vector, behind one interface."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from toremi_cli.errors import MissingExtraError, TableError, UsageError
from toremi_cli.files import write_json
from toremi_cli.plugins import VECTORS, PluginError, load_plugin, plugin_version
from toremi_cli.topics.config import BACKENDS, EmbedConfig
from toremi_cli.topics.vectors.base import DESCRIPTION, VectorBackend, VectorPlugin

VECTORS_VERSION = {"doc2vec": 1, "sentence-transformers": 2}
"""Of built-in vectors; see `method_version`."""


def make_backend(name: str, model: str | None = None, dim: int = EmbedConfig.dim, seed: int = 0) -> VectorBackend:
    """A backend, not fitted yet.

    Args:
        name: one of `BACKENDS`, or a plug-in's.
        model: name or path of the model, for 'sentence-transformers'.
        dim: length of the vectors, for backends that learn them.
        seed: of everything drawn at random while fitting.

    Raises:
        UsageError: an unknown name, or a model that is missing or not wanted.
        MissingExtraError: the backend's package is not installed.
    """
    check_backend(name, model)
    if name == "doc2vec":
        from toremi_cli.topics.vectors.doc2vec import Doc2VecBackend

        return Doc2VecBackend(dim=dim, seed=seed)
    if name == "sentence-transformers":
        from toremi_cli.topics.vectors.transformer import SentenceTransformerBackend

        if not model:
            raise UsageError("vectors 'sentence-transformers' need a model: a name such as BAAI/bge-m3, or a folder")
        return SentenceTransformerBackend(model)
    return _plugin(name)(model=model, dim=dim, seed=seed)


def check_backend(name: str, model: str | None) -> None:
    """Refuse, before any work, what `make_backend` would refuse after reading a corpus.

    Raises:
        UsageError: a model that is no folder here, or one for vectors that take none; a plug-in that can't be loaded.
        MissingExtraError: the backend's package is not installed.
    """
    if name == "doc2vec" and model:
        raise UsageError(f"vectors 'doc2vec' are learnt from the corpus and take no model, got {model!r}: leave it out")
    if name == "sentence-transformers":
        if find_spec("sentence_transformers") is None:
            raise MissingExtraError("sentence-transformers", "embed", "--vectors sentence-transformers")
        if model and model.startswith((".", "/", "~")) and not Path(model).is_dir():
            raise UsageError(f"--vector-model {model}: no such folder, and not a name on the hub")
    if name not in BACKENDS:
        _plugin(name)


def _plugin(name: str) -> type[VectorPlugin]:
    try:
        found: type[VectorPlugin] | None = load_plugin(VECTORS, name)
    except PluginError as problem:
        raise UsageError(f"--vectors {name}: {problem}") from None
    if found is None:
        raise UsageError(f"vectors {name!r} are not installed; expected one of {', '.join(BACKENDS)} or a plug-in")
    return found


def method_version(name: str) -> str:
    """Of how vectors are learnt and inferred: with another one, tables of before are made anew."""
    return f"version {VECTORS_VERSION[name]}" if name in BACKENDS else plugin_version(VECTORS, name)


def save_backend(backend: VectorBackend, name: str, model: str | None, folder: Path) -> None:
    """Write all that `load_backend` needs; the description of a plug-in's is ours."""
    backend.save(folder)
    if name not in BACKENDS:
        write_json(folder / DESCRIPTION, {"backend": name, "model": model, "dim": backend.dim})


def load_backend(folder: Path) -> VectorBackend:
    """The backend that `save` wrote to `folder`.

    Raises:
        TableError: no backend there, or a damaged one.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        name = description["backend"]
    except FileNotFoundError:
        raise TableError(f"{path}: no such file; run `toremi embed` to write the vector model") from None
    except (ValueError, KeyError, TypeError):
        raise TableError(f"{path}: not the description of a vector model; run `toremi embed` again") from None
    if name == "doc2vec":
        from toremi_cli.topics.vectors.doc2vec import Doc2VecBackend

        return Doc2VecBackend.load(folder, description)
    if name == "sentence-transformers":
        from toremi_cli.topics.vectors.transformer import SentenceTransformerBackend

        return SentenceTransformerBackend(description["model"])
    return _plugin(name).load(folder, description)
