"""Every policy in a run: micro-steps and ranks don't matter, and what sampling draws is what the weights ask for."""

from __future__ import annotations

import json
import math
import shutil
import socket
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from tests import shell
from tests.train.both_ranks import config, in_order
from tests.train.smallrun import assert_alike, metrics, weights, write_workdir
from toremi_cli.errors import UsageError
from toremi_cli.export.weights import write_weights
from toremi_cli.files import write_json
from toremi_cli.layout import Workdir
from toremi_cli.provenance import provenance_of
from toremi_cli.reweight import POLICIES
from toremi_cli.runs.history import read_history
from toremi_cli.runs.run import Run
from toremi_cli.schemas import ANNOTATED
from toremi_cli.tables import MANIFEST, TableReader, shard_name, write_table
from toremi_cli.train.config import TrainConfig, differences
from toremi_cli.train.index_folder import open_index
from toremi_cli.train.order import shuffled_order
from toremi_cli.train.packing import RowStream
from toremi_cli.train.policy import _reference_losses
from toremi_cli.train.tokens import open_cache
from toremi_cli.train.tracking import topic_curves
from toremi_cli.train.worker import run_worker


@pytest.fixture(scope="session")
def train(workdir):
    """Train in this process; return the run's folder."""

    def run(name, policy, **settings):
        small = {"context_length": 32, "batch_size": 6, "max_steps": 16, "interval": 4, "log_every": 4}
        small |= {"eval_samples": 3, "learning_rate": 0.01, "model": str(workdir / "model.json"), "quiet": True}
        small |= {"topics": "labels", "loss_average": "sample"}
        config = TrainConfig(**{**small, "workdir": str(workdir), "name": name, "policy": policy, **settings})
        assert run_worker(config, resume=False)["exit_code"] == 0
        return workdir / "runs" / name

    return run


@pytest.fixture(scope="module")
def both_ranks(workdir):
    """Every policy on two ranks with accumulation; what each of them printed."""
    processes = [start_rank(workdir, rank, PORTS) for rank in (0, 1)]
    outputs = [process.communicate() for process in processes]
    assert all(process.returncode == 0 for process in processes), outputs
    return [out for out, _ in outputs]


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [str(found.getsockname()[1]) for found in sockets]


PORTS = free_ports(len(POLICIES) + 3)


def start_rank(workdir, rank, ports):
    ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    return shell.start(workdir, *ports, module="tests.train.both_ranks", **ranks)


@pytest.fixture(scope="module")
def one_rank(workdir):
    """The same on one, without accumulation."""
    for name in in_order():
        run_worker(config(workdir, name, "one"), resume=False)


@pytest.mark.parametrize("name", POLICIES)
def test_two_ranks_with_accumulation_equal_one(workdir, both_ranks, one_rank, name):
    alone, shared = (workdir / "runs" / f"{prefix}-{name}" for prefix in ("one", "both"))
    assert len(weights(alone)) == 4 * 3
    assert_alike(alone, shared)


def test_the_policies_did_something(workdir, one_rank):
    still = {"uniform", "linupper"}
    for name in set(POLICIES) - still:
        assert any(row["weight"] != pytest.approx(1) for row in weights(workdir / "runs" / f"one-{name}")), name


def test_ranks_whose_weights_differ_stop(both_ranks):
    assert all("REFUSED step 4: the ranks' topic weights differ" in output for output in both_ranks)
    assert all("REFUSED the ranks have different settings" in output for output in both_ranks)


def test_ranks_whose_cpus_round_otherwise_train_with_the_same_weights_and_shares(both_ranks):
    first, second = (next(s for s in out.splitlines() if s.startswith("IN FORCE")) for out in both_ranks)
    assert first == second and len(json.loads(first.removeprefix("IN FORCE"))) == 9


def test_sampling_resumes_exactly(train):
    settings = {"policy": {"name": "toremi"}, "topics": "fine", "checkpoint_every": 6, "keep_checkpoints": None}
    whole = train("sampling-whole", **settings)
    part = train("sampling-part", **settings)
    for checkpoint in ("checkpoint-12", "checkpoint-16"):
        shutil.rmtree(part / checkpoint)  # as if killed after step 6
    config = TrainConfig.from_json(json.loads((part / "run.json").read_text())["config"])
    run_worker(config, resume=True)
    assert weights(part) == weights(whole)
    assert metrics(part) == metrics(whole)
    a, b = (load_file(run / "checkpoint-16" / "model.safetensors") for run in (part, whole))
    assert all(a[name].equal(b[name]) for name in a)


