"""The sections of a report that every run has: where hours went, who held them, waits and power."""

from __future__ import annotations

from collections.abc import Sequence

from fleetsim.reporting import drawing, measures
from fleetsim.reporting.drawing import Axis, Series
from fleetsim.reporting.facts import Facts, say, short
from fleetsim.reporting.measures import STATES, STEPS, Row
from fleetsim.reporting.page import table
from fleetsim.reporting.parts import (
    Draw,
    Omitted,
    Panels,
    Section,
    bind,
    greatest,
    of_each,
    over_periods,
    panels,
    paragraph,
    small_panels,
    time_axis,
    union,
)
from fleetsim.reporting.words import caution
from fleetsim.summary import added
from fleetsim.units import human

#: States as people read them.
STATE_WORDS = {
    "productive": "productive",
    "lost": "lost or checkpoints",
    "stalled": "stalled",
    "idle_queue": "idle, jobs wait",
    "idle_no_queue": "idle, no jobs wait",
    "down": "down",
}
_STATES = [Series(f"s{i}", STATE_WORDS[s], drawing.state(s)) for i, s in enumerate(STATES)]
_IN_STATES = {f"s{i}": s for i, s in enumerate(STATES)}
_PERCENT = ".0%"


def utilisation(runs: Sequence[Facts]) -> Section | Omitted:
    """Where the installed hours went over time: the fleet, and each generation."""
    if not any(run.headline["installed_gpu_hours"] for run in runs):
        return Omitted("Utilisation over time", "nothing was installed")
    axis = time_axis(runs)
    fleet = [over_periods(run, measures.states_over_time(run.usage), _IN_STATES) for run in runs]
    states = [s for s in _STATES if any(row[s.column] for rows in fleet for row in rows)] or _STATES
    top = max(greatest(rows, list(_IN_STATES), together=True) for rows in fleet)
    whole = panels(
        runs, "utilisation", "Where the installed GPUs were", "GPUs in each state, mean over each period",
        states, [bind(drawing.stacked, rows, states, axis, top=top) if rows else None for rows in fleet],
    )  # fmt: skip
    each: list[dict[str, Draw]] = []
    for run in runs:
        found = measures.states_over_time(run.usage, ["generation"])
        each.append(
            {
                name: bind(drawing.stacked, _whole(run, found, name), states, axis, share=True)
                for name in run.generations
            }
        )
    by_generation = small_panels(
        runs, "utilisation-by-generation", "By generation", "share of its installed GPUs in each state",
        states, each,
    )  # fmt: skip
    return Section(
        "utilisation",
        "Utilisation over time",
        [
            *of_each(runs, _largest_losses),
            paragraph(
                "Stalled: held by a job while no kernel runs. Idle, jobs wait: free, but no waiting job "
                "could use them.",
                "quiet",
            ),
            whole,
            *by_generation,
        ],
    )


def _whole(run: Facts, rows: Sequence[Row], generation: str) -> list[Row]:
    """States of one generation, nothing in the periods in which it was not there."""
    mine = [row for row in rows if row["generation"] == generation]
    there = {row["period_start_s"]: row for row in mine}
    blank = dict.fromkeys(STATES, 0.0)
    every = [
        there.get(start_s) or {"period_start_s": start_s, "period_end_s": end_s, **blank}
        for start_s, end_s in run.periods
    ]
    return over_periods(run, every, _IN_STATES)


def _largest_losses(run: Facts) -> str:
    hours = {row["state"]: row["gpu_hours"] for row in added(run.usage, ["state"], ["gpu_hours"])}
    total = run.headline["installed_gpu_hours"]
    if not total:
        return "Nothing was installed."
    losses = sorted(((h, s) for s, h in hours.items() if s != "productive"), reverse=True)
    most = " and ".join(f"{STATE_WORDS[s]} ({100 * h / total:.1f} %)" for h, s in losses[:2] if h > 0)
    productive = 100 * hours.get("productive", 0.0) / total
    return (
        f"Of {say('GPU h', total)} installed, {productive:.1f} % did productive work"
        f"{f'; the largest losses are {most}' if most else ''}."
    )


