import json
import sys

from tests.corpus.test_stage import write_corpus
from tests.realtext import news_articles
from tests.shell import assert_one_line_error, toremi

FLAGS = ("--vocab-size", "600", "--vector-dim", "12", "--vector-fit-samples", "60")


def samples_settings(folder):
    """The settings that the samples there were made with, as `toremi inspect` tells them."""
    return json.loads(toremi("inspect", "toremi-out/samples", "--json", cwd=folder).stdout)["provenance"]["config"]


def test_a_summary_for_people_and_one_for_machines(tmp_path):
    texts = news_articles()
    write_corpus(tmp_path / "c", web=[*texts[:40], texts[0], ""], books=texts[40:70])
    first = toremi("embed", "c", *FLAGS, "--max-tokens", "128", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[0].split() == [
        "source",
        "documents",
        "samples",
        "tokens",
        "MB",
        "held",
        "out",
        "duplicates",
    ]
    assert first.stdout.splitlines()[2].split()[:2] == ["web", "40"]
    assert "left out: 1 documents without text" in first.stdout
    assert max(map(len, first.stdout.splitlines())) <= 80

    again = toremi("embed", "c", "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("up to date") == 2, "flags that are not given stay as they were"
    result = json.loads(again.stdout)
    assert result["dim"] == 12 and result["totals"]["documents"] == 70
    assert result["sources"]["web"]["duplicates"] > 0

    other = toremi("embed", "c", "--max-tokens", "64", "--quiet", cwd=tmp_path)
    assert other.returncode == 0 and other.stderr == ""
    settings = samples_settings(tmp_path)
    assert settings["max_tokens"] == 64 and settings["vocab_size"] == 600


def test_another_corpus_starts_from_the_defaults(tmp_path):
    write_corpus(tmp_path / "one", a=[f"short text {i}" for i in range(30)])
    write_corpus(tmp_path / "two", a=[f"other text {i}" for i in range(30)])
    assert toremi("embed", "one", *FLAGS, "--max-tokens", "16", cwd=tmp_path).returncode == 0
    assert toremi("embed", "two", cwd=tmp_path).returncode == 0
    assert samples_settings(tmp_path)["max_tokens"] == 1024


def test_what_is_refused_costs_no_table_and_does_not_stick(tmp_path):
    write_corpus(tmp_path / "c", a=[f"a short text {i}" for i in range(30)])
    refused = toremi("embed", "c", *FLAGS, "--text-field", "foo", cwd=tmp_path)
    assert_one_line_error(refused, "foo")
    assert toremi("embed", "c", *FLAGS, cwd=tmp_path).returncode == 0
    assert_one_line_error(toremi("embed", "c", "--text-field", "foo", cwd=tmp_path), "foo")
    assert samples_settings(tmp_path)["text_field"] is None, "still whole"
    again = toremi("embed", "c", cwd=tmp_path)
    assert again.returncode == 0 and again.stderr.count("up to date") == 2, again.stderr


def test_bad_input_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    write_corpus(tmp_path / "c", a=["text"])
    assert_one_line_error(toremi("embed", "none", cwd=tmp_path), "none: no such file or folder")
    assert_one_line_error(toremi("embed", "empty", cwd=tmp_path), "it is empty", "expected txt, md, jsonl")
    assert_one_line_error(toremi("embed", "c", "--holdout", "2", cwd=tmp_path), "--holdout 2")
    assert_one_line_error(toremi("embed", "c", "--text-field", "x", cwd=tmp_path), "a.jsonl:1", "found id, text")
    assert_one_line_error(toremi("embed", "c", "--vectors", "x", cwd=tmp_path), "doc2vec, sentence-transformers")
    assert_one_line_error(toremi("embed", "c", "--on-error", "x", cwd=tmp_path), "--on-error x")


def test_flags_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.jsonl").write_text("{broken\n")  # what would be said, were it read
    flags = {
        ("--taxonomy", "nosuch.txt"): "--taxonomy nosuch.txt: No such file",
        ("--vector-model", "./nosuch"): "--vector-model ./nosuch: no such folder",
        ("--llm-url", "http://localhost:1/v1"): "--llm-model",
        ("--tokenizer", "./nosuch/at all"): "--tokenizer ./nosuch/at all: no such file or folder",
        ("--num-topics", "few"): "--num-topics few",
        ("--max-labels", "9"): "--max-labels 9",
    }
    for arguments, said in flags.items():
        run_in(tmp_path, monkeypatch, ["annotate", "c", *arguments], said)
    run_in(tmp_path, monkeypatch, ["embed", "c", "--vector-model", "./nosuch"], "no such folder")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.setitem(sys.modules, "openai", None)
    run_in(tmp_path, monkeypatch, ["annotate", "c", "--vector-model", "a/b"], "pip install 'toremi[embed]'")
    llm = ["--llm-url", "http://localhost:1/v1", "--llm-model", "m"]
    run_in(tmp_path, monkeypatch, ["annotate", "c", *llm], "pip install 'toremi[llm]'")
    run_in(tmp_path, monkeypatch, ["annotate", "c"], "not valid JSON")


def run_in(folder, monkeypatch, arguments, said):
    """Run a command in this process and expect one line of refusal."""
    from typer.testing import CliRunner

    from toremi_cli.cli import app

    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code in (1, 2) and said in result.stderr.replace("\n", " "), result.stderr


def test_auto_takes_a_flag_back(tmp_path):
    write_corpus(tmp_path / "c", a=[f"a short text {i}" for i in range(30)], b=[f"another {i}" for i in range(30)])
    assert toremi("embed", "c", *FLAGS, cwd=tmp_path).returncode == 0
    first = samples_settings(tmp_path)
    flags = ("--tokenizer", "toremi-out/tokenizer", "--id-field", "none")
    assert_one_line_error(toremi("embed", "c", *flags, "--vocab-size", "700", cwd=tmp_path), "--tokenizer auto")
    assert toremi("embed", "c", *flags, cwd=tmp_path).returncode == 0
    assert samples_settings(tmp_path) == {
        **first,
        "tokenizer": str(tmp_path / "toremi-out/tokenizer"),
        "id_field": "none",
    }
    (tmp_path / "elsewhere").mkdir()
    again = toremi("embed", "../c", "-w", "../toremi-out", cwd=tmp_path / "elsewhere")
    assert again.returncode == 0 and again.stderr.count("up to date") == 2, again.stderr
    assert toremi("embed", "c", "--tokenizer", "auto", "--id-field", "auto", cwd=tmp_path).returncode == 0
    assert samples_settings(tmp_path) == first


def test_the_corpus_folder_as_the_place_to_work(tmp_path):
    write_corpus(tmp_path / "c", a=[f"a short text {i}" for i in range(30)])
    first = toremi("embed", ".", *FLAGS, cwd=tmp_path / "c")
    assert first.returncode == 0, first.stderr
    again = toremi("embed", ".", cwd=tmp_path / "c")
    assert again.returncode == 0 and again.stderr.count("up to date") == 2, again.stderr


def test_the_paths_that_a_shell_makes_of_a_pattern(tmp_path):
    write_corpus(tmp_path / "c", a=[f"a short text {i}" for i in range(30)], b=[f"another {i}" for i in range(30)])
    (tmp_path / "c" / "README.md").write_text("About the data.")
    pattern = sorted((tmp_path / "c").glob("*"))
    first = toremi("embed", *pattern, *FLAGS, "--json", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "leaving out README.md (about the data)" in first.stderr
    result = json.loads(first.stdout)
    assert result["num_files"] == 2 and result["corpus"] == list(map(str, pattern))
    write_corpus(tmp_path / "c", d=[f"one more {i}" for i in range(30)])
    more = toremi("embed", *sorted((tmp_path / "c").glob("*.jsonl")), "--json", cwd=tmp_path)
    assert json.loads(more.stdout)["totals"]["documents"] == 90, more.stderr
    assert samples_settings(tmp_path)["vocab_size"] == 600, "the same corpus with one file more"
