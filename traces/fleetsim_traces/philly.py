"""Microsoft Philly, flattened: one row a job, from 2017-08 to 2017-12.

*Citation.* M. Jeon et al., "Analysis of Large-Scale Multi-Tenant GPU Clusters for DNN Training Workloads",
USENIX ATC 2019. *Licence.* CC-BY-4.0 (msr-fiddle/philly-traces).

*How to obtain.* github.com/msr-fiddle/philly-traces holds the original JSON job log. This reader takes its
flattened CSV as several scheduler papers use it, for example ``sia-simulator/traces/philly.csv`` in
github.com/siasosp23/artifacts. Columns: ``timestamp`` (submission, local), ``duration`` (s, all attempts
together), ``num_gpus``, ``gpu_time`` (s), ``cluster`` (virtual cluster, six hex digits).

*Rows.* 82,247 jobs: those of the 117,325 in the original that have a recorded attempt.

*Known defects.* Not sorted. No user, status, start or queue time. Exact duplicate rows (65 in the full
file) are jobs submitted together, not copies: they are kept and their number is noted. Virtual clusters such
as ``6214e9`` are names that look like numbers. Timestamps are America/Los_Angeles without an offset, so
01:00-02:00 of 2017-11-05 happened twice: such rows are read as the first (PDT), and their number is noted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fleetsim_traces.delimited import open_sheet
from fleetsim_traces.rows import BadRows, Check, Draft, all_differ, finish
from fleetsim_traces.table import Trace
from fleetsim_traces.text import fail, shorten
from fleetsim_traces.times import datetimes, is_on, is_repeated, number, shift_days, unix_seconds

if TYPE_CHECKING:
    import polars as pl

HEADER = ("timestamp", "duration", "num_gpus", "gpu_time", "cluster")
ZONE = "America/Los_Angeles"


def read(path: Path, *, bad_rows: BadRows = "refuse") -> Trace:
    """Read the flattened Philly CSV at *path* (plain or gzip); raises TraceError for what cannot be used.

    ``job_id`` is the line of the file; ``tenant`` the virtual cluster; the class is ``training``.
    """
    import polars as pl

    sheet = open_sheet(path)
    names = sheet.names
    if sorted(names) != sorted(HEADER):
        found = shorten(",".join(names), 100)
        raise fail(
            f"{path}:1",
            f"the columns are {found}, not {','.join(HEADER)}",
            "Read it with format generic and a column mapping.",
        )
    rows = sheet.rows()
    cells = rows.frame.rename({str(i): name for i, name in enumerate(names)})
    frame = cells.select(
        "line",
        datetimes(pl.col("timestamp"), "%Y-%m-%d %H:%M:%S").alias("local"),
        number(pl.col("duration")).alias("duration_s"),
        number(pl.col("num_gpus")).alias("gpus"),
        number(pl.col("gpu_time")).alias("gpu_time_s"),
        pl.col("cluster").alias("tenant"),
        pl.col("timestamp").alias("time:raw"),
        pl.col("duration").alias("duration_s:raw"),
        pl.col("num_gpus").alias("gpus:raw"),
    )
    frame = frame.with_columns(unix_seconds(frame["local"], ZONE).alias("submit_s"))
    odd = frame.filter(is_on(pl.col("local"), shift_days(frame["local"], ZONE)))
    checks = [
        Check("timestamp is not a date and time", "time:raw", pl.col("local").is_null(),
              "Write YYYY-MM-DD HH:MM:SS, local time."),
        Check(f"timestamp never was in {ZONE}", "time:raw", pl.col("submit_s").is_null(),
              "Clocks went forward over it."),
    ]  # fmt: skip
    # to a part in a million, or half a second where the file rounds
    expected = pl.col("duration_s") * pl.col("gpus")
    unlike = (pl.col("gpu_time_s") - expected).abs() > pl.max_horizontal(expected * 1e-6, pl.lit(0.5))
    notes = [
        f"{count:,} {text}"
        for count, text in (
            (_repeats(cells.select(names), frame),
             "rows repeat another row exactly; they are kept as jobs submitted together."),
            (odd.filter(is_repeated(pl.col("local"), ZONE)).height,
             f"timestamps happened twice ({ZONE}, clocks back); read as the first time."),
            (frame.select(unlike.sum()).item(),
             "rows have a gpu_time that is not duration x num_gpus; not used."),
        )
        if count
    ]  # fmt: skip
    return finish(
        Draft(
            path=path,
            format="philly",
            frame=frame,
            checks=checks,
            misfits=rows.misfits,
            fields=len(names),
            epoch=datetime(1970, 1, 1, tzinfo=UTC),
            rebase=True,
            notes=notes,
            constants={"workload_class": "training"},
        ),
        bad_rows,
    )


def _repeats(cells: pl.DataFrame, frame: pl.DataFrame) -> int:
    """How many rows equal an earlier one; *cells* are compared where two begin together and take as long."""
    if all_differ(frame.select("local", "duration_s").hash_rows()):
        return 0
    alike = cells.filter(cells.hash_rows().is_duplicated())
    return alike.height - alike.unique().height
