"""Nothing of the held-out text reaches the tokenizer, and no group stands on both sides."""

import json
import random

import pytest

from tests.corpus.test_stage import write_corpus
from tests.realtext import news_articles
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.stage import build_samples
from toremi_cli.errors import CorpusError
from toremi_cli.layout import Workdir
from toremi_cli.lm.tokenizer import load_tokenizer
from toremi_cli.schemas import SAMPLES
from toremi_cli.tables import TableReader


def build(corpus, root, **config):
    settings = {"vocab_size": 3000, "max_tokens": 64, "holdout": 0.2, **config}
    manifest = build_samples(str(corpus), Workdir(root), CorpusConfig(**settings))
    return manifest, TableReader(Workdir(root).samples, SAMPLES).read().to_pylist()


def made_up_words(count):
    """Words that share no beginning, so that each is an entry of its own or none."""
    draw = random.Random(0)
    return ["".join(draw.choices("bcdfghjklmnpqrstvwxz", k=9)) for _ in range(count)]


def words_known(root, words):
    raw = load_tokenizer(root / "tokenizer").raw
    return {word for word in words if len(raw.encode(" " + word).ids) == 1}


def test_words_of_held_out_documents_are_no_entries(tmp_path):
    words = made_up_words(60)
    texts = [f"{news_articles()[n]} " + f" {word}" * 40 for n, word in enumerate(words)]
    _, rows = build(write_corpus(tmp_path / "c", a=texts), tmp_path / "out")
    split_of = {row["doc_id"]: row["split"] for row in rows}
    held_out = {word for n, word in enumerate(words) if split_of[f"a-{n}"] != "train"}
    assert 8 <= len(held_out) <= 20
    assert words_known(tmp_path / "out", words) == set(words) - held_out


def test_words_of_held_out_blocks_of_one_document_are_no_entries(tmp_path):
    words = made_up_words(80)
    text = "\n\n".join("".join(f" {word} {i}{j}" for j in range(100)) for i, word in enumerate(words))
    assert 1400 < len(text) / 80 < 6 * 256, "a word to a block"
    (tmp_path / "book.txt").write_text(text)
    _, rows = build(tmp_path / "book.txt", tmp_path / "out", vocab_size=1500, max_tokens=256)
    assert "".join(row["text"] for row in rows) == text
    splits = {word: {row["split"] for row in rows if word in row["text"]} for word in words}
    assert all(len(found) == 1 for found in splits.values()), "a block stands on one side"
    trained_on = {word for word, found in splits.items() if found == {"train"}}
    assert 50 <= len(trained_on) <= 75
    known = words_known(tmp_path / "out", words)
    assert known <= trained_on and len(known) > 0.8 * len(trained_on)


def grouped_corpus(folder):
    """Two sources share groups; the third has few of them, the fourth one."""
    articles = iter(news_articles())
    folder.mkdir()
    groups = {"web": 60, "books": 25, "few": 12, "one": 1}
    for source, count in groups.items():
        with (folder / f"{source}.jsonl").open("w") as file:
            for piece in range(75 if source == "web" else 30 if source == "books" else 2 * count):
                group = f"group {piece % count}" if source != "one" else "lonely"
                file.write(json.dumps({"id": f"{source}{piece}", "book": group, "text": next(articles)}) + "\n")
    return folder


def test_a_group_stands_on_one_side_in_every_source(tmp_path, capsys):
    corpus = grouped_corpus(tmp_path / "c")
    manifest, rows = build(corpus, tmp_path / "out", group_field="book", holdout=0.02)
    group_of = {}
    for file in corpus.iterdir():
        group_of |= {row["id"]: row["book"] for row in map(json.loads, file.read_text().splitlines())}
    sides = {}
    for row in rows:
        sides.setdefault(group_of[row["doc_id"]], set()).add(row["split"])
    assert all(len(found) == 1 for found in sides.values())
    found = {source: {row["split"] for row in rows if row["source"] == source} for source in manifest["sources"]}
    assert all(found[source] == {"train", "validation", "test"} for source in ("web", "books", "few"))
    assert found["one"] == {"train"}
    assert "too small to hold anything out (groups by 'book'): one" in capsys.readouterr().err
    _, without = build(corpus, tmp_path / "out", holdout=0.02)
    sides = {}
    for row in without:
        sides.setdefault(group_of[row["doc_id"]], set()).add(row["split"])
    assert any(len(found) > 1 for found in sides.values()), "which documents alone do not give"


def test_a_document_without_its_group_is_refused_or_skipped(tmp_path):
    corpus = write_corpus(tmp_path / "c", a=news_articles()[:30])
    lines = (corpus / "a.jsonl").read_text().splitlines()
    named = [json.dumps({**json.loads(line), "book": number % 25}) for number, line in enumerate(lines[1:])]
    (corpus / "a.jsonl").write_text("\n".join([lines[0], *named]) + "\n")
    with pytest.raises(CorpusError, match=r"a.jsonl:1: no field 'book' \(found id, text\); see --group-field"):
        build(corpus, tmp_path / "out", group_field="book")
    manifest, _ = build(corpus, tmp_path / "out", group_field="book", on_error="skip")
    assert manifest["num_skipped"] == 1 and manifest["totals"]["documents"] == 29
