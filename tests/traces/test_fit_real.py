"""How close look-alikes of real logs come, and beside what: the two halves of the log itself.

Bounds are the worst of seeds 1 to 3, and a quarter on top. Nothing here is a fit of the seed: batches and run
times have heavy tails, so two look-alikes differ by about as much from each other as from the log.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleetsim_traces import Trace, read_trace
from fleetsim_traces.fit import fit
from fleetsim_traces.generate import generate_jobs
from fleetsim_traces.quality import check
from fleetsim_traces.sampling import window

PACIFIC = "America/Los_Angeles"
SEEDS = (1, 2, 3)


def distances(one: Trace, other: Trace, zone: str = "UTC") -> dict[str, float]:
    return {k: m["distance"] for k, m in check(one, other, zone=zone)["measures"].items()}


def halves(trace: Trace) -> tuple[Trace, Trace]:
    half = trace.jobs.num_rows // 2
    return (
        dataclasses.replace(trace, jobs=trace.jobs.slice(0, half)),
        dataclasses.replace(trace, jobs=trace.jobs.slice(half)),
    )


def hold(found: list[dict[str, float]], own: dict[str, float], bounds: dict[str, float]) -> None:
    """Every distance is within its bound, and most are below those of the halves."""
    for name, bound in bounds.items():
        worst = max(f[name] for f in found)
        assert worst <= bound, f"{name}: {worst:.3g} is above {bound}"
    nearer = [max(f[n] for f in found) < own[n] for n in bounds if own.get(n) is not None]
    assert sum(nearer) >= 0.7 * len(nearer), dict(zip(bounds, nearer, strict=False))


def test_philly(real_traces: Path) -> None:
    trace = read_trace(real_traces / "philly" / "philly.csv")
    assert trace.epoch is not None
    p = fit(trace, zone=PACIFIC)
    start = trace.epoch.astimezone(timezone(timedelta(hours=-7)))
    made = [generate_jobs(p, jobs=trace.jobs.num_rows, seed=s, start=start) for s in SEEDS]
    hold(
        [distances(trace, m, PACIFIC) for m in made],
        distances(*halves(trace), PACIFIC),
        {
            "mean_gpus": 0.08, "size.ks": 0.005, "size.wasserstein": 0.04, "duration.ks": 0.07,
            "duration.wasserstein_log": 0.1, "gap.ks": 0.07, "gap.wasserstein_log": 0.15,
            "sizes_by_gpu_time.tv": 0.1, "hour.tv": 0.17, "weekday.tv": 0.16, "tenant_by_jobs.tv": 0.04,
            "tenant_by_gpu_time.tv": 0.11, "dispersion.1min": 0.16, "dispersion.10min": 0.15,
            "dispersion.1h": 0.2, "dispersion.1d": 0.55,
        },
    )  # fmt: skip
    # rows of (gap, run time over an hour, GPUs) recur as often as they would with shuffled columns
    known = set(map(tuple, rows(trace).tolist()))
    found = rows(made[0])
    rng = np.random.default_rng(0)
    shuffled = np.stack([rng.permutation(column) for column in found.T], axis=1)
    again, chance = (np.mean([tuple(r) in known for r in f.tolist()]) for f in (found, shuffled))
    assert again < chance * 1.3 + 0.01, (again, chance)
    # another length and load
    year = generate_jobs(p, days=365, load=0.7, gpus=1000, seed=1)
    busy = np.asarray(year.jobs["gpus"]) @ np.asarray(year.jobs["duration_s"]) / (365 * 86400)
    assert busy == pytest.approx(700, rel=0.08)
    assert distances(trace, year)["duration.ks"] < 0.08


def rows(trace: Trace) -> Any:
    """Gap, run time and GPUs of the jobs that ran over an hour."""
    names = ("submit_s", "duration_s", "gpus")
    submit_s, duration_s, gpus = (np.asarray(trace.jobs[n], dtype=np.float64) for n in names)
    table = np.stack((np.diff(submit_s, prepend=submit_s[0]), duration_s, gpus), axis=1)
    return table[duration_s > 3600]


def openb(folder: Path) -> Trace:
    """The GPU pods that ran, from the day on which nearly all load begins."""
    whole = read_trace(folder / "openb_pod_list_default.csv")
    return window(whole, 111 * 86400, None)


def test_openb(real_traces: Path) -> None:
    trace = openb(real_traces / "alibaba-gpu-v2023-openb")
    p = fit(trace)
    made = [generate_jobs(p, jobs=trace.jobs.num_rows, seed=s) for s in SEEDS]
    hold(
        [distances(trace, m) for m in made],
        distances(*halves(trace)),
        {
            "size.ks": 0.004, "size.wasserstein": 0.02, "duration.ks": 0.03, "duration.wasserstein_log": 0.04,
            "gap.ks": 0.05, "gap.wasserstein_log": 0.08, "sizes_by_gpu_time.tv": 0.2, "hour.tv": 0.07,
            "status_by_jobs.tv": 0.02, "dispersion.1min": 0.17, "dispersion.10min": 0.15,
            "dispersion.1h": 0.2, "dispersion.1d": 0.25,
        },
    )  # fmt: skip
    shares = [set(np.round(np.asarray(t.jobs["gpu_share"]), 3)) for t in (trace, made[0])]
    assert shares[1] <= shares[0]
    assert max(distances(trace, m)["mean_gpus"] for m in made) < 0.25  # a few pods run for months
