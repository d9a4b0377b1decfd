"""The second stage: samples and their vectors become topics.

The model is fitted on a bounded, seeded sample of the train split; then every sample is assigned, shard by shard.
Shards are independent of each other, so they may be done in any order by any number of processes.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from toremi_cli import console
from toremi_cli.corpus.hashing import keyed_hash
from toremi_cli.corpus.stratified import StratifiedSample
from toremi_cli.engine import default_workers
from toremi_cli.errors import CorpusError, TableError
from toremi_cli.files import write_json
from toremi_cli.layout import Workdir
from toremi_cli.lm.tokenizer import TextTokenizer, load_tokenizer
from toremi_cli.provenance import Provenance, digest, provenance_of
from toremi_cli.schemas import CLUSTERS, EMBEDDINGS, NO_TOPIC, SAMPLES, TRAIN
from toremi_cli.stage import StageFolder
from toremi_cli.tables import TableReader, opened_once, read_manifest
from toremi_cli.topics.config import ClusterConfig
from toremi_cli.topics.fit import fit_model
from toremi_cli.topics.joining import BATCH_ROWS, joined_batches
from toremi_cli.topics.model import fingerprint_of, load_model
from toremi_cli.topics.topic_table import WORDS, topics_are_current, write_topics

COMMAND = "toremi cluster"
MODEL_FOLDER = "_model"
MODEL_VERSION = 10
"""Of the model's files and of how it is fitted: with another one, tables of before are made anew."""
BATCH_PROBS = 4_000_000
"""Bound of rows times topics in memory at once."""


def build_clusters(workdir: Workdir, config: ClusterConfig) -> dict[str, Any]:
    """Write `clusters`, its model and `topics.parquet`; what is up to date already is left alone.

    Returns:
        The manifest of `clusters`: among others num_topics, reason, method, agreement, coverage, and
        num_without_known_words.

    Raises:
        TableError: samples or embeddings are missing, or don't belong together.
    """
    samples, embeddings = TableReader(workdir.samples, SAMPLES), TableReader(workdir.embeddings, EMBEDDINGS)
    _check_alignment(samples, embeddings)
    inputs = {
        "samples": samples.fingerprint,
        "embeddings": embeddings.fingerprint,
        "method": f"version {MODEL_VERSION}",
    }
    provenance = provenance_of(CLUSTERS, COMMAND, config.settings(), inputs)
    folder = StageFolder(workdir.clusters, CLUSTERS, provenance)
    if topics_are_current(workdir.topics, provenance.fingerprint) and (finished := folder.up_to_date()):
        return finished
    manifest = read_manifest(workdir.clusters)
    if manifest is None or not folder.is_finished():
        with folder.planned():
            _ensure_model(workdir, samples, embeddings, config, inputs)
        folder.begin()
        _assign_all(workdir, samples, config, folder)
        manifest = _finish(workdir, folder, len(samples.shards))
    write_topics(workdir, provenance)
    folder.confirm()
    return manifest


def _check_alignment(samples: TableReader, embeddings: TableReader) -> None:
    """Refuse tables that aren't shards of the same rows; the ids are compared while reading."""
    if samples.rows_per_shard != embeddings.rows_per_shard:
        raise TableError(
            f"{embeddings.path}: {embeddings.num_rows:,} rows in {len(embeddings.shards)} shards, but {samples.path} "
            f"has {samples.num_rows:,} in {len(samples.shards)}; run `toremi embed` again"
        )
    if not samples.num_rows:
        raise TableError(f"{samples.path}: holds no samples; run `toremi embed` on a corpus with text")


def _ensure_model(
    workdir: Workdir, samples: TableReader, embeddings: TableReader, config: ClusterConfig, inputs: dict[str, str]
) -> None:
    """Fit and save the model, unless an earlier run with the same settings has.

    The threshold of agreement is none of them: it only decides which samples take the topic they are given.
    """
    folder = workdir.clusters / MODEL_FOLDER
    settings = {name: value for name, value in config.settings().items() if name != "min_agreement"}
    fingerprint = digest(settings, inputs)
    if fingerprint_of(folder) == fingerprint:
        return
    texts, vectors = sample_to_fit(samples, embeddings, config)
    fitted = fit_model(texts, vectors, config, tokenizer_of(workdir))
    described = {"keywords": fitted.keywords, "levels": [asdict(level) for level in fitted.levels]}
    kinds = fitted.model.kinds.name if fitted.model.kinds else []
    write_json(folder / WORDS, {**described, "crowding": fitted.crowding.tolist(), "kinds": kinds})
    fitted.model.save(folder, fingerprint)
    console.note(f"{fitted.model.num_pieces} topics: {fitted.model.reason}")


