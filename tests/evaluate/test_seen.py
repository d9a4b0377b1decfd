"""Runs that may have trained on what they are measured on are named, and no others."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from tests.shell import toremi
from tests.train.smallrun import ARGUMENTS, write_workdir
from toremi_cli.evaluate.config import EvalConfig
from toremi_cli.evaluate.texts import evaluate_runs
from toremi_cli.files import write_json
from toremi_cli.layout import Workdir
from toremi_cli.provenance import provenance_of
from toremi_cli.schemas import ANNOTATED
from toremi_cli.tables import MANIFEST, write_table


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on the workdir's table and one on a copy of it with noise planted in its training samples."""
    root = write_workdir(tmp_path_factory.mktemp("seen") / "work")
    noisy = root.parent / "noisy"
    process = toremi("corrupt", "--topic", "Sports", "-o", noisy, "-w", root)
    assert process.returncode == 0, process.stderr
    short = (*ARGUMENTS, "--max-steps", "2", "--eval-samples", "0", "--gpus", "0", "--policy", "uniform")
    for name, more in (("plain", ()), ("robust", ("--annotated", noisy))):
        process = toremi("pretrain", "-w", root, "--model", root / "model.json", *short, "--name", name, *more)
        assert process.returncode == 0, process.stderr
    return root


@pytest.fixture
def workdir(trained, tmp_path):
    """A copy that a test may break; the run on the noisy table keeps to the one in the copy."""
    root = shutil.copytree(trained.parent, tmp_path / "all") / "work"
    path = root / "runs" / "robust" / "run.json"
    path.write_text(path.read_text().replace(str(trained.parent), str(root.parent)))
    return root


def annotate_anew(table):
    """The table with another held-out split: one sample in ten, others than before."""
    rows = [row for part in sorted(table.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]
    for index, row in enumerate(rows):
        row["split"] = "validation" if index % 10 in (3, 8) else "train"
    shutil.rmtree(table)
    provenance = provenance_of(ANNOTATED, "toremi annotate", {"holdout": 0.1}, {})
    write_table(table / "part-00000.parquet", ANNOTATED, rows, provenance)
    write_json(table / MANIFEST, {"fingerprint": provenance.fingerprint, "num_shards": 1})


def notes_of(workdir, *runs, **more):
    config = EvalConfig(runs=runs, split="validation", topics="none", **more)
    return evaluate_runs(config, Workdir(workdir)).notes


def test_samples_that_were_held_out_are_measured_without_a_word(workdir):
    assert notes_of(workdir, "plain", "robust") == []


def test_a_run_on_a_table_that_has_changed_is_named_once(workdir):
    annotate_anew(workdir / "annotated")
    process = toremi(
        "eval", "plain", "-w", workdir, "--split", "validation", "--checkpoint", "all", "--json", "--topics", "none"
    )
    assert process.returncode == 0, process.stderr
    (note,) = json.loads(process.stdout)["notes"]
    assert note.startswith("run plain may have trained on samples that it is measured on: ")
    assert f"{workdir / 'annotated'}, its topics or its tokenizer changed after the training" in note
    assert process.stderr.count(note) == 1
    model = workdir / "runs" / "plain" / "checkpoint-2"
    assert notes_of(workdir, str(model)) == [], "nothing is known of a bare model"
    (corpus,) = shutil.copytree(workdir / "annotated", workdir / "other").glob("*.parquet")
    assert notes_of(workdir, "plain", data=str(corpus)) == [], "other text is the user's own affair"


def test_a_run_on_another_table_is_judged_by_what_that_one_holds_out(workdir):
    annotate_anew(workdir / "annotated")
    (note,) = notes_of(workdir, "robust")
    noisy = workdir.parent / "noisy"
    assert note.endswith(f": 9 of the 18 samples are not held out in {noisy}, which it was trained on")
    shutil.rmtree(noisy)
    (note,) = notes_of(workdir, "robust")
    assert note.endswith(f": {noisy}, which it was trained with, is not there any more")


def test_a_run_of_another_workdir_is_judged_by_its_own_table(workdir, tmp_path):
    other = shutil.copytree(workdir, tmp_path / "other")
    assert notes_of(other, str(workdir / "runs" / "plain")) == []
    annotate_anew(other / "annotated")
    (note,) = notes_of(other, str(workdir / "runs" / "plain"))
    assert "9 of the 18 samples are not held out in" in note
