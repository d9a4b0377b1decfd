"""Text, source and id of a document among the fields of its row and the partitions that it stands in.

A field within a field is named with dots: `meta.pile_set_name`. A folder `key=value` (a hive partition) gives every
row below it the field `key`, unless the row has one itself; a file of source code has
the field `language`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toremi_cli.corpus.config import NO_ID_FIELD, CorpusConfig
from toremi_cli.corpus.listing import CorpusFile
from toremi_cli.corpus.names import language_of, partitions_of
from toremi_cli.corpus.rows import Wanted
from toremi_cli.errors import CorpusError

TEXT_FIELDS = ("text", "content", "body", "document", "raw_content", "article", "passage")
"""Names under which a text is looked for, in this order."""
PLAIN = ("text", "code")
"""Formats of which a file is one document."""
_SURROGATES = re.compile("[\ud800-\udfff]")
_MISSING = object()


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
    group: str | None = None
    """What it is a piece of, where `--group-field` names it."""

    @property
    def split_key(self) -> str:
        """What decides the side of the held-out split: documents of one key stand on one side."""
        return self.id if self.group is None else self.group


class FieldReader:
    """Finds text, source and id among the fields of a file's rows; `has_flags`: errors may name flags that help."""

    def __init__(self, file: CorpusFile, config: CorpusConfig, has_flags: bool = True) -> None:
        plain = file.format in PLAIN
        self.file = file
        self.has_flags = has_flags
        self.given = partitions_of(file.path)
        """Fields of every row that doesn't have them itself."""
        if file.format == "code":
            self.given["language"] = language_of(file.name) or ""
        self.text_fields = (config.text_field,) if config.text_field and not plain else TEXT_FIELDS
        self.source_field = config.source_field if not plain or config.source_field in self.given else None
        self.id_field = NO_ID_FIELD if plain else config.id_field
        self.group_field = config.group_field if not plain or config.group_field in self.given else None
        others = (self.source_field or "source", self.id_field or "id", self.group_field)
        self.wanted = Wanted(self.text_fields, tuple(name for name in others if name))

    def read(self, row: Mapping[str, Any], number: int, place: str) -> Document | None:
        """The document of a row; None if its text is empty.

        Raises:
            CorpusError: a field is missing, or holds what it can't.
        """
        text = self._text(row, place)
        if not text or text.isspace():
            return None
        if not text.isascii():
            text = _SURROGATES.sub("\ufffd", text)  # half of a pair, escaped in JSON: no UTF-8 can hold it
        names = (self._id(row, number, place), self._source(row, place))
        return Document(*names, text, self.file.name, place, self._group(row, place))

    def has_text(self, row: Mapping[str, Any]) -> bool:
        """Whether one of the row's fields can be the text."""
        return any(isinstance(self._find(row, name), str | bytes) for name in self.text_fields)

    def _find(self, row: Mapping[str, Any], name: str) -> Any:
        if name in row:
            return row[name]
        found = _inner(row, name) if "." in name else _MISSING
        return self.given.get(name, _MISSING) if found is _MISSING else found

    def _text(self, row: Mapping[str, Any], place: str) -> str | None:
        for name in self.text_fields:
            if (value := self._find(row, name)) is not _MISSING:
                break
        else:
            wanted = f"no field '{self.text_fields[0]}'" if len(self.text_fields) == 1 else "no text field"
            hint = self._hint("; name it with --text-field")
            raise CorpusError(f"{place}: {wanted} (found {_named(row, self.text_fields[0])}){hint}")
        value = _decoded(value, name, place)
        if value is not None and not isinstance(value, str):
            hint = self._hint("; name another with --text-field")
            raise CorpusError(f"{place}: field '{name}' holds {_kind(value)}, expected text{hint}")
        return value

    def _source(self, row: Mapping[str, Any], place: str) -> str:
        name = self.source_field or "source"
        value = self._find(row, name)
        value = _decoded(None if value is _MISSING else value, name, place)
        if self.source_field is None:
            return _encodable(value, name, place) if isinstance(value, str) and value else self.file.source
        return self._name(row, name, value, "--source-field", place)

    def _group(self, row: Mapping[str, Any], place: str) -> str | None:
        if self.group_field is None:
            return None
        value = self._find(row, self.group_field)
        value = _decoded(None if value is _MISSING else value, self.group_field, place)
        return self._name(row, self.group_field, value, "--group-field", place)

    def _name(self, row: Mapping[str, Any], name: str, value: Any, flag: str, place: str) -> str:
        if value is None or value == "":
            raise CorpusError(f"{place}: no field '{name}' (found {_named(row, name)}){self._hint(f'; see {flag}')}")
        if not isinstance(value, str | int):
            raise CorpusError(f"{place}: field '{name}' holds {_kind(value)}, expected a name")
        return _encodable(str(value), name, place)

    def _id(self, row: Mapping[str, Any], number: int, place: str) -> str:
        if self.id_field != NO_ID_FIELD:
            name = self.id_field or "id"
            value = self._find(row, name)
            value = _decoded(None if value is _MISSING else value, name, place)
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                return _encodable(str(value), name, place)
            if self.id_field is not None:
                found = f"no field '{name}'" if value is None else f"field '{name}' holds {_kind(value)}"
                hint = self._hint("; see --id-field")
                raise CorpusError(f"{place}: {found} (found {_named(row, name)}){hint}")
        return f"{self.file.name}:{number}" if number else self.file.name

    def _hint(self, text: str) -> str:
        return text if self.has_flags else ""


def _inner(row: Mapping[str, Any], name: str) -> Any:
    """A field in a field; an outer one may be an object written as text."""
    value: Any = row
    for part in name.split("."):
        if value is None:
            return None
        value = _opened(value)
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _opened(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _decoded(value: Any, name: str, place: str) -> Any:
    """Bytes as text: a Parquet file doesn't always say that its strings are."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise CorpusError(f"{place}: field '{name}' is not UTF-8") from None


def _encodable(value: str, name: str, place: str) -> str:
    if not value.isascii() and (half := _SURROGATES.search(value)):
        raise CorpusError(
            f"{place}: field '{name}' holds half of a surrogate pair (\\u{ord(half[0]):04x}), which UTF-8 has no "
            "bytes for; mend the escape"
        )
    return value


def _named(row: Mapping[str, Any], name: str) -> str:
    """The fields of a row, and those of the outer field in a name with dots."""
    names = _some(row)
    outer = name.partition(".")[0]
    inner = _opened(row.get(outer)) if outer != name else None
    return f"{names}; in {outer}: {_some(inner)}" if isinstance(inner, Mapping) else names


def _some(fields: Mapping[str, Any]) -> str:
    names = [str(name).encode("utf-8", "replace").decode() for name in fields]
    return (", ".join(names[:12]) + (", …" if len(names) > 12 else "")) or "no fields"


def _kind(value: Any) -> str:
    kinds = {int: "a number", float: "a number", bool: "true or false", list: "a list", dict: "an object"}
    return kinds.get(type(value), f"a {type(value).__name__}") if value is not None else "nothing"
