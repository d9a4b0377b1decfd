"""Write the demo corpus: real text that an install of toremi already holds, and a third of what isn't; no network.

    python -m examples.harvest_corpus demo-out/corpus

writes one JSONL file a source (fields id, source, group, text; a group is what a document is a piece of). The same
install gives the same files. Nothing in them says which sources are worth reading; `--list` does, for a measure.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from examples.harvest_corpus.installed import Source
from examples.harvest_corpus.leftovers import LEFTOVERS
from examples.harvest_corpus.prose_and_code import PROSE_AND_CODE

SHORTEST_CHARACTERS = 200
LARGEST_GROUP = 1 / 16
"""Of a source of prose or code, so that some of its groups can be held out however small it is."""


def write_source(source: Source, folder: Path, scale: float, prefix: str = "") -> tuple[int, int]:
    """Write one JSONL file, none where nothing was found; return its numbers of documents and of bytes of text."""
    seen: set[str] = set()
    sizes: Counter[str] = Counter()
    num_bytes, most_bytes = 0, scale * source.most_bytes
    largest_group = most_bytes * (LARGEST_GROUP if source in PROSE_AND_CODE else 1)
    name = prefix + source.name
    temporary = folder / f".{name}.tmp"
    with temporary.open("w", encoding="utf-8") as file:
        for document, text in source.documents():
            if len(text) < SHORTEST_CHARACTERS or text in seen:
                continue
            identifier, size = f"{name}/{document}", len(text.encode())
            group = identifier.rpartition("/")[0] if source.in_pieces else identifier
            if num_bytes > 0.97 * most_bytes:
                break
            if num_bytes + size > most_bytes or sizes[group] + size > largest_group:
                continue
            seen.add(text)
            sizes[group] += size
            num_bytes += size
            row = {"id": identifier, "source": name, "group": group, "text": text}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    if seen:
        temporary.replace(folder / f"{name}.jsonl")
    else:
        temporary.unlink()
    return len(seen), num_bytes


def main() -> None:
    """Write the corpus and print what it holds."""
    parser = argparse.ArgumentParser(prog="python -m examples.harvest_corpus", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="where the JSONL files go")
    parser.add_argument("--megabytes", type=float, metavar="MB", help="at most so much text; default: 19")
    parser.add_argument("--clean", action="store_true", help="only prose and code")
    parser.add_argument("--mark", default="", metavar="PREFIX", help="put this before the other sources' names")
    parser.add_argument("--list", action="store_true", help="name the sources of prose and code, and end")
    options = parser.parse_args()
    if options.list:
        print(",".join(source.name for source in PROSE_AND_CODE))
        return
    if options.folder is None:
        parser.error("name the folder that the files go to")
    found = [(source, "") for source in PROSE_AND_CODE]
    found += [] if options.clean else [(source, options.mark) for source in LEFTOVERS]
    scale = options.megabytes * 1e6 / sum(source.most_bytes for source, _ in found) if options.megabytes else 1.0
    options.folder.mkdir(parents=True, exist_ok=True)
    print(f"{'source':<16}{'documents':>10}{'MB':>8}")
    counts = []
    for source, prefix in found:
        counts.append(write_source(source, options.folder, min(scale, 1.0), prefix))
        print(f"{prefix + source.name:<16}{counts[-1][0]:>10,}{counts[-1][1] / 1e6:>8.2f}", flush=True)
    print(f"{'total':<16}{sum(c[0] for c in counts):>10,}{sum(c[1] for c in counts) / 1e6:>8.2f}")


if __name__ == "__main__":
    main()
