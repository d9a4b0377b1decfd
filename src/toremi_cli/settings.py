"""Settings, each written once: a field of a dataclass, with what its flag, its check and its help need.

    batch_size: Annotated[int | None, Setting("Rows a step.", "Length", least=1, unset="the preset's")] = None

The flags of the commands, config files, checks and the reference in `docs/tables/config.md` are made from such fields.
Nothing here imports more than the standard library, so that `--help` is instant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class Setting:
    """What a user must know of a field; `bool`, `int`, `float` and `str` fields may have one, or these or None."""

    help: str
    """One line, without the default."""
    panel: str = ""
    """Heading under which the help shows it."""
    flag: str = ""
    """Its flag where that is not the field's name, and a short one: '--name -n'."""
    metavar: str = ""
    """What stands for the value in the help; chosen by type where empty."""
    choices: tuple[str, ...] = ()
    """All that a text may be."""
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    """As `least`, the bound itself left out; likewise `below`."""
    below: float = math.inf
    none: str = "auto"
    """How None is spelled in flags and files."""
    unset: str = ""
    """What None comes to."""
    rare: bool = False
    """Shown by `--help-all` alone."""


@dataclass(frozen=True)
class Spec:
    """A setting of a dataclass."""

    name: str
    """Of the field."""
    kind: type
    optional: bool
    """Whether it may be None."""
    default: Any
    setting: Setting

    @property
    def flags(self) -> list[str]:
        """Its flags, the long one first."""
        return self.setting.flag.split() or [f"--{self.name.replace('_', '-')}"]

    @property
    def key(self) -> str:
        """Its name in config files: that of the flag."""
        return self.flags[0].removeprefix("--").replace("-", "_")

    @property
    def metavar(self) -> str:
        """What stands for the value in the help."""
        kinds = {int: "N", float: "NUMBER", str: "NAME", bool: ""}
        return self.setting.metavar or kinds[self.kind]

    @property
    def shown_default(self) -> str:
        """The default in words."""
        if self.default is MISSING:
            return "none"
        if self.default is None:
            return f"{self.setting.none}: {self.setting.unset}" if self.setting.unset else self.setting.none
        return f"{self.default:g}" if self.kind is float else str(self.default).lower()

    @property
    def help(self) -> str:
        """The line of help, with all that it may be."""
        choices = ", ".join(self.setting.choices)
        return self.setting.help.rstrip(".") + (f": {choices}" if choices else "")

    @property
    def expected(self) -> str:
        """What it may be, in words."""
        s = self.setting
        if s.choices:
            words = f"one of {', '.join(s.choices)}"
        elif s.least > -math.inf and s.most < math.inf:
            words = f"{KINDS[self.kind]} from {s.least:.10g} to {s.most:.10g}"
        else:
            bounds = (("of at least", s.least), ("above", s.above), ("of at most", s.most), ("below", s.below))
            named = [f"{word} {bound:.10g}" for word, bound in bounds if math.isfinite(bound)]
            words = " ".join([KINDS[self.kind], " and ".join(named)]).strip()
        return f"{words}, or '{s.none}'" if self.optional else words

    def allows(self, value: Any) -> bool:
        """Whether a value is one of the setting's; nan is within no range."""
        if value is None:
            return self.optional
        if self.setting.choices:
            return value in self.setting.choices
        s = self.setting
        if self.kind in (int, float):
            return math.isfinite(value) and s.least <= value <= s.most and s.above < value < s.below
        return True

    def read_text(self, text: str | bool) -> Any:
        """The setting from a flag's text.

        Raises:
            ValueError: it is none; says what was expected.
        """
        if not isinstance(text, str) or self.kind is str or (self.optional and text == self.setting.none):
            return self.read(text)
        try:
            return self.read({"true": True, "false": False}[text.lower()] if self.kind is bool else self.kind(text))
        except (ValueError, KeyError):
            raise ValueError(f"expected {self.expected}") from None

    def read(self, value: Any) -> Any:
        """The setting from a value of a config file.

        Raises:
            ValueError: it is none; says what was expected.
        """
        found = self._converted(value)
        if found is MISSING or not self.allows(found):
            raise ValueError(f"expected {self.expected}")
        return found

    def _converted(self, value: Any) -> Any:
        if self.optional and value == self.setting.none:
            return None
        if self.kind is float and type(value) is int:
            return float(value)
        return value if type(value) is self.kind else MISSING

    def written(self, value: Any) -> Any:
        """A value as a config file has it."""
        return self.setting.none if value is None else value


@cache
def settings_of(kind: Any) -> dict[str, Spec]:
    """The settings of a dataclass by the names of their fields; other fields are left out."""
    found = {}
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint = hints[field.name]
        if get_origin(hint) is Annotated:
            of, setting = get_args(hint)[:2]
            types = [part for part in get_args(of) or (of,) if part is not type(None)]
            found[field.name] = Spec(field.name, types[0], type(None) in get_args(of), field.default, setting)
    return found


def problem_of(config: Any, by_name: bool = False) -> str | None:
    """The first setting of a dataclass that is out of range, in one line that names its flag; None if all are well.

    `by_name`: for settings that have no flags, by the names of their fields.
    """
    kind: Any = type(config)
    for name, spec in settings_of(kind).items():
        value = getattr(config, name)
        if not spec.allows(value):
            return f"{name if by_name else spec.flags[0]} {value}: expected {spec.expected}"
    return None


def filled(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values `given` by keys that are settings of a dataclass, by the names of its fields."""
    return {name: given[spec.key] for name, spec in settings_of(kind).items() if spec.key in given}


def written(config: Any) -> dict[str, Any]:
    """The settings of a dataclass by their keys, as a config file has them."""
    kind: Any = type(config)
    return {spec.key: spec.written(getattr(config, name)) for name, spec in settings_of(kind).items()}


def to_toml(*configs: Any, **tables: Mapping[str, Any]) -> str:
    """The settings of dataclasses as a config file, with some tables after them."""
    import tomli_w

    plain = {key: value for config in configs for key, value in written(config).items()}
    return tomli_w.dumps({**plain, **tables})


def one_each(kinds: Iterable[type]) -> dict[str, Spec]:
    """The settings of several dataclasses by their keys; of those that share a key, the first."""
    found: dict[str, Spec] = {}
    for kind in kinds:
        for spec in settings_of(kind).values():
            found.setdefault(spec.key, spec)
    return found
