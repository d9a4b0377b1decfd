import json
import math
import shutil
from subprocess import CompletedProcess

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from tests.evaluate.workdirs import CONTEXT, SOURCES, make_annotated, make_checkpoint, make_run, make_tokenizer
from tests.evaluate.workdirs import make_workdir as build_workdir
from tests.realtext import news_articles
from tests.shell import assert_one_line_error, toremi
from toremi_cli.cli import app
from toremi_cli.lm.bf16 import warn_of_slow_bf16
from toremi_cli.schemas import EVAL


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return build_workdir(tmp_path_factory.mktemp("eval"))


@pytest.fixture
def own_workdir(workdir, tmp_path):
    """A copy that a test may break."""
    return shutil.copytree(workdir, tmp_path / "w")


def toremi_eval(*arguments):
    """The command within this process: importing torch anew for each call would take most of the time."""
    result = CliRunner().invoke(app, ["eval", *map(str, arguments)])
    return CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def run_json(*arguments):
    process = toremi_eval(*arguments, "--json")
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout), process.stderr


def expected_scores(checkpoint, split):
    """Nats, tokens and bytes by source, one forward pass a token window, by transformers' own tokenizer."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    sums = {source: [0.0, 0, 0] for source in SOURCES}
    for number, text in enumerate(news_articles()[:45]):
        if ("train", "validation", "test")[number // 3 % 3] != split:
            continue
        ids = [tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False).input_ids]
        entry = sums[SOURCES[number % 3]]
        for start in range(0, len(ids) - 1, CONTEXT):
            window = torch.tensor(ids[start : start + CONTEXT + 1])
            with torch.no_grad():
                logits = model(window[None, :-1]).logits[0].double()
            entry[0] += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
        entry[1] += len(ids) - 1
        entry[2] += len(text.encode())
    return sums


@pytest.mark.parametrize("split", ["test", "validation"])
def test_numbers_equal_those_computed_by_hand(own_workdir, split):
    result, _ = run_json("plain", "-w", own_workdir, "--split", split)
    found = {row["domain"]: row for row in result["results"]}
    sums = expected_scores(own_workdir / "runs" / "plain" / "checkpoint-20", split)
    for source, (nats, tokens, num_bytes) in sums.items():
        row = found[source]
        assert (row["num_tokens"], row["num_bytes"], row["step"]) == (tokens, num_bytes, 20)
        assert row["loss"] == pytest.approx(nats / tokens, rel=1e-5)
        assert row["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)
        assert row["bits_per_byte"] == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)
    nats, tokens, num_bytes = (sum(entry[i] for entry in sums.values()) for i in range(3))
    assert found["micro"]["loss"] == pytest.approx(nats / tokens, rel=1e-5)
    macro = sum(entry[0] / entry[1] for entry in sums.values()) / 3
    assert found["macro"]["loss"] == pytest.approx(macro, rel=1e-5)
    assert found["macro"]["perplexity"] == pytest.approx(math.exp(macro), rel=1e-4)
    # 'radio' carries two labels, 'wire' none
    assert found["topic:Sports"]["loss"] == found["topic:People"]["loss"] == pytest.approx(found["radio"]["loss"])
    assert {d for d in found if d.startswith("topic:")} == {"topic:Politics", "topic:Sports", "topic:People"}


def test_two_runs_side_by_side_fit_80_columns(own_workdir):
    process = toremi("eval", "-w", own_workdir)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    header = next(line for line in lines if line.startswith("bits per byte"))
    assert header.split()[-2:] == ["plain", "topics"]
    for name in (*SOURCES, "macro", "micro", "Sports"):
        row = next(line for line in lines if line.startswith(name))
        assert row.count("*") == 1, "the best value is marked"


def test_rows_are_kept_and_replaced(own_workdir):
    file = own_workdir / "runs" / "plain" / "eval.parquet"
    run_json("plain", "-w", own_workdir, "--checkpoint", "all")
    first = pq.read_table(file)
    assert set(first.column_names) == {*EVAL.column_names, "conditions"}
    assert set(first["checkpoint"].to_pylist()) == {"checkpoint-10", "checkpoint-20"}
    assert set(first["suite"].to_pylist()) == {"test"}
    run_json("plain", "-w", own_workdir, "--split", "validation", "--checkpoint", "10", "--topics", "fine")
    run_json("plain", "-w", own_workdir, "--checkpoint", "20")
    rows = pq.read_table(file).to_pylist()
    keys = [(r["checkpoint"], r["suite"], r["domain"], r["metric"]) for r in rows]
    assert len(keys) == len(set(keys))
    assert {k[:2] for k in keys} == {
        ("checkpoint-10", "test"),
        ("checkpoint-20", "test"),
        ("checkpoint-10", "validation"),
    }
    assert ("checkpoint-10", "validation", "topic:a", "perplexity") in keys
    inspected = toremi("inspect", file)
    assert inspected.returncode == 0 and "toremi eval plain" in inspected.stdout


def test_any_corpus_by_data_and_a_bare_model_folder(own_workdir, tmp_path):
    corpus = tmp_path / "mine"
    (corpus / "short").mkdir(parents=True)
    (corpus / "short" / "a.txt").write_text("A few words.\n")
    with (corpus / "long.jsonl").open("w") as file:
        for text in news_articles()[100:110]:
            file.write(json.dumps({"text": text}) + "\n")
    model = own_workdir / "runs" / "plain" / "checkpoint-20"
    result, _ = run_json("plain", model, "-w", own_workdir, "--data", corpus)
    by_run = {(r["run"], r["domain"]): r["loss"] for r in result["results"]}
    assert {d for _, d in by_run} == {"short", "long", "macro", "micro"}
    assert by_run["plain", "long"] == by_run["checkpoint-20", "long"]
    assert not (model / "eval.parquet").exists()
    assert result["suite"] == "mine"


def test_windows_are_those_of_the_training(own_workdir):
    """A run that left the row length to the trainer: it stands in the schedule, and the model may hold more."""
    path = own_workdir / "runs" / "plain" / "run.json"
    record = json.loads(path.read_text())
    record["config"]["context_length"] = 0
    record["schedule"] = {"context_length": CONTEXT // 2}
    path.write_text(json.dumps(record))
    as_trained, _ = run_json("plain", "-w", own_workdir)
    asked_for, _ = run_json("topics", "plain", "-w", own_workdir, "--context-length", str(CONTEXT // 2))
    losses = [r["loss"] for r in asked_for["results"] if r["run"] == "plain"]
    assert [r["loss"] for r in as_trained["results"]] == losses
    assert {r["context_length"] for r in as_trained["results"]} == {CONTEXT // 2}
    bare, _ = run_json(own_workdir / "runs" / "plain" / "checkpoint-20", "-w", own_workdir)
    assert {r["context_length"] for r in bare["results"]} == {CONTEXT}


def test_sliding_windows_see_more_context(own_workdir):
    disjoint, _ = run_json("plain", "-w", own_workdir)
    sliding, _ = run_json("plain", "-w", own_workdir, "--stride", "8")
    again, _ = run_json("plain", "-w", own_workdir, "--stride", str(CONTEXT), "--batch-tokens", "64")
    assert [r["num_tokens"] for r in disjoint["results"]] == [r["num_tokens"] for r in sliding["results"]]
    assert [r["loss"] for r in disjoint["results"]] != [r["loss"] for r in sliding["results"]]
    assert [r["num_tokens"] for r in again["results"]] == [r["num_tokens"] for r in disjoint["results"]]


def test_two_processes_that_share_the_text_measure_what_one_does(own_workdir):
    small = ("plain", "-w", own_workdir, "--stride", "8", "--batch-tokens", "100")
    one, _ = run_json(*small, "--device", "cpu")
    two, _ = run_json(*small, "--device", "cpu,cpu")
    for mine, plain in zip(two["results"], one["results"], strict=True):
        assert mine.pop("loss") == pytest.approx(plain.pop("loss"), rel=1e-6)
        assert mine["num_tokens"] == plain["num_tokens"] and mine["domain"] == plain["domain"]
    process = toremi_eval("plain", "-w", own_workdir, "--device", "cpu,cuda:7")
    assert_one_line_error(process, "--device cuda:7: no device of this machine")


def test_precision_is_recorded_unless_it_is_strict(own_workdir):
    strict, _ = run_json("plain", "-w", own_workdir, "--device", "cpu")
    warn_of_slow_bf16.cache_clear()
    short, told = run_json("plain", "-w", own_workdir, "--device", "cpu", "--precision", "bf16")
    assert ("cannot multiply bf16" in told) is not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    losses = [[row["loss"] for row in result["results"]] for result in (strict, short)]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=1e-2)
    rows = pq.read_table(own_workdir / "runs" / "plain" / "eval.parquet").to_pylist()
    assert {row["conditions"] for row in rows} == {"context length 32", "context length 32, precision bf16"}


def test_an_empty_held_out_domain_is_named(own_workdir):
    shutil.rmtree(own_workdir / "annotated")
    make_annotated(own_workdir, held_out_sources=("paper", "wire"))
    result, stderr = run_json("plain", "-w", own_workdir)
    assert "nothing held out of radio" in stderr
    assert "radio" not in {r["domain"] for r in result["results"]}


def test_tokenizers_that_differ(own_workdir):
    other = make_tokenizer(own_workdir / "other", vocab_size=300)
    checkpoint = own_workdir / "runs" / "topics" / "checkpoint-20"
    shutil.rmtree(checkpoint)
    make_checkpoint(checkpoint, 5, other)
    result, stderr = run_json("-w", own_workdir)
    assert result["perplexity_comparable"] is False
    assert "tokenizers differ: perplexities are not compared, bits per byte are" in stderr
    table = toremi_eval("-w", own_workdir).stdout
    bits, perplexity = table.split("perplexity", 1)
    assert "*" in bits and "*" not in perplexity.split("on 'test'")[0]


def test_a_tokenizer_missing_from_the_checkpoint_is_taken_from_the_workdir(own_workdir):
    before, _ = run_json("plain", "-w", own_workdir)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (own_workdir / "runs" / "plain" / "checkpoint-20" / name).unlink()
    assert run_json("plain", "-w", own_workdir)[0] == before


def test_runs_still_going(own_workdir):
    make_run(own_workdir, "young", 3, steps=(5,), finished=False)
    result, stderr = run_json("-w", own_workdir)
    assert {r["run"] for r in result["results"]} == {"plain", "topics"}
    assert "run young is not finished (last checkpoint: step 5): left out" in stderr
    result, stderr = run_json("young", "-w", own_workdir)
    assert {(r["run"], r["step"]) for r in result["results"]} == {("young", 5)}
    assert "a run cut short" in stderr
    make_run(own_workdir, "younger", 3, steps=(), finished=False)
    assert_one_line_error(toremi_eval("younger", "-w", own_workdir), "run younger: no checkpoint", "still going")


def test_half_checkpoints(own_workdir):
    last = own_workdir / "runs" / "plain" / "checkpoint-20"
    weights = last / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert_one_line_error(toremi_eval("plain", "-w", own_workdir, "--checkpoint", "20"), "is cut off or damaged")
    result, _ = run_json("plain", "-w", own_workdir)
    assert {r["step"] for r in result["results"]} == {10}, "the last whole one"
    result, stderr = run_json("plain", "-w", own_workdir, "--checkpoint", "all")
    assert {r["step"] for r in result["results"]} == {10}
    assert "checkpoint-20: left out (model.safetensors is cut off or damaged)" in stderr
    shutil.rmtree(last)
    make_checkpoint(last, 7, own_workdir / "tokenizer", shard="40KB")
    shards = sorted(last.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert run_json("plain", "-w", own_workdir)[0]["results"][0]["step"] == 20
    shards[1].unlink()
    process = toremi_eval("plain", "-w", own_workdir, "--checkpoint", "20")
    assert_one_line_error(process, f"{shards[1].name} is missing (shard 2 of {len(shards)})")


def test_wrong_arguments(own_workdir, tmp_path):
    def fails(*arguments, parts):
        assert_one_line_error(toremi_eval(*arguments, "-w", own_workdir), *parts)

    fails("nobody", parts=["run nobody: neither a run in", "there are plain, topics"])
    fails("plain", "--checkpoint", "15", parts=["no checkpoint-15", "there are 10, 20"])
    fails("plain", "--checkpoint", "best", parts=["--checkpoint best: expected last, all or a step"])
    fails("plain", "--split", "train", parts=["--split train: expected one of test, validation"])
    fails("plain", "--topics", "x", parts=["--topics x"])
    fails("plain", "--stride", "64", parts=["--stride 64: run plain reads 32 tokens at once"])
    fails("plain", "--precision", "fp8", parts=["--precision fp8: expected one of fp32, tf32, bf16"])
    fails("plain", "--precision", "tf32", "--device", "cpu", parts=["--precision tf32: GPUs alone have it; use fp32"])
    fails("plain", "--precision", "bf16", "--finetune", "rte", parts=["--finetune trains in fp32"])
    fails("plain", "--device", "cpu,cpu", "--tasks", "piqa", parts=["--tasks and --finetune use one device"])
    fails("plain", "--context-length", "64", parts=["reads at most 32 tokens"])
    fails("plain", "--data", str(tmp_path / "none"), parts=["none"])
    (own_workdir / "runs" / "plain" / "eval.parquet").write_bytes(b"PAR1")
    fails("plain", parts=["eval.parquet", "not a whole Parquet file"])
    shutil.rmtree(own_workdir / "annotated")
    fails("plain", parts=["annotated", "run `toremi annotate CORPUS` first"])
    shutil.rmtree(own_workdir / "runs")
    fails(parts=["no runs there", "toremi pretrain"])
