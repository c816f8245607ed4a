"""The first model of a look-alike: published marginal figures alone. The bundled Philly sample is made of it.

What is imitated: GPU counts, run times by GPU count, hour and weekday of submission, busy and quiet days,
bursts of jobs of one user, the shares of tenants and of the users in them, and how jobs ended.

What is not: run time, GPU count, tenant and status are independent of each other here. In the real log
failed and killed jobs run longer than completed ones, and tenants differ: their shares are those of GPU time
and here hold for jobs too, while in the log one tenant has half the jobs and a tenth of the GPU time. The
real log also has outages and resubmission on a timer, and nothing here reacts to the queue. Log-normal tails
are fits: look at the GPU-hours with ``fleetsim_traces.profile`` before you size anything by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator

from fleetsim_traces.generate_arrivals import stream
from fleetsim_traces.rows import to_arrow
from fleetsim_traces.table import MAX_TIME_S, Trace
from fleetsim_traces.text import fail

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

FAMILIES = ("philly",)
START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
MAX_JOBS = 50_000_000
_DAY_S = 86400


def parameters(family: str) -> dict[str, Any]:
    """The figures of *family*, as its YAML file says; raises TraceError for a family that does not exist."""
    import yaml

    if family not in FAMILIES:
        raise fail("family", f"no family {family!r}", f"There are {', '.join(FAMILIES)}.")
    text = files("fleetsim_traces").joinpath("families", f"{family}.yaml").read_text("utf-8")
    data: dict[str, Any] = yaml.safe_load(text)
    return data


def generate_jobs(
    family: str = "philly",
    *,
    jobs: int = 10_000,
    seed: int = 0,
    start: datetime = START,
    jobs_per_day: float | None = None,
) -> Trace:
    """Make *jobs* jobs that look like *family*; the same arguments give the same table.

    *start* is the instant of ``submit_s = 0``; hours and weekdays of the family's rates are counted on its
    clock. *jobs_per_day* sets the mean rate, else the family's own holds. Raises TraceError for arguments
    out of range.
    """
    import polars as pl

    p = parameters(family)
    rate = p["jobs_per_day"] if jobs_per_day is None else jobs_per_day
    require("jobs", jobs, seed, start)
    if not (rate > 0 and jobs / rate * _DAY_S < MAX_TIME_S / 10):  # NaN fails too
        raise fail("jobs_per_day", f"{rate:g} is too low for {jobs:,} jobs or not above 0")

    batches = _batches(stream(seed, "batches"), jobs, p["follower_share"])
    submit_s = _arrivals(seed, batches, start, jobs / rate, p)
    tenant, user = _people(seed, batches, p)
    gpus = _pick(stream(seed, "gpus"), p["gpu_count_share"], jobs).astype(np.int64)
    columns: dict[str, Any] = {
        "submit_s": submit_s,
        "duration_s": _durations(stream(seed, "durations"), gpus, p["duration_by_gpus"]),
        "gpus": gpus.astype(np.float64),
        "gpu_share": np.ones(jobs),
        "workload_class": [p["workload_class"]] * jobs,
        "tenant": tenant,
        "user": user,
        "status": _pick(stream(seed, "status"), p["status_share"], jobs),
    }
    frame = pl.DataFrame(columns).sort("submit_s", maintain_order=True)
    frame = frame.with_columns(pl.format("job-{}", pl.int_range(1, pl.len() + 1)).alias("job_id"))
    return look_alike(to_arrow(frame), family, p["about"], rate, seed, start)


def require(what: str, number: int, seed: int, start: datetime) -> None:
    """Raise TraceError where the *number* of *what*, the seed or the start is out of range."""
    if not 1 <= number <= MAX_JOBS:
        raise fail(what, f"{number:,} is not from 1 to {MAX_JOBS:,}")
    if seed < 0:
        raise fail("seed", f"{seed} is negative")
    if start.tzinfo is None:
        raise fail("start", f"{start.isoformat()} has no UTC offset", f"Write {start.isoformat()}Z.")
    if not 1970 <= start.year <= 2200:
        raise fail("start", f"{start.isoformat()} is not from 1970 to 2200")


def look_alike(jobs: pa.Table, name: str, about: str, rate: float, seed: int, start: datetime) -> Trace:
    """*jobs* as a trace that says what it imitates: *about* the family *name*, at *rate* a day."""
    number = jobs.num_rows
    return Trace(
        jobs=jobs,
        format=f"{name}-like",
        source=f"generate_jobs({name!r}, jobs={number}, seed={seed})",
        epoch=start.astimezone(UTC),
        rows_read=number,
        notes=(f"Generated: {about}; {number:,} jobs at {rate:g} a day, seed {seed}. No cluster ran them.",),
        generated=True,
    )


def _pick(rng: Generator, shares: Mapping[Any, float], size: int) -> npt.NDArray[Any]:
    weights = np.array(list(shares.values()))
    return rng.choice(np.array(list(shares)), size=size, p=weights / weights.sum())


def _batches(rng: Generator, jobs: int, follower_share: float) -> Ints:
    """The burst that each job belongs to: 0, 0, 1, 2, 2, 2, ..."""
    first = rng.random(jobs) >= follower_share
    first[0] = True
    return np.cumsum(first) - 1


def _arrivals(seed: int, batches: Ints, start: datetime, days: float, p: dict[str, Any]) -> Floats:
    """Submission of each job in whole seconds from *start*.

    Bursts begin as a Poisson process given their number: uniform draws through the inverse of the
    cumulative rate, which is the product of the hour's, the weekday's and a log-normal factor of the day.
    """
    hours = int(np.ceil(days * 24)) + 1
    clock = start.hour + start.minute / 60 + start.second / 3600
    edges = np.arange(hours + 1) - clock % 1  # whole hours of the clock, in hours from start
    local = np.floor(clock) + np.arange(hours)
    day = (local // 24).astype(np.int64)
    sigma = np.sqrt(np.log1p(p["daily_cv"] ** 2))
    load = stream(seed, "day_load").lognormal(-(sigma**2) / 2, sigma, size=int(day[-1]) + 1)
    rate = (
        np.array(p["hour_rate"])[(local % 24).astype(np.int64)]
        * np.array(p["weekday_rate"])[(start.weekday() + day) % 7]
        * load[day]
    )
    cumulative = np.concatenate(([0.0], np.cumsum(rate)))
    low, high = np.interp([0.0, days * 24], edges, cumulative)
    draws = np.sort(stream(seed, "arrivals").random(int(batches[-1]) + 1))
    begin_s = np.interp(low + draws * (high - low), cumulative, edges) * 3600

    gap_s = stream(seed, "follower_gaps").exponential(p["follower_gap_s"], size=len(batches))
    leads = np.flatnonzero(np.diff(batches, prepend=-1))
    gap_s[leads] = 0.0
    total_s = np.cumsum(gap_s)
    submit_s: Floats = np.floor(begin_s[batches] + total_s - total_s[leads][batches])
    return submit_s


def _durations(rng: Generator, gpus: Ints, fits: Mapping[int, Mapping[str, float]]) -> Floats:
    """Run times in whole seconds, at least 1; a draw above the fit's maximum is drawn again."""
    counts = np.array(sorted(fits))
    row = np.searchsorted(counts, gpus, side="right") - 1
    mu, sigma, max_s = (np.array([fits[int(c)][k] for c in counts])[row] for k in ("mu", "sigma", "max_s"))
    duration_s = np.exp(mu + sigma * rng.standard_normal(len(gpus)))
    while len(over := np.flatnonzero(duration_s > max_s)):
        duration_s[over] = np.exp(mu[over] + sigma[over] * rng.standard_normal(len(over)))
    return np.maximum(1.0, np.round(duration_s))


