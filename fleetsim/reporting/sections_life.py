"""The sections of a report about the life of nodes: survival, failures, and what they were worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fleetsim import summary
from fleetsim.reporting import drawing, lifetimes, measures
from fleetsim.reporting.drawing import Axis, Series
from fleetsim.reporting.facts import Facts, say, short
from fleetsim.reporting.measures import Row
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
    pivoted,
    small_panels,
    time_axis,
    union,
)
from fleetsim.reporting.words import caution
from fleetsim.units import HOUR_S, YEAR_S, human

if TYPE_CHECKING:
    import polars as pl

MOST_XIDS = 12


def survival(runs: Sequence[Facts]) -> Section | Omitted:
    """Kaplan-Meier of nodes by generation, and retirements by cause and age."""
    if not any(run.retires for run in runs):
        return Omitted("Survival of nodes", "no node was retired")
    observed = [lifetimes.lives(_with_generation(run), "generation") for run in runs]
    last = max(float(lives.age_s.max()) for found in observed for lives in found.values()) / YEAR_S
    axis = Axis((0.0, last), "Age (years)")
    draws: list[dict[str, Draw]] = []
    rows = []
    for run, found in zip(runs, observed, strict=True):
        draws.append({})
        for name in (g for g in run.generations if g in found):
            curve, points = lifetimes.survival(found[name])
            series = [Series("share", name, drawing.generation(name))]
            draws[-1][name] = bind(
                drawing.lines, _spans(points), series, axis, domain=(0.0, 1.0), number=".0%", steps=True,
                band=("low", "high"),
            )  # fmt: skip
            median_s, low_s, high_s = curve.median_s()
            several = f", {run.name}" if len(runs) > 1 else ""
            interval = f"{_years(low_s)} to {_years(high_s)}" if math.isfinite(median_s) else "-"
            nodes, gone = f"{len(found[name]):,}", f"{found[name].deaths:,}"
            rows.append((f"{name}{several}", nodes, gone, _years(median_s), interval))
    parts: list[str | Panels] = [
        *caution(runs),
        paragraph(
            "Kaplan-Meier: nodes that were already in use when the run began count from the age they had, "
            "and those still there at its end as not yet gone. The band is the 95 % interval, at each age.",
            "quiet",
        ),
        *small_panels(
            runs, "survival", "Nodes still in the fleet", "share of nodes by age; band: 95 % interval",
            [], draws,
        ),
        table(("nodes", "retired", "median life", "95 % interval"), rows, "Median life of nodes"),
    ]  # fmt: skip
    parts.append(_causes(runs))
    return Section("survival", "Survival and retirement of nodes", parts)


def _with_generation(run: Facts) -> pl.DataFrame:
    import polars as pl

    models = dict(run.usage.select("gpu_model", "generation").unique().rows())
    generation = pl.col("gpu_model").replace_strict(models, default="?", return_dtype=pl.String)
    return run.spells.with_columns(generation=generation)


def _spans(points: Sequence[Row]) -> list[Row]:
    """Points at an age as spans to the next one."""
    ages = [p["age_y"] for p in points]
    return [
        {"t": p["age_y"], "u": u, **{k: p[k] for k in ("share", "low", "high")}}
        for p, u in zip(points, [*ages[1:], ages[-1]], strict=True)
    ]


def _years(seconds: float) -> str:
    return f"{seconds / YEAR_S:.2f} y" if math.isfinite(seconds) else "not reached"


def _causes(runs: Sequence[Facts]) -> Panels:
    tables = [lifetimes.retirements(run.spells) for run in runs]
    causes = sorted({row["cause"] for rows in tables for row in rows})
    series = [Series(f"s{i}", c.replace("_", " "), drawing.cause(c)) for i, c in enumerate(causes)]
    last = max(row["age_band"] for rows in tables for row in rows) + 1
    every = []
    for rows in tables:
        points = [{"t": band, "u": band + 1, **{s.column: 0 for s in series}} for band in range(last)]
        for row in rows:
            points[row["age_band"]][f"s{causes.index(row['cause'])}"] += row["gpus"]
        every.append(points)
    top = max(greatest(rows, [s.column for s in series], together=True) for rows in every)
    axis = Axis((0, last), "Age at retirement (years)", whole=True)
    draws = [bind(drawing.stacked, rows, series, axis, top=top) for rows in every]
    title, unit = "Retirements by cause and age", "GPUs retired in the run"
    return panels(runs, "retirements", title, unit, series, draws, half=True)


def failures(runs: Sequence[Facts]) -> Section | Omitted:
    """Failures by kind and XID, repairs, availability by generation, and what is left of large jobs."""
    if not any(run.failures.height for run in runs):
        return Omitted("Failures", "nothing failed")
    import polars as pl

    kinds = [lifetimes.failures_by(run.failures, ["failure"]) for run in runs]
    xids = [
        lifetimes.failures_by(run.failures.filter(pl.col("xid").is_not_null()), ["xid"])[:MOST_XIDS]
        for run in runs
    ]
    parts: list[str | Panels] = [
        *of_each(runs, _failed),
        _counts(runs, "failures-by-kind", "Failures by kind", kinds, "failure"),
    ]
    if any(xids):
        parts.append(_counts(runs, "failures-by-xid", "Failures by XID", xids, "xid"))
    parts.append(_availability(runs))
    parts.append(_ettr(runs))
    heads = ("failures", "jobs stopped", "median down", "mean down", "95 % within", "never back")
    for run in runs:
        rows = lifetimes.failures_by(run.failures, ["failure", "repair"])
        several = f" of {run.name}" if len(runs) > 1 else ""
        parts.append(table(heads, [_repair(row) for row in rows], f"Failures and their repair{several}"))
    return Section("failures", "Failures and repair", parts)


def _availability(runs: Sequence[Facts]) -> Panels:
    names, axis = union(run.generations for run in runs), time_axis(runs)
    series = [Series(f"s{i}", g, drawing.generation(g), i % 5) for i, g in enumerate(names)]
    tables = [
        pivoted(
            run,
            summary.utilisation(run.usage, [*measures.PERIOD, "generation"]),
            "generation",
            "availability",
            names,
            None,
        )
        for run in runs
    ]
    known = [r[s.column] for rows in tables for r in rows for s in series if r[s.column] is not None]
    domain = (max(0.0, min(known, default=0.0) - 0.02), 1.0)
    draws = [
        bind(drawing.lines, _middle(rows), series, axis, domain=domain, number=".1%", at="m")
        if rows
        else None
        for rows in tables
    ]
    unit = "share of installed GPU hours in service; the axis does not begin at zero"
    return panels(runs, "availability", "Availability by generation", unit, series, draws, half=True)


def _failed(run: Facts) -> str:
    if not run.failures.height:
        return "Nothing failed."
    stopped = int(run.failures["jobs_stopped"].sum())
    return (
        f"{run.failures.height:,} failures stopped jobs {stopped:,} times; availability "
        f"{say('share', run.headline['availability'])}, ETTR {say('share', run.headline['ettr'])}."
    )


def _repair(row: Row) -> tuple[str, ...]:
    keys = ("median_down_h", "mean_down_h", "p95_down_h")
    hours = ("-" if row[k] is None else human(HOUR_S * row[k]) for k in keys)
    name = f"{row['failure']}: {row['repair'] or 'no repair'}"
    return (name, f"{row['failures']:,}", f"{row['jobs_stopped']:,}", *hours, f"{row['lost']:,}")


def _counts(
    runs: Sequence[Facts], name: str, title: str, tables: Sequence[Sequence[Row]], key: str
) -> Panels:
    series = [Series("v0", "failures", "red")]
    named = [
        [
            {"name": str(row[key]), "v0": row["failures"], "text": f"{row['failures']:,}"}
            for row in rows
        ]
        for rows in tables
    ]  # fmt: skip
    top = 1.18 * max(greatest(rows, ["v0"]) for rows in named)
    draws = [bind(drawing.bars, rows, series, top=top) if rows else None for rows in named]
    return panels(runs, name, title, "failures in the run", [], draws, half=True)


def _middle(rows: Sequence[Row]) -> list[Row]:
    return [{**row, "m": (row["t"] + row["u"]) // 2} for row in rows]


def _ettr(runs: Sequence[Facts]) -> Panels:
    series = [Series("v0", "ETTR", "green")]
    draws: list[Draw | None] = []
    for run in runs:
        rows = [
            {
                "name": "all" if row["size"] is None else measures.size_label(row["size"]),
                "v0": row["ettr"] or 0.0,
                "text": f"{say('share', row['ettr'])} of {say('jobs', row['jobs'])} jobs",
            }
            for row in lifetimes.ettr_by_size(run.jobs)
        ]
        draws.append(bind(drawing.bars, rows, series, top=1.5, number=".0%") if rows else None)
    unit = "productive hours / hours from first start to end, by GPUs of the job"
    return panels(runs, "ettr", "Effective training time (ETTR)", unit, [], draws, half=True)


def value(runs: Sequence[Facts]) -> Section | Omitted:
    """Book value against market and intrinsic value, margins, sales and the stock that found no buyer."""
    if not any(run.ledger.height for run in runs):
        return Omitted("Money", "no run has economics")
    axis = time_axis(runs)
    values = [
        Series("book", "book value", "blue"),
        Series("market", "market value", "orange", 1),
        Series("worth", "intrinsic value", "green", 2),
    ]
    columns = dict(zip((s.column for s in values), lifetimes.VALUES, strict=True))
    worth = [over_periods(run, lifetimes.values_over_time(run.ledger), columns) for run in runs]
    flows = [
        Series("rent", "rent", "green"),
        Series("energy", "energy", "red", 1),
        Series("opex", "other running cost", "other", 2),
        Series("margin", "margin", "blue", 3),
    ]
    money = dict(zip((s.column for s in flows), lifetimes.MONEY, strict=True))
    earned = [_middle(over_periods(run, lifetimes.money_over_time(run.ledger), money)) for run in runs]
    parts: list[str | Panels] = [
        *caution(runs),
        *of_each(runs, _worth),
        _plotted(runs, "values", "What the installed fleet is worth", "USD at the end of each period",
                 values, worth, axis, "u"),
        _plotted(runs, "money", "What it earned and cost", "USD in each period", flows, earned, axis, "m"),
    ]  # fmt: skip
    names = union(run.generations for run in runs)
    margins = [Series(f"s{i}", g, drawing.generation(g), i % 5) for i, g in enumerate(names)]
    by_generation = [
        _middle(
            pivoted(
                run,
                lifetimes.margin_per_kw_year(run.ledger, [*measures.PERIOD, "generation"]),
                "generation",
                "margin_usd_per_kw_year",
                names,
                None,
            )
        )
        for run in runs
    ]
    parts.append(
        _plotted(runs, "margin-per-kw-year", "Margin for each kW of slots",
                 "USD a year for each kW that installed nodes reserve", margins, by_generation, axis, "m")
    )  # fmt: skip
    parts += _stock(runs, axis)
    for run in runs:
        several = f" of {run.name}" if len(runs) > 1 else ""
        rows = lifetimes.margin_per_kw_year(run.ledger, ["generation", "tier"])
        cells = [
            (f"{row['generation']}, {row['tier']}", say("USD", row["margin_usd"]),
             f"{short(row['kw_years'])} kW y", say("USD", row["margin_usd_per_kw_year"]))
            for row in sorted(rows, key=lambda row: (names.index(row["generation"]), row["tier"]))
        ]  # fmt: skip
        parts.append(
            table(("margin", "slots", "per kW and year"), cells, f"Margin by generation and rung{several}")
        )
        if run.sales.height:
            sales = [
                (row["gpu_model"], f"{row['gpus']:,}", say("USD", row["usd"]), say("USD", row["usd_per_gpu"]),
                 say("y", row["age_y"]), say("share", row["discount"]))
                for row in lifetimes.sold(run.sales)
            ]  # fmt: skip
            heads = ("GPUs sold", "proceeds", "per GPU", "mean age", "mean discount")
            parts.append(table(heads, sales, f"Sales{several}"))
    return Section("value", "Book value against what the fleet is worth", parts)


def _worth(run: Facts) -> str:
    h = run.headline
    book, market = h["book_value_usd"], h["market_value_usd"]
    if not run.ledger.height or book is None or market is None:
        return ""
    gap = "above" if book > market else "below"
    return (
        f"At the end the books say {say('USD', book)}, {say('USD', abs(book - market))} {gap} the market "
        f"value of {say('USD', market)}. Margin of the whole run: {say('USD', h['margin_usd'])}."
    )


def _plotted(
    runs: Sequence[Facts], name: str, title: str, unit: str, series: Sequence[Series],
    tables: Sequence[Sequence[Row]], axis: Axis, at: str,
) -> Panels:  # fmt: skip
    """Lines of what any run has, on one scale that reaches from the lowest value, or zero, to the highest."""
    known = [s for s in series if any(row[s.column] is not None for rows in tables for row in rows)]
    amounts = [r[s.column] for rows in tables for r in rows for s in known if r[s.column] is not None]
    domain = (min(0.0, *amounts), max(0.0, *amounts)) if amounts else (0.0, 1.0)
    draws = [
        bind(drawing.lines, rows, known, axis, domain=domain, at=at) if rows and known else None
        for rows in tables
    ]
    return panels(runs, name, title, unit, known, draws, half=True)


def _stock(runs: Sequence[Facts], axis: Axis) -> list[Panels]:
    series = [
        Series("retired", "retired", "orange", 1),
        Series("sold", "sold", "sky", 3),
        Series("unsold", "retired and not sold", "blue"),
    ]
    tables = [_thinned(lifetimes.unsold(run.spells, run.sales, run.end_s), run) for run in runs]
    if not any(tables):
        return []
    top = max(greatest(rows, ["retired", "sold"]) for rows in tables)
    how: dict[str, Any] = {"domain": (0.0, top), "steps": True, "fill": "unsold"}
    draws = [bind(drawing.lines, rows, series, axis, **how) if rows else None for rows in tables]
    unit = "GPUs since the start of the run"
    return [panels(runs, "stock", "Retired, sold, and in stock", unit, series, draws, half=True)]


def _thinned(rows: Sequence[Row], run: Facts) -> list[Row]:
    """Change points as spans, at most ``measures.POINTS``: the last one of each equal part of the run."""
    step_s = run.end_s / measures.POINTS
    kept: Mapping[int, Row] = {int(row["time_s"] // step_s): row for row in rows}
    times = [run.ms(row["time_s"]) for row in kept.values()]
    return [
        {"t": t, "u": u, **{k: row[k] for k in ("retired", "sold", "unsold")}}
        for row, t, u in zip(kept.values(), times, [*times[1:], times[-1:][0]] if times else [], strict=True)
    ]
