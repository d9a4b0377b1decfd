import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.reweight.reference import GOLDEN
from tests.shell import assert_one_line_error, call
from toremi_cli.commands.policies import policy_config
from toremi_cli.errors import TableError, UsageError
from toremi_cli.replay import replay_table
from toremi_cli.reweight import POLICIES, PolicyConfig
from toremi_cli.reweight.policies.uniform import Uniform

NAN = float("nan")
PAPER = ("--policy", "toremi-2")


def settings(*given):
    return [word for setting in given for word in ("--set", setting)]


def write(path, rows, **columns):
    """A table of losses; rows are (step, topic, loss, num_samples)."""
    step, topic, loss, num_samples = zip(*rows, strict=True)
    values = {
        "step": pa.array(step, pa.int64()),
        "topic": pa.array(topic, pa.string()),
        "loss": pa.array(loss, pa.float64(), from_pandas=False),
        "num_samples": pa.array(num_samples, pa.int64()),
    }
    pq.write_table(pa.table({**values, **columns}), path)
    return path


def weights_of(path):
    return {(r["step"], r["topic"]): r["weight"] for r in pq.read_table(path).to_pylist()}


@pytest.fixture
def losses(tmp_path):
    """Two topics at steps 100 and 200, a third from 200 on; rows in no order."""
    rows = [(200, "c", 4.0, 1), (100, "b", 2.0, 3), (200, "b", 2.0, 3), (100, "a", 6.0, 2), (200, "a", 6.0, 2)]
    return write(tmp_path / "losses.parquet", rows, extra=pa.array(range(5)))


def test_weights_by_hand(losses, tmp_path):
    out = tmp_path / "new" / "weights.parquet"
    process = call("replay", losses, "--policy", "toremi-2", "--set", "stage_switch=step:200", "--output", out)
    assert process.returncode == 0, process.stderr
    table = pq.read_table(out)
    assert table.schema.names == ["step", "tokens_seen", "stage", "topic", "weight", "loss", "num_samples"]
    assert [tuple(r.values()) for r in table.to_pylist()] == [
        (100, 0, 1, "a", 1.5, 6.0, 2),
        (100, 0, 1, "b", 1.0, 2.0, 3),
        (100, 0, 1, "c", 1.0, None, 0),
        (200, 0, 2, "a", 0.75, 6.0, 2),
        (200, 0, 2, "b", 1.5, 2.0, 3),
        (200, 0, 2, "c", 1.0, 4.0, 1),
    ]
    assert "step 200" in process.stdout
    assert "0.7500" in process.stdout
    record = json.loads(table.schema.metadata[b"toremi"])
    assert (record["table"], record["command"]) == ("weights", "toremi replay")
    assert record["config"]["stage_switch"] == "step:200"


def test_without_a_switch_all_is_stage_1(losses, tmp_path):
    out = tmp_path / "w.parquet"
    process = call("replay", losses, *PAPER, "--output", out, "--json", "--quiet")
    summary = json.loads(process.stdout)
    assert summary["stage"] == 1
    assert summary["weights"] == {"a": 2.25, "b": 1.0, "c": 1.0}
    assert set(pq.read_table(out)["stage"].to_pylist()) == {1}


def test_constants_and_rule_are_settings(losses, tmp_path):
    out = tmp_path / "w.parquet"
    call("replay", losses, "--output", out, *PAPER, *settings("alpha=0.25", "rule=additive", "w_max=1.6"))
    assert weights_of(out)[100, "a"] == 1.5
    assert weights_of(out)[200, "a"] == 1.6
    call("replay", losses, "--output", out, *PAPER, *settings("w_min=0.8", "stage_switch=step:0"))
    assert weights_of(out)[100, "a"] == 0.8
    call("replay", losses, "--output", out, "--policy", "uniform")
    assert set(weights_of(out).values()) == {1.0}


@pytest.mark.parametrize("name", ["group-dro", "odm", "ado", "random-weights", "shuffled-topics"])
def test_other_policies_that_need_only_losses(losses, tmp_path, name):
    out = tmp_path / "w.parquet"
    summary = replay_table(losses, out, PolicyConfig(name=name, burn_in_steps=0, of="toremi-2"))
    assert summary["num_steps"] == 2
    assert len(weights_of(out)) == 6


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("stratified", [], "--policy stratified: .*sizes"),
        ("frozen", [], "--policy frozen: .*weights of another run"),
        ("linupper", [], "weighs single samples"),
        ("toremi", [], "--policy toremi: .*num_tokens.* the table has no column 'num_tokens'"),
        ("group-dro", ["eta=-2"], "--set eta=-2: expected a number of at least 0"),
        ("group-dro", ["eta=x"], "--set eta=x: expected a number"),
        ("toremi-2", ["normalize=1"], "expected true or false"),
        ("nonsense", [], "--policy nonsense: expected one of uniform"),
    ],
)
def test_settings_that_cannot_work(losses, tmp_path, name, settings, message):
    with pytest.raises(UsageError, match=message):
        replay_table(losses, tmp_path / "w.parquet", policy_config(name, settings))


