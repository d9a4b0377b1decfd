"""The policies by name with the settings that each reads, and these settings: all that a command line needs of them.

Their arithmetic stands in `toremi_cli.reweight`; to name policies and to check their settings takes no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from toremi_cli import plugins
from toremi_cli.settings import Setting, problem_of, settings_of

SHUFFLED = "shuffled-topics"
TOPIC_MODES = ("labels", "fine", "source")
"""What may be weighed: see `sample_topics`."""


class Listed(NamedTuple):
    """What a list says of a policy."""

    acts_on: str
    """What its weights were made to act on, `loss` or `sampling`; the same as `Policy.acts_on`."""
    summary: str
    """One line."""
    reads: tuple[str, ...] = ()
    """Its own settings: fields of `PolicyConfig`; those of `EVERY_POLICY` come on top."""


EVERY_POLICY = ("apply", "normalize", "sampling_floor", "max_repeats")
"""Settings of how weights act, whatever policy they are of."""

_PAPER = ("alpha", "w_max", "rule", "loss_unit")

POLICY_LIST: dict[str, Listed] = {
    "uniform": Listed("loss", "plain pre-training: every topic weighs 1"),
    "toremi-1": Listed("loss", "the paper's first stage throughout: topics of high loss gain weight", _PAPER),
    "toremi-2": Listed(
        "loss",
        "the paper's two stages: in the second, topics of high loss lose weight",
        (*_PAPER, "w_min", "stage_switch", "plateau_threshold"),
    ),
    "toremi": Listed(
        "sampling", "ours: noise, rote and junk, worth less than most text, are drawn less", ("w_min", "w_max")
    ),
    "linupper": Listed(
        "loss",
        "sample weights: low-loss samples of a batch count less (arXiv 2502.06733)",
        ("burn_in_steps", "softmax_scale"),
    ),
    "group-dro": Listed(
        "loss",
        "DoReMi: topics of large excess loss gain weight (arXiv 2305.10429)",
        ("eta", "smoothing", "loss_unit"),
    ),
    "odm": Listed(
        "sampling", "online data mixing: a bandit whose reward is the loss (arXiv 2312.02406)", ("loss_unit",)
    ),
    "ado": Listed(
        "sampling",
        "adaptive data optimization: power laws tell what still falls (arXiv 2410.11820)",
        ("burn_in_steps", "loss_unit"),
    ),
    "shearing": Listed(
        "sampling",
        "Sheared LLaMA: topics far above a target loss gain share (arXiv 2310.06694)",
        ("eta", "smoothing", "loss_unit"),
    ),
    "stratified": Listed("sampling", "control: every topic has the same share"),
    "temperature": Listed("sampling", "control: shares proportional to size^(1/T)", ("temperature",)),
    SHUFFLED: Listed("loss", "control: another policy's weights on the wrong topics", ("of",)),
    "random-weights": Listed(
        "loss", "control: random weights between the bounds, new ones each interval", ("w_min", "w_max")
    ),
    "frozen": Listed("loss", "control: the weights of another run's table"),
}
_SHUFFLABLE = tuple(name for name in POLICY_LIST if name != SHUFFLED)


@dataclass(frozen=True)
class PolicyConfig:
    """Settings of a policy; which of them it reads, `POLICY_LIST` tells.

    Raises:
        ValueError: a value out of its range; the message names the field.
    """

    name: str = "toremi"
    """Name of the policy: one of `policy_names`."""
    seed: int = 0
    """Seed of policies that draw random numbers: the run's."""

    apply: Annotated[
        str,
        Setting(
            "What weights act on; auto is what the policy was made for",
            choices=("auto", "loss", "sampling", "both"),
        ),
    ] = "auto"
    normalize: Annotated[
        bool, Setting("Scale the loss so that the mean weight is 1: the learning rate stays that of uniform.")
    ] = False
    sampling_floor: Annotated[
        float, Setting("Least rate at which a topic is drawn, as a fraction of its natural one.", least=0, most=1)
    ] = 0.1
    max_repeats: Annotated[
        float | None,
        Setting("Most times a topic's samples are drawn in a run, on average.", least=1, none="any"),
    ] = 4.0

    alpha: Annotated[float, Setting("Step size of an update (reference: 1).", least=0)] = 1.0
    w_min: Annotated[float, Setting("Lower bound of a weight (reference: 0.1).", least=0, most=1)] = 0.1
    w_max: Annotated[float, Setting("Upper bound of a weight (reference: 5).", least=1)] = 5.0
    rule: Annotated[
        str,
        Setting(
            "The reference code's rule, or the formula that the paper prints", choices=("multiplicative", "additive")
        ),
    ] = "multiplicative"
    loss_unit: Annotated[
        str, Setting("What topic losses are counted by; the paper's is token", choices=("token", "byte"))
    ] = "token"
    stage_switch: Annotated[str, Setting("When stage 2 begins: plateau, step:N, fraction:F or never.")] = "plateau"
    plateau_threshold: Annotated[
        float, Setting("Relative decrease of the validation loss at or below which there is a plateau.")
    ] = 0.01
    eta: Annotated[float, Setting("Step size of the exponentiated update.", least=0)] = 1.0
    smoothing: Annotated[
        float | None,
        Setting(
            "Share of the uniform distribution mixed in.",
            least=0,
            most=1,
            unset="the paper's (group-dro 1e-3, shearing 1e-4)",
        ),
    ] = None
    temperature: Annotated[float, Setting("T: 1 for natural shares, large for equal ones.", least=1)] = 3.33
    """The exponent 0.3 of multilingual pre-training."""
    burn_in_steps: Annotated[int, Setting("Steps with uniform weights at the beginning.", least=0)] = 1000
    softmax_scale: Annotated[float, Setting("r of softmax(f / r).", above=0)] = 0.4
    of: Annotated[
        str,
        Setting("The policy whose weights land on the wrong topics", choices=_SHUFFLABLE),
    ] = "toremi"

    def __post_init__(self) -> None:
        if problem := problem_of(self, by_name=True):
            raise ValueError(problem)


