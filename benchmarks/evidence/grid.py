"""What is run: corpora, noise, topics, policies and seeds, in several sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

POLICIES = (
    "uniform", "stratified", "toremi", "toremi-2", "temperature", "toremi-1",
    "ado", "odm", "doremi", "group-dro", "linupper", "shuffled-topics", "random-weights",
)  # fmt: skip
PROXY = "doremi-proxy"
"""The run whose mean weights `doremi` draws by."""
POLICY_FLAGS = {
    "temperature": ("--set", "temperature=2"),
    "toremi-1": ("--set", "normalize=true"),
    # The reference switches at step 7,000 of 8,000.
    "toremi-2": ("--set", "stage_switch=fraction:0.875", "--set", "normalize=true"),
    "shuffled-topics": ("--set", "of=toremi"),
    "doremi": ("--set", "apply=sampling"),
    PROXY: ("--set", "apply=sampling", "--set", "eta=0.1"),
}
"""What a policy gets besides its name. Without normalize the paper's rule raises the learning rate as well, and its
runs could not be compared with others. DoReMi's proxy weighs the loss, with a step of 1: on natural draws most of the
batch then counts for nothing (2.749 bits a byte on validation, `uniform` 2.478; by sampling 2.485, with 0.1 2.472)."""
TRAINED_BY = {"doremi": "frozen", PROXY: "group-dro"}
"""Policies of `toremi` for what is several runs: see `found_before` in `runs.py`."""
WITHOUT = "without-"
"""Begins the names of bounds: `without-junk_logs` draws no sample of the sources whose names begin with 'junk_logs',
and all others as `uniform` would, at its rate. A bound knows the labels, which a policy is to do without."""
ABLATIONS = {
    "toremi-2 by sampling": ("toremi-2", "--set", "apply=sampling"),
    "toremi-2 by byte": ("toremi-2", "--set", "loss_unit=byte"),
    # Its exploration ends after K ln K turns of K topics: with a turn an interval, after most runs here.
    "odm every step": ("odm", "--interval", "1"),
}
"""Variants: the policy they vary, and the flags that do."""
TUNING_SEED = 100
"""Seed of the runs that choose a learning rate: none of those reported."""


NOISE = 0.25
"""Share of the training tokens that is corrupted in the arms that count most."""


@dataclass(frozen=True)
class Arm:
    """One corpus to train on, clean or with noise planted in some of its topics."""

    corpus: str = "mixed"
    """'mixed' (a folder of domains, by flag), 'junk' (that and a folder of real junk, by flag), 'demo' (prose and code
    harvested from what is installed) or 'install' (that and whatever else an install holds)."""
    topics: str = "fine"
    """'fine' (our own annotation) or 'source' (what annotation quality is worth)."""
    noise: float = 0.0
    """Share of the training tokens that is corrupted: topics drawn without regard to their size."""
    kind: str = "shuffle-chars"
    """How: see `toremi corrupt`; 'mark': the noise is there already, as sources whose names begin with 'junk'."""

    @property
    def tuned_on(self) -> Arm:
        """The arm on which its learning rates are chosen: our topics, clean or with a quarter of the same noise.

        Of the same, since `uniform` can go twice as fast where the noise is easy.
        """
        return Arm(self.corpus, noise=NOISE, kind=self.kind) if self.noise else Arm(self.corpus)

    @property
    def name(self) -> str:
        """Short name, part of the runs' names."""
        noise = self.kind if self.kind == "mark" else f"{self.kind}{self.noise * 100:.0f}" if self.noise else "clean"
        return f"{self.corpus}-{self.topics}-{noise}"


@dataclass(frozen=True)
class Preset:
    """Size of the runs."""

    model: str
    """A shape of `--model`, or the path of a transformers config."""
    context_length: int
    steps: int
    batch_size: int
    """Rows a step."""
    interval: int
    learning_rate: float
    """Its peak; where rates are chosen, the first that is tried."""
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    policies: tuple[str, ...]
    ablations: tuple[str, ...] = ()
    bounds: tuple[str, ...] = ()
    """Of the arms whose noise is marked by the name of its source."""
    tune: bool = True
    """Choose each policy's learning rate on the validation split."""
    megabytes: int = 30
    """Text of the mixed corpus."""
    vocab_size: int = 4096
    checkpoints: int = 5
    """Checkpoints of a run at equal distances; all but the first are measured."""
    flags: tuple[str, ...] = ("--gpus", "0")
    """For every run."""
    eval_flags: tuple[str, ...] = ()
    """For measuring every run."""

    @property
    def model_name(self) -> str:
        """What tables call the model."""
        return Path(self.model).stem

    @property
    def num_tokens(self) -> int:
        """Tokens a run."""
        return self.steps * self.batch_size * self.context_length


