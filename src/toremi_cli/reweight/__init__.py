"""Topic reweighting as pure arithmetic: tensors in, tensors out. Needs torch and numpy, nothing else of toremi.

A training loop uses a policy (`make_policy`), `TopicStatistics` of its losses, and where weights act on the loss
`sample_weights`; examples/plain_loop.py has them in a loop of ten lines.
"""

from toremi_cli.policy_config import PolicyConfig
from toremi_cli.reweight.alarms import alarms, held_down, weight_health
from toremi_cli.reweight.policies import POLICIES, MissingNeed, Policy, PolicyData, make_policy, policy_class
from toremi_cli.reweight.policies.data import weight_course
from toremi_cli.reweight.sample_weights import normalizer, sample_weights, segment_mean
from toremi_cli.reweight.sampling import StratumDraws, importance, sampling_shares
from toremi_cli.reweight.stage_switch import StageSwitch
from toremi_cli.reweight.stats import IntervalStats, TopicStatistics, sums_device
from toremi_cli.reweight.strata import Strata, build_strata
from toremi_cli.reweight.worth import context_sums, other_tokens, worth

__all__ = [
    "POLICIES",
    "IntervalStats",
    "MissingNeed",
    "Policy",
    "PolicyConfig",
    "PolicyData",
    "StageSwitch",
    "Strata",
    "StratumDraws",
    "TopicStatistics",
    "alarms",
    "build_strata",
    "context_sums",
    "held_down",
    "importance",
    "make_policy",
    "normalizer",
    "other_tokens",
    "policy_class",
    "sample_weights",
    "sampling_shares",
    "segment_mean",
    "sums_device",
    "weight_course",
    "weight_health",
    "worth",
]