def tokenizer_of(workdir: Workdir) -> TextTokenizer | None:
    """The tokenizer of the samples, None where whatever made them left none."""
    try:
        return load_tokenizer(workdir.tokenizer)
    except CorpusError as problem:
        console.note(f"{problem}: topics are not cut by kind of text, and their entropies are left out")
        return None


def sample_to_fit(samples: TableReader, embeddings: TableReader, config: ClusterConfig) -> tuple[list[str], np.ndarray]:
    """At most `config.fit_samples` samples of the train split, fair to the sources, in the table's order.

    Which are taken depends on the seed and their ids alone.

    Raises:
        TableError: nothing to train on.
    """
    chosen = _choose_rows(samples, config)
    texts: list[str] = []
    vectors: list[np.ndarray] = []
    first = 0
    for shard in range(len(samples.shards)):
        for rows, vector in joined_batches(samples, embeddings, shard, BATCH_ROWS):
            wanted = chosen[(chosen >= first) & (chosen < first + rows.num_rows)] - first
            texts += rows["text"].take(pa.array(wanted)).to_pylist()
            vectors.append(vector[wanted])
            first += rows.num_rows
    return texts, np.concatenate(vectors)


def _choose_rows(samples: TableReader, config: ClusterConfig) -> np.ndarray:
    kept: StratifiedSample[int] = StratifiedSample(config.fit_samples)
    row = 0
    for batch in samples.iter_batches(["sample_id", "source", "split"]):
        for sample_id, source, split in zip(*(batch.column(i).to_pylist() for i in range(3)), strict=True):
            if split == TRAIN:
                kept.add(source, keyed_hash("samples to fit topics on", config.seed, sample_id), 1, row)
            row += 1
    chosen = np.array(sorted(kept.items()), dtype=np.int64)
    if not len(chosen):
        raise TableError(f"{samples.path}: no sample of the split '{TRAIN}' to fit topics on")
    return chosen


def _assign_all(workdir: Workdir, samples: TableReader, config: ClusterConfig, folder: StageFolder) -> None:
    work = partial(assign_shard, Workdir(workdir.root.resolve()), folder.provenance, config.min_agreement)
    workers = config.workers or default_workers()
    folder.fill(work, samples.rows_per_shard, "assigning topics", engine=config.engine, workers=workers)


def assign_shard(workdir: Workdir, provenance: Provenance, min_agreement: float, shard: int) -> None:
    """Write shard `shard` of `clusters`; runs in a process of its own or not."""
    model = load_model(workdir.clusters / MODEL_FOLDER)
    tokenizer = load_tokenizer(workdir.tokenizer) if model.view is not None else None
    samples = opened_once(workdir.samples, SAMPLES, provenance.fingerprint)
    embeddings = opened_once(workdir.embeddings, EMBEDDINGS, provenance.fingerprint)
    table = CLUSTERS.with_optional(*CLUSTERS.optional_names) if tokenizer is not None else CLUSTERS
    folder = StageFolder(workdir.clusters, table, provenance)
    batch_rows = max(1, min(BATCH_ROWS, BATCH_PROBS // model.num_pieces))
    with folder.writer(shard) as writer:
        for rows, vectors in joined_batches(samples, embeddings, shard, batch_rows):
            texts = rows["text"].to_pylist()
            views = model.measure(texts, tokenizer) if tokenizer is not None else None
            placed = model.place(texts, vectors, views)
            topic = np.where(placed.agreement >= min_agreement, placed.topic, NO_TOPIC)
            columns = [rows["sample_id"], topic, _lists(placed.probs), placed.agreement]
            if views is not None:
                columns += [views.ngram, views.shuffled, views.repeated_lines, pa.array(views.script.tolist())]
            writer.write(pa.table(columns, schema=table.arrow_schema()))


def _lists(probs: np.ndarray) -> pa.Array:
    ends = np.arange(0, probs.size + 1, probs.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(probs.ravel()))


def _finish(workdir: Workdir, folder: StageFolder, num_shards: int) -> dict[str, Any]:
    model = load_model(workdir.clusters / MODEL_FOLDER)
    total = settled = unknown = 0
    agreement = 0.0
    for shard in range(num_shards):
        rows = _light_columns(folder.path(shard))
        total += rows.num_rows
        has_topic = rows["topic"].to_numpy() != NO_TOPIC
        settled += int(has_topic.sum())
        unknown += int((rows["agreement"].to_numpy() == 0).sum())
        agreement += float(rows["agreement"].to_numpy().sum(dtype=np.float64))
    facts: dict[str, Any] = {"method": model.method, "num_topics": model.num_pieces, "reason": model.reason}
    facts |= {"agreement": agreement / total, "coverage": settled / total, "num_without_known_words": unknown}
    return folder.finish(num_shards, **facts)


def _light_columns(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["topic", "agreement"])
