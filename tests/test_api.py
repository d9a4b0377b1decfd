import json

import pytest

from tests.realtext import news_articles
from tests.train.smallrun import MODEL
from toremi_cli.api import annotate, evaluate, pretrain
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.errors import UsageError
from toremi_cli.evaluate.config import EvalConfig
from toremi_cli.schemas import ANNOTATED, EVAL, WEIGHTS
from toremi_cli.tables import TableReader
from toremi_cli.topics.config import ClusterConfig, EmbedConfig
from toremi_cli.train.config import TrainConfig


def test_stages_from_python(tmp_path):
    corpus, work = tmp_path / "corpus.jsonl", tmp_path / "work"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in news_articles()[:120]))
    table = annotate(
        corpus.as_posix(),
        work,
        samples=CorpusConfig(vocab_size=500),
        vectors=EmbedConfig(dim=20),
        clusters=ClusterConfig(method="kmeans", num_topics=4),
        workers=1,
    )
    rows = TableReader(table, ANNOTATED).read()
    assert rows.num_rows >= 120
    (tmp_path / "model.json").write_text(json.dumps(MODEL))
    settings = TrainConfig(
        workdir=str(work), model=str(tmp_path / "model.json"), context_length=32, batch_size=4, max_steps=4,
        interval=2, gpus=0, quiet=True,
    )  # fmt: skip
    run = pretrain(settings)
    assert run == work / "runs" / "toremi"
    assert set(TableReader(run / "weights", WEIGHTS).read()["step"].to_pylist()) >= {2, 4}
    (found,) = evaluate(EvalConfig(runs=("toremi",)), work)
    assert found.parent == run and TableReader(found, EVAL).read().num_rows > 0


def test_settings_that_cannot_work_raise(tmp_path):
    with pytest.raises(UsageError, match="--batch-size and --batch-tokens: give one of the two"):
        pretrain(TrainConfig(workdir=str(tmp_path), batch_size=4, batch_tokens=64))
    with pytest.raises(UsageError, match="neither a run in"):
        evaluate(EvalConfig(runs=("nothing",)), tmp_path)
