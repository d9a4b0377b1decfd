from pathlib import Path

import pytest
from tokenizers import ByteLevelBPETokenizer, SentencePieceBPETokenizer, Tokenizer, models

from toremi_cli.lm.words import word_beginnings

TEXT = Path(__file__).read_text("utf-8")
WORDS = ["tokenizers begin words", "a word begins, and words go on: 12345 beginnings", "слово за слово", "言葉の始まり"]


@pytest.fixture(params=[ByteLevelBPETokenizer, SentencePieceBPETokenizer])
def tokenizer(request):
    made = request.param()
    made.train_from_iterator(WORDS * 20 + [TEXT], 400, show_progress=False)
    return made


def begun(tokenizer, text):
    """The tokens of a text that begin a word, as they are written in the vocabulary, spaces as such."""
    begins = word_beginnings(tokenizer, tokenizer.get_vocab_size())
    encoded = tokenizer.encode(text)
    return [
        name.replace("Ġ", " ").replace("▁", " ")
        for name, i in zip(encoded.tokens, encoded.ids, strict=True)
        if begins[i]
    ]


def test_tokens_with_a_space_begin_words_and_their_rest_does_not(tokenizer):
    found = begun(tokenizer, " tokenwords begin: words")
    assert [name[:1] for name in found] == [" ", " ", ":", " "]


def test_each_token_of_a_script_without_case_counts(tokenizer):
    assert len(begun(tokenizer, "言葉の始まり")) == len(tokenizer.encode("言葉の始まり").ids)


def test_cased_letters_and_digits_go_on_with_their_word():
    going_on, beginning = ["ово", "Ж", "12", "ing"], ["▁слово", "Ġа", "言葉", ",", "<s>"]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(going_on + beginning)}, unk_token="<s>"))
    assert word_beginnings(tokenizer, 9).tolist() == [False] * 4 + [True] * 5


def test_word_pieces_say_it_themselves():
    vocabulary = {"[UNK]": 0, "word": 1, "##s": 2, "begin": 3, ",": 4}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    assert word_beginnings(tokenizer, 7).tolist() == [True, True, False, True, True, True, True]


def test_a_heading_makes_no_word_pieces():
    tokenizer = Tokenizer(models.WordLevel({"##": 0, "Ġword": 1, "s": 2, "###": 3}, unk_token="##"))
    assert word_beginnings(tokenizer, 4).tolist() == [True, True, False, True]


def test_ids_that_no_token_has_count_as_beginnings(tokenizer):
    size = tokenizer.get_vocab_size()
    assert word_beginnings(tokenizer, size + 9)[size:].all()
