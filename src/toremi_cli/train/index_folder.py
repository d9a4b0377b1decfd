"""The index of a run's samples on disk: made once, by passes over stretches of samples, then mapped by every rank."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from toremi_cli.errors import UsageError
from toremi_cli.files import atomic_folder, read_json, write_json
from toremi_cli.reweight import Strata
from toremi_cli.reweight.strata import New, chunks_of
from toremi_cli.schemas import NO_TOPIC, TRAIN
from toremi_cli.train.index import SampleIndex, TopicPairs, build_index
from toremi_cli.train.npy import new_npy, read_npy
from toremi_cli.train.tokens import TokenCache
from toremi_cli.train.waiting import PATIENCE_SECONDS, build_once

MODE_COLUMNS = {"labels": "labels", "fine": "topic", "source": "source"}
"""What each of `policy_config.TOPIC_MODES` reads of the annotated table."""
STRATA = ("num_samples", "pair_stratum", "pair_topic", "pair_prob")


def index_folder(tokens: Path, mode: str) -> Path:
    """Where the index for a way of `--topics` lies in a cache's folder."""
    return tokens / f"index-{mode}"


def open_index(
    cache: TokenCache, mode: str, build: bool = True, patience_seconds: float = PATIENCE_SECONDS
) -> SampleIndex:
    """The index for one of `policy_config.TOPIC_MODES`, built first where it is missing (`build`) or waited for.

    Raises:
        UsageError: the table has no column for this mode.
        TrainingError: nobody builds it.
    """
    folder = index_folder(cache.folder, mode)

    def write() -> None:
        with atomic_folder(folder) as temporary:
            _write(cache, mode, temporary)

    build_once(folder, write if build else None, patience_seconds)
    meta = read_json(folder / "meta.json")
    arrays = {path.stem: read_npy(path) for path in folder.glob("*.npy")}
    prob = np.broadcast_to(np.float32(1), len(arrays["topic"]))
    return SampleIndex(
        TopicPairs(meta["names"], arrays["indptr"], arrays["topic"], prob, meta["crowding"]),
        Strata(arrays["stratum_of"], *(arrays[name] for name in STRATA)),
        *(arrays[name] for name in ("samples", "members", "stratum_tokens", "topic_sizes")),
    )


def _write(cache: TokenCache, mode: str, folder: Path) -> None:
    """Write the arrays of an index."""

    def new(name: str) -> New:
        return lambda length, dtype: new_npy(folder / f"{name}.npy", length, dtype)

    counted = new("counted")(len(cache.length), np.bool_)
    for part in chunks_of(len(counted)):
        counted[part] = cache.is_of(TRAIN, part)
    index = build_index(_write_pairs(cache, mode, counted, new), cache.length, counted=counted, new=new)
    for name in STRATA:
        np.save(folder / f"{name}.npy", getattr(index.strata, name))
    np.save(folder / "stratum_tokens.npy", index.stratum_tokens)
    np.save(folder / "topic_sizes.npy", index.topic_sizes)
    (folder / "counted.npy").unlink()
    write_json(folder / "meta.json", {"names": index.pairs.names, "crowding": index.pairs.crowding})


def _write_pairs(cache: TokenCache, mode: str, counted: np.ndarray, new: Any) -> TopicPairs:
    """The topics that training samples carry, renumbered 0, 1, …; the pairs of the others are dropped."""
    names, crowding = _topics(cache, mode)
    carried = np.zeros((2, len(names)), np.int64)  # pairs of all samples, and of those that are trained on
    for part, count, topic in _read_pairs(cache, mode):
        carried[0] += np.bincount(topic, minlength=len(names))
        carried[1] += np.bincount(topic[np.repeat(counted[part], count)], minlength=len(names))
    trained = carried[1] > 0
    number, used = np.cumsum(trained) - 1, np.flatnonzero(trained).tolist()
    num_pairs = int(carried[0][trained].sum())
    pairs = TopicPairs(
        [names[k] for k in used],
        new("indptr")(len(counted) + 1, np.int64),
        new("topic")(num_pairs, np.int32),
        np.broadcast_to(np.float32(1), num_pairs),
        None if crowding is None else [crowding[k] for k in used],
    )
    filled = 0
    for part, count, topic in _read_pairs(cache, mode):
        kept = trained[topic]
        sample = np.repeat(np.arange(len(count)), count)[kept]
        pairs.indptr[part.start + 1 : part.stop + 1] = filled + np.cumsum(np.bincount(sample, minlength=len(count)))
        pairs.topic[filled : filled + len(sample)] = number[topic[kept]]
        filled += len(sample)
    return pairs


def _topics(cache: TokenCache, mode: str) -> tuple[list[str], list[float] | None]:
    """Names and crowding of all topics of a mode."""
    absent = cache.meta.get("absent", ())
    if MODE_COLUMNS[mode] in absent:
        others = [other for other, needed in MODE_COLUMNS.items() if needed not in absent]
        raise UsageError(
            f"--topics {mode}: {cache.meta['annotated']} has no column '{MODE_COLUMNS[mode]}'; add it"
            + (f", or use --topics {' or '.join(others)}" if others else "")
        )
    names = {"source": "sources", "labels": "labels"}.get(mode, "fine_names")
    return cache.meta[names], cache.meta["crowding"] if names == "fine_names" else None


def _read_pairs(cache: TokenCache, mode: str) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Stretches of samples, how many topics each has, and these."""
    if mode in ("source", "fine"):
        topic = cache.source if mode == "source" else cache.array("fine_topic")
        for part in chunks_of(len(topic)):
            has_topic = topic[part] != NO_TOPIC
            yield part, has_topic.astype(np.int64), topic[part][has_topic]
        return
    count, topic, end = cache.array("labels_count"), cache.array("labels_topic"), 0
    for part in chunks_of(len(count)):
        begin, end = end, end + int(count[part].sum())
        yield part, count[part], topic[begin:end]
