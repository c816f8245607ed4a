"""What a report is put together from: sections, and in them paragraphs, tables and groups of charts."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fleetsim.reporting.drawing import Axis, Chart, Series
from fleetsim.reporting.facts import Facts
from fleetsim.reporting.measures import Row
from fleetsim.reporting.page import Look

Draw = Callable[[Look], dict[str, Any]]


@dataclass(frozen=True)
class Panels:
    """Charts of one kind on the same scales, each with a label (text): a run's name, a generation's, or none.

    *series* are those of the legend: none where the title says it all.
    *half* ones share a line with their neighbours where the report is of one run.
    """

    title: str
    unit: str
    series: Sequence[Series]
    charts: Sequence[tuple[Chart, str]]
    half: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the report. Of *parts*, texts are HTML."""

    name: str
    title: str
    parts: Sequence[str | Panels]


@dataclass(frozen=True)
class Omitted:
    """A part that there are no data for, and why."""

    title: str
    reason: str


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of *text*, escaped; *kind* is its class."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def of_each(runs: Sequence[Facts], say: Callable[[Facts], str], kind: str = "") -> list[str]:
    """A paragraph for each run that there is something to *say* of, with its name where there are several."""
    head = {run.name: f"{run.name}: " if len(runs) > 1 else "" for run in runs}
    return [paragraph(head[run.name] + text, kind) for run in runs if (text := say(run))]


def panels(
    runs: Sequence[Facts],
    name: str,
    title: str,
    unit: str,
    series: Sequence[Series],
    draws: Iterable[Draw | None],
    half: bool = False,
) -> Panels:
    """One chart for each run that has one: its *name* is stable, with the place of the run if several."""
    several = len(runs) > 1
    charts = [
        (
            Chart(f"{name}-{i + 1}" if several else name, title, unit, series, draw),
            run.name if several else "",
        )
        for i, (run, draw) in enumerate(zip(runs, draws, strict=True))
        if draw is not None
    ]
    return Panels(title, unit, series, charts, half)


def small_panels(
    runs: Sequence[Facts],
    name: str,
    title: str,
    unit: str,
    series: Sequence[Series],
    draws: Sequence[Mapping[str, Draw]],
) -> list[Panels]:
    """Small multiples of each run: one chart for each key of its *draws*."""
    several = len(runs) > 1
    made = []
    for i, (run, found) in enumerate(zip(runs, draws, strict=True)):
        stem, of = (f"{name}-{i + 1}", f"{title}, {run.name}") if several else (name, title)
        charts = [
            (Chart(f"{stem}-{j + 1}", f"{of}: {label}", unit, series, draw, small=True), label)
            for j, (label, draw) in enumerate(found.items())
        ]
        made.append(Panels(of, unit, series, charts))
    return made


def time_axis(runs: Sequence[Facts]) -> Axis:
    """From the first start to the last end of *runs*."""
    return Axis((min(r.ms(0) for r in runs), max(r.ms(r.end_s) for r in runs)), time=True)


def over_periods(run: Facts, rows: Iterable[Row], columns: Mapping[str, str]) -> list[Row]:
    """Rows by period as points of a chart: its columns by those of *rows*."""
    return [
        {"t": run.ms(row["period_start_s"]), "u": run.ms(row["period_end_s"]),
         **{short: row[column] for short, column in columns.items()}}
        for row in rows
    ]  # fmt: skip


def pivoted(
    run: Facts, rows: Iterable[Row], key: str, value: str, keys: Sequence[str], gap: Any
) -> list[Row]:
    """Points of a chart with a column s0, s1, ... for each of *keys*; *gap* where a period lacks one."""
    found = {
        period: {"t": run.ms(period[0]), "u": run.ms(period[1]), **{f"s{i}": gap for i in range(len(keys))}}
        for period in run.periods
    }
    for row in rows:
        found[row["period_start_s"], row["period_end_s"]][f"s{keys.index(row[key])}"] = row[value]
    return list(found.values())


def union(lists: Iterable[Iterable[str]]) -> list[str]:
    """All names of *lists*, each once, in the order in which they come."""
    return list(dict.fromkeys(name for names in lists for name in names))


def greatest(rows: Iterable[Row], columns: Sequence[str], together: bool = False) -> float:
    """The largest value of *columns*, or, *together*, of their sum in a row; 0 of nothing."""
    best = 0.0
    for row in rows:
        values = [row[c] for c in columns if row.get(c) is not None]
        best = max(best, sum(values) if together else max(values, default=0.0))
    return best


def bind(draw: Callable[..., dict[str, Any]], *given: Any, **more: Any) -> Draw:
    """*draw* with everything but the look, which comes after *given*."""
    return partial(draw, *given, **more)
