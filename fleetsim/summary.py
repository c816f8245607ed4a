"""What a run shows: utilisation by generation and age, who used what, and how long jobs waited.

Every figure is computed from the run's tables; ``DEFINITIONS`` says how, in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from typing import TYPE_CHECKING, Any

from fleetsim import units
from fleetsim.catalog import load_catalog
from fleetsim.runfolder import Run

if TYPE_CHECKING:
    import polars as pl

#: Wait quantiles, as names and levels.
QUANTILES = {"p50_s": 0.50, "p95_s": 0.95, "p99_s": 0.99}

DEFINITIONS = {
    "installed_gpu_hours": "GPUs delivered x hours, deliveries during the run from their delivery on",
    "allocated": "allocated GPU hours / installed GPU hours",
    "availability": "GPU hours of nodes in service / installed GPU hours",
    "allocation": "allocated GPU hours / GPU hours of nodes in service",
    "busy": "hours in which a kernel runs / allocated hours (assumed per workload: busy_share)",
    "goodput": "hours of work that was kept / hours in which a kernel runs",
    "time_effective": "availability x allocation x busy x goodput: the share of installed hours that does "
    "productive work",
    "mfu": "model FLOPs / peak FLOPs while productive (assumed per workload)",
    "fleet_mfu": "time_effective x mfu",
    "idle_queue": "idle hours while jobs waited that could not use them / installed hours",
    "wait": "from submission to the start of the first attempt; jobs that never started are counted apart",
    "energy_mwh": "IT energy of GPUs and their share of the server",
    "facility_energy_mwh": "IT energy x PUE of the site",
}

#: What is added up of the usage table.
MEASURES = (
    "installed_gpu_hours",
    "down_gpu_hours",
    "allocated_gpu_hours",
    "lost_gpu_hours",
    "productive_gpu_hours",
    "idle_queue_gpu_hours",
    "idle_no_queue_gpu_hours",
    "model_gpu_hours",
    "energy_mwh",
    "facility_energy_mwh",
)


def summarise(run: Run) -> dict[str, Any]:
    """The figures that ``fleetsim show`` prints, as plain values. Hours are GPU hours, shares are 0 to 1."""
    manifest = run.manifest
    usage = usage_measures(run)
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
        "unknown_gpu_models": {
            name: s["unknown_gpu_models"]
            for name, s in manifest["sources"].items()
            if s["unknown_gpu_models"]
        },
        "laws_checked": len(manifest["checks"]),
        "jobs": _statuses(jobs),
        "fleet": utilisation(usage, [])[0],
        "by_generation_and_age": utilisation(usage, ["generation", "age_band"]),
        "by_cohort": utilisation(usage, ["cohort", "gpu_model"]),
        "by_tenant": _owners(usage, "tenant"),
        "by_class": _owners(usage, "workload_class"),
        "who_used_what": _who_used_what(usage),
        "waits": _waits(jobs),
        **_life(run, usage),
        "definitions": DEFINITIONS,
    }


def usage_measures(run: Run) -> pl.DataFrame:
    """The usage table with a column for each of ``MEASURES``: the row's part in that sum."""
    import polars as pl

    hours, state = pl.col("gpu_hours"), pl.col("state")
    kinds = pl.LazyFrame(run.manifest["activities"]).select("workload", "workload_class", "mfu")
    usage = run.scan("usage").with_columns(pl.col(pl.Categorical).cast(pl.String))
    usage = usage.join(kinds, on=["workload", "workload_class"], how="left", maintain_order="left")

    def of(*states: str) -> pl.Expr:
        return pl.when(state.is_in(states)).then(hours).otherwise(0.0)

    return usage.with_columns(
        installed_gpu_hours=hours,
        down_gpu_hours=of("down"),
        allocated_gpu_hours=of("stalled", "lost", "productive"),
        lost_gpu_hours=of("lost"),
        productive_gpu_hours=of("productive"),
        idle_queue_gpu_hours=of("idle_queue"),
        idle_no_queue_gpu_hours=of("idle_no_queue"),
        model_gpu_hours=of("productive") * pl.col("mfu").fill_null(0.0),
        energy_mwh=pl.col("energy_kwh") / 1000,
        facility_energy_mwh=pl.col("facility_energy_kwh") / 1000,
    ).collect()


