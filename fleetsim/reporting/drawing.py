"""The charts of a report, as Vega-Lite: rows of numbers and names in, a specification out.

Colours are fixed by what they stand for, the same in every chart, run and report. They are those of Okabe
and Ito where they can be, else steps of lightness, which colour-blind readers tell apart; lines differ in
their dashes too. Names of tenants, rungs and runs reach a chart only as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fleetsim.reporting.measures import Row
from fleetsim.reporting.page import Look, config

WIDTH, HEIGHT, SMALL_HEIGHT = 640, 280, 150
_BAR = 30  # height of a bar and the space around it
_AMOUNT = ",.4~r"  # how amounts are written where the pointer is
_FLOOR_S = 1.0  # of a logarithmic axis of times

_STATES = {
    "productive": ("#009E73", "#2DB88F"),
    "lost": ("#D55E00", "#F0743A"),
    "stalled": ("#F0C03A", "#D9A92B"),
    "idle_queue": ("#56B4E9", "#4FA3D6"),
    "idle_no_queue": ("#C9D6E2", "#3B4A5A"),
    "down": ("#5C636B", "#99A2AC"),
}
#: From the top of the ladder to its bottom: dark to light, so that order shows.
_TIERS = (
    ("#352A87", "#8583F2"),
    ("#0072B2", "#3B9BDB"),
    ("#2BA58F", "#37BFA6"),
    ("#9CC54A", "#A8D158"),
    ("#F2D13C", "#F5DA5A"),
    ("#C98A4B", "#D79B5F"),
    ("#CC79A7", "#E08FBD"),
)
_GENERATIONS = {
    "Pascal": ("#8C6D31", "#B8954F"),
    "Volta": ("#CC79A7", "#DE8DBA"),
    "Turing": ("#999933", "#B5B54A"),
    "Ampere": ("#E69F00", "#E8A91F"),
    "Ada": ("#882255", "#C2588F"),
    "Hopper": ("#0072B2", "#3B9BDB"),
    "Blackwell": ("#009E73", "#2DB88F"),
    "Blackwell Ultra": ("#7CC7F0", "#9AD6F7"),
    "Rubin": ("#D55E00", "#F0743A"),
    "CDNA2": ("#AA4499", "#C86BB8"),
    "CDNA3": ("#661100", "#B5573F"),
    "TPU": ("#44AA99", "#5BC2B1"),
    "Gaudi": ("#DDCC77", "#E0D080"),
    "Trainium": ("#332288", "#8E80E0"),
}
_CAUSES = {
    "failure": ("#D55E00", "#F0743A"),
    "fixed_age": ("#0072B2", "#3B9BDB"),
    "cash_out": ("#E69F00", "#E8A91F"),
    "naive": ("#CC79A7", "#DE8DBA"),
    "slot": ("#009E73", "#2DB88F"),
    "sale": ("#56B4E9", "#7CC7F0"),
    "power": ("#5C636B", "#99A2AC"),
}
_OTHER = ("#8A939C", "#7C8793")
_PARTS = {  # of charts whose series are always the same
    "blue": ("#0072B2", "#3B9BDB"),
    "sky": ("#56B4E9", "#7CC7F0"),
    "orange": ("#E69F00", "#E8A91F"),
    "red": ("#D55E00", "#F0743A"),
    "green": ("#009E73", "#2DB88F"),
    "other": _OTHER,
}
PALETTE = {
    **_PARTS,
    **{f"state-{name}": pair for name, pair in _STATES.items()},
    **{f"tier-{i}": pair for i, pair in enumerate(_TIERS)},
    **{f"generation-{i}": pair for i, pair in enumerate(_GENERATIONS.values())},
    **{f"cause-{name}": pair for name, pair in _CAUSES.items()},
}
_DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [4, 2])


@dataclass(frozen=True)
class Series:
    """One thing that a chart shows: the column of its rows, its name for people, its colour."""

    column: str
    label: str
    colour: str
    dash: int = 0  # of :data:`_DASHES`


@dataclass(frozen=True)
class Chart:
    """A chart of a report. *name* is stable: the id on the page and the name of the picture.

    *unit* says what is drawn and in which unit. *draw* gives the specification in the colours of a look.
    """

    name: str
    title: str
    unit: str
    series: Sequence[Series]
    draw: Callable[[Look], dict[str, Any]]
    small: bool = False


def state(name: str) -> str:
    """The colour of a state of the usage table."""
    return f"state-{name}" if name in _STATES else "other"


def tier(place: int) -> str:
    """The colour of the rung at *place* of the ladder, 0 at the top."""
    return f"tier-{place % len(_TIERS)}"


def generation(name: str) -> str:
    """The colour of a generation."""
    return f"generation-{list(_GENERATIONS).index(name)}" if name in _GENERATIONS else "other"


def cause(name: str) -> str:
    """The colour of a cause of retirement."""
    return f"cause-{name}" if name in _CAUSES else "other"


@dataclass(frozen=True)
class Axis:
    """What runs from left to right: *domain* is (from, to); with *time*, milliseconds of the Unix epoch."""

    domain: tuple[float, float]
    title: str = ""
    time: bool = False
    whole: bool = False  # marks at whole numbers only

    def encoding(self, column: str = "t") -> dict[str, Any]:
        """Of the channel x."""
        scale: dict[str, Any] = {"domain": list(self.domain), "nice": False}
        axis: dict[str, Any] = {"grid": False, "tickCount": {"expr": "max(2, floor(width / 90))"}}
        if self.time:
            scale["type"] = "utc"
        elif self.whole:
            axis["values"] = list(range(int(self.domain[0]), int(self.domain[1]) + 1))
            axis["format"] = "d"
        return {
            "field": column, "type": "temporal" if self.time else "quantitative",
            "title": self.title or None, "scale": scale, "axis": axis,
        }  # fmt: skip


def plain(rows: Sequence[Row]) -> list[Row]:
    """Rows with floats of five digits: what a picture can show, in fewer bytes."""
    return [{k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def stacked(
    rows: Sequence[Row], series: Sequence[Series], axis: Axis, look: Look, *, top: float | None = None,
    number: str = _AMOUNT, share: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Areas on each other: *rows* are spans from ``t`` to ``u``, with a column for each of *series*.

    *top* is the end of the scale; with *share*, each span adds up to 100 %, or to nothing.
    """
    if share:
        rows, top, number = [_shares(row, series) for row in rows], 1.0, ".0%"
    y: dict[str, Any] = {"field": "v", "type": "quantitative", "title": None, "stack": "zero",
                         "axis": _measure(number)}  # fmt: skip
    if top is not None:
        y["scale"] = {"domain": [0, top or 1], "nice": True}
    last = {**rows[-1], "t": rows[-1]["u"]}
    area = {
        "transform": _fold(series),
        "mark": {"type": "area", "interpolate": "step-after", "stroke": look["paper"], "strokeWidth": 0.4},
        "encoding": {"x": axis.encoding(), "y": y, "color": _colour(series, look),
                     "order": {"field": "o", "type": "quantitative"}},
    }  # fmt: skip
    return {
        "data": {"values": plain([*rows, last])},
        "layer": [area, _hover(series, axis, ".1%" if share else number)],
    }


