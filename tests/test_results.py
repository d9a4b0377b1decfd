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
LARGER_ARMS = {"real junk, 8M parameters": "junk-fine-mark"}
README_ARMS = {
    "23% of the text real junk": "junk-fine-mark",
    "clean text": "mixed-fine-clean",
    "a quarter of the text with its words shuffled": "mixed-fine-shuffle-words25",
}


def results(name):
    """Rows of a file of results by arm, in the order of seeds."""
    found = defaultdict(list)
    with (TABLES / f"{name}.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["arm"]].append(row)
    return {arm: sorted(rows, key=lambda row: int(row["seed"])) for arm, rows in found.items()}


def cells(page):
    """The cells of each row of a page's tables."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def saved(row, column="saved"):
    return "never" if row[column] == "nan" else f"{float(row[column]):.0%}"


@pytest.mark.parametrize(
    ("table", "arm", "label"),
    [
        *(("beside-uniform", arm, label) for label, arm in ARMS.items()),
        *(("beside-uniform-8m", arm, label) for label, arm in LARGER_ARMS.items()),
    ],
)
def test_the_page_of_results_shows_each_seed(table, arm, label):
    rows, shown = results(table)[arm], cells("docs/results.md")
    first = next(n for n, row in enumerate(shown) if row[0] == label)
    assert len(shown) >= first + len(rows)
    for row, line in zip(rows, shown[first:], strict=False):
        assert line[1:] == [
            row["seed"],
            f"{float(row['uniform']):.3f}",
            f"{float(row['difference']):+.3f}",
            saved(row),
            f"{float(row['test_micro_difference']):+.3f}",
            saved(row, "test_saved"),
            f"{float(row['worst_source']):+.1%}",
            f"{float(row['auroc']):.2f}" if row["auroc"] else "",
        ], label


@pytest.mark.parametrize("label", ADAMW_ARMS)
def test_the_page_of_results_shows_those_of_adamw(label):
    rows = results("beside-uniform-adamw")[ADAMW_ARMS[label]]
    line = next(row for row in cells("docs/results.md") if row[0] == label)
    assert line[1:] == [
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
