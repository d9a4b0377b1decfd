"""How the page opens: shares of the draws as areas, the macro curves, and text of what was drawn less and more."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from toremi_cli.report.comparison_table import percent
from toremi_cli.report.digest import Digest, Report, saving, seeds, verdict
from toremi_cli.report.draws import Draws, Shift
from toremi_cli.report.page_data import rounded
from toremi_cli.schemas import MACRO

SHOWN_CHARACTERS = 260


def layers(digest: Digest, draws: Draws) -> list[tuple[str, str, Any]]:
    """What lies on what in a chart of areas: name, tone and shares (num_bins,) of each layer, the lowest first.

    Topics drawn noticeably less lie below, those drawn more on top, all others as one between them.
    """
    moved = {shift.topic: shift for shift in digest.moved}
    column = {topic: index for index, topic in enumerate(draws.topics)}
    less = [shift.topic for shift in digest.moved if shift.after < shift.before]
    more = [shift.topic for shift in digest.moved if shift.after > shift.before]
    rest = [index for topic, index in column.items() if topic not in moved]
    found = [(topic, "less", draws.shares[:, column[topic]]) for topic in less]
    found.append((f"other topics ({len(rest)})", "", draws.shares[:, rest].sum(axis=1)))
    return found + [(topic, "more", draws.shares[:, column[topic]]) for topic in more]


def draws_data(report: Report) -> list[dict[str, Any]]:
    """The charts of areas: the baseline beside each run, in the order of `layers`."""
    charts = []
    for digest in report.digests:
        for group, draws in ((digest.baseline, digest.baseline_draws), (digest.group, digest.draws)):
            if draws is None or not digest.moved:
                continue
            parts = [{"name": name, "tone": tone, "y": rounded(y)} for name, tone, y in layers(digest, draws)]
            charts.append({"title": group.name, "steps": draws.steps.tolist(), "layers": parts})
    return charts


def front(report: Report) -> str:
    """The section's HTML; empty where there is nothing to compare."""
    if not report.digests:
        return ""
    charts = (
        '<p class="hint">Share of each topic in what was drawn, over the steps. '
        '<span class="swatch tall-swatch" style="background:var(--c6)"></span> drawn less than by '
        f"{escape(report.comparison.baseline)}, "
        '<span class="swatch tall-swatch" style="background:var(--c2)"></span> drawn more, '
        '<span class="swatch tall-swatch" style="background:var(--grey)"></span> all others. Last: held-out bits per '
        'byte, mean over the sources compared on.</p><div id="front" class="multiples"></div>'
    )
    return "".join([*map(_digest, report.digests), charts, *map(_texts, report.digests)])


def _digest(digest: Digest) -> str:
    name, base = escape(digest.group.name), escape(digest.baseline.name)
    values = [group.bits_per_byte.get(MACRO) for group in (digest.baseline, digest.group)]
    parts = []
    if values[0] is not None and values[1] is not None:
        parts.append(
            f"Held-out bits per byte: <b>{values[0].value:.3f}</b> with {base}, <b>{values[1].value:.3f}</b> with "
            f"{name}: {verdict(digest)}"
        )
    parts += [escape(saving(digest).capitalize()), escape(seeds(digest).capitalize())]
    return f"<p>{'. '.join(parts)}.</p>"


def _texts(digest: Digest) -> str:
    """What went down on the left, what went up on the right."""
    if not digest.moved:
        return ""
    name = escape(digest.group.name)
    less = _column(f"{name} draws less", digest.less, "var(--c6)")
    return f'<div class="pair texts">{less}{_column(f"{name} draws more", digest.more, "var(--c2)")}</div>'


def _column(title: str, chosen: Sequence[Shift], colour: str) -> str:
    blocks = "".join(
        f'<figure class="sample" style="border-color:{colour}"><figcaption><b>{escape(shift.topic)}</b> '
        f"{percent(shift.before)} → {percent(shift.after)}</figcaption>"
        f"<pre>{escape(shift.text.strip()[:SHOWN_CHARACTERS])}</pre></figure>"
        for shift in chosen
    )
    return f"<div><h3>{title}</h3>{blocks or '<p class=hint>no topic</p>'}</div>"
