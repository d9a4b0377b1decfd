import json
import re
import shutil
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest

from tests.browser import DARK, dom_after, screenshot
from tests.evaluate.workdirs import make_annotated, make_run, make_tokenizer
from tests.runs.synthetic import make_recorded_run
from tests.shell import toremi
from toremi_cli.evaluate.config import EvalConfig
from toremi_cli.evaluate.texts import evaluate_runs
from toremi_cli.layout import Workdir
from toremi_cli.provenance import provenance_of
from toremi_cli.report.page_data import map_data, run_data
from toremi_cli.report.run_alarms import run_alarms
from toremi_cli.report.seed_groups import seed_groups
from toremi_cli.runs.history import read_history
from toremi_cli.runs.run import Run
from toremi_cli.schemas import CLUSTERS, EMBEDDINGS, METRICS, TOPICS, WEIGHTS
from toremi_cli.stage import StageFolder
from toremi_cli.tables import TableReader, write_table

TOPICS_OF_RUN = [*(f"Topic_{i}" for i in range(11)), "<b>&'\"</script>"]
NEEDS_NO_NETWORK = re.compile(r"""(src|href)\s*=\s*["']?(https?:)?//|@import|url\(\s*["']?http""", re.IGNORECASE)


def add_topic_map(workdir):
    """Tables from which the map is drawn: six topics of ten samples each."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(6, 8))
    vectors, topics = [], []
    for number in range(60):
        vector = centres[number % 6] + generator.normal(0, 0.1, 8)
        vectors.append({"sample_id": f"s{number}", "vector": (vector / np.linalg.norm(vector)).tolist()})
        topics.append({"sample_id": f"s{number}", "topic": number % 6, "probs": [1.0], "agreement": 1.0})
    for table, rows, folder in ((EMBEDDINGS, vectors, "embeddings"), (CLUSTERS, topics, "clusters")):
        stage = StageFolder(workdir / folder, table, provenance_of(table, "toremi cluster", {}, {}))
        stage.begin()
        with stage.writer(0, dim=8) as writer:
            writer.write(rows)
        stage.finish(1)
    rows = [
        {
            "topic": i,
            "name": f"name-{i}",
            "words": ["w", "v"],
            "labels": [TOPICS_OF_RUN[i]],
            "label_source": "lexicon",
            "label_scores": [1.0],
            "num_samples": 10 * (i + 1),
            "num_tokens": 1,
            "agreement": 1.0,
            "sources": [],
        }
        for i in range(6)
    ]
    write_table(workdir / "topics.parquet", TOPICS, rows, provenance_of(TOPICS, "toremi annotate", {}, {}))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("page")
    make_tokenizer(workdir / "tokenizer")
    make_annotated(workdir)
    for number, (name, pace) in enumerate((("uniform", 250.0), ("toremi-2", 200.0))):
        make_run(workdir, name, number, steps=(900,))
        make_recorded_run(workdir, name, TOPICS_OF_RUN, policy=name, pace=pace)
    evaluate_runs(EvalConfig(), Workdir(workdir))
    add_topic_map(workdir)
    process = toremi("report", "uniform", "toremi-2", "-w", workdir, "-o", workdir / "report.html")
    assert process.returncode == 0, process.stderr
    return workdir / "report.html"


class Balance(HTMLParser):
    """Checks that elements are closed in order."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_one_well_formed_file_without_network(page):
    text = page.read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert not NEEDS_NO_NETWORK.search(text)
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert data["runs"][0]["name"] == "toremi-2", "the run whose weights move comes first"
    assert data["runs"][0]["switchStep"] == 600
    assert len(data["runs"][0]["highlight"]) == 8
    assert data["curves"][0]["title"] == "macro average"
    assert len(data["map"]) == 6 and all(0 <= t["x"] <= 1 and 0 <= t["y"] <= 1 for t in data["map"])
    assert "<b>&'" not in text, "names are escaped"


