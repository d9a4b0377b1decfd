import json

import pytest

from toremi_cli.errors import UsageError
from toremi_cli.topics.keywords import tokenize
from toremi_cli.topics.taxonomy import load_taxonomy

PAPER = """Academic_disciplines, Business, Communication, Concepts, Culture, Economy, Education, Energy,
Engineering, Entertainment, Entities, Ethics, Food_and_drink, Geography, Government, Health, History,
Human_behavior, Humanities, Information, Internet, Knowledge, Language, Law, Life, Lists, Literature, Mass_media,
Mathematics, Military, Nature, People, Philosophy, Politics, Religion, Science, Society, Sports, Technology, Time,
Universe"""


def test_the_built_in_taxonomy_has_the_papers_41_labels():
    taxonomy = load_taxonomy("wikipedia41")
    assert taxonomy.label_names == [name.strip() for name in PAPER.split(",")]
    assert len(taxonomy.labels) == 41


def test_every_word_of_the_built_in_lexicons_can_be_met():
    for label in load_taxonomy("wikipedia41").labels:
        assert len(set(label.words)) == len(label.words), label.name
        assert all(tokenize(word) == [word] for word in label.words), label.name


def test_none_keeps_the_fine_topics():
    assert load_taxonomy("none") is None


def test_json_with_words(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(
        json.dumps(
            {"name": "mine", "version": 3, "labels": [{"name": "R&D", "words": ["Lab coat"]}, "Sports", "Deep sea"]}
        )
    )
    taxonomy = load_taxonomy(str(path))
    assert (taxonomy.name, taxonomy.version) == ("mine", "3")
    assert taxonomy.labels[0].words == ("lab", "coat")
    assert "football" in taxonomy.labels[1].words, "a name of the built-in list brings its words"
    assert taxonomy.labels[2].words == ("deep", "sea")


@pytest.mark.parametrize(
    "name, text", [("list.txt", "# mine\nCats\n\nDogs and cats # two\n"), ("list.json", '["Cats", "Dogs and cats"]')]
)
def test_plain_lists(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    taxonomy = load_taxonomy(str(tmp_path / name))
    assert taxonomy.label_names == ["Cats", "Dogs and cats"]
    assert taxonomy.labels[1].words == ("dogs", "cats")


def test_the_fingerprint_follows_the_words(tmp_path):
    one, two = tmp_path / "a.json", tmp_path / "b.json"
    one.write_text('{"name": "t", "labels": [{"name": "X", "words": ["a1b"]}]}')
    two.write_text('{"name": "t", "labels": [{"name": "X", "words": ["a1c"]}]}')
    assert load_taxonomy(str(one)).fingerprint != load_taxonomy(str(two)).fingerprint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "no labels"),
        ('{"labels": 3}', "no labels"),
        ('["A", "A"]', "'A' stands in it twice"),
        ('[{"words": ["x"]}]', "label 0 has no name"),
        ('[{"name": "A", "words": "x"}]', "'words' of label 'A'"),
        ('[{"name": "A", "prior": 7}]', "'prior' of label 'A'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, text, said):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_taxonomy(str(path))


def test_a_missing_file_names_the_choices(tmp_path):
    with pytest.raises(UsageError, match=r"No such file.*'wikipedia41', 'none' or a file"):
        load_taxonomy(str(tmp_path / "absent.json"))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_taxonomy(str(tmp_path / "latin.txt"))
