from tests.docs_style import faults, sentences

LONG = "word " * 36


def pages(root, readme="Short.\n", **docs):
    (root / "docs" / "log").mkdir(parents=True)
    (root / "README.md").write_text(readme, encoding="utf-8")
    for name, text in docs.items():
        (root / "docs" / f"{name.replace('__', '/')}.md").write_text(text, encoding="utf-8")
    return list(faults(root))


def test_sentences_are_of_prose_alone():
    text = "# A heading\n    code 1. Code\n\nOne, e.g. `a.b` and [two words](x.md). Three?\n- item\n  of two lines\n\n"
    text += "| a. | B |\n\n```\nx. Y\n```\n\n    more. Code\n"
    assert list(sentences(text)) == ["One, e.g. `a.b` and two words.", "Three?", "item of two lines"]


def test_long_sentences_and_pages_are_found(tmp_path):
    found = pages(tmp_path, "\n" * 111, a=f"{LONG}end.\n", b="Four short words here. " * 301)
    assert [fault.split(":")[0] for fault in found] == ["docs/a.md", "docs/b.md", "README.md"]
    assert "37 words, 35 at most" in found[0]
    assert "1204 words, 1200 at most" in found[1]
    assert "111 lines" in found[2]


def test_the_log_may_be_long_but_its_links_must_lead_somewhere(tmp_path):
    found = pages(tmp_path, log__x=f"{LONG}end [a](../b.md#c-d), [e](gone.md).\n", b="# C, d\n\n[f](#g)\n")
    assert found == [
        "docs/b.md: links to #g, a heading that isn't there",
        "docs/log/x.md: links to gone.md, which isn't there",
    ]
