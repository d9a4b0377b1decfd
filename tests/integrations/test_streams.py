import json

import numpy as np
import pytest

from tests import forks
from tests.shell import environment
from toremi_cli.integrations.streams import TopicStreams

SIZES = {"a": 7, "b": 30, "c": 3}


def node(**place):
    streams = {topic: lambda t=topic, n=size: ((t, i) for i in range(n)) for topic, size in SIZES.items()}
    return TopicStreams(streams, list(SIZES.values()), seed=5, **place)


def take(made, count):
    return [next(made) for _ in range(count)]


def test_shares_follow_weights_and_streams_begin_anew():
    made = node()
    made.set_weights([4.0, 0.5, 1.0])
    found = take(made, 460)
    wanted = np.array([28, 15, 3]) / 46
    assert np.abs(made.draws.counts - 460 * wanted).max() < 3
    for topic, size in SIZES.items():
        own = [sample for name, sample in found if name == topic]
        assert own == [(topic, i % size) for i in range(len(own))]


def test_a_state_goes_on_the_same_and_ranks_share_the_draws():
    whole = node()
    first = take(whole, 50)
    whole.set_weights([1.0, 2.0, 0.1])
    state = json.loads(json.dumps(whole.state_dict()))
    rest = take(whole, 60)
    again = node()
    again.load_state_dict(state)
    assert take(again, 60) == rest
    ranks = [node(rank=rank, world_size=2) for rank in range(2)]
    assert [take(ranks[i % 2], 1)[0] for i in range(50)] == first
    with pytest.raises(ValueError, match="the state is of topics x, not a, b, c"):
        again.load_state_dict({**state, "topics": ["x"]})


def test_sizes_that_are_missing_and_empty_streams_are_named():
    with pytest.raises(ValueError, match=r"natural is \[1.0\]; expected a number above 0 for each of 3 topics"):
        TopicStreams(dict.fromkeys("abc", list), [1.0])
    with pytest.raises(ValueError, match="the stream of topic 'a' has no samples"):
        next(TopicStreams({"a": list}, [1.0]))


def test_the_plain_loop_goes_on_from_its_state(tmp_path):
    def run(*arguments):
        command, env = ["-m", "plain_loop", *map(str, arguments)], environment(PYTHONPATH="examples")
        process = forks.run(command, None, env, 500, "torch")
        assert process.returncode == 0, process.stderr[-2000:]
        return process.stdout

    whole = run("--steps", "30")
    state = tmp_path / "state.pt"
    assert run("--steps", "15", "--state", state) != whole
    assert run("--steps", "30", "--state", state) == whole
    drawn = {line.split()[0]: float(line.split()[1]) for line in whole.splitlines()}
    assert drawn["noise"] < min(weight for topic, weight in drawn.items() if topic != "noise")