def _shares(row: Row, series: Sequence[Series]) -> Row:
    """The values of *row* as parts of their sum."""
    total = sum(row[s.column] for s in series)
    return {**row, **{s.column: row[s.column] / total if total else 0.0 for s in series}}


def lines(
    rows: Sequence[Row], series: Sequence[Series], axis: Axis, look: Look, *,
    domain: tuple[float, float] | None = None, number: str = _AMOUNT, steps: bool = False,
    band: tuple[str, str] | None = None, fill: str = "", at: str = "t",
) -> dict[str, Any]:  # fmt: skip
    """Lines through *rows* at ``t`` with a column for each of *series*; None leaves a gap.

    With *steps* a value holds until the next one. *band* are columns of an area behind the lines; *fill* is
    the column of the series that is filled down to zero.
    """
    shape = {"interpolate": "step-after"} if steps else {"interpolate": "linear"}
    scale: dict[str, Any] = {"domain": list(domain)} if domain else {"zero": True}
    y = {"field": "v", "type": "quantitative", "title": None, "axis": _measure(number),
         "scale": {**scale, "nice": True}}  # fmt: skip
    layers: list[dict[str, Any]] = []
    if band:
        low, high = band
        mark = {"type": "area", "opacity": 0.22, "color": look[series[0].colour], **shape}
        low_y = {**y, "field": low}
        layers.append({"mark": mark, "encoding": {"x": axis.encoding(at), "y": low_y, "y2": {"field": high}}})
    for one in (s for s in series if s.column == fill):
        mark = {"type": "area", "opacity": 0.3, "color": look[one.colour], **shape}
        layers.append({"mark": mark, "encoding": {"x": axis.encoding(at), "y": {**y, "field": fill}}})
    points = {"point": {"size": 22, "filled": True}} if len(rows) < 30 and not steps else {}
    dash = {
        "field": "k", "type": "nominal", "legend": None,
        "scale": {"domain": [s.column for s in series], "range": [_DASHES[s.dash] for s in series]},
    }  # fmt: skip
    layers.append(
        {
            "transform": [*_fold(series), {"filter": "isValid(datum.v)"}],
            "mark": {"type": "line", "strokeWidth": 2, **shape, **points},
            "encoding": {"x": axis.encoding(at), "y": y, "color": _colour(series, look), "strokeDash": dash},
        }
    )
    return {"data": {"values": plain(rows)}, "layer": [*layers, _hover(series, axis, number)]}


