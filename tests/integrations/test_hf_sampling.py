import json

import numpy as np
import pytest
import torch

from tests import forks
from tests.forks import HF_TRAINER
from tests.integrations.equal_rows import (
    BATCH,
    INTERVAL,
    STEPS,
    hf_trainer,
    packed_settings,
    settings,
    write_equal_workdir,
)
from tests.integrations.hf_run import TOPICS, model, rows, trainer
from tests.shell import environment
from tests.train.smallrun import weights
from toremi_cli.integrations.hf_trainer import ReweightingTrainer, StreamedRows, TopicReweighting, read_rows
from toremi_cli.reweight import PolicyConfig, make_policy
from toremi_cli.reweight.policies.uniform import Uniform
from toremi_cli.train.worker import run_worker


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_equal_workdir(tmp_path_factory.mktemp("equal") / "work")


POLICIES = ["toremi", "toremi-2", "odm"]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_batches_come_to_the_weights_of_pretrain(workdir, tmp_path, policy):
    assert run_worker(settings(workdir, policy), resume=False)["exit_code"] == 0
    run = hf_trainer(workdir, policy, tmp_path)
    run.train()
    check_same(workdir / "runs" / policy, run)
    known = run.reweighting.policy.data
    for costs in (workdir / "tokens").glob("*/costs-labels.npy"):  # only `toremi` has them counted
        assert np.load(costs).tolist() == [known.ngram_loss, known.unigram_loss]


@pytest.mark.parametrize("policy", POLICIES)
def test_packed_rows_come_to_the_weights_of_pretrain(workdir, tmp_path, policy):
    config = packed_settings(workdir, policy)
    assert run_worker(config, resume=False)["exit_code"] == 0
    run = hf_trainer(workdir, policy, tmp_path, kind="packed")
    run.train()
    check_same(workdir / "runs" / config.run_name, run)


def check_same(folder, run):
    ours = [row for row in weights(folder) if row["step"] > 0]
    theirs = run.reweighting.history
    assert len(theirs) == len(ours) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert (a["step"], a["topic"], a["stage"]) == (b["step"], b["topic"], b["stage"])
        assert b["num_samples"] == a["num_samples"]
        for key in ("weight", "loss", "token_loss", "shuffled_loss", "word_gain", "num_words"):
            # A gain is a difference of sums in float32; a topic that wasn't drawn has none.
            least = 2e-5 if key == "word_gain" else 1e-12
            assert b[key] == (None if a[key] is None else pytest.approx(a[key], rel=1e-4, abs=least))
    assert len({row["weight"] for row in theirs}) >= 3


@pytest.mark.parametrize("policy", ["toremi", "odm"])
def test_streams_are_drawn_as_the_same_rows_are(workdir, tmp_path, policy):
    whole = hf_trainer(workdir, policy, tmp_path / "whole", kind="with topics")
    run = hf_trainer(workdir, policy, tmp_path / "streamed", kind="streamed")
    for each in (whole, run):
        each.train()
    for a, b in zip(run.reweighting.history, whole.reweighting.history, strict=True):
        assert (a["step"], a["topic"], a["num_samples"]) == (b["step"], b["topic"], b["num_samples"])
        assert [a[key] for key in ("weight", "num_tokens")] == pytest.approx(
            [b[key] for key in ("weight", "num_tokens")]
        )
    assert sum(run.reweighting.sampling.draws.counts) == STEPS * BATCH
    for a, b in zip(run.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.allclose(a, b)


@pytest.mark.parametrize("kind", ["rows", "streamed"])
def test_two_ranks_draw_and_weigh_as_one(workdir, tmp_path, kind):
    module = "tests.integrations.equal_rows"
    launch = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", module]
    command = ["-m", *launch, workdir, "odm", tmp_path / "two", "3", "1", kind]
    process = forks.run([*map(str, command)], None, environment(), 500, *HF_TRAINER)
    result = [line for line in process.stdout.splitlines() if line.startswith("RESULT ")]
    assert process.returncode == 0 and len(result) == 1, process.stderr[-3000:]
    both = json.loads(result[0].removeprefix("RESULT "))
    alone = hf_trainer(workdir, "odm", tmp_path / "one", batch=3, accumulation=2, kind=kind)
    alone.train()
    for a, b in zip(alone.reweighting.history, both, strict=True):
        assert b["num_samples"] == a["num_samples"]
        assert b["weight"] == pytest.approx(a["weight"], rel=1e-4)


@pytest.mark.parametrize("kind", ["rows", "streamed"])
def test_draws_go_on_where_the_checkpoint_left_them(workdir, tmp_path, kind):
    saving = {"save_strategy": "steps", "save_steps": 7}  # within an interval
    whole = hf_trainer(workdir, "odm", tmp_path / "whole", kind=kind, **saving)
    whole.train()
    resumed = hf_trainer(workdir, "odm", tmp_path / "again", kind=kind, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-7"))
    assert resumed.reweighting.history == whole.reweighting.history
    order = (run.reweighting.sampling.draws.state_dict() for run in (whole, resumed))
    assert next(order) == next(order)
    for a, b in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_packed_rows_are_drawn_by_their_main_topic():
    tokens = list(range(20))
    packed = {"input_ids": tokens, "labels": tokens}
    data = [
        {**packed, "token_topic_ids": [0] * 12 + [1] * 8},
        {**packed, "token_topic_ids": [1] * 15 + [-1] * 5},
        {**packed, "token_topic_ids": [0] * 20, "segment_ids": [0] * 9 + [1] * 11},
    ]
    found = read_rows(data, ["a", "b"])
    assert found.is_soft and found.rows.topic.tolist() == [0, 1, 1, 0]
    assert found.rows.prob.tolist() == pytest.approx([11 / 19, 8 / 19, 1, 1])
    assert found.lengths.tolist() == [11, 8, 14, 5, 8, 11]
    assert found.policy_data().sizes == pytest.approx([3, 2])
    reweighting = TopicReweighting(
        make_policy(PolicyConfig(name="stratified"), ["a", "b"], found.policy_data()), rows=found
    )
    strata = reweighting.sampling.adaptive.strata.stratum_of
    assert strata[0] == strata[2] != strata[1]


def test_shares_of_the_draws_follow_the_policy(tmp_path):
    data = rows()
    found = read_rows(data, TOPICS)
    policy = make_policy(PolicyConfig(name="stratified", max_repeats=None), TOPICS, found.policy_data())
    run = trainer(tmp_path, data)
    run = ReweightingTrainer(
        model=model(), args=run.args, train_dataset=data, reweighting=TopicReweighting(policy, INTERVAL, rows=found)
    )
    run.train()
    order = run.reweighting.sampling.draws
    assert order.index == 9 * 4 * 2
    assert np.abs(order.counts - order.index * order.shares).max() < 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"labels": [1, 2], "topic_ids": [4]}, r"row 1: topic id 4; expected -1 \(none\) to 3"),
        ({"labels": [1, 2], "topic_ids": [-2]}, "row 1: topic id -2"),
        ({"labels": [1, 2]}, "row 1: has neither 'topic_ids' nor 'token_topic_ids'"),
        ({"labels": [1, 2], "topic_ids": [1], "topic_probs": [0.5, 0.5]}, "row 1: 'topic_ids' is"),
        ({"labels": [1, 2], "token_topic_ids": [1]}, "row 1: 1 'token_topic_ids' for 2 labels"),
    ],
)
def test_rows_that_cannot_be_used_are_named(row, message):
    with pytest.raises(ValueError, match=message):
        read_rows([{"labels": [1, 2], "topic_ids": [0]}, row], TOPICS)
    with pytest.raises(ValueError, match="no rows with text"):
        read_rows([], TOPICS)


