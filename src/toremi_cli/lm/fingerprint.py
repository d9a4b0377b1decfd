"""What identifies the data that a model is trained on."""

from __future__ import annotations

from pathlib import Path

from toremi_cli.lm.tokenizer import TokenizerFolder, open_tokenizer
from toremi_cli.provenance import digest
from toremi_cli.sample_topics import FineTopics, read_fine_topics
from toremi_cli.schemas import ANNOTATED
from toremi_cli.tables import TableReader

CACHE_VERSION = 3
"""Rises when the token cache keeps something else of the same files, or their samples come in another order."""


def data_fingerprint(reader: TableReader, tokenizer: TokenizerFolder, topics: FineTopics) -> str:
    """Identifies a table, a tokenizer and what is known of the topics."""
    # A shard that some other program has rewritten may carry its old provenance along.
    shards = [(shard.name, shard.stat().st_size) for shard in reader.shards]
    rows = reader.rows_per_shard
    return digest(CACHE_VERSION, reader.fingerprint, shards, rows, tokenizer.fingerprint, topics.names, topics.crowding)


def corpus_fingerprint(workdir: Path, annotated: Path, tokenizer_folder: Path) -> str:
    """The fingerprint of these files, which a run's record holds as `data`.

    Raises:
        TrainingError: no tokenizer.
        TableError: the table is damaged or another one.
    """
    topics = read_fine_topics(workdir / "topics.parquet")
    return data_fingerprint(TableReader(annotated, ANNOTATED), open_tokenizer(tokenizer_folder), topics)
