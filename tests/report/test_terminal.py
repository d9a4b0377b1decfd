from toremi_cli.report.terminal import short_names, side_by_side


def heads(names):
    return [
        column.header.plain
        for t in side_by_side("x", names, [("a", dict.fromkeys(names, 1.0))])
        for column in t.columns[1:]
    ]


def test_as_many_columns_as_have_room_for_whole_names():
    short = [f"run{i}" for i in range(5)]
    assert len(side_by_side("x", short, [])) == 1 and heads(short) == short
    longer = [f"toremi-interval-{i}" for i in range(5)]
    assert len(side_by_side("x", longer, [])) == 3 and heads(longer) == longer


def test_of_names_too_long_the_part_that_differs_is_shown():
    names = [f"a-mixed-corpus-of-sixteen-sources-{policy}-s0" for policy in ("uniform", "toremi")]
    assert short_names(names, 24) == ["…uniform-s0", "…toremi-s0"]
    assert short_names(["one-name-that-is-much-too-long-for-that"], 11) == ["one-n…-that"]
    assert short_names(["a-b", "a-c"], 24) == ["a-b", "a-c"]
    assert heads(names) == ["…uniform-s0", "…toremi-s0"]
