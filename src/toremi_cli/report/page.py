"""One self-contained HTML page about runs: what they did, what it bought, and under which settings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from toremi_cli import __version__
from toremi_cli.evaluate.compare import Comparison, Group
from toremi_cli.evaluate.intervals import Interval
from toremi_cli.files import atomic_file
from toremi_cli.html_page import asset, render_page
from toremi_cli.layout import Workdir
from toremi_cli.report.comparison_table import LEGEND, comparison_rows, percent, signed
from toremi_cli.report.digest import Report
from toremi_cli.report.front import draws_data, front
from toremi_cli.report.numbers import compact
from toremi_cli.report.page_data import corpus_facts, curve_data, map_data, run_data
from toremi_cli.report.run_alarms import run_alarms
from toremi_cli.report.seed_groups import SeedGroup, chosen_topics
from toremi_cli.runs.history import History
from toremi_cli.schemas import MACRO

FOLLOWS = frozenset({"result.run", "result.checkpoint"})
"""Entries of run.json that say no more than the run's name."""


def save_page(report: Report, path: Path) -> None:
    """Write the page, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """The page's HTML."""
    histories, workdir, comparison, groups = report.histories, report.workdir, report.comparison, report.groups
    weighted = [g for g in groups if g.topics is not None]
    # Runs whose weights move come first: they are what the page is about.
    weighted.sort(key=lambda g: g.topics is None or g.topics.is_constant)
    chosen = chosen_topics(weighted)
    data = {
        "runs": [run_data(group, chosen[group.name]) for group in weighted],
        "draws": draws_data(report),
        "curves": curve_data(groups),
        "map": map_data(workdir, weighted[0].topics if weighted else None),
    }
    sections = [
        ("draws", "What was drawn, and what it bought", front(report)),
        ("summary", "Summary", _summary(comparison, histories)),
        ("weights", "Topics over the run", _topic_charts(weighted)),
        ("learning", "Learning curves", _curves(groups, data["curves"])),
        ("comparison", "Comparison", _comparison(comparison)),
        ("topics", "Topics at the end", "".join(_topic_table(g) for g in weighted[:1])),
        ("map", "Map of the topics", _map(data["map"], weighted)),
        ("settings", "Settings and provenance", _settings(histories, workdir)),
    ]
    sections = [section for section in sections if section[2]]
    names = ", ".join(history.name for history in histories)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return render_page(
        f"{names}: report" if len(names) < 60 else f"{len(histories)} runs: report",
        f"{len(histories)} run{'s' * (len(histories) > 1)} · {now} · toremi {__version__}",
        "\n".join(f'<section id="{k}"><h2>{escape(t)}</h2>\n{html}</section>' for k, t, html in sections)
        + '\n<div id="tip" role="status" hidden></div>',
        sections=[(key, title) for key, title, _ in sections],
        style=asset("toremi_cli.report", "report.css"),
        script="".join(asset("toremi_cli.report", name) for name in ("report.js", "front.js")),
        data=data,
        footer=f"Written by toremi {__version__} on {now}. One file, no network: send it as it is.",
    )


def _summary(comparison: Comparison, histories: Sequence[History]) -> str:
    findings = [_finding(group, comparison) for group in comparison.groups]
    items = "".join(f"<li>{escape(text)}</li>" for text in findings)
    parts = [f'<ul class="findings">{items}</ul>']
    parts += [f'<p class="alarm">{escape(text[0].upper() + text[1:])}.</p>' for text in comparison.warnings]
    found = [(history.name, text) for history in histories for text in run_alarms(history)]
    parts += [f'<p class="alarm"><b>{escape(name)}</b>: {escape(text)}</p>' for name, text in found]
    if not found and not comparison.warnings:
        parts.append('<p class="calm">No alarms: losses fall, weights stay off their bounds.</p>')
    return "\n".join(parts)


def _finding(group: Group, comparison: Comparison) -> str:
    """One run's result in a sentence or two."""
    text = f"{group.name}: {compact(group.mean('tokens'))} tokens in {group.mean('step'):,.0f} steps"
    if MACRO in group.bits_per_byte:
        text += f", {group.bits_per_byte['macro'].value:.4f} bits per byte on '{comparison.suite}' (macro)"
    if group.name == comparison.baseline:
        return f"{text}; the baseline." if len(comparison.groups) > 1 else f"{text}."
    difference = group.difference.get(MACRO)
    if difference is not None:
        text += f", {signed(difference.value)} against {comparison.baseline} {_verdict(difference)}"
    return text + f". {_saving_sentence(group, comparison.baseline)}".rstrip()


def _verdict(difference: Interval) -> str:
    better = "better" if difference.value < 0 else "worse"
    if not difference.is_known:
        return f"(no interval): {better}, how surely is unknown"
    sure = "told apart from it" if difference.excludes_zero else "not told apart from it"
    return f"({signed(difference.low)} to {signed(difference.high)}, 95%): {better}, {sure}"


def _saving_sentence(group: Group, baseline: str) -> str:
    saving = group.saving
    if saving is None:
        return ""
    where = "" if saving.source == "checkpoints" else " while training"
    goal, some = f"{baseline}'s final held-out loss{where}", saving.num_reached < saving.num_pairs
    seeds = f"{saving.num_reached} of {saving.num_pairs} seeds reached {goal}"
    if np.isnan(saving.saved):
        if some and saving.num_reached:
            return f"{seeds}; their mean did not."
        return f"It never reached {goal}."
    share = percent(abs(saving.saved))
    fewer = f"{share} {'fewer' if saving.saved >= 0 else 'more'} tokens"
    return f"{seeds}; their mean did with {fewer}." if some else f"It reached {goal} with {fewer}."


