"""Pictures of observed lives: how many survive each age, and how often they fail in each age band."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fleetsim.life.lives import HEADS, PERCENT, Group, band_rows, headlines
from fleetsim.reporting.page import PAPER, Look, config, figure, page, table
from fleetsim.units import DAY_S, HOUR_S, YEAR_S

TITLES = {
    "survival": f"Share that survives (band: {PERCENT})",
    "hazard": f"Failures a year at each age (bars: {PERCENT})",
}
#: Of groups, on light and on dark paper: Okabe and Ito's. Dashes differ where the colours come round.
_PALETTE = {
    "group-0": ("#0072B2", "#56B4E9"),
    "group-1": ("#D55E00", "#E69F00"),
    "group-2": ("#009E73", "#2DC49A"),
    "group-3": ("#CC79A7", "#E8A5CB"),
    "group-4": PAPER["ink"],
}
_DASHES = ([1, 0], [6, 3], [2, 2], [9, 3, 2, 3])
_POINTS = 240  # of a curve: more do not show
_WIDTH, _HEIGHT = 420, 260


def survival_charts(groups: Sequence[Group], look: Look) -> dict[str, Any]:
    """The charts of *groups* by name, as Altair charts: survival, hazard."""
    longest_s = max(float(group.lives.age_s.max()) for group in groups)
    units = ((YEAR_S, "years"), (DAY_S, "days"), (HOUR_S, "hours"))
    unit_s, label = next((unit for unit in units if longest_s > 2 * unit[0]), (1.0, "s"))
    return {
        "survival": _survival(groups, unit_s, label, look),
        "hazard": _hazard(groups, unit_s, label, look),
    }


def _data(columns: Mapping[str, Sequence[Any]]) -> Any:
    """Columns as rows of inline data, rounded: files stay small and need no table library."""
    import altair as alt

    plain = {k: [float(f"{x:.5g}") if isinstance(x, float) else x for x in v] for k, v in columns.items()}
    return alt.InlineData([dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)])


def _marks(groups: Sequence[Group], look: Look) -> dict[str, Any]:
    """Colour and dashes of each group, with a legend if there are several."""
    import altair as alt

    names = [group.name for group in groups]
    colours = [look[f"group-{i % len(_PALETTE)}"] for i in range(len(names))]
    dashes = [_DASHES[i % len(_DASHES)] for i in range(len(names))]
    legend = None
    if len(names) > 1:
        legend = alt.Legend(title=None, orient="top", columns=4, labelLimit=150, symbolStrokeWidth=2.2,
                            symbolType="stroke", symbolSize=300, symbolOpacity=1)  # fmt: skip
    return {
        "color": alt.Color(
            "group:N", sort=names, legend=legend, scale=alt.Scale(domain=names, range=colours)
        ),
        "strokeDash": alt.StrokeDash(
            "group:N", sort=names, legend=legend, scale=alt.Scale(domain=names, range=dashes)
        ),
    }


def _survival(groups: Sequence[Group], unit_s: float, label: str, look: Look) -> Any:
    import altair as alt

    rows: dict[str, list[Any]] = {"age": [], "share": [], "low": [], "high": [], "group": []}
    for group in groups:
        ages_s = np.linspace(0, float(group.lives.age_s.max()), _POINTS)
        curves = group.survival.at(ages_s)
        for name, column in zip(("age", "share", "low", "high"), (ages_s / unit_s, *curves), strict=True):
            rows[name] += column.tolist()
        rows["group"] += [group.name] * len(ages_s)
    marks = _marks(groups, look)
    base = alt.Chart(_data(rows))
    x = alt.X("age:Q", title=f"Age ({label})", scale=alt.Scale(nice=False))
    y = alt.Y("share:Q", title="Share that survives", axis=alt.Axis(format="~%"),
              scale=alt.Scale(domain=[0, 1]))  # fmt: skip
    tooltip = [alt.Tooltip("group:N", title="Group"), alt.Tooltip("age:Q", title=f"Age ({label})"),
               *(alt.Tooltip(f"{name}:Q", title=title, format=".1%") for name, title in
                 (("share", "Survive"), ("low", "At least"), ("high", "At most")))]  # fmt: skip
    band = base.mark_area(opacity=0.25, interpolate="step-after").encode(
        x=x, y=alt.Y("low:Q", title="Share that survives"), y2="high:Q", color=marks["color"]
    )
    line = base.mark_line(strokeWidth=2.2, interpolate="step-after").encode(
        x=x, y=y, **marks, tooltip=tooltip
    )
    return band + line


def _hazard(groups: Sequence[Group], unit_s: float, label: str, look: Look) -> Any:
    """Steps at the rate of each band, and a bar for its interval; bars of groups stand side by side."""
    import altair as alt

    steps: dict[str, list[Any]] = {"age": [], "rate": [], "group": []}
    bars: dict[str, list[Any]] = {name: [] for name in ("age", "until", "at", "rate", "low", "high", "group")}
    for n, group in enumerate(groups):
        table = group.hazard
        ends = np.minimum(table.to_s, float(group.lives.age_s.max()))
        for i in np.flatnonzero(table.exposure_s > 0):
            begin, end = table.from_s[i] / unit_s, ends[i] / unit_s
            place = begin + (end - begin) * (n + 1) / (len(groups) + 1)
            values = (begin, end, place, table.per_year[i], table.low[i], table.high[i])
            for name, value in zip(bars, values, strict=False):
                bars[name].append(float(value))
            bars["group"].append(group.name)
            steps["age"] += [float(begin), float(end)]
            steps["rate"] += [float(table.per_year[i])] * 2
            steps["group"] += [group.name] * 2
    marks = _marks(groups, look)
    # an interval that few lives make wide may go beyond the picture; the rates may not
    top = max(1.15 * max(bars["rate"]), 1.15 * float(np.quantile(bars["high"], 0.9)))
    y = alt.Y("rate:Q", title="Failures a year", axis=alt.Axis(format="~%", tickCount=6),
              scale=alt.Scale(domain=[0, top], nice=True, clamp=True))  # fmt: skip
    x = alt.X("age:Q", title=f"Age ({label})", scale=alt.Scale(nice=False))
    line = alt.Chart(_data(steps)).mark_line(strokeWidth=2.2).encode(x=x, y=y, **marks)
    tooltip = [alt.Tooltip("group:N", title="Group"),
               *(alt.Tooltip(f"{name}:Q", title=title, format=".3~r") for name, title in
                 (("age", f"From ({label})"), ("until", f"To ({label})"))),
               *(alt.Tooltip(f"{name}:Q", title=title, format=".2%") for name, title in
                 (("rate", "Failures a year"), ("low", "At least"), ("high", "At most")))]  # fmt: skip
    bar = (
        alt.Chart(_data(bars))
        .mark_rule(strokeWidth=2, opacity=0.6)
        .encode(x="at:Q", y=alt.Y("low:Q", title="Failures a year"), y2="high:Q", color=marks["color"],
                tooltip=tooltip)
    )  # fmt: skip
    return bar + line


def survival_png(groups: Sequence[Group], *, title: str, dark: bool = False) -> bytes:
    """The charts as a PNG."""
    import altair as alt
    import vl_convert

    look, datasets, specs = Look(_PALETTE, dark), dict[str, Any](), []
    for name, chart in survival_charts(groups, look).items():
        spec = chart.to_dict(validate=False)
        datasets |= spec.pop("datasets")
        for key in ("config", "$schema"):
            spec.pop(key, None)
        head = {"text": TITLES[name], "anchor": "start", "fontSize": 15, "color": look["ink"], "offset": 12}
        specs.append({**spec, "title": head, "width": _WIDTH, "height": _HEIGHT})
    picture = {
        "$schema": alt.SCHEMA_URL,
        "title": {"text": title, "anchor": "start", "fontSize": 18, "color": look["ink"], "offset": 16},
        "concat": specs,
        "columns": 2,
        "spacing": 36,
        "padding": 20,
        "config": config(look),
        "datasets": datasets,
        "resolve": {"scale": {"color": "independent", "strokeDash": "independent"}},
    }
    return bytes(vl_convert.vegalite_to_png(json.dumps(picture), scale=2))


def survival_page(groups: Sequence[Group], *, title: str, definitions: Mapping[str, str]) -> str:
    """One HTML page with the charts and the figures behind them; it loads nothing from anywhere."""
    look = Look(_PALETTE)
    specs = {
        name: {
            **chart.to_dict(validate=False),
            "width": "container",
            "height": _HEIGHT,
            "autosize": {"type": "fit-x", "contains": "padding"},
            "config": config(look),
        }
        for name, chart in survival_charts(groups, look).items()
    }
    figures = "".join(figure(name, TITLES[name], f"<h3>{html.escape(TITLES[name])}</h3>") for name in specs)
    tables = "".join(_section(group) for group in groups)
    terms = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in definitions.items()
    )
    body = (
        f'<div class="charts">{figures}</div>\n'
        f'<div class="charts" style="grid-template-columns: 1fr">{tables}</div>\n'
        f"<details><summary>What the figures mean</summary><dl>{terms}</dl></details>"
    )
    return page(title, body, specs, _PALETTE)


def _section(group: Group) -> str:
    told = "".join(f"<p class=quiet>{html.escape(line)}</p>" for line in headlines(group))
    rows = table(HEADS[1:], band_rows(group))
    return f"<section><h3>{html.escape(group.name)}</h3>{told}{rows}</section>"
