"""The contract: every table that a stage reads or writes, column by column.

This is the only place that names columns' types, units and meanings. A stage may be replaced by any program that
writes the same columns; extra columns are carried along by readers that don't know them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa

TRAIN = "train"
"""Split that is trained on."""
VALIDATION = "validation"
"""Held-out split that may steer a run (stage switch, tuning)."""
TEST = "test"
"""Held-out split that only reports."""
TASKS, GLUE = "tasks", "glue"
"""Suites of table `eval` that are no text: right answers of tasks, and those after fine-tuning."""
NO_TOPIC = -1
"""`topic` of a sample on which no topic is settled: it stays unlabelled and trains with weight 1."""
END_OF_TEXT = "<|endoftext|>"
"""Token between documents of a tokenizer that has none of its own."""
CORRUPTED = "corrupted"
"""Column of `toremi corrupt`: the truth about its noise."""
CONDITIONS = "conditions"
"""Column of `toremi eval`: what a number was measured under."""
ALL_DOMAINS = "all"
"""`domain` of a number that speaks of no single domain."""
MACRO, MICRO = "macro", "micro"
"""`domain` of a mean over domains, each alike, and of a mean over all tokens alike."""

TOPIC_DOMAIN, SOURCE_DOMAIN = "topic:", "source:"
"""What a topic's name has in front where it is a `domain`, and a source's where its name could be taken for another."""


def source_domain(source: str) -> str:
    """The `domain` that a source is: its name, unless data has taken a name that means something else."""
    taken = source in (ALL_DOMAINS, MACRO, MICRO) or source.startswith((TOPIC_DOMAIN, SOURCE_DOMAIN))
    return SOURCE_DOMAIN + source if taken else source


@dataclass(frozen=True)
class Column:
    """One column. `type` None stands for a vector whose length the first row fixes."""

    name: str
    type: pa.DataType | None
    meaning: str
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """One kind of table. `version` rises when a column changes its type or meaning, or a new one is required."""

    name: str
    version: int
    meaning: str
    columns: tuple[Column, ...]
    command: str = ""
    """What writes it, as a user would type it."""
    optional: tuple[Column, ...] = ()
    """Columns that only some such tables have."""
    enough: tuple[str, ...] = ()
    """Columns that suffice in a table of another program: the others are filled in, or refused where needed."""
    grows: bool = False
    """Whether it is appended to while a run lives: then it has no manifest, and is whole at any moment."""

    @property
    def shown(self) -> str:
        """The table in the words of an error: what it is, and how to get one."""
        article = "an" if self.name[0] in "aeiou" else "a"
        return f"{article} '{self.name}' table" + (f" (`{self.command}` writes it)" if self.command else "")

    def arrow_schema(self, dim: int | None = None) -> pa.Schema:
        """The Arrow schema; `dim` is the length of vector columns, needed where the table has one."""
        return pa.schema([(c.name, c.type if c.type is not None else vector_type(dim)) for c in self.columns])

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, in order."""
        return [c.name for c in self.columns]

    @property
    def optional_names(self) -> tuple[str, ...]:
        """Names of the columns that only some such tables have."""
        return tuple(c.name for c in self.optional)

    def with_optional(self, *names: str) -> Table:
        """The same table with these of its optional columns."""
        return replace(self, columns=(*self.columns, *(c for c in self.optional if c.name in names)))


def vector_type(dim: int | None) -> pa.DataType:
    """A fixed-size list of `dim` float32."""
    if dim is None:
        raise ValueError("a table with a vector column needs its length")
    return pa.list_(pa.float32(), dim)


_SAMPLE_ID = Column("sample_id", pa.string(), "id of the sample: the document's id, '#', the chunk's number from 0")
_TEXT_COLUMNS = (
    _SAMPLE_ID,
    Column("doc_id", pa.string(), "id of the document: from the id field, or file path and line"),
    Column("source", pa.string(), "where the document comes from: the source field, sub-folder or file name"),
    Column("split", pa.string(), f"'{TRAIN}', or held out by document hash: '{VALIDATION}' (may steer), '{TEST}'"),
    Column(
        "text",
        pa.string(),
        "the sample's text; a document's samples joined give the document back, repeated ones left out",
    ),
)
_TOPIC_COLUMNS = (
    Column("topic", pa.int32(), f"the topic of highest probability, an id of table 'topics'; {NO_TOPIC} if unsettled"),
    Column("probs", pa.list_(pa.float32()), "distribution over the topics 0, 1, …; sums to 1", "probability"),
    Column("agreement", pa.float32(), "how far the word view (LDA) and the vector view agree on the sample, 0 to 1"),
)

