"""The documents of a corpus, one after another: never a whole file in memory, a plain text file excepted.

A document's source is `--source-field` if given, else its own field `source` (Dolma and most mixtures have one), else
what its place says (see `names`). Its id is `--id-field` if given, else its own field `id`, else its file and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.fields import Document, FieldReader
from toremi_cli.corpus.formats import ROW_READERS
from toremi_cli.corpus.listing import CorpusFile, Listing, Paths, filesystem_of, list_corpus, show_corpus
from toremi_cli.corpus.names import more_endings
from toremi_cli.corpus.opening import open_bytes
from toremi_cli.corpus.rows import BadRow
from toremi_cli.errors import CorpusError

MAX_REMEMBERED_PROBLEMS = 5
BINARY_LOOK_BYTES = 8192
"""A file of source code with a zero byte among the first so many is none, whatever its name ends in."""


@dataclass
class ReadReport:
    """What a pass over the corpus left out."""

    num_skipped: int = 0
    """Broken lines and files, with `--on-error skip`."""
    num_empty: int = 0
    """Documents whose text is missing, empty or blank."""
    num_not_text: int = 0
    """Files beside source code that hold no text: data without a text field, or binary."""
    problems: list[str] = field(default_factory=list)
    """The first few of the broken ones."""


class Corpus:
    """The files of a corpus, and how to read documents from them.

    `has_flags`: who reads has the flags of `toremi embed`, so that errors may name those that help.
    """

    def __init__(
        self,
        paths: Paths,
        config: CorpusConfig,
        files: list[CorpusFile] | None = None,
        *,
        workdir: Path | None = None,
        has_flags: bool = True,
    ) -> None:
        """List the files, without those in `workdir`, or take some that have been listed before.

        Raises:
            CorpusError: nothing readable there.
        """
        self.config = config
        self.has_flags = has_flags
        if files is None:
            self.listing = list_corpus(paths, more_endings(config.ext), workdir)
        else:
            self.listing = Listing(show_corpus(paths), filesystem_of(paths), files)

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
                    raise CorpusError(f"{problem}{self._way_past()}") from None
                self._pass_over(str(problem), report)

    def _documents_of(self, file: CorpusFile, report: ReadReport) -> Iterator[Document]:
        if file.problem:
            raise CorpusError(f"{file.shown}: {file.problem}")
        fields = FieldReader(file, self.config, self.has_flags)
        if not self._holds_text(file, fields):
            report.num_not_text += 1
            return
        with open_bytes(self.listing.filesystem, file) as stream:
            for number, row in ROW_READERS[file.format](stream, file.shown, fields.wanted):
                number += file.lines_before
                place = f"{file.shown}:{number}" if number else file.shown
                if isinstance(row, BadRow):
                    self._pass_over(f"{place}: {row}", report)
                    continue
                try:
                    document = fields.read(row, number, place)
                except CorpusError as problem:
                    self._pass_over(str(problem), report)
                    continue
                if document is None:
                    report.num_empty += 1
                else:
                    yield document

    def _holds_text(self, file: CorpusFile, fields: FieldReader) -> bool:
        """Whether a file of source code is one, and data beside source code is a corpus rather than a program's."""
        if file.format == "code":
            with open_bytes(self.listing.filesystem, file) as stream:
                return b"\0" not in stream.peek(BINARY_LOOK_BYTES)[:BINARY_LOOK_BYTES]
        if not file.beside_code:
            return True
        try:
            with open_bytes(self.listing.filesystem, file) as stream:
                _, row = next(iter(ROW_READERS[file.format](stream, file.shown, fields.wanted)), (0, BadRow()))
        except CorpusError:
            return False
        return not isinstance(row, BadRow) and fields.has_text(row)

    def _pass_over(self, problem: str, report: ReadReport) -> None:
        if self.config.on_error == "fail":
            raise CorpusError(problem) from None
        report.num_skipped += 1
        if len(report.problems) < MAX_REMEMBERED_PROBLEMS:
            report.problems.append(problem)

    def _way_past(self) -> str:
        return " (--on-error skip passes over such)" if self.has_flags else ""