def bars(
    rows: Sequence[Row], series: Sequence[Series], look: Look, *, top: float | None = None,
    number: str = _AMOUNT, names: int = 150,
) -> dict[str, Any]:  # fmt: skip
    """Bars from left to right, one for each of *rows*: its ``name``, ``text`` (shown at the end), values.

    Names differ. *names* is the room for them, in pixels.
    """
    x: dict[str, Any] = {
        "field": "v", "type": "quantitative", "title": None, "stack": "zero",
        "axis": {"grid": True, **_labels(number),
                 "tickCount": {"expr": "max(2, floor(width / 90))"}},
    }  # fmt: skip
    if number.endswith("%"):
        x["axis"]["values"] = [0, 0.25, 0.5, 0.75, 1]  # the scale may go on, to have room for texts
    if top is not None:
        x["scale"] = {"domain": [0, top or 1], "nice": False}
    order = [row["name"] for row in rows]
    y = {
        "field": "name", "type": "nominal", "title": None, "sort": order, "scale": {"domain": order},
        "axis": {"ticks": False, "domain": False, "labelLimit": names, "labelColor": look["ink"],
                 "labelFontSize": 12, "labelPadding": 6},
    }  # fmt: skip
    bar = {
        "transform": _fold(series),
        "mark": {"type": "bar", "height": {"band": 0.72}},
        "encoding": {"x": x, "y": y, "color": _colour(series, look),
                     "order": {"field": "o", "type": "quantitative"},
                     "tooltip": [{"field": "name", "title": " "}, *_tips(series, number)]},
    }  # fmt: skip
    layers: list[dict[str, Any]] = [bar]
    if any(row.get("text") for row in rows):
        layers.append(
            {
                "transform": [{"calculate": _sum(series), "as": "v"}],
                "mark": {"type": "text", "align": "left", "dx": 5, "color": look["ink"], "fontSize": 12},
                "encoding": {"x": {"field": "v", "type": "quantitative"}, "y": y, "text": {"field": "text"}},
            }
        )
    return {"data": {"values": plain(rows)}, "layer": layers, "height": _BAR * len(rows)}