def test_summary_says_what_was_found(page):
    text = page.read_text(encoding="utf-8")
    summary = re.search(r'id="summary">(.*?)</section>', text, re.S)[1]
    assert "uniform: 3.69M tokens in 900 steps" in summary and "the baseline." in summary
    assert re.search(
        r"reached uniform&#x27;s final held-out loss while training with (19|20|21)\.\d% fewer tokens", summary
    )
    for section in ("Comparison", "Topics at the end", "Map of the topics", "Settings and provenance"):
        assert f"<h2>{section}</h2>" in text


def test_sensitivity_by_topic_is_drawn_beside_weights_and_losses(tmp_path):
    run = make_recorded_run(tmp_path, "toremi", ["a", "b"], steps=200, interval=50)
    rows = [
        {"step": step, "tokens_seen": step * 4096, "name": "sensitivity", "domain": topic, "value": value}
        for step in (50, 150)
        for topic, value in (("a", 0.2), ("b", step / 100))
    ]
    write_table(
        run / "metrics" / "part-00001.parquet", METRICS, rows, provenance_of(METRICS, "toremi pretrain", {}, {})
    )
    (group,) = seed_groups([read_history(Run("toremi", run))])
    panels = run_data(group, [])["panels"]
    assert [panel["title"] for panel in panels] == ["weight", "loss, nats a token", "sensitivity"]
    assert panels[2]["values"] == [[0.2, None, 0.2, None], [0.5, None, 1.5, None]]


def alarms_of(run):
    return " ".join(run_alarms(read_history(Run("toremi-2", run))))


def add_metrics(run, values):
    """Record numbers of the last interval, by name and domain."""
    step = {"step": 9000, "tokens_seen": 9000 * 4096}
    rows = [{**step, "name": name, "domain": domain, "value": value} for (name, domain), value in values.items()]
    number = len(list((run / "metrics").iterdir()))
    plan = provenance_of(METRICS, "toremi pretrain", {}, {})
    write_table(run / "metrics" / f"part-{number:05d}.parquet", METRICS, rows, plan)


def test_next_to_nothing_does_not_stretch_the_axis_of_weights(tmp_path):
    make_recorded_run(tmp_path, "toremi-2", ["a", "b"])
    history = read_history(Run("toremi-2", tmp_path / "runs" / "toremi-2"))
    history.topics.weight[:, 0], history.topics.weight[:, 1] = 1e-14, 2.0
    (group,) = seed_groups([history])
    low, high = run_data(group, [])["panels"][0]["values"]
    assert set(low) == {0.002} and set(high) == {2.0}


@pytest.mark.parametrize("by", ["labels", "names"])
def test_the_map_shows_what_the_run_weighs(tmp_path, by):
    """Labelled topics, too, where the run weighs topics by name."""
    add_topic_map(tmp_path)
    known = TOPICS_OF_RUN[:6] if by == "labels" else [f"name-{i}" for i in range(6)]
    make_recorded_run(tmp_path, "toremi-2", known)
    courses = read_history(Run("toremi-2", tmp_path / "runs" / "toremi-2")).topics
    discs = {disc["name"]: disc["weight"] for disc in map_data(Workdir(tmp_path), courses)}
    last = dict(zip(courses.topics, courses.weight[-1].tolist(), strict=True))
    assert discs == {f"name-{i}": pytest.approx(last[known[i]], rel=1e-3) for i in range(6)}


def test_alarms_are_those_of_the_trainer(tmp_path):
    run = make_recorded_run(
        tmp_path, "toremi-2", ["a", "b", "c"], status="running", steps=9000, switch_step=9999, seed=3
    )
    found = alarms_of(run)
    assert "not finished" in found
    assert "67% of the topics stand at a bound (0.1 or 5)" in found
    assert "as if the learning rate were 3.67 times what it is" in found and "--set normalize=true." in found
    add_metrics(run, {("weight_mean", "all"): 2.5, ("weight_at_bound", "all"): 0.5})
    found = alarms_of(run)
    assert "were 2.50 times" in found, "over the samples, as the run recorded it"
    assert "at a bound" not in found, "half of the topics are none too many"
    add_metrics(run, {("repeats", topic): 1.0 for topic in "abc"})
    assert "learning rate" not in alarms_of(run), "the weights decide what is drawn"


