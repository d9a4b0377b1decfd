"""The policies by name. Each stands in a small file of its own, with its paper and formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from toremi_cli import plugins
from toremi_cli.policy_config import PolicyConfig, policy_names
from toremi_cli.reweight.policies.ado import Ado
from toremi_cli.reweight.policies.base import MissingNeed, Policy
from toremi_cli.reweight.policies.data import PolicyData
from toremi_cli.reweight.policies.frozen import Frozen
from toremi_cli.reweight.policies.group_dro import GroupDro
from toremi_cli.reweight.policies.linupper import LinUpper
from toremi_cli.reweight.policies.odm import Odm
from toremi_cli.reweight.policies.random_weights import RandomWeights
from toremi_cli.reweight.policies.shearing import Shearing
from toremi_cli.reweight.policies.shuffled_topics import ShuffledTopics
from toremi_cli.reweight.policies.stratified import Stratified, Temperature
from toremi_cli.reweight.policies.toremi import Toremi
from toremi_cli.reweight.policies.toremi_paper import ToremiOne, ToremiTwo
from toremi_cli.reweight.policies.uniform import Uniform

POLICIES: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (
        Uniform,
        ToremiOne,
        ToremiTwo,
        Toremi,
        LinUpper,
        GroupDro,
        Odm,
        Ado,
        Shearing,
        Stratified,
        Temperature,
        ShuffledTopics,
        RandomWeights,
        Frozen,
    )
}


def policy_class(name: str) -> type[Policy]:
    """The policy of that name, built in or a plug-in's.

    Raises:
        ValueError: there is none, or the plug-in is no policy.
    """
    found = POLICIES.get(name) or plugins.load_plugin(plugins.POLICIES, name)
    if found is None:
        raise ValueError(f"policy is {name!r}; expected one of {', '.join(policy_names())}")
    if not (isinstance(found, type) and issubclass(found, Policy)):
        raise plugins.PluginError(f"plug-in {name!r} is {found!r}; expected a subclass of toremi_cli.reweight.Policy")
    return found


def make_policy(config: PolicyConfig, topics: Sequence[str], data: PolicyData | None = None) -> Policy:
    """The policy that `config` names, over `topics`.

    Args:
        config: its settings.
        topics: their names.
        data: facts about them, in the same order. Sizes are used where they are given; what a policy cannot do
            without stands in its `needs`.

    Raises:
        ValueError: no policy of that name, a topic that occurs twice, something missing in `data`.
    """
    if config.name == ShuffledTopics.name:
        return ShuffledTopics(make_policy(replace(config, name=config.of), topics, data))
    return policy_class(config.name)(config, topics, data)


__all__ = ["POLICIES", "MissingNeed", "Policy", "PolicyData", "make_policy", "policy_class"]
