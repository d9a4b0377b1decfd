"""Kills a command before each kind of file operation, once, and runs it again, in one place.

`python -m tests.killed_at FOLDER COMMAND…` prints what it was killed before. A kind is an operation and a path below
FOLDER without its numbers. Each run is a process forked where everything is imported already. It ends when a run does.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import sys
import time
from pathlib import Path

import numpy as np

ANNOTATE = ("gensim.models.doc2vec", "sklearn.cluster", "toremi_cli.cli", "toremi_cli.topics.annotate")
ANNOTATE += ("toremi_cli.corpus.stage", "toremi_cli.topics.cluster", "toremi_cli.topics.embed")
PRETRAIN = ("transformers.models.gpt2.modeling_gpt2", "toremi_cli.train.loop", "toremi_cli.train.state")
TOKENS = ("s3fs", "toremi_cli.train.token_table")
KILLED = 9
OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.utime", "shutil.copyfile"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def kind_of(event: str, details: tuple, folder: str) -> str | None:
    """What an audit event is about, None for anything but a change of files below the folder."""
    if event == "open":
        path, _, flags = details
        changes = isinstance(flags, int) and flags & WRITING
    else:
        path, changes = next(iter(details), None), event in OPERATIONS
    if not changes or not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(folder):
        return None
    return f"{event} {re.sub(r'[0-9a-f]{32,}|[0-9]+', 'N', os.fspath(path)[len(folder) :])}"


def run(folder: str, arguments: list[str], known: frozenset[str], report) -> None:
    """One process: the command, up to the first kind of operation that isn't known."""

    def watch(event: str, details: tuple) -> None:
        kind = kind_of(event, details, folder)
        if kind is not None and kind not in known:
            report.send(kind)
            os._exit(KILLED)

    sys.addaudithook(watch)
    if arguments[0] == "tokens":
        read_tokens(Path(folder), arguments[1])
        return
    if arguments[0] == "pretrain":
        import json

        from toremi_cli.train.config import TrainConfig
        from toremi_cli.train.worker import run_worker

        resume = (Path(folder) / "runs" / "killed" / "run.json").exists()
        run_worker(TrainConfig.from_json(json.loads(arguments[1])), resume)
        return
    from toremi_cli.cli import app

    app(arguments, standalone_mode=False)


def read_tokens(workdir: Path, url: str) -> None:
    """Read all tokens of a table until they are on the disk."""
    from toremi_cli.train import token_store, token_table

    token_store.BLOCK_TOKENS = 300
    cache = token_table.open_token_table(workdir, url, None, 1.0)
    every = np.arange(len(cache.length))
    while len(list(cache.store.folder.glob("*.bin"))) < cache.store.num_blocks:
        cache.texts(every)
        time.sleep(0.01)


def main() -> None:
    folder, arguments = sys.argv[1], sys.argv[2:]
    for module in {"pretrain": PRETRAIN, "tokens": TOKENS}.get(arguments[0], ANNOTATE):
        importlib.import_module(module)
    fork = multiprocessing.get_context("fork")
    known: frozenset[str] = frozenset()
    while True:
        here, there = fork.Pipe(duplex=False)
        process = fork.Process(target=run, args=(folder, arguments, known, there))
        process.start()
        process.join()
        if process.exitcode != KILLED:
            sys.exit(process.exitcode)
        kind = here.recv()
        print(kind, flush=True)
        known |= {kind}


if __name__ == "__main__":
    main()
