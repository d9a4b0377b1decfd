"""What `toremi report` says of a run beside its baseline: by what was drawn, and on the sources that are named."""

import json
import re

import pytest
from typer.testing import CliRunner

from tests.evaluate.workdirs import make_annotated
from tests.runs.synthetic import DOMAINS, make_recorded_run
from toremi_cli.cli import app
from toremi_cli.errors import UsageError
from toremi_cli.layout import Workdir
from toremi_cli.provenance import provenance_of
from toremi_cli.report.digest import lines, read_report
from toremi_cli.report.front import draws_data, front
from toremi_cli.runs.history import CURVE
from toremi_cli.runs.run import Run
from toremi_cli.schemas import MACRO, WEIGHTS
from toremi_cli.tables import TableReader, write_table

DRAWN = {"uniform": {"a": 30, "b": 10, "c": 10}, "toremi": {"a": 5, "b": 35, "c": 10}}


def record(workdir, name, pace):
    """A run over topics a, b and c that drew samples of each by `DRAWN`."""
    run = make_recorded_run(workdir, name, ["a", "b", "c"], policy=name, pace=pace)
    saved = json.loads((run / "run.json").read_text())
    saved["config"]["topics"] = "fine"
    (run / "run.json").write_text(json.dumps(saved))
    rows = TableReader(run / "weights", WEIGHTS).read().to_pylist()
    rows = [{**row, "num_samples": DRAWN[name][row["topic"]]} for row in rows]
    plan = provenance_of(WEIGHTS, "toremi pretrain", {}, {})
    write_table(run / "weights" / "part-00000.parquet", WEIGHTS, rows, plan)
    return Run(name, run)


@pytest.fixture
def runs(tmp_path):
    make_annotated(tmp_path)
    return [record(tmp_path, name, pace) for name, pace in (("uniform", 250.0), ("toremi", 200.0))]


def test_topics_are_named_with_their_shares_and_text(runs, tmp_path):
    report = read_report(runs, Workdir(tmp_path))
    (digest,) = report.digests
    assert [(s.topic, round(s.before, 3), round(s.after, 3)) for s in digest.moved] == [
        ("a", 0.6, 0.1),
        ("b", 0.2, 0.7),
    ]
    told = lines(digest, "test")
    assert told[1].startswith("less 60.0% → 10.0%  a ") and told[2].startswith("more 20.0% → 70.0%  b ")
    assert len(told[1].split()) > 6, "and the first words of its text"
    assert told[3] == "held-out loss: not measured on 'test'; run `toremi eval` first"
    assert re.fullmatch(r"tokens saved to uniform's final loss: (19|20|21)\.\d%; one seed: chance is in this", told[4])
    assert all(len(line) <= 80 for line in told)


def test_a_run_that_draws_alike_and_learns_no_faster_says_so(runs, tmp_path):
    slow = record(tmp_path, "uniform", 200.0), record(tmp_path, "toremi", 400.0)
    rows = TableReader(slow[0].folder / "weights", WEIGHTS).read().to_pylist()
    write_table(
        slow[1].folder / "weights" / "part-00000.parquet",
        WEIGHTS,
        rows,
        provenance_of(WEIGHTS, "toremi pretrain", {}, {}),
    )
    told = lines(read_report(slow, Workdir(tmp_path)).digests[0], "test")
    assert told[0] == "toremi against uniform: no topic's share of the draws differs by half a percent"
    assert told[-1] == "no tokens saved: it never came down to uniform's final loss; one seed: chance is in this"


def test_some_sources_alone(runs, tmp_path):
    report = read_report(runs, Workdir(tmp_path), sources=("books", "news"))
    whole = read_report(runs, Workdir(tmp_path))
    for own, all_of_them in zip(report.histories, whole.histories, strict=True):
        assert own.domains(CURVE) == ["books", "news"]
        books, news = (all_of_them.metrics[CURVE, domain].values for domain in ("books", "news"))
        assert own.metrics[CURVE, MACRO].values == pytest.approx((books + news) / 2)
    with pytest.raises(
        UsageError, match=f"--sources bocks: uniform was not measured on it, but on {', '.join(DOMAINS)}"
    ):
        read_report(runs, Workdir(tmp_path), sources=("bocks",))


def test_the_page_opens_with_areas_and_texts(runs, tmp_path):
    report = read_report(runs, Workdir(tmp_path))
    charts = draws_data(report)
    assert [chart["title"] for chart in charts] == ["uniform", "toremi"]
    for chart in charts:
        assert [layer["name"] for layer in chart["layers"]] == ["a", "other topics (1)", "b"]
        totals = [sum(values) for values in zip(*(layer["y"] for layer in chart["layers"]), strict=True)]
        assert totals == pytest.approx([1.0] * len(totals), abs=1e-4)
    text = front(report)
    assert text.index("toremi draws less") < text.index("60.0% → 10.0%") < text.index("toremi draws more")


def test_lines_and_figure_by_the_command(runs, tmp_path):
    command = ["report", "uniform", "toremi", "-w", str(tmp_path), "-o", str(tmp_path / "d.svg"), "--figure", "draws"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "less 60.0% → 10.0%  a" in result.output
    drawn = (tmp_path / "d.svg").read_text("utf-8")
    assert "toremi: topics in what it drew" in drawn
    assert drawn.count("other topics") == 2, "every area that is large enough has its name"
    alone = CliRunner().invoke(app, [*command[:2], *command[3:]])
    assert alone.exit_code == 1 and "nothing to draw" in alone.output
