import json
import shutil
from pathlib import Path

import pytest

from tests.commands.test_eval_runs import run_json
from tests.evaluate.workdirs import make_run, make_tokenizer
from tests.realtext import news_articles
from toremi_cli.errors import CorpusError, UsageError
from toremi_cli.evaluate.data import corpus_texts
from toremi_cli.evaluate.suites import load_suite, shipped_suites, suite_texts

SUITE = """
name = "mine"
[[domain]]
name = "notes"
data = "notes"
[[domain]]
name = "news"
data = "news.jsonl"
text_field = "body"
most_bytes = 2000
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("A note.")
    rows = [json.dumps({"body": text, "text": ""}) for text in news_articles()[:20]]
    (tmp_path / "news.jsonl").write_text("\n".join(rows))
    (tmp_path / "mine.toml").write_text(SUITE)
    return tmp_path


def test_domains_are_read_relative_to_the_file_and_cut(folder):
    texts = suite_texts(load_suite(str(folder / "mine.toml")))
    assert texts.suite == "mine" and texts.domains == ["news", "notes"]
    own = [n for n, source in zip(texts.num_bytes, texts.sources, strict=True) if source == "news"]
    assert sum(own[:-1]) < 2000 <= sum(own)


def test_other_text_with_a_repeated_id_is_refused(folder):
    rows = [json.dumps({"id": f"d{i % 2}", "text": f"Text {i}"}) for i in range(4)]
    (folder / "twice.jsonl").write_text("\n".join(rows))
    with pytest.raises(CorpusError, match=r"twice.jsonl:3: id 'd0' again, first at .*twice.jsonl:1; ids must differ$"):
        corpus_texts(str(folder / "twice.jsonl"))
    (folder / "broken.jsonl").write_text('{"texts": "a"}\n')
    with pytest.raises(CorpusError, match=r"no text field \(found texts\)$"):  # eval has no flag to name
        corpus_texts(str(folder / "broken.jsonl"))


@pytest.mark.parametrize("name", ["test", "tasks"])
def test_other_text_does_not_take_the_place_of_a_split_or_of_tasks(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.txt").write_text("A stone.")
    (tmp_path / f"{name}.toml").write_text(f'[[domain]]\nname = "stones"\ndata = "{name}"\n')
    assert suite_texts(load_suite(str(tmp_path / f"{name}.toml"))).suite == f"suite:{name}"
    assert corpus_texts(str(tmp_path / name)).suite == f"data:{name}"


def test_yaml_says_the_same(folder):
    (folder / "mine.yaml").write_text("name: mine\ndomain:\n  - {name: notes, data: notes}\n")
    assert load_suite(str(folder / "mine.yaml")).domains == load_suite(str(folder / "mine.toml")).domains[:1]


def test_the_papers_suite_is_shipped():
    assert "paloma" in shipped_suites()
    suite = load_suite("paloma")
    assert len(suite.domains) == 12
    assert all(domain.data.startswith("hf://datasets/allenai/paloma/") for domain in suite.domains)


def test_the_example_reads_what_the_demo_harvests(tmp_path):
    from examples.harvest_corpus.prose_and_code import PROSE_AND_CODE

    example = Path(__file__).parents[2] / "examples" / "suites" / "domains.toml"
    (tmp_path / "examples" / "suites").mkdir(parents=True)
    (tmp_path / "demo-out" / "corpus").mkdir(parents=True)
    shutil.copy(example, tmp_path / "examples" / "suites")
    for source in PROSE_AND_CODE:
        row = json.dumps({"id": "a", "source": source.name, "text": f"text of {source.name}"})
        (tmp_path / "demo-out" / "corpus" / f"{source.name}.jsonl").write_text(row)
    texts = suite_texts(load_suite(str(tmp_path / "examples" / "suites" / "domains.toml")))
    assert dict(zip(texts.sources, texts.texts, strict=True)) == {
        "encyclopaedia": "text of encyclopaedia",
        "news": "text of news",
        "newsgroups": "text of newsgroups",
        "code": "text of python_code",
    }


def test_eval_on_a_suite(folder):
    make_tokenizer(folder / "tokenizer")
    make_run(folder, "plain", 1, steps=(10,))
    result, _ = run_json("plain", "-w", folder, "--suite", folder / "mine.toml")
    assert result["suite"] == "mine"
    assert {row["domain"] for row in result["results"]} == {"news", "notes", "macro", "micro"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[[domain]]\nname = 'x'\n", "domain 1: expected a 'name' and a 'data'"),
        ("name = 'x'\n", "names no domains"),
        ("name = ", "not valid TOML"),
        ("[[domain]]\nname = 'x'\ndata = 'y'\ncolour = 1\n", "domain x: unknown key colour"),
        ("[[domain]]\nname = 'x'\ndata = 'y'\nmost_bytes = 'a'\n", "most_bytes is 'a'"),
        ("[[domain]]\nname = 'x'\ndata = 'y'\n[[domain]]\nname = 'x'\ndata = 'z'\n", "domain x stands there twice"),
    ],
)
def test_wrong_suites(tmp_path, text, part):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as problem:
        load_suite(str(path))
    assert str(path) in str(problem.value) and part in str(problem.value)


def test_a_missing_folder_is_named_with_its_domain(folder):
    (folder / "mine.toml").write_text(SUITE.replace('data = "notes"', 'data = "nothing"'))
    with pytest.raises(CorpusError, match=r"mine.toml: domain notes: .*nothing"):
        suite_texts(load_suite(str(folder / "mine.toml")))
    with pytest.raises(UsageError, match=r"--suite x: no such file, and no suite that comes with toremi \(paloma\)"):
        load_suite("x")
