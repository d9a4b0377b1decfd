"""The data node under the loaders of others, as these are installed: saved within an epoch, the stream goes on."""

import json
import re
from functools import partial
from itertools import islice
from pathlib import Path

import grain
import pytest
from torch.utils.data import IterableDataset
from torchdata import nodes
from torchdata.stateful_dataloader import StatefulDataLoader

from toremi_cli.integrations.streams import TopicStreams

SIZES = {"a": 7, "b": 30, "c": 3}
WEIGHTS = [4.0, 0.5, 1.0]
PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"


class Counted(IterableDataset):
    """Numbers with the name of their topic, and a state of its own, as torchtitan's data sets have."""

    opened = 0

    def __init__(self, topic, size):
        self.topic, self.size, self.place = topic, size, 0

    def __iter__(self):
        Counted.opened += 1
        while self.place < self.size:
            self.place += 1
            yield f"{self.topic}{self.place}"
        self.place = 0

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


def mix(stream=Counted):
    return TopicStreams({topic: partial(stream, topic, size) for topic, size in SIZES.items()}, [*SIZES.values()], 5)


def plain(topic, size):
    return [f"{topic}{place + 1}" for place in range(size)]


def torchdata_loader(node):
    return StatefulDataLoader(node, batch_size=4, collate_fn=list)


def torchdata_graph(node):
    return nodes.Loader(nodes.Batcher(nodes.IterableWrapper(node), 4))


def torchtitan_loader(node):
    loading = pytest.importorskip("torchtitan.components.dataloader", reason="not among the packages of the tests")
    return loading.ParallelAwareDataloader(node, dp_rank=0, dp_world_size=1, batch_size=4, collate_fn=list)


@pytest.mark.parametrize("stream", [Counted, plain])
@pytest.mark.parametrize("loader_of", [torchdata_loader, torchdata_graph, torchtitan_loader])
def test_a_loader_saved_within_an_epoch_goes_on_the_same(loader_of, stream):
    node = mix(stream)
    loader = loader_of(node)
    batches = iter(loader)
    first = list(islice(batches, 3))
    node.set_weights(WEIGHTS)
    second = list(islice(batches, 3))
    state = loader.state_dict()
    rest = list(islice(batches, 20))
    again = loader_of(mix(stream))
    again.load_state_dict(state)
    assert list(islice(iter(again), 20)) == rest
    whole = mix(stream)
    expected = [next(whole) for _ in range(12)]
    whole.set_weights(WEIGHTS)
    expected += [next(whole) for _ in range(92)]
    assert [tuple(pair) for batch in first + second + rest for pair in batch] == expected


def test_a_stream_with_a_state_is_not_read_again():
    node = mix()
    drawn = [next(node) for _ in range(20)]
    state = json.loads(json.dumps(node.state_dict()))
    Counted.opened, again = 0, mix()
    again.load_state_dict(state)
    sources = {stream["source"]["place"] for stream in state["streams"].values()}
    assert max(sources) > 0 and sum(stream["reached"] for stream in state["streams"].values()) == len(drawn)
    assert [next(again) for _ in range(9)] == [next(node) for _ in range(9)]
    assert again.state_dict() == node.state_dict()


def test_grain_takes_the_node_as_the_page_says():
    (block,) = (b for b in re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S) if "grain" in b)
    names = {"node": mix()}
    exec(block, names)
    made = names["batches"]
    assert isinstance(made, grain.DatasetIterator)
    list(islice(made, 3))
    state = json.loads(json.dumps(made.get_state()))
    names = {"node": mix()}
    exec(block, names)
    names["batches"].set_state(state)
    assert list(islice(names["batches"], 20)) == list(islice(made, 20))


def test_workers_are_refused_in_one_line():
    with pytest.raises(ValueError, match="in a worker of a DataLoader: weights don't reach it; use num_workers=0"):
        next(iter(StatefulDataLoader(mix(), num_workers=1)))


def test_a_topic_is_repeated_no_more_than_it_may_be():
    made = TopicStreams(
        {topic: partial(plain, topic, size) for topic, size in SIZES.items()}, [7, 30, 3], max_repeats=2
    )
    made.set_weights([50.0, 1.0, 50.0], remaining=60)
    drawn = [next(made)[0] for _ in range(60)]
    assert {topic: drawn.count(topic) for topic in SIZES} == pytest.approx({"a": 14, "b": 40, "c": 6}, abs=1)
