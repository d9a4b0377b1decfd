"""Pages that can be read once: short sentences, short pages, links that lead somewhere.

    python -m tests.docs_style

README, its neighbours and docs/, but for docs/log (what was) and docs/tables (figures), of which only links are looked
at. Code, tables and headings don't count as sentences.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

LONGEST_SENTENCE = 35
"""Words of a sentence, at most."""
LONGEST_PAGE = {"README.md": 900, "docs/results.md": 900, "docs/integrations.md": 1_000, "CHANGELOG.md": math.inf}
"""Words of a page, its tables among them, where it has a limit of its own."""
LONGEST_OTHER_PAGE = 1_200
MOST_IN_ALL = 11_000
"""Words of all pages below docs/ together."""
LONGEST_README = 110
"""Lines."""
PLACES = ("docs/log/", "docs/tables/")
"""Where history and figures live, of any length."""

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|(?<=^)(#.*\n))(?: {4}.*\n|\n)+", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]]*)\]\(([^)\s]+)\)")
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)[)*_\"']*\s+(?=[^a-z])")
_BLOCK_START = re.compile(r"^\s*(?:[-*] |\d+\. |#|\||<!--)")


def prose(text: str) -> str:
    """The text without code blocks, and with links as their words."""
    text = _INDENTED.sub(r"\1\n", _FENCE.sub("\n", text) + "\n")
    return _LINK.sub(r"\1", text)


def sentences(text: str) -> Iterator[str]:
    """Sentences of paragraphs and list items; headings and tables have none."""
    paragraphs: list[list[str]] = [[]]
    for line in prose(text).splitlines():
        if not line.strip() or _BLOCK_START.match(line):
            paragraphs.append([])
        if not line.lstrip().startswith(("#", "|", "<!--")):
            paragraphs[-1].append(re.sub(r"^\s*(?:(?:[-*]|\d+\.) )?\s*", "", line))
    for paragraph in paragraphs:
        yield from (s for s in _SENTENCE_END.split(" ".join(paragraph).strip()) if s)


def anchors(text: str) -> set[str]:
    """What `#…` may name in a page, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", _LINK.sub(r"\1", h)).strip().lower().replace(" ", "-") for h in headings}


def broken_links(page: Path, text: str) -> Iterator[str]:
    """Links to files or headings that aren't there; other sites are not asked."""
    for _, target in _LINK.findall(_FENCE.sub("", text)):
        name, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = page.parent / name if name else page
        if not file.exists():
            yield f"links to {target}, which isn't there"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text("utf-8")):
            yield f"links to {target}, a heading that isn't there"


def faults(root: Path) -> Iterator[str]:
    """One line a fault: the page, what was found, what is allowed."""
    total = 0
    for page in [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]:
        name, text = page.relative_to(root).as_posix(), page.read_text("utf-8")
        yield from (f"{name}: {fault}" for fault in broken_links(page, text))
        if name.startswith(PLACES):
            continue
        for sentence in sentences(text):
            if (words := len(sentence.split())) > LONGEST_SENTENCE:
                yield f"{name}: a sentence of {words} words, {LONGEST_SENTENCE} at most: {sentence[:60]}…"
        words = len(prose(text).split())
        total += words if name.startswith("docs/") else 0
        if words > (most := LONGEST_PAGE.get(name, LONGEST_OTHER_PAGE)):
            yield f"{name}: {words} words, {most} at most; what is history goes to docs/log"
    if (lines := (root / "README.md").read_text("utf-8").count("\n")) > LONGEST_README:
        yield f"README.md: {lines} lines, {LONGEST_README} at most"
    if total > MOST_IN_ALL:
        yield f"docs: {total} words, {MOST_IN_ALL} at most"


def main() -> int:
    """Print the faults; 1 if there are any."""
    found = list(faults(Path(__file__).parent.parent))
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
