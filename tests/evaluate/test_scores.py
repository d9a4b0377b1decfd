import numpy as np

from toremi_cli.evaluate.bootstrap import bits_per_byte
from toremi_cli.evaluate.data import EvalSet
from toremi_cli.evaluate.results import by_document
from toremi_cli.evaluate.scores import TextScores, score_domains


def test_sources_that_are_called_like_an_average_take_nothing_from_it():
    sources = ["all", "macro", "micro", "topic:x", "source:macro", "web"]
    texts = EvalSet("test", "")
    for number, source in enumerate(sources):
        texts.add(str(number), str(number), source, "text", ["x"])
    scores = TextScores(np.arange(1.0, 7.0), np.ones(6, dtype=np.int64), np.full(6, 4))
    found = {score.domain: score.loss for score in score_domains(texts, scores)}
    assert len(found) == len(sources) + 3
    assert [found[f"source:{name}"] for name in sources[:-1]] == [1, 2, 3, 4, 5]
    assert (found["web"], found["macro"], found["micro"], found["topic:x"]) == (6, 3.5, 3.5, 3.5)
    assert bits_per_byte(by_document(texts, scores)).keys() == found.keys() - {"topic:x"}
