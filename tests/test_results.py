"""What README and docs/results.md say of `toremi` is what the committed results say."""

import csv
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs/tables/beside-uniform.csv"
ARMS = {
    "clean text": "mixed-fine-clean",
    "real junk, 23% of the text": "junk-fine-mark",
    "shuffled words, 25% of the text": "mixed-fine-shuffle-words25",
    "shuffled characters, 25%": "mixed-fine-shuffle-chars25",
    "random tokens, 25%": "mixed-fine-random-tokens25",
    "repeated boilerplate, 25%": "mixed-fine-boilerplate25",
    "clean text, the sources as topics": "mixed-source-clean",
}
README_ARMS = {
    "23% of the text real junk": "junk-fine-mark",
    "clean text": "mixed-fine-clean",
    "a quarter of the text with its words shuffled": "mixed-fine-shuffle-words25",
}


def results():
    found = defaultdict(list)
    with RESULTS.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["arm"]].append(row)
    return found


def cells(page):
    """The cells of each row of a page's tables."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


@pytest.mark.parametrize("label", ARMS)
def test_the_page_of_results_shows_them(label):
    rows, shown = results()[ARMS[label]], cells("docs/results.md")
    assert rows
    first = next(n for n, row in enumerate(shown) if row[0] == label)
    for row, line in zip(rows, shown[first:], strict=False):
        expected = [
            row["seed"],
            f"{float(row['uniform']):.3f}",
            f"{float(row['difference']):+.3f}",
            f"{float(row['saved']):.0%}",
            f"{float(row['unseen']):+.3f}",
            f"{float(row['worst_source']):+.1%}",
            f"{float(row['auroc']):.2f}" if row["auroc"] else "",
        ]
        assert line[1:] == expected, label


@pytest.mark.parametrize("label", README_ARMS)
def test_the_readme_shows_them(label):
    rows = results()[README_ARMS[label]]
    line = next(row for row in cells("README.md") if row[0].startswith(label))
    assert re.findall(r"\d+%", line[1]) == [f"{float(row['saved']):.0%}" for row in rows]
    worst = max(float(row["worst_source"]) for row in rows)
    assert line[2] == ("none loses" if worst <= 0 else f"{worst:.1%}")
