import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tests.realtext import news_articles
from toremi_cli.topics.keywords import NEARNESS_POWER, STOP_WORDS, class_tfidf, new_topic_name, tokenize


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't panic! Tom’s mp3-player", ["don't", "panic", "tom", "mp3", "player"]),
        ("cost $20,000 in 2024, at 0x3f &#39;", ["cost", "in", "at"]),
        ("snake_case_word() and kebab-case", ["snake", "case", "word", "and", "kebab", "case"]),
        ("Übergrößen, naïve cafe\u0301", ["übergrößen", "naïve", "café"]),
        ("機械学習 and हिन्दी", ["機械", "械学", "学習", "and", "हिन्दी"]),
        ("x y " + "z" * 41, []),
        ("", []),
    ],
)
def test_tokenize(text, words):
    assert tokenize(text) == words


def test_one_accent_does_not_change_the_other_words():
    for article in news_articles()[:50]:
        assert tokenize(article + " é")[:100] == tokenize(article)[:100]


def test_stop_words_are_words_of_the_tokenizer():
    assert all(tokenize(word) in ([word], []) for word in STOP_WORDS)
    assert {"the", "don't", "nbsp"} <= STOP_WORDS
    assert not {"system", "fire", "bill", "computer"} & STOP_WORDS


def test_class_tfidf_by_hand():
    vocabulary = ["goal", "the", "bank", "match"]
    counts = csr_matrix(np.array([[3, 10, 0, 3], [1, 10, 4, 0]]))
    keywords = class_tfidf(counts, vocabulary, top=2)
    # The mean topic has (16 + 15) / 2 words.
    assert keywords[0] == [
        ("match", pytest.approx(3 / 16 * np.log1p(15.5 / 3))),
        ("goal", pytest.approx(3 / 16 * np.log1p(15.5 / 4))),
    ]
    assert keywords[1][0][0] == "bank"
    assert all(word != "the" for topic in keywords for word, _ in topic)


def test_a_word_near_to_the_topic_goes_before_one_that_is_as_frequent():
    counts = csr_matrix([[4, 4, 0], [0, 0, 8]])
    topics, words = np.eye(2), np.array([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]])
    keywords = class_tfidf(counts, ["film", "actor", "court"], 2, vectors=(topics, words))
    assert [word for word, _ in keywords[0]] == ["actor", "film"] and keywords[1][0][0] == "court"
    plain = class_tfidf(counts, ["film", "actor", "court"], 2)
    assert keywords[0][0][1] == pytest.approx(plain[0][0][1] * 0.8**NEARNESS_POWER)


def test_class_tfidf_does_not_depend_on_the_order_of_words_and_bears_an_empty_topic():
    vocabulary = ["b", "a", "d", "c"]
    counts = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [2, 2, 1, 1]])
    once = class_tfidf(csr_matrix(counts), vocabulary, 3, stop_words=())
    order = [3, 1, 0, 2]
    again = class_tfidf(csr_matrix(counts[:, order]), [vocabulary[i] for i in order], 3, stop_words=())
    assert once == again
    assert once[1] == []
    assert [word for word, _ in once[2]] == ["a", "b", "c"]


def test_topic_names_are_short_and_unique():
    words = ["film", "films", "award", "actor", "director"]
    taken: list[str] = []
    for _ in range(4):
        taken.append(new_topic_name(words, taken))
    assert taken == ["film-award-actor", "film-award-actor-director", "film-award-actor-2", "film-award-actor-3"]
    assert new_topic_name([], []) == "topic"
    assert new_topic_name(["company", "companies", "bank"], []) == "company-bank"


def test_credits_and_stop_words_of_other_languages_are_in_no_name_that_has_other_words():
    assert new_topic_name(["getty", "der", "film", "und", "actor", "award"], []) == "film-actor-award"
    assert new_topic_name(["der", "die", "und"], []) == "die"
    assert new_topic_name(["der", "und"], []) == "der-und"


def test_a_name_tells_the_kind_of_text_and_stays_unique():
    assert new_topic_name(["film", "actor", "award"], ["film-actor-award"], "repeated lines") == (
        "film-actor-award~repeated-lines"
    )
    assert new_topic_name([], [], "no known words, thai script") == "no-known-words-thai-script"
    assert new_topic_name([], ["no-known-words"], "no known words") == "no-known-words-2"
