import json
from dataclasses import replace

import pytest
import torch

from tests.reweight.policies.test_toremi_paper import stats
from tests.reweight.reference import GOLDEN
from toremi_cli.reweight import PolicyConfig, PolicyData, make_policy

COURSES = ["toremi", "group-dro", "shearing", "odm", "ado", "stratified", "temperature"]
SETTINGS = {"ado": {"burn_in_steps": 100}, "linupper": {"burn_in_steps": 0}, "temperature": {"temperature": 10 / 3}}


@pytest.mark.parametrize("name", COURSES)
def test_trajectory_equals_the_plain_computation(name):
    case = json.loads((GOLDEN / f"{name}.json").read_text())
    before = {name: case.get(name) for name in ("ngram_loss", "unigram_loss")}
    data = PolicyData(sizes=case["sizes"], reference_loss=case["target"], **before)
    policy = make_policy(PolicyConfig(name=name, **SETTINGS.get(name, {})), case["topics"], data)
    for interval, ((step, losses), expected) in enumerate(zip(case["losses"], case["course"], strict=True)):
        counts = [0 if x is None else case["samples"] for x in losses]
        seen = stats(losses, step, counts)
        if "gain" in case:
            gain, word_gain = (torch.tensor(case[g][interval], dtype=torch.float64) for g in ("gain", "word_gain"))
            tokens = torch.tensor(case["tokens"], dtype=torch.float64).where(seen.seen, 0.0)
            context = {"shuffled_loss": seen.loss + gain, "word_gain": word_gain, "num_words": tokens / 2}
            seen = replace(seen, token_loss=seen.loss, num_tokens=tokens, **context)
        policy.update(seen, 2 if step >= case["switch_step"] else 1)
        assert policy.weights.tolist() == pytest.approx(expected, rel=1e-9), step


@pytest.mark.parametrize("topic", ["Lists", "Sports"])
def test_the_golden_noise_and_what_is_known_by_heart_lose(topic):
    case = json.loads((GOLDEN / "toremi.json").read_text())
    weights = [row[case["topics"].index(topic)] for row in case["course"]]
    assert max(weights) < 0.4


def test_sample_weights_equal_the_plain_computation():
    case = json.loads((GOLDEN / "linupper.json").read_text())
    policy = make_policy(PolicyConfig(name="linupper", **SETTINGS["linupper"]), case["topics"])
    for (step, losses), expected in zip(case["losses"], case["course"], strict=True):
        seen = torch.tensor([x for x in losses if x is not None], dtype=torch.float64)
        assert policy.sample_factors(seen, step).tolist() == pytest.approx(expected, rel=1e-9)