CLEAN, NOISY = Arm(), Arm(noise=NOISE)
JUNK = Arm("junk", noise=NOISE, kind="mark")
INSTALL = Arm("install", noise=NOISE, kind="mark")
ALL_ARMS = (
    CLEAN,
    NOISY,
    Arm(noise=0.10),
    Arm(noise=0.40),
    Arm(noise=NOISE, kind="boilerplate"),
    Arm(noise=NOISE, kind="shuffle-words"),
    Arm(noise=NOISE, kind="random-tokens"),
    JUNK,
    Arm(topics="source"),
    Arm(topics="source", noise=NOISE),
    replace(JUNK, topics="source"),
    Arm("demo"),
    Arm("demo", noise=NOISE),
    INSTALL,
)
_CPU = Preset(
    model="1m",
    context_length=256,
    steps=2000,
    batch_size=8,
    interval=25,
    learning_rate=8e-3,
    seeds=(0, 1, 2),
    arms=ALL_ARMS,
    policies=POLICIES,
    ablations=tuple(ABLATIONS),
    bounds=(f"{WITHOUT}junk",),
)
# 8M parameters, 2M tokens: half an hour a run on one core that multiplies bf16.
_MEDIUM = replace(
    _CPU,
    model="10m",
    steps=500,
    batch_size=16,
    interval=6,
    learning_rate=3e-3,
    seeds=(0,),
    arms=(JUNK, CLEAN),
    policies=("uniform", "toremi", "stratified"),
    ablations=(),
    tune=False,
    flags=(*_CPU.flags, "--precision", "bf16"),
    eval_flags=("--precision", "bf16"),
)
PRESETS = {
    "quick": replace(
        _CPU,
        context_length=128,
        steps=400,
        interval=5,
        seeds=(0,),
        arms=(replace(CLEAN, corpus="demo"), replace(NOISY, corpus="demo")),
        policies=("uniform", "stratified", "toremi-2", "toremi"),
        ablations=(),
        tune=False,
        vocab_size=2048,
    ),
    "small": replace(
        _CPU,
        context_length=128,
        steps=800,
        interval=10,
        arms=tuple(arm for arm in ALL_ARMS if arm.corpus not in ("demo", "install")),
        ablations=(),
    ),
    "cpu": _CPU,
    # Ten times the tokens of "small": one epoch of the mixed corpus.
    "long": replace(
        _CPU,
        steps=4000,
        interval=50,
        seeds=(0,),
        arms=(JUNK, CLEAN),
        policies=("uniform", "toremi", "stratified"),
        ablations=(),
        tune=False,
    ),
    "medium": _MEDIUM,
    # 25M parameters: an hour.
    "large": replace(_MEDIUM, model="30m", learning_rate=2e-3, flags=(*_MEDIUM.flags, "--compile")),
    # 15M parameters (smaller proxies rank data poorly: Olmix), twice the tokens of "large": 75 minutes by arithmetic.
    "large-long": replace(
        _MEDIUM,
        model=str(Path(__file__).with_name("15m.json")),
        steps=1000,
        interval=12,
        learning_rate=2e-3,
        flags=(*_MEDIUM.flags, "--compile", "--optimizer", "muon"),
    ),
    # 24 runs and as many to choose rates: 25 minutes, if a GPU trains this model at a million tokens a second and a
    # process takes 10 seconds to start. Arithmetic: none has been at hand.
    "gpu": replace(
        _CPU,
        model="30m",
        context_length=512,
        steps=400,
        batch_size=64,
        interval=5,
        learning_rate=2e-3,
        arms=(CLEAN, NOISY),
        policies=("uniform", "stratified", "odm", "toremi"),
        ablations=(),
        megabytes=230,
        vocab_size=16384,
        flags=("--gpus", "1"),
    ),
}


@dataclass(frozen=True)
class Cell:
    """One training run."""

    arm: Arm
    policy: str
    """A policy, or the name of an ablation."""
    seed: int
    rate: float = 0.0
    """Factor on the preset's learning rate where it is being tuned or given; 0: the chosen one."""

    @property
    def name(self) -> str:
        """Name of the run."""
        rate = f"-rate{self.rate:g}" if self.rate else ""
        policy = self.policy.replace(" ", "-")
        return f"{self.arm.name}-{policy}{rate}-s{self.seed}"

    @property
    def label(self) -> str:
        """What its row of a table is called."""
        return f"{self.policy}@{self.rate:g}" if self.rate else self.policy

    @property
    def base_policy(self) -> str:
        """The policy itself, or that which an ablation varies."""
        return ABLATIONS.get(self.policy, (self.policy,))[0]

    @property
    def is_bound(self) -> bool:
        """Whether it is told what junk is."""
        return self.policy.startswith(WITHOUT)

    @property
    def tuned_as(self) -> str:
        """The policy whose learning rate it has."""
        return "uniform" if self.is_bound else self.base_policy

    @property
    def topics(self) -> str:
        """What is weighted."""
        return "source" if self.is_bound else self.arm.topics

    @property
    def trained_by(self) -> str:
        """The policy of `toremi` that it is."""
        return "frozen" if self.is_bound else TRAINED_BY.get(self.base_policy, self.base_policy)

    def policy_flags(self) -> list[str]:
        """Flags of `toremi pretrain` that make the policy."""
        if self.is_bound:
            return ["--policy", self.trained_by, "--set", "apply=sampling", "--set", "sampling_floor=0"]
        base, varied = self.base_policy, ABLATIONS.get(self.policy, (self.policy,))[1:]
        return ["--policy", self.trained_by, *POLICY_FLAGS.get(base, ()), *varied]


def cells(preset: Preset) -> Iterator[Cell]:
    """The runs that are reported: seed by seed, so that a grid cut short is still balanced.

    A policy may be written POLICY@FACTOR: at this factor of the preset's learning rate, whatever is the best one.
    """
    for seed in preset.seeds:
        for arm in preset.arms:
            bounds = preset.bounds if arm.kind == "mark" else ()
            for name in (*preset.policies, *preset.ablations, *bounds):
                policy, _, rate = name.partition("@")
                yield Cell(arm, policy, seed, float(rate or 0))
