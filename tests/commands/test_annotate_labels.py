"""`toremi annotate --relabel` and the language model, on tables written by hand."""

import json
import signal
import threading
import time

import pytest

from tests.shell import assert_one_line_error, start, times, toremi
from tests.topics.handmade import TOPIC_OF_SAMPLE, write_clusters, write_samples
from tests.topics.llm_server import Reply, chat_server
from toremi_cli.layout import Workdir
from toremi_cli.schemas import ANNOTATED
from toremi_cli.tables import TableReader


@pytest.fixture
def place(tmp_path):
    workdir = Workdir(tmp_path / "out")
    write_samples(workdir, TOPIC_OF_SAMPLE)
    write_clusters(workdir, TOPIC_OF_SAMPLE)
    return workdir


def relabel(place, *arguments, **env):
    return toremi("annotate", "--relabel", "-w", place.root, *arguments, **env)


def labels_of(place):
    topics = json.loads(toremi("topics", "-w", place.root, "--json").stdout)
    return {topic["topic"]: (topic["labels"], topic["label_source"]) for topic in topics}


def test_relabel_needs_nothing_but_clusters_and_topics(place):
    process = relabel(place)
    assert process.returncode == 0, process.stderr
    assert "match-coach-goal -> Sports" in process.stdout
    assert "10 samples, 1 of them without a topic; 3 topics, 2 with labels" in process.stdout.replace("\n", " ")
    assert max(map(len, process.stdout.splitlines()[:-1])) <= 80
    assert TableReader(place.annotated, ANNOTATED).num_rows == 10


def test_flags_that_are_not_given_stay_as_they_were(place, tmp_path):
    (tmp_path / "mine.txt").write_text("Goal match\nCourt judge\n")
    assert relabel(place, "--taxonomy", tmp_path / "mine.txt", "--max-labels", "1").returncode == 0
    before = times(place.annotated)
    process = relabel(place)
    assert "up to date" in process.stderr
    assert times(place.annotated) == before
    assert labels_of(place)[0] == (["Goal match"], "lexicon")
    process = relabel(place, "--taxonomy", "none", "--json")
    result = json.loads(process.stdout)
    assert (result["num_samples"], result["num_unsettled"], result["num_labelled_topics"]) == (10, 1, 3)
    assert result["topics"][0]["labels"] == ["match-coach-goal"]


def test_labels_for_few_topics_are_warned_of(place, tmp_path):
    assert "labels" not in relabel(place).stderr
    (tmp_path / "far.txt").write_text("Volcanology\n")
    process = relabel(place, "--taxonomy", tmp_path / "far.txt")
    assert process.returncode == 0 and "only 0 of 3 topics have labels" in process.stderr


def test_relabel_refuses_what_it_would_not_heed(place, tmp_path):
    assert_one_line_error(relabel(place, "--num-topics", "4"), "--relabel", "leave out --num-topics")
    assert_one_line_error(relabel(place, tmp_path), "--relabel", "leave out CORPUS")
    assert_one_line_error(relabel(place, "--taxonomy", tmp_path / "absent"), "--taxonomy", "No such file")
    assert_one_line_error(
        toremi("annotate", "--relabel", "-w", tmp_path / "empty"), "samples", "no such file or folder"
    )
    assert_one_line_error(toremi("annotate", "-w", tmp_path / "empty"), "name a corpus")


def test_a_language_model_labels_and_the_lexicons_stand_in(place):
    def behave(request, number):
        said = json.dumps(request["messages"])
        return Reply(status=500) if "court" in said else Reply(["Nature"] if "blorb" in said else ["People", "Time"])

    with chat_server(behave) as server:
        url = ("--llm-url", server.url, "--llm-model", "tiny", "--llm-attempts", "1")
        dry = toremi("annotate", "--dry-run", "-w", place.root, *url, "--json")
        assert json.loads(dry.stdout)["num_calls"] == 3, dry.stderr
        assert not server.requests
        assert not place.annotated.exists()
        process = relabel(place, *url)
        assert process.returncode == 0, process.stderr
        assert "1 of 3 topics got no usable answer" in process.stderr
        assert "-> Law (lexicon)" in process.stdout and "-> People, Time (llm:tiny)" in process.stdout
        assert labels_of(place) == {
            0: (["People", "Time"], "llm:tiny"),
            1: (["Law"], "lexicon"),
            2: (["Nature"], "llm:tiny"),
        }
        assert len(server.requests) == 3
        before = times(place.annotated)
        again = relabel(place, "-q")
        assert again.returncode == 0 and "1 of 3 topics got no usable answer" in again.stderr
        assert len(server.requests) == 4, "only what is missing is asked for again"
        assert times(place.annotated) == before
    assert relabel(place, "--llm-url", "none").returncode == 0
    assert labels_of(place)[0] == (["Sports"], "lexicon")


def test_a_finished_labelling_asks_no_server_again(place):
    with chat_server(lambda request, number: Reply(["Time"])) as server:
        relabel(place, "--llm-url", server.url, "--llm-model", "tiny")
    process = relabel(place)
    assert process.returncode == 0
    assert "no answer" not in process.stderr
    assert labels_of(place)[2] == (["Time"], "llm:tiny")


def test_a_server_without_one_usable_answer_ends_with_1_and_changes_nothing(place):
    assert relabel(place).returncode == 0
    before = labels_of(place)
    page = Reply(body=b"<html>Log in</html>", headers={"Content-Type": "text/html"})
    with chat_server(lambda request, number: page) as server:
        process = relabel(place, "--llm-url", server.url, "--llm-model", "tiny", "--llm-attempts", "1", "-q")
    assert process.returncode == 1
    assert_one_line_error(process, "no usable answer for any of 3 topics", "Log in", "--llm-url none")
    assert labels_of(place) == before
    assert "up to date" in relabel(place).stderr


def test_an_interrupt_ends_the_wait_and_keeps_the_answers(place):
    release = threading.Event()

    def behave(request, number):
        if number >= 1:
            release.wait(120)
        return Reply(["Time"])

    with chat_server(behave) as server:
        arguments = ["annotate", "--relabel", "-w", place.root, "--llm-url", server.url, "--llm-model", "tiny"]
        process = start(*arguments, "--llm-concurrency", "1", "--llm-timeout", "120")
        while len(server.requests) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        release.set()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert not place.annotated.exists()
    with chat_server(lambda request, number: Reply(["Law"])) as server:
        assert relabel(place, "--llm-url", server.url, "--llm-model", "tiny").returncode == 0
        assert len(server.requests) == 2
    assert [labels_of(place)[topic][0] for topic in range(3)] == [["Time"], ["Law"], ["Law"]]


def test_a_server_without_a_model(place):
    assert_one_line_error(relabel(place, "--llm-url", "http://localhost:1/v1"), "--llm-model")
    assert_one_line_error(relabel(place, "--llm-model", "tiny"), "--llm-url")
    process = toremi("annotate", "--dry-run", "-w", place.root)
    assert_one_line_error(process, "--dry-run", "--llm-url")
