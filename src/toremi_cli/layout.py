"""Where everything stands under `--workdir`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workdir:
    """The folders and files that the stages share. A stage's model stands in an underscored folder of its table."""

    root: Path

    @property
    def samples(self) -> Path:
        """Table `samples`, written by `toremi embed`."""
        return self.root / "samples"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer in Hugging Face layout, written by `toremi embed`."""
        return self.root / "tokenizer"

    @property
    def embeddings(self) -> Path:
        """Table `embeddings`, written by `toremi embed`; `_model` in it holds the vector model."""
        return self.root / "embeddings"

    @property
    def clusters(self) -> Path:
        """Table `clusters`, written by `toremi cluster`; `_model` in it holds the topic model."""
        return self.root / "clusters"

    @property
    def topics(self) -> Path:
        """Table `topics`, one file: written by `toremi cluster`, named and labelled by `toremi annotate`."""
        return self.root / "topics.parquet"

    @property
    def map_places(self) -> Path:
        """Where UMAP has placed samples on the map, kept by `toremi topics --html`; may be deleted."""
        return self.root / "topics-map.npz"

    @property
    def annotated(self) -> Path:
        """Table `annotated`, written by `toremi annotate`."""
        return self.root / "annotated"

    @property
    def tokens(self) -> Path:
        """Tokens of annotated tables, a folder each: made by `toremi tokenize` or `pretrain`; may be deleted."""
        return self.root / "tokens"

    @property
    def llm_answers(self) -> Path:
        """What language models have answered to `toremi annotate`, one answer a line."""
        return self.root / "llm_answers.jsonl"

    def run(self, name: str) -> Path:
        """Folder of the run `name`: `run.json`, `weights/`, `metrics/`, `checkpoint-N/`, `eval.parquet`."""
        return self.root / "runs" / name
