"""Pictures of a workload (when jobs come, how large and long they are, what load they offer) and of runs.

:func:`trace_page` and :func:`comparison_page` are one HTML file that needs no network, light or dark as the
reader's system is; :func:`trace_png` is a workload's charts as a picture. Every axis has its unit. Colours
are those of Okabe and Ito, which colour-blind readers tell apart; dashes and direct words say the same.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim.reporting.page import PAPER, Look, config, figure, page
from fleetsim_traces.table import Trace

if TYPE_CHECKING:
    import altair as alt
    import numpy.typing as npt

    from fleetsim.comparison import Section

    Floats = npt.NDArray[np.float64]

#: Light and dark: Okabe and Ito's, which dark paper needs lighter. ``run-0`` and on are those of runs; their
#: dashes differ where the colours come round.
_PALETTE = {
    "a": ("#0072B2", "#56B4E9"),
    "b": ("#D55E00", "#E69F00"),
    "run-0": ("#0072B2", "#56B4E9"),
    "run-1": ("#D55E00", "#E69F00"),
    "run-2": ("#009E73", "#2DC49A"),
    "run-3": ("#CC79A7", "#E8A5CB"),
    "run-4": PAPER["ink"],
}
_RUN_COLOURS = 5
_DASHES = ([1, 0], [6, 3], [2, 2], [9, 3, 2, 3])
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_POINTS = 240  # of a curve: more do not show
_WIDTH, _HEIGHT = 420, 240
_TITLES = {
    "arrivals": "When jobs are submitted",
    "load": "Offered load, if nothing waited",
    "durations": "How long jobs run",
    "sizes": "How many GPUs jobs ask for",
    "tenants": "How concentrated tenants are",
}
_RUN_TITLES = {
    "waits": "How long jobs waited",
    "changes": "Completion times that changed",
    "queue": "Jobs waiting",
    "gpus": "GPUs allocated",
}


def trace_charts(
    trace: Trace, *, gpus: float | None = None, zone: str = "UTC", dark: bool | None = False
) -> dict[str, Any]:
    """The charts of *trace* by name, as Altair charts; *gpus* is the capacity drawn with the offered load.

    Names are arrivals, load, durations, sizes, tenants. Hours and weekdays are those of *zone* (IANA). With
    *dark* None they are for a page, which is light or dark as its reader's system is.
    """
    import polars as pl

    names = ["submit_s", "duration_s", "gpus", "gpu_share", "tenant"]
    jobs = pl.DataFrame(pl.from_arrow(trace.jobs.select(names))).with_columns(
        pl.col("tenant").cast(pl.String)
    )
    submit_s, duration_s, width = (
        jobs[n].cast(pl.Float64).to_numpy() for n in ("submit_s", "duration_s", "gpus")
    )
    busy = width * jobs["gpu_share"].cast(pl.Float64).to_numpy()
    colours = Look(_PALETTE, dark)
    by_tenant = (
        jobs.with_columns(gpu_s=busy * duration_s).group_by("tenant").agg(pl.len(), pl.col("gpu_s").sum())
    )
    return {
        "arrivals": _arrivals(trace, submit_s, zone, colours),
        "load": _load(submit_s, duration_s, busy, gpus, colours),
        "durations": _distribution(
            np.maximum(duration_s, 1.0), busy * duration_s, "Run time (s, log scale)", colours
        ),
        "sizes": _distribution(width, busy * duration_s, "GPUs of a job (log scale)", colours, steps=True),
        "tenants": _lorenz(by_tenant["len"].to_numpy(), by_tenant["gpu_s"].to_numpy(), colours),
    }


def _data(**columns: Any) -> alt.InlineData:
    """Columns as rows of inline data, rounded: files stay small and need no table library."""
    import altair as alt

    plain = {k: [float(f"{x:.5g}") if isinstance(x, float) else x for x in v] for k, v in columns.items()}
    return alt.InlineData([dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)])


def _arrivals(trace: Trace, submit_s: Floats, zone: str, colours: Look) -> Any:
    import altair as alt

    from fleetsim_traces.profile import local_hours

    edges = np.arange(submit_s[0], submit_s[-1] + 3600, 3600.0)
    spent = np.bincount(local_hours(trace, edges, zone), minlength=168)
    counts = np.bincount(local_hours(trace, submit_s, zone), minlength=168) / np.maximum(spent, 1)
    known = trace.epoch is not None
    days = _DAYS if known else tuple(f"Day {i}" for i in range(1, 8))
    data = _data(
        day=[days[i // 24] for i in range(168)],
        hour=[i % 24 for i in range(168)],
        jobs=[float(c) if s else None for c, s in zip(counts, spent, strict=True)],
    )
    return (
        alt.Chart(data, width=_WIDTH, height=_HEIGHT)
        .mark_rect()
        .encode(
            x=alt.X("hour:O", title=f"Hour of the day ({zone if known else 'from the first hour; no dates'})",
                    axis=alt.Axis(values=list(range(0, 24, 3)), labelAngle=0)),
            y=alt.Y("day:O", title=None, sort=list(days)),
            color=alt.Color("jobs:Q", title=["Jobs", "per hour"], scale=alt.Scale(scheme="viridis")),
            tooltip=[alt.Tooltip("day:N", title="Day"), alt.Tooltip("hour:O", title="Hour"),
                     alt.Tooltip("jobs:Q", title="Jobs per hour", format=".3~s")],
        )
    )  # fmt: skip


def offered_load(
    submit_s: Floats, duration_s: Floats, busy: Floats, points: int = _POINTS
) -> tuple[Floats, Floats]:
    """Time (s) and the GPUs that would be busy around it if every job started at its submission.

    *points* means over equal parts of the time from the first submission to the last, exact integrals.
    """
    first, last = submit_s[0], max(submit_s[-1], submit_s[0] + 1.0)
    edges = np.linspace(first, last, points + 1)
    times = np.concatenate((submit_s, submit_s + duration_s))
    change = np.concatenate((busy, -busy))
    order = np.argsort(times, kind="stable")
    times, level = times[order], np.cumsum(change[order])
    area = np.concatenate(([0.0], np.cumsum(level[:-1] * np.diff(times))))
    return (edges[:-1] + edges[1:]) / 2, np.diff(np.interp(edges, times, area)) / np.diff(edges)


def _load(submit_s: Floats, duration_s: Floats, busy: Floats, gpus: float | None, colours: Look) -> Any:
    import altair as alt

    at, level = offered_load(submit_s, duration_s, busy)
    unit, label = _time_unit(float(submit_s[-1] - submit_s[0]))
    data = _data(t=((at - submit_s[0]) / unit).tolist(), gpus=np.maximum(level, 0).tolist())
    area = (
        alt.Chart(data, width=_WIDTH, height=_HEIGHT)
        .mark_area(line={"color": colours["a"], "strokeWidth": 1.2}, color=colours["a"], opacity=0.45)
        .encode(
            x=alt.X("t:Q", title=f"Time from the first submission ({label})", scale=alt.Scale(nice=False)),
            y=alt.Y("gpus:Q", title="GPUs wanted at once", axis=alt.Axis(format="~s")),
            tooltip=[alt.Tooltip("t:Q", title=label.capitalize(), format=".4~r"),
                     alt.Tooltip("gpus:Q", title="GPUs", format=",.0f")],
        )
    )  # fmt: skip
    if gpus is None:
        return area
    line = _data(y=[float(gpus)], label=[f"{gpus:,.0f} GPUs installed"])
    rule = alt.Chart(line).mark_rule(color=colours["b"], strokeWidth=2, strokeDash=[6, 3]).encode(y="y:Q")
    word = alt.Chart(line).mark_text(
        align="right", dx=-4, dy=-7, color=colours["b"], fontWeight="bold", fontSize=12,
    ).encode(y="y:Q", x=alt.value("width"), text="label:N")  # fmt: skip
    return area + rule + word


def _time_unit(span_s: float) -> tuple[int, str]:
    """The seconds and the name of a unit in which an axis of *span_s* reads well."""
    return (
        (86_400, "days") if span_s > 3 * 86_400 else (3600, "hours") if span_s > 10_800 else (60, "minutes")
    )


def _curves(points: Mapping[str, tuple[Any, Any]], x: Any, y: Any, colours: Look, **mark: Any) -> Any:
    """Curves in one chart: by jobs, and by GPU time dashed."""
    import altair as alt

    data = _data(
        x=[float(v) for xs, _ in points.values() for v in xs],
        y=[float(v) for _, ys in points.values() for v in ys],
        by=[name for name, (xs, _) in points.items() for _ in xs],
    )
    kinds = list(points)
    legend = alt.Legend(title=None, orient="top", symbolStrokeWidth=2.2, symbolType="stroke")
    return (
        alt.Chart(data, width=_WIDTH, height=_HEIGHT)
        .mark_line(strokeWidth=2.2, **mark)
        .encode(
            x=x,
            y=y,
            color=alt.Color("by:N", sort=kinds, legend=legend,
                            scale=alt.Scale(domain=kinds, range=[colours["a"], colours["b"]])),
            strokeDash=alt.StrokeDash("by:N", sort=kinds, legend=legend,
                                      scale=alt.Scale(domain=kinds, range=[[1, 0], [6, 3]])),
            tooltip=[alt.Tooltip("by:N", title="By"), alt.Tooltip("x:Q", format=".3~s"),
                     alt.Tooltip("y:Q", format=".1%")],
        )
    )  # fmt: skip


def _share_axis(title: str) -> Any:
    import altair as alt

    return alt.Y("y:Q", title=title, axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))


def _distribution(values: Floats, weights: Floats, title: str, colours: Look, *, steps: bool = False) -> Any:
    """Cumulative shares of jobs and of GPU time up to each value."""
    import altair as alt

    found, place = np.unique(values, return_inverse=True)
    points = {}
    for name, weight in (("by jobs", np.ones_like(values)), ("by GPU time", weights)):
        sums = np.cumsum(np.bincount(place, weights=weight, minlength=len(found)))
        share = sums / sums[-1] if sums[-1] > 0 else np.zeros(len(found))
        if len(found) > _POINTS:  # at even steps of the logarithm
            at = np.geomspace(found[0], found[-1], _POINTS)
            share = share[np.searchsorted(found, at * (1 + 1e-9), side="right") - 1]
            points[name] = (at, share)
        else:
            points[name] = (found, share)
    x = alt.X(
        "x:Q", title=title, scale=alt.Scale(type="log", nice=False), axis=alt.Axis(format="~s", tickCount=7)
    )
    mark = {"interpolate": "step-after"} if steps else {}
    return _curves(points, x, _share_axis("Share of all, up to that value"), colours, **mark)


def _lorenz(jobs: Any, gpu_s: Any, colours: Look) -> Any:
    """Share of the total that the smallest tenants have: the diagonal if all were alike."""
    import altair as alt

    points = {}
    for name, amounts in (("by jobs", jobs), ("by GPU time", gpu_s)):
        ranked = np.concatenate(([0.0], np.cumsum(np.sort(np.asarray(amounts, dtype=np.float64)))))
        x = np.linspace(0, 1, len(ranked))
        share = ranked / ranked[-1] if ranked[-1] > 0 else x
        at = np.unique(np.linspace(0, len(ranked) - 1, min(len(ranked), _POINTS)).astype(int))
        points[name] = (x[at], share[at])
    plural = "tenant" if len(jobs) == 1 else "tenants"
    x_axis = alt.X(
        "x:Q", title=f"Share of the {len(jobs):,} {plural}, smallest first", axis=alt.Axis(format="%"),
        scale=alt.Scale(domain=[0, 1]),
    )  # fmt: skip
    even = (
        alt.Chart(_data(x=[0.0, 1.0], y=[0.0, 1.0]))
        .mark_line(color=colours["quiet"], strokeWidth=1)
        .encode(x="x:Q", y="y:Q")
    )
    return even + _curves(points, x_axis, _share_axis("Share of the total"), colours)


def _themed(chart: Any, title: str, look: Look) -> dict[str, Any]:
    """The Vega-Lite specification of a chart, in the colours of *look*; of a page, as wide as its room."""
    spec: dict[str, Any] = chart.to_dict(validate=False)
    spec["title"] = {"text": title, "anchor": "start", "fontSize": 15, "color": look["ink"], "offset": 12}
    if look.page:
        for part in (spec, *spec.get("layer", ())):
            part.pop("width", None)
        spec |= {"width": "container", "height": _HEIGHT}
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec | {"config": config(look)}


def trace_png(
    trace: Trace, path: str | Path, *, title: str = "", gpus: float | None = None, zone: str = "UTC",
    dark: bool = False,
) -> Path:  # fmt: skip
    """Write the charts as a PNG at *path*, and return the path; raises OSError where the disk does."""
    import altair as alt
    import vl_convert

    found = trace_charts(trace, gpus=gpus, zone=zone, dark=dark)
    look = Look(_PALETTE, dark)
    specs = [_themed(chart, _TITLES[name], look) for name, chart in found.items()]
    config, datasets = specs[0]["config"], dict[str, Any]()
    for spec in specs:
        datasets |= spec.pop("datasets")
        for key in ("config", "$schema"):
            spec.pop(key, None)
    page = {
        "$schema": alt.SCHEMA_URL,
        "title": {"text": title, "anchor": "start", "fontSize": 18, "color": look["ink"], "offset": 16},
        "concat": specs,
        "columns": 2,
        "spacing": 36,
        "padding": 20,
        "config": config,
        "datasets": datasets,
        "resolve": {"scale": {"color": "independent", "strokeDash": "independent"}},
    }
    path = Path(path)
    path.write_bytes(vl_convert.vegalite_to_png(json.dumps(page), scale=2))
    return path


def trace_page(trace: Trace, *, title: str, gpus: float | None = None, zone: str = "UTC") -> str:
    """One HTML page with the charts and the figures of a profile; it loads nothing from anywhere."""
    from fleetsim_traces.profile import profile

    facts = profile(trace, zone=zone)
    charts = trace_charts(trace, gpus=gpus, zone=zone, dark=None)
    about = [
        ("jobs", f"{facts['jobs']:,}"),
        ("days", f"{facts['span_s'] / 86400:,.1f}"),
        ("GPU-hours", f"{facts['gpu_hours']:,.0f}"),
        ("GPUs offered on average", "-" if facts["mean_gpus"] is None else f"{facts['mean_gpus']:,.0f}"),
        ("tenants", f"{facts['tenants']['count']:,}"),
        ("median run time, s", f"{facts['duration_s']['by_jobs']['p50']:,.0f}"),
    ]
    tiles = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in about)
    said = any(note.startswith("Generated") for note in trace.notes)
    kind = "Generated: no cluster ever ran these jobs. " if trace.generated and not said else ""
    notes = " ".join(html.escape(note) for note in trace.notes)
    body = f'<div class="tiles">{tiles}</div>\n<p class="quiet">{kind}{notes}</p>'
    return _page(title, body, charts, _TITLES)


def comparison_page(comparison: Mapping[str, Any], curves: Mapping[str, Any], *, title: str) -> str:
    """One HTML page with the tables and charts of runs side by side; it loads nothing from anywhere.

    *comparison* is that of :func:`fleetsim.comparison.compare`, *curves* those of its ``curves``.
    """
    from fleetsim.comparison import sections

    policy, *figures = sections(comparison)
    notes = "".join(
        f"<p class=quiet>{html.escape(note)}</p>" for note in ("* best of its row", *comparison["notes"])
    )
    meanings = {row.label: row.meaning for section in figures for row in section.rows}
    meanings["private share"] = comparison["definitions"]["private_share"]
    defined = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in meanings.items()
    )
    tables = "".join(section_table(section) for section in figures)
    after = f'<div class="charts">{tables}</div>{notes}<details><summary>What the figures mean</summary>'
    charts = comparison_charts(curves, dark=None)
    return _page(title, section_table(policy), charts, _RUN_TITLES, f"{after}<dl>{defined}</dl></details>")


def comparison_charts(curves: Mapping[str, Any], *, dark: bool | None = False) -> dict[str, Any]:
    """The charts of runs side by side by name: waits, changes, queue, gpus; those that there is data for.

    With *dark* None they are for a page, which is light or dark as its reader's system is.
    """
    import altair as alt

    unit, label = _time_unit(max((x[-1] for x, _ in curves["queue"].values()), default=0.0))
    log = alt.Scale(type="log", nice=False)
    time = alt.X("x:Q", title=f"Time from the start ({label})", scale=alt.Scale(nice=False))
    axes: dict[str, tuple[Any, Any]] = {
        "waits": (
            alt.X("x:Q", title="Wait (s, log scale; less than 1 s counts as 1)", scale=log,
                  axis=alt.Axis(format="~s", tickCount=7)),
            _share_axis("Share of the jobs that started"),
        ),
        "changes": (
            alt.X("x:Q", title="JCT / baseline's (log scale; below 1 is faster)", scale=log,
                  axis=alt.Axis(values=[10.0**i for i in range(-6, 7)], format="~g")),
            alt.Y("y:Q", title="Share of the paired jobs", axis=alt.Axis(format="~%")),
        ),
        "queue": (time, alt.Y("y:Q", title="Jobs waiting", axis=alt.Axis(format=",~r"))),
        "gpus": (time, alt.Y("y:Q", title="GPUs allocated", axis=alt.Axis(format=",~r"))),
    }  # fmt: skip
    runs, look = list(curves["waits"]), Look(_PALETTE, dark)
    charts = {}
    for name, (x, y) in axes.items():
        scale = unit if name in ("queue", "gpus") else 1
        points = {run: (xs / scale, ys) for run, (xs, ys) in curves[name].items() if len(xs)}
        if points:
            mark = {"interpolate": "step"} if name == "changes" else {}
            charts[name] = _run_lines(points, runs, x, y, look, **mark)
    if "changes" in charts:
        one = alt.Chart(_data(x=[1.0])).mark_rule(color=look["quiet"])
        charts["changes"] = one.encode(x="x:Q") + charts["changes"]
    return charts


def _run_lines(
    points: Mapping[str, tuple[Floats, Floats]], runs: Sequence[str], x: Any, y: Any, look: Look, **mark: Any
) -> Any:
    """A line for each run, in the colour and dashes of its place among *runs*."""
    import altair as alt

    data = _data(
        x=[float(v) for xs, _ in points.values() for v in xs],
        y=[float(v) for _, ys in points.values() for v in ys],
        run=[run for run, (xs, _) in points.items() for _ in xs],
    )
    place = [runs.index(run) for run in points]
    legend = alt.Legend(title=None, orient="top", columns=2, labelLimit=150, symbolStrokeWidth=2.2,
                        symbolType="stroke", symbolSize=300)  # fmt: skip
    domain = list(points)
    return (
        alt.Chart(data, width=_WIDTH, height=_HEIGHT)
        .mark_line(strokeWidth=2.2, **mark)
        .encode(
            x=x,
            y=y,
            color=alt.Color("run:N", sort=domain, legend=legend, scale=alt.Scale(
                domain=domain, range=[look[f"run-{i % _RUN_COLOURS}"] for i in place])),
            strokeDash=alt.StrokeDash("run:N", sort=domain, legend=legend, scale=alt.Scale(
                domain=domain, range=[_DASHES[i % len(_DASHES)] for i in place])),
            tooltip=[alt.Tooltip("run:N", title="Run"), alt.Tooltip("x:Q", format=".3~s"),
                     alt.Tooltip("y:Q", format=".3~s")],
        )
    )  # fmt: skip


def section_table(section: Section) -> str:
    """A section of a comparison as an HTML table, which scrolls where it is too wide."""
    heads = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in section.runs)
    rows = [f"<thead><tr><td></td>{heads}</tr></thead>"]
    for row in section.rows:
        cells = "".join(
            f"<td><b>{html.escape(cell)} *</b></td>" if i in row.best else f"<td>{html.escape(cell)}</td>"
            for i, cell in enumerate(row.cells)
        )
        rows.append(f"<tr><th scope=row>{html.escape(row.label)}</th>{cells}</tr>")
    title = f"<h2>{html.escape(section.title)}</h2>"
    table = "\n".join(rows)
    return f'<section>{title}<div class="wide"><table>{table}</table></div></section>'


def _page(
    title: str, body: str, charts: Mapping[str, Any], titles: Mapping[str, str], after: str = ""
) -> str:
    """A page of *charts* by name, between *body* and *after* (HTML)."""
    look = Look(_PALETTE)
    specs = {name: _themed(chart, titles[name], look) for name, chart in charts.items()}
    figures = "".join(figure(name, titles[name]) for name in specs)
    return page(title, f'{body}\n<div class="charts">{figures}</div>\n{after}', specs, _PALETTE)
