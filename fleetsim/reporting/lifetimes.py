"""The numbers of a report about the life of nodes: survival, retirements, failures, and what it was worth."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim import summary
from fleetsim.life.survival import Lives, Survival, kaplan_meier
from fleetsim.reporting.measures import PERIOD, SIZES, Row
from fleetsim.units import HOUR_S, YEAR_S

if TYPE_CHECKING:
    import polars as pl

VALUES = ("book_value_usd", "market_value_usd", "intrinsic_value_usd")
MONEY = ("rent_usd", "energy_usd", "opex_usd", "margin_usd")


def lives(spells: pl.DataFrame, key: str) -> dict[str, Lives]:
    """The lives of nodes by *key* (a column of :func:`measures.node_spells`), for Kaplan-Meier.

    A life is seen from the age at which the node first was up or down, to that at which it was retired, or
    to the end of the run. Where a node's age falls it was swapped for another: one life ends, the next one
    begins. Nodes that never were in service have none.
    """
    import polars as pl

    service = pl.col("state").is_in(["up", "down"])
    end_age_s = pl.col("age_s") + pl.col("until_s") - pl.col("time_s")
    swapped = (pl.col("age_s") < pl.col("end_age_s").shift(1).over("node") - 1.0).fill_null(False)
    nodes = (
        spells.with_columns(end_age_s=end_age_s)
        .with_columns(life=swapped.cast(pl.Int32).cum_sum().over("node"))
        .group_by("node", "life", maintain_order=True)
        .agg(
            pl.col(key).first(),
            entry_s=pl.col("age_s").filter(service).first(),
            age_s=pl.col("end_age_s").filter(service).last(),
            retired=pl.col("state").last() == "retired",
        )
        .with_columns(died=pl.col("retired") | (pl.col("life") < pl.col("life").max().over("node")))
        .filter(pl.col("entry_s") < pl.col("age_s"))
        .sort(key, "node", "life")
    )
    return {
        str(name): Lives.of(mine["age_s"], mine["died"], mine["entry_s"])
        for (name,), mine in nodes.group_by([key], maintain_order=True)
    }


def survival(found: Lives, points: int = 120) -> tuple[Survival, list[Row]]:
    """Kaplan-Meier of *found*, and its steps by age in years, thinned to *points*, to the last age seen."""
    curve = kaplan_meier(found)
    first, last = float(found.entry_s.min()), float(found.age_s.max())
    ages = np.unique(np.concatenate(([first], curve.age_s[curve.age_s < last], [last])))
    if len(ages) > points:
        ages = np.linspace(first, last, points)
    share, low, high = curve.at(ages)
    return curve, [
        {"age_y": float(a / YEAR_S), "share": float(s), "low": float(lo), "high": float(hi)}
        for a, s, lo, hi in zip(ages, share, low, high, strict=True)
    ]


def retirements(spells: pl.DataFrame) -> list[Row]:
    """GPUs and nodes retired, by cause and by whole years of age."""
    import polars as pl

    gone = spells.filter(pl.col("state") == "retired").select(
        "cause", "gpus", nodes=pl.lit(1.0), age_band=(pl.col("age_s") / YEAR_S).floor().cast(pl.Int16)
    )
    rows = summary.added(gone, ["cause", "age_band"], ["gpus", "nodes"])
    return [
        {**row, "gpus": int(row["gpus"]), "nodes": int(row["nodes"])}
        for row in sorted(rows, key=lambda row: (row["cause"], row["age_band"]))
    ]


def failures_by(failures: pl.DataFrame, keys: Sequence[str]) -> list[Row]:
    """Failures by *keys*, most first: how many, jobs stopped, and hours down (mean and median, ``None``
    where none came back); ``lost`` never came back."""
    import polars as pl

    down_h = pl.col("down_s") / HOUR_S
    named = failures.with_columns(pl.col(pl.Categorical).cast(pl.String))
    rows = named.group_by(keys).agg(
        failures=pl.len(),
        jobs_stopped=pl.col("jobs_stopped").sum(),
        down_h=down_h,
        median_down_h=down_h.median(),
        p95_down_h=down_h.quantile(0.95, "linear"),
        lost=(pl.col("down_s").is_null() & pl.col("job").is_null()).sum(),
    )
    found = [
        {**row, "mean_down_h": fsum(known) / len(known) if known else None}
        for row in rows.iter_rows(named=True)
        for known in [[h for h in row.pop("down_h") if h is not None]]
    ]
    return sorted(found, key=lambda row: (-row["failures"], [str(row[k]) for k in keys]))


def ettr_by_size(jobs: pl.DataFrame) -> list[Row]:
    """Effective training time ratio of completed jobs by size (as in ``measures.waits_by_size``).

    Hours of productive work / hours from the first start to the end, both x GPUs: set-up, restarts,
    checkpoints, lost work and the waits after a stop are what is missing to 1. Warm jobs are left out.
    ``size`` None is of all jobs.
    """
    import polars as pl

    size = pl.lit(0, pl.Int32)
    for limit in SIZES:
        size = size + (pl.col("gpus") > limit).cast(pl.Int32)
    width = pl.col("gpus") * pl.col("gpu_share")
    spent = pl.col("restart_gpu_s") + pl.col("lost_gpu_s") + pl.col("checkpoint_gpu_s")
    done = jobs.filter((pl.col("status").cast(pl.String) == "completed") & ~pl.col("warm")).select(
        size=size,
        jobs=pl.lit(1.0),
        failures=pl.col("failures").cast(pl.Float64),
        work=pl.col("allocated_gpu_s") - spent,
        wall=width * (pl.col("end_s") - pl.col("start_s")),
    )
    values = ["jobs", "failures", "work", "wall"]
    rows = summary.added(done, ["size"], values)
    if rows:
        rows.append({"size": None, **summary.added(done, [], values)[0]})
    return [
        {
            "size": row["size"],
            "jobs": int(row["jobs"]),
            "failures": int(row["failures"]),
            "ettr": row["work"] / row["wall"] if row["wall"] else None,
        }
        for row in sorted(rows, key=lambda row: (row["size"] is None, row["size"] or 0))
    ]


def values_over_time(ledger: pl.DataFrame) -> list[Row]:
    """Book, market and intrinsic value (USD) of the installed fleet at the end of each period.

    A value that is not known of all rows is None: a sum of a part would look like all.
    """
    return _summed(ledger, [*PERIOD], VALUES)


def money_over_time(ledger: pl.DataFrame, keys: Sequence[str] = ()) -> list[Row]:
    """Rent, energy, running cost and margin (USD) by period and *keys*; None where not known of all rows."""
    return _summed(ledger, [*PERIOD, *keys], MONEY)


def margin_per_kw_year(ledger: pl.DataFrame, keys: Sequence[str]) -> list[Row]:
    """Margin (USD) for each kW of slots and year, by *keys*: sum of margins / sum of kW x years."""
    import polars as pl

    years = (pl.col("period_end_s") - pl.col("period_start_s")) / YEAR_S
    with_years = ledger.with_columns(kw_years=pl.col("slot_kw") * years)
    rows = _summed(with_years, keys, ["margin_usd", "kw_years"])
    return [
        {**row, "margin_usd_per_kw_year": None if row["margin_usd"] is None or not row["kw_years"]
         else row["margin_usd"] / row["kw_years"]}
        for row in rows
    ]  # fmt: skip


def _summed(frame: pl.DataFrame, keys: Sequence[str], values: Sequence[str]) -> list[Row]:
    import polars as pl

    unknown = [f"{value}:unknown" for value in values]
    filled = frame.with_columns(
        pl.col(pl.Categorical).cast(pl.String),
        *(pl.col(v).is_null().cast(pl.Float64).alias(f"{v}:unknown") for v in values),
        *(pl.col(v).fill_null(0.0) for v in values),
    )
    rows = summary.added(filled, keys, [*values, *unknown]) if frame.height else []
    return [
        {**{k: row[k] for k in keys}, **{v: None if row[f"{v}:unknown"] else row[v] for v in values}}
        for row in sorted(rows, key=lambda row: [row[k] for k in keys])
    ]


def unsold(spells: pl.DataFrame, sales: pl.DataFrame, end_s: float) -> list[Row]:
    """GPUs retired, sold, and retired but not sold, from each time on at which one of them changed."""
    import polars as pl

    gone = spells.filter(pl.col("state") == "retired").select("time_s", retired="gpus", sold=pl.lit(0))
    went = sales.select("time_s", retired=pl.lit(0), sold="gpus")
    if not gone.height and not went.height:
        return []
    steps = (
        pl.concat([gone.cast({"retired": pl.Int64, "sold": pl.Int64}),
                   went.cast({"retired": pl.Int64, "sold": pl.Int64})])
        .group_by("time_s").agg(pl.col("retired", "sold").sum()).sort("time_s")
        .with_columns(pl.col("retired", "sold").cum_sum())
    )  # fmt: skip
    rows = [{"time_s": 0.0, "retired": 0, "sold": 0}, *steps.to_dicts()]
    if rows[-1]["time_s"] < end_s:
        rows.append({**rows[-1], "time_s": end_s})
    return [{**row, "unsold": row["retired"] - row["sold"]} for row in rows]


def sold(sales: pl.DataFrame) -> list[Row]:
    """Sales by GPU model: GPUs, proceeds, and means weighted by GPUs of age, price and discount."""
    import polars as pl

    gpus = pl.col("gpus").cast(pl.Float64)
    parts = sales.select(
        pl.col("gpu_model").cast(pl.String),
        gpus=gpus,
        usd=gpus * pl.col("usd_per_gpu"),
        age=gpus * pl.col("age_s") / YEAR_S,
        off=gpus * pl.col("discount"),
    )
    rows: list[dict[str, Any]] = summary.added(parts, ["gpu_model"], ["gpus", "usd", "age", "off"])
    return [
        {
            "gpu_model": row["gpu_model"],
            "gpus": int(row["gpus"]),
            "usd": row["usd"],
            "usd_per_gpu": row["usd"] / row["gpus"],
            "age_y": row["age"] / row["gpus"],
            "discount": row["off"] / row["gpus"],
        }
        for row in sorted(rows, key=lambda row: row["gpu_model"])
    ]


def money(ledger: pl.DataFrame) -> dict[str, float | None]:
    """Sums of :data:`MONEY` over the run, margin per kW-year, and :data:`VALUES` at its end."""
    last = values_over_time(ledger)[-1]
    return {
        **_summed(ledger, [], MONEY)[0],
        "margin_usd_per_kw_year": margin_per_kw_year(ledger, [])[0]["margin_usd_per_kw_year"],
        **{value: last[value] for value in VALUES},
    }