def test_held_out_losses_resume_exactly(train):
    """The evaluation comes before the checkpoint, the update that uses it after: the losses go through the file."""
    references = str(train("targets", {"name": "random-weights"}) / "weights")
    settings = {"reference_losses": references, "interval": 8, "eval_every": 5, "checkpoint_every": 6}
    whole = train("shearing-whole", {"name": "shearing"}, keep_checkpoints=None, **settings)
    part = train("shearing-part", {"name": "shearing"}, keep_checkpoints=None, **settings)
    for checkpoint in ("checkpoint-12", "checkpoint-16"):
        shutil.rmtree(part / checkpoint)  # as if killed after step 6
    config = TrainConfig.from_json(json.loads((part / "run.json").read_text())["config"])
    run_worker(config, resume=True)
    assert weights(part) == weights(whole)


def test_without_evaluations_training_losses_stand_in_for_held_out_ones(train):
    references = str(train("targets-of-none", {"name": "random-weights"}) / "weights")
    run = train("shearing-unseeing", {"name": "shearing"}, reference_losses=references, eval_samples=0)
    assert len({row["weight"] for row in weights(run)}) > 3, "the weights move"


def test_sensitivity_is_measured(train):
    run = train("by-sensitivity", {"name": "uniform"}, sensitivity=True, topics="fine")
    for name in ("sensitivity", "loss_per_byte"):
        values = [row["value"] for row in metrics(run, name)]
        assert values
        assert all(math.isfinite(v) and v > 0 for v in values)


def test_sensitivity_does_not_depend_on_the_weights(train):
    settings = {"sensitivity": True, "topics": "fine", "max_steps": 4, "learning_rate": 1e-9}
    plain = train("plain", {"name": "uniform"}, **settings)
    weighted = train("weighted", {"name": "random-weights"}, **settings, micro_batch=3)
    by_token = train("by-token", {"name": "uniform"}, **settings, loss_average="token")
    assert metrics(plain, "sensitivity")
    for other in (weighted, by_token):
        for a, b in zip(metrics(other, "sensitivity"), metrics(plain, "sensitivity"), strict=True):
            assert a["value"] == pytest.approx(b["value"], rel=1e-3)


def test_masked_documents_train_and_are_part_of_the_settings(train, workdir):
    run = train("masked", {"name": "toremi-2"}, mask_documents=True)
    open_run = train("open", {"name": "toremi-2"})
    losses = [[r["value"] for r in metrics(r, "train_loss")] for r in (run, open_run)]
    assert losses[0] != losses[1]
    record = json.loads((run / "run.json").read_text())["config"]
    assert differences(record, TrainConfig.from_json({**record, "mask_documents": False})) == [
        "mask_documents was True, is False"
    ]


def test_the_switch_of_stages_is_recorded_with_its_reason(train):
    run = train("switched", {"name": "toremi-2", "stage_switch": "step:7"}, topics="fine")
    found = json.loads((run / "run.json").read_text())["stage_switch"]
    assert found == {"step": 8, "reason": "step 7 was asked for"}
    assert [r["stage"] for r in weights(run) if r["topic"] == "ball"] == [1, 2, 2, 2]
    never = train("not-switched", {"name": "toremi-1", "stage_switch": "step:7"}, topics="fine")
    assert "stage_switch" not in json.loads((never / "run.json").read_text())


def test_repetition_is_told(train, capfd):
    train("again-and-again", {"name": "uniform"}, max_steps=40, quiet=False)
    assert "every sample has been seen; they come again" in capfd.readouterr().err
    train("used-up", {"name": "stratified", "max_repeats": 1.0}, topics="fine", max_steps=40, quiet=False)
    told = capfd.readouterr().err
    assert "epochs are more than max_repeats=1 allows" in " ".join(told.split())
    assert "as often as max_repeats allows" in " ".join(told.split())


def test_stratified_sampling_evens_the_topics(train):
    run = train("even", {"name": "stratified", "sampling_floor": 0.0, "max_repeats": None}, topics="fine", max_steps=24)
    repeats = metrics(run, "repeats")
    assert {row["domain"] for row in repeats} == {"ball", "vote", "court"}
    losses = weights(run)
    seen = {t: sum(r["num_samples"] for r in losses if r["topic"] == t) for t in ("ball", "vote", "court")}
    assert max(seen.values()) < 1.5 * min(seen.values())


