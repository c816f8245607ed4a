"""Pictures of a sweep: its figures against one axis, by generation and over the fleet, with 95 % bands.

A page loads nothing and is light or dark as its reader's system is. Colours are those of Okabe and Ito, which
colour-blind readers tell apart; dashes and marks say the same.
"""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from fleetsim import units
from fleetsim.errors import InputError, Problem
from fleetsim.reporting.page import PAPER, Look, config, figure, page, table
from fleetsim.sweeps.break_even import find_axis, is_numeric, otherwise
from fleetsim.sweeps.sweep import axis_labels, shown
from fleetsim.sweeps.table import words

#: Of lines, light and dark; dashes and marks differ where the colours come round.
_PALETTE = {
    "line-0": ("#0072B2", "#56B4E9"),
    "line-1": ("#D55E00", "#E69F00"),
    "line-2": ("#009E73", "#2DC49A"),
    "line-3": ("#CC79A7", "#E8A5CB"),
    "line-4": PAPER["ink"],
    "line-5": ("#E69F00", "#D55E00"),
    "line-6": ("#56B4E9", "#0072B2"),
}
_DASHES = ([1, 0], [6, 3], [2, 2], [9, 3, 2, 3])
_MARKS = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
_WIDTH, _HEIGHT = 440, 250

#: Combinations of the other axes that are drawn; a page of more cannot be read.
MOST_LINES = 12


@dataclass(frozen=True)
class Panel:
    """One chart: *rows* have x, y, low, high (the band, if any) and by, the name of the line.

    *names* are those of all lines, so that a line looks the same in every chart.
    """

    title: str
    y: str
    share: bool
    rows: list[dict[str, Any]]
    names: list[str]
    threshold: float | None = None


def find_x(found: Mapping[str, Any], name: str | None) -> str:
    """The path of the axis to draw against: *name*; else that of the break-even, the first that has numbers,
    the first. *found* is that of :func:`fleetsim.sweeps.table.table`. Raises :class:`InputError`."""
    axes = found["axes"]
    if name is not None:
        return find_axis(axes, name)
    if not axes:
        raise InputError([Problem("charts", "the sweep has no axis to draw against", "Use the tables.")])
    numeric = (path for path, values in axes.items() if is_numeric(values) and len(values) > 1)
    return str(found.get("break_even", {}).get("axis") or next(numeric, next(iter(axes))))


