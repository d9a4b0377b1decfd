import json
import math
from functools import cache

import numpy as np
import pytest
import torch
import zstandard
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.evaluate.workdirs import CONTEXT, make_annotated, make_run, make_tokenizer
from toremi_cli.errors import CorpusError, UsageError
from toremi_cli.evaluate.config import EvalConfig
from toremi_cli.evaluate.results import read_rows, read_scores
from toremi_cli.evaluate.tasks.files import parse_tasks, read_items
from toremi_cli.evaluate.tasks.items import TASKS
from toremi_cli.evaluate.tasks.of_runs import evaluate_tasks
from toremi_cli.layout import Workdir
from toremi_cli.runs.run import Run

ROWS = {
    "piqa": {"goal": "Open a door", "sol1": "Push it", "sol2": "Eat the door with a fork", "label": 1},
    "sciq": {
        "question": "Who?",
        "distractor3": "c",
        "distractor1": "a",
        "distractor2": "b",
        "correct_answer": "darwin",
        "support": " Some text.",
    },
    "arc_easy": {
        "question": "Which?",
        "choices": {"text": ["one", "two"], "label": ["A", "B"]},
        "answerKey": "B",
    },
    "openbookqa": {
        "question_stem": "Fish are",
        "choices": {"text": ["wet", "dry"], "label": ["A", "B"]},
        "answerKey": "A",
    },
    "hellaswag": {
        "activity_label": "Fishing",
        "ctx_a": "A man [title] walks.",
        "ctx_b": "he",
        "endings": ["jumps  [x]high.", "sits."],
        "label": "1",
    },
    "boolq": {"question": "is it so", "answer": False, "passage": "It is not."},
    "winogrande": {"sentence": "Sarah beat Maria so _ won.", "option1": "Sarah", "option2": "Maria", "answer": "1"},
    "copa": {
        "premise": "The man fell.",
        "choice1": "He slipped.",
        "choice2": "He flew.",
        "question": "cause",
        "label": 0,
    },
    "lambada": {"text": "the last word of this is cheese"},
    "cola": {"sentence": "They went.", "label": 1},
    "sst2": {"sentence": "a charming journey . ", "label": 1},
}
PAIRS = {
    "piqa": (
        ("Question: Open a door\nAnswer:", " Push it"),
        ("Question: Open a door\nAnswer:", " Eat the door with a fork"),
    ),
    "sciq": tuple(("Some text.\nQuestion: Who?\nAnswer:", f" {c}") for c in ("a", "b", "c", "darwin")),
    "arc_easy": (("Question: Which?\nAnswer:", " one"), ("Question: Which?\nAnswer:", " two")),
    "openbookqa": (("Fish are", " wet"), ("Fish are", " dry")),
    "hellaswag": (("Fishing: A man.  walks. He", " jumps high."), ("Fishing: A man.  walks. He", " sits.")),
    "boolq": (
        ("It is not.\nQuestion: is it so?\nAnswer:", " no"),
        ("It is not.\nQuestion: is it so?\nAnswer:", " yes"),
    ),
    "winogrande": (("Sarah beat Maria so Sarah", " won."), ("Sarah beat Maria so Maria", " won.")),
    "copa": (("The man fell because", "  he slipped."), ("The man fell because", "  he flew.")),
    "lambada": (("the last word of this is", " cheese"),),
    "cola": tuple(
        ("They went.\nQuestion: Does this sentence make sense?\nAnswer:", f" {choice}") for choice in ("no", "yes")
    ),
    "sst2": tuple(
        ("a charming journey . \nQuestion: Is this sentence positive or negative?\nAnswer:", f" {choice}")
        for choice in ("negative", "positive")
    ),
}
GOLD = {"piqa": 1, "sciq": 3, "arc_easy": 1, "openbookqa": 0, "hellaswag": 1, "boolq": 0, "winogrande": 0, "copa": 0}
SENTENCES = [
    "The door is open.",
    "Where are they going now?",
    "He said so",
    "A cat sat on it",
    "Nobody knows why that is.",
]


@pytest.mark.parametrize("name", sorted(ROWS))
def test_prompts(name):
    item = TASKS[name].make(ROWS[name])
    pairs = tuple((" ".join(c.split("  ")) if name == "hellaswag" else c, t) for c, t in item.pairs)
    expected = tuple((" ".join(c.split("  ")) if name == "hellaswag" else c, t) for c, t in PAIRS[name])
    assert pairs == expected
    assert item.gold == GOLD.get(name, 1 if name in ("cola", "sst2") else 0)