@pytest.mark.parametrize("average", ["sample", "token"])
def test_normalized_weights_have_mean_1_over_what_the_loss_averages_over(train, workdir, average):
    policy = {"name": "random-weights", "apply": "loss", "normalize": True}
    run = train(f"normalized-by-{average}", policy, loss_average=average, interval=16)
    scale = json.loads((run / "checkpoint-16" / "trainer_state.json").read_text())["loss_scale"]
    cache = open_cache(workdir, workdir / "annotated", workdir / "tokenizer")
    predicted, pairs = cache.length.astype(np.int64) + 1, open_index(cache, "labels").pairs
    of = {row["topic"]: row["weight"] for row in weights(run)}
    assert len(set(of.values())) > 1
    order = shuffled_order(open_index(cache, "labels").samples, cache.length, cache.order_key, 0)
    rows = RowStream(order, 32).next_rows(16 * 6)
    total = weighted = 0.0
    for sample, length in zip(rows.sample.tolist(), rows.length.tolist(), strict=True):
        topics = pairs.topic[pairs.indptr[sample] : pairs.indptr[sample + 1]]
        mean = np.mean([of[pairs.names[topic]] for topic in topics]) if len(topics) else 1.0
        counts = length if average == "token" else length / predicted[sample]
        total, weighted = total + counts, weighted + counts * mean
    assert scale == pytest.approx(total / weighted, rel=1e-6)
    (row,) = metrics(run, "weight_mean")
    assert row["value"] == pytest.approx(weighted / total, rel=1e-6)


@pytest.mark.parametrize("policy", ["uniform", "stratified"])
def test_text_written_anew_comes_in_the_same_order(train, workdir, tmp_path, policy):
    again = write_workdir(tmp_path)
    rows = TableReader(again / "annotated", ANNOTATED).read().to_pylist()
    provenance = provenance_of(ANNOTATED, "toremi annotate", {}, {"samples": "of files with other times"})
    shutil.rmtree(again / "annotated")
    write_table(again / "annotated" / shard_name(0), ANNOTATED, rows, provenance)
    write_json(again / "annotated" / MANIFEST, {"fingerprint": provenance.fingerprint, "num_shards": 1})
    losses, data = [], []
    for root in (workdir, again):
        train(f"in-order-{policy}", {"name": policy}, max_steps=4, workdir=str(root))
        run = root / "runs" / f"in-order-{policy}"
        losses.append([row["value"] for row in metrics(run, "train_loss")])
        data.append(json.loads((run / "run.json").read_text())["data"])
    assert data[0] != data[1]
    assert losses[0] and losses[0] == losses[1]


def test_runs_of_all_seeds_are_evaluated_on_the_same_text(train):
    settings = {"init_from": str(train("start", {"name": "uniform"}) / "checkpoint-16"), "learning_rate": 1e-12}
    found = []
    for seed in (0, 5):
        run = train(f"seed-{seed}", {"name": "uniform"}, seed=seed, max_steps=4, **settings)
        found.append([row["value"] for row in metrics(run, "eval_loss")])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_sample_counts_once_however_rows_cut_it(train, workdir):
    run = train("cut", {"name": "uniform"}, topics="fine", context_length=8, interval=2)
    cache = open_cache(workdir, workdir / "annotated", workdir / "tokenizer")
    index = open_index(cache, "fine")
    pairs = index.pairs
    stream = RowStream(shuffled_order(index.samples, cache.length, cache.order_key, 0), 8)
    expected, segments = [], 0
    for step in range(2, 18, 2):
        rows = stream.next_rows(2 * 6)
        seen = {name: set() for name in pairs.names}
        for sample, start in zip(rows.sample.tolist(), rows.start.tolist(), strict=True):
            for topic in pairs.topic[pairs.indptr[sample] : pairs.indptr[sample + 1]]:
                seen[pairs.names[topic]].add((sample, start))
        for name, parts in seen.items():
            begun = sum(start == 0 for _, start in parts)
            expected.append((step, name, max(begun, 1) if parts else 0))
            segments += len(parts)
    found = [(row["step"], row["topic"], row["num_samples"]) for row in weights(run)]
    assert found == expected
    assert sum(count for *_, count in found) < 0.7 * segments


def test_frozen_replays_another_run(train):
    first = train("first", {"name": "toremi-2"}, topics="source")
    again = train("again", {"name": "frozen"}, topics="source", weights_from=str(first / "weights"))
    assert [r["weight"] for r in weights(again)] == [r["weight"] for r in weights(first)]