def ranges(
    rows: Sequence[Row], series: Sequence[Series], look: Look, *, domain_s: tuple[float, float],
    title: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Times (s) on a logarithmic axis by ``name``, a mark for each of *series*; at least at 1 s."""
    ticks = [1, 10, 60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400]
    words = dict(
        zip(map(str, ticks), ("1 s", "10 s", "1 min", "10 min", "1 h", "6 h", "1 d", "1 w", "30 d", "1 y"),
            strict=True)
    )  # fmt: skip
    order = [row["name"] for row in rows]
    x = {"field": "name", "type": "ordinal", "title": title, "sort": order, "axis": {"labelAngle": 0}}
    y = {
        "field": "v", "type": "quantitative", "title": None,
        "scale": {"type": "log", "domain": list(domain_s), "nice": False, "clamp": True},
        "axis": {"values": ticks, "labelExpr": f"{json.dumps(words)}[toString(datum.value)]"},
    }  # fmt: skip
    folded = [*_fold(series), {"filter": "isValid(datum.v)"},
              {"calculate": f"max(datum.v, {_FLOOR_S})", "as": "v"}]  # fmt: skip
    shapes = ["circle", "square", "triangle-up"]
    shape = {
        "field": "k", "type": "nominal", "legend": None,
        "scale": {"domain": [s.column for s in series], "range": shapes[: len(series)]},
    }  # fmt: skip
    tips = [
        {"field": "name", "title": title},
        *({"field": f"{s.column}_text", "title": s.label} for s in series),
    ]
    colour = _colour(series, look)
    line = {"mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.6},
            "encoding": {"x": x, "y": y, "color": colour}}  # fmt: skip
    mark = {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": tips}}  # fmt: skip
    return {"data": {"values": plain(rows)}, "transform": folded, "layer": [line, mark]}


def finished(chart: Chart, look: Look, subtitle: str = "") -> dict[str, Any]:
    """The whole specification: as wide as its place on a page, or of a picture with its title and legend."""
    height = SMALL_HEIGHT if chart.small else HEIGHT
    spec = {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", **chart.draw(look)}
    spec = {"height": height, **spec, "config": config(look)}
    if look.page:
        return {**spec, "width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    title = {
        "text": chart.title, "subtitle": [text for text in (chart.unit, subtitle) if text], "anchor": "start",
        "fontSize": 16, "subtitleFontSize": 12, "color": look["ink"], "subtitleColor": look["quiet"],
        "offset": 14,
    }  # fmt: skip
    return {**spec, "width": WIDTH, "padding": 18, "title": title}


def _measure(number: str) -> dict[str, Any]:
    return {**_labels(number), "tickCount": 5, "domain": False, "ticks": False, "grid": True}


def _labels(number: str) -> dict[str, str]:
    """Labels of an axis: a D3 format, or for :data:`_AMOUNT` figures with k, M and bn."""
    if number != _AMOUNT:
        return {"format": number}
    small = "abs(datum.value) < 1 ? format(datum.value, '.2~r')"
    return {"labelExpr": f"{small} : replace(format(datum.value, '.3~s'), 'G', 'bn')"}


def _fold(series: Sequence[Series]) -> list[dict[str, Any]]:
    """One row for each value: ``k`` its column, ``v`` the value, ``o`` its place."""
    columns = [s.column for s in series]
    return [
        {"fold": columns, "as": ["k", "v"]},
        {"calculate": f"indexof({json.dumps(columns)}, datum.k)", "as": "o"},
    ]


def _sum(series: Sequence[Series]) -> str:
    return " + ".join(f"datum[{json.dumps(s.column)}]" for s in series)


def _colour(series: Sequence[Series], look: Look) -> dict[str, Any]:
    """Colours by series; a page has its legends outside the charts."""
    legend = None
    if not look.page:
        words = json.dumps({s.column: s.label for s in series})
        legend = {"title": None, "orient": "bottom", "columns": 4, "labelLimit": 150,
                  "labelExpr": f"{words}[datum.value]", "symbolType": "square"}  # fmt: skip
    return {
        "field": "k", "type": "nominal", "legend": legend,
        "scale": {"domain": [s.column for s in series], "range": [look[s.colour] for s in series]},
    }  # fmt: skip


def _tips(series: Sequence[Series], number: str) -> list[dict[str, Any]]:
    return [{"field": s.column, "type": "quantitative", "title": s.label, "format": number} for s in series]


def _hover(series: Sequence[Series], axis: Axis, number: str) -> dict[str, Any]:
    """Unseen strips from ``t`` to ``u``, or around ``t``, that tell all values under the pointer."""
    if axis.time:
        when = {"field": "t", "type": "temporal", "title": "From", "timeUnit": "utcyearmonthdate"}
    else:
        when = {"field": "t", "type": "quantitative", "title": axis.title, "format": ".3~r"}
    x = {"field": "t", "type": "temporal" if axis.time else "quantitative"}
    return {
        "mark": {"type": "rect", "opacity": 0},
        "encoding": {"x": x, "x2": {"field": "u"}, "y": {"value": 0}, "y2": {"value": "height"},
                     "tooltip": [when, *_tips(series, number)]},
    }  # fmt: skip