def policy_names() -> list[str]:
    """Of all policies, the plug-ins last."""
    return [*POLICY_LIST, *(name for name in plugins.plugin_names(plugins.POLICIES) if name not in POLICY_LIST)]


def listed(name: str) -> Listed:
    """What there is to say of a policy; a plug-in says it itself, by `acts_on`, docstring and `reads`.

    Raises:
        ValueError: no such policy, or a plug-in that can't be used.
    """
    if name in POLICY_LIST:
        return POLICY_LIST[name]
    found = plugins.load_plugin(plugins.POLICIES, name)
    if found is None:
        raise ValueError(f"--policy {name}: expected one of {', '.join(policy_names())}")
    reads = tuple(getattr(found, "reads", ()))
    if getattr(found, "name", None) != name or not set(reads) <= settings_of(PolicyConfig).keys():
        raise plugins.PluginError(
            f"plug-in {name!r} of {plugins.plugin_version(plugins.POLICIES, name)}: expected a "
            f"toremi_cli.reweight.Policy with name = {name!r} and reads among the fields of PolicyConfig"
        )
    return Listed(found.acts_on, (found.__doc__ or "no description").strip().splitlines()[0], reads)


def settings_read(name: str, of: str = PolicyConfig.of) -> tuple[str, ...]:
    """The settings that a policy reads, its own first; `of` is the one that `shuffled-topics` shuffles."""
    inner = listed(of).reads if name == SHUFFLED else ()
    return (*listed(name).reads, *inner, *EVERY_POLICY)


def problem_of_policy(policy: Mapping[str, Any]) -> str | None:
    """What is wrong with the name and the settings of a policy, in one line; None if nothing is."""
    try:
        policy_settings(policy)
    except ValueError as problem:
        return str(problem)
    return None


def policy_settings(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Name and all settings that a policy reads: the defaults, but for those given.

    Args:
        policy: its `name`, the default where it has none, and settings.

    Raises:
        ValueError: no such policy, a setting that it doesn't read, or a value out of range.
    """
    given = {key: value for key, value in policy.items() if key != "name"}
    name = policy.get("name", PolicyConfig.name)
    listed(name)
    specs = settings_of(PolicyConfig)
    values: dict[str, Any] = {"of": PolicyConfig.of}
    for key in sorted(given, key=lambda key: key != "of"):  # what is shuffled decides what else is read
        reads = settings_read(name, values["of"])
        if key not in reads:
            raise ValueError(f"{key}: policy {name} reads {', '.join(reads)}")
        try:
            values[key] = specs[key].read(given[key])
        except ValueError as problem:
            raise ValueError(f"{key}={given[key]!r}: {problem}") from None
    reads = settings_read(name, values["of"])
    return {"name": name, **{key: values.get(key, specs[key].default) for key in reads}}
