"""What README and docs/results.md say of `toremi` is what the committed results say."""

import csv
from collections import defaultdict
from pathlib import Path

import pytest
from benchmarks.evidence.grid import CLEAN, JUNK
from benchmarks.evidence.summary import CORPORA, PAGES, TABLE, read_runs, saved, select, with_tables, worst

ROOT = Path(__file__).parents[1]
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


@pytest.fixture(scope="module")
def runs():
    return read_runs()


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_written_from_the_runs(page, runs):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert TABLE.search(text)
    assert with_tables(text, runs) == text, "python -m benchmarks.evidence.summary writes them anew"


def test_a_table_is_written_between_its_comments(runs):
    page = "Before.\n<!-- table: corpora -->\nof old\n<!-- end -->\nAfter.\n"
    lines = with_tables(page, runs).splitlines()
    assert (lines[:2], lines[-2:]) == (["Before.", "<!-- table: corpora -->"], ["<!-- end -->", "After."])
    labels = [label for label, where in CORPORA.items() if select(runs, "toremi", *where)]
    assert [line.split("|")[1].strip() for line in lines[4:-2]] == labels
    assert "of old" not in lines


def test_several_runs_are_shown_by_their_median_and_range():
    def run(share, loss="", low="", high=""):
        found = {"saved": share, "test_worst_source": "0.05", "worst_source": loss, "worst_name": "bug_titles"}
        return {**found, "worst_low": low, "worst_high": high}

    assert saved([run("0.2")]) == "20%"
    assert saved([run("0.2"), run("nan"), run("0.1")]) == "10% (never to 20%)"
    assert saved([run("nan"), run("nan")]) == "never"
    assert worst([run("0.2")]) == "+5.0% (test split)"
    assert worst([run("0.2", "-0.01", "-0.02", "0"), run("0.1", "0.03", "0.01", "0.04")]) == (
        "+3.0% (bug titles, +1.0% to +4.0%)"
    )


def test_runs_are_selected_by_their_learning_rate():
    same = {"policy": "toremi", "model": "1m", "tokens": "819200", "arm": JUNK.name, "uniform_learning_rate": "0.008"}
    given, searched, both = (
        {**same, "rate": rate, "learning_rate": value}
        for rate, value in (("given", "0.008"), ("searched", "0.016"), ("searched", "0.008"))
    )
    runs = [given, searched, both, {**given, "policy": "ado"}]
    assert select(runs, "toremi", "small", JUNK) == [given, both]
    assert select(runs, "toremi", "small", JUNK, "searched") == [searched, both]


@pytest.mark.parametrize("label", ADAMW_ARMS)
def test_the_log_shows_those_of_adamw(label):
    with (ROOT / "docs/tables/beside-uniform-adamw.csv").open(encoding="utf-8") as file:
        found = defaultdict(list)
        for row in csv.DictReader(file):
            found[row["arm"]].append(row)
    rows = found[ADAMW_ARMS[label]]
    lines = (ROOT / "docs/log/2026-11-30-muon.md").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(f"| {label} |"))
    assert [cell.strip() for cell in line.strip("|").split("|")[1:]] == [
        ", ".join("never" if row["saved"] == "nan" else f"{float(row['saved']):.0%}" for row in rows),
        f"{max(float(row['worst_source']) for row in rows):+.1%}",
        f"{min(float(row['auroc']) for row in rows):.2f}" if rows[0]["auroc"] else "",
    ]


def test_the_readme_says_what_rivals_and_the_bound_save_with_junk(runs):
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    bound = saved(select(runs, "without-junk", "small", JUNK))
    assert f"dropping all of it by its label: {bound}" in text
    assert "There ADO, ODM, `temperature` and equal shares save nothing, DoReMi 1% in one run of four." in text
    for policy in ("ado", "odm", "odm every step", "temperature", "stratified"):
        for rate in ("uniform's", "searched"):
            assert {run["saved"] for run in select(runs, policy, "small", JUNK, rate)} <= {"nan"}
    assert sorted(run["saved"] for run in select(runs, "doremi", "small", JUNK)) == ["0.01", "nan", "nan", "nan"]


def test_the_readme_says_what_sources_as_topics_save_with_junk(runs):
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    share = saved(select(runs, "toremi", *CORPORA["junk, sources as topics"])).split()[0]
    assert f"With sources for topics it saves {share}." in text


def test_the_readme_says_what_rivals_save_on_clean_text(runs):
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    equal, tempered = (saved(select(runs, name, "small", CLEAN)).split()[0] for name in ("stratified", "temperature"))
    assert f"equal shares save {equal}, `temperature` {tempered}." in text


def test_the_readme_says_what_the_largest_model_saves(runs):
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    junk, clean = (select(runs, "toremi", *CORPORA[f"{text}, 25M parameters"]) for text in ("junk", "clean"))
    assert worst(clean).startswith("+3.6% (bug titles")
    assert f"25M parameters: {saved(junk)} with junk, {saved(clean)} on clean text (titles of bugs lose 3.6%)" in text


def test_the_readme_says_what_ten_times_the_tokens_save(runs):
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    junk, clean = (
        " and ".join(sorted(f"{float(run['saved']):.0%}" for run in select(runs, "toremi", *CORPORA[label])))
        for label in ("junk, ten times the tokens", "clean, ten times the tokens")
    )
    assert f"Two seeds with ten times the tokens: {junk} with junk, {clean} on clean text." in text
