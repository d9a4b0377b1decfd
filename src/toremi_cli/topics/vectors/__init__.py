"""Backends that turn a sample's text into a vector, behind one interface."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from toremi_cli.errors import MissingExtraError, TableError, UsageError
from toremi_cli.topics.config import BACKENDS, EmbedConfig
from toremi_cli.topics.vectors.base import DESCRIPTION, VectorBackend


def make_backend(name: str, model: str | None = None, dim: int = EmbedConfig.dim, seed: int = 0) -> VectorBackend:
    """A backend, not fitted yet.

    Args:
        name: one of `BACKENDS`.
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
    raise UsageError(f"unknown vectors {name!r}; expected one of {', '.join(BACKENDS)}")


def check_backend(name: str, model: str | None) -> None:
    """Refuse, before any work, what `make_backend` would refuse after reading a corpus.

    Raises:
        UsageError: a model that is no folder here, or one for vectors that take none.
        MissingExtraError: the backend's package is not installed.
    """
    if name == "doc2vec" and model:
        raise UsageError(f"vectors 'doc2vec' are learnt from the corpus and take no model, got {model!r}: leave it out")
    if name == "sentence-transformers":
        if find_spec("sentence_transformers") is None:
            raise MissingExtraError("sentence-transformers", "embed", "--vectors sentence-transformers")
        if model and model.startswith((".", "/", "~")) and not Path(model).is_dir():
            raise UsageError(f"--vector-model {model}: no such folder, and not a name on the hub")


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
    raise TableError(f"{path}: unknown vector model {name!r}; expected one of {', '.join(BACKENDS)}")