def tiers(runs: Sequence[Facts]) -> Section | Omitted:
    """Hours by rung against age, and the mean age on each rung."""
    if not any(run.has_ladder for run in runs):
        return Omitted("GPU hours by rung and age", "no run has a ladder of tiers")
    names = union(run.tiers for run in runs)
    tables = [measures.tier_by_age(run.usage) for run in runs]
    bands = [row["age_band"] for rows in tables for row in rows] or [0]
    first, last = min(bands), max(bands) + 1
    axis = Axis((first, last), "Age of the GPUs (years)", whole=True)
    every = [_by_age(rows, names, first, last) for rows in tables]
    rungs = [Series(f"s{i}", name, drawing.tier(i)) for i, name in enumerate(names)]
    used = [s for s in rungs if any(row[s.column] for rows in every for row in rows)]
    rest = [Series("idle", "idle", drawing.state("idle_no_queue")), Series("down", "down", "state-down")]
    top = max(greatest(rows, [s.column for s in (*used, *rest)], together=True) for rows in every)
    absolute = panels(
        runs, "tiers-by-age", "GPU hours by rung and age", "GPU hours held by jobs on each rung; idle, down",
        [*used, *rest], [bind(drawing.stacked, rows, [*used, *rest], axis, top=top) for rows in every],
        half=True,
    )  # fmt: skip
    share = panels(
        runs, "tiers-by-age-share", "Share of each rung by age",
        "share of the GPU hours held by jobs at that age",
        used, [bind(drawing.stacked, rows, used, axis, share=True) for rows in every], half=True,
    )  # fmt: skip
    parts: list[str | Panels] = [*caution(runs), absolute, share]
    for run in runs:
        ages = {row["tier"]: row for row in run.ages}
        cells = [
            (
                name,
                say("y", ages[name]["allocated_age_y"]),
                say("y", ages[name]["installed_age_y"]),
                f"{short(ages[name]['allocated_gpu_hours'])} GPU h",
                f"{short(ages[name]['installed_gpu_hours'])} GPU h",
            )
            for name in run.tiers
            if name in ages
        ]
        several = f" of {run.name}" if len(runs) > 1 else ""
        heads = ("mean age in use", "mean age installed", "in use", "installed")
        parts.append(table(heads, cells, f"Mean age by rung{several}, weighted by GPU hours"))
    return Section("tiers", "Rungs of the ladder against age", parts)


def _by_age(rows: Sequence[Row], names: Sequence[str], first: int, last: int) -> list[Row]:
    """Points by year of age: held hours of each rung, and idle and down hours of all."""
    blank = {**{f"s{i}": 0.0 for i in range(len(names))}, "idle": 0.0, "down": 0.0}
    found = [{"t": band, "u": band + 1, **blank} for band in range(first, last)]
    for row in rows:
        point = found[row["age_band"] - first]
        point[f"s{names.index(row['tier'])}"] += row["allocated"]
        point["idle"] += row["idle"]
        point["down"] += row["down"]
    return found


def who_used_what(runs: Sequence[Facts]) -> Section | Omitted:
    """Tenants and classes by the generations that they ran on."""
    names = union(run.generations for run in runs)
    series = [Series(f"s{i}", name, drawing.generation(name)) for i, name in enumerate(names)]
    parts: list[str | Panels] = []
    for owner, name, title in (
        ("tenant", "tenants", "Tenants, largest first"),
        ("workload_class", "classes", "Workload classes"),
    ):
        tables = [_bars(measures.used_by(run.usage, owner), names) for run in runs]
        top = 1.18 * max(greatest(rows, [s.column for s in series], together=True) for rows in tables)
        draws = [bind(drawing.bars, rows, series, top=top) if rows else None for rows in tables]
        parts.append(panels(runs, name, title, "GPU hours held, by generation", series, draws, half=True))
    if not any(part.charts for part in parts if isinstance(part, Panels)):
        return Omitted("Who used which generation", "no job ran")
    return Section("who", "Who used which generation", parts)


def _bars(rows: Sequence[Row], generations: Sequence[str]) -> list[Row]:
    found: dict[str, Row] = {}
    named = {row["owner"] for row in rows}
    for row in rows:
        name = row["owner"]
        if name is None:
            name = f"{row['owners']:,} others" + "\u2009" * (f"{row['owners']:,} others" in named)
        new = {"name": name, **{f"s{i}": 0.0 for i in range(len(generations))}}
        found.setdefault(name, new)[f"s{generations.index(row['generation'])}"] += row["gpu_hours"]
    for bar in found.values():
        bar["text"] = f"{short(sum(bar[f's{i}'] for i in range(len(generations))))}"
    return list(found.values())