def _topic_charts(weighted: Sequence[SeedGroup]) -> str:
    if not weighted:
        return ""
    hint = "Point at a chart to read it; choose a topic below it to bring it out or put it back."
    return f'<p class="hint tools">{hint}</p><div id="topic-charts"></div>'


def _curves(groups: Sequence[SeedGroup], panels: Sequence[dict[str, Any]]) -> str:
    if not panels:
        return ""
    dashes = ("solid", "dashed", "dotted", "dashed")
    shown = {s["name"] for panel in panels for s in panel["series"]}
    legend = "".join(
        f'<span style="white-space:nowrap;margin-right:18px"><span class="swatch" style="width:26px;height:0;'
        f"border-top:2.5px {dashes[group.style % 4]} var(--c{group.colour});vertical-align:middle;margin-right:7px"
        f'"></span>{escape(group.title)}</span>'
        for group in groups
        if group.name in shown
    )
    band = (
        " Lines are means over seeds, bands reach from the lowest to the highest."
        if any(len(group.histories) > 1 for group in groups)
        else ""
    )
    return (
        '<p class="hint">Bits per byte of the validation split by step, lower is better; the steep start is cut off.'
        f'{band}</p><p>{legend}</p><div id="curves" class="multiples"></div>'
    )


def _comparison(comparison: Comparison) -> str:
    head = "".join(f"<th>{escape(group.name)}</th>" for group in comparison.groups)
    lines = []
    for row in comparison_rows(comparison):
        label = escape(row.label.strip() if not row.label.startswith(" ") else "\u2003" + row.label.strip())
        if row.is_heading:
            lines.append(f'<tr class="heading"><td colspan="{len(comparison.groups) + 1}">{label}</td></tr>')
            continue
        cells = zip(row.cells, row.best, strict=True)
        shown = "".join(_cell(text, is_best) for text, is_best in cells)
        lines.append(f"<tr><td>{label}</td>{shown}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
        f'<p class="hint">{LEGEND}. Green is the best of a row, or surely better than the baseline.</p>'
    )


def _cell(text: str, is_best: bool) -> str:
    value, space, rest = escape(text).partition(" ")
    small = f" <small>{rest}</small>" if space and rest[0] in "±[" else space + rest
    return f'<td class="best">{value}{small}</td>' if is_best else f"<td>{value}{small}</td>"


def _topic_table(group: SeedGroup) -> str:
    """Topics by final weight, with the course of their losses in numbers; of several seeds the means."""
    courses = group.topics
    assert courses is not None
    lines = []
    final = np.nan_to_num(courses.weight[-1], nan=1.0)
    for index in np.argsort(-final, kind="stable"):
        losses = courses.loss[:, index]
        seen = losses[~np.isnan(losses)]
        course = f"<td>{seen[0]:.3f}</td><td>{seen[-1]:.3f}</td>" if len(seen) else "<td>–</td><td>–</td>"
        samples = np.nansum(courses.num_samples[:, index])
        name = escape(courses.topics[index].replace("_", " "))
        highest = f"{np.nanmin(courses.weight[:, index]):.2f} to {np.nanmax(courses.weight[:, index]):.2f}"
        lines.append(
            f"<tr><td>{name}</td><td>{final[index]:.2f}</td><td>{highest}</td>{course}<td>{samples:,.0f}</td></tr>"
        )
    head = "".join(f"<th>{t}</th>" for t in ("topic", "weight", "range", "first loss", "last loss", "samples seen"))
    return (
        f'<h3>{escape(group.title)}</h3><div class="scroll tall"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _map(points: Sequence[dict[str, Any]], weighted: Sequence[SeedGroup]) -> str:
    if not points:
        return ""
    name = f" in {weighted[0].name}" if weighted else ""
    hint = (
        "Each disc is a topic of the corpus, as large as it has samples, near those whose text is alike. Orange topics "
        f"ended with a weight above 1{name}, blue ones below, grey ones have no weight of their own."
    )
    return f'<p class="hint">{escape(hint)}</p><div id="topic-map"></div>'


def _settings(histories: Sequence[History], workdir: Workdir) -> str:
    columns = [_flat(history) for history in histories]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    lines = {True: [], False: []}  # type: dict[bool, list[str]]
    for key in keys:
        values = [column.get(key, "–") for column in columns]
        differs = len(set(values)) > 1
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        style = ' class="differs"' if differs else ""
        lines[differs].append(f"<tr{style}><td>{escape(key)}</td>{cells}</tr>")
    head = "".join(f"<th>{escape(history.name)}</th>" for history in histories)
    facts = corpus_facts(workdir)
    corpus = f'<p class="hint">Annotated corpus: {escape(facts)}</p>' if facts else ""

    def table(rows: Sequence[str]) -> str:
        body = "".join(rows)
        return (
            f'<div class="scroll"><table class="settings"><thead><tr><th></th>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    differing = table(lines[True]) if lines[True] else ""
    same = (
        f"<details><summary>{len(lines[False])} settings that the runs share</summary>{table(lines[False])}</details>"
    )
    if len(histories) == 1:
        same = table(lines[False])
    return corpus + differing + (same if lines[False] else "")


def _flat(history: History) -> dict[str, str]:
    """run.json as 'policy.alpha': '1.0'."""
    found: dict[str, str] = {}
    for key, value in history.record.items():
        if isinstance(value, dict):
            for inner, item in value.items():
                if isinstance(item, dict):
                    found |= {f"{inner}.{k}": str(v) for k, v in item.items()}
                else:
                    found[inner if key == "config" else f"{key}.{inner}"] = _shown(item)
        else:
            found[key] = _shown(value)
    return {key: value for key, value in found.items() if value not in ("", "None") and key not in FOLLOWS}


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
