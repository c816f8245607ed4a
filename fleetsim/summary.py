"""What a run shows: utilisation by generation and age, who used what, and how long jobs waited.

Every figure is computed from the run's tables; ``DEFINITIONS`` says how, in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fleetsim import units
from fleetsim.catalog import load_catalog
from fleetsim.runfolder import Run

if TYPE_CHECKING:
    import polars as pl

#: Wait quantiles, as names and levels.
QUANTILES = {"p50_s": 0.50, "p95_s": 0.95, "p99_s": 0.99}

DEFINITIONS = {
    "installed_gpu_hours": "GPUs in service x hours, deliveries during the run from their delivery on",
    "allocation": "allocated GPU hours / installed GPU hours",
    "busy": "hours in which a kernel runs / allocated hours (assumed per workload: busy_share)",
    "time_effective": "allocation x busy: the share of installed hours that does productive work",
    "mfu": "model FLOPs / peak FLOPs while productive (assumed per workload)",
    "fleet_mfu": "time_effective x mfu",
    "idle_queue": "idle hours while jobs waited that could not use them / installed hours",
    "wait": "from submission to the start of the first attempt; jobs that never started are counted apart",
    "energy_mwh": "IT energy of GPUs and their share of the server",
    "facility_energy_mwh": "IT energy x PUE of the site",
}

_LABELS = ("cohort", "gpu_model", "generation", "tenant", "workload", "workload_class", "state")


def summarise(run: Run) -> dict[str, Any]:
    """The figures that ``fleetsim show`` prints, as plain values. Hours are GPU hours, shares are 0 to 1."""
    import polars as pl

    manifest = run.manifest
    usage = run.scan("usage").with_columns(pl.col(*_LABELS).cast(pl.String)).collect()
    kinds = pl.DataFrame(manifest["activities"]).select("workload", "workload_class", "mfu")
    usage = usage.join(kinds, on=["workload", "workload_class"], how="left", maintain_order="left")
    jobs = run.scan("jobs")
    return {
        "name": manifest["scenario"]["name"],
        "question": manifest["scenario"]["question"],
        "start": manifest["start"],
        "end_s": manifest["end_s"],
        "scheduler": manifest["scenario"]["scheduler"],
        "seed": manifest["seed"],
        "generated": sorted(name for name, s in manifest["sources"].items() if s["generated"]),
        "left_out": {name: s["left_out"] for name, s in manifest["sources"].items() if s["left_out"]},
        "rejected": manifest["rejected"],
        "laws_checked": len(manifest["checks"]),
        "jobs": _statuses(jobs),
        "fleet": _chain(usage),
        "by_generation_and_age": _groups(usage, ["generation", "age_band"]),
        "by_cohort": _groups(usage, ["cohort", "gpu_model"]),
        "by_tenant": _owners(usage, "tenant"),
        "by_class": _owners(usage, "workload_class"),
        "who_used_what": _shares(usage),
        "waits": _waits(jobs),
        "definitions": DEFINITIONS,
    }


def _statuses(jobs: pl.LazyFrame) -> dict[str, int]:
    import polars as pl

    rows = jobs.group_by(pl.col("status").cast(pl.String)).len().sort("status").collect().rows()
    return {"submitted": sum(count for _, count in rows), **dict(rows)}


def _sum(state: str) -> pl.Expr:
    import polars as pl

    return pl.col("gpu_hours").filter(pl.col("state").str.starts_with(state)).sum()


def _measures() -> list[pl.Expr]:
    import polars as pl

    productive = pl.col("state") == "productive"
    return [
        pl.col("gpu_hours").sum().alias("installed_gpu_hours"),
        (_sum("stalled") + _sum("productive")).alias("allocated_gpu_hours"),
        _sum("productive").alias("productive_gpu_hours"),
        _sum("idle_queue").alias("idle_queue_gpu_hours"),
        _sum("idle_no_queue").alias("idle_no_queue_gpu_hours"),
        (pl.col("gpu_hours") * pl.col("mfu")).filter(productive).sum().alias("model_gpu_hours"),
        (pl.col("energy_kwh").sum() / 1000).alias("energy_mwh"),
        (pl.col("facility_energy_kwh").sum() / 1000).alias("facility_energy_mwh"),
    ]


def _with_shares(row: dict[str, Any]) -> dict[str, Any]:
    """Add the utilisation chain to a row of measures; a share of nothing is None."""

    def over(part: float, whole: float) -> float | None:
        return part / whole if whole else None

    installed, allocated = row["installed_gpu_hours"], row["allocated_gpu_hours"]
    productive, model = row["productive_gpu_hours"], row.pop("model_gpu_hours")
    return {
        **row,
        "allocation": over(allocated, installed),
        "busy": over(productive, allocated),
        "time_effective": over(productive, installed),
        "mfu": over(model, productive),
        "fleet_mfu": over(model, installed),
        "idle_queue": over(row["idle_queue_gpu_hours"], installed),
    }


def _chain(usage: pl.DataFrame) -> dict[str, Any]:
    return _with_shares(usage.select(_measures()).row(0, named=True))


def _groups(usage: pl.DataFrame, keys: Sequence[str]) -> list[dict[str, Any]]:
    rows = _by_year(usage.group_by(keys).agg(_measures()).sort(keys))
    return [_with_shares(row) for row in rows.to_dicts()]


def _by_year(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with a generation in the order in which the generations came to market."""
    import polars as pl

    if "generation" not in rows.columns:
        return rows
    catalog = load_catalog()
    order = [m.generation for m in sorted((catalog[m] for m in catalog), key=lambda m: m.available)]
    rank = {name: order.index(name) for name in set(order)}
    return rows.sort(pl.col("generation").replace_strict(rank, default=len(order)), maintain_order=True)


