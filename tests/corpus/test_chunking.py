from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.realtext import news_articles
from toremi_cli.corpus.blocks import best_cut, split_blocks
from toremi_cli.corpus.chunking import Chunker
from toremi_cli.corpus.tokenizer import train_tokenizer
from toremi_cli.lm.tokenizer import TextTokenizer


@cache
def tokenizer() -> TextTokenizer:
    return TextTokenizer(train_tokenizer(news_articles()[:100], 600, 10**9))


@cache
def metaspace_tokenizer() -> TextTokenizer:
    """Of another kind: puts a space before the text, lower-cases, knows no rare characters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.train_from_iterator(
        news_articles()[:50], trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"], show_progress=False)
    )
    return TextTokenizer(raw)


texts = st.text(
    alphabet=st.one_of(
        st.sampled_from("abc .\n\t!?你好。🙂👩‍👩‍👧é́ی\u200b\x00"), st.characters(exclude_categories=["Cs"])
    ),
    min_size=1,
    max_size=400,
)


@settings(max_examples=150)
@given(st.lists(texts, min_size=1, max_size=4), st.integers(16, 40), st.booleans())
def test_samples_join_to_the_text_and_keep_the_limit(documents, max_tokens, other):
    chosen = metaspace_tokenizer() if other else tokenizer()
    for text, chunks in zip(documents, Chunker(chosen, max_tokens).cut(documents), strict=True):
        assert "".join(chunk.text for chunk in chunks) == text
        for chunk in chunks:
            assert chunk.text
            assert 1 <= chunk.num_tokens <= max_tokens
            assert chunk.num_tokens == max(1, chosen.count([chunk.text])[0])


def test_long_articles():
    text = "\n\n".join(news_articles()[:20])
    (chunks,) = Chunker(tokenizer(), 200).cut([text])
    assert "".join(chunk.text for chunk in chunks) == text
    assert all(chunk.num_tokens <= 200 for chunk in chunks)
    sizes = [chunk.num_tokens for chunk in chunks]
    assert sum(sizes) / len(sizes) > 175, "samples are nearly full"
    assert min(sizes) > 60, "no splinters"
    ends_well = sum(chunk.text[-1] in ".!?\n\"'" or after.text[0] == " " for chunk, after in pairwise(chunks))
    assert ends_well >= 0.95 * (len(chunks) - 1), "samples end with sentences or words"


def test_a_short_document_is_one_sample():
    assert [len(chunks) for chunks in Chunker(tokenizer(), 64).cut(["Short.", "x"])] == [1, 1]


def test_the_result_does_not_depend_on_the_batch():
    documents = news_articles()[:12]
    together = Chunker(tokenizer(), 100).cut(documents)
    alone = [Chunker(tokenizer(), 100).cut([document])[0] for document in documents]
    assert together == alone


def test_the_end_of_text_token_written_out_is_plain_text():
    (chunks,) = Chunker(tokenizer(), 64).cut(["before <|endoftext|> after"])
    end = tokenizer().raw.token_to_id("<|endoftext|>")
    assert end not in tokenizer().ids([chunks[0].text])[0]


@pytest.mark.parametrize("text", ["a" * 1000, "word " * 300, "\n" * 500, "你好" * 400])
def test_blocks_join(text):
    blocks = list(split_blocks(text, 64))
    assert "".join(blocks) == text and max(map(len, blocks)) <= 64


def test_best_cut_prefers_paragraph_line_sentence_space():
    assert best_cut("aa. b\nc\n\ndd ee", 0, 12) == 9
    assert best_cut("aa. b\nc dd ee", 0, 10) == 6
    assert best_cut("aaaa bb. cc dd ee", 2, 13) == 8
    assert best_cut("aaaa bb cc", 2, 9) == 7
    assert best_cut("aaaaaaaaaa", 2, 9) == 9