@pytest.mark.parametrize(
    ("intervals", "weight", "is_told"), [(9, 0.1, False), (10, 0.1, True), (14, 0.1, True), (14, 0.0, False)]
)
def test_topics_that_are_seen_no_more_are_told_after_ten_intervals(tmp_path, intervals, weight, is_told):
    run = make_recorded_run(tmp_path, "toremi-2", ["a", "b"])
    rows = TableReader(run / "weights", WEIGHTS).read().to_pylist()
    for row in rows:
        if row["topic"] == "b" and row["step"] > 900 - 50 * intervals:
            row.update(loss=None, num_samples=0, weight=weight)
    shard = run / "weights" / "part-00000.parquet"
    write_table(shard, WEIGHTS, rows, provenance_of(WEIGHTS, "toremi pretrain", {}, {}))
    assert ("'b' has not been seen for 10 intervals" in alarms_of(run)) == is_told
    assert "'a' has not been seen" not in alarms_of(run)


def test_uniform_weights_raise_no_alarm(tmp_path):
    calm = make_recorded_run(tmp_path, "uniform", ["a", "b"], policy="uniform")
    assert run_alarms(read_history(Run("uniform", calm))) == []


def test_a_run_without_eval_and_without_topic_tables(tmp_path):
    make_recorded_run(tmp_path, "young", ["a", "b"], steps=100, status="running")
    process = toremi("report", "-w", tmp_path, "-o", tmp_path / "r.html")
    assert process.returncode == 0, process.stderr
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Not measured on &#x27;test&#x27;: young" in text
    assert 'id="map"' not in text


@pytest.mark.browser
def test_charts_are_drawn_and_topics_toggle(page, tmp_path):
    count = "document.querySelectorAll('#topic-charts path.line[style*=\"1.9\"]').length"
    script = (
        f"const before = {count}; document.querySelector('.legend button[aria-pressed=false]').click();"
        f"document.title = `${{document.title}} before ${{before}} after ${{{count}}}"
        " curves ${document.querySelectorAll('#curves svg').length}"
        " discs ${document.querySelectorAll('#topic-map circle').length}`;"
    )
    title = re.search(r"<title>(.*?)</title>", dom_after(page, script, tmp_path), re.S)[1]
    assert "ERROR" not in title
    assert "before 16 after 18" in title, "eight topics in two charts, then nine"
    assert "curves 6" in title and "discs 6" in title


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(page, tmp_path, width):
    frame = tmp_path / "frame.html"
    shutil.copy(page, tmp_path / "report.html")
    frame.write_text(
        f'<head></head><body><iframe src="report.html" style="width:{width}px;height:900px;border:0"></iframe></body>'
    )
    script = (
        "const d = document.querySelector('iframe').contentDocument;"
        "document.title = `wide ${d.documentElement.scrollWidth} ERR ${d.title}`;"
    )
    title = re.search(r"<title>(.*?)</title>", dom_after(frame, script, tmp_path, max(width, 600)), re.S)[1]
    assert int(re.search(r"wide (\d+)", title)[1]) <= width


@pytest.mark.browser
def test_light_and_dark_differ(page, tmp_path):
    light = matplotlib.image.imread(screenshot(page, tmp_path / "light.png", 1280, 900))
    dark = matplotlib.image.imread(screenshot(page, tmp_path / "dark.png", 1280, 900, DARK))
    assert light[..., :3].mean() > 0.85
    assert dark[..., :3].mean() < 0.25
    for image in (light, dark):
        assert image[..., :3].std() > 0.05
