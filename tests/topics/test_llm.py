import threading

import pytest

from tests.topics.llm_server import Reply, chat_server, listed_labels, user_text
from toremi_cli.console import set_quiet
from toremi_cli.errors import ToremiError, UsageError
from toremi_cli.topics.llm import AnswerCache, LlmConfig, estimate_cost, label_with_llm
from toremi_cli.topics.llm_prompt import read_answer
from toremi_cli.topics.taxonomy import load_taxonomy

KEYWORDS = [[f"word{topic}x", "shared", "goal"] for topic in range(6)]


@pytest.fixture
def cache(tmp_path):
    return AnswerCache(tmp_path / "answers.jsonl")


def ask(server, cache, keywords=KEYWORDS, max_labels=3, **settings):
    quick = {"model": "m", "concurrency": 2, "attempts": 2, "timeout_seconds": 20.0}
    config = LlmConfig(**{"url": server.url, **quick, **settings})
    return label_with_llm(keywords, load_taxonomy("wikipedia41"), config, max_labels, cache)


def labels_of(answers):
    return [answer and list(answer.labels) for answer in answers]


def test_a_good_server(cache, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "open")
    with chat_server(lambda request, number: Reply(["Sports", "Law"])) as server:
        answers = ask(server, cache)
    assert labels_of(answers) == [["Sports", "Law"]] * 6
    assert {answer.source for answer in answers} == {"llm:m"}
    assert len(server.requests) == 6
    assert set(server.authorizations) == {"Bearer open"}
    schema = server.requests[0]["response_format"]["json_schema"]["schema"]
    assert len(schema["properties"]["labels"]["items"]["enum"]) == 41
    assert schema["properties"]["labels"]["maxItems"] == 3


def test_our_own_key_goes_first(cache, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "open")
    monkeypatch.setenv("TOREMI_LLM_KEY", "ours")
    with chat_server(lambda request, number: Reply(["Sports"])) as server:
        ask(server, cache, KEYWORDS[:1])
    assert server.authorizations == ["Bearer ours"]


def test_the_order_of_labels_differs_by_topic_and_seed_and_is_repeatable(tmp_path):
    def orders(name, seed):
        with chat_server(lambda request, number: Reply(["Sports"])) as server:
            ask(server, AnswerCache(tmp_path / name), KEYWORDS[:2], seed=seed, concurrency=1)
        return [listed_labels(request) for request in server.requests]

    first, again, other = orders("a", 1), orders("b", 1), orders("c", 2)
    assert first == again
    assert first[0] != first[1]
    assert first[0] != other[0]
    assert sorted(first[0]) == sorted(other[0]) == sorted(load_taxonomy("wikipedia41").label_names)


def test_a_rerun_asks_nothing_and_another_model_or_list_asks_anew(cache):
    with chat_server(lambda request, number: Reply(["Sports"])) as server:
        first = ask(server, cache)
        assert ask(server, AnswerCache(cache.path)) == first
        assert len(server.requests) == 6
        ask(server, cache, model="other")
        assert len(server.requests) == 12
        ask(server, cache, max_labels=1)
        assert len(server.requests) == 18


def test_labels_off_the_list_are_repaired_once(cache):
    def behave(request, number):
        return Reply(["Football"] if len(request["messages"]) == 2 else ["sports", "FOOD AND DRINK", "Sports"])

    with chat_server(behave) as server:
        answers = ask(server, cache, KEYWORDS[:2])
    assert labels_of(answers) == [["Sports", "Food_and_drink"]] * 2
    assert len(server.requests) == 4
    repair = max(server.requests, key=lambda request: len(request["messages"]))["messages"]
    assert [message["role"] for message in repair] == ["system", "user", "assistant", "user"]
    assert "Not on the list: Football." in repair[-1]["content"]


def test_a_server_that_never_learns_costs_two_calls_a_topic_and_is_not_cached(cache):
    def behave(request, number):
        return Reply(["Sports" if "word2x" in user_text(request) else "Football"])

    with chat_server(behave) as server:
        assert labels_of(ask(server, cache, KEYWORDS[:3])) == [None, None, ["Sports"]]
        assert len(server.requests) == 5
        assert labels_of(ask(server, cache, KEYWORDS[:3])) == [None, None, ["Sports"]]
        assert len(server.requests) == 9


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(body=b"<html><title>Log in</title>", headers={"Content-Type": "text/html"}), "Log in"),
        (Reply(body=b'{"error": {"message": "model is loading"}}'), "'model is loading' in place of a chat answer"),
        (Reply(text="I cannot do that."), "'I cannot do that.': That is not JSON"),
        (Reply(status=500), "status 500"),
    ],
)
def test_not_one_usable_answer_is_an_error(cache, reply, said):
    with (
        chat_server(lambda request, number: reply) as server,
        pytest.raises(ToremiError, match="no usable answer for any of 2 topics") as caught,
    ):
        ask(server, cache, KEYWORDS[:2], attempts=1)
    assert said in str(caught.value) and "--llm-url none" in str(caught.value)


