import json

import pytest

from toremi_cli.reweight import StageSwitch


def test_plateau_switches_at_a_decrease_of_at_most_1_percent():
    switch = StageSwitch("plateau", 1000, 0.01)
    assert not switch.observe(100, 10.0)  # the first has nothing to be compared with
    assert not switch.observe(200, 9.89)  # 1.1%
    assert switch.stage_for(200) == 1
    assert switch.observe(300, 9.8)  # 0.9%
    assert switch.stage_for(299) == 1
    assert switch.stage_for(300) == 2
    assert "step 300" in switch.reason
    assert "0.91%" in switch.reason
    assert not switch.observe(400, 5.0)  # no way back
    assert switch.stage_for(400) == 2


def test_plateau_at_the_threshold_itself():
    switch = StageSwitch("plateau", threshold=0.25)
    switch.observe(1, 4.0)
    assert switch.observe(2, 3.0)


def test_plateau_also_when_the_loss_rises():
    switch = StageSwitch("plateau")
    switch.observe(1, 2.0)
    assert switch.observe(2, 2.5)


def test_step_and_fraction():
    switch = StageSwitch("step:7000", 8000)
    switch.observe(100, 2.0)
    switch.observe(200, 2.0)
    assert [switch.stage_for(s) for s in (200, 6999, 7000, 7001)] == [1, 1, 2, 2]
    assert "7000" in switch.reason
    assert [StageSwitch("fraction:0.875", 8000).stage_for(s) for s in (6999, 7000)] == [1, 2]
    assert StageSwitch("fraction:0.7", 10).switch_step == 7  # not 8 by rounding errors
    assert StageSwitch("fraction:0", 10).stage_for(0) == 2
    assert StageSwitch("never").stage_for(10**9) == 1


@pytest.mark.parametrize("spec", ["", "step", "step:", "step:-3", "step:1.5", "fraction:2", "fraction:x", "sometimes"])
def test_bad_spec(spec):
    with pytest.raises(ValueError, match="expected 'plateau', 'step:N'"):
        StageSwitch(spec, 100)


def test_bad_validation_loss():
    with pytest.raises(ValueError, match=r"step 5.*nan"):
        StageSwitch("plateau").observe(5, float("nan"))


def test_state_comes_back():
    switch = StageSwitch("plateau")
    switch.observe(1, 2.0)
    again = StageSwitch("plateau")
    again.load_state_dict(json.loads(json.dumps(switch.state_dict())))
    assert again.observe(2, 1.999)
    assert again.stage_for(2) == 2
