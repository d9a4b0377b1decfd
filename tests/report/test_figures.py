import xml.etree.ElementTree as ET

import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tests.runs.synthetic import make_recorded_run
from tests.shell import assert_one_line_error, toremi
from toremi_cli.errors import TableError, UsageError
from toremi_cli.report.figures import draw, save_figure
from toremi_cli.report.numbers import compact
from toremi_cli.report.seed_groups import chosen_topics, seed_groups
from toremi_cli.report.style import COLOURS, spread
from toremi_cli.runs.history import read_history
from toremi_cli.runs.run import Run

SVG_TEXT = "{http://www.w3.org/2000/svg}text"


def histories(tmp_path, num_topics):
    topics = [f"Topic_{i}" for i in range(num_topics)]
    make_recorded_run(tmp_path, "uniform", topics, policy="uniform")
    make_recorded_run(tmp_path, "toremi-2", topics, seed=1)
    return [read_history(Run(n, tmp_path / "runs" / n)) for n in ("uniform", "toremi-2")]


def svg_texts(path):
    return ["".join(e.itertext()).strip() for e in ET.parse(path).iter(SVG_TEXT)]


def test_few_topics_are_all_named_beside_their_lines(tmp_path):
    save_figure(histories(tmp_path, 5), tmp_path / "f.svg", file_format="svg")
    texts = svg_texts(tmp_path / "f.svg")
    for topic in range(5):
        assert texts.count(f"Topic {topic}") == 2, "once for weights, once for losses"
    assert texts.count("stage 2") == 2
    assert "uniform" in texts and "toremi-2" in texts and "weight of each topic" in texts
    for domain in ("macro average", "books", "python manual"):
        assert domain in texts


def test_of_many_topics_those_that_moved_most_are_named(tmp_path):
    found = histories(tmp_path, 41)
    colours = chosen_topics(seed_groups(found))["toremi-2"]
    assert len(colours) == len(COLOURS)
    final = dict(zip(found[1].topics.topics, np.abs(np.log(found[1].topics.weight[-1])), strict=True))
    assert min(final[t] for t in colours) >= max(final[t] for t in final if t not in colours)
    save_figure(found, tmp_path / "f.svg", file_format="svg")
    texts = svg_texts(tmp_path / "f.svg")
    assert "toremi-2" in texts and "weight of each topic (8 of 41 named)" in texts
    assert sum(t.startswith("Topic ") for t in texts) == 2 * len(COLOURS)


@pytest.mark.parametrize("kind", ["overview", "weights", "curves"])
def test_png_is_not_blank_and_the_same_twice(tmp_path, kind):
    found = histories(tmp_path, 5)
    for name in ("a.png", "b.png"):
        save_figure(found, tmp_path / name, kind)
    pixels = matplotlib.image.imread(tmp_path / "a.png")
    assert pixels.shape[1] == 1600
    assert pixels[..., :3].std() > 0.05
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_labels_stay_within_the_image(tmp_path):
    figure = draw(histories(tmp_path, 41))
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()
    width, height = figure.canvas.get_width_height()
    for axes in figure.findobj(matplotlib.axes.Axes):
        for text in axes.texts:
            box = text.get_window_extent(renderer)
            assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text.get_text()


def test_one_uniform_run_alone_is_drawn(tmp_path):
    found = histories(tmp_path, 5)[:1]
    save_figure(found, tmp_path / "f.svg", file_format="svg")
    assert {"uniform", "weight of each topic"} <= set(svg_texts(tmp_path / "f.svg"))


def test_long_names_run_neither_into_the_next_chart_nor_out_of_the_figure(tmp_path):
    topics = [f"{name} of a very long name" for name in ("MMMMM", "WWWWW", "iiiii", "a b c")]
    make_recorded_run(tmp_path, "toremi-2", topics)
    figure = draw([read_history(Run("toremi-2", tmp_path / "runs" / "toremi-2"))], "weights")
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()
    left, right = figure.findobj(matplotlib.axes.Axes)
    axis = right.yaxis.get_tightbbox(renderer).x0
    names = {axes: [t for t in axes.texts if "very" in t.get_text()] for axes in (left, right)}
    assert [len(texts) for texts in names.values()] == [4, 4]
    assert max(text.get_window_extent(renderer).x1 for text in names[left]) < axis
    assert max(text.get_window_extent(renderer).x1 for text in names[right]) < figure.canvas.get_width_height()[0]