def test_given_weights_are_normalized_from_the_first_step_on(train, tmp_path):
    pq.write_table(pa.table({"topic": ["web", "wire"], "weight": [3.0, 3.0]}), tmp_path / "w.parquet")
    given = {"topics": "source", "weights_from": str(tmp_path / "w.parquet"), "log_every": 1}
    found = metrics(train("normalized", {"name": "frozen", "normalize": True}, **given))
    value = {(row["step"], row["name"]): row["value"] for row in found if row["domain"] == "all"}
    assert value[1, "objective"] == pytest.approx(value[1, "train_loss"], rel=0.1)


def test_a_topic_that_shall_not_be_drawn_is_not_missed(train, tmp_path):
    pq.write_table(pa.table({"topic": ["web", "wire"], "weight": [0.0, 1.0]}), tmp_path / "w.parquet")
    policy = {"name": "frozen", "apply": "sampling", "sampling_floor": 0.0}
    run = train("without", policy, topics="source", weights_from=str(tmp_path / "w.parquet"), checkpoint_every=16)
    assert {row["num_samples"] for row in weights(run) if row["topic"] == "web"} == {0}
    state = json.loads((run / "checkpoint-16" / "trainer_state.json").read_text())
    assert state["unseen_intervals"] == [0, 0]


def test_reference_losses_are_those_of_the_last_tenth(tmp_path, capsys):
    rows = [(80, "a", 9.0, 5), (80, "b", 5.0, 5), (90, "a", 8.0, 5), (95, "a", 3.0, 1), (100, "a", 1.0, 3)]
    rows += [(100, "b", None, 0), (100, "never met", None, 0)]
    table = pa.table(dict(zip(("step", "topic", "loss", "num_samples"), zip(*rows, strict=True), strict=True)))
    pq.write_table(table, tmp_path / "losses.parquet")
    assert _reference_losses(str(tmp_path / "losses.parquet"), "token", ["a", "b"]) == [1.5, 5.0]
    # The mean of the last tenth: 1.5 of a.
    assert _reference_losses(str(tmp_path / "losses.parquet"), "token", ["never met", "b"]) == [1.5, 5.0]
    assert "never met never met" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(ValueError, match="has no topic 'c'"):
        _reference_losses(str(tmp_path / "losses.parquet"), "token", ["a", "c"])


def test_a_mixture_found_by_one_run_trains_another(train, workdir):
    """DoReMi whole: a reference, a proxy by excess loss, and a run that draws by the proxy's mean weights."""
    topics = {"topics": "source"}
    reference = train("reference", {"name": "uniform"}, **topics)
    proxy = train("proxy", {"name": "group-dro"}, reference_losses=str(reference / "weights"), **topics)
    history = read_history(Run("proxy", proxy))
    mean = write_weights(history, "mean", workdir / "mean.parquet", Workdir(workdir))["topics"]
    policy = {"name": "frozen", "apply": "sampling"}
    final = train("final", policy, weights_from=str(workdir / "mean.parquet"), **topics)
    assert {row["topic"]: row["weight"] for row in weights(final)} == pytest.approx(mean)
    assert len(set(mean.values())) > 1


@pytest.mark.parametrize("policy", ["group-dro", "shearing"])
def test_reference_losses_a_token_are_not_compared_with_losses_a_byte(train, policy):
    references = str(train(f"references-for-{policy}", {"name": "uniform"}) / "weights")
    with pytest.raises(
        UsageError, match="are nats a token, not comparable with losses by byte; use --set loss_unit=tok"
    ):
        train(f"{policy}-by-byte", {"name": policy, "loss_unit": "byte"}, reference_losses=references)


def test_metrics_reach_tensorboard(train):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train("tracked", {"name": "toremi-2"}, log_with="tensorboard")
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    logged = [(event.step, event.value) for event in events.Scalars("train_loss/all")]
    assert logged == [(r["step"], pytest.approx(r["value"], rel=1e-5)) for r in metrics(run, "train_loss")]
    assert {"mfu/all", "eval_loss/wire", "eval_loss/web"} <= set(events.Tags()["scalars"])
    for name, column in (("topic_weight", "weight"), ("topic_loss", "loss")):
        logged = [(event.step, event.value) for event in events.Scalars(f"{name}/Law")]
        rows = [row for row in weights(run) if row["topic"] == "Law" and row[column] is not None]
        assert logged == [(row["step"], pytest.approx(row[column], rel=1e-5)) for row in rows] and rows


def test_the_largest_topics_are_tracked():
    natural, losses = torch.arange(30.0), torch.ones(30)
    losses[29] = torch.nan  # was not seen
    curves = topic_curves([f"t{i}" for i in range(30)], natural, loss=losses)
    assert list(curves) == [f"loss/t{i}" for i in range(28, 9, -1)]