class Charts:
    """The charts of *found*, the table of a sweep, against the axis of the path *x*."""

    def __init__(self, found: Mapping[str, Any], x: str) -> None:
        self.found = found
        self.x = x
        self.numeric = is_numeric(found["axes"][x])
        self._labels = axis_labels(list(found["axes"]))
        lines = list(dict.fromkeys(self._line(point["values"]) for point in found["points"]))
        self.shown = lines[:MOST_LINES]
        self.left_out = len(lines) > MOST_LINES
        self.panels = [*self._break_even(), *self._by_generation(), *self._fleet()]

    def page(self) -> str:
        """One HTML page: the charts, the figures as tables, and what they mean."""
        look = Look(_PALETTE)
        specs = {f"chart-{i}": self._spec(panel, look) for i, panel in enumerate(self.panels)}
        figures = "".join(
            figure(name, panel.title, f"<h3>{html.escape(panel.title)}</h3>")
            for name, panel in zip(specs, self.panels, strict=True)
        )
        notes = "".join(f"<p class=quiet>{html.escape(note)}</p>" for note in self._notes())
        meanings = {f["label"]: f["meaning"] for f in self.found["definitions"]["figures"].values()}
        meanings |= {k: v for k, v in self.found["definitions"].items() if k != "figures"}
        meanings |= self.found.get("break_even", {}).get("definitions", {})
        defined = "".join(
            f"<dt>{html.escape(name.replace('_', ' '))}</dt><dd>{html.escape(text)}</dd>"
            for name, text in meanings.items()
        )
        body = (
            f"<p>{html.escape(self.found['question'])}</p>{notes}\n"
            f'<div class="charts">{figures}</div>\n{self._table()}\n'
            f"<details><summary>What the figures mean</summary><dl>{defined}</dl></details>"
        )
        return page(f"{self.found['scenario']}, along {self.x}", body, specs, _PALETTE)

    def png(self) -> bytes:
        """The charts as one picture."""
        import vl_convert

        look = Look(_PALETTE, dark=False)
        specs = [self._spec(panel, look) for panel in self.panels]
        for spec in specs:
            del spec["config"], spec["$schema"]
        whole = {
            "$schema": _SCHEMA,
            "title": {"text": f"{self.found['scenario']}, along {self.x}", "anchor": "start",
                      "subtitle": self.found["question"], "subtitleColor": look["quiet"], "fontSize": 18,
                      "color": look["ink"], "offset": 16},
            "concat": specs, "columns": 2, "spacing": 36, "padding": 20, "config": config(look),
            "resolve": {"scale": dict.fromkeys(("color", "strokeDash", "shape"), "independent")},
        }  # fmt: skip
        return bytes(vl_convert.vegalite_to_png(json.dumps(whole), scale=2))

    def _line(self, values: Mapping[str, Any]) -> str:
        """The values of the other axes, as the name of a line."""
        return self._words({path: value for path, value in values.items() if path != self.x})

    def _words(self, values: Mapping[str, Any]) -> str:
        return ", ".join(f"{self._labels[path]} {shown(value)}" for path, value in values.items())

    def _row(
        self, x: Any, by: str, estimate: Mapping[str, Any], factor: float = 1.0, most: float = inf
    ) -> dict[str, Any]:
        """A point of a line; its band is cut at 0 and *most*, beyond which the figure cannot be."""
        mean, low, high = (
            None if estimate[key] is None else float(f"{min(most, max(0.0, estimate[key])) * factor:.5g}")
            for key in ("mean", "low", "high")
        )
        return {"x": x if self.numeric else shown(x), "by": by, "y": mean, "low": low, "high": high}

    def _break_even(self) -> Iterator[Panel]:
        """Shares in the window, from which the break-even is read."""
        even = self.found.get("break_even")
        if even is None or even["axis"] != self.x:
            return
        names = list(dict.fromkeys(row["generation"] for row in even["rows"]))
        for line, tier in itertools.product(self.shown, dict.fromkeys(row["tier"] for row in even["rows"])):
            rows = [
                self._row(share["level"], row["generation"], share, most=1.0)
                for row in even["rows"]
                if (self._line(row["values"]), row["tier"]) == (line, tier)
                for share in row["shares"]
                if share["mean"] is not None
            ]
            title = f"Allocated in the last {even['last']}, by generation{f' on {tier}' if tier else ''}"
            y = f"allocated / installed (rule: {100 * even['threshold']:g} %)"
            if rows:
                yield Panel(_titled(title, line), y, True, rows, names, even["threshold"])

    def _by_generation(self) -> Iterator[Panel]:
        points = self.found["points"]
        for name, facts in self.found["definitions"]["figures"].items():
            own = [g for g in self.found["generations"] if g["figure"] == name and g["tier"] is None]
            for line in self.shown if own else ():
                factor, unit = _unit(facts["unit"], [g["mean"] for g in own])
                rows = [
                    self._row(points[g["point"]]["values"][self.x], g["generation"], g, factor, _most(facts))
                    for g in own
                    if self._line(points[g["point"]]["values"]) == line
                ]
                label = _plain(facts["label"])
                title = _titled(f"{label[:1].upper()}{label[1:]}, by generation", line)
                names = list(dict.fromkeys(g["generation"] for g in own))
                yield Panel(title, f"{label}{unit}", facts["unit"] == "share", rows, names)

    def _fleet(self) -> Iterator[Panel]:
        for name, facts in self.found["definitions"]["figures"].items():
            of = [(p["values"], p["figures"][name]) for p in self.found["points"]]
            factor, unit = _unit(facts["unit"], [estimate["mean"] for _, estimate in of])
            rows = [
                self._row(values[self.x], self._line(values), estimate, factor, _most(facts))
                for values, estimate in of
                if self._line(values) in self.shown
            ]
            label = _plain(facts["label"])
            title = f"{label[:1].upper()}{label[1:]}, whole fleet"
            yield Panel(title, f"{label}{unit}", facts["unit"] == "share", rows, self.shown)

    def _spec(self, panel: Panel, look: Look) -> dict[str, Any]:
        """The Vega-Lite specification of *panel*: bands, lines and marks; bars where x has no numbers."""
        there = {row["by"] for row in panel.rows}
        lines = [name for name in panel.names if name in there]
        legend = {"title": None, "orient": "top", "columns": 2, "labelLimit": 190, "symbolStrokeWidth": 0,
                  "symbolSize": 120, "symbolOpacity": 1} if len(panel.names) > 1 else None  # fmt: skip

        def by(values: Sequence[Any]) -> dict[str, Any]:
            chosen = [values[panel.names.index(name) % len(values)] for name in lines]
            return {"field": "by", "type": "nominal", "sort": lines, "legend": legend,
                    "scale": {"domain": lines, "range": chosen}}  # fmt: skip

        colour = by([look[f"line-{i}"] for i in range(len(_PALETTE))])
        x_title = self.x
        x: dict[str, Any] = {"field": "x", "type": "quantitative", "title": x_title, "scale": {"zero": False}}
        if not self.numeric:
            order = [*map(shown, self.found["axes"][self.x])]
            x = {"field": "x", "type": "ordinal", "title": x_title, "sort": order, "axis": {"labelAngle": 0}}
        axis = {"format": "~%"} if panel.share else {"format": ",~g"}
        y = {"field": "y", "type": "quantitative", "title": panel.y, "axis": axis}
        band = {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}, "color": colour}
        tips = [{"field": "by", "title": "Line"}, {"field": "x", "title": self._labels[self.x]}] + [
            {"field": key, "title": name, "type": "quantitative", "format": ".1%" if panel.share else ".4~s"}
            for key, name in (("y", "Mean"), ("low", "95 % from"), ("high", "95 % to"))
        ]
        aside = {} if self.numeric else {"xOffset": {"field": "by", "sort": lines}}
        layers: list[dict[str, Any]] = []
        if any(row["low"] is not None for row in panel.rows):
            mark: dict[str, Any] = (
                {"type": "area", "opacity": 0.18} if self.numeric else {"type": "rule", "strokeWidth": 2}
            )
            layers.append({"mark": mark, "encoding": {"x": x, **aside, **band}})
        if self.numeric:
            layers.append({
                "mark": {"type": "line", "strokeWidth": 2.2},
                "encoding": {"x": x, "y": y, "color": colour, "strokeDash": {**by(_DASHES), "legend": None}},
            })  # fmt: skip
        layers.append({
            "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
            "encoding": {"x": x, **aside, "y": y, "color": colour, "shape": by(_MARKS), "tooltip": tips},
        })  # fmt: skip
        if panel.threshold is not None:
            layers.append({
                "data": {"values": [{"y": panel.threshold}]},
                "mark": {"type": "rule", "color": look["ink"], "strokeDash": [4, 3]},
                "encoding": {"y": {"field": "y", "type": "quantitative"}},
            })  # fmt: skip
        spec: dict[str, Any] = {"$schema": _SCHEMA, "data": {"values": panel.rows}, "layer": layers,
                                "height": _HEIGHT, "config": config(look)}  # fmt: skip
        if look.page:
            spec |= {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
        else:
            title = {
                "text": panel.title,
                "anchor": "start",
                "fontSize": 15,
                "color": look["ink"],
                "offset": 12,
            }
            spec |= {"width": _WIDTH, "title": title}
        return spec

    def _notes(self) -> Iterator[str]:
        if self.found["replications"] > 1:
            count = self.found["replications"]
            yield f"Means of {count:,} replications; bands: 95 % intervals, cut at what is possible."
        if self.left_out:
            yield f"Only the first {MOST_LINES} combinations of the other axes are drawn."
        yield from self.found["notes"]

    def _table(self) -> str:
        """The figures of all points."""
        figures = self.found["definitions"]["figures"]
        heads = [f"{_plain(f['label'])} ({f['unit']})" if f["unit"].endswith("h") else _plain(f["label"])
                 for f in figures.values()]  # fmt: skip
        rows = [
            [
                self._words(point["values"]) or "all",
                *(words(figures[name]["unit"], point["figures"][name]) for name in figures),
            ]
            for point in self.found["points"]
        ]
        return table(heads, rows, "All points") + self._break_even_table()

    def _break_even_table(self) -> str:
        even = self.found.get("break_even")
        if even is None:
            return ""
        heads = [f"stops at {self._labels[even['axis']]}", "in runs", "the other runs"]
        rows = [
            [
                ", ".join(filter(None, (row["generation"], row["tier"], self._words(row["values"])))),
                words("", row["break_even"]),
                f"{row['crosses']} of {row['replications']}",
                otherwise(row),
            ]
            for row in even["rows"]
        ]
        return table(heads, rows, f"Where generations stop being used, along {even['axis']}")


_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


def _most(facts: Mapping[str, Any]) -> float:
    return 1.0 if facts["unit"] == "share" else inf


def _plain(label: str) -> str:
    return label.removeprefix("x ").removeprefix("= ")


def _titled(title: str, line: str) -> str:
    return f"{title}: {line}" if line else title


def _unit(unit: str, values: Sequence[float | None]) -> tuple[float, str]:
    """What to multiply figures in *unit* by so that they read well, and the unit they are in then.

    >>> _unit("s", [7200.0, None]), _unit("MWh", [3.0]), _unit("share", [0.5])
    ((0.0002777777777777778, ' (h)'), (1.0, ' (MWh)'), (1.0, ''))
    """
    if unit == "s":
        most = max((value for value in values if value is not None), default=0.0)
        size, name = next(
            (
                (s, n)
                for s, n in ((units.DAY_S, "days"), (units.HOUR_S, "h"), (units.MINUTE_S, "min"))
                if most >= 2 * s
            ),
            (1.0, "s"),
        )
        return 1 / size, f" ({name})"
    return 1.0, "" if unit in ("share", "1") else f" ({unit})"
