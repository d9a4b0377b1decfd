"""The documents of a corpus, one after another: never a whole file in memory, a txt or md file excepted.

A document's source is `--source-field` if given, else its own field `source` (Dolma and most mixtures have one), else
the first sub-folder it stands in, else its file's name without extensions. Its id is `--id-field` if given, else its
own field `id`, else its file and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from toremi_cli.corpus.config import NO_ID_FIELD, CorpusConfig
from toremi_cli.corpus.formats import ROW_READERS, BadRow, Wanted
from toremi_cli.corpus.listing import CorpusFile, Listing, filesystem_of, list_corpus
from toremi_cli.corpus.opening import open_bytes
from toremi_cli.errors import CorpusError

TEXT_FIELDS = ("text", "content", "body", "document", "raw_content", "article", "passage")
"""Names under which a text is looked for, in this order."""
MAX_REMEMBERED_PROBLEMS = 5
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Document:
    """One document as it was read."""

    id: str
    source: str
    text: str
    file: str
    """Name of its file."""
    place: str
    """File and line, for errors."""


@dataclass
class ReadReport:
    """What a pass over the corpus left out."""

    num_skipped: int = 0
    """Broken lines and files, with `--on-error skip`."""
    num_empty: int = 0
    """Documents whose text is missing, empty or blank."""
    problems: list[str] = field(default_factory=list)
    """The first few of the broken ones."""


class Corpus:
    """The files of a corpus, and how to read documents from them."""

    def __init__(self, path: str, config: CorpusConfig, files: list[CorpusFile] | None = None) -> None:
        """List the files, or take some that have been listed before.

        Raises:
            CorpusError: nothing readable there.
        """
        self.config = config
        self.listing: Listing = list_corpus(path) if files is None else Listing(path, filesystem_of(path), files)

    def documents(self, report: ReadReport | None = None, only: set[str] | None = None) -> Iterator[Document]:
        """Stream the documents in the order of file names and lines; `only` names the files to read.

        Raises:
            CorpusError: something broken, if the configuration doesn't say to skip it.
        """
        report = report if report is not None else ReadReport()
        for file in self.listing.files:
            if only is not None and file.name not in only:
                continue
            try:
                yield from self._documents_of(file, report)
            except CorpusError as problem:
                if self.config.on_error == "fail":
                    raise CorpusError(f"{problem} (--on-error skip passes over such)") from None
                self._pass_over(str(problem), report)

    def _documents_of(self, file: CorpusFile, report: ReadReport) -> Iterator[Document]:
        reader = _FieldReader(file, self.config)
        with open_bytes(self.listing.filesystem, file) as stream:
            for number, row in ROW_READERS[file.format](stream, file.shown, reader.wanted):
                place = f"{file.shown}:{number}" if number else file.shown
                if isinstance(row, BadRow):
                    self._pass_over(f"{place}: {row}", report)
                    continue
                try:
                    document = reader.read(row, number, place)
                except CorpusError as problem:
                    self._pass_over(str(problem), report)
                    continue
                if document is None:
                    report.num_empty += 1
                else:
                    yield document

    def _pass_over(self, problem: str, report: ReadReport) -> None:
        if self.config.on_error == "fail":
            raise CorpusError(problem) from None
        report.num_skipped += 1
        if len(report.problems) < MAX_REMEMBERED_PROBLEMS:
            report.problems.append(problem)


class _FieldReader:
    """Finds text, source and id among the fields of a file's rows."""

    def __init__(self, file: CorpusFile, config: CorpusConfig) -> None:
        self.file = file
        self.plain = file.format == "text"
        self.text_fields = (config.text_field,) if config.text_field and not self.plain else TEXT_FIELDS
        self.source_field = None if self.plain else config.source_field
        self.id_field = NO_ID_FIELD if self.plain else config.id_field

        self.wanted = Wanted(self.text_fields, (self.source_field or "source", self.id_field or "id"))

    def read(self, row: Mapping[str, Any], number: int, place: str) -> Document | None:
        """The document of a row; None if its text is empty."""
        text = self._text(row, place)
        if not text or text.isspace():
            return None
        if not text.isascii():
            text = _SURROGATES.sub("\ufffd", text)  # half of a pair, escaped in JSON: no UTF-8 can hold it
        return Document(self._id(row, number, place), self._source(row, place), text, self.file.name, place)

    def _text(self, row: Mapping[str, Any], place: str) -> str | None:
        name = next((name for name in self.text_fields if name in row), None)
        if name is None:
            wanted = f"no field '{self.text_fields[0]}'" if len(self.text_fields) == 1 else "no text field"
            raise CorpusError(f"{place}: {wanted} (found {_named(row)}); name it with --text-field")
        value = row[name]
        if isinstance(value, bytes):
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError:
                raise CorpusError(f"{place}: field '{name}' is not UTF-8") from None
        if value is not None and not isinstance(value, str):
            raise CorpusError(
                f"{place}: field '{name}' holds {_kind(value)}, expected text; name another with --text-field"
            )
        return value

    def _source(self, row: Mapping[str, Any], place: str) -> str:
        if self.source_field is None:
            own = row.get("source")
            return own if isinstance(own, str) and own else self.file.source
        value = row.get(self.source_field)
        if value is None or value == "":
            raise CorpusError(f"{place}: no field '{self.source_field}' (found {_named(row)}); see --source-field")
        if not isinstance(value, str | int):
            raise CorpusError(f"{place}: field '{self.source_field}' holds {_kind(value)}, expected a name")
        return str(value)

    def _id(self, row: Mapping[str, Any], number: int, place: str) -> str:
        if self.id_field != NO_ID_FIELD:
            value = row.get(self.id_field or "id")
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                return str(value)
            if self.id_field is not None:
                found = (
                    f"no field '{self.id_field}'" if value is None else f"field '{self.id_field}' holds {_kind(value)}"
                )
                raise CorpusError(f"{place}: {found} (found {_named(row)}); see --id-field")
        return f"{self.file.name}:{number}" if number else self.file.name


def _named(row: Mapping[str, Any]) -> str:
    names = [str(name) for name in row]
    return (", ".join(names[:12]) + (", …" if len(names) > 12 else "")) or "no fields"


def _kind(value: Any) -> str:
    kinds = {int: "a number", float: "a number", bool: "true or false", list: "a list", dict: "an object"}
    return kinds.get(type(value), f"a {type(value).__name__}") if value is not None else "nothing"
