"""Names and labels for the topics, and with them the table `annotated`: what the trainer streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from toremi_cli import console
from toremi_cli.errors import TableError, UsageError
from toremi_cli.files import atomic_file, find_json, write_json
from toremi_cli.layout import Workdir
from toremi_cli.provenance import Provenance, digest, provenance_of
from toremi_cli.schemas import ANNOTATED, CLUSTERS, NO_TOPIC, SAMPLES, TOPICS, Table
from toremi_cli.stage import StageFolder
from toremi_cli.tables import TableReader, opened_once, read_manifest
from toremi_cli.topics.config import AnnotateConfig
from toremi_cli.topics.joining import BATCH_ROWS, rebatched
from toremi_cli.topics.keywords import new_topic_name
from toremi_cli.topics.labelling import MAPPER_VERSION, TopicLabels, WordVectors, map_topics
from toremi_cli.topics.llm import AnswerCache, LlmCost, estimate_cost, label_with_llm
from toremi_cli.topics.llm_prompt import PROMPT_VERSION
from toremi_cli.topics.taxonomy import DEFAULT, NONE, Taxonomy, load_taxonomy

COMMAND = "toremi annotate"
BATCH_PROBS = 4_000_000
"""Bound of rows times topics in memory at once."""
LEAST_SHARDS_TO_SHARE = 8
"""With fewer, starting processes takes longer than they save."""
OPTIONS = "_options.json"
"""File beside the shards: the settings as the user gave them, for a rerun without flags."""


def build_annotated(
    workdir: Workdir, config: AnnotateConfig, *, engine: str = "local", workers: int = 1
) -> dict[str, Any]:
    """Label the topics in `topics.parquet` and write `annotated`; what is up to date already is left alone.

    `engine` and `workers` say where shards are written; the tables don't depend on it.

    Returns:
        The manifest of `annotated`.

    Raises:
        TableError: samples, clusters or topics are missing, or don't belong together.
        UsageError: the taxonomy cannot be read.
    """
    taxonomy = load_taxonomy(config.taxonomy)
    samples, clusters = TableReader(workdir.samples, SAMPLES), TableReader(workdir.clusters, CLUSTERS)
    if samples.rows_per_shard != clusters.rows_per_shard:
        raise TableError(
            f"{workdir.clusters}: its shards have {clusters.rows_per_shard[:3]}… rows, those of {workdir.samples} "
            f"{samples.rows_per_shard[:3]}…; run `toremi cluster` again"
        )
    labelled = label_topics(workdir, config, taxonomy, clusters.fingerprint)
    inputs = {"samples": samples.fingerprint, "clusters": clusters.fingerprint, "labels": _digest_labels(labelled)}
    provenance = provenance_of(ANNOTATED, COMMAND, _settings(config, taxonomy), inputs)
    folder = StageFolder(workdir.annotated, annotated_with(clusters), provenance)
    _keep_options(workdir, config)
    if manifest := folder.up_to_date():
        return manifest
    folder.begin()
    work = partial(label_shard, Workdir(workdir.root.resolve()), provenance, _labels_column(labelled))
    rows, least = samples.rows_per_shard, LEAST_SHARDS_TO_SHARE
    folder.fill(work, rows, "labelling samples", engine=engine, workers=workers, worth_sharing=least)
    num_labelled = sum(bool(row["labels"]) for row in labelled)
    unknown = (read_manifest(workdir.clusters) or {}).get("num_without_known_words", 0)
    facts = {"num_labelled_topics": num_labelled, "num_without_known_words": unknown}
    return folder.finish(len(samples.shards), **facts)


def label_shard(workdir: Workdir, provenance: Provenance, labels_of_topic: pa.Array, shard: int) -> None:
    """Write shard `shard` of `annotated`; runs in a process of its own or not."""
    samples = opened_once(workdir.samples, SAMPLES, provenance.fingerprint)
    clusters = opened_once(workdir.clusters, CLUSTERS, provenance.fingerprint)
    with StageFolder(workdir.annotated, annotated_with(clusters), provenance).writer(shard) as writer:
        for rows in _joined(samples, clusters, shard, labels_of_topic):
            writer.write(rows)


def annotated_with(clusters: TableReader) -> Table:
    """The table to write: with those optional columns of `clusters` that are there."""
    return ANNOTATED.with_optional(*(name for name in CLUSTERS.optional_names if name in clusters.schema.names))


def label_topics(
    workdir: Workdir, config: AnnotateConfig, taxonomy: Taxonomy | None, clusters: str
) -> list[dict[str, Any]]:
    """Name and label the topics, and write them back to `topics.parquet` where anything is new.

    Args:
        workdir: holds `topics.parquet`.
        config: how to label.
        taxonomy: the labels, None to take the names.
        clusters: fingerprint of the clusters that the topics must belong to.

    Returns:
        The rows of the table, topic 0 first.
    """
    reader = TableReader(workdir.topics, TOPICS)
    record = reader.record or {}
    belongs_to = record.get("inputs", {}).get("clusters")
    if belongs_to is not None and belongs_to != clusters:
        raise TableError(
            f"{workdir.topics}: describes other topics than {workdir.clusters}; run `toremi cluster` again"
        )
    table = reader.read().sort_by("topic")
    rows: list[dict[str, Any]] = table.to_pylist()
    if [row["topic"] for row in rows] != list(range(len(rows))):
        raise TableError(
            f"{workdir.topics}: its topics are not numbered 0 to {len(rows) - 1}; run `toremi cluster` again"
        )
    plan = provenance_of(TOPICS, COMMAND, _settings(config, taxonomy), {"clusters": clusters})
    # What a server failed to label last time is asked for again; the cache holds the rest.
    complete = config.llm is None or all(row["label_source"].startswith("llm:") for row in rows if row["words"])
    if record.get("fingerprint") == plan.fingerprint and (complete or taxonomy is None):
        return rows
    taken: set[str] = set()
    for row, labels in zip(rows, _choose_labels(rows, config, taxonomy, workdir), strict=True):
        row["name"] = new_topic_name(row["words"], taken, row.get("kind") or "")
        taken.add(row["name"])
        if taxonomy is None:
            labels = TopicLabels((row["name"],), (1.0,), "name")
        row |= {"labels": labels.labels, "label_scores": labels.scores, "label_source": labels.source}
    _write_topics(workdir.topics, rows, table.schema, plan)
    return rows


def _choose_labels(
    rows: Sequence[Mapping[str, Any]], config: AnnotateConfig, taxonomy: Taxonomy | None, workdir: Workdir
) -> list[TopicLabels]:
    if taxonomy is None:
        return [TopicLabels()] * len(rows)
    keywords = [row["words"] for row in rows]
    vectors = _word_vectors(workdir)
    offline = map_topics(keywords, taxonomy, config.max_labels, config.min_score, config.closeness, vectors)
    if config.llm is None:
        return offline
    answers = label_with_llm(keywords, taxonomy, config.llm, config.max_labels, answer_cache(workdir))
    missing = sum(answer is None for answer in answers)
    if missing:
        console.warn(
            f"{missing} of {len(answers)} topics got no usable answer and are labelled by the lexicons", even_quiet=True
        )
    return [answer or fallback for answer, fallback in zip(answers, offline, strict=True)]


def answer_cache(workdir: Workdir) -> AnswerCache:
    """What language models have answered so far."""
    return AnswerCache(workdir.llm_answers)


def llm_cost(workdir: Workdir, config: AnnotateConfig) -> LlmCost:
    """What labelling by `config.llm` would ask for now.

    Raises:
        UsageError: no server or no taxonomy is set.
    """
    taxonomy = load_taxonomy(config.taxonomy)
    if config.llm is None or taxonomy is None:
        raise UsageError("--dry-run counts calls of a language model: give --llm-url and --llm-model, and a taxonomy")
    keywords = [row["words"] for row in TableReader(workdir.topics, TOPICS).read(["topic", "words"]).to_pylist()]
    return estimate_cost(keywords, taxonomy, config.llm, config.max_labels, answer_cache(workdir))


def _word_vectors(workdir: Workdir) -> WordVectors | None:
    """The words of the vector model, None where it has none or isn't there."""
    from toremi_cli.topics.vectors import load_backend

    try:
        backend = load_backend(workdir.embeddings / "_model")
    except TableError:
        return None
    vocabulary, encode_words = getattr(backend, "vocabulary", None), getattr(backend, "encode_words", None)
    if vocabulary is None or encode_words is None:
        return None
    vectors = encode_words()  # (num_words, dim)

    def look_up(words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        numbers = np.array([vocabulary.index.get(word, -1) for word in words], dtype=np.int64)
        known = numbers >= 0
        found = np.zeros((len(words), vectors.shape[1]), dtype=np.float32)
        found[known] = vectors[numbers[known]]
        return found, known

    return look_up


def previous_options(workdir: Workdir) -> dict[str, Any]:
    """The fields of `AnnotateConfig` as the labels in the workdir were made; empty if there are none."""
    options = find_json(workdir.annotated / OPTIONS)
    return options if isinstance(options, dict) else {}


def _keep_options(workdir: Workdir, config: AnnotateConfig) -> None:
    options = asdict(config)
    if config.taxonomy not in (DEFAULT, NONE):
        options["taxonomy"] = str(Path(config.taxonomy).resolve())
    if options != previous_options(workdir):
        write_json(workdir.annotated / OPTIONS, options)


def _settings(config: AnnotateConfig, taxonomy: Taxonomy | None) -> dict[str, Any]:
    """What decides the labels: a taxonomy by its contents, not by its path."""
    if taxonomy is None:
        return {"taxonomy": "none"}
    named = {"taxonomy": f"{taxonomy.name} {taxonomy.version} ({taxonomy.fingerprint})", "mapper": MAPPER_VERSION}
    settings = {**asdict(config), **named}
    del settings["llm"]
    if config.llm is not None:
        settings |= {"llm_model": config.llm.model, "llm_prompt": PROMPT_VERSION}
    return settings


def _write_topics(path: Path, rows: list[dict[str, Any]], found: pa.Schema, provenance: Provenance) -> None:
    """Rewrite the topics, with the columns that others have added."""
    own = TOPICS.arrow_schema()
    extra = [field for field in found if field.name not in own.names]
    schema = pa.schema([*own, *extra]).with_metadata(provenance.metadata())
    with atomic_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")


def _digest_labels(rows: Sequence[Mapping[str, Any]]) -> str:
    return digest([(row["topic"], list(row["labels"] or ())) for row in rows])


def _labels_column(rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    """Labels by topic, and in the last place those of a sample without a topic."""
    return pa.array([*(list(row["labels"] or ()) for row in rows), []], type=pa.list_(pa.string()))


def _joined(samples: TableReader, clusters: TableReader, shard: int, labels_of_topic: pa.Array) -> Iterator[pa.Table]:
    """The rows of one shard of `annotated`, a batch at a time."""
    num_topics = len(labels_of_topic) - 1
    columns = [*CLUSTERS.column_names, *(name for name in CLUSTERS.optional_names if name in clusters.schema.names)]
    num_rows = max(1, min(BATCH_ROWS, BATCH_PROBS // max(num_topics, 1)))
    texts, topics = (
        rebatched(reader, names, shard, num_rows)
        for reader, names in ((samples, SAMPLES.column_names), (clusters, columns))
    )
    for text_rows, topic_rows in zip(texts, topics, strict=True):
        if not text_rows["sample_id"].combine_chunks().equals(topic_rows["sample_id"].combine_chunks()):
            raise TableError(
                f"{clusters.shards[shard]}: its samples are not those of {samples.shards[shard]} in the same order; "
                "run `toremi cluster` again"
            )
        topic = topic_rows["topic"].to_numpy()
        strange = topic[(topic < NO_TOPIC) | (topic >= num_topics)]
        if len(strange):
            raise TableError(
                f"{clusters.shards[shard]}: topic {strange[0]} is not in the table of topics (0 to {num_topics - 1}); "
                "run `toremi cluster` again"
            )
        labels = labels_of_topic.take(pa.array(np.where(topic == NO_TOPIC, num_topics, topic)))
        added = {**{name: topic_rows[name] for name in columns[1:]}, "labels": labels}
        yield pa.table({**{name: text_rows[name] for name in text_rows.column_names}, **added})
