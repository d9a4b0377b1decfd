"""What README and docs/results.md say of `toremi` is what the committed results say."""

import csv
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "docs/tables"
ARMS = {
    "real junk, 23% of the text": ("junk-fine-mark", "second"),
    "clean text": ("mixed-fine-clean", "second"),
    "shuffled words, 25%": ("mixed-fine-shuffle-words25", "second"),
    "shuffled characters, 25%": ("mixed-fine-shuffle-chars25", "second"),
    "random tokens, 25%": ("mixed-fine-random-tokens25", "second"),
    "boilerplate, 25%": ("mixed-fine-boilerplate25", "second"),
    "clean, sources as topics": ("mixed-source-clean", "second"),
    "real junk, first topics": ("junk-fine-mark", "first"),
    "clean text, first topics": ("mixed-fine-clean", "first"),
}
"""Rows of the page: the arm, and which of the two annotations of the corpus."""
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
LARGER = {
    "real junk, 8M parameters": ("junk-fine-mark", "10m"),
    "real junk, 25M parameters": ("junk-fine-mark", "30m"),
    "clean text, 25M parameters": ("mixed-fine-clean", "30m"),
}
RIVALS = {
    "`toremi`": "toremi",
    "`toremi-1`": "toremi-1",
    "`toremi-2`": "toremi-2",
    "DoReMi, three runs": "doremi",
    "`ado`": "ado",
    "`stratified`": "stratified",
    "`odm`": "odm every step",
    "`temperature`": "temperature",
    "`group-dro`": "group-dro",
    "`linupper`": "linupper",
    "`shuffled-topics`": "shuffled-topics",
    "`random-weights`": "random-weights",
    "*bound*: all junk dropped by its label": "without-junk",
}
README_ARMS = {
    "23% of the text real junk": "junk-fine-mark",
    "clean text": "mixed-fine-clean",
    "a quarter of the text with its words shuffled": "mixed-fine-shuffle-words25",
}


def results(name, policy="toremi"):
    """Rows of a policy in a file of results, by arm, in the order of seeds; those with the first annotation follow."""
    found = defaultdict(list)
    with (TABLES / f"{name}.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["policy"] == policy:
                found[row["arm"]].append(row)

    def order(row):
        return (row.get("annotation") == "first", int(row["seed"]))

    return {arm: sorted(rows, key=order) for arm, rows in found.items()}


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


def worst(rows):
    """The largest loss of a source at any seed, on unseen documents with its interval, where the runs know it."""
    known = [row for row in rows if row["worst_source"]]
    if not known:
        return f"{max(float(row['test_worst_source']) for row in rows):+.1%} (test split)" if rows else ""
    row = max(known, key=lambda row: float(row["worst_source"]))
    value, low, high = (f"{float(row[f'worst_{name}']):+.1%}" for name in ("source", "low", "high"))
    return f"{value} ({row['worst_name'].replace('_', ' ')}, {low} to {high})"


def shown(rows):
    """The cells of an arm's row."""
    return [
        each(rows, "difference", "+.3f"),
        ", ".join(map(saved, rows)),
        each(rows, "test_micro_difference", "+.3f"),
        worst(rows),
        min(row["auroc"] for row in rows),
    ]


def shown_beside_others(junk, clean):
    """The cells of a policy's row: what it does with junk, and on clean text."""
    return [
        each(junk, "difference", "+.3f"),
        each(junk, "noise_taken", ".2f"),
        each(clean, "difference", "+.3f"),
        each(clean, "test_micro_difference", "+.3f"),
        worst(clean),
    ]


def compared(policy, arm):
    """The runs of a policy that stand beside those of the others: seed 1, then seed 0 with the first annotation.

    Where a policy has neither, all that there are.
    """
    rows = results("beside-uniform", policy).get(arm, [])
    wanted = [row for row in rows if (row["annotation"], row["seed"]) in {("second", "1"), ("first", "0")}]
    return sorted(wanted or rows, key=lambda row: row["annotation"], reverse=True)


@pytest.mark.parametrize("label", ARMS)
def test_the_page_of_results_shows_each_seed(label):
    arm, annotation = ARMS[label]
    rows = [row for row in results("beside-uniform")[arm] if row["annotation"] == annotation]
    assert line_of("docs/results.md", label) == shown(rows)


@pytest.mark.parametrize("label", LARGER)
def test_the_page_of_results_shows_larger_models(label):
    arm, model = LARGER[label]
    rows = [row for row in results("beside-uniform-larger")[arm] if row["model"] == model]
    assert line_of("docs/results.md", label) == shown(rows)


@pytest.mark.parametrize("label", RIVALS)
def test_the_log_shows_the_rivals(label):
    junk, clean = (compared(RIVALS[label], arm) for arm in ("junk-fine-mark", "mixed-fine-clean"))
    assert junk
    assert line_of("docs/log/2026-11-30-second-annotation.md", label) == shown_beside_others(junk, clean)


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
    most = max(float(row["worst_source"]) for row in rows if row["worst_source"])
    assert line[2] == ("none loses" if most <= 0 else f"{most:.1%}")


def test_the_readme_shows_the_bound_and_that_rivals_save_nothing_with_junk():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    bound = [saved(row) for row in results("beside-uniform", "without-junk")["junk-fine-mark"]]
    assert f"dropping all of it by its label ({min(bound)} to {max(bound)})" in text
    assert "DoReMi, ADO, ODM, `temperature` and equal shares save nothing there" in text
    for policy in ("doremi", "ado", "odm", "odm every step", "temperature", "stratified"):
        assert {saved(row) for row in results("beside-uniform", policy)["junk-fine-mark"]} == {"never"}


def test_the_readme_shows_the_largest_model():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    found = results("beside-uniform-larger")
    (junk,) = (row for row in found["junk-fine-mark"] if row["model"] == "30m")
    (clean,) = found["mixed-fine-clean"]
    assert clean["worst_name"] == "bug_titles"
    loss = f"(titles of bugs lose {float(clean['worst_source']):.1%})"
    assert f"25M parameters: {saved(junk)} with junk, {saved(clean)} on clean text {loss}" in text
