"""Ids of documents must differ: what is kept about a document stands under its id."""

from __future__ import annotations

from collections.abc import Iterable

from toremi_cli.corpus.fields import Document
from toremi_cli.corpus.hashing import HashSet, text_hashes
from toremi_cli.corpus.readers import Corpus
from toremi_cli.errors import CorpusError


class DistinctIds:
    """Watches the documents of a corpus as they are read, at 8 bytes each."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._seen = HashSet()

    def add(self, documents: Iterable[Document]) -> None:
        """See some more documents.

        Raises:
            CorpusError: an id again; names both places.
        """
        batch = list(documents)
        is_new = self._seen.add(text_hashes(document.id for document in batch))
        if not is_new.all():
            raise repeated_id(self._corpus, batch[int(is_new.argmin())])


def repeated_id(corpus: Corpus, document: Document) -> CorpusError:
    """The error over a document whose id another one before it has, too."""
    first = next(d for d in corpus.documents() if d.id == document.id)
    hint = ": name another field with --id-field, or --id-field none to use file and line" if corpus.has_flags else ""
    return CorpusError(f"{document.place}: id '{document.id}' again, first at {first.place}; ids must differ{hint}")
