"""Real text of three plainly different kinds, and its tables as `toremi embed` would leave them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from pydoc_data.topics import topics as python_topics

import numpy as np
import pyarrow as pa

from tests.realtext import news_articles
from toremi_cli.layout import Workdir
from toremi_cli.provenance import provenance_of
from toremi_cli.schemas import EMBEDDINGS, SAMPLES
from toremi_cli.stage import StageFolder
from toremi_cli.topics.vectors import make_backend

KINDS = ("licence", "news", "python")
DIM = 60


@cache
def planted_texts() -> tuple[list[str], list[str]]:
    """(texts, kinds): 70 news articles, 70 pages of Python's reference, and passages of licences."""
    python = [text[:1500] for _, text in sorted(python_topics.items()) if len(text) > 500][:70]
    texts = news_articles()[:70] + python + licence_passages(60)
    kinds = ["news"] * 70 + ["python"] * len(python) + ["licence"] * 60
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[i] for i in order], [kinds[i] for i in order]


def licence_passages(count: int) -> list[str]:
    """Passages of 1,000 characters from the longest licences of the installed packages."""
    files = (file for package in distributions() for file in package.files or () if "LICENSE" in file.name.upper())
    whole = {path.read_text(errors="ignore") for path in (Path(str(f.locate())) for f in files) if path.is_file()}
    longest = sorted(whole, key=lambda text: (-len(text), text))
    passages = dict.fromkeys(text[i : i + 1000] for text in longest for i in range(0, len(text) - 1000, 1000))
    return list(passages)[:count]


@cache
def planted_vectors() -> np.ndarray:
    """(num_texts, DIM) vectors of the planted texts."""
    backend = make_backend("doc2vec", dim=DIM, seed=0)
    backend.fit(planted_texts()[0])
    return backend.encode(planted_texts()[0])


def write_tables(
    workdir: Workdir, texts: Sequence[str], sources: Sequence[str], vectors: np.ndarray, per_shard: int = 80
) -> None:
    """`samples` and `embeddings` of the texts; every 20th is held out."""
    plan = provenance_of(SAMPLES, "toremi embed", {"texts": list(texts)}, {})
    samples = StageFolder(workdir.samples, SAMPLES, plan)
    inputs = {"samples": plan.fingerprint}
    embeddings = StageFolder(
        workdir.embeddings, EMBEDDINGS, provenance_of(EMBEDDINGS, "toremi embed", {"dim": vectors.shape[1]}, inputs)
    )
    samples.begin()
    embeddings.begin()
    starts = range(0, len(texts), per_shard)
    for shard, start in enumerate(starts):
        numbers = range(start, min(start + per_shard, len(texts)))
        with samples.writer(shard) as writer:
            writer.write([_sample(number, texts[number], sources[number]) for number in numbers])
        part = vectors[start : start + per_shard]
        column = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), part.shape[1])
        with embeddings.writer(shard, part.shape[1]) as writer:
            writer.write(pa.table({"sample_id": [f"d{number}#0" for number in numbers], "vector": column}))
    samples.finish(len(starts))
    embeddings.finish(len(starts), dim=vectors.shape[1])


def write_planted(root: Path) -> Workdir:
    """A workdir with the planted texts, embedded."""
    texts, kinds = planted_texts()
    workdir = Workdir(root)
    write_tables(workdir, texts, kinds, planted_vectors())
    return workdir


def _sample(number: int, text: str, source: str) -> dict[str, object]:
    return {
        "sample_id": f"d{number}#0",
        "doc_id": f"d{number}",
        "source": source,
        "split": "test" if number % 20 == 19 else "train",
        "text": text,
        "num_tokens": len(text.split()),
        "num_bytes": len(text.encode()),
    }
