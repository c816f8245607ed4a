"""The section of a report about power: against the cap of each site, what slots reserve, PUE and carbon."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fleetsim.reporting import drawing, measures
from fleetsim.reporting.drawing import Series
from fleetsim.reporting.facts import Facts, say
from fleetsim.reporting.measures import Row
from fleetsim.reporting.parts import (
    Omitted,
    Panels,
    Section,
    bind,
    greatest,
    of_each,
    over_periods,
    panels,
    pivoted,
    time_axis,
    union,
)


def power(runs: Sequence[Facts]) -> Section | Omitted:
    """Power against the cap of each site, what slots reserve, PUE and carbon."""
    tables = [measures.power_by_site(run.usage, run.sites) for run in runs]
    if not any(row["it_kw"] for rows in tables for row in rows):
        return Omitted("Power", "nothing drew power")
    axis = time_axis(runs)
    caps = [
        {s["name"]: s["it_power_kw"] for s in run.scenario["sites"] if s.get("it_power_kw")} for run in runs
    ]
    every = [
        Series("it", "IT power", "blue"),
        Series("reserved", "reserved by slots of installed nodes", "orange", 1),
        Series("cap", "cap of the site", "red", 2),
        Series("meter", "at the meter", "sky", 3),
    ]
    parts: list[str | Panels] = []
    for site in union([row["site"] for row in rows] for rows in tables):
        points = []
        for run, rows, cap in zip(runs, tables, caps, strict=True):
            edges = np.array([0.0, *(end_s for _, end_s in run.periods)])
            slots = measures.reserved_kw(run.spells, run.sites, run.slot_kw, edges)
            reserved = {r["period_start_s"]: r["kw"] for r in slots if r["site"] == site}
            mine = [
                {**row, "cap": cap.get(site), "reserved": reserved.get(row["period_start_s"])}
                for row in rows
                if row["site"] == site
            ]
            columns = {"it": "it_kw", "meter": "facility_kw", "cap": "cap", "reserved": "reserved"}
            points.append(_closed(over_periods(run, mine, columns)))
        series = [s for s in every if any(row[s.column] is not None for rows in points for row in rows)]
        top = max(greatest(rows, [s.column for s in series]) for rows in points)
        draws = [
            bind(drawing.lines, rows, series, axis, domain=(0.0, top), steps=True, fill="it")
            if rows
            else None
            for rows in points
        ]
        number = list(union([r["site"] for r in rows] for rows in tables)).index(site) + 1
        title = f"Site {site}"
        parts.append(
            panels(runs, f"power-site-{number}", title, "kW, mean over each period", series, draws, half=True)
        )
    if any(row["carbon_kg"] is not None for rows in tables for row in rows):
        parts.append(_carbon(runs, tables))
    return Section("power", "Power, against what the sites have", [*of_each(runs, _energy), *parts])


def _closed(rows: list[Row]) -> list[Row]:
    """The same with a point at the end of the last span, so that its step is drawn."""
    return [*rows, {**rows[-1], "t": rows[-1]["u"]}] if rows else rows


def _energy(run: Facts) -> str:
    h = run.headline
    carbon = "" if h["carbon_t"] is None else f", {say('t', h['carbon_t'])} of CO2 equivalent"
    pue = "" if h["pue"] is None else f", a PUE of {h['pue']:.3f}"
    it, meter = (say("MWh", h[key]) for key in ("energy_mwh", "facility_energy_mwh"))
    return f"{it} of IT energy, {meter} at the meter{pue}{carbon}."


def _carbon(runs: Sequence[Facts], tables: Sequence[Sequence[Row]]) -> Panels:
    sites = union([row["site"] for row in rows if row["carbon_kg"] is not None] for rows in tables)
    colours = ("blue", "orange", "green", "red", "sky", "other")
    series = [Series(f"s{i}", site, colours[i % len(colours)]) for i, site in enumerate(sites)]
    points = [
        pivoted(
            run, [{**r, "t_co2": r["carbon_kg"] / 1000} for r in rows if r["carbon_kg"] is not None],
            "site", "t_co2", sites, 0.0,
        )
        for run, rows in zip(runs, tables, strict=True)
    ]  # fmt: skip
    top = max(greatest(rows, [s.column for s in series], together=True) for rows in points)
    axis = time_axis(runs)
    draws = [bind(drawing.stacked, rows, series, axis, top=top) if rows else None for rows in points]
    return panels(
        runs, "carbon", "Carbon by site", "t of CO2 equivalent in each period", series, draws, half=True
    )