def test_valid_labels_among_invalid_ones_are_kept_after_the_repair(cache):
    with chat_server(lambda request, number: Reply(["Football", "Sports"])) as server:
        assert labels_of(ask(server, cache, KEYWORDS[:1])) == [["Sports"]]


def test_broken_json_is_repaired(cache):
    def behave(request, number):
        return Reply(text='{"labels": ["Spor' if len(request["messages"]) == 2 else 'Sure! {"labels": ["Sports"]}')

    with chat_server(behave) as server:
        assert labels_of(ask(server, cache, KEYWORDS[:1])) == [["Sports"]]
    assert "not JSON" in server.requests[1]["messages"][-1]["content"]


@pytest.mark.parametrize("body", [b"", b"<html>oops</html>", b"{}", b'{"choices": []}', b'{"choices": [{}]}', b"[1]"])
def test_a_body_that_is_no_chat_answer_leaves_its_topic_to_the_lexicons(cache, body):
    def behave(request, number):
        return Reply(body=body) if number == 0 else Reply(["Sports"])

    with chat_server(behave) as server:
        assert labels_of(ask(server, cache, KEYWORDS[:2], concurrency=1)) == [None, ["Sports"]]
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_a_busy_or_failing_server_is_tried_again(cache, status):
    def behave(request, number):
        return Reply(status=status) if number == 0 else Reply(["Sports"])

    with chat_server(behave) as server:
        assert labels_of(ask(server, cache, KEYWORDS[:1])) == [["Sports"]]
    assert len(server.requests) == 2


def test_the_tries_are_bounded_and_a_dead_server_is_given_up(cache, capsys):
    def behave(request, number):
        return Reply(status=500) if number else Reply(["Sports"])

    set_quiet(True)
    try:
        with chat_server(behave) as server:
            answers = ask(server, cache, [[f"w{n}"] for n in range(50)], concurrency=1)
    finally:
        set_quiet(False)
    assert labels_of(answers) == [["Sports"]] + [None] * 49
    assert len(server.requests) == 1 + 3 * 2, "two tries for each of three topics, then no more"
    assert "no answer any more" in capsys.readouterr().err, "with -q, too: the labels are others"


def test_nobody_at_the_port(cache):
    with chat_server(lambda request, number: Reply(["Sports"])) as server:
        pass
    with pytest.raises(ToremiError, match="no usable answer for any of 6 topics"):
        ask(server, cache)


def test_a_slow_server_runs_into_the_timeout(cache):
    asked_enough = threading.Event()

    def behave(request, number):
        if "word0x" in user_text(request):
            asked_enough.wait(60)
        return Reply(["Sports"])

    with chat_server(behave) as server:
        answers = ask(server, cache, KEYWORDS[:3], timeout_seconds=2.0, attempts=2)
        asked_enough.set()
    assert labels_of(answers) == [None, ["Sports"], ["Sports"]]


def test_a_server_that_dies_half_way_loses_nothing_and_the_rerun_pays_for_the_rest_only(cache):
    with chat_server(lambda request, number: Reply(["Sports"]) if number < 3 else Reply(hang_up=True)) as server:
        first = labels_of(ask(server, cache, concurrency=1))
    assert first == [["Sports"]] * 3 + [None] * 3
    with chat_server(lambda request, number: Reply(["Law"])) as server:
        again = labels_of(ask(server, AnswerCache(cache.path)))
    assert again == [["Sports"]] * 3 + [["Law"]] * 3
    assert len(server.requests) == 3


def test_a_cache_cut_short_is_read_as_far_as_it_goes(cache):
    with chat_server(lambda request, number: Reply(["Sports"])) as server:
        ask(server, cache)
        cache.path.write_bytes(cache.path.read_bytes()[:-20])
        ask(server, AnswerCache(cache.path))
        assert len(server.requests) == 7
        ask(server, AnswerCache(cache.path))
        assert len(server.requests) == 7


def test_a_server_that_knows_no_json_schema(cache):
    def behave(request, number):
        return Reply(status=400) if "response_format" in request else Reply(text='```json\n["Sports"]\n```')

    def behave_plain(request, number):
        return Reply(status=400) if "response_format" in request else Reply(["Sports"])

    with chat_server(behave_plain) as server:
        assert labels_of(ask(server, cache, KEYWORDS[:2], concurrency=1)) == [["Sports"]] * 2
    assert len(server.requests) == 3
    with chat_server(behave) as server:
        assert labels_of(ask(server, cache, [["other"]], concurrency=1)) == [["Sports"]]


def refusing(refusals, served):
    """A server that refuses options by name, as OpenAI's do; and all threads' first requests at the same moment."""
    together = threading.Barrier(3)

    def behave(request, number):
        if number < 3:
            together.wait(20)
        refused = next((name for name in refusals if name in request), None)
        return served if refused is None else Reply(status=400, message=refusals[refused])

    return behave


OPTIONS = {"response_format", "seed", "temperature", "max_tokens"}


