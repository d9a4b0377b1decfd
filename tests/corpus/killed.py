"""A run to be killed: `python -m tests.corpus.killed CORPUS OUT WORKERS SHARD_SAMPLES PART_BYTES`."""

from __future__ import annotations

import sys
from pathlib import Path

from toremi_cli.corpus import parts
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.stage import build_samples
from toremi_cli.layout import Workdir

if __name__ == "__main__":
    workers, shard_samples, parts.PART_BYTES = map(int, sys.argv[3:])
    config = CorpusConfig(vocab_size=600, max_tokens=64, shard_samples=shard_samples)
    build_samples(sys.argv[1], Workdir(Path(sys.argv[2])), config, workers=workers)
