"""Fine-tuning on a task that real text makes: does a sentence come from a news article or from Python's own code?"""

import inspect
import json
import pathlib
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.evaluate.workdirs import CONTEXT, make_checkpoint, make_run, make_tokenizer
from tests.realtext import news_articles
from tests.shell import toremi
from toremi_cli.errors import CorpusError, TrainingError, UsageError
from toremi_cli.evaluate.config import EvalConfig
from toremi_cli.evaluate.finetune.data import parse_glue, read_glue
from toremi_cli.evaluate.finetune.encode import encode_examples, shares_of
from toremi_cli.evaluate.finetune.glue import GLUE, Example
from toremi_cli.evaluate.finetune.of_runs import evaluate_glue
from toremi_cli.evaluate.finetune.train import Encoded, FinetuneSettings, finetune
from toremi_cli.evaluate.models import load
from toremi_cli.evaluate.results import read_rows
from toremi_cli.layout import Workdir
from toremi_cli.runs.checkpoints import Checkpoint
from toremi_cli.runs.run import Run

FAST = FinetuneSettings(learning_rate=3e-3, epochs=4, batch_size=16, max_length=24)


def sentences(count):
    """Pieces of news (0) and of code (1), in turn."""
    news = [" ".join(article.split()[10:30]) for article in news_articles()]
    lines = inspect.getsource(pathlib).split("\n") + inspect.getsource(inspect).split("\n")
    code = [" ".join(lines[i : i + 3]) for i in range(0, len(lines), 3)]
    code = [text for text in code if len(text.split()) > 5]
    return [(news[i // 2] if i % 2 == 0 else code[i // 2], i % 2) for i in range(count)]


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    root = tmp_path_factory.mktemp("glue")
    make_tokenizer(root / "tokenizer")
    make_run(root, "plain", 1, steps=(10,))
    rows = [{"sentence": text, "label": label} for text, label in sentences(320)]
    write_rows(root / "data" / "glue__sst2__train.jsonl", rows[:200])
    write_rows(root / "data" / "glue__sst2__validation.jsonl", rows[200:])
    # Are two pieces of one kind? Their similarity, as STS-B has it: 5 or 0.
    pairs = list(zip(rows[::2], random.Random(0).sample(rows, 160), strict=True))
    table = pa.Table.from_pylist(
        [
            {"sentence1": a["sentence"], "sentence2": b["sentence"], "label": 5.0 * (a["label"] == b["label"])}
            for a, b in pairs
        ]
    )
    (root / "data" / "stsb").mkdir()
    pq.write_table(table.slice(0, 100), root / "data" / "stsb" / "train-00000-of-00001.parquet")
    pq.write_table(table.slice(100), root / "data" / "stsb" / "validation-00000-of-00001.parquet")
    return root


def tuned(workdir, settings=FAST, **values):
    config = EvalConfig(runs=("plain",), task_data=str(workdir / "data"), **values)
    return evaluate_glue(config, settings, Workdir(workdir))


def test_what_can_be_learnt_is_learnt_and_kept_with_its_error(workdir):
    scores = tuned(workdir, finetune="sst2").scores[0][2]
    (score,) = scores
    assert (score.task, score.metric, score.num_items) == ("sst2", "accuracy", 120)
    assert score.value > 0.9
    assert score.stderr == pytest.approx(np.sqrt(score.value * (1 - score.value) / 120), rel=0.15, abs=1e-3)
    (row,) = [r for r in read_rows(Run("plain", workdir / "runs" / "plain")) if r["domain"] == "sst2"]
    assert (row["suite"], row["checkpoint"], row["value"], row["num_samples"]) == (
        "glue",
        "checkpoint-10",
        score.value,
        120,
    )


def test_a_rate_of_nothing_learns_nothing(workdir):
    """The head is what tells the classes apart, and it starts at random: no label leaks into the predictions."""
    (score,) = tuned(workdir, FinetuneSettings(1e-12, 1, 64, 24), finetune="sst2").scores[0][2]
    assert 0.2 < score.value < 0.8


def test_the_rate_falls_linearly_to_zero_within_the_fine_tuning(workdir, monkeypatch):
    rates = []
    step = torch.optim.AdamW.step

    def noted(self, *arguments, **named):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    rows = Encoded([[0, 5, 6], [0, 7], [0, 8]], np.array([0.5, -0.5, 0.0]))
    finetune(
        workdir / "runs" / "plain" / "checkpoint-10", rows, [], num_labels=1, pad_id=0,
        settings=FinetuneSettings(1e-3, 2, 2, 24), seed=0, device=torch.device("cpu"),
    )  # fmt: skip
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3]), "two epochs of two steps"


def test_a_number_is_predicted_for_stsb_from_parquet(workdir):
    scores = tuned(workdir, finetune="stsb", limit=50).scores[0][2]
    assert [s.metric for s in scores] == ["pearson", "spearman"]
    assert all(-1 <= s.value <= 1 and s.stderr > 0 and s.num_items == 50 for s in scores)


def test_the_same_seed_gives_the_same_predictions_whatever_ran_before(workdir):
    checkpoint = Checkpoint("checkpoint-10", workdir / "runs" / "plain" / "checkpoint-10", 10)
    encoder = load(Run("plain", checkpoint.folder), checkpoint, Workdir(workdir)).encoder
    examples = [Example((text,), label) for text, label in sentences(60)]
    rows = Encoded(encode_examples(encoder, examples, 24), np.array([e.label for e in examples], dtype=float))

    def predictions(seed):
        (found,) = finetune(
            checkpoint.folder, rows, [rows], num_labels=1, pad_id=encoder.eos_id, settings=FAST, seed=seed,
            device=torch.device("cpu"),
        )  # fmt: skip
        return found

    state = torch.random.get_rng_state()
    first = predictions(0)
    assert torch.equal(state, torch.random.get_rng_state()), "the global random stream is left alone"
    torch.rand(7)
    assert np.array_equal(first, predictions(0))
    assert not np.allclose(first, predictions(1))


def test_predictions_do_not_depend_on_the_padding(workdir):
    """Squared errors are minimised by the mean of each kind; a batch of one and of many reads the same last token."""
    checkpoint = workdir / "runs" / "plain" / "checkpoint-10"
    rows = Encoded([[0, 5], [0, 5, 6, 7, 8, 9], [0, 7, 7]], np.zeros(3))
    settings = [FinetuneSettings(1e-12, 1, batch, 24) for batch in (1, 3)]
    found = [
        finetune(checkpoint, rows, [rows], num_labels=1, pad_id=0, settings=s, seed=0, device=torch.device("cpu"))[0]
        for s in settings
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert len(set(found[0].round(6))) == 3


def test_encoding_keeps_both_texts_of_a_pair(workdir):
    checkpoint = Checkpoint("checkpoint-10", workdir / "runs" / "plain" / "checkpoint-10", 10)
    encoder = load(Run("plain", checkpoint.folder), checkpoint, Workdir(workdir)).encoder
    (a, b), (newline,) = encoder.encode(["a house", "a garden"]), encoder.encode(["\n"])
    assert encode_examples(encoder, [Example(("a house", "a garden"), 0)], 24) == [[encoder.eos_id, *a, *newline, *b]]
    long = Example(("word " * 100, "short"), 0)
    (row,) = encode_examples(encoder, [long], 16)
    assert len(row) == 16 and row[-len(encoder.encode(["short"])[0]) :] == encoder.encode(["short"])[0]
    for a, b, room in ((200, 10, 100), (10, 200, 100), (200, 200, 101), (60, 50, 100), (3, 4, 100)):
        kept = shares_of(a, b, room)
        assert kept[0] <= a and kept[1] <= b and sum(kept) == min(a + b, room)
        assert min(kept) == min(a, b) or abs(kept[0] - kept[1]) <= 1, "the longer one is cut first"


def test_seeds_are_averaged_and_widen_the_error(workdir):
    one = tuned(workdir, FinetuneSettings(3e-4, 1, 32, 24), finetune="sst2").scores[0][2][0]
    two = tuned(workdir, FinetuneSettings(3e-4, 1, 32, 24, num_seeds=2), finetune="sst2").scores[0][2][0]
    assert two.num_items == one.num_items
    assert two.value != one.value and two.stderr > 0


def test_files_of_every_naming(tmp_path):
    row = {"sentence": "x", "label": 0}
    write_rows(tmp_path / "glue__cola__train.jsonl", [row, {**row, "label": 1}])
    write_rows(tmp_path / "glue__cola__validation_in_domain.jsonl", [row])
    write_rows(tmp_path / "glue__cola__validation_out_of_domain.jsonl", [row, row])
    data = read_glue(GLUE["cola"], str(tmp_path))
    assert len(data.train) == 2 and {k: len(v) for k, v in data.evaluations.items()} == {"cola": 3}
    (tmp_path / "SST-2").mkdir()
    (tmp_path / "SST-2" / "train.tsv").write_text("sentence\tlabel\na\t0\nb\t1\n")
    (tmp_path / "SST-2" / "dev.tsv").write_text("sentence\tlabel\nc\t1\n")
    data = read_glue(GLUE["sst2"], str(tmp_path))
    assert data.train[1] == Example(("b",), 1) and data.evaluations["sst2"] == [Example(("c",), 1)]
    pair = {"premise": "p", "hypothesis": "h"}
    write_rows(tmp_path / "mnli" / "train.jsonl", [{**pair, "label": i} for i in range(3)])
    for part, count in (("matched", 1), ("mismatched", 2)):
        write_rows(tmp_path / "mnli" / f"validation_{part}.jsonl", [{**pair, "label": 2}] * count)
    found = read_glue(GLUE["mnli"], str(tmp_path)).evaluations
    assert {k: len(v) for k, v in found.items()} == {"mnli_matched": 1, "mnli_mismatched": 2}
    assert [task.name for task in parse_glue("CoLA, rte")] == ["cola", "rte"]


def test_what_cannot_be_used_is_named(workdir, tmp_path):
    def refused(kind, text, **values):
        with pytest.raises(kind) as problem:
            tuned(workdir, **values)
        assert text in str(problem.value)

    refused(UsageError, "--finetune chess: expected some of cola, sst2", finetune="cola,chess")
    refused(
        UsageError,
        "no train file for rte; expected one whose name has 'rte' and 'train' (of this task: none)",
        finetune="rte",
    )
    refused(UsageError, "give one of them", finetune="cola", tasks="piqa")
    with pytest.raises(UsageError, match="--finetune rte: name the folder of its files with --task-data"):
        read_glue(GLUE["rte"], "")
    with pytest.raises(UsageError, match=r"--task-data .*none: no such file or folder"):
        read_glue(GLUE["rte"], str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"--finetune-lr 0\.0: expected a number above 0 and below 1"):
        tuned(workdir, FinetuneSettings(0.0), finetune="sst2")
    good = {"sentence": "x", "label": 1}
    write_rows(tmp_path / "cola_validation.jsonl", [good])
    for line, text in (
        ('{"sentence": "x", "label": -1}', "field 'label' holds -1, expected a choice from 0 to 1"),
        ('{"sentence": "x", "label": 0.5}', "field 'label' holds 0.5"),
        ('{"label": 1}', "no field 'sentence' (found label)"),
        ("{", "not valid JSON"),
    ):
        (tmp_path / "cola_train.jsonl").write_text(json.dumps(good) + "\n" + line + "\n")
        with pytest.raises(CorpusError) as problem:
            read_glue(GLUE["cola"], str(tmp_path))
        assert "cola_train.jsonl:2: " in str(problem.value) and text in str(problem.value)
    write_rows(tmp_path / "cola_train.jsonl", [good, good])
    with pytest.raises(CorpusError, match="all 2 training examples of cola have the same label"):
        read_glue(GLUE["cola"], str(tmp_path))
    pair = {"sentence1": "a", "sentence2": "b", "label": 6}
    write_rows(tmp_path / "stsb_train.jsonl", [pair])
    with pytest.raises(CorpusError, match="holds 6, expected a similarity from 0 to 5"):
        read_glue(GLUE["stsb"], str(tmp_path))
    with pytest.raises(TrainingError, match="the loss is not a number in epoch 1; lower --finetune-lr"):
        broken = make_checkpoint(tmp_path / "broken", 1, workdir / "tokenizer")
        state = broken / "model.safetensors"
        _overwrite_with_nan(state)
        rows = Encoded([[0, 1], [0, 2]], np.array([0.0, 1.0]))
        finetune(broken, rows, [rows], num_labels=2, pad_id=0, settings=FAST, seed=0, device=torch.device("cpu"))


def _overwrite_with_nan(path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    tensors["transformer.wte.weight"] = torch.full_like(tensors["transformer.wte.weight"], float("nan"))
    save_file(tensors, path, {"format": "pt"})


def test_from_the_shell(workdir):
    arguments = ("--task-data", workdir / "data", "--finetune-lr", "3e-3", "--finetune-epochs", "2", "--limit", "60")
    process = toremi("eval", "plain", "-w", workdir, "--finetune", "sst2", *arguments)
    assert process.returncode == 0, process.stderr
    row = next(line for line in process.stdout.splitlines() if line.startswith("sst2 accuracy"))
    assert "±" in row and max(map(len, process.stdout.splitlines())) <= 80
    assert CONTEXT == 32, "longer than these examples: the length given is what cuts them"