@pytest.mark.parametrize(
    ("refusals", "sent"),
    [
        ({"temperature": "'temperature' does not support 0.0 with this model"}, OPTIONS - {"temperature"}),
        (
            {
                "max_tokens": "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
                "temperature": "Unsupported value: 'temperature'",
            },
            {"response_format", "seed", "max_completion_tokens"},
        ),
        ({"response_format": "This response_format type is unavailable now"}, OPTIONS - {"response_format"}),
        ({"seed": "Bad request."}, OPTIONS - {"seed"}),
        ({"seed": "Bad request.", "max_tokens": "Bad request."}, set()),
    ],
)
def test_only_what_is_refused_is_left_out_in_every_thread(cache, refusals, sent):
    with chat_server(refusing(refusals, Reply(["Sports"]))) as server:
        assert labels_of(ask(server, cache, KEYWORDS[:4], concurrency=3)) == [["Sports"]] * 4
    assert server.requests[-1].keys() - {"model", "messages"} == sent
    assert server.requests[-1].get("max_completion_tokens", 2000) == 2000


def test_a_prompt_that_is_refused_whatever_its_options_changes_no_other(cache):
    def behave(request, number):
        return Reply(status=400, message="blocked") if "word0x" in user_text(request) else Reply(["Sports"])

    with chat_server(behave) as server:
        assert labels_of(ask(server, cache, KEYWORDS[:3], concurrency=1)) == [None, ["Sports"], ["Sports"]]
    assert server.requests[-1].keys() >= OPTIONS


def test_thoughts_that_took_all_tokens_get_more_of_them_once(cache):
    def behave(request, number):
        if request["max_tokens"] == 2000:
            return Reply(text="", finish="length", thoughts="Well, [Law] may")
        return Reply(["Sports"], thoughts='It is not {"labels": ["Law"]}')

    with chat_server(behave) as server:
        assert labels_of(ask(server, cache, KEYWORDS[:1])) == [["Sports"]]
    assert [request["max_tokens"] for request in server.requests] == [2000, 8000]
    with (
        chat_server(lambda request, number: Reply(text="<think> hm", finish="length")) as server,
        pytest.raises(ToremiError, match="no usable answer"),
    ):
        ask(server, AnswerCache(cache.path.with_name("other")), KEYWORDS[:1])
    assert len(server.requests) == 4, "two exchanges, each with more tokens once"


def test_an_answer_that_a_server_takes_for_thoughts(cache):
    reply = Reply(text="", thoughts='Sports fits: {"labels": ["Sports"]}')
    with chat_server(lambda request, number: reply) as server:
        assert labels_of(ask(server, cache, KEYWORDS[:1])) == [["Sports"]]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_the_users_to_put_right(cache, status):
    with (
        chat_server(lambda request, number: Reply(status=status)) as server,
        pytest.raises(ToremiError, match=rf"refuses model 'm' \(HTTP {status}.*TOREMI_LLM_KEY"),
    ):
        ask(server, cache, concurrency=1)
    assert len(server.requests) == 1


def test_topics_without_words_are_not_asked_about(cache):
    with chat_server(lambda request, number: Reply(["Sports"])) as server:
        assert labels_of(ask(server, cache, [[], ["goal"]])) == [None, ["Sports"]]
    assert len(server.requests) == 1


def test_costs_are_told_beforehand(cache):
    taxonomy = load_taxonomy("wikipedia41")
    with chat_server(lambda request, number: Reply(["Sports"])) as server:
        config = LlmConfig(server.url, "m")
        before = estimate_cost([*KEYWORDS, []], taxonomy, config, 3, cache)
        assert not server.requests
        ask(server, cache, KEYWORDS[:4])
    assert (before.num_topics, before.num_cached, before.num_calls) == (7, 0, 6)
    assert 100 < before.prompt_tokens / 6 < 400
    after = estimate_cost([*KEYWORDS, []], taxonomy, config, 3, cache)
    assert (after.num_cached, after.num_calls) == (4, 2)


@pytest.mark.parametrize(
    ("text", "labels", "complaint"),
    [
        ('{"labels": ["Sports", "Law", "Time", "Life"]}', ["Sports", "Law", "Time"], ""),
        ('{"labels": "Sports"}', ["Sports"], ""),
        ('<think>{"labels": 3}</think>{"labels": ["food-and-drink"]}', ["Food_and_drink"], ""),
        ('Is it {"labels": ["Law"]}? No.</think>\n{"labels": ["Sports"]}', ["Sports"], ""),
        ('{"labels": ["Sports"]} as in [1]', ["Sports"], ""),
        ('{"labels": []}', [], "no list"),
        ('{"labels": [3, null]}', [], "Not on the list: 3, None"),
        ('{"label": "Sports"}', [], "no list"),
        ("", [], "not JSON"),
    ],
)
def test_reading_answers(text, labels, complaint):
    found, said = read_answer(text, load_taxonomy("wikipedia41"), 3)
    assert found == labels
    assert (complaint in said) if complaint else said == ""


def test_settings_out_of_range():
    with pytest.raises(UsageError, match="--llm-url localhost:1"):
        LlmConfig("localhost:1", "m")
    with pytest.raises(UsageError, match="at least 1"):
        LlmConfig("http://localhost:1", "m", attempts=0)
