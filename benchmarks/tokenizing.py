"""How fast `toremi tokenize` is beside the `tokenizers` library alone, and two processes beside one.

`python benchmarks/tokenizing.py WORKDIR`: an annotated workdir; nothing is written in it. In turns, in one run: CPU
seconds of the library on the same batches, and of writing tokens and topics; seconds of one and of two processes of one
thread each.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from toremi_cli.layout import Workdir
from toremi_cli.lm.fingerprint import data_fingerprint
from toremi_cli.lm.tokenizer import open_tokenizer
from toremi_cli.sample_topics import read_fine_topics
from toremi_cli.schemas import ANNOTATED
from toremi_cli.tables import TableReader, shard_name
from toremi_cli.train.tokenizing import BATCH_ROWS, COLUMNS, PartWriter, write_tokens

ROUNDS = 5
BATCHES = 8
SHARDS = 8


def main() -> None:
    """Print medians over the rounds."""
    os.environ["RAYON_NUM_THREADS"] = "1"  # of the library's own threads
    place = Workdir(Path(sys.argv[1]))
    reader, folder = TableReader(place.annotated, ANNOTATED), open_tokenizer(place.tokenizer)
    tokenizer = folder.load().raw
    batches = [batch for batch, _ in zip(reader.iter_batches(COLUMNS, BATCH_ROWS), range(BATCHES), strict=False)]
    ratios, rates = [], []
    for _ in range(ROUNDS):
        begin = time.process_time()
        count = 0
        for batch in batches:
            texts = batch.column("text").to_pylist()
            count += sum(len(e.ids) for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False))
        library = time.process_time() - begin
        with tempfile.TemporaryDirectory() as temporary:
            begin = time.process_time()
            writer = PartWriter(Path(temporary), folder)
            for batch in batches:
                writer.add(batch)
            writer.close()
            ours = time.process_time() - begin
        ratios.append(library / ours)
        rates.append(count / ours / 1e6)
    print(f"rate over that of the library alone: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"million tokens a CPU second: {median(rates):.2f}")
    seconds = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as temporary:
        cut = Path(temporary) / "annotated"
        _cut(reader, cut)
        table, topics = TableReader(cut, ANNOTATED), read_fine_topics(place.topics)
        fingerprint = data_fingerprint(table, folder, topics)
        for turn in range(ROUNDS - 2):
            for workers in seconds:
                begin = time.perf_counter()
                write_tokens(Path(temporary) / f"{turn}-{workers}", table, folder, topics, fingerprint, workers=workers)
                seconds[workers].append(time.perf_counter() - begin)
    gains = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    print(f"two processes over one of one thread: {median(gains):.2f} times ({min(gains):.2f} to {max(gains):.2f})")


def _cut(reader: TableReader, folder: Path) -> None:
    """The same rows in shards of one size."""
    import pyarrow.parquet as pq

    rows = reader.read()
    folder.mkdir()
    step = -(-rows.num_rows // SHARDS)
    for k in range(SHARDS):
        pq.write_table(rows.slice(k * step, step), folder / shard_name(k))


if __name__ == "__main__":
    main()