def funnel(runs: Sequence[Facts]) -> Section | Omitted:
    """What is left of the installed hours at each step, for the fleet, by generation and over time."""
    if not any(run.headline["installed_gpu_hours"] for run in runs):
        return Omitted("The funnel", "nothing was installed")
    series = [Series("v0", "share of installed GPU hours", "blue")]

    def draw(row: Row, small: bool = False) -> Draw:
        rows = [{"name": step, "v0": row[step], "text": say("share", row[step])} for step in STEPS]
        return bind(drawing.bars, rows, series, top=1.28 if small else 1.15, number=_PERCENT)

    fleet = panels(
        runs, "funnel", "The funnel of the fleet", "share of installed GPU hours left at each step", [],
        [next((draw(row) for row in measures.funnel(run.usage)), None) for run in runs], half=True,
    )  # fmt: skip
    each = [
        {r["generation"]: draw(r, True) for r in measures.funnel(run.usage, ["generation"])} for run in runs
    ]
    steps = {"up": "sky", "allocated": "blue", "productive": "green", "model FLOPs": "orange"}
    over_time = [Series(f"s{i}", step, colour, i) for i, (step, colour) in enumerate(steps.items())]
    axis, tables = time_axis(runs), []
    for run in runs:
        rows = measures.funnel(run.usage, measures.PERIOD)
        rows.sort(key=lambda row: row["period_start_s"])
        tables.append(_at_middle(over_periods(run, rows, {f"s{i}": s for i, s in enumerate(steps)})))
    draws = [
        bind(drawing.lines, rows, over_time, axis, domain=(0.0, 1.0), number=_PERCENT, at="m")
        if rows
        else None
        for rows in tables
    ]
    unit = "share of installed GPU hours, mean over each period"
    return Section(
        "funnel",
        "The funnel: from installed to model FLOPs",
        [
            paragraph(
                "Up: in service. Allocated: held by a job. Busy: a kernel runs. Productive: on work that was "
                "kept. Model FLOPs: productive time x MFU.",
                "quiet",
            ),
            fleet,
            panels(runs, "funnel-over-time", "Over time", unit, over_time, draws, half=True),
            *small_panels(runs, "funnel-by-generation", "By generation", unit.partition(",")[0], [], each),
        ],
    )


def _at_middle(rows: list[Row]) -> list[Row]:
    """Points at the middle of their period, with the strips of the pointer where they were."""
    return [{**row, "m": (row["t"] + row["u"]) // 2} for row in rows]


def queue(runs: Sequence[Facts]) -> Section | Omitted:
    """How long jobs waited by size, and how many waited when."""
    if not any(row["started"] or row["queued"] for run in runs for row in run.waits):
        return Omitted("Queue", "no job was submitted")
    sizes = sorted({row["size"] for run in runs for row in run.waits})
    quantiles = [
        Series(f"{name}_s", name.replace("p50", "median"), colour)
        for name, colour in zip(measures.QUANTILES, ("sky", "blue", "red"), strict=True)
    ]
    known = [
        row[s.column] for run in runs for row in run.waits for s in quantiles if row[s.column] is not None
    ]
    waits = [
        [
            {**{k: row.get(k) for k in ("started", *(s.column for s in quantiles))},
             "name": measures.size_label(size),
             **{f"{s.column}_text": "-" if row.get(s.column) is None else human(row[s.column])
                for s in quantiles}}
            for size in sizes
            for row in [next((r for r in run.waits if r["size"] == size), {})]
        ]
        for run in runs
    ]  # fmt: skip
    low = max(1.0, 0.5 * min(known, default=1.0))
    limits = (low, max(100.0 * low, 1.5 * max(known, default=1.0)))
    draws = [
        bind(drawing.ranges, rows, quantiles, domain_s=limits, title="GPUs of the job") for rows in waits
    ]
    parts: list[str | Panels] = [
        *of_each(runs, _waited),
        panels(
            runs, "waits", "Waits by size of the job",
            "from submission to first start; median, 90 % and 99 % of jobs, log scale", quantiles, draws,
        ),
    ]  # fmt: skip
    axis = time_axis(runs)
    levels = [measures.queue_over_time(run.run.scan("queue").collect(), run.end_s) for run in runs]
    for column, name, title in (
        ("gpus", "gpus-waiting", "GPUs waited for"),
        ("jobs", "jobs-waiting", "Jobs waiting"),
    ):
        series = [Series("s0", column.replace("gpus", "GPUs"), "blue")]
        tables = [over_periods(run, rows, {"s0": column}) for run, rows in zip(runs, levels, strict=True)]
        top = max(greatest(rows, ["s0"]) for rows in tables)
        drawn = [bind(drawing.stacked, rows, series, axis, top=top) if rows else None for rows in tables]
        unit = f"{series[0].label}, mean over each 1/{measures.POINTS} of the run"
        parts.append(panels(runs, name, title, unit, [], drawn, half=True))
    for run in runs:
        rows = [
            (
                measures.size_label(row["size"]), f"{row['started']:,}",
                say("share", row["waited"] / row["started"] if row["started"] else None),
                *("-" if row[s.column] is None else human(row[s.column]) for s in quantiles),
                f"{row['queued']:,}",
            )
            for row in run.waits
        ]  # fmt: skip
        title = f"Waits by size{f' of {run.name}' if len(runs) > 1 else ''}"
        heads = ("started", "waited", *(s.label for s in quantiles), "still waiting at the end")
        parts.append(table(heads, rows, f"{title} (GPUs of the job)"))
    return Section("queue", "The queue", parts)


def _waited(run: Facts) -> str:
    started = sum(row["started"] for row in run.waits)
    if not started:
        return "No job started."
    waited = sum(row["waited"] for row in run.waits) / started
    still = int(run.headline["queued"] or 0)
    left = f"; {still:,} still waited when the run ended, and have no wait" if still else ""
    return f"{100 * waited:.1f} % of {started:,} jobs that started had to wait{left}."
