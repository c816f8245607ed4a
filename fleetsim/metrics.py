"""A finished run as Prometheus metrics: the rows that the metric catalogue reads, and the text made of them.

A finished run is a set of totals: its counters stand at their final value, so a page of it is one scrape.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING, Any

from fleetsim import units
from fleetsim.runfolder import Run
from fleetsim.summary import added, usage_measures, utilisation
from fleetsim_collectors.catalogue import RUN_FAMILIES, WAIT_BUCKETS_S, Histogram, samples
from fleetsim_collectors.exposition import render

if TYPE_CHECKING:
    import polars as pl

#: Tenants that get series of their own, unless told otherwise.
TENANTS = 50

#: Stands for all the others.
OTHER_TENANTS = "(other)"

JOULES_PER_KWH = 3.6e6

_HARDWARE = ("cohort", "gpu_model", "generation", "age_band", "tier")


@dataclass(frozen=True)
class Page:
    """The text of a run's metrics, its *samples*, and the tenants that are in it only as a sum."""

    text: str
    samples: int
    tenants_summed: int


def page(run: Run, name: str | None = None, tenants: int = TENANTS) -> Page:
    """The metrics of *run* in Prometheus text format. Runs with equal tables give equal bytes,
    on any number of cores.

    *name* is the value of the label ``run``, by default the name of the folder. The *tenants* that held most
    GPU hours are named, all others are summed as :data:`OTHER_TENANTS`; sums over tenants are not affected.
    """
    ranked = _ranked_tenants(run)
    named = ranked[:tenants]
    text = "".join(render(samples(RUN_FAMILIES, rows(run, name or run.path.resolve().name, named))))
    count = sum(not line.startswith("#") for line in text.split("\n")) - 1  # the text ends in a newline
    return Page(text, count, len(ranked) - len(named))


def rows(run: Run, name: str, named: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The tables that ``RUN_FAMILIES`` read, in the catalogue's units; tenants not in *named* are summed."""
    tables = {
        "run": [_run(run.manifest)],
        "installed": _installed(run),
        "usage": _usage(run, named),
        "utilisation": utilisation(usage_measures(run), ["generation", "age_band"]),
        "jobs": _jobs(run, named),
        "waits": _waits(run),
        "queue": _queue(run),
    }
    return {table: [{**row, "run": name} for row in found] for table, found in tables.items()}


def _run(manifest: dict[str, Any]) -> dict[str, Any]:
    start_s = units.instant(manifest["start"]).timestamp()
    generated = sorted(name for name, source in manifest["sources"].items() if source["generated"])
    return {
        "one": 1,
        "scenario": manifest["scenario"]["name"],
        "seed": manifest["seed"],
        "version": manifest["versions"]["fleetsim"],
        "generated": ",".join(generated),
        "start_s": start_s,
        "end_s": start_s + manifest["end_s"],
    }


def _plain(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Labels as text: as categories they would be grouped and sorted by code."""
    import polars as pl

    return frame.with_columns(pl.col(pl.Categorical).cast(pl.String))


def _ranked_tenants(run: Run) -> list[str]:
    """All tenants, those with most GPU hours first."""
    import polars as pl

    held_ms = (pl.col("allocated_gpu_s") * 1000).round().cast(pl.Int64).sum()  # whole numbers: an exact sum
    held = _plain(run.scan("jobs").select("tenant", "allocated_gpu_s")).drop_nulls("tenant")
    ranked = (
        held.group_by("tenant")
        .agg(held_ms.alias("held_ms"))
        .sort(["held_ms", "tenant"], descending=[True, False])
    )
    return ranked.collect()["tenant"].to_list()


def _tenant(named: list[str]) -> pl.Expr:
    import polars as pl

    tenant = pl.col("tenant")
    kept = tenant.is_null() | tenant.is_in(named)
    return pl.when(kept).then(tenant).otherwise(pl.lit(OTHER_TENANTS)).alias("tenant")


def _usage(run: Run, named: list[str]) -> list[dict[str, Any]]:
    keys = [*_HARDWARE, "tenant", "workload_class", "state"]
    usage = _plain(run.scan("usage")).with_columns(_tenant(named))
    return [
        {
            **row,
            "energy_joules": row["energy_kwh"] * JOULES_PER_KWH,
            "facility_energy_joules": row["facility_energy_kwh"] * JOULES_PER_KWH,
        }
        for row in added(usage.collect(), keys, ["gpu_hours", "energy_kwh", "facility_energy_kwh"])
    ]


def _installed(run: Run) -> list[dict[str, Any]]:
    """GPUs by cohort and age at the end: what the last state of each node says."""
    import polars as pl

    end_s = run.manifest["end_s"]
    age_s = pl.col("age_s") + end_s - pl.col("time_s")
    last = _plain(run.scan("node_states")).sort("time_s", maintain_order=True)
    last = last.group_by("node", maintain_order=True).last().filter(pl.col("state").is_in(["up", "down"]))
    generations = _plain(run.scan("usage").select("gpu_model", "generation")).unique()
    return (
        last.with_columns((age_s / units.YEAR_S).floor().cast(pl.Int64).alias("age_band"))
        .join(generations, on="gpu_model", how="left")
        .group_by(_HARDWARE)
        .agg(pl.col("gpus").sum())
        .collect()
        .to_dicts()
    )


def _jobs(run: Run, named: list[str]) -> list[dict[str, Any]]:
    import polars as pl

    keys = ["tenant", "workload", "workload_class", "status", "reject_reason"]
    jobs = _plain(run.scan("jobs").select(keys)).with_columns(_tenant(named))
    return jobs.group_by(keys).agg(pl.len().alias("jobs")).collect().to_dicts()


def _waits(run: Run) -> list[dict[str, Any]]:
    import polars as pl

    wait = pl.col("wait_s")
    started = _plain(run.scan("jobs").select("workload_class", "wait_s").drop_nulls("wait_s"))
    counts = pl.concat_list(*((wait <= bound).sum() for bound in WAIT_BUCKETS_S), pl.len())
    groups = started.group_by("workload_class").agg(counts.alias("counts"), wait).collect()
    return [
        {"workload_class": name, "wait_seconds": Histogram(tuple(below), fsum(waits))}
        for name, below, waits in groups.iter_rows()
    ]


def _queue(run: Run) -> list[dict[str, Any]]:
    """The last state of the queue; one that never held a job is empty, which is known, not absent."""
    last = run.scan("queue").select("jobs_waiting", "gpus_waiting").tail(1).collect()
    return last.to_dicts() or [{"jobs_waiting": 0, "gpus_waiting": 0}]
