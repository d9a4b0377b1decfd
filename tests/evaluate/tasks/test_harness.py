"""Our numbers on a model's folder are those of lm-evaluation-harness on the same rows, task by task."""

import json
import math
import shutil

import pytest
from benchmarks.tasks_vs_harness import DEFINITIONS, OURS, write_definition

from tests.evaluate.workdirs import make_annotated, make_run, make_tokenizer
from tests.realtext import news_articles
from tests.shell import toremi
from toremi_cli.errors import UsageError
from toremi_cli.evaluate.config import EvalConfig
from toremi_cli.evaluate.tasks.of_runs import evaluate_tasks
from toremi_cli.layout import Workdir

TESTED = [task for task in DEFINITIONS if task != "arc_challenge"]  # whose rows are those of arc_easy
NUM_ROWS = 14


def row_of(task, index):
    """A row in the fields of the task's data set, its texts from the news."""
    words = news_articles()[index].split()
    a, b, c, d = (" ".join(words[i : i + 2 + index % 2]) for i in (0, 9, 18, 27))
    two, four = {"text": [a, b], "label": ["A", "B"]}, {"text": [a, b, c, d], "label": ["1", "2", "3", "4"]}
    return {
        "piqa": {"goal": a, "sol1": b, "sol2": c, "label": index % 2},
        "sciq": {
            "question": a, "support": d, "distractor1": b, "distractor2": c, "distractor3": d, "correct_answer": a,
        },
        "arc_easy": {"question": c, "choices": four, "answerKey": str(1 + index % 4)},
        "openbookqa": {"question_stem": c, "choices": two, "answerKey": "AB"[index % 2]},
        "hellaswag": {
            "activity_label": a, "ctx_a": f"{b} [title] ", "ctx_b": c, "endings": [a, f"{b} [step] {d}", c, d],
            "label": str(index % 4),
        },
        "boolq": {"passage": b, "question": a, "label": index % 2},
        "winogrande": {"sentence": f"{a} _ {b}", "option1": words[1], "option2": words[2], "answer": "12"[index % 2]},
        "copa": {
            "premise": f"{a}.", "choice1": f"{b}.", "choice2": f"{c}.", "question": ("cause", "effect")[index % 2],
            "label": index % 2,
        },
        "lambada": {"text": " ".join(words[:12])},
        "cola": {"sentence": a, "label": index % 3 % 2},
        "sst2": {"sentence": a, "label": index % 2},
    }[task]  # fmt: skip


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    root = tmp_path_factory.mktemp("harness")
    make_tokenizer(root / "tokenizer")
    make_annotated(root)
    make_run(root, "plain", 3, steps=(10,))
    data = root / "data"
    data.mkdir()
    for task in TESTED:
        rows = [row_of(task, index) for index in range(NUM_ROWS)]
        file = data / f"{task}_validation.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        write_definition(data, task, file)
    return root


RIGHT_ANSWERS = {"piqa": "{{' ' + [sol1, sol2][label]}}", "sciq": "{{' ' + correct_answer}}"}
"""Which text of a row is the right answer; the harness puts no space before a lone target."""
BYTES = {"piqa": lambda row: row["sol2" if row["label"] else "sol1"], "sciq": lambda row: row["correct_answer"]}


def test_bits_per_byte_of_the_right_answers_are_the_harnesss_likelihoods(workdir):
    """It has no such number, but the likelihood of a target: its perplexity is exp of the mean nats of an item."""
    folder = workdir / "right"
    folder.mkdir()
    for task, target in RIGHT_ANSWERS.items():
        file = shutil.copy(workdir / "data" / f"{task}_validation.jsonl", folder)
        lines = ("output_type: loglikelihood", f'doc_to_target: "{target}"', "metric_list: [{metric: perplexity}]")
        write_definition(folder, task, file, "doc_to_choice: null", *lines)
    tasks = ",".join((*RIGHT_ANSWERS, *(f"harness:local_{task}" for task in RIGHT_ANSWERS)))
    config = EvalConfig(runs=("plain",), tasks=tasks, task_data=str(folder), batch_tokens=200)
    ((_, _, scores),) = evaluate_tasks(config, Workdir(workdir)).scores
    found = {(score.task, score.metric): score.value for score in scores}
    for task, text in BYTES.items():
        num_bytes = sum(len(text(row_of(task, index)).encode()) for index in range(NUM_ROWS))
        nats = NUM_ROWS * math.log(found[f"harness:local_{task}", "perplexity"])
        assert found[task, "bits_per_byte"] == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)


def test_numbers_equal_the_harnesss_own(workdir):
    tasks = ",".join((*TESTED, *(f"harness:local_{task}" for task in TESTED)))
    arguments = ("--tasks", tasks, "--task-data", workdir / "data", "--json")
    process = toremi("eval", "plain", "-w", workdir, *arguments, HF_HOME=str(workdir / "cache"), HF_HUB_OFFLINE="1")
    assert process.returncode == 0, process.stderr
    found = {(row["domain"], row["metric"]): row for row in json.loads(process.stdout)["results"]}
    compared = set()
    for (name, metric), theirs in found.items():
        task = name.removeprefix("harness:local_")
        if task != name:
            ours = found[task, OURS[metric]]
            assert ours["value"] == pytest.approx(theirs["value"], rel=1e-4, abs=1e-6), (name, metric)
            assert ours["num_samples"] == theirs["num_samples"] == NUM_ROWS
            if metric.startswith("acc"):  # errors of the others are bootstrapped, by draws of one's own
                assert ours["stderr"] == pytest.approx(theirs["stderr"], rel=1e-4, abs=1e-6), (name, metric)
            compared.add(task)
    assert compared == set(TESTED)
    assert len({row["value"] for (_, metric), row in found.items() if metric == "accuracy"}) > 3


def test_a_task_that_nobody_knows(workdir):
    config = EvalConfig(runs=("plain",), tasks="harness:chess_problems", task_data=str(workdir / "data"))
    with pytest.raises(UsageError, match="harness:chess_problems: neither in the harness's registry nor a YAML"):
        evaluate_tasks(config, Workdir(workdir))
