import json
import re
import shutil

import numpy as np
import pytest

from tests.browser import chromium
from tests.shell import assert_one_line_error, toremi
from tests.topics.handmade import TOPIC_OF_SAMPLE, write_clusters, write_embeddings, write_samples
from toremi_cli.layout import Workdir
from toremi_cli.topics import map_places
from toremi_cli.topics.annotate import AnnotateConfig, build_annotated
from toremi_cli.topics.config import MapConfig
from toremi_cli.topics.map_page import draw_points, snippet
from toremi_cli.topics.map_places import GRID, project

TOPICS = TOPIC_OF_SAMPLE[:4] + TOPIC_OF_SAMPLE[4:] * 20


@pytest.fixture
def workdir(tmp_path):
    workdir = Workdir(tmp_path / "out")
    write_samples(workdir, TOPICS, per_shard=50)
    write_embeddings(workdir, TOPICS, per_shard=50)
    write_clusters(workdir, TOPICS, per_shard=50)
    build_annotated(workdir, AnnotateConfig())
    return workdir


def page_of(workdir, *arguments, projection="pca"):
    path = workdir.root / "map.html"
    process = toremi("topics", "-w", workdir.root, "--html", path, "--projection", projection, *arguments)
    assert process.returncode == 0, process.stderr
    return path


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page).group(1))


def test_the_page_holds_map_topics_and_sources_and_nothing_from_outside(workdir):
    page = page_of(workdir).read_text()
    data = data_of(page)
    assert len(data["x"]) == len(data["text"]) == len(TOPICS)
    assert sorted(data["topic"]) == sorted(TOPICS)
    assert min(data["x"]) >= 0 and max(data["x"]) <= GRID
    assert {topic["name"] for topic in data["topics"]} == {
        "match-coach-goal",
        "court-plaintiff-appeal",
        "blorb-zzyx-qwxt",
    }
    assert "123 samples in 3 topics, from 2 sources" in page
    for cell in ('<td class="labels" data-name="labels">Sports</td>', "web 67%, books 33%", "49.6%", "0.90"):
        assert cell in page
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert "<!--" not in page.replace("<!doctype", "")


def test_the_same_seed_gives_the_same_page_and_fewer_points_on_request(workdir):
    first = page_of(workdir, "--points", "40").read_text()
    assert page_of(workdir, "--points", "40").read_text() == first
    assert len(data_of(first)["x"]) == 40
    assert page_of(workdir, "--points", "40", "--seed", "1").read_text() != first


def test_text_cannot_break_out_of_the_page(workdir):
    import pyarrow as pa
    import pyarrow.parquet as pq

    evil = "</script><script>document.title='owned'</script><!-- & \u2028"
    for shard in workdir.samples.glob("*.parquet"):
        table = pq.read_table(shard)
        pq.write_table(table.set_column(4, "text", pa.array([evil] * table.num_rows)), shard)
    page = page_of(workdir).read_text()
    assert page.count("</script>") == 2, "of the data, and of the script"
    assert data_of(page)["text"][0] == snippet(evil)


def test_points_keep_vector_topic_and_text_together(workdir):
    points = draw_points(workdir, MapConfig(max_points=30))
    assert len(points.texts) == 30
    for vector, topic, text in zip(points.vectors, points.topics, points.texts, strict=True):
        number = int(text.rsplit(" ", 1)[1])
        assert TOPICS[number] == topic
        assert int(np.argmax(vector)) == topic % 5


