import json

from tests.corpus.test_corruption import workdir  # noqa: F401 - a fixture
from tests.corpus.test_stage import write_corpus
from tests.realtext import news_articles
from tests.shell import assert_one_line_error, call, toremi


def test_a_mixture_is_drawn_and_embed_reads_it(tmp_path):
    write_corpus(tmp_path / "c", web=news_articles()[:100], code=news_articles()[100:150], rest=["unused text"])
    arguments = ("sample", "c", "--ratios", "code:0.2,web:0.8", "--tokens", "3K,6K", "-o", "mix")
    process = toremi(*arguments, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "not in --ratios, left out: rest" in process.stderr
    assert max(map(len, process.stdout.splitlines())) <= 80
    record = json.loads(toremi(*arguments, "--json", cwd=tmp_path).stdout)
    assert record["mixtures"]["6K"]["web"]["documents"] > record["mixtures"]["3K"]["web"]["documents"] > 0
    embedded = toremi("embed", "mix/6K", "--vector-dim", "8", "--json", cwd=tmp_path)
    assert embedded.returncode == 0, embedded.stderr
    sources = json.loads(embedded.stdout)["sources"]
    assert {name: counts["documents"] for name, counts in sources.items()} == {
        name: record["mixtures"]["6K"][name]["documents"] for name in ("code", "web")
    }
    assert_one_line_error(toremi("sample", "c", "--ratios", "x", "--tokens", "1K", "-o", "m", cwd=tmp_path), "--ratios")


def test_ratios_and_targets_that_are_not_met_are_told(tmp_path):
    write_corpus(
        tmp_path / "c", web=[" ".join(news_articles()[:20]), " ".join(news_articles()[20:40])], code=["x y"] * 3
    )
    process = toremi("sample", "c", "--ratios", "web:80,code:20", "--tokens", "500", "-o", "m", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "--ratios sum to 100: taken in proportion" in process.stderr
    assert "as documents are taken whole" in process.stderr and "'code' runs short" in process.stderr


def test_noise_is_planted(workdir, tmp_path):  # noqa: F811
    flags = ("--workdir", workdir.root, "--topic", "Technology", "--kind", "shuffle-words", "-o", tmp_path / "noisy")
    process = toremi("corrupt", *flags)
    assert process.returncode == 0, process.stderr
    assert "27 of 90 samples corrupted (shuffle-words)" in process.stdout
    assert json.loads(toremi("corrupt", *flags, "--json").stdout)["num_corrupted"] == 27
    inspected = " ".join(toremi("inspect", tmp_path / "noisy").stdout.split())
    assert "planted noise" in inspected and "not part of the contract" not in inspected
    nobody = toremi("corrupt", tmp_path / "none", "--topic", "x", "-o", tmp_path / "o", "--workdir", workdir.root)
    assert_one_line_error(nobody, "no such file or folder")


def test_both_take_a_config_file(workdir, tmp_path):  # noqa: F811
    (tmp_path / "noise.toml").write_text('topic = "Technology"\nkind = "truncate"\nfraction = 2\n')
    flags = ("corrupt", "--workdir", workdir.root, "-o", tmp_path / "noisy")
    assert_one_line_error(call(*flags), "--topic: needed")
    with_file = (*flags, "--config", tmp_path / "noise.toml")
    assert_one_line_error(call(*with_file), "noise.toml: fraction = 2: expected a number above 0")
    (tmp_path / "noise.toml").write_text('topic = "Technology"\nkind = "truncate"\nfraction = 0.5\n')
    planted = call(*with_file, "--fraction", "1")
    assert "27 of 90 samples corrupted (truncate)" in planted.stdout, planted.stderr
    write_corpus(tmp_path / "c", web=news_articles()[:20])
    (tmp_path / "mix.toml").write_text('ratios = "web:1"\ntokens = "1K"\non_error = "skip"\n')
    drawn = call("sample", tmp_path / "c", "-o", tmp_path / "mix", "--config", tmp_path / "mix.toml", "--json")
    assert json.loads(drawn.stdout)["config"]["ratios"] == "web:1", drawn.stderr
