import json
import re
import shutil

import numpy as np
import pytest

from tests.browser import chromium
from tests.shell import assert_one_line_error, toremi
from tests.topics.handmade import TOPIC_OF_SAMPLE, write_clusters, write_embeddings, write_samples
from toremi_cli.layout import Workdir
from toremi_cli.topics.annotate import AnnotateConfig, build_annotated
from toremi_cli.topics.map_page import GRID, MapConfig, draw_points, project, snippet

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
    return json.loads(re.search(r"^const data = (.*);$", page, re.MULTILINE).group(1))


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
    assert page.count("</script>") == 1
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
    assert page_of(workdir, projection="umap").read_text() == page
    data = data_of(page)
    places, topics = np.column_stack([data["x"], data["y"]]), np.array(data["topic"])
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (topics[distance.argmin(axis=1)] == topics).mean() > 0.9


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
const button = document.querySelector("tbody button");
button.click();
const chosen = [chosenRows(), document.getElementById("all").hidden];
document.getElementById("all").click();
const i = 5, box = canvas.getBoundingClientRect(), [x, y] = place(data.x[i], data.y[i]);
canvas.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + x, clientY: box.top + y, bubbles: true}));
const ink = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
const colours = new Set();
for (let p = 0; p < ink.length; p += 4) if (ink[p + 3] > 150) colours.add(ink[p] + "," + ink[p + 1] + "," + ink[p + 2]);
parent.postMessage(JSON.stringify({
  chosen, after: chosenRows(), tip: document.getElementById("tip").textContent, colours: colours.size,
  names: boxes.length, width: innerWidth, needed: document.documentElement.scrollWidth
}), "*");
function chosenRows() { return document.querySelectorAll("tr.chosen").length; }
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
    assert result["colours"] > 3
    assert result["names"] >= 1
    assert result["width"] == width
    assert result["needed"] <= width, "nothing sticks out sideways"
