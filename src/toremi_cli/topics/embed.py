"""Vectors for the samples: the backend is fitted on a bounded sample, then every shard is encoded for itself."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from toremi_cli.corpus.hashing import keyed_hash
from toremi_cli.corpus.stratified import StratifiedSample
from toremi_cli.engine import default_workers
from toremi_cli.errors import TableError
from toremi_cli.files import atomic_folder, find_json, write_json
from toremi_cli.layout import Workdir
from toremi_cli.provenance import Provenance, digest, provenance_of
from toremi_cli.schemas import EMBEDDINGS, SAMPLES, TRAIN
from toremi_cli.stage import StageFolder
from toremi_cli.tables import TableReader, opened_once
from toremi_cli.topics.config import EmbedConfig
from toremi_cli.topics.vectors import load_backend, make_backend, method_version, save_backend
from toremi_cli.topics.vectors.base import VectorBackend

MODEL = "_model"
BATCH_ROWS = 2048


def build_embeddings(workdir: Workdir, config: EmbedConfig) -> dict[str, Any]:
    """Write `embeddings` for the finished `samples`, or see that it is up to date; return the manifest.

    Shard k holds the vectors of shard k of the samples, row by row.

    Raises:
        TableError: there are no finished samples.
        UsageError: an unknown backend or model.
    """
    samples = TableReader(workdir.samples, SAMPLES)
    inputs = {"samples": samples.fingerprint, "method": method_version(config.backend)}
    provenance = provenance_of(EMBEDDINGS, "toremi embed", config.settings(), inputs)
    stage = StageFolder(workdir.embeddings, EMBEDDINGS, provenance)
    if manifest := stage.up_to_date():
        return manifest
    with stage.planned():
        dim = _fitted_backend(workdir.embeddings / MODEL, samples, config).dim
    stage.begin()
    work = partial(encode_shard, Workdir(workdir.root.resolve()), provenance)
    is_transformer = config.backend == "sentence-transformers"
    num_gpus = 1 if is_transformer and _has_gpu() else 0
    # on one machine a transformer uses all cores, or all GPUs, by itself
    workers = 1 if is_transformer and config.engine == "local" else config.workers or default_workers()
    rows = samples.rows_per_shard
    stage.fill(work, rows, "embedding", engine=config.engine, workers=workers, num_gpus=num_gpus)
    return stage.finish(len(samples.shards), dim=dim)


def encode_shard(workdir: Workdir, provenance: Provenance, shard: int) -> None:
    """Write shard `shard` of `embeddings`; runs in a process of its own or not."""
    backend = _loaded_backend(workdir.embeddings / MODEL, provenance.fingerprint)
    samples = opened_once(workdir.samples, SAMPLES, provenance.fingerprint)
    stage = StageFolder(workdir.embeddings, EMBEDDINGS, provenance)
    with stage.writer(shard, backend.dim) as writer:
        for batch in samples.iter_batches(["sample_id", "text"], BATCH_ROWS, shards=[shard]):
            writer.write(encode_batch(backend, batch))


@lru_cache(maxsize=1)
def _loaded_backend(folder: Path, fingerprint: str) -> VectorBackend:
    """The model, loaded once in a process."""
    return load_backend(folder)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def encode_batch(backend: VectorBackend, batch: pa.RecordBatch) -> pa.Table:
    """Rows of `embeddings` for rows of `samples`."""
    vectors = backend.encode(batch.column("text").to_pylist())
    # (num_rows, dim) -> flat, as Arrow keeps lists of a fixed size
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float32()), backend.dim)
    return pa.table({"sample_id": batch.column("sample_id"), "vector": column})


def _fitted_backend(folder: Path, samples: TableReader, config: EmbedConfig) -> VectorBackend:
    """The vector model in `folder` if it was learnt from these samples, else a new one, kept there."""
    key = digest(method_version(config.backend), config.settings(), samples.fingerprint)
    if (find_json(folder / "toremi.json") or {}).get("fingerprint") == key:
        return load_backend(folder)
    backend = make_backend(config.backend, config.model, config.dim, config.seed)
    if backend.needs_fit:
        backend.fit(draw_texts(samples, config.fit_samples, config.seed))
    with atomic_folder(folder) as temporary:
        save_backend(backend, config.backend, config.model, temporary)
        write_json(temporary / "toremi.json", {"fingerprint": key})
    return backend


def draw_texts(samples: TableReader, count: int, seed: int) -> list[str]:
    """Texts of at most `count` samples of the train split, all sources alike as far as they have them."""
    drawn: StratifiedSample[str] = StratifiedSample(count)
    for batch in samples.iter_batches(["sample_id", "source", "split", "text"]):
        columns = (batch.column(name) for name in ("sample_id", "source", "split"))
        for row, (sample_id, source, split) in enumerate(zip(*(c.to_pylist() for c in columns), strict=True)):
            if split == TRAIN:
                key = keyed_hash("samples to learn vectors from", seed, sample_id)
                if drawn.wants(source, key):
                    drawn.add(source, key, 1, batch.column("text")[row].as_py())
    texts = drawn.items()
    if not texts:
        raise TableError(f"{samples.path}: no sample of the train split to learn vectors from")
    return texts
