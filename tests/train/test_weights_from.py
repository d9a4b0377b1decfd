"""Weights of one clustering on another: each topic finds itself again, and unlike corpora are refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.shell import assert_one_line_error, call
from tests.train.smallrun import write_workdir
from toremi_cli import console
from toremi_cli.errors import TableError
from toremi_cli.export.weights import write_weights
from toremi_cli.files import write_json
from toremi_cli.layout import Workdir
from toremi_cli.portraits import Portraits, similarities
from toremi_cli.provenance import provenance_of
from toremi_cli.runs.history import read_history
from toremi_cli.runs.run import find_runs
from toremi_cli.schemas import ANNOTATED, EMBEDDINGS, EXPORTED_WEIGHTS, TOPICS
from toremi_cli.tables import MANIFEST, TableReader, write_table
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.weights_from import course_from
from toremi_cli.train.worker import run_worker

NEW_ID = [2, 0, 1]
"""Of topics 0, 1 and 2, in the other clustering."""
NAMES = ["one", "two", "three"]


def settings(root, **more):
    run = {"context_length": 32, "batch_size": 12, "max_steps": 4, "interval": 2, "gpus": 0, "eval_samples": 0}
    return TrainConfig(workdir=str(root), model=str(root / "model.json"), topics="fine", quiet=True, **{**run, **more})


def rewrite(root, change):
    """The table `annotated` with its rows changed, of another fingerprint."""
    rows = [change(row) for row in TableReader(root / "annotated", ANNOTATED).read().to_pylist()]
    for shard in (root / "annotated").glob("*.parquet"):
        shard.unlink()
    provenance = provenance_of(ANNOTATED, "toremi annotate", {"again": str(root)}, {})
    write_table(root / "annotated" / "part-00000.parquet", ANNOTATED, rows, provenance)
    write_json(root / "annotated" / MANIFEST, {"fingerprint": provenance.fingerprint, "num_shards": 1})


def clustered_anew(root):
    """The same corpus under other topics: other ids, other names."""
    write_workdir(root)
    rewrite(root, lambda row: {**row, "topic": NEW_ID[row["topic"]] if row["topic"] >= 0 else -1})
    topics = TableReader(root / "topics.parquet", TOPICS).read().to_pylist()
    topics = [{**row, "topic": i, "name": NAMES[i]} for i, row in enumerate(topics)]
    write_table(root / "topics.parquet", TOPICS, topics, provenance_of(TOPICS, "toremi annotate", {"again": 1}, {}))
    return root


def write_vectors(root, direction_of):
    """Vectors of one space for the samples; `direction_of` their topic."""
    rows = TableReader(root / "annotated", ANNOTATED).read(["sample_id", "topic"]).to_pylist()
    vectors = np.random.default_rng(0).normal(0, 0.05, (len(rows), 4)).astype(np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        vector[direction_of[row["topic"]] if row["topic"] >= 0 else 3] += 1
    made = [{"sample_id": row["sample_id"], "vector": v.tolist()} for row, v in zip(rows, vectors, strict=True)]
    place = Workdir(root).embeddings
    provenance = provenance_of(EMBEDDINGS, "toremi embed", {"backend": "doc2vec"}, {})
    write_table(place / "part-00000.parquet", EMBEDDINGS, made, provenance, 4)
    write_json(place / MANIFEST, {"fingerprint": provenance.fingerprint, "num_shards": 1})


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A workdir with vectors, and the weights that a run in it has learnt."""
    root = write_workdir(tmp_path_factory.mktemp("first"))
    write_vectors(root, [0, 1, 2])
    config = settings(root, policy={"name": "toremi-2", "alpha": 5.0}, name="learnt")
    assert run_worker(config, resume=False)["exit_code"] == 0
    (run,) = find_runs(("learnt",), Workdir(root))
    written = write_weights(read_history(run), "final", root / "w.parquet", Workdir(root))
    assert len(set(written["topics"].values())) == 3
    return root, list(written["topics"].values())


@pytest.mark.parametrize("by", ["words", "centres"])
def test_each_topic_finds_itself_in_another_clustering(first, tmp_path, capsys, by):
    root, weights = first
    again = clustered_anew(tmp_path)
    if by == "centres":
        write_vectors(again, [1, 2, 0])  # those of the first clustering: id 0 here was 1 there
    config = settings(again, policy={"name": "frozen"}, weights_from=str(root / "w.parquet"))
    console.set_quiet(False)  # the run above had it so
    course = course_from(config, NAMES)
    assert course.weights.tolist() == [[weights[NEW_ID.index(i)] for i in range(3)]]
    said = " ".join(capsys.readouterr().err.split())
    assert f"by {by}, 3 of 3 topics, 100% of the text, are like one of its 3" in said


