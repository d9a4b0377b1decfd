"""How well topics of one clustering are found again in another: what `--weights-from` rests on.

    python -m benchmarks.topic_likeness FIRST SECOND --apart books,drama:code_docs,science

FIRST and SECOND are workdirs whose corpora share documents, clustered apart. Portraits are made of one half of the
documents of FIRST and of the other half of SECOND. *Own*: the part of the text whose topic is mapped to the one that
it has in SECOND; *at best*: by the best map there is. *Like*: the part of the text whose topic has one at least so
like. `--apart`: the same between groups of sources of FIRST, as unlike corpora.
"""

from __future__ import annotations

import argparse
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from toremi_cli.layout import Workdir
from toremi_cli.portraits import Portraits, paint, similarities
from toremi_cli.provenance import provenance_of
from toremi_cli.sample_topics import SampleTopics
from toremi_cli.schemas import ANNOTATED
from toremi_cli.tables import TableReader, write_table

BOUNDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
COLUMNS = [column.name for column in ANNOTATED.columns]
Row = dict[str, Any]


def part_of(place: Workdir, keep: Callable[[Row], bool]) -> tuple[Portraits, list[Row]]:
    """Portraits of some training samples of a workdir, and their rows, without texts and mixtures."""
    rows = []
    for batch in TableReader(place.annotated, ANNOTATED).iter_batches(COLUMNS):
        rows += [row for row in batch.to_pylist() if row["split"] == "train" and row["topic"] >= 0 and keep(row)]
    topics = SampleTopics("fine", place.topics)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part.parquet"
        write_table(file, ANNOTATED, rows, provenance_of(ANNOTATED, "benchmark", {}, {}))
        portraits = paint(file, topics, place)
    return portraits, [{**row, "topic": next(iter(topics.of(row)))} for row in rows]


def half(number: int) -> Callable[[Row], bool]:
    return lambda row: zlib.crc32(row["doc_id"].encode()) % 2 == number


def is_from(sources: list[str], row: Row) -> bool:
    return row["source"] in sources


def report(
    name: str,
    ours: Portraits,
    theirs: Portraits,
    rows: Sequence[Row] = (),
    own: Mapping[str, str] | None = None,
) -> None:
    """Lines by words and, where vectors are the same, by centres."""
    if ours.space == theirs.space and ours.centres is not None:
        report(name, replace(ours, centres=None), theirs, rows, own)
    likeness, by = similarities(ours, theirs)
    best, text = likeness.max(axis=1), ours.sizes / ours.sizes.sum()
    like = "  ".join(f"{bound}: {text[best >= bound].sum():4.0%}" for bound in BOUNDS)
    print(f"{name:<28}{by:<9}{len(ours.topics):>4} of {len(theirs.topics):<4} like {like}", flush=True)
    if not own:
        return
    mapped = dict(zip(ours.topics, (theirs.topics[k] for k in likeness.argmax(axis=1)), strict=True))
    found: dict[str, Counter[str]] = {}
    for row in rows:
        if row["sample_id"] in own:
            found.setdefault(row["topic"], Counter())[own[row["sample_id"]]] += row["num_tokens"]
    total = sum(counts.total() for counts in found.values())
    hits = sum(counts[mapped[topic]] for topic, counts in found.items() if topic in mapped)
    most = sum(max(counts.values()) for counts in found.values())
    print(f"{'':<28}own {hits / total:.1%}, at best {most / total:.1%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--apart", action="append", default=[], help="sources, a colon, other sources")
    options = parser.parse_args()
    first, second = Workdir(options.first), Workdir(options.second)
    ours, rows = part_of(first, half(0))
    theirs, _ = part_of(second, half(1))
    _, every = part_of(second, lambda row: True)
    own = {row["sample_id"]: row["topic"] for row in every}
    report("two clusterings, two halves", ours, theirs, rows, own)
    for pair in options.apart:
        a, b = (part_of(first, partial(is_from, side.split(",")))[0] for side in pair.split(":"))
        report(pair[:26], a, b)
        report("and the other way", b, a)


if __name__ == "__main__":
    main()
