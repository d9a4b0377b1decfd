import numpy as np
import pytest

from toremi_cli.topics.labelling import base_forms, map_topics, vector_evidence, without_common_part, word_evidence
from toremi_cli.topics.taxonomy import Label, Taxonomy, load_taxonomy

KEYWORDS = {
    "Sports": "match coach goals striker season league injury ankle weekend club",
    "Law": "court plaintiff appeal statute judge pursuant subsection damages filed",
    "Health": "patients doses tablet doctor symptoms infection leaflet mg",
    "Technology": "python function module install compiler bug thread api package",
    "Religion": "church bishop prayer gospel sin parish sunday",
    "Food_and_drink": "recipe sauce baking oven garlic chicken tbsp",
    "Literature": "thou thee hath sonnet act scene enter exeunt macbeth",
    "Mathematics": "theorem lemma proof integer matrix eigenvalue let",
}
TOPICS = {label: words.split() for label, words in KEYWORDS.items()}


def test_plain_topics_get_the_plain_label_first():
    labelled = map_topics(list(TOPICS.values()), load_taxonomy("wikipedia41"))
    assert [topic.labels[0] for topic in labelled] == list(TOPICS)
    for topic in labelled:
        assert 1 <= len(topic.labels) <= 3
        assert list(topic.scores) == sorted(topic.scores, reverse=True)
        assert all(0 < score <= 1 for score in topic.scores)
        assert topic.source == "lexicon"


def test_it_abstains_when_unsure():
    topics = [["qwx", "zzyx", "blorb"], [], ["goal"], *TOPICS.values()]
    labelled = map_topics(topics, load_taxonomy("wikipedia41"))
    assert [topic.labels for topic in labelled[:3]] == [(), (), ()]
    assert labelled[0].source == "none"
    assert all(not topic.labels for topic in map_topics(topics, load_taxonomy("wikipedia41"), min_score=1.0))


def test_max_labels_and_closeness():
    words = [["court", "judge", "law", "election", "vote", "party", "bank", "inflation", "gdp"], TOPICS["Health"]]
    taxonomy = load_taxonomy("wikipedia41")
    assert len(map_topics(words, taxonomy, max_labels=1)[0].labels) == 1
    assert len(map_topics(words, taxonomy, closeness=0.1, min_score=0.1)[0].labels) == 3
    assert len(map_topics(words, taxonomy, closeness=1.0)[0].labels) == 1


def test_a_hub_label_loses_against_a_label_of_the_matter():
    # Both labels hold both words; only the prior tells them apart.
    labels = (Label("Concepts", ("theory", "model"), 0.3), Label("Physics", ("theory", "model"), 1.0))
    evidence, hits = word_evidence([["theory", "models"]], Taxonomy("t", "1", labels))
    assert evidence[0, 0] == pytest.approx(0.3 * evidence[0, 1])
    assert hits.tolist() == [[2, 2]]


def test_inflections_meet_the_lexicon():
    assert "vote" in base_forms("voting")
    assert "swim" in base_forms("swimming")
    assert "company" in base_forms("companies")
    assert base_forms("virus")[0] == "virus"


def test_only_a_hub_label_loses_what_it_has_on_all_topics():
    evidence, prior = np.array([[0.4, 0.4], [0.2, 0.2]]), np.array([1.0, 0.5])
    assert without_common_part(evidence, prior).tolist() == [[0.4, pytest.approx(0.3)], [0.2, 0.0]]
    assert without_common_part(evidence[:1], prior).tolist() == [[0.4, 0.4]]


def test_nearness_labels_a_topic_that_shares_no_word_with_the_lexicon():
    space = {"ball": [1, 0, 0.1], "team": [1, 0.1, 0], "arsenal": [0.9, 0, 0], "loan": [0, 1, 0], "cash": [0, 1, 0.1]}

    def word_vectors(words):
        known = np.array([word in space for word in words], dtype=bool)
        return np.array([space.get(word, [0, 0, 0]) for word in words], dtype=np.float32).reshape(-1, 3), known

    labels = (Label("Sport", ("ball", "team")), Label("Money", ("loan", "cash")), Label("Odd", ("nowhere",)))
    taxonomy = Taxonomy("t", "1", labels)
    evidence = vector_evidence([["arsenal", "unknown"], ["unknown"], []], taxonomy, word_vectors)
    assert evidence[0, 0] > 0.4
    assert evidence[0, 1] == evidence[0, 2] == 0
    assert not evidence[1:].any()
    assert map_topics([["arsenal"]], taxonomy)[0].labels == ()
    assert map_topics([["arsenal"]], taxonomy, min_score=0.2, word_vectors=word_vectors)[0].labels == ("Sport",)


@pytest.mark.parametrize(
    ("words", "not_this"),
    [
        (
            "trait impl crate rust match type test lifetime generics struct macro closure set pattern compiler",
            "Sports",
        ),
        ("mock magicmock spec spam eggs call assert attribute patch return side cheese unittest", "Food_and_drink"),
    ],
)
def test_code_is_technology_whatever_its_names_say_elsewhere(words, not_this):
    (found,) = map_topics([words.split()], load_taxonomy("wikipedia41"))
    assert found.labels[0] == "Technology" and not_this not in found.labels