def test_seeds_of_a_policy_are_a_mean_and_a_band_and_a_topic_has_one_colour(tmp_path):
    topics = [f"Topic_{i}" for i in range(12)]
    names = [f"{policy}-{seed}" for policy in ("toremi-2", "toremi") for seed in range(3)]
    for name in names:
        policy, seed = name.rsplit("-", 1)
        make_recorded_run(tmp_path, name, topics, policy=policy, seed=int(seed))
    found = [read_history(Run(name, tmp_path / "runs" / name)) for name in names]
    groups = seed_groups(found)
    assert [(group.title, group.colour) for group in groups] == [("toremi-2, 3 seeds", 0), ("toremi, 3 seeds", 1)]
    macro = np.stack([h.metrics["eval_bits_per_byte", "macro"].values for h in found[:3]])
    band = groups[0].curve("macro")
    np.testing.assert_allclose(band.mean, macro.mean(axis=0))
    np.testing.assert_allclose((band.low, band.high), (macro.min(axis=0), macro.max(axis=0)))
    np.testing.assert_allclose(groups[0].topics.weight, np.mean([h.topics.weight for h in found[:3]], axis=0))
    figure = draw(found)
    weights = [axes for axes in figure.findobj(matplotlib.axes.Axes) if axes.get_title().startswith("weight")]
    colours = [
        {text.get_text(): text.get_color() for text in axes.texts if "Topic" in text.get_text()} for axes in weights
    ]
    assert len(colours) == 2 and colours[0] == colours[1] and len(colours[0]) == len(COLOURS)
    assert [len(axes.collections) for axes in weights] == [len(COLOURS)] * 2, "a band for each named topic"
    curves = next(axes for axes in figure.findobj(matplotlib.axes.Axes) if axes.get_title() == "macro average")
    assert (len(curves.lines), len(curves.collections)) == (2, 2), "a line and a band for each policy, none for a seed"


def test_a_run_that_still_trains_cuts_no_mean_short(tmp_path):
    names = ("toremi-0", "toremi-1", "young")
    for seed, name in enumerate(names):
        make_recorded_run(tmp_path, name, ["a", "b"], policy="toremi", seed=seed)
    make_recorded_run(tmp_path, "young", ["a", "b"], policy="toremi", seed=2, steps=100, status="running")
    groups = seed_groups([read_history(Run(name, tmp_path / "runs" / name)) for name in names])
    assert [group.title for group in groups] == ["toremi, 2 seeds", "young"]
    assert groups[0].curve("macro").steps[-1] == 900


def test_wrong_kind_and_nothing_to_show(tmp_path):
    found = histories(tmp_path, 5)
    with pytest.raises(UsageError, match="--figure pie: expected one of draws, overview"):
        save_figure(found, tmp_path / "x.png", "pie")
    with pytest.raises(UsageError, match="no format 'gif'"):
        save_figure(found, tmp_path / "x.gif", file_format="gif")
    found[0].metrics = {}
    with pytest.raises(TableError, match="recorded nothing"):
        save_figure(found[:1], tmp_path / "x.png", "curves")
    assert not list(tmp_path.glob("*x.*"))


def test_labels_are_moved_apart_as_little_as_needed():
    assert spread([0.5, 0.2], 0.1, 0, 1).tolist() == [0.5, 0.2]
    np.testing.assert_allclose(spread([0.5, 0.5], 0.1, 0, 1), [0.45, 0.55])
    np.testing.assert_allclose(spread([1.0, 1.0, 1.0], 0.1, 0, 1), [0.8, 0.9, 1.0])
    np.testing.assert_allclose(spread([0.0, 0.0], 0.1, 0, 1), [0.0, 0.1])
    assert spread([], 0.1, 0, 1).shape == (0,)


def test_compact_numbers():
    assert [compact(v) for v in (0.1, 5, 900, 12000, 3.4e9)] == ["0.1", "5", "900", "12k", "3.4B"]


def test_command(tmp_path):
    histories(tmp_path, 5)
    make_recorded_run(tmp_path, "young", ["a", "b"], status="running", steps=100)
    process = toremi("report", "-w", tmp_path, "-o", tmp_path / "r.png")
    assert process.returncode == 0, process.stderr
    assert "run young is not finished: shown as far as it has come" in process.stderr
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "runs" / "empty" / "run.json").write_text('{"status": "running"}')
    process = toremi("report", "empty", "-w", tmp_path, "-o", tmp_path / "e.png")
    assert_one_line_error(process, "recorded nothing", "not come to its first interval yet")
    assert_one_line_error(toremi("report", "nobody", "-w", tmp_path), "run nobody")
