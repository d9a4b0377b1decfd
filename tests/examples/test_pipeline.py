import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.realtext import news_articles
from tests.shell import environment

PIPELINE = Path(__file__).parents[2] / "examples" / "pipeline.mk"
TRAIN = "--model 1m --context-length 64 --batch-size 2 --max-steps 4 --interval 2 --gpus 0"


def make(folder, *targets, **variables):
    settings = {
        "CORPUS": "corpus",
        "WORKDIR": "out",
        "TOREMI": f"{sys.executable} -m toremi_cli.cli",
        "FLAGS_embed": "--vocab-size 400 --holdout 0.2 --vector-dim 16",
        "FLAGS_pretrain": TRAIN,
        **variables,
    }
    return subprocess.run(
        ["make", "-f", str(PIPELINE), *(f"{k}={v}" for k, v in settings.items()), *targets],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=500,
        env=environment(),
    )


def commands_run(process):
    """The toremi commands that make echoed: their names, in order."""
    assert process.returncode == 0, process.stdout + process.stderr
    lines = [line for line in process.stdout.splitlines() if "toremi_cli.cli " in line]
    return [line.split("toremi_cli.cli ")[1].split()[0] for line in lines]


@pytest.fixture
def folder(tmp_path):
    for source, texts in (("paper", news_articles()[:40]), ("wire", news_articles()[40:80])):
        (tmp_path / "corpus" / source).mkdir(parents=True)
        for number, text in enumerate(texts):
            (tmp_path / "corpus" / source / f"{number}.txt").write_text(text)
    return tmp_path


@pytest.mark.slow
def test_only_what_changed_is_redone(folder):
    first = make(folder, "eval", "report")
    assert commands_run(first) == ["embed", "cluster", "annotate", "pretrain", "pretrain", "eval", "report"]
    assert "bits per byte" in first.stdout
    assert (folder / "out" / "report.png").stat().st_size > 0

    again = make(folder, "eval", "report")
    assert commands_run(again) == [], "nothing has changed"
    assert "bits per byte" in again.stdout, "the table is still shown"

    assert commands_run(make(folder, "eval", FLAGS_eval="--split validation")) == ["eval"]
    assert commands_run(make(folder, "eval", POLICIES="uniform")) == ["eval"]
    assert commands_run(make(folder, "eval", POLICIES="uniform")) == []

    os.utime(folder / "out" / "annotated" / "_manifest.json")
    redone = make(folder, "train", POLICIES="uniform")
    assert commands_run(redone) == ["pretrain"]
    assert "--overwrite" in redone.stdout

    (folder / "corpus" / "wire" / "new.txt").write_text(news_articles()[90])
    redone = make(folder, "train", POLICIES="uniform")
    assert commands_run(redone) == ["embed", "cluster", "annotate", "pretrain"]


def test_a_corpus_that_is_not_there(tmp_path):
    process = make(tmp_path, "embed")
    assert process.returncode != 0
    assert "corpus: no such file or folder; name it with CORPUS=" in process.stderr
