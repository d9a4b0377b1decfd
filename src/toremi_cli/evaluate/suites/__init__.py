"""Perplexity suites: files that name domains and where their text is. Those shipped here go by their name."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from toremi_cli.errors import CorpusError, UsageError, reason
from toremi_cli.evaluate.data import EvalSet, suite_name
from toremi_cli.provenance import digest

KEYS = frozenset({"name", "data", "text_field", "most_bytes"})


@dataclass(frozen=True)
class Domain:
    """One domain of a suite."""

    name: str
    data: str
    """Any corpus that `toremi embed` reads."""
    text_field: str | None = None
    """Field that holds the text; None: found."""
    most_bytes: int = 0
    """Text to measure on, from the beginning; 0: all."""


@dataclass(frozen=True)
class Suite:
    """A named set of domains."""

    name: str
    file: str
    domains: tuple[Domain, ...]


def shipped_suites() -> list[str]:
    """Names of the suites that come with toremi."""
    folder = resources.files(__name__)
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_suite(wanted: str) -> Suite:
    """Read a suite file (TOML or YAML), or one of the shipped suites by its name.

    Raises:
        UsageError: no such file or suite, or something in it is wrong; names the file and the domain.
    """
    if wanted in shipped_suites():
        text = (resources.files(__name__) / f"{wanted}.toml").read_text(encoding="utf-8")
        return _suite(tomllib.loads(text), wanted, Path())
    path = Path(wanted)
    if not path.is_file():
        names = ", ".join(shipped_suites())
        raise UsageError(f"--suite {wanted}: no such file, and no suite that comes with toremi ({names})")
    return _suite(_parse(path), str(path), path.parent)


def _parse(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() in (".yaml", ".yml"):
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as problem:
            raise UsageError(f"{path}: not valid YAML ({reason(problem, 500)})") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise UsageError(f"{path}: not valid TOML ({problem})") from None


def _suite(values: Any, file: str, base: Path) -> Suite:
    entries = values.get("domain") if isinstance(values, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{file}: names no domains; expected a list 'domain' with 'name' and 'data' each")
    domains = tuple(_domain(entry, number, file, base) for number, entry in enumerate(entries, start=1))
    names = [domain.name for domain in domains]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{file}: domain {twice[0]} stands there twice")
    return Suite(str(values.get("name") or Path(file).stem), file, domains)


def _domain(entry: Any, number: int, file: str, base: Path) -> Domain:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not isinstance(entry.get("data"), str):
        raise UsageError(f"{file}: domain {number}: expected a 'name' and a 'data', both text")
    unknown = sorted(set(entry) - KEYS)
    if unknown:
        raise UsageError(
            f"{file}: domain {entry['name']}: unknown key {unknown[0]}; expected {', '.join(sorted(KEYS))}"
        )
    most_bytes = entry.get("most_bytes", 0)
    if not isinstance(most_bytes, int) or most_bytes < 0:
        raise UsageError(f"{file}: domain {entry['name']}: most_bytes is {most_bytes!r}, expected a number of bytes")
    data = entry["data"] if "://" in entry["data"] else str(base / entry["data"])
    return Domain(entry["name"], data, entry.get("text_field"), most_bytes)


def suite_texts(suite: Suite) -> EvalSet:
    """The documents of all domains.

    Raises:
        CorpusError: a domain's data is missing or broken; names the suite and the domain.
    """
    from toremi_cli.corpus.config import CorpusConfig
    from toremi_cli.corpus.readers import Corpus

    texts = EvalSet(suite=suite_name(suite.name, "suite"), fingerprint="")
    for domain in suite.domains:
        num_bytes = 0
        config = CorpusConfig(text_field=domain.text_field)
        try:
            for document in Corpus(domain.data, config, has_flags=False).documents():
                texts.add(f"{domain.name}/{document.id}", f"{domain.name}/{document.id}", domain.name, document.text)
                num_bytes += len(document.text.encode("utf-8", "surrogatepass"))
                if domain.most_bytes and num_bytes >= domain.most_bytes:
                    break
        except CorpusError as problem:
            raise CorpusError(f"{suite.file}: domain {domain.name}: {problem}") from None
        if not num_bytes:
            texts.empty_domains.append(domain.name)
    if not texts.texts:
        raise CorpusError(f"{suite.file}: no text in any of its domains")
    texts.fingerprint = digest(texts.ids, texts.num_bytes)
    return texts
