"""Writes `docs/tables/config.md`, the reference of all settings: `python -m tests.config_page`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from toremi_cli.corpus.config import CorpusConfig, CorruptionConfig, MixtureConfig
from toremi_cli.evaluate.config import EvalConfig, FinetuneSettings
from toremi_cli.export.config import ExportConfig
from toremi_cli.policy_config import POLICY_LIST, PolicyConfig, settings_read
from toremi_cli.settings import Spec, one_each, settings_of
from toremi_cli.topics.config import AnnotateConfig, ClusterConfig, EmbedConfig, LlmConfig, MapConfig
from toremi_cli.train.config import TrainConfig

PAGE = Path(__file__).parents[1] / "docs" / "tables" / "config.md"
COMMANDS = {
    "annotate": (AnnotateConfig, LlmConfig, ClusterConfig, CorpusConfig, EmbedConfig),
    "pretrain": (TrainConfig,),
    "eval": (EvalConfig, FinetuneSettings),
    "export": (ExportConfig,),
    "sample": (MixtureConfig,),
    "corrupt": (CorruptionConfig,),
    "topics --html": (MapConfig,),
}
HEAD = """# Settings

A key of a config file is the flag's name with `_` for `-`: `--batch-size 8` is `batch_size = 8`. `embed` and `cluster`
take those of `annotate` that are theirs. `--print-config` prints the settings of a command as such a file.
"""


def row(spec: Spec, name: str) -> str:
    """A setting as a row of a table."""
    cells = (f"`{name}`", spec.shown_default, spec.help)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(rows: Iterable[str]) -> list[str]:
    """A table of settings."""
    return ["", "| setting | default | |", "|---|---|---|", *rows]


def page() -> str:
    """The whole page."""
    lines = [HEAD.rstrip()]
    for command, kinds in COMMANDS.items():
        lines += ["", f"## `toremi {command}`"]
        specs = list(one_each(kinds).values())
        for panel in dict.fromkeys(spec.setting.panel for spec in specs):
            lines += ["", f"### {panel or 'All of it'}"]
            lines += table(row(spec, spec.key) for spec in specs if spec.setting.panel == panel)
    lines += ["", "## `[policy]`, or `--set`"]
    lines += table(row(spec, name) for name, spec in settings_of(PolicyConfig).items())
    lines += ["", "| policy | reads |", "|---|---|"]
    lines += [f"| `{name}` | {', '.join(f'`{key}`' for key in settings_read(name))} |" for name in POLICY_LIST]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
