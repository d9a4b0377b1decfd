"""The comparison as a table on the terminal, for a paper and for a program."""

import csv
import io
import math
import re

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.runs.synthetic import make_recorded_run
from toremi_cli.cli import app
from toremi_cli.evaluate.bootstrap import DocumentScores
from toremi_cli.evaluate.compare import compare_runs
from toremi_cli.evaluate.results import SCORES_FILE, keep_rows, score_rows
from toremi_cli.layout import Workdir
from toremi_cli.report.comparison_formats import to_csv, to_latex, to_markdown
from toremi_cli.report.comparison_table import LEGEND, comparison_rows
from toremi_cli.report.digest import read_report
from toremi_cli.report.page import render
from toremi_cli.report.terminal import text_table
from toremi_cli.runs.run import Run
from toremi_cli.schemas import SCORES

NAMES = ("uniform", "toremi_50%")
BITS = {"a&b_source": (2.0, 1.8), "web": (1.0, 1.01)}


@pytest.fixture
def comparison(tmp_path):
    for column, name in enumerate(NAMES):
        run = Run(name, make_recorded_run(tmp_path, name, ["a", "b"], policy=name))
        noise = np.random.default_rng(3 + column)
        for suite, domains in (("test", BITS), ("tasks", {"piqa": (3.0, 2.7)})):
            parts = []
            for domain, bits in domains.items():
                num_bytes = np.full(20, 1000)
                nats = (bits[column] + noise.normal(0, 0.02, 20)) * num_bytes * math.log(2)
                ids = np.array([f"d{i:02d}" for i in range(20)])
                parts.append(DocumentScores(np.array([domain] * 20), ids, nats, num_bytes, num_bytes))
            rows = [row for part in parts for row in score_rows("checkpoint-900", suite, part)]
            keep_rows(run, SCORES_FILE, SCORES, ("checkpoint-900", suite, ""), rows, {})
    return compare_runs([Run(name, tmp_path / "runs" / name) for name in NAMES], "test")


def test_every_source_has_its_difference_with_an_interval(comparison):
    rows = comparison_rows(comparison)
    titles = [row.label for row in rows]
    after = rows[titles.index("difference to uniform") :]
    source = next(row for row in after if row.label == "a&b_source")
    found = comparison.groups[1].difference["a&b_source"]
    shown = [f"{v:+.4f}".replace("-", "−") for v in (found.value, found.low, found.high)]
    assert source.cells == ("–", f"{shown[0]} [{shown[1]}, {shown[2]}] !") and source.best == (False, True)
    web = next(row for row in after if row.label == "web")
    assert not web.cells[1].endswith("!"), "0.01 of documents that differ by 0.02"
    answers = rows[titles.index("right answers' bits per byte, difference") + 1]
    assert answers.label == "piqa" and answers.cells[1].startswith("−0.3") and answers.cells[1].endswith("!")
    assert comparison.to_json()["groups"][1]["task_difference"]["piqa"]["sure"] is True


def test_the_table_fits_80_columns_with_two_runs_and_three_groups(comparison):
    for columns in (NAMES, (*NAMES, *NAMES)):
        rows = comparison_rows(comparison)
        if len(columns) > 2:
            rows = [type(r)(r.label, r.cells[::-1] * 2, r.best * 2) if r.cells else r for r in rows]
        console = Console(width=80, file=io.StringIO())
        for table in text_table(columns, rows):
            console.print(table)
        text = console.file.getvalue()
        assert max(map(len, text.splitlines())) <= 80
        assert all(cell in text for row in rows for cell in row.cells), "no cell is cut"


def test_csv_has_one_number_a_row(comparison):
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    (row,) = [r for r in rows if (r["run"], r["quantity"], r["domain"]) == (NAMES[1], "difference", "a&b_source")]
    found = comparison.groups[1].difference["a&b_source"]
    assert [float(row[k]) for k in ("value", "low", "high", "stderr")] == [
        found.value, found.low, found.high, found.stderr,
    ]  # fmt: skip
    assert row["sure"] == "True" and row["policy"] == NAMES[1]
    saved = [r for r in rows if r["quantity"] == "compute_saved"]
    assert len(saved) == 1 and saved[0]["low"] == "", "unknown is empty"


def test_markdown_and_latex_escape_what_is_theirs_and_explain_the_signs_once(comparison):
    markdown = to_markdown(comparison)
    assert markdown.splitlines()[:2] == ["|  | uniform | toremi_50% |", "| --- | ---: | ---: |"]
    assert re.search(r"\| a&b_source \| [\d.]+ ±[\d.]+ \| \*\*1\.\d+ ±[\d.]+\*\* \|", markdown)
    assert markdown.count(LEGEND) == 1
    assert len({line.count("|") for line in markdown.splitlines() if line.startswith("|")}) == 1
    latex = to_latex(comparison)
    assert r"toremi\_50\%" in latex and r"a\&b\_source" in latex and r"\textbf{" in latex
    assert latex.count(r"\begin{tabular}{lrr}") == latex.count(r"\end{tabular}") == 1
    assert "±" not in latex.split("\n", 1)[1] and "−" not in latex.split("\n", 1)[1]


def test_command_prints_a_format_and_refuses_others(comparison, tmp_path):
    result = CliRunner().invoke(app, ["compare", "-w", str(tmp_path), "--format", "md"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout == to_markdown(comparison)
    result = CliRunner().invoke(app, ["compare", "-w", str(tmp_path), "--format", "docx"])
    assert result.exit_code != 0
    assert "--format docx: expected table, md, latex, csv" in result.stderr


def test_the_page_says_how_many_seeds_got_there(tmp_path):
    names = []
    for policy, paces in (("uniform", (250.0,) * 3), ("toremi", (200.0, 200.0, 275.0))):
        for seed, pace in enumerate(paces):
            names.append(f"{policy}-{seed}")
            make_recorded_run(tmp_path, names[-1], ["a", "b"], policy=policy, seed=seed, pace=pace)
    page = render(read_report([Run(name, tmp_path / "runs" / name) for name in names], Workdir(tmp_path)))
    assert "2 of 3 seeds reached uniform&#x27;s final held-out loss while training; their mean did with" in page
    assert "never reached" not in page
    assert "toremi, 3 seeds" in page and "bands reach from the lowest to the highest" in page
    assert '"high":[' in page
