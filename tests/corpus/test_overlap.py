import json

import numpy as np
import pytest

from tests.corpus.test_unseen import build
from tests.realtext import news_articles
from tests.shell import toremi
from toremi_cli.corpus.overlap import shingles


def direct_count(rows):
    """The same by sets of words."""

    def runs(row):
        words = row["text"].lower().split()
        return {tuple(words[i : i + 13]) for i in range(len(words) - 12)}

    trained_on = set().union(*(runs(row) for row in rows if row["split"] == "train"))
    held_out = [found for row in rows if row["split"] != "train" and (found := runs(row))]
    return len(held_out), sum(len(found & trained_on) > len(found) / 2 for found in held_out)


def write_threads(folder, num_threads):
    """Posts that quote the whole post before them, as threads do."""
    folder.mkdir()
    with (folder / "posts.jsonl").open("w") as file:
        for number in range(num_threads):
            first, second, third = (text[:600] for text in news_articles()[3 * number : 3 * number + 3])
            for reply, text in enumerate((first, f"{second[:150]} {first}", f"{third[:150]} {first}")):
                row = {"id": f"{number}-{reply}", "thread": number, "text": text}
                file.write(json.dumps(row) + "\n")
    return folder


def test_what_is_shared_is_counted_and_groups_take_it_away(tmp_path, capsys):
    corpus = write_threads(tmp_path / "c", 60)
    settings = {"vocab_size": 600, "max_tokens": 512, "holdout": 0.2}
    manifest, rows = build(corpus, tmp_path / "out", **settings)
    number, shared = direct_count(rows)
    assert number > 10 and shared > 0.8 * number
    assert manifest["overlap"] == {"num_samples": number, "num_shared": shared, "shared_by_source": {"posts": shared}}
    said = capsys.readouterr().err
    assert f"{shared / number:.0%} of the held-out samples stand mostly in the training text" in said
    assert "--group-field" in said
    grouped, rows = build(corpus, tmp_path / "grouped", group_field="thread", shard_samples=40, **settings)
    again, left = direct_count(rows)
    assert (grouped["overlap"]["num_samples"], grouped["overlap"]["num_shared"]) == (again, left)
    assert again > 10 and left < 0.25 * again, "articles that repeat one another are left"


def test_the_summary_says_it(tmp_path):
    write_threads(tmp_path / "c", 30)
    flags = ("--vocab-size", "600", "--vector-dim", "12", "--vector-fit-samples", "60", "--holdout", "0.1")
    first = toremi("embed", "c", *flags, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "held out, but mostly in the training text too: " in first.stdout
    again = toremi("embed", "c", "--group-field", "thread", cwd=tmp_path)
    assert "held out, but mostly in the training text too: 0.0% of the samples" in again.stdout, again.stderr


@pytest.mark.parametrize(
    ("text", "count"),
    [("one two three", 0), (" ".join(map(str, range(13))), 1), (" ".join(map(str, range(20))), 8), ("文" * 10, 0)],
)
def test_runs_of_thirteen_words(text, count):
    assert len(shingles(text)) == count


def test_shingles_are_those_of_the_same_words_or_characters():
    words = [f"word{i}" for i in range(30)]
    assert np.array_equal(shingles(" ".join(words))[5:], shingles("\n".join(words[5:])))
    assert np.array_equal(shingles(" ".join(words).upper()), shingles(" ".join(words)))
    assert len(np.unique(shingles(" ".join(words)))) == 18
    chinese = "".join(chr(0x4E00 + i) for i in range(60))
    assert len(shingles(chinese)) == 37
    assert np.array_equal(shingles(chinese)[10:], shingles(chinese[10:]))
