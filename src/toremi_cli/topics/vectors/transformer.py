"""Vectors of a sentence-transformers model: any name on the hub or local folder (the paper's: BAAI/bge-m3)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toremi_cli.corpus.hub import fetch_snapshot
from toremi_cli.errors import MissingExtraError, UsageError, reason
from toremi_cli.tables import write_json
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

        if model.startswith((".", "/", "~")) and not Path(model).is_dir():
            raise UsageError(f"--vector-model {model}: no such folder, and not a name on the hub")
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

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing to learn."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(num_texts, dim) float32 of length 1."""
        if not len(texts):
            return np.zeros((0, self.dim), np.float32)
        if self._num_gpus > 1 and self._pool is None:
            self._pool = self._encoder.start_multi_process_pool([f"cuda:{i}" for i in range(self._num_gpus)])
        vectors = self._encoder.encode(
            list(texts), batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True, pool=self._pool
        )
        return normalize_rows(np.asarray(vectors, dtype=np.float64)).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write the model's name: its weights stay where they are."""
        write_json(folder / DESCRIPTION, {"backend": self.name, "model": self.model, "dim": self.dim})