_VIEW_COLUMNS = (
    Column("ngram_entropy", pa.float32(), "the sample's tokens under bigrams of other samples", "nats a token"),
    Column("shuffled_entropy", pa.float32(), "the same predictions, of its tokens in random order", "nats a token"),
    Column(
        "repeated_lines", pa.float32(), "part of its characters in lines that come again in other samples", "0 to 1"
    ),
    Column("script", pa.string(), "Unicode's name of the script of most of its letters: latin, cjk, …, none"),
)

SAMPLES = Table(
    "samples",
    1,
    "The corpus, cut into samples: what gets topics and a weight.",
    (
        *_TEXT_COLUMNS,
        Column("num_tokens", pa.int32(), "length in the tokenizer in use, without the end-of-text token", "tokens"),
        Column("num_bytes", pa.int64(), "length of the text in UTF-8", "bytes"),
    ),
    "toremi embed CORPUS",
)
EMBEDDINGS = Table(
    "embeddings",
    1,
    "A vector for each sample, in the order of 'samples'.",
    (_SAMPLE_ID, Column("vector", None, "embedding of the sample's text, length 1 (L2)")),
    "toremi embed CORPUS",
)
CLUSTERS = Table(
    "clusters",
    1,
    "The topics of each sample, in the order of 'samples'.",
    (_SAMPLE_ID, *_TOPIC_COLUMNS),
    "toremi cluster",
    optional=_VIEW_COLUMNS,
)
TOPICS = Table(
    "topics",
    1,
    "One row for each topic.",
    (
        Column("topic", pa.int32(), "id of the topic: 0, 1, …"),
        Column("name", pa.string(), "short unique name, made of its first words"),
        Column("words", pa.list_(pa.string()), "keywords by class-based TF-IDF, strongest first"),
        Column("labels", pa.list_(pa.string()), "1 to 3 labels of the taxonomy; none if unsure"),
        Column("label_source", pa.string(), "who chose the labels: 'lexicon', 'llm:MODEL', 'name', 'none'"),
        Column("label_scores", pa.list_(pa.float32()), "the mapper's score of each label", "0 to 1"),
        Column("num_samples", pa.int64(), "samples whose topic this is", "samples"),
        Column("num_tokens", pa.int64(), "their tokens", "tokens"),
        Column("agreement", pa.float32(), "mean agreement of its samples"),
        Column(
            "sources",
            pa.list_(pa.struct([("source", pa.string()), ("num_samples", pa.int64())])),
            "its samples by source, largest first",
        ),
    ),
    "toremi cluster",
    optional=(
        Column("kind", pa.string(), "how it differs from the topic that it was cut from; empty for the others"),
        Column("crowding", pa.float32(), "how many topics there are of the topic's kind, itself included", "topics"),
        Column(
            "ngram_entropy",
            pa.float64(),
            "its one half under n-grams of the other: what is left to learn; null without tokens to train on",
            "nats a token",
        ),
        Column(
            "unigram_entropy",
            pa.float64(),
            "the same without context: less the above, what context gives",
            "nats a token",
        ),
        Column("parents", pa.list_(pa.int32()), "its coarse topic on each of --levels, finest first"),
        Column("parent_names", pa.list_(pa.string()), "their names"),
    ),
)
ANNOTATED = Table(
    "annotated",
    1,
    "The topic-labelled corpus: what the trainer streams.",
    (
        *_TEXT_COLUMNS,
        Column("num_tokens", pa.int32(), "length in the tokenizer in use, without the end-of-text token", "tokens"),
        Column("num_bytes", pa.int64(), "length of the text in UTF-8", "bytes"),
        _TOPIC_COLUMNS[0],
        Column("labels", pa.list_(pa.string()), "labels of the sample's topic; empty if unsettled"),
        *_TOPIC_COLUMNS[1:],
    ),
    "toremi annotate CORPUS",
    enough=("text",),
    optional=(*_VIEW_COLUMNS, Column(CORRUPTED, pa.bool_(), "whether `toremi corrupt` planted noise in the sample")),
)
WEIGHTS = Table(
    "weights",
    1,
    "The course of the topic weights: one row for each topic at the end of each interval.",
    (
        Column("step", pa.int64(), "optimizer steps done", "steps"),
        Column("tokens_seen", pa.int64(), "tokens trained on so far, all ranks", "tokens"),
        Column("stage", pa.int32(), "stage of the policy that made this update: 1 or 2"),
        Column("topic", pa.string(), "name of the topic"),
        Column("weight", pa.float64(), "weight after the update: in force from the next step on"),
        Column(
            "loss", pa.float64(), "mean loss of the topic's samples in the interval; null if unseen", "nats a token"
        ),
        Column(
            "num_samples",
            pa.int64(),
            "samples of the topic that began in the interval, all ranks; at least 1 where the topic was seen",
            "samples",
        ),
    ),
    "toremi pretrain",
    grows=True,
    optional=(
        Column(
            "num_tokens", pa.float64(), "predicted tokens of the topic, as many as natural draws would show", "tokens"
        ),
        Column("token_loss", pa.float64(), "mean loss of the topic's tokens; null if unseen", "nats a token"),
        Column(
            "shuffled_loss",
            pa.float64(),
            "loss of the same predictions on other tokens of the same sample: "
            "worth is token_loss * (shuffled_loss - token_loss)",
            "nats a token",
        ),
        Column("word_gain", pa.float64(), "shuffled less plain loss of the tokens that begin a word", "nats a token"),
        Column("num_words", pa.float64(), "those tokens, counted as num_tokens are", "tokens"),
        Column("words", pa.list_(pa.string()), "the topic's most frequent words, to find it again in another corpus"),
        Column("word_shares", pa.list_(pa.float32()), "their parts of all its words", "0 to 1"),
        Column("centre", pa.list_(pa.float32()), "mean vector of its samples, of length 1; null without vectors"),
    ),
)
RUN_WEIGHTS = WEIGHTS.with_optional("num_tokens", "token_loss", "shuffled_loss", "word_gain", "num_words")
"""What a run writes; `toremi replay` knows less."""
EXPORTED_WEIGHTS = WEIGHTS.with_optional("words", "word_shares", "centre")
"""What `toremi export --to weights` writes: weights that can be used on another clustering."""
LOSSES = Table(
    "losses",
    1,
    "Topic losses by interval: what `toremi replay` reads. A 'weights' table is one.",
    tuple(c for c in WEIGHTS.columns if c.name in ("step", "topic", "loss", "num_samples")),
    grows=True,
)
TOPIC_WEIGHTS = Table(
    "topic weights",
    1,
    "What the policy `frozen` trains by: a weight of each topic. A 'weights' table is one.",
    tuple(c for c in WEIGHTS.columns if c.name in ("topic", "weight")),
    optional=(next(c for c in WEIGHTS.columns if c.name == "step"), *WEIGHTS.optional),
    grows=True,
)
METRICS = Table(
    "metrics",
    1,
    "What a run measured while it trained, one number a row.",
    (
        Column("step", pa.int64(), "optimizer steps done", "steps"),
        Column("tokens_seen", pa.int64(), "tokens trained on so far, all ranks", "tokens"),
        Column("name", pa.string(), "what was measured: train_loss, eval_loss, learning_rate, …"),
        Column("domain", pa.string(), f"the source it speaks of (`source_domain`), or '{ALL_DOMAINS}'"),
        Column("value", pa.float64(), "the number, in the unit that its name implies"),
    ),
    "toremi pretrain",
    grows=True,
)
_CONDITIONS = (
    Column(CONDITIONS, pa.string(), "what it was measured under: context length, stride, limit and the like"),
)
EVAL = Table(
    "eval",
    1,
    "Results of `toremi eval`, one number a row.",
    (
        Column("run", pa.string(), "name of the run"),
        Column("checkpoint", pa.string(), "name of the checkpoint's folder"),
        Column("suite", pa.string(), "what was evaluated on: a split, a data set, a task suite"),
        Column("domain", pa.string(), "a source (`source_domain`), 'topic:NAME', 'macro' or 'micro'"),
        Column("metric", pa.string(), "'perplexity', 'bits_per_byte', 'loss', 'accuracy', …"),
        Column("value", pa.float64(), "the number"),
        Column("num_tokens", pa.int64(), "tokens predicted", "tokens"),
        Column("num_bytes", pa.int64(), "bytes of text they stand for", "bytes"),
        Column("num_samples", pa.int64(), "documents, or a task's items, that it was measured on", "samples"),
        Column("stderr", pa.float64(), "standard error of the value over those; null where none is known"),
    ),
    "toremi eval",
    optional=_CONDITIONS,
)
SCORES = Table(
    "scores",
    1,
    "Summed loss of each document that `toremi eval` measured, or of each right answer of a task: what intervals and "
    "paired differences are made of.",
    (
        Column("checkpoint", pa.string(), "name of the checkpoint's folder"),
        Column("suite", pa.string(), "what was evaluated on"),
        Column("source", pa.string(), "domain of the document, or the task"),
        Column("doc_id", pa.string(), "id of the document, or number of the item"),
        Column("nats", pa.float64(), "summed -log p of its tokens", "nats"),
        Column("num_tokens", pa.int64(), "tokens predicted", "tokens"),
        Column("num_bytes", pa.int64(), "bytes of text they stand for", "bytes"),
    ),
    "toremi eval",
    optional=_CONDITIONS,
)

_ALL = (SAMPLES, EMBEDDINGS, CLUSTERS, TOPICS, ANNOTATED, WEIGHTS, LOSSES, TOPIC_WEIGHTS, METRICS, EVAL, SCORES)
TABLES = {table.name: table for table in _ALL}
