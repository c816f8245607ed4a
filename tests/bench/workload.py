"""The standard benchmark workload: Philly-like sizes and durations, diurnal Poisson arrivals, a stated load.

GPU counts 1 to 64 (mean 3.3), log-normal run times with a median of 15 minutes cut at 30 days, arrivals that
follow the hour and the weekend, offered load as a share of the GPUs over the submission window. All times are
whole seconds, so that every simulator sees the same numbers.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fleetsim_traces.table import COLUMNS, Trace, schema

DAY_S = 86_400
SIZES = {1: 0.70, 2: 0.08, 4: 0.08, 8: 0.10, 16: 0.02, 32: 0.01, 64: 0.01}


def _rate(time_s: np.ndarray) -> np.ndarray:
    """Relative arrival rate: half as much again at 15:00, 60 % at weekends."""
    day = 1.0 + 0.5 * np.sin(2 * np.pi * (time_s / DAY_S - 9 / 24))
    return np.asarray(np.where(time_s // DAY_S % 7 >= 5, 0.6 * day, day))


def standard(jobs: int, gpus: int, load: float = 0.85, seed: int = 1) -> dict[str, np.ndarray]:
    """Columns ``submit_s, gpus, duration_s, user, tenant`` of *jobs* jobs for a fleet of *gpus* GPUs."""
    draws = np.random.default_rng(seed)
    size = draws.choice(np.array(list(SIZES)), jobs, p=np.array(list(SIZES.values())))
    duration_s = np.clip(np.rint(np.exp(draws.normal(np.log(900.0), 2.0, jobs))), 1, 30 * DAY_S).astype(
        np.int64
    )
    span_s = float((size * duration_s).sum()) / (load * gpus)
    grid = np.linspace(0.0, span_s, max(2, int(span_s // 600) + 2))
    total = np.concatenate([[0.0], np.cumsum(_rate((grid[1:] + grid[:-1]) / 2) * np.diff(grid))])
    submit_s = np.interp(np.sort(draws.random(jobs)) * total[-1], total, grid).astype(np.int64)
    weight = 1.0 / np.arange(1, 401) ** 1.1
    user = draws.choice(400, jobs, p=weight / weight.sum())
    return {
        "submit_s": submit_s - submit_s[0],
        "gpus": size,
        "duration_s": duration_s,
        "user": user,
        "tenant": user * 7919 % 20,
    }


def as_trace(columns: dict[str, np.ndarray]) -> Trace:
    """The same jobs as a job table."""
    count = len(columns["submit_s"])

    def names(prefix: str, codes: np.ndarray) -> pa.Array:
        values = [f"{prefix}{i:03d}" for i in range(int(codes.max()) + 1)]
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values))

    given = {
        "job_id": pa.array(np.arange(count)).cast(pa.string()),
        "submit_s": columns["submit_s"].astype(np.float64),
        "duration_s": columns["duration_s"].astype(np.float64),
        "gpus": columns["gpus"].astype(np.int32),
        "gpu_share": np.ones(count, np.float32),
        "tenant": names("tenant", columns["tenant"]),
        "user": names("user", columns["user"]),
    }
    table = schema()
    arrays = [
        pa.array(given[c.name], table.field(c.name).type)
        if c.name in given
        else pa.nulls(count, table.field(c.name).type)
        for c in COLUMNS
    ]
    jobs = pa.Table.from_arrays(arrays, schema=table)
    return Trace(
        jobs, format="bench", source="standard workload", epoch=None, rows_read=count, generated=True
    )