class BySensitivity(Uniform):
    """A policy that follows a column of its own."""

    name, static, needs = "by-sensitivity", False, frozenset({"sensitivity"})

    def _updated(self, losses, stats, stage):
        return torch.where(stats.seen, stats.sensitivity, self.weights)


def test_measures_are_read_from_the_table_and_asked_for(losses, tmp_path, monkeypatch):
    monkeypatch.setitem(POLICIES, BySensitivity.name, BySensitivity)
    config, out = PolicyConfig(name=BySensitivity.name), tmp_path / "w.parquet"
    with pytest.raises(UsageError, match=r"needs sensitivity: .*the table has no column 'sensitivity'"):
        replay_table(losses, out, config)
    assert not out.exists()
    table = pq.read_table(losses)
    pq.write_table(table.append_column("sensitivity", pa.array([9.0, 0.2, 0.3, 0.4, 0.5])), losses)
    replay_table(losses, out, config)
    assert list(weights_of(out).values()) == [0.4, 0.2, 1.0, 0.5, 0.3, 9.0]
    with pytest.raises(UsageError, match="needs loss_per_byte: the bytes of each sample; the table has no column"):
        replay_table(losses, out, policy_config("toremi-1", ["loss_unit=byte"]))


def test_weights_that_never_move_are_said(losses, tmp_path, capsys):
    replay_table(losses, tmp_path / "w.parquet", policy_config("group-dro", ["eta=0", "smoothing=0"]))
    assert "no weight moved in 2 intervals of" in capsys.readouterr().err
    replay_table(losses, tmp_path / "w.parquet", policy_config("uniform"))
    assert capsys.readouterr().err == ""


def test_its_own_output_is_an_input_too(losses, tmp_path):
    first, second = tmp_path / "run" / "part-00000.parquet", tmp_path / "again.parquet"
    call("replay", losses, *PAPER, "--output", first)
    process = call("replay", tmp_path / "run", *PAPER, "--output", second)
    assert process.returncode == 0, process.stderr
    assert weights_of(first) == weights_of(second)
    staged = tmp_path / "staged.parquet"
    call("replay", losses, *PAPER, "--set", "stage_switch=fraction:0.75", "--output", staged)
    process = call("replay", staged, *PAPER, "--output", second)
    assert "stage 2 from step 200 on; --set stage_switch=step:200" in process.stderr
    assert weights_of(first) == weights_of(second)


def test_tokens_seen_are_handed_on(tmp_path):
    source = write(tmp_path / "l.parquet", [(1, "a", 2.0, 1), (2, "a", 2.0, 1)], tokens_seen=pa.array([512, 1024]))
    call("replay", source, *PAPER, "--output", tmp_path / "w.parquet")
    assert pq.read_table(tmp_path / "w.parquet")["tokens_seen"].to_pylist() == [512, 1024]


def test_null_loss_and_no_samples_mean_unseen(tmp_path):
    rows = [(1, "a", 6.0, 1), (1, "b", 2.0, 1), (1, "c", None, 7), (1, "d", 50.0, 0), (1, "e", NAN, 0)]
    source = write(tmp_path / "l.parquet", rows)
    process = call("replay", source, *PAPER, "-o", tmp_path / "w.parquet", "--set", "stage_switch=step:1")
    assert process.returncode == 0, process.stderr
    assert list(weights_of(tmp_path / "w.parquet").values()) == [0.5, 1.5, 1.0, 1.0, 1.0]


def test_a_topic_unseen_for_an_interval_keeps_what_was_measured_of_it(tmp_path):
    """By the policy `toremi`, whose counts of tokens add up: of what isn't seen they are 0, not unknown."""
    steps, topics = range(1, 9), ["noise", "text", "more", "other"]
    rows = [(step, topic, 3.0, 5) for step in steps for topic in topics]
    found = {}
    for kind, unseen in (("all seen", None), ("one unseen", (2, "text"))):
        seen = [(step, topic, None if (step, topic) == unseen else loss, n) for step, topic, loss, n in rows]
        mask = [(step, topic) == unseen for step, topic, *_ in rows]
        measured = {
            name: pa.array(
                [None if gone else value(row[1]) for row, gone in zip(rows, mask, strict=True)], pa.float64()
            )
            for name, value in {
                "token_loss": lambda topic: 3.0,
                "shuffled_loss": lambda topic: 3.01 if topic == "noise" else 6.0,
                "word_gain": lambda topic: 0.01 if topic == "noise" else 3.0,
                "num_tokens": lambda topic: 640.0,
                "num_words": lambda topic: 400.0,
            }.items()
        }
        source = write(tmp_path / f"{kind}.parquet", seen, **measured)
        process = call("replay", source, "--policy", "toremi", "-o", tmp_path / f"{kind}-w.parquet")
        assert process.returncode == 0, process.stderr
        found[kind] = weights_of(tmp_path / f"{kind}-w.parquet")
    assert found["all seen"][8, "noise"] < 0.1 < 1 < found["all seen"][8, "text"]
    assert found["one unseen"] == pytest.approx(found["all seen"], rel=0.05)


