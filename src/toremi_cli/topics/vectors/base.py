"""What a backend is, and the file that says which one a folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

DESCRIPTION = "backend.json"


class VectorBackend(Protocol):
    """What a backend can do. A vector depends on its text and the fitted backend only, not on its neighbours."""

    name: str
    dim: int
    needs_fit: bool

    def fit(self, texts: Sequence[str]) -> None:
        """Learn from a sample of the corpus; does nothing where `needs_fit` is false."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(num_texts, dim) float32, rows of length 1 (L2); a row is zero where a text holds no known word."""

    def save(self, folder: Path) -> None:
        """Write everything that loading needs."""


class VectorPlugin(VectorBackend, Protocol):
    """What a class behind an entry point of `toremi.vectors` is."""

    def __init__(self, *, model: str | None, dim: int, seed: int) -> None:
        """`--vector-model`, `--vector-dim` and the seed; what it has no use for it leaves alone."""

    @classmethod
    def load(cls, folder: Path, description: dict[str, Any]) -> VectorPlugin:
        """What `save` wrote to `folder`; `description` has `model` and `dim`."""