def test_what_a_trainer_cannot_serve_is_said_before_it_trains(tmp_path):
    found = read_rows(rows(8), TOPICS)
    policy = make_policy(PolicyConfig(name="odm"), TOPICS, found.policy_data())
    with pytest.raises(ValueError, match=r"draws the rows: give their topics, rows=read_rows\(dataset, topics\)"):
        TopicReweighting(policy)
    with pytest.raises(ValueError, match="the rows are of 1 other topics"):
        TopicReweighting(policy, rows=read_rows([{"labels": [1], "topic_ids": [0]}], ["x"]))
    arguments, reweighting = trainer(tmp_path).args, TopicReweighting(policy, rows=found)
    for data, workers, message in ((rows(9), 0, "isn't the data set of 8 rows"), (rows(8), 1, "workers read ahead")):
        arguments.dataloader_num_workers = workers
        with pytest.raises(ValueError, match=message):
            ReweightingTrainer(model=model(), args=arguments, train_dataset=data, reweighting=reweighting)
    wrong = [{**row, "topic_ids": [9, -1]} for row in rows(80)]
    with pytest.raises(ValueError, match=r"'topic_ids' of a batch has 9; expected -1 \(none\) to 3"):
        trainer(tmp_path, wrong).train()
    without = trainer(tmp_path, [{key: row[key] for key in ("input_ids", "labels")} for row in rows(80)])
    with pytest.raises(ValueError, match="the batch has neither 'topic_ids'"):
        without.train()
    assert without.state.global_step == 0


class Sensitive(Uniform):
    name = "sensitive"
    needs = frozenset({"sensitivity"})


def test_what_a_policy_needs_and_streams_of_others_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"needs sensitivity: .*, which a Trainer doesn't measure"):
        TopicReweighting(Sensitive(PolicyConfig(), TOPICS))
    with pytest.raises(ValueError, match="topics are a, c; expected those of the streams, a, b"):
        StreamedRows({"a": list, "b": list}, [1, 1], topics=["a", "c"])
    opened = {topic: lambda: iter(rows(8)) for topic in TOPICS}
    streams, others = StreamedRows(opened, [1, 2, 3, 4]), StreamedRows(opened, [1, 2, 3, 4])
    assert streams.policy_data().sizes == [1, 2, 3, 4]
    policy = make_policy(PolicyConfig(name="stratified"), TOPICS, streams.policy_data())
    arguments, reweighting = trainer(tmp_path).args, TopicReweighting(policy, rows=streams)
    with pytest.raises(ValueError, match="isn't the StreamedRows given as rows"):
        ReweightingTrainer(model=model(), args=arguments, train_dataset=others, reweighting=reweighting)
    with pytest.raises(ValueError, match="drew from a data set of rows, not from streams"):
        reweighting.sampling.load_state_dict({"rows": "x", "draws": {}})
