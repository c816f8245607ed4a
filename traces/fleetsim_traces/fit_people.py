"""Who submits, what each asks for, and how it ends: the parts of a fit that go by tenant, user and status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim_traces.fit_tables import CROWD, quantiles, round_to, shares
from fleetsim_traces.parameters import StatusBand, Tenant

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]

CELL = 100  # jobs from which a tenant, or one of its GPU counts, has tables of its own
_BANDS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.97)  # quantiles of run time between which statuses are counted


def split_by_gpus(jobs: pl.DataFrame, column: str) -> list[tuple[int, Floats]]:
    """The values of *column* for each GPU count, ascending."""
    return [
        (int(count), jobs.filter(jobs["gpus"] == count)[column].to_numpy())
        for count in jobs["gpus"].unique().sort().to_list()
    ]


def batch_sizes(jobs: pl.DataFrame) -> pl.DataFrame:
    """One row a batch: its number of jobs and its GPU count."""
    import polars as pl

    return jobs.group_by("batch", maintain_order=True).agg(
        pl.len().cast(pl.Float64).alias("jobs"), pl.col("gpus").first()
    )


def tenants_of(jobs: pl.DataFrame, head: list[str]) -> list[Tenant]:
    """The *head* one by one, the others as a group."""
    import polars as pl

    found = []
    for rank, name in enumerate(head, 1):
        own = jobs.filter(pl.col("tenant") == name)
        users, exponent, top = _ranks(own["user"])
        found.append(
            Tenant(
                name=f"tenant-{rank:02d}",
                jobs_share=round_to(own.height / jobs.height, 4),
                users=users,
                user_head_share=top,
                user_exponent=exponent,
                gpu_count_share=shares(own["gpus"]),
                duration_s_by_gpus=_own(own, "duration_s"),
                batch_jobs_by_gpus=_own(batch_sizes(own), "jobs", whole=True),
            )
        )
    rest = jobs.filter(~pl.col("tenant").is_in(head))
    if rest.height:
        count, exponent, _ = _ranks(rest["tenant"], head=0)
        users = rest.group_by("tenant").agg(pl.col("user").drop_nulls().n_unique())["user"].to_numpy().mean()
        found.append(
            Tenant(
                name="others",
                count=count,
                jobs_share=round_to(rest.height / jobs.height, 4),
                exponent=exponent,
                users=round(users),
                gpu_count_share=shares(rest["gpus"]) if rest.height >= CELL else None,
            )
        )
    return found


def _own(jobs: pl.DataFrame, column: str, *, whole: bool = False) -> dict[int, Any] | None:
    found = {
        gpus: quantiles(of_count, whole=whole)
        for gpus, of_count in split_by_gpus(jobs, column)
        if len(of_count) >= CELL
    }
    return found or None


def _ranks(names: pl.Series, head: int = 8) -> tuple[int, float, list[float]]:
    """How many distinct names, the exponent s with which rank^-s follows their shares best after the first
    *head*, and the shares of those, where each has CROWD rows."""
    counts = np.sort(names.drop_nulls().value_counts()["count"].to_numpy())[::-1]
    if len(counts) < 2:
        return len(counts), 1.0, []
    top = [int(c) for c in counts[:head] if c >= CROWD]
    rest = counts[len(top) :]
    exponent = 1.0
    if len(rest) > 1:
        tried = np.arange(0, 6.01, 0.05)
        weight = np.arange(len(top) + 1, len(counts) + 1)[None, :] ** -tried[:, None]
        made = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
        exponent = float(tried[np.argmin(np.abs(made - np.cumsum(rest) / rest.sum()).max(axis=1))])
    return len(counts), round(exponent, 2), [round_to(c / counts.sum(), 3) for c in top]


def labels_of(jobs: pl.DataFrame, name: str) -> dict[Any, float] | None:
    """Shares of a label, null among them; None where it is null throughout."""
    return shares(jobs[name], CROWD) if jobs[name].null_count() < jobs.height else None


def status_of(jobs: pl.DataFrame) -> list[StatusBand] | None:
    """Shares of the statuses between quantiles of run time; None where they are unknown."""
    import polars as pl

    if jobs["status"].null_count() == jobs.height:
        return None
    durations = jobs["duration_s"].to_numpy()
    limits: list[float] = []
    for q in _BANDS:
        limit = round_to(float(np.quantile(durations, q)), 2)
        below = limits[-1] if limits else 0.0
        if limit > below and ((durations > below) & (durations <= limit)).sum() >= CROWD:
            limits.append(limit)
    while limits and (durations > limits[-1]).sum() < CROWD:
        limits.pop()
    bands = []
    for low, high in zip([0.0, *limits], [*limits, np.inf], strict=True):
        found = jobs.filter((pl.col("duration_s") > low) & (pl.col("duration_s") <= high))["status"]
        bands.append(StatusBand(up_to_s=None if np.isinf(high) else high, share=shares(found, CROWD)))
    return bands
