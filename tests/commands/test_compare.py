import json
import math
import shutil
from subprocess import CompletedProcess

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import ttest_ind
from typer.testing import CliRunner

from tests.evaluate.workdirs import make_annotated, make_checkpoint, make_run, make_tokenizer
from tests.runs.synthetic import make_recorded_run
from tests.shell import assert_one_line_error
from toremi_cli.cli import app
from toremi_cli.evaluate.bootstrap import bits_per_byte
from toremi_cli.evaluate.compare import compare_runs
from toremi_cli.evaluate.config import EvalConfig
from toremi_cli.evaluate.texts import evaluate_runs
from toremi_cli.layout import Workdir
from toremi_cli.report.comparison_table import comparison_rows
from toremi_cli.report.digest import read_report
from toremi_cli.report.page import render
from toremi_cli.report.terminal import text_table
from toremi_cli.runs.run import Run

TOPICS = ["a", "b", "c"]


def toremi(*arguments):
    """The command within this process: importing torch anew for each call would take most of the time."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def workdir(tmp_path):
    """Two finished runs with learning curves, checkpoints and scores; toremi-2 falls faster."""
    make_tokenizer(tmp_path / "tokenizer")
    make_annotated(tmp_path)
    for number, (name, pace) in enumerate((("uniform", 250.0), ("toremi-2", 200.0))):
        make_run(tmp_path, name, number, steps=(900,))
        make_recorded_run(tmp_path, name, TOPICS, policy=name, pace=pace)
    evaluate_runs(EvalConfig(), Workdir(tmp_path))
    return tmp_path


def runs_of(workdir, *names):
    return [Run(name, workdir / "runs" / name) for name in names]


def test_one_table_with_cost_loss_and_compute_saved(workdir):
    process = toremi("compare", "-w", workdir)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    lines = process.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["uniform", "toremi-2"], "the baseline comes first"
    rows = {line[:24].strip(): line for line in lines}
    assert rows["tokens"].split()[1:] == ["3.69M", "3.69M"]
    assert "difference to uniform" in rows and "reaching uniform's final" in rows
    saved = float(rows["compute saved"].split()[-1].rstrip("%"))
    assert saved == pytest.approx(20, abs=2), "exponentials with paces 250 and 200"

    result = json.loads(toremi("compare", "-w", workdir, "--json").stdout)
    base, other = result["groups"]
    assert result["baseline"] == base["name"] == "uniform" and base["difference"] == {}
    parameters = 448 * 32 + 32 * 32 + 2 * (12 * 32 * 32 + 13 * 32) + 2 * 32
    assert base["flops"] == 6 * parameters * 900 * 4096
    for domain in ("paper", "radio", "wire", "macro", "micro"):
        values = [g["bits_per_byte"][domain]["value"] for g in (base, other)]
        assert other["difference"][domain]["value"] == pytest.approx(values[1] - values[0])
    assert other["saving"]["source"] == "in-run" and other["saving"]["low"] is None


def test_a_run_that_has_recorded_nothing_yet_keeps_no_other_from_being_shown(workdir):
    (workdir / "runs" / "young").mkdir()
    (workdir / "runs" / "young" / "run.json").write_text('{"status": "running"}')
    for command in (("compare",), ("report", "-o", workdir / "report.html")):
        process = toremi(*command, "-w", workdir)
        assert process.returncode == 0, process.stderr
        assert "run young is left out" in process.stderr
    assert_one_line_error(toremi("compare", "young", "-w", workdir), "young: the run has recorded nothing")


def test_a_checkpoint_series_gives_the_saving_with_its_interval(workdir):
    run = workdir / "runs" / "toremi-2"
    # The baseline's own last model stands at step 600 of the other run: it was as good with a third less.
    for step, seed in ((300, 21), (600, 0 * 1000 + 900), (900, 22)):
        make_checkpoint(run / f"checkpoint-{step}", seed, workdir / "tokenizer")
    evaluate_runs(EvalConfig(runs=("toremi-2",), checkpoint="all"), Workdir(workdir))
    saving = compare_runs(runs_of(workdir, "uniform", "toremi-2"), "test").groups[1].saving
    assert saving.source == "checkpoints"
    assert saving.saved >= 1 / 3 - 1e-9
    assert saving.low <= saving.saved <= saving.high
    assert saving.low >= 1 / 3 - 1e-9, "in every resample the same model is as good as itself"


def test_seeds_of_one_policy_are_grouped(workdir):
    for name, policy, seed in (("u1", "uniform", 1), ("t1", "toremi-2", 1)):
        make_run(workdir, name, seed + 5, steps=(900,))
        make_recorded_run(workdir, name, TOPICS, policy=policy, seed=seed)
    evaluate_runs(EvalConfig(runs=("u1", "t1")), Workdir(workdir))
    found = compare_runs(runs_of(workdir, "uniform", "toremi-2", "u1", "t1"), "test")
    assert [(g.name, len(g.runs)) for g in found.groups] == [("uniform", 2), ("toremi-2", 2)]
    first, second = (run.final for run in found.groups[1].runs)
    assert first is not None and second is not None
    difference = found.groups[1].difference["macro"]
    mean = found.groups[1].bits_per_byte["macro"].value - found.groups[0].bits_per_byte["macro"].value
    assert difference.value == pytest.approx(mean)
    assert difference.low < difference.value < difference.high
    labels = [row.label for row in comparison_rows(found)]
    assert "seeds" in labels
    assert len(text_table([g.name for g in found.groups], comparison_rows(found))) == 1


def test_groups_that_share_fewer_than_two_seeds_are_compared_by_their_means(workdir):
    """Not by the one pair that has the same seed: the columns are means over all of them."""
    runs = {"t1": ("toremi-2", 1), "t2": ("toremi-2", 2), "u7": ("uniform", 7), "u1": ("uniform", 1)}
    for number, (name, (policy, seed)) in enumerate(runs.items()):
        make_run(workdir, name, number + 5, steps=(900,))
        make_recorded_run(workdir, name, TOPICS, policy=policy, seed=seed)
    evaluate_runs(EvalConfig(runs=tuple(runs), topics="none"), Workdir(workdir))

    def compared(*names):
        found = compare_runs(runs_of(workdir, "uniform", "toremi-2", "t1", "t2", *names), "test")
        base, group = found.groups
        assert [len(base.runs), len(group.runs)] == [1 + len(names), 3]
        by_run = [[bits_per_byte(run.final)["macro"] for run in g.runs] for g in (group, base)]
        return found, group.difference["macro"], *by_run

    found, difference, own, other = compared()
    assert difference.value == pytest.approx(np.mean(own) - other[0])
    assert math.isnan(found.groups[1].saving.low), "one curve, the mean of three"
    assert not difference.is_known and not any(d.excludes_zero for d in found.groups[1].difference.values())
    assert found.warnings == [
        "toremi-2 has 3 runs, uniform 1 run: their means are compared, without an interval; "
        "train both with the same seeds for one"
    ]
    rows = [row for row in comparison_rows(found) if row.label == "macro"]
    assert rows[1].cells[0] == "–" and "[" not in rows[1].cells[1], "a difference without an interval"
    page = render(read_report([run.run for group in found.groups for run in group.runs], Workdir(workdir)))
    assert "(no interval): " in page and "nan" not in page.split('id="comparison"')[1].split("</section>")[0]
    process = toremi("compare", "uniform", "toremi-2", "t1", "t2", "-w", workdir, "--json")
    written = json.loads(process.stdout)["groups"][1]["difference"]["macro"]
    assert written["low"] is written["high"] is written["stderr"] is None

    found, difference, own, other = compared("u7")
    welch = ttest_ind(own, other, equal_var=False).confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx((welch.low, welch.high))
    (note,) = found.warnings
    assert note == "toremi-2 and uniform share fewer than two seeds: their means are compared, unpaired (Welch)"

    found, difference, own, other = compared("u1")
    assert difference.value == pytest.approx(np.mean(np.array(own[:2]) - other))
    (note,) = found.warnings
    assert note == "toremi-2 and uniform share 2 seeds: what is said of their difference is of these alone"


def test_a_suite_that_no_run_was_measured_on_is_refused(workdir):
    process = toremi("compare", "-w", workdir, "--suite", "foo")
    assert_one_line_error(process, "--suite foo: no run was measured on it, but on test")


def test_what_makes_a_comparison_unfair_is_said(workdir):
    path = workdir / "runs" / "toremi-2" / "run.json"
    record = json.loads(path.read_text())
    record["config"] |= {"learning_rate": 0.01, "reference_losses": "runs/uniform/weights"}
    record |= {"data": "fedcba9876543210", "status": "running"}
    path.write_text(json.dumps(record))
    make_recorded_run(workdir, "young", TOPICS, steps=100, seed=0)
    process = toremi("compare", "-w", workdir)
    assert process.returncode == 0, process.stderr
    warnings = process.stderr
    assert "differ in more than the policy: the annotated corpus, learning_rate (0.01 and 0.003)\n" in warnings
    assert "run toremi-2 is not finished: step 900" in warnings
    assert "not measured on 'test': young; run `toremi eval young` first" in warnings


def test_one_document_of_a_source_gives_no_interval(workdir):
    shutil.rmtree(workdir / "annotated")
    make_annotated(workdir, num_documents=61, test_documents={"radio": 1})
    evaluate_runs(EvalConfig(topics="none", checkpoint="all"), Workdir(workdir))
    process = toremi("compare", "-w", workdir)
    assert process.returncode == 0, process.stderr
    assert "'test' has one document only of radio: no interval there, nor in macro and micro" in process.stderr
    lines = process.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    values, differences = process.stdout.split("difference to uniform")
    for domain in ("macro", "micro", "radio"):
        row = next(line for line in values.splitlines() if line.startswith(domain))
        assert "±" not in row
        row = next(line for line in differences.splitlines() if line.startswith(domain))
        assert "!" not in row
    assert "±" in next(line for line in values.splitlines() if line.startswith("paper"))
    assert "[" not in next(line for line in differences.splitlines() if line.startswith("macro"))
    assert next(line for line in lines if line.startswith("  95% interval")).split()[-2:] == ["–", "–"]
    assert "nan" not in process.stdout
    other = json.loads(toremi("compare", "-w", workdir, "--json").stdout)["groups"][1]
    for domain in ("macro", "micro", "radio"):
        assert other["difference"][domain]["low"] is other["bits_per_byte"][domain]["stderr"] is None
    rows = pq.read_table(workdir / "runs" / "uniform" / "eval.parquet").to_pylist()
    errors = {row["domain"]: row["stderr"] for row in rows if row["metric"] == "bits_per_byte"}
    assert errors["macro"] is errors["radio"] is None and errors["paper"] > 0


def test_baseline_by_name(workdir):
    assert compare_runs(runs_of(workdir, "uniform", "toremi-2"), "test", "toremi-2").baseline == "toremi-2"
    process = toremi("compare", "-w", workdir, "--baseline", "x")
    assert_one_line_error(process, "--baseline x: not among the runs (", "uniform", "toremi-2")
