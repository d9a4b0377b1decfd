import json
import math
import re
import shutil
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.evaluate.workdirs import make_annotated, make_run, make_tokenizer
from tests.runs.synthetic import make_recorded_run
from tests.shell import assert_one_line_error, toremi
from toremi_cli.evaluate.bootstrap import DocumentScores
from toremi_cli.evaluate.config import EvalConfig
from toremi_cli.evaluate.noise import Truth, auroc, judge, noise_reports
from toremi_cli.evaluate.results import SCORES_FILE, keep_rows, score_rows
from toremi_cli.evaluate.texts import evaluate_runs
from toremi_cli.layout import Workdir
from toremi_cli.provenance import provenance_of
from toremi_cli.runs.run import Run
from toremi_cli.schemas import SCORES, WEIGHTS
from toremi_cli.tables import write_table

TOPICS = ["Politics", "Sports", "People"]


def brute_force(clean, corrupted):
    return np.mean([(a > b) + (a == b) / 2 for a in clean for b in corrupted])


def test_auroc_equals_counting_pairs():
    truth = Truth(
        clean=Counter({(("a", 1.0),): 3, (("a", 0.5), ("b", 0.5)): 2, (): 4}),
        corrupted=Counter({(("b", 1.0),): 5, (("a", 1.0),): 1, (("unheard", 1.0),): 2}),
    )
    weights = {"a": 2.0, "b": 0.5}
    clean = [2.0] * 3 + [1.25] * 2 + [1.0] * 4
    corrupted = [0.5] * 5 + [2.0] + [1.0] * 2
    assert auroc(truth, weights) == pytest.approx(brute_force(clean, corrupted))
    assert math.isnan(auroc(Truth(clean=Counter({(("a", 1.0),): 1})), weights))


def test_a_mixture_weighs_by_its_parts():
    mostly_noise, mostly_text = (("noise", 0.9), ("text", 0.1)), (("noise", 0.1), ("text", 0.9))
    truth = Truth(clean=Counter({mostly_text: 8}), corrupted=Counter({mostly_noise: 2}))
    assert truth.noisy_topics() == ["noise"]  # 1.8 of its 2.6 samples, and 0.2 of the text's 7.4
    assert auroc(truth, {"noise": 0.1, "text": 1.0}) == 1.0


def test_half_corrupted_is_noisy_and_nine_tenths_is_passed(tmp_path):
    half = Truth(clean=Counter({(("a", 1.0),): 4}), corrupted=Counter({(("a", 1.0),): 4}))
    assert half.noisy_topics() == ["a"]
    truth = Truth(
        clean=Counter({(("x", 1.0),): 9, (("y", 1.0),): 1}),
        corrupted=Counter({(("noise", 1.0),): 7}),
        sources={"books": 0.5, "web": 0.49},
    )
    run = Run("mine", tmp_path / "runs" / "mine")
    run.folder.mkdir(parents=True)
    rows = [
        {"step": step, "tokens_seen": step, "stage": 1, "topic": topic, "weight": weight, "loss": 1.0, "num_samples": 1}
        for step, noise in ((10, 2.0), (20, 0.5), (30, 0.1))
        for topic, weight in (("x", 1.0), ("y", 0.2), ("noise", noise))
    ]
    write_table(run.folder / "weights" / "part-0.parquet", WEIGHTS, rows, provenance_of(WEIGHTS, "toremi", {}, {}))
    sources, num_bytes = np.array(["books", "web"]), np.array([100, 100])
    scores = DocumentScores(sources, np.array(["d", "e"]), np.array([200.0, 100.0]) * math.log(2), num_bytes, num_bytes)
    keep_rows(run, SCORES_FILE, SCORES, ("checkpoint-30", "test", ""), score_rows("checkpoint-30", "test", scores), {})
    found = judge(run, truth, "test")
    assert found.course[1][1] == 0.9 and found.passed_step == 20
    taken = [7 * noise / (7 * noise + 9 + 0.2) for noise in (2.0, 0.5, 0.1)]
    assert found.noise_taken == pytest.approx(np.mean(taken) / (7 / 17))
    assert (found.clean_bits_per_byte, found.noisy_bits_per_byte) == pytest.approx((1, 2)), "books are half noise"


@pytest.fixture
def workdir(tmp_path):
    """A clean table, a copy in which the topic Politics (source 'paper') is noise, a run on each."""
    make_tokenizer(tmp_path / "tokenizer")
    make_annotated(tmp_path)
    shutil.copytree(tmp_path / "annotated", tmp_path / "noisy")
    path = tmp_path / "noisy" / "part-00000.parquet"
    table = pq.read_table(path)
    truth = [
        s == "paper" and p == "train"
        for s, p in zip(table["source"].to_pylist(), table["split"].to_pylist(), strict=True)
    ]
    pq.write_table(table.append_column("corrupted", pa.array(truth)), path)
    for number, name in enumerate(("uniform", "toremi-2")):
        make_run(tmp_path, name, number, steps=(900,))
        run = make_recorded_run(tmp_path, name, TOPICS, policy=name)
        record = json.loads((run / "run.json").read_text())
        record["config"] |= {"annotated": str(tmp_path / "noisy"), "topics": "labels"}
        (run / "run.json").write_text(json.dumps(record))
    evaluate_runs(EvalConfig(), Workdir(tmp_path))
    return tmp_path


def test_report_by_the_tables_truth(workdir):
    runs = [Run(n, workdir / "runs" / n) for n in ("uniform", "toremi-2")]
    plain, learnt = noise_reports(runs, Workdir(workdir), "test")
    assert plain.noisy_topics == learnt.noisy_topics == ["Politics"]
    assert plain.auroc == 0.5 and plain.passed_step is None
    assert (plain.noisy_weight, plain.clean_weight, plain.noise_taken) == (1.0, 1.0, pytest.approx(1.0))
    for step, score, noisy, clean in learnt.course:
        assert 0 <= score <= 1 and noisy > 0 and clean > 0 and step % 50 == 0
    first = next((point[0] for point in learnt.course if point[1] >= 0.9), None)
    assert learnt.passed_step == first
    assert learnt.clean_bits_per_byte > 0 and learnt.noisy_bits_per_byte > 0


def test_command(workdir):
    process = toremi("eval", "uniform", "toremi-2", "-w", workdir, "--noise")
    assert process.returncode == 0, process.stderr
    assert max(map(len, process.stdout.splitlines())) <= 80
    rows = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in process.stdout.splitlines()[1:-1])
    assert rows["noisy topics"].split() == ["Politics", "Politics"]
    assert rows["AUROC of low weights"].split()[0] == "0.5000"
    for name in ("uniform", "toremi-2"):
        path = workdir / "runs" / name / "run.json"
        record = json.loads(path.read_text())
        del record["config"]["annotated"]
        path.write_text(json.dumps(record))
    assert_one_line_error(
        toremi("eval", "-w", workdir, "--noise"), "none was trained on a table with a column 'corrupted'"
    )
    assert_one_line_error(toremi("eval", "-w", workdir, "--noise", "--tasks", "piqa"), "give one of them")