def utilisation(usage: pl.DataFrame, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The utilisation chain of :func:`usage_measures` by *keys*, in their order; generations by age.

    A share of nothing is None.
    """

    def over(part: float, whole: float) -> float | None:
        return part / whole if whole else None

    rows = []
    for row in added(usage, keys, MEASURES):
        installed, allocated = row["installed_gpu_hours"], row["allocated_gpu_hours"]
        productive, model = row["productive_gpu_hours"], row.pop("model_gpu_hours")
        up, busy = installed - row["down_gpu_hours"], productive + row["lost_gpu_hours"]
        rows.append(
            {
                **row,
                "allocated": over(allocated, installed),
                "availability": over(up, installed),
                "allocation": over(allocated, up),
                "busy": over(busy, allocated),
                "goodput": over(productive, busy),
                "time_effective": over(productive, installed),
                "mfu": over(model, productive),
                "fleet_mfu": over(model, installed),
                "idle_queue": over(row["idle_queue_gpu_hours"], installed),
            }
        )
    return in_order(rows, keys)


def added(frame: pl.DataFrame, keys: Sequence[str], values: Sequence[str]) -> list[dict[str, Any]]:
    """Sums of *values* by *keys*, correctly rounded: those of polars depend on the number of cores."""
    import polars as pl

    columns = [pl.col(value).implode() for value in values]
    groups = frame.group_by(keys).agg(pl.col(values)) if keys else frame.select(columns)
    return [{**row, **{v: fsum(row[v]) for v in values}} for row in groups.iter_rows(named=True)]


def in_order(rows: list[dict[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Rows sorted by *keys*, generations by the year in which they came to market."""
    catalog = load_catalog()
    models = sorted((catalog[m] for m in catalog), key=lambda m: m.available)
    year = {m.generation: i for i, m in reversed([*enumerate(models)])}

    def place(row: dict[str, Any]) -> list[tuple[int, Any]]:
        return [(year.get(row[k], len(year)) if k == "generation" else 0, row[k]) for k in keys]

    return sorted(rows, key=place)


def _statuses(jobs: pl.LazyFrame) -> dict[str, int]:
    import polars as pl

    rows = jobs.group_by(pl.col("status").cast(pl.String)).len().sort("status").collect().rows()
    return {"submitted": sum(count for _, count in rows), **dict(rows)}


def _owners(usage: pl.DataFrame, key: str) -> list[dict[str, Any]]:
    """Allocated hours by who held them, largest first."""
    import polars as pl

    measures = ("allocated_gpu_hours", "productive_gpu_hours", "energy_mwh", "facility_energy_mwh")
    rows = added(usage.filter(pl.col(key).is_not_null()), [key], measures)
    total = fsum(row["allocated_gpu_hours"] for row in rows)
    rows.sort(key=lambda row: (-row["allocated_gpu_hours"], row[key]))
    return [{**row, "share": row["allocated_gpu_hours"] / total if total else None} for row in rows]


def _who_used_what(usage: pl.DataFrame) -> list[dict[str, Any]]:
    """Allocated hours by tenant and generation: who used which card."""
    import polars as pl

    keys = ["tenant", "generation"]
    rows = added(usage.filter(pl.col("tenant").is_not_null()), keys, ["allocated_gpu_hours"])
    return in_order(rows, keys)


def _life(run: Run, usage: pl.DataFrame) -> dict[str, Any]:
    """Rungs, failures, retirements and money; empty or None where the run has none."""
    from fleetsim.reporting import lifetimes, measures

    tiers = [t["name"] for t in run.manifest["scenario"]["tiers"]]
    spells = measures.node_spells(run.scan("node_states").collect(), run.manifest["end_s"])
    ledger = run.scan("ledger").collect()
    rules = {key: run.manifest["scenario"][key] for key in ("cascade", "retirement")}
    by_tier = utilisation(usage, ["tier"]) if tiers else []
    return {
        "rules": {key: rule["rule"] if rule else None for key, rule in rules.items()},
        "ladder": bool(rules["cascade"] and rules["cascade"]["enabled"]),
        "by_tier": sorted(by_tier, key=lambda row: tiers.index(row["tier"])),
        "tier_by_age": measures.tier_by_age(usage) if tiers else [],
        "failures": lifetimes.failures_by(run.scan("failures").collect(), ["failure"]),
        "retirements": lifetimes.retirements(spells),
        "money": lifetimes.money(ledger) if ledger.height else None,
    }


def _waits(jobs: pl.LazyFrame) -> list[dict[str, Any]]:
    """Queue waits in s of the jobs that started, by GPU count and over all (``gpus`` is None)."""
    import polars as pl

    wait = pl.col("wait_s")
    measures = [
        pl.len().alias("jobs"),
        (wait > 0).mean().alias("share_waiting"),
        *(wait.quantile(level, "linear").alias(name) for name, level in QUANTILES.items()),
        wait.max().alias("max_s"),
    ]
    started = jobs.filter(wait.is_not_null()).select("gpus", "wait_s").collect()
    if not started.height:
        return []
    everything = started.select(pl.lit(None, pl.Int32).alias("gpus"), *measures)
    sums = {row["gpus"]: row["wait_s"] for row in added(started, ["gpus"], ["wait_s"])}
    sums[None] = fsum(started["wait_s"])
    rows = [*everything.to_dicts(), *started.group_by("gpus").agg(measures).sort("gpus").to_dicts()]
    return [{**row, "mean_s": sums[row["gpus"]] / row["jobs"]} for row in rows]


def unknown_models(asked: Mapping[str, int]) -> str:
    """What to do about names of GPU models that stand for nothing, with the jobs that *asked* for each."""
    names = sorted(asked, key=lambda name: (-asked[name], name))
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return f"unknown GPU models in the trace: {shown}. Say with gpu_names what they stand for."


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
