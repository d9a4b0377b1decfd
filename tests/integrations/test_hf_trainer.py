import json
import re
from types import SimpleNamespace

import pytest
import torch
from examples.hf_trainer import gain, rows_of
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from tests import forks
from tests.forks import HF_TRAINER
from tests.integrations.hf_run import LENGTH, TOPICS, model, reweighting, rows, trainer
from tests.reweight.reference import trajectory
from tests.shell import environment
from tests.train.smallrun import write_workdir
from toremi_cli.integrations import hf_losses
from toremi_cli.integrations.hf_batch import batch_topics
from toremi_cli.integrations.hf_trainer import TopicReweighting, read_rows
from toremi_cli.reweight import (
    PolicyConfig,
    StageSwitch,
    TopicStatistics,
    context_sums,
    make_policy,
    other_tokens,
    sample_weights,
)
from toremi_cli.train.loss import sample_losses, segment_losses


def weights_of(history):
    return [row["weight"] for row in history]


def micro_batch(batch):
    """The rows of a batch as `toremi pretrain` holds them: segments with their predicted tokens."""
    count = torch.tensor([sum(label != -100 for label in row["labels"]) - 1.0 for row in batch])
    pairs = [(i, t) for i, row in enumerate(batch) for t in row["topic_ids"] if t >= 0]
    return SimpleNamespace(
        inputs=torch.tensor([row["input_ids"][:-1] for row in batch]),
        targets=torch.tensor([row["labels"][1:] for row in batch]),
        segment=torch.arange(len(batch)).repeat_interleave(LENGTH - 1),
        num_predicted=count,
        mass=torch.ones(len(batch)),
        pair_segment=torch.tensor([i for i, _ in pairs], dtype=torch.int64),
        pair_topic=torch.tensor([t for _, t in pairs], dtype=torch.int64),
        pair_prob=torch.ones(len(pairs)),
    )


