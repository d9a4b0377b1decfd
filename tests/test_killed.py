"""A command killed before any file operation, and run again, leaves what one leaves that nothing disturbed."""

import json

from tests import forks
from tests.corpus.test_stage import write_corpus
from tests.realtext import news_articles
from tests.shell import environment, toremi
from tests.train.smallrun import assert_alike, write_workdir
from toremi_cli.layout import Workdir
from toremi_cli.schemas import ANNOTATED, CLUSTERS, EMBEDDINGS, SAMPLES, TOPICS
from toremi_cli.tables import TableReader
from toremi_cli.train.config import TrainConfig

SMALL = ("--vocab-size", "400", "--vector-dim", "8", "--method", "kmeans", "--num-topics", "3", "--workers", "1")
TRAINING = {
    "context_length": 32, "batch_size": 4, "max_steps": 4, "interval": 2, "log_every": 1, "eval_every": 2,
    "checkpoint_every": 2, "eval_samples": 2, "learning_rate": 0.01, "keep_checkpoints": 1, "gpus": 0,
    "topics": "fine", "quiet": True, "policy": {"name": "toremi-2"},
}  # fmt: skip


def killed_everywhere(folder, *arguments):
    """Before what kinds of file operations the command was killed, until it came to its end."""
    command = ["-m", "tests.killed_at", str(folder), *map(str, arguments)]
    process = forks.run(command, None, environment(), 500)
    assert process.returncode == 0, process.stdout + process.stderr
    hidden = [path for path in folder.rglob(".*") if path.suffix not in (".yaml", ".lock")]
    assert hidden == [], hidden
    return process.stdout.splitlines()


def test_annotate(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", a=news_articles()[:20], b=news_articles()[20:40])
    whole, killed = Workdir(tmp_path / "whole"), Workdir(tmp_path / "killed")
    process = toremi("annotate", "-q", corpus, "-w", whole.root, *SMALL)
    assert process.returncode == 0, process.stderr
    kinds = killed_everywhere(killed.root, "annotate", "-q", corpus, "-w", killed.root, *SMALL)
    assert len(kinds) > 30, kinds
    tables = {"samples": SAMPLES, "embeddings": EMBEDDINGS, "clusters": CLUSTERS, "annotated": ANNOTATED}
    for name, table in {**tables, "topics.parquet": TOPICS}.items():
        assert TableReader(killed.root / name, table).read() == TableReader(whole.root / name, table).read()


def test_pretrain(tmp_path):
    root = write_workdir(tmp_path / "work")
    settings = {**TRAINING, "model": str(root / "model.json"), "workdir": str(root)}
    kinds = {}
    for name in ("whole", "killed"):
        config = TrainConfig(name=name, **settings).to_json()
        folder = root if name == "killed" else tmp_path / "nothing"
        kinds[name] = killed_everywhere(folder, "pretrain", json.dumps(config))
    assert kinds["whole"] == [] and len(kinds["killed"]) > 15, kinds
    assert_alike(root / "runs" / "killed", root / "runs" / "whole")