def tenant_shares(p: Mapping[str, Any]) -> Floats:
    """Each tenant's share of the jobs: the known head, then the rest by rank."""
    head = np.array(p["tenant_share"])
    tail: Floats = np.arange(len(head) + 1, p["tenants"] + 1) ** -float(p["tenant_exponent"])
    shares: Floats = np.concatenate((head, (1 - head.sum()) * tail / tail.sum()))
    return shares


def _people(seed: int, batches: Ints, p: Mapping[str, Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Tenant and user of each job; a burst has one of each."""
    shares = tenant_shares(p)
    bursts = int(batches[-1]) + 1
    tenant = stream(seed, "tenants").choice(len(shares), size=bursts, p=shares)
    team = np.maximum(1, np.round(shares * p["users"]).astype(np.int64))  # users of each tenant
    first = np.cumsum(team) - team
    weight = np.arange(1, team.max() + 1) ** -float(p["user_exponent"])
    cumulative = np.cumsum(weight)
    draw = stream(seed, "users").random(bursts) * cumulative[team[tenant] - 1]
    rank = np.minimum(np.searchsorted(cumulative, draw, side="right"), team[tenant] - 1)
    tenants = np.array([f"vc-{i:02d}" for i in range(1, len(shares) + 1)])
    users = np.array([f"user-{i:03d}" for i in range(1, int(team.sum()) + 1)])
    return tenants[tenant[batches]], users[(first[tenant] + rank)[batches]]