def test_projection_bears_odd_input():
    config = MapConfig()
    one = np.ones((20, 3), np.float32)
    assert project(one, config).tolist() == [[GRID // 2, GRID // 2]] * 20
    assert project(np.eye(2, dtype=np.float32), config)[:, 0].tolist() in ([0, GRID], [GRID, 0])


@pytest.mark.slow
def test_umap_keeps_topics_together_and_is_repeatable(workdir):
    page = page_of(workdir, projection="umap").read_text()
    workdir.map_places.unlink()
    assert page_of(workdir, projection="umap").read_text() == page
    data = data_of(page)
    places, topics = np.column_stack([data["x"], data["y"]]), np.array(data["topic"])
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (topics[distance.argmin(axis=1)] == topics).mean() > 0.9


def test_places_that_umap_has_found_are_kept_for_the_same_vectors_and_seed(tmp_path, monkeypatch):
    fitted = []
    monkeypatch.setattr(map_places, "_by_umap", lambda vectors, seed: fitted.append(seed) or vectors[:, :2] + seed)
    cache = tmp_path / "topics-map.npz"
    vectors = np.random.default_rng(0).random((20, 3), np.float32)
    first = project(vectors, MapConfig(), cache)
    assert project(vectors, MapConfig(), cache).tolist() == first.tolist()
    assert fitted == [0]
    project(vectors, MapConfig(seed=1), cache)
    project(vectors + 1, MapConfig(seed=1), cache)
    cache.write_bytes(b"damaged")
    project(vectors + 1, MapConfig(seed=1), cache)
    assert fitted == [0, 1, 1, 1]
    project(vectors, MapConfig(), tmp_path / "topics-map.npz" / "no-folder")  # as on a disk that can't be written to
    assert fitted == [0, 1, 1, 1, 0]


def test_snippets():
    assert snippet(" a\n\tb ") == "a b"
    assert len(snippet("word " * 1000)) <= 240


def test_errors(workdir, tmp_path):
    assert_one_line_error(toremi("topics", "-w", workdir.root, "--html", "x", "--projection", "tsne"), "umap, pca")
    shutil.rmtree(workdir.embeddings)
    assert_one_line_error(toremi("topics", "-w", workdir.root, "--html", tmp_path / "x"), "embeddings", "no such file")
    assert not (tmp_path / "x").exists()


PROBE = """
<script>
{
const click = id => document.getElementById(id).click(), size = () => canvas.getBoundingClientRect();
const chosenRows = () => document.querySelectorAll("tr.chosen").length;
const point = (kind, x, y, more) => canvas.dispatchEvent(new PointerEvent(kind, {
  clientX: size().left + x, clientY: size().top + y, pointerId: 1, bubbles: true, ...more}));
const colours = () => {
  const copy = document.createElement("canvas"), pen = copy.getContext("2d", {willReadFrequently: true});
  [copy.width, copy.height] = [canvas.width, canvas.height];
  pen.drawImage(canvas, 0, 0);
  const ink = pen.getImageData(0, 0, copy.width, copy.height).data, seen = new Set();
  for (let p = 0; p < ink.length; p += 4) if (ink[p + 3] > 150) seen.add(ink[p] + "," + ink[p + 1] + "," + ink[p + 2]);
  return seen;
};
const result = {names: boxes.length, width: innerWidth, needed: document.documentElement.scrollWidth};

document.querySelector("tbody button").click();
result.chosen = [chosenRows(), document.getElementById("all").hidden];
click("all");
result.after = chosenRows();
const i = 5, [x, y] = place(data.x[i], data.y[i]);
point("pointermove", x, y);
result.tip = document.getElementById("tip").textContent;

const search = document.getElementById("query");
search.value = " NUMBER 7 ".toLowerCase();
search.dispatchEvent(new Event("input"));
result.found = document.getElementById("found").textContent;
result.only = nearest(...place(data.x[i], data.y[i]), 1e9);
result.rows = rows.filter(entry => !entry.row.hidden).length;
click("all");

const byTopic = colours(), select = document.getElementById("colours");
select.value = "source";
select.dispatchEvent(new Event("change"));
result.colours = [byTopic.size, colours().size];
result.legend = [...document.querySelectorAll("#legend button")].map(button => button.textContent);
document.querySelector("#legend button").click();
result.from = document.getElementById("found").textContent;
result.legendNeeds = document.documentElement.scrollWidth;
click("all");

const before = place(data.x[i], data.y[i]);
const there = {clientX: size().left + before[0], clientY: size().top + before[1], deltaY: -300, cancelable: true};
canvas.dispatchEvent(new WheelEvent("wheel", {...there, ctrlKey: true}));
const zoomed = place(data.x[i], data.y[i]);
result.zoom = [view.scale, Math.hypot(zoomed[0] - before[0], zoomed[1] - before[1])];
canvas.dispatchEvent(new WheelEvent("wheel", there));
result.scrolls = view.scale;
const held = [canvas.clientWidth / 2, canvas.clientHeight / 2], start = {...view};
point("pointerdown", ...held);
point("pointermove", held[0] - 30, held[1] - 20);
point("pointerup", held[0] - 30, held[1] - 20);
canvas.dispatchEvent(new MouseEvent("click", {clientX: size().left + held[0], clientY: size().top + held[1]}));
result.dragged = [Math.round(view.x - start.x), Math.round(view.y - start.y), chosenRows()];
for (let n = 0; n < 20; n++) click("farther");
result.out = {...view};
for (let n = 0; n < 20; n++) click("nearer");
result.in = view.scale;
parent.postMessage(JSON.stringify(result), "*");
}
</script>
"""
WRAPPER = """<!doctype html><body><pre id=out></pre><script>
onmessage = event => { document.getElementById("out").textContent = event.data; };
</script><iframe src="probe.html" style="width:WIDTHpx;height:900px;border:0"></iframe>"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1366])
def test_in_a_browser(workdir, tmp_path, width):
    page = page_of(workdir).read_text()
    (tmp_path / "probe.html").write_text(page.replace("</body>", PROBE + "</body>"))
    (tmp_path / "wrapper.html").write_text(WRAPPER.replace("WIDTH", str(width)))
    wrapper = (tmp_path / "wrapper.html").as_uri()
    process = chromium("--enable-logging=stderr", "--window-size=1500,1000", "--dump-dom", wrapper)
    found = re.search(r'<pre id="out">(\{.*?\})</pre>', process.stdout)
    assert found, process.stderr[-2000:]
    assert "CONSOLE" not in process.stderr, process.stderr
    result = json.loads(found.group(1))
    assert result["chosen"] == [1, False], "a click on a topic shows it alone"
    assert result["after"] == 0, "and 'show all' ends that"
    assert re.search(r"(match|court|blorb).*number \d+$", result["tip"])
    assert result["found"] == "11 of 124 on the map", "number 7, and 70 to 79"
    assert min(result["colours"]) > 3
    assert result["names"] >= 1
    assert result["width"] == width
    assert max(result["needed"], result["legendNeeds"]) <= width, "nothing sticks out sideways"
    assert sorted(result["legend"]) == ["books", "web"]
    assert re.fullmatch(r"\d+ of 124 on the map", result["from"])
    assert result["zoom"][0] > 2 and result["zoom"][1] < 3, "what is under the pointer stays there"
    assert result["scrolls"] == result["zoom"][0], "the wheel alone scrolls the page"
    assert result["dragged"] == [-30, -20, 0], "a drag moves the map and chooses nothing"
    assert result["out"] == {"scale": 1, "x": 0, "y": 0}
    assert result["in"] == 40
