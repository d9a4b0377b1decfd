"""The text that models are measured on, with the domains that each document belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc

from toremi_cli.errors import CorpusError, TableError
from toremi_cli.layout import Workdir
from toremi_cli.provenance import digest
from toremi_cli.sample_topics import SampleTopics
from toremi_cli.schemas import ANNOTATED, GLUE, TASKS, TEST, TRAIN, VALIDATION, source_domain
from toremi_cli.tables import TableReader


@dataclass
class EvalSet:
    """Texts to predict; the lists run in parallel, one entry a text (a held-out sample, or a whole document)."""

    suite: str
    """Name under which the results stand."""
    fingerprint: str
    """Identifies the texts."""
    ids: list[str] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    """Id of the document that a text is part of: what intervals resample."""
    sources: list[str] = field(default_factory=list)
    """As the domains that they are, by `source_domain`."""
    texts: list[str] = field(default_factory=list)
    topics: list[list[str]] = field(default_factory=list)
    empty_domains: list[str] = field(default_factory=list)
    """Sources of which nothing was held out."""

    def add(self, text_id: str, document: str, source: str, text: str, topics: Iterable[str] = ()) -> None:
        """Append one text; an empty one has nothing to predict and is left out."""
        if text:
            self.ids.append(text_id)
            self.documents.append(document)
            self.sources.append(source_domain(source))
            self.texts.append(text)
            self.topics.append(list(topics))

    @property
    def num_bytes(self) -> list[int]:
        """Length of each text in UTF-8."""
        return [len(text.encode("utf-8", "surrogatepass")) for text in self.texts]

    @property
    def domains(self) -> list[str]:
        """The sources, by name."""
        return sorted(set(self.sources))


def suite_name(name: str, kind: str) -> str:
    """The name under which other text stands: numbers of a split or of tasks are not to be replaced by it."""
    return f"{kind}:{name}" if name in (TRAIN, VALIDATION, TEST, TASKS, GLUE) else name


def held_out(workdir: Workdir, split: str, topics: str) -> EvalSet:
    """The held-out samples of the annotated corpus.

    Raises:
        TableError: no annotated corpus, or nothing was held out.
    """
    if not workdir.annotated.exists():
        raise TableError(
            f"{workdir.annotated}: no annotated corpus there; run `toremi annotate CORPUS` first, "
            "or name other text with --data"
        )
    reader = TableReader(workdir.annotated, ANNOTATED)
    of_sample = None if topics == "none" else SampleTopics(topics, workdir.topics, workdir.annotated)
    result = EvalSet(suite=split, fingerprint=digest(reader.fingerprint, split))
    seen: set[str] = set()
    columns = ("sample_id", "doc_id", "source", "split", "text", *(of_sample.columns if of_sample else ()))
    for batch in reader.iter_batches(columns):
        sources, splits = batch.column("source"), batch.column("split")
        seen.update(sources.unique().to_pylist())
        for row in batch.filter(pc.equal(splits, split)).to_pylist():
            own = of_sample.of(row) if of_sample else ()
            result.add(row["sample_id"], row["doc_id"], row["source"], row["text"], own)
    if not result.texts:
        raise TableError(
            f"{workdir.annotated}: no sample of split '{split}'; annotate with a larger --holdout, "
            "or name other text with --data"
        )
    result.empty_domains = sorted({source_domain(source) for source in seen} - set(result.sources))
    return result


def corpus_texts(path: str, workdir: Path | None = None) -> EvalSet:
    """The documents of any corpus that `toremi embed` can read, without `workdir`; each source is a domain.

    Raises:
        CorpusError: nothing there, no text in it, or an id in it twice.
    """
    from toremi_cli.corpus.config import CorpusConfig
    from toremi_cli.corpus.ids import DistinctIds
    from toremi_cli.corpus.readers import Corpus
    from toremi_cli.corpus.scan import batches

    name = Path(path).name or path
    result = EvalSet(suite=suite_name(name, "data"), fingerprint="")
    corpus = Corpus(path, CorpusConfig(), workdir=workdir, has_flags=False)
    ids = DistinctIds(corpus)
    for batch in batches(corpus.documents()):
        ids.add(batch)
        for document in batch:
            result.add(document.id, document.id, document.source, document.text)
    if not result.texts:
        raise CorpusError(f"{path}: no text to measure on")
    result.fingerprint = digest(result.ids, result.num_bytes)
    return result