def _owners(usage: pl.DataFrame, key: str) -> list[dict[str, Any]]:
    """Allocated hours by who held them, largest first."""
    import polars as pl

    held = usage.filter(pl.col(key).is_not_null())
    rows = held.group_by(key).agg(_measures()).sort(["allocated_gpu_hours", key], descending=[True, False])
    total = sum(rows["allocated_gpu_hours"])
    keep = ("allocated_gpu_hours", "productive_gpu_hours", "energy_mwh", "facility_energy_mwh")
    return [
        {
            key: row[key],
            **{k: row[k] for k in keep},
            "share": row["allocated_gpu_hours"] / total if total else None,
        }
        for row in rows.to_dicts()
    ]


def _shares(usage: pl.DataFrame) -> list[dict[str, Any]]:
    """Allocated hours by tenant and generation: who used which card."""
    import polars as pl

    held = usage.filter(pl.col("tenant").is_not_null())
    rows = held.group_by("tenant", "generation").agg(pl.col("gpu_hours").sum().alias("allocated_gpu_hours"))
    return _by_year(rows.sort("tenant", "generation")).to_dicts()


def _waits(jobs: pl.LazyFrame) -> list[dict[str, Any]]:
    """Queue waits in s of the jobs that started, by GPU count and over all (``gpus`` is None)."""
    import polars as pl

    wait = pl.col("wait_s")
    measures = [
        pl.len().alias("jobs"),
        (wait > 0).mean().alias("share_waiting"),
        wait.mean().alias("mean_s"),
        *(wait.quantile(level, "linear").alias(name) for name, level in QUANTILES.items()),
        wait.max().alias("max_s"),
    ]
    started = jobs.filter(wait.is_not_null()).select("gpus", "wait_s").collect()
    if not started.height:
        return []
    everything = started.select(pl.lit(None, pl.Int32).alias("gpus"), *measures)
    return [*everything.to_dicts(), *started.group_by("gpus").agg(measures).sort("gpus").to_dicts()]


def age_band(years: int) -> str:
    """A whole number of years as a band.

    >>> age_band(2)
    '2-3 y'
    """
    return f"{years}-{years + 1} y"


def span(summary: Mapping[str, Any]) -> str:
    """First and last instant of a run, for a heading."""
    start = units.instant(summary["start"])
    end = units.at(start, summary["end_s"])
    return f"{start:%Y-%m-%d} to {end:%Y-%m-%d} ({units.human(summary['end_s'])})"
