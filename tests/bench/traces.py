"""Reading a trace against a bare ``polars.read_csv`` of the same file: prints the ratio for each layout.

    python tests/bench/traces.py [--rows 1000000] [--repeat 5] [--folder DIR]

The files are made here. Wall and CPU seconds are the least of *repeat* runs, the two taken in turn; the
goal is a wall ratio of 3 at most on an idle machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fleetsim_traces import read_trace

SEED = 7


def philly(rows: int, path: Path) -> None:
    """Flattened Philly: five columns."""
    frame = _jobs(rows).select(
        pl.col("submit").dt.strftime("%Y-%m-%d %H:%M:%S").alias("timestamp"),
        pl.col("took").cast(pl.Float64).alias("duration"),
        pl.col("gpus").alias("num_gpus"),
        (pl.col("took") * pl.col("gpus")).cast(pl.Float64).alias("gpu_time"),
        pl.format("vc{}", "who").alias("cluster"),
    )
    frame.write_csv(path)


def sacct(rows: int, path: Path) -> None:
    """Slurm accounting: thirteen columns."""
    stamp = "%Y-%m-%dT%H:%M:%S"
    gpus = pl.format("billing=64,cpu=64,gres/gpu={},mem=500G,node=1", "gpus")
    end = pl.col("submit") + pl.duration(seconds="took")
    frame = _jobs(rows).select(
        pl.int_range(100_000, 100_000 + rows).alias("JobID"),
        pl.format("user{}", "who").alias("User"),
        pl.format("lab{}", pl.col("who") % 9).alias("Account"),
        pl.lit("gpu").alias("Partition"),
        pl.lit("COMPLETED").alias("State"),
        pl.col("submit").dt.strftime(stamp).alias("Submit"),
        pl.col("submit").dt.strftime(stamp).alias("Start"),
        end.dt.strftime(stamp).alias("End"),
        pl.col("took").alias("ElapsedRaw"),
        pl.lit("1440").alias("TimelimitRaw"),
        pl.lit(4294).alias("Priority"),
        gpus.alias("ReqTRES"),
        gpus.alias("AllocTRES"),
    )
    frame.write_csv(path, separator="|", quote_style="never")


def mapped(rows: int, path: Path) -> None:
    """Any CSV with a column mapping: eight columns."""
    frame = _jobs(rows).select(
        pl.format("job-{}", pl.int_range(rows)).alias("id"),
        pl.col("submit").dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("submitted"),
        pl.col("took").cast(pl.Float64).alias("run_time"),
        pl.col("gpus").alias("gpu_num"),
        pl.format("vc{}", pl.col("who") % 9).alias("vc"),
        pl.format("user{}", "who").alias("owner"),
        pl.lit("COMPLETED").alias("state"),
        pl.lit("A100").alias("model"),
    )
    frame.write_csv(path)


MAPPING = {
    "job_id": "id",
    "submit_s": {"column": "submitted", "zone": "UTC"},
    "duration_s": "run_time",
    "gpus": "gpu_num",
    "tenant": "vc",
    "user": "owner",
    "status": {"column": "state", "map": {"COMPLETED": "completed"}},
    "gpu_model": "model",
}


def _jobs(rows: int) -> pl.DataFrame:
    rng = np.random.default_rng(SEED)
    start = np.datetime64("2017-08-07T00:00:00", "us")
    return pl.DataFrame(
        {
            "submit": start + np.cumsum(rng.integers(0, 20, rows)) * np.timedelta64(10**6, "us"),
            "took": rng.integers(1, 10**5, rows),
            "gpus": rng.choice([1, 1, 1, 2, 4, 8], rows),
            "who": rng.integers(0, 300, rows),
        }
    )


# how each is written, and read by polars and by us
LAYOUTS: dict[str, tuple[Callable[[int, Path], None], dict[str, Any], dict[str, Any]]] = {
    "philly": (philly, {}, {}),
    "mapped": (mapped, {}, {"columns": MAPPING}),
    "sacct": (sacct, {"separator": "|", "quote_char": None}, {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name, (write, theirs, own) in LAYOUTS.items():
            path = Path(folder) / f"{name}.csv"
            write(options.rows, path)
            bare, ours = [], []
            for _ in range(options.repeat):
                bare.append(_timed(lambda p, how: pl.read_csv(p, **how).height, options.rows, path, theirs))
                ours.append(
                    _timed(lambda p, how: read_trace(p, **how).jobs.num_rows, options.rows, path, own)
                )
            bare_wall, bare_cpu, wall, cpu = (
                min(run[i] for run in runs) for runs in (bare, ours) for i in (0, 1)
            )
            print(
                f"{name:8} {options.rows:,} rows, {path.stat().st_size / 1e6:.0f} MB: "
                f"read_csv {bare_wall:.2f} s (CPU {bare_cpu:.2f}), read_trace {wall:.2f} s (CPU {cpu:.2f}), "
                f"ratio {wall / bare_wall:.2f} (CPU {cpu / bare_cpu:.2f})"
            )


def _timed(work: Callable[..., int], rows: int, *arguments: Any) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    assert work(*arguments) == rows
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