def test_ready_made_rows():
    item = TASKS["arc_challenge"].make({"query": "Q: x\nA:", "choices": ["u", "v", "w"], "gold": 2})
    assert item.pairs == (("Q: x\nA:", " u"), ("Q: x\nA:", " v"), ("Q: x\nA:", " w"))
    assert item.gold == 2


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")
    make_tokenizer(root / "tokenizer")
    make_annotated(root)
    make_run(root, "plain", 1, steps=(10,))
    data = root / "data"
    data.mkdir()
    piqa = [{"goal": g, "sol1": a, "sol2": b, "label": i % 2} for i, (g, a, b) in enumerate(triples())]
    packed = zstandard.compress("\n".join(map(json.dumps, piqa)).encode())
    (data / "piqa__plain_text__validation.jsonl.zst").write_bytes(packed)
    (data / "piqa__train.jsonl").write_text("not looked at")
    cola = [{"sentence": s, "label": i % 2} for i, s in enumerate(SENTENCES * 3)]
    (data / "glue__cola__validation.jsonl").write_text("\n".join(map(json.dumps, cola)))
    lambada = [{"text": s} for s in SENTENCES]
    (data / "lambada_test.jsonl").write_text("\n".join(map(json.dumps, lambada)))
    return root


def triples():
    return [(a, b, c) for a in SENTENCES for b in SENTENCES for c in SENTENCES[:2] if b != c]


@cache
def opened(checkpoint):
    return AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)


def by_hand(checkpoint, context, continuation):
    """Log-likelihood of a continuation, its number of tokens, and whether it is the greedy one."""
    model, tokenizer = opened(checkpoint)
    whole = tokenizer(context + continuation).input_ids
    head = tokenizer(context).input_ids if context else []
    ids = whole if context else [tokenizer.eos_token_id, *whole]
    count = len(whole) - len(head)
    ids = ids[-(CONTEXT + 1) :]
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)
    targets = torch.tensor(ids[1:])[-count:]
    logits = logits[-count:]
    greedy = bool((logits.argmax(-1) == targets).all())
    return logits.gather(1, targets[:, None]).sum().item(), count, greedy


def test_scores_equal_those_computed_by_hand(workdir):
    config = EvalConfig(runs=("plain",), tasks="piqa,lambada,cola", task_data=str(workdir / "data"), batch_tokens=100)
    scores = {(s.task, s.metric): s for s in evaluate_tasks(config, Workdir(workdir)).scores[0][2]}
    checkpoint = workdir / "runs" / "plain" / "checkpoint-10"
    right = {"accuracy": [], "accuracy_norm": [], "accuracy_mean": []}
    for index, (goal, *solutions) in enumerate(triples()):
        found = [by_hand(checkpoint, f"Question: {goal}\nAnswer:", f" {s}") for s in solutions]
        wholes = [by_hand(checkpoint, "", f"{goal} {s}") for s in solutions]
        right["accuracy"].append(np.argmax([f[0] for f in found]) == index % 2)
        right["accuracy_norm"].append(
            np.argmax([f[0] / len(s) for f, s in zip(found, solutions, strict=True)]) == index % 2
        )
        right["accuracy_mean"].append(np.argmax([w[0] / w[1] for w in wholes]) == index % 2)
    for metric, values in right.items():
        score = scores["piqa", metric]
        assert score.value == pytest.approx(np.mean(values)), metric
        assert score.stderr == pytest.approx(np.std(values, ddof=1) / math.sqrt(len(values)))
        assert score.num_items == len(values)
    found = [by_hand(checkpoint, *s.rsplit(" ", 1)[:1], " " + s.rsplit(" ", 1)[1]) for s in SENTENCES]
    assert scores["lambada", "accuracy"].value == np.mean([f[2] for f in found])
    nats = [by_hand(checkpoint, f"Question: {t[0]}\nAnswer:", f" {t[1 + i % 2]}")[0] for i, t in enumerate(triples())]
    num_bytes = [len(t[1 + i % 2].encode()) for i, t in enumerate(triples())]
    bits = scores["piqa", "bits_per_byte"]
    assert bits.value == pytest.approx(-sum(nats) / math.log(2) / sum(num_bytes), rel=1e-4)
    assert (bits.num_bytes, bits.num_items) == (sum(num_bytes), len(nats)) and bits.stderr > 0
    kept = read_scores(Run("plain", workdir / "runs" / "plain"))
    (by_item,) = [v for (suite, _, _), v in kept.items() if suite == "tasks"]
    np.testing.assert_allclose(by_item.only(["piqa"]).nats, -np.array(nats), rtol=1e-4)
    assert scores["lambada", "perplexity"].value == pytest.approx(math.exp(-np.mean([f[0] for f in found])), rel=1e-4)
    assert -1 <= scores["cola", "mcc"].value <= 1


