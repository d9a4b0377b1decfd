"""The table and the figure of the baselines, of runs that are there."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from benchmarks import baselines

from tests.runs.synthetic import make_recorded_run

TEXT = "{http://www.w3.org/2000/svg}text"


@pytest.fixture
def called(tmp_path, capsys, monkeypatch):
    """Make recorded runs, whose losses fall at some paces, and call the script on them."""

    def call(paces, *arguments):
        for run, pace in paces.items():
            make_recorded_run(tmp_path, run, ["a"], ("books", "junk_web"), policy="uniform", pace=pace)
        figure = tmp_path / "f.svg"
        arguments = [str(tmp_path), "--finished", "--figure", str(figure), *arguments]
        monkeypatch.setattr("sys.argv", ["baselines", *arguments])
        baselines.main()
        texts = ["".join(e.itertext()).strip() for e in ET.parse(figure).iter(TEXT)]
        return capsys.readouterr().out.splitlines(), texts

    return call


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_tokens_saved_are_those_to_the_first_setups_end(called):
    names = [setup.run(0) for setup in baselines.SETUPS]
    lines, texts = called(dict(zip(names, (250, 125, 250, 500), strict=True)), "--seeds", "0")
    rows = [cells(line) for line in lines[2:]]
    assert [row[0] for row in rows] == [setup.name for setup in baselines.SETUPS]
    first, twice, same, half = rows
    assert first[2] == "" and twice[2] in ("48%", "49%", "50%", "51%", "52%") and half[2] == "-"
    assert float(twice[1]) < float(first[1]) == float(same[1]) < float(half[1])
    assert {setup.name for setup in baselines.SETUPS} <= set(texts) and "million tokens" in texts


def test_runs_that_are_not_there_are_left_out(called):
    first, second, *others = baselines.SETUPS
    lines, texts = called({first.run(0): 250, first.run(1): 250, second.run(0): 125})
    assert len(cells(lines[3])) == 5 and cells(lines[3])[3:] == ["", ""] and cells(lines[2])[3] != ""
    assert first.name in texts and second.name in texts
    assert not {setup.name for setup in others} & set(texts)
