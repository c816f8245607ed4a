"""The numbers of a report: frames of a run's tables in, rows out. Nothing here draws or reads files.

Hours are GPU hours and times are seconds from the start of the run, unless a name says otherwise. Rows are
in the order of their keys, so that equal runs give equal reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim import schema, summary
from fleetsim.units import HOUR_S, YEAR_S

if TYPE_CHECKING:
    import polars as pl

    from fleetsim.records import Floats

Row = dict[str, Any]

PERIOD = ("period_start_s", "period_end_s")

#: States of the usage table from the most to the least useful: the order in which they are stacked.
STATES = tuple(reversed(schema.STATES))

#: The steps of the funnel: each is a part of the one before, and here a share of the installed hours.
STEPS = ("installed", "up", "allocated", "busy", "productive", "model FLOPs")

#: Upper ends of the sizes by which jobs are grouped, in GPUs; above the last they are one group.
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

QUANTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99}

MOST_OWNERS = 12  # shown by name; the others together
POINTS = 240  # of a curve: more do not show


def states_over_time(usage: pl.DataFrame, keys: Sequence[str] = ()) -> list[Row]:
    """Mean GPUs in each of :data:`STATES` by period and *keys*: hours in the state / hours of the period."""
    rows: dict[tuple[Any, ...], Row] = {}
    every = [*PERIOD, *keys, "state"]
    for row in sorted(summary.added(usage, every, ["gpu_hours"]), key=lambda row: [row[k] for k in every]):
        place = tuple(row[k] for k in every[:-1])
        found = rows.setdefault(place, {**{k: row[k] for k in every[:-1]}, **dict.fromkeys(STATES, 0.0)})
        found[row["state"]] = row["gpu_hours"] * HOUR_S / (row["period_end_s"] - row["period_start_s"])
    return list(rows.values())


def tier_by_age(usage: pl.DataFrame) -> list[Row]:
    """Hours by tier and year of age: ``allocated``, ``idle`` and ``down``."""
    parts = ("allocated_gpu_hours", "idle_queue_gpu_hours", "idle_no_queue_gpu_hours", "down_gpu_hours")
    rows = summary.added(usage, ["tier", "age_band"], parts)
    return [
        {
            "tier": row["tier"],
            "age_band": row["age_band"],
            "allocated": row["allocated_gpu_hours"],
            "idle": row["idle_queue_gpu_hours"] + row["idle_no_queue_gpu_hours"],
            "down": row["down_gpu_hours"],
        }
        for row in sorted(rows, key=lambda row: (row["tier"], row["age_band"]))
    ]


def node_spells(node_states: pl.DataFrame, end_s: float) -> pl.DataFrame:
    """The states of nodes with their end, ``until_s``: the next change of the node, or the end of the run."""
    import polars as pl

    return (
        node_states.sort("node", "time_s", maintain_order=True)
        .with_columns(until_s=pl.col("time_s").shift(-1).over("node").fill_null(end_s))
        .with_columns(pl.col("cohort", "gpu_model", "tier", "state", "cause").cast(pl.String))
    )


def mean_ages(allocations: pl.DataFrame, spells: pl.DataFrame, keys: Sequence[str]) -> list[Row]:
    """Mean age in years by *keys*, weighted by hours: of the installed GPUs and of the allocated hours.

    *allocations* has node, start_s, end_s and gpus (parts of one count as parts); *spells* is that of
    :func:`node_spells`. Ages are those at the middle of each time, which is exact, as they rise evenly.
    A mean over no hours is None. *keys* are columns of *spells*.
    """
    import polars as pl

    installed = spells.filter(pl.col("state").is_in(["up", "down"])).select(
        *keys, *_age_sums("time_s", "until_s", pl.col("age_s"), "installed")
    )
    node = spells.select("node", *keys, changed_s="time_s", age_then_s="age_s").sort(
        "changed_s", maintain_order=True
    )
    held = (
        allocations.sort("start_s", maintain_order=True)
        .with_columns(pl.col("node").cast(node.schema["node"]))
        .join_asof(node, left_on="start_s", right_on="changed_s", by="node", check_sortedness=False)
        .select(
            *keys,
            *_age_sums(
                "start_s",
                "end_s",
                pl.col("age_then_s") + pl.col("start_s") - pl.col("changed_s"),
                "allocated",
            ),
        )
    )
    sums: dict[tuple[Any, ...], Row] = {}
    for frame, kind in ((installed, "installed"), (held, "allocated")):
        for row in summary.added(frame, keys, [f"{kind}_h", f"{kind}_age"]):
            sums.setdefault(tuple(row[k] for k in keys), {}).update(row)
    return [
        {
            **dict(zip(keys, place, strict=True)),
            **{f"{kind}_age_y": _over(row.get(f"{kind}_age", 0.0), row.get(f"{kind}_h", 0.0))
               for kind in ("installed", "allocated")},
            **{f"{kind}_gpu_hours": row.get(f"{kind}_h", 0.0) for kind in ("installed", "allocated")},
        }
        for place, row in sorted(sums.items())
    ]  # fmt: skip


def _age_sums(start: str, end: str, age_s: pl.Expr, kind: str) -> tuple[pl.Expr, pl.Expr]:
    """Hours, and hours x age in years at the middle of them."""
    import polars as pl

    spent_s = pl.col(end) - pl.col(start)
    hours = pl.col("gpus") * spent_s / HOUR_S
    return hours.alias(f"{kind}_h"), (hours * (age_s + spent_s / 2) / YEAR_S).alias(f"{kind}_age")


def used_by(usage: pl.DataFrame, owner: str, most: int = MOST_OWNERS) -> list[Row]:
    """Allocated hours by *owner* (tenant or workload_class) and generation, the largest owners first.

    Owners beyond the *most* largest are one row each generation, whose owner is None and which counts
    them: ``owners``.
    """
    import polars as pl

    held = usage.filter(pl.col(owner).is_not_null())
    rows = summary.added(held, [owner, "generation"], ["allocated_gpu_hours"])
    totals: dict[str, float] = {}
    for row in rows:
        totals[row[owner]] = totals.get(row[owner], 0.0) + row["allocated_gpu_hours"]
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    named = ranked[:most] if len(ranked) > most + 1 else ranked  # "1 other" would take as much room
    found: dict[tuple[int, str], Row] = {}
    for row in sorted(rows, key=lambda row: (row["generation"], row[owner])):
        place = named.index(row[owner]) if row[owner] in named else len(named)
        new = {
            "owner": row[owner] if place < len(named) else None,
            "owners": 1 if place < len(named) else len(ranked) - len(named),
            "generation": row["generation"],
            "gpu_hours": 0.0,
        }
        found.setdefault((place, row["generation"]), new)["gpu_hours"] += row["allocated_gpu_hours"]
    return [found[place] for place in sorted(found)]


def funnel(usage: pl.DataFrame, keys: Sequence[str] = ()) -> list[Row]:
    """Each of :data:`STEPS` as a share of the installed hours, by *keys*; generations by age."""
    found = []
    for row in summary.utilisation(usage, keys):
        installed = row["installed_gpu_hours"]
        if not installed:
            continue
        busy = row["productive_gpu_hours"] + row["lost_gpu_hours"]
        shares = (1.0, row["availability"], row["allocated"], busy / installed,
                  row["time_effective"], row["fleet_mfu"])  # fmt: skip
        found.append({**{k: row[k] for k in keys}, **dict(zip(STEPS, shares, strict=True))})
    return found


def waits_by_size(jobs: pl.DataFrame) -> list[Row]:
    """Waits (s) of the jobs that started, by size up to each of :data:`SIZES`, and the jobs that never did.

    *jobs* has gpus, wait_s (null for warm jobs and those that never started) and status. ``size`` is the
    place in :data:`SIZES`. Quantiles are None where nothing started; they interpolate.
    """
    import polars as pl

    wait = pl.col("wait_s")
    size = pl.lit(0, pl.Int32)
    for limit in SIZES:
        size = size + (pl.col("gpus") > limit).cast(pl.Int32)
    rows = (
        jobs.group_by(size.alias("size"))
        .agg(
            started=wait.count(),
            queued=(pl.col("status").cast(pl.String) == "queued").sum(),
            waited=(wait > 0).sum(),
            **{f"{name}_s": wait.quantile(level, "linear") for name, level in QUANTILES.items()},
        )
        .sort("size")
    )
    return rows.to_dicts()


def size_label(size: int) -> str:
    """The sizes of jobs in a group of :func:`waits_by_size`.

    >>> [size_label(i) for i in (0, 1, 2, 3, 11)]
    ['1', '2', '3-4', '5-8', '1025+']
    """
    low = SIZES[size - 1] + 1 if size else 1
    if size == len(SIZES):
        return f"{low}+"
    return str(low) if low == SIZES[size] else f"{low}-{SIZES[size]}"


def queue_over_time(queue: pl.DataFrame, end_s: float, points: int = POINTS) -> list[Row]:
    """Mean jobs and GPUs waiting over *points* equal parts of the run: exact integrals of changes."""
    from fleetsim.comparison import mean_levels

    if not queue.height or not end_s:
        return []
    edges = np.linspace(0.0, end_s, points + 1)
    time_s = queue["time_s"].to_numpy()
    jobs, gpus = (
        mean_levels(time_s, np.diff(queue[name].to_numpy().astype(np.float64), prepend=0.0), edges)
        for name in ("jobs_waiting", "gpus_waiting")
    )
    return [
        {"period_start_s": float(a), "period_end_s": float(b), "jobs": max(0.0, float(j)),
         "gpus": max(0.0, float(g))}
        for a, b, j, g in zip(edges[:-1], edges[1:], jobs, gpus, strict=True)
    ]  # fmt: skip


def power_by_site(usage: pl.DataFrame, sites: Mapping[str, str]) -> list[Row]:
    """Mean power by site and period: ``it_kw``, ``facility_kw``, ``pue``, and ``carbon_kg`` where known.

    *sites* gives the site of each cohort.
    """
    import polars as pl

    placed = usage.with_columns(
        site=pl.col("cohort").replace_strict(sites, default="?", return_dtype=pl.String),
        known_kg=pl.col("carbon_kg").fill_null(0.0),
        known=pl.col("carbon_kg").is_not_null().cast(pl.Float64),
    )
    values = ["energy_kwh", "facility_energy_kwh", "known_kg", "known"]
    rows = []
    for row in sorted(
        summary.added(placed, ["site", *PERIOD], values), key=lambda r: (r["site"], r[PERIOD[0]])
    ):
        hours = (row["period_end_s"] - row["period_start_s"]) / HOUR_S
        rows.append(
            {
                "site": row["site"],
                **{k: row[k] for k in PERIOD},
                "it_kw": row["energy_kwh"] / hours,
                "facility_kw": row["facility_energy_kwh"] / hours,
                "pue": _over(row["facility_energy_kwh"], row["energy_kwh"]),
                "carbon_kg": row["known_kg"] if row["known"] else None,
            }
        )
    return rows


def reserved_kw(
    spells: pl.DataFrame, sites: Mapping[str, str], slot_kw: Mapping[str, float], edges: Floats
) -> list[Row]:
    """Power that slots of installed nodes reserve by site, mean over the parts between *edges* (s).

    *slot_kw* is that of a GPU by model: models that it lacks reserve nothing.
    """
    import polars as pl

    from fleetsim.comparison import mean_levels

    installed = spells.filter(pl.col("state").is_in(["up", "down"])).with_columns(
        site=pl.col("cohort").replace_strict(sites, default="?", return_dtype=pl.String),
        kw=pl.col("gpus") * pl.col("gpu_model").replace_strict(slot_kw, default=0.0, return_dtype=pl.Float64),
    )
    rows = []
    for site in sorted(installed["site"].unique()):
        mine = installed.filter(pl.col("site") == site)
        kw = mine["kw"].to_numpy()
        time_s = np.concatenate((mine["time_s"].to_numpy(), mine["until_s"].to_numpy()))
        levels = mean_levels(time_s, np.concatenate((kw, -kw)), edges)
        rows += [
            {"site": site, "period_start_s": float(a), "period_end_s": float(b), "kw": float(level)}
            for a, b, level in zip(edges[:-1], edges[1:], levels, strict=True)
        ]
    return rows


def offered(jobs: pl.DataFrame, end_s: float) -> list[Row]:
    """What each workload asked for: jobs, and GPU hours on its reference GPU, in all and as GPUs on average.

    *jobs* has workload, workload_class, gpus, gpu_share and reference_duration_s.
    """
    import polars as pl

    asked = jobs.select(
        pl.col("workload", "workload_class").cast(pl.String),
        jobs=pl.lit(1.0),
        hours=pl.col("gpus") * pl.col("gpu_share") * pl.col("reference_duration_s") / HOUR_S,
    )
    rows = summary.added(asked, ["workload", "workload_class"], ["jobs", "hours"])
    return [
        {**row, "jobs": int(row["jobs"]), "mean_gpus": _over(row["hours"] * HOUR_S, end_s)}
        for row in sorted(rows, key=lambda row: (row["workload"] or "", row["workload_class"] or ""))
    ]


def _over(part: float, whole: float) -> float | None:
    return part / whole if whole else None