def test_the_table_has_words_and_centres_and_serves_its_own_clustering_by_name(first):
    root, weights = first
    rows = TableReader(root / "w.parquet", EXPORTED_WEIGHTS).read().to_pylist()
    for row in rows:
        assert sum(row["word_shares"]) <= 1.0001 and len(row["words"]) == len(set(row["words"])) > 20
        assert np.linalg.norm(row["centre"]) == pytest.approx(1, abs=1e-5)
    config = settings(root, policy={"name": "frozen"}, weights_from=str(root / "w.parquet"))
    course = course_from(config, [row["topic"] for row in rows])
    assert course.weights.tolist() == [weights]
    config = settings(root, policy={"name": "frozen"}, weights_from=str(root / "runs" / "learnt" / "weights"))
    with pytest.raises(
        ValueError, match=r"no row for any of the topics; .* what `toremi export RUN --to weights` writes"
    ):
        course_from(config, NAMES)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"topic": ["ball", "vote", "court"], "weight": [1, 0.0, 2.5]}, None),
        ({"topic": ["ball", "vote", "court"], "share": [1, 0.0, 2.5]}, "not a 'topic weights' table: without weight"),
        ({"topic": ["ball"], "weight": [1.0], "step": ["first"]}, "column 'step' has type string, expected int64"),
        ({"topic": ["ball", "vote"], "weight": [1.0, 2.0]}, "no row for topic 'court' at step 0"),
        ({"topic": ["ball", "vote", "court"], "weight": [1, -0.5, 2]}, "weight of topic 'vote' is -0.5; expected a"),
        ({"topic": ["ball", "vote", "court"], "weight": [1, None, 2]}, "weight of topic 'vote' is None; expected a"),
        ({"topic": ["ball", "vote", "court"], "weight": [0, 0, 0]}, "0 for every topic"),
        ({"topic": ["ball", "vote", "court", "vote"], "weight": [1, 2, 3, 4]}, "two rows for topic 'vote'"),
    ],
)
def test_two_columns_written_by_hand_are_enough(first, tmp_path, table, problem):
    root, _ = first
    pq.write_table(pa.table(table), tmp_path / "w.parquet")
    config = settings(root, policy={"name": "frozen"}, weights_from=str(tmp_path / "w.parquet"))
    if problem is None:
        course = course_from(config, ["ball", "vote", "court"])
        assert (course.steps.tolist(), course.weights.tolist()) == ([0], [[1.0, 0.0, 2.5]])
    else:
        with pytest.raises((ValueError, TableError), match=problem):
            course_from(config, ["ball", "vote", "court"])


def test_an_unlike_corpus_is_refused_before_training(first, tmp_path):
    root, _ = first
    write_workdir(tmp_path)
    rewrite(tmp_path, lambda row: {**row, "text": " ".join(f"{n} ; 0x{n:x} = {n * n}" for n in range(30))})
    process = call(
        "pretrain", "--workdir", tmp_path, "--policy", "frozen", "--weights-from", root / "w.parquet",
        "--max-steps", "2", "--gpus", "0", "--model", tmp_path / "model.json", "--context-length", "32",
    )  # fmt: skip
    assert_one_line_error(process, "by words, 0 of 3 topics, 0% of the text", "the corpora are too unlike")
    assert not list(tmp_path.glob("runs/*/checkpoint-*"))


def test_one_topic_that_is_like_none_weighs_one(first, tmp_path):
    root, weights = first
    again = clustered_anew(tmp_path)
    rewrite(again, lambda row: {**row, "text": "甲 乙 丙 丁"} if row["topic"] == 2 else row)
    config = settings(again, policy={"name": "frozen"}, weights_from=str(root / "w.parquet"))
    course = course_from(config, NAMES)
    assert course.weights.tolist() == [[weights[NEW_ID.index(0)], weights[NEW_ID.index(1)], 1.0]]
    assert course.steps.tolist() == [0]


def test_topics_without_vectors_are_known_by_words_among_themselves():
    centres = np.array([[0.0, 0.0], [0.6, 0.8]])
    ours = Portraits(["a", "b"], [{"x": 1.0}, {"y": 1.0}], centres, "one", np.ones(2))
    theirs = Portraits(["c", "d"], [{"y": 1.0}, {"x": 1.0}], centres[::-1], "one", np.ones(2))
    likeness, by = similarities(ours, theirs)
    assert by == "centres" and np.allclose(likeness, [[0, 1], [1, 0]])
    likeness, by = similarities(ours, Portraits(["c"], [{"x": 0.5, "y": 0.5}], centres[1:], "another", np.ones(1)))
    assert by == "words" and np.allclose(likeness, likeness[0]) and 0 < likeness[0, 0] < 1