def test_rows_of_other_tasks_stay(workdir):
    data = str(workdir / "data")
    evaluate_tasks(EvalConfig(runs=("plain",), tasks="piqa,lambada", task_data=data, limit=3), Workdir(workdir))
    evaluate_tasks(EvalConfig(runs=("plain",), tasks="lambada", task_data=data), Workdir(workdir))
    rows = [r for r in read_rows(Run("plain", workdir / "runs" / "plain")) if r["domain"] in ("piqa", "lambada")]
    assert {(r["domain"], r["num_samples"]) for r in rows} >= {("piqa", 3), ("lambada", 3), ("lambada", 5)}
    limited = {r["conditions"] for r in rows if r["num_samples"] == 3}
    assert limited == {f"context length {CONTEXT}, limit 3"}, "measured under other conditions, so both stand"
    keys = [(r["domain"], r["metric"], r["conditions"]) for r in rows]
    assert len(keys) == len(set(keys))
    assert all(r["suite"] == "tasks" and r["stderr"] is not None for r in rows)


def test_broken_rows_and_missing_files(tmp_path):
    path = tmp_path / "piqa.jsonl"
    for line, parts in (
        ('{"goal": "x", "sol1": "y", "label": 0}', "no field 'sol2' (found goal, sol1, label)"),
        ('{"goal": "x", "sol1": "y", "sol2": "z", "label": 2}', "field 'label' holds 2, expected a choice from 0 to 1"),
        ('{"goal": 3, "sol1": "y", "sol2": "z", "label": 1}', "field 'goal' holds int, expected text"),
        ("{", "not valid JSON"),
        ('["goal"]', "a JSON list; expected an object"),
    ):
        path.write_text(json.dumps(ROWS["piqa"]) + "\n" + line + "\n")
        with pytest.raises(CorpusError) as problem:
            read_items(TASKS["piqa"], str(path))
        assert f"{path}:2: " in str(problem.value) and parts in str(problem.value)
    path.write_text("\n")
    with pytest.raises(CorpusError, match="no rows"):
        read_items(TASKS["piqa"], str(path))
    with pytest.raises(UsageError, match="--tasks chess: unknown; expected some of piqa"):
        parse_tasks("chess", str(tmp_path))
    with pytest.raises(UsageError, match="no file for sciq"):
        parse_tasks("sciq", str(tmp_path))
    with pytest.raises(UsageError, match="name the folder of its file with --task-data"):
        parse_tasks("sciq", "")
    assert parse_tasks(f"sciq={path},piqa", str(tmp_path)) == [(TASKS["sciq"], str(path)), (TASKS["piqa"], str(path))]
    with pytest.raises(UsageError, match=r"--tasks piqa: nowhere.jsonl: no such file"):
        parse_tasks("piqa=nowhere.jsonl", "")
    packed = zstandard.compress(json.dumps(ROWS["piqa"]).encode() * 100)
    (tmp_path / "cut.jsonl.zst").write_bytes(packed[:-5])
    with pytest.raises(CorpusError, match=r"cut.jsonl.zst: damaged or cut off"):
        read_items(TASKS["piqa"], str(tmp_path / "cut.jsonl.zst"))


def test_lines_of_a_plain_text_are_passages_of_lambada(tmp_path):
    (tmp_path / "lambada_development_plain_text.txt").write_text("the last word is cheese\nand of this one bread\n")
    ((task, file),) = parse_tasks("lambada", str(tmp_path))
    assert [item.pairs for item in read_items(task, file)] == [
        (("the last word is", " cheese"),),
        (("and of this one", " bread"),),
    ]
