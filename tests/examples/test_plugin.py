"""The example of a plug-in, built and installed by pip as a user's would be, used from the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import shell
from tests.realtext import news_articles
from toremi_cli.schemas import EMBEDDINGS, WEIGHTS
from toremi_cli.tables import TableReader

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
BROKEN = {"silent": "import nothing_of_that_name", "other": "loudest = 3"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of packages with the example, and one whose plug-ins can't be used."""
    site = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(EXAMPLE, source)  # a build leaves things beside what it builds
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    process = subprocess.run([*install, "--target", site, source], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    for name, text in BROKEN.items():
        (site / f"broken_{name}.py").write_text(text)
    dist = site / "broken-2.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 2\n")
    (dist / "entry_points.txt").write_text(
        "[toremi.policies]\nsilent = broken_silent:Policy\nother = broken_other:loudest\n"
        "uniform = broken_silent:Policy\n"
        "[toremi.vectors]\nsilent = broken_silent:Vectors\ndoc2vec = broken_silent:Vectors\n"
    )
    return site


def toremi(site, folder, *words):
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return shell.toremi(*words, cwd=folder, PYTHONPATH=paths)


@pytest.fixture(scope="module")
def workdir(site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    for source, texts in (("paper", news_articles()[:40]), ("wire", news_articles()[40:80])):
        (folder / "corpus" / source).mkdir(parents=True)
        for number, text in enumerate(texts):
            (folder / "corpus" / source / f"{number}.txt").write_text(text)
    words = "--vectors trigrams --vector-dim 64 --vocab-size 400 --holdout 0.2 --num-topics 3 --method kmeans"
    process = toremi(site, folder, "annotate", "corpus", *words.split())
    assert process.returncode == 0, process.stderr
    return folder


TRAIN = "--model 1m --context-length 64 --batch-size 12 --max-steps 4 --interval 2 --eval-samples 0 --gpus 0"


def test_vectors_and_a_policy_of_a_package_are_used_by_all_ranks(site, workdir):
    assert TableReader(workdir / "toremi-out" / "embeddings", EMBEDDINGS).record["config"]["backend"] == "trigrams"
    process = toremi(
        site,
        workdir,
        "pretrain",
        "--policy",
        "loudest",
        "--set",
        "eta=2",
        "--processes",
        2,
        "--topics",
        "fine",
        *TRAIN.split(),
    )
    assert process.returncode == 0, process.stderr
    rows = TableReader(workdir / "toremi-out" / "runs" / "loudest" / "weights", WEIGHTS).read().to_pylist()
    last = {row["topic"]: (row["loss"], row["weight"]) for row in rows if row["step"] == 4 and row["num_samples"]}
    assert len(last) > 1
    ratios = [weight / loss**2 for loss, weight in last.values()]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))
    again = toremi(site, workdir, "annotate")
    assert again.returncode == 0 and "up to date" in again.stderr, again.stderr


def test_what_is_built_in_stays_and_what_is_broken_is_named(site, workdir):
    process = toremi(site, workdir, "pretrain", "--list-policies", "--json")
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert found["loudest"]["summary"] == "shares go as loss^eta: the highest losses are drawn most"
    assert found["uniform"]["summary"] == "plain pre-training: every topic weighs 1"
    assert found["silent"]["summary"].startswith("plug-in 'silent' of broken 2 can't be loaded")
    assert "eta" in toremi(site, workdir, "pretrain", "--list-policies", "loudest").stdout
    assert toremi(site, workdir, "pretrain", "--policy", "uniform", *TRAIN.split()).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pretrain --policy silent", "plug-in 'silent' of broken 2 can't be loaded from broken_silent:Policy"),
        ("pretrain --policy other", "plug-in 'other' of broken 2: expected a toremi_cli.reweight.Policy with name"),
        ("pretrain --policy loudest --set alpha=2", "--set alpha: policy loudest reads eta, apply"),
        ("pretrain --policy nothing", "--policy nothing: expected one of uniform, toremi-1"),
        ("embed corpus --vectors silent", "--vectors silent: plug-in 'silent' of broken 2 can't be loaded"),
        ("embed corpus --vectors nothing", "--vectors nothing: expected one of doc2vec, sentence-transformers, silent"),
    ],
)
def test_what_cannot_be_used_is_one_line(site, workdir, words, said):
    process = toremi(site, workdir, *words.split())
    assert process.returncode != 0
    (line,) = process.stderr.strip().splitlines()
    assert said in " ".join(line.split()), process.stderr