def test_weights_and_parameters_equal_those_of_pretrain_and_of_the_pure_policy(tmp_path):
    run = trainer(tmp_path)
    run.train()
    other, ours = model(), reweighting()
    policy, statistics = ours.policy, TopicStatistics(len(TOPICS))
    weights, data, course = ours.policy.weights, rows(), []
    for step in range(1, 10):
        batch = micro_batch(data[8 * (step - 1) : 8 * step])
        logits = other(input_ids=batch.inputs).logits.flatten(0, 1)
        sums = segment_losses(cross_entropy(logits, batch.targets.flatten(), reduction="none"), batch)
        factors = sample_weights(weights, batch.pair_segment, batch.pair_topic, batch.pair_prob, 8).float()
        (torch.dot(factors, sample_losses(sums, batch)) / 8).backward()
        statistics.add(sample_losses(sums, batch), batch.mass, batch.pair_segment, batch.pair_topic, batch.pair_prob)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter -= 0.5 * parameter.grad
                parameter.grad = None
        if step % 3 == 0:
            stats = statistics.read(step)
            statistics.reset()
            seen = {t: x for t, x in zip(TOPICS, stats.loss.tolist(), strict=True) if x == x}
            course.append((step, seen))
            weights = policy.update(stats, 2 if step >= 6 else 1)
    pure = trajectory("toremi-2", course, 6, rule="multiplicative", alpha=3.0, w_min=0.1, w_max=5.0)
    history = run.reweighting.history
    for i, row in enumerate(history):
        assert row["step"] == pure[i // 4]["step"]
        assert row["stage"] == pure[i // 4]["stage"]
        assert row["weight"] == pytest.approx(pure[i // 4]["weights"].get(row["topic"], 1.0), rel=1e-4)
    assert weights_of(history)[-4:] == pytest.approx(weights.tolist(), rel=1e-4)
    assert len(set(weights_of(history))) > 4
    assert {row["num_samples"] for row in history if row["topic"] == "never"} == {0}
    for a, b in zip(run.model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "odm"}, "acts on sampling and draws the rows"),
        ({"name": "toremi-2", "loss_unit": "byte"}, "needs the bytes of each sample"),
    ],
)
def test_a_policy_that_a_trainer_cannot_serve_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TopicReweighting(make_policy(PolicyConfig(**settings), TOPICS))


def test_padding_changes_no_loss():
    # The released code of the paper divides a sample's sum by its padded length.
    ours = reweighting()
    token_loss = torch.tensor([2.0, 4.0, 0.0, 0.0, 3.0, 3.0, 3.0, 3.0])
    for width in (2, 4):
        labels = torch.tensor([[1, 1, 1, -100, -100], [1, 1, 1, 1, 1]])[:, : width + 1]
        batch = batch_topics({"labels": labels, "topic_ids": torch.tensor([[0], [1]])})
        ours.loss(token_loss.reshape(2, 4)[:, :width].flatten(), batch, 0)
        assert ours.statistics.read(0).loss[:2].tolist() == [3.0, 3.0]
        ours.statistics.reset()


def test_resume_goes_on_the_same(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 4}
    whole = trainer(tmp_path / "whole", arguments=saving)
    whole.train()
    trainer(tmp_path / "cut", arguments={**saving, "max_steps": 4}).train()
    resumed = trainer(tmp_path / "cut", arguments=saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-4"))
    assert resumed.reweighting.history == whole.reweighting.history
    # DeepSpeed loads the model by itself; this is all that is called besides.
    under_deepspeed = trainer(tmp_path / "cut", arguments=saving)
    under_deepspeed.create_optimizer_and_scheduler(9)
    under_deepspeed._load_optimizer_and_scheduler(str(tmp_path / "cut" / "checkpoint-4"))
    saved_weights = [row["weight"] for row in whole.reweighting.history if row["step"] == 3]
    assert under_deepspeed.reweighting.policy.weights.tolist() == saved_weights != [1.0] * 4
    for a, b in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)
    saved = tmp_path / "cut" / "checkpoint-4" / "toremi_reweighting.json"
    state = json.loads(saved.read_text())
    older = [row[:-1] for row in state["statistics"]]  # it counted less
    saved.write_text(json.dumps({**state, "statistics": older}))
    with pytest.raises(ValueError, match="another version of toremi"):
        trainer(tmp_path / "cut").train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-4"))
    saved.unlink()
    with pytest.raises(ValueError, match="ReweightingTrainer"):
        trainer(tmp_path / "cut").train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-4"))


def test_two_ranks_equal_one(tmp_path):
    def run(*command):
        process = forks.run(["-m", *map(str, command)], None, environment(), 120, *HF_TRAINER)
        result = [line for line in process.stdout.splitlines() if line.startswith("RESULT ")]
        assert process.returncode == 0 and len(result) == 1, process.stderr[-3000:]
        return json.loads(result[0].removeprefix("RESULT "))

    alone = run("tests.integrations.hf_run", tmp_path / "one", "4", "2")
    launch = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    both = run(*launch, "tests.integrations.hf_run", tmp_path / "two", "4", "1")
    assert weights_of(both["history"]) == pytest.approx(weights_of(alone["history"]), rel=1e-4)
    assert both["parameters"] == pytest.approx(alone["parameters"], rel=1e-4)


class Float32Sizes(TorchDispatchMode):
    """The most elements of a float32 tensor that any operation made."""

    largest = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        for tensor in made if isinstance(made, list | tuple) else [made]:
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32:
                self.largest = max(self.largest, tensor.numel())
        return made


def test_losses_are_those_of_the_whole_logits_though_few_are_float32_at_a_time(monkeypatch):
    monkeypatch.setattr(hf_losses, "CHUNK_LOGITS", 5 * 50)
    torch.manual_seed(0)
    logits = torch.randn(2, 17, 50, dtype=torch.bfloat16, requires_grad=True)
    labels = torch.randint(0, 50, (2, 17))
    labels[1, 12:] = -100
    batch = batch_topics({"labels": labels, "topic_ids": torch.tensor([[0], [1]])})
    factors = torch.randn(32)
    with Float32Sizes() as sizes:
        losses, context = hf_losses.token_losses(logits, labels, batch, torch.arange(50) % 3 == 0)
        (losses * factors).sum().backward()
    assert 0 < sizes.largest <= 5 * 50
    found, logits.grad = logits.grad, None
    log_probs = torch.log_softmax(logits[:, :-1].float(), -1).flatten(0, 1)
    targets, valid = labels[:, 1:].flatten().clamp_min(0), batch.valid
    plain = -log_probs.gather(1, targets.unsqueeze(1)).squeeze(1) * valid
    (plain * factors).sum().backward()
    assert torch.allclose(losses, plain) and torch.allclose(found, logits.grad)
    begins = targets % 3 == 0
    others = targets[other_tokens(torch.where(valid > 0, batch.segment, -1), 16, begins)]
    shuffled = -log_probs.gather(1, others) * valid.unsqueeze(1)
    assert torch.allclose(context, context_sums(plain, shuffled, batch.segment, 2, begins & (valid > 0)))
    assert context[2].sum() == (begins & (valid > 0)).sum() and not context.requires_grad


def test_topics_by_token_equal_topics_by_sample():
    by_sample = rows(8)
    labels = torch.tensor([[label for r in by_sample for label in r["labels"]]])
    one_topic = [max(r["topic_ids"][0], -1) for r in by_sample]
    topics = torch.tensor([[t for t in one_topic for _ in range(LENGTH)]])
    parts = torch.arange(8).repeat_interleave(LENGTH).unsqueeze(0)
    packed = batch_topics({"labels": labels, "token_topic_ids": topics, "segment_ids": parts})
    assert packed.num_samples.item() == 8
    found = {
        (int(n), int(t))
        for n, t, p in zip(packed.num_tokens, packed.pair_topic, packed.pair_prob, strict=True)
        if p > 0
    }
    # the first token of a row has nothing before it; that of a packed sample is predicted from the sample before
    lengths = [sum(x != -100 for x in r["labels"]) for r in by_sample]
    lengths[0] -= 1
    assert found == {(n, t) for n, t in zip(lengths, one_topic, strict=True) if t >= 0}
    merged = batch_topics({"labels": labels, "token_topic_ids": torch.zeros_like(topics)})
    assert merged.num_samples.item() == 1


def test_batches_without_topics_are_refused():
    labels = torch.zeros(2, 5, dtype=torch.int64)
    with pytest.raises(ValueError, match="neither 'topic_ids'"):
        batch_topics({"labels": labels})
    with pytest.raises(ValueError, match=r"'topic_ids' is \(3, 1\)"):
        batch_topics({"labels": labels, "topic_ids": torch.zeros(3, 1)})
    with pytest.raises(ValueError, match=r"'token_topic_ids' is \(2, 4\)"):
        batch_topics({"labels": labels, "token_topic_ids": torch.zeros(2, 4)})


def test_plateau_of_eval_loss_switches_the_stage(tmp_path):
    run = trainer(
        tmp_path,
        arguments={
            "eval_strategy": "steps",
            "eval_steps": 3,
        },
    )
    run.reweighting.switch = StageSwitch("plateau", threshold=0.9)
    run.train()
    stages = {row["step"]: row["stage"] for row in run.reweighting.history}
    assert stages == {3: 1, 6: 2, 9: 2}  # the second evaluation can tell


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(rows())


def test_a_stream_trains_as_the_same_rows_do(tmp_path):
    whole, streamed = trainer(tmp_path / "whole"), trainer(tmp_path / "streamed")
    streamed.train_dataset = Stream()
    for run in (whole, streamed):
        run.train()
    assert streamed.reweighting.history == whole.reweighting.history


def test_the_example_trains_what_is_annotated_and_says_what_it_gained(tmp_path):
    place = write_workdir(tmp_path / "work")
    arguments = ["--policy", "toremi", "--steps", "24", "--length", "32", "--workdir", place, "--out", tmp_path / "out"]
    process = forks.run(["-m", "examples.hf_trainer", *map(str, arguments)], None, environment(), 500, *HF_TRAINER)
    assert process.returncode == 0, process.stderr[-2000:]
    uniform, toremi, last = process.stdout.splitlines()[-3:]
    ends = [float(re.fullmatch(name + r" +(\S+) bits per byte, 2 sources", line)[1])
            for name, line in (("uniform", uniform), ("toremi", toremi))]  # fmt: skip
    if ends[1] < ends[0]:
        assert re.fullmatch(r"toremi is where uniform ends after \d+ of 24 steps: \d+% saved", last)
    assert max(ends) < 6  # of 8: both have learnt something


def test_what_the_example_says_of_a_gain():
    uniform = {10: 3.0, 20: 2.5, 40: 2.0}
    assert gain("x", {10: 3.0, 20: 2.2, 40: 1.8}, uniform) == "x is where uniform ends after 30 of 40 steps: 25% saved"
    assert gain("x", {10: 3.0, 20: 2.2, 40: 2.125}, uniform) == (
        "x has not come to the end of uniform: it is 0.125 bits per byte worse"
    )


def test_its_rows_are_packed_of_one_topic():
    class Tokenizer:
        eos_token_id = 0

        def __call__(self, text):
            return {"input_ids": [int(c) for c in text]}

    samples = [{"text": "123", "topic": 1}, {"text": "45", "topic": 0}, {"text": "67", "topic": 1}]
    first, second, third = rows_of(samples, Tokenizer(), 4)
    assert first["input_ids"] == [1, 2, 3, 0] and first["token_topic_ids"] == [1] * 4
    assert second["labels"] == [6, 7, 0, -100] and second["segment_ids"] == [1, 1, 1, -1]
    assert third["input_ids"] == [4, 5, 0, 0] and third["token_topic_ids"] == [0] * 4
    known = read_rows([first, second, third], ["a", "b"], 0)
    assert known.rows.topic.tolist() == [1, 1, 0] and known.tokens.tolist() == [2, 3, 7, 5]


def test_it_measures_what_worth_is_made_of(tmp_path):
    """S by hand, from the model as it was: the loss of each label's partner under the same prediction."""
    run = trainer(tmp_path, batch=8, accumulation=1, arguments={"max_steps": 3})
    run.reweighting.interval = 1
    run.train()
    batch = micro_batch(rows()[:8])
    log_probs = torch.log_softmax(model()(input_ids=batch.inputs).logits.flatten(0, 1).detach(), dim=-1)
    targets = batch.targets.flatten()
    valid = targets != -100
    all_begin = torch.ones_like(valid)
    others = targets.clamp_min(0)[other_tokens(torch.where(valid, batch.segment, -1), LENGTH - 1, all_begin)]
    shuffled = -log_probs.gather(1, others)[:, 0]
    found = {row["topic"]: row["shuffled_loss"] for row in run.reweighting.history if row["step"] == 1}
    for index, topic in enumerate(TOPICS[:3]):
        samples = batch.pair_segment[batch.pair_topic == index]
        own = torch.isin(batch.segment, samples) & valid
        assert found[topic] == pytest.approx(float(shuffled[own].mean()), rel=1e-4)
