"""What README and docs/results.md say of `toremi` is what the committed results say."""

import csv
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "docs/tables"
ARMS = {
    "real junk, 23% of the text": "junk-fine-mark",
    "clean text": "mixed-fine-clean",
    "shuffled words, 25% of the text": "mixed-fine-shuffle-words25",
    "shuffled characters, 25% of the text": "mixed-fine-shuffle-chars25",
    "random tokens, 25% of the text": "mixed-fine-random-tokens25",
}
ADAMW_ARMS = {
    "real junk": "junk-fine-mark",
    "clean": "mixed-fine-clean",
    "shuffled words": "mixed-fine-shuffle-words25",
    "shuffled characters": "mixed-fine-shuffle-chars25",
    "random tokens": "mixed-fine-random-tokens25",
    "boilerplate": "mixed-fine-boilerplate25",
    "clean, sources as topics": "mixed-source-clean",
    "characters, sources as topics": "mixed-source-shuffle-chars25",
}
LARGER = {"real junk, 8M parameters": "10m", "real junk, 25M parameters": "30m"}
RIVALS = {
    "`toremi`": ("toremi",),
    "`toremi-1`": ("toremi-1",),
    "`toremi-2`": ("toremi-2",),
    "DoReMi, three runs": ("doremi",),
    "`ado`": ("ado",),
    "`stratified`, `odm`": ("stratified", "odm"),
    "`temperature`": ("temperature",),
    "`shuffled-topics`": ("shuffled-topics",),
    "`random-weights`": ("random-weights",),
    "*bound*: all junk dropped by its label": ("without-junk",),
}
README_ARMS = {
    "23% of the text real junk": "junk-fine-mark",
    "clean text": "mixed-fine-clean",
    "a quarter of the text with its words shuffled": "mixed-fine-shuffle-words25",
}


def results(name, policy="toremi"):
    """Rows of a policy in a file of results, by arm, in the order of seeds."""
    found = defaultdict(list)
    with (TABLES / f"{name}.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["policy"] == policy:
                found[row["arm"]].append(row)
    return {arm: sorted(rows, key=lambda row: int(row["seed"])) for arm, rows in found.items()}


def cells(page):
    """The cells of each row of a page's tables."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def saved(row, column="saved"):
    return "never" if row[column] == "nan" else f"{float(row[column]):.0%}"


def line_of(page, label):
    """The row of a page's tables that begins with a label, without it."""
    return next(row for row in cells(page) if row[0] == label)[1:]


def each(rows, column, form):
    return ", ".join(format(float(row[column]), form) for row in rows)


def shown(rows):
    """The cells of an arm's row."""
    return [
        each(rows, "uniform", ".3f"),
        each(rows, "difference", "+.3f"),
        ", ".join(map(saved, rows)),
        each(rows, "test_micro_difference", "+.3f"),
        f"{max(float(row['worst_source']) for row in rows):+.1%}",
        min(row["auroc"] for row in rows),
    ]


@pytest.mark.parametrize("label", ARMS)
def test_the_page_of_results_shows_each_seed(label):
    assert line_of("docs/results.md", label) == shown(results("beside-uniform")[ARMS[label]])


@pytest.mark.parametrize("label", LARGER)
def test_the_page_of_results_shows_larger_models(label):
    rows = [row for row in results("beside-uniform-larger")["junk-fine-mark"] if row["model"] == LARGER[label]]
    assert line_of("docs/results.md", label) == shown(rows)


@pytest.mark.parametrize("label", RIVALS)
def test_the_page_of_results_shows_the_rivals(label):
    for policy in RIVALS[label]:
        found = results("beside-uniform", policy)
        (junk, *_), (clean, *_) = found["junk-fine-mark"], found.get("mixed-fine-clean", [None])
        assert junk["seed"] == "0" == (clean or junk)["seed"]
        expected = [f"{float(junk['difference']):+.3f}", saved(junk), f"{float(junk['noise_taken']):.2f}"]
        if clean is None:
            expected += [""] * 3
        else:
            expected += [f"{float(clean['difference']):+.3f}", saved(clean), f"{float(clean['worst_source']):+.1%}"]
        assert line_of("docs/results.md", label) == expected


@pytest.mark.parametrize("label", ADAMW_ARMS)
def test_the_log_shows_those_of_adamw(label):
    rows = results("beside-uniform-adamw")[ADAMW_ARMS[label]]
    assert line_of("docs/log/2026-11-30-muon.md", label) == [
        ", ".join(saved(row) for row in rows),
        f"{max(float(row['worst_source']) for row in rows):+.1%}",
        f"{min(float(row['auroc']) for row in rows):.2f}" if rows[0]["auroc"] else "",
    ]


@pytest.mark.parametrize("label", README_ARMS)
def test_the_readme_shows_them(label):
    rows = results("beside-uniform")[README_ARMS[label]]
    line = next(row for row in cells("README.md") if row[0].startswith(label))
    assert re.findall(r"\d+%", line[1]) == [saved(row) for row in rows]
    worst = max(float(row["worst_source"]) for row in rows)
    assert line[2] == ("none loses" if worst <= 0 else f"{worst:.1%}")


def test_the_readme_shows_the_bound_and_that_rivals_save_nothing_with_junk():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    bound = results("beside-uniform", "without-junk")["junk-fine-mark"]
    assert f"dropping all of it by its label ({', '.join(map(saved, bound))})" in text
    assert "DoReMi, ADO, ODM and equal shares save nothing there" in text
    for policy in ("doremi", "ado", "odm", "stratified"):
        assert {saved(row) for row in results("beside-uniform", policy)["junk-fine-mark"]} == {"never"}
