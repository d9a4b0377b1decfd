"""What tokens behind a URL cost the loader, from blocks on this machine's disk and one by one, beside those of a file.

    python -m benchmarks.stored_tokens FOLDER [--samples 1000000] [--rounds 20] [--away 0.03]

A synthetic corpus of samples of 128 tokens on average; the server is a process of this machine that answers after
`--away` seconds. Batches of 2^19 tokens, of which rank 0 of 8 reads its rows: the same by each way, in turns, from one
mapped file, from blocks that are all on the disk, and sample by sample (`--cache-gb 0`; fewer rounds).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from benchmarks.index_scale import MEAN_LENGTH, MODE, ROW_LENGTH, ROWS, WORLD_SIZE, builders, write_corpus

from toremi_cli.files import read_json
from toremi_cli.remote import open_filesystem
from toremi_cli.train.index_folder import open_index
from toremi_cli.train.token_store import TokenStore, open_remote_tokens
from toremi_cli.train.tokens import TokenCache

FAR_ROUNDS = 5


def serve(file: Path, away: float) -> None:
    """Answer requests for ranges of a file, and print the port."""

    class Ranges(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(file.stat().st_size))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

        def do_GET(self) -> None:
            time.sleep(away)
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            with file.open("rb") as opened:
                opened.seek(first)
                body = opened.read(last + 1 - first)
            head = f"HTTP/1.1 206 Partial\r\nContent-Length: {len(body)}\r\n"
            head += f"Content-Range: bytes {first}-{last}/{file.stat().st_size}\r\n\r\n"
            self.wfile.write(head.encode() + body)

        def log_message(self, *arguments: Any) -> None:
            pass

    ThreadingHTTPServer.request_queue_size = 1024  # else connections at once wait for seconds
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    print(server.server_port, flush=True)
    server.serve_forever()


@contextmanager
def serving(file: Path, away: float) -> Iterator[str]:
    """The URL of a file while a process serves it as S3 does."""
    command = [sys.executable, "-m", "benchmarks.stored_tokens", str(file), "--serve", "--away", str(away)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        os.environ |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
        yield "s3://bucket/tokens.npy"
    finally:
        process.kill()


def fill(store: TokenStore) -> None:
    """Have all blocks here; say how long it took."""
    begin = time.perf_counter()
    store.read(np.arange(0, store.num_tokens, store.block_tokens), np.ones(store.num_blocks, np.int64))
    while len(list(store.folder.glob("*.bin"))) < store.num_blocks:
        time.sleep(0.01)
    print(f"{store.num_blocks} blocks on the disk after {time.perf_counter() - begin:.1f} s")


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=10**6)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--away", type=float, default=0.03, help="seconds that the server takes for an answer")
    parser.add_argument("--serve", action="store_true", help="be that server, for the file FOLDER")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.folder, arguments.away)
        return
    folder = arguments.folder / str(arguments.samples)
    if not folder.exists():
        write_corpus(folder, arguments.samples)
    local = TokenCache(folder, read_json(folder / "meta.json"), folder)
    index, number = open_index(local, MODE), len(local.tokens)
    with serving(folder / "tokens.npy", arguments.away) as url:
        remote = open_remote_tokens(url, *open_filesystem(url), number)
        stores = {"from blocks": 1e15, "one by one": 0.0}
        caches = {way: TokenStore(remote, number, folder / way, most) for way, most in stores.items()}
        fill(caches["from blocks"])
        ways = {"from one file": local, **{way: replace(local, store=store) for way, store in caches.items()}}
        made = {way: builders(cache, index, False)["shuffled"] for way, cache in ways.items()}
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in made}
        for done in range(arguments.rounds):
            for way in [way for way in made if way != "one by one" or done < FAR_ROUNDS]:
                begin, begin_cpu = time.perf_counter(), time.process_time()
                made[way].next_batch()
                found[way].append((time.perf_counter() - begin, time.process_time() - begin_cpu))
    tokens = ROWS // WORLD_SIZE * ROW_LENGTH
    print(f"a batch of {tokens:,} tokens here, about {tokens // MEAN_LENGTH} samples:")
    for way, times in found.items():
        wall, cpu = (1e3 * median(values) for values in zip(*times[1:], strict=True))
        print(f"{way:>16}: {wall:8.1f} ms, {cpu:.1f} of them of the CPU")


if __name__ == "__main__":
    main()
