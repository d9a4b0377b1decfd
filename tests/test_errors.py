from toremi_cli.errors import reason


def test_a_reason_is_one_short_line_and_never_nothing():
    assert reason(ValueError("one\n\n  two ")) == "one two"
    assert reason(ValueError()) == reason(ValueError("\n")) == "ValueError"
    assert len(reason(ValueError("x " * 500))) == 200
    assert len(reason(ValueError("x " * 500), most=7)) == 7
