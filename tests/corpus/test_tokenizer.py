import json
import random
import sys

import pytest

from tests.realtext import news_articles
from tests.shell import environment
from toremi_cli.corpus.tokenizer import (
    END_OF_TEXT,
    fetch_tokenizer,
    is_saved,
    save_tokenizer,
    tokenizer_fingerprint,
    train_tokenizer,
)
from toremi_cli.errors import CorpusError
from toremi_cli.lm.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def trained():
    return train_tokenizer(news_articles()[:100], 1000, 10**9)


def test_round_trip_and_end_of_text(trained, tmp_path):
    save_tokenizer(trained, tmp_path / "tok", "key", END_OF_TEXT, {})
    tokenizer = load_tokenizer(tmp_path / "tok")
    text = "Any text: 你好 🙂 \x00 naïve\n\tcode {}"
    assert tokenizer.raw.decode(tokenizer.ids([text])[0]) == text
    assert tokenizer.count([text]) == [len(tokenizer.ids([text])[0])]
    assert is_saved(tmp_path / "tok", "key") and not is_saved(tmp_path / "tok", "other")


def test_transformers_loads_it(trained, tmp_path):
    from transformers import AutoTokenizer

    save_tokenizer(trained, tmp_path / "tok", "key", END_OF_TEXT, {})
    theirs = AutoTokenizer.from_pretrained(str(tmp_path / "tok"))
    assert theirs.eos_token == theirs.bos_token == END_OF_TEXT
    text = news_articles()[0]
    assert theirs(text)["input_ids"] == load_tokenizer(tmp_path / "tok").ids([text])[0]
    assert theirs.decode(theirs(text)["input_ids"]) == text


def test_training_is_the_same_in_every_process(trained, tmp_path):
    import subprocess
    import sys

    program = (
        "from tests.realtext import news_articles; from toremi_cli.corpus.tokenizer import train_tokenizer\n"
        "print(train_tokenizer(news_articles()[:100], 1000, 10**9).to_str())"
    )
    for seed in ("1", "2"):
        process = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment(PYTHONHASHSEED=seed)
        )
        assert json.loads(process.stdout) == json.loads(trained.to_str())


def test_a_small_corpus_gets_a_small_vocabulary(capsys):
    tokenizer = train_tokenizer(["a few words " * 20], 16384, 240)
    assert tokenizer.get_vocab_size() <= 512
    assert "instead of 16,384" in capsys.readouterr().err


def test_base64_does_not_stall_training():
    blob = "QUJD" * 16000
    tokenizer = train_tokenizer([*news_articles()[:5], *[blob] * 20], 600, 10**9)
    assert tokenizer.get_vocab_size() == 600


def test_text_without_spaces_does_not_stall_training_and_is_learnt():
    words = ["语言", "模型", "训练", "数据", "主题", "权重", "学习", "噪声"]
    text = "".join(random.Random(0).choices(words, k=100_000))  # minutes, were it one word
    tokenizer = train_tokenizer([text], 600, 10**9)
    assert [len(tokenizer.encode(word).ids) for word in words] == [1] * len(words)
    assert tokenizer.decode(tokenizer.encode(text[:5000]).ids) == text[:5000]


@pytest.mark.parametrize("as_file", [True, False])
def test_a_local_tokenizer_by_path(trained, tmp_path, as_file):
    save_tokenizer(trained, tmp_path / "tok", "key", END_OF_TEXT, {})
    name = str(tmp_path / "tok" / "tokenizer.json" if as_file else tmp_path / "tok")
    tokenizer, end, config = fetch_tokenizer(name)
    assert end == END_OF_TEXT and config["eos_token"] == END_OF_TEXT
    assert tokenizer.get_vocab_size() == 1000
    before = tokenizer_fingerprint(name)
    path = tmp_path / "tok" / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    assert tokenizer_fingerprint(name) != before


def test_the_older_gpt2_layout_is_converted(trained, tmp_path):
    folder = tmp_path / "gpt2"
    folder.mkdir()
    model = json.loads(trained.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    tokenizer, end, _ = fetch_tokenizer(str(folder))
    assert end == END_OF_TEXT
    assert tokenizer.encode("Hello world").ids == trained.encode("Hello world").ids


def test_a_tokenizer_without_an_end_token_gets_one(tmp_path, capsys):
    from tokenizers import Tokenizer, models

    (tmp_path / "tok").mkdir()
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "tok" / "tokenizer.json"))
    tokenizer, end, _ = fetch_tokenizer(str(tmp_path / "tok"))
    assert tokenizer.token_to_id(end) == 1
    assert "no end-of-text token" in capsys.readouterr().err


def test_bad_names_are_refused(tmp_path, monkeypatch):
    with pytest.raises(CorpusError, match="no such file or folder"):
        fetch_tokenizer("./nowhere/at all")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CorpusError, match=r"tokenizer.json: not a tokenizer"):
        fetch_tokenizer(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"no tokenizer in it; expected tokenizer\.json"):
        fetch_tokenizer(str(tmp_path / "empty"))


def test_a_sentencepiece_model_without_its_package(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(CorpusError, match=r"holds a sentencepiece model .*pip install sentencepiece"):
        fetch_tokenizer(str(tmp_path))


@pytest.mark.parametrize("vocabulary", [{"a": 0, "<|endoftext|>": 1}, {"a": 0, "q": 1, "<|endoftext|>": 7}])
def test_a_tokenizer_without_an_unknown_token(tmp_path, vocabulary, capsys):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(vocabulary))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CorpusError, match=r"cannot encode characters that it doesn't know .*byte-level"):
        fetch_tokenizer(str(tmp_path))
    Tokenizer(models.BPE(vocabulary, [])).save(str(tmp_path / "tokenizer.json"))
    fetch_tokenizer(str(tmp_path))
    assert "drops characters that it doesn't know" in capsys.readouterr().err


def test_gaps_in_the_ids_count(tmp_path):
    from tokenizers import Tokenizer, models

    from toremi_cli.lm.tokenizer import open_tokenizer

    Tokenizer(models.WordLevel({"a": 0, END_OF_TEXT: 7}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    found = open_tokenizer(tmp_path)
    assert (found.eos_id, found.vocab_size) == (7, 8)