@pytest.mark.parametrize("name", ["toremi-1-multiplicative", "toremi-2-multiplicative", "toremi-2-additive"])
def test_golden_trajectory(name, tmp_path):
    case = json.loads((GOLDEN / f"{name}.json").read_text())
    rows = [(row["step"], topic, loss, 1) for row in case["losses"] for topic, loss in row["loss"].items()]
    np.random.default_rng(0).shuffle(rows)
    source = write(tmp_path / "l.parquet", [(int(s), str(t), float(x), int(n)) for s, t, x, n in rows])
    config = PolicyConfig(name=case["policy"], stage_switch=f"step:{case['switch_step']}", **case["options"])
    replay_table(source, tmp_path / "w.parquet", config)
    found = weights_of(tmp_path / "w.parquet")
    for row in case["course"]:
        for topic, weight in row["weights"].items():
            assert found[row["step"], topic] == pytest.approx(weight, rel=1e-13)


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([(1, "a", 2.0, 1), (3, "b", NAN, 1)], ["row 1", "step 3", "'b'", "nan"]),
        ([(1, "a", float("inf"), 1)], ["row 0", "inf"]),
        ([(1, "a", -2.0, 1)], ["row 0", "-2.0", "negative"]),
        ([(1, "a", 2.0, -1)], ["row 0", "num_samples is -1"]),
        ([(1, "a", 2.0, 1), (1, "b", 2.0, 1), (1, "a", 3.0, 1)], ["row 2", "step 1", "'a'", "row 0"]),
        ([(1, "a", 2.0, 1), (None, "b", 2.0, 1)], ["row 1", "step is null"]),
    ],
)
def test_bad_rows(rows, parts, tmp_path):
    source = write(tmp_path / "l.parquet", rows)
    with pytest.raises(TableError) as problem:
        replay_table(source, tmp_path / "w.parquet", PolicyConfig(name="toremi-2"))
    for part in ["l.parquet", *parts]:
        assert part in str(problem.value)
    assert not (tmp_path / "w.parquet").exists()


def test_an_error_is_one_line(tmp_path):
    source = write(tmp_path / "l.parquet", [(1, "a", 2.0, 1), (3, "b", NAN, 1)])
    assert_one_line_error(
        call("replay", source, *PAPER, "--output", tmp_path / "w.parquet"), "row 1", "step 3", "'b'", "nan"
    )


def test_bad_tables(tmp_path, losses):
    def assert_refused(path, message):
        with pytest.raises(TableError, match=message):
            replay_table(path, tmp_path / "w.parquet", PolicyConfig(name="toremi-2"))

    path = tmp_path / "bad.parquet"
    good = pq.read_table(losses)
    pq.write_table(good.drop_columns(["loss"]), path)
    assert_refused(path, r"without loss \(found")
    pq.write_table(good.set_column(2, "loss", pa.array(list("abcde"))), path)
    assert_refused(path, "column 'loss' has type string, expected double")
    pq.write_table(good.slice(0, 0), path)
    assert_refused(path, "has no rows")
    path.write_bytes(losses.read_bytes()[:300])
    assert_refused(path, "not a whole Parquet file")
    assert_refused(tmp_path / "none", "no such file")


def test_bad_flags(losses, tmp_path):
    out = tmp_path / "w.parquet"
    for flags, *parts in (
        ((*PAPER, "--set", "w_min=2"), "--set w_min=2: expected a number from 0 to 1"),
        ((*PAPER, "--set", "rule=x"), "--set rule=x: expected one of multiplicative, additive"),
        (("--policy", "x"), "--policy x", "toremi-2"),
        (("-p", "group-dro", "--set", "x=1"), "--set x: policy group-dro reads eta"),
    ):
        assert_one_line_error(call("replay", losses, "-o", out, *flags), *parts)
    assert_one_line_error(call("replay", losses, "--output", losses), "would overwrite")
    assert pq.read_table(losses).num_rows == 5
