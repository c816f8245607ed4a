"""Standard Workload Format, versions 2 to 2.2: the logs of the Parallel Workloads Archive.

*Citation.* S. Chapin et al., "Benchmarks and Standards for the Evaluation of Parallel Job Schedulers",
JSSPP 1999; D. Feitelson, D. Tsafrir, D. Krakov, "Experience with using the Parallel Workloads Archive",
JPDC 74(10), 2014. *Licence.* Free use, acknowledging the owner of the log named in its header.

*How to obtain.* cs.huji.ac.il/labs/parallel/workload; plain or gzip. Header lines ``; Key: value``, then 18
blank-separated numbers a job, -1 where unknown. For example NASA-iPSC-1993-3.1-cln.swf.gz has 18,239 jobs.

*What is taken.* A processor stands for a GPU: allocated (field 5), else requested (8). Run time (4) is
``duration_s``, requested time (9) ``estimate_s``, submission plus wait (2, 3) ``start_s``, group (13) the
tenant, user (12) the user, status (11). The epoch is the header's UnixStartTime.

*Known defects.* Logs differ in what they leave unknown; jobs cancelled before they ran have no run time or
processors and are rejected by reason. Status 2, 3 and 4 are parts of a job that has its own line: rejected
too. In NASA-iPSC-1993 the submit times are start times.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleetsim_traces.delimited import split_rows
from fleetsim_traces.rows import BadRows, Check, Draft, finish
from fleetsim_traces.table import MAX_TIME_S, Trace
from fleetsim_traces.text import read_text
from fleetsim_traces.times import number

FIELDS = 18
_NUMBERS = (2, 3, 4, 5, 8, 9, 11, 12, 13)  # the fields that are used
_STATUS = {"0": "failed", "1": "completed", "5": "cancelled"}


def read(path: Path, *, bad_rows: BadRows = "refuse") -> Trace:
    """Read the SWF log at *path* (plain or gzip); raises TraceError for what cannot be used."""
    import polars as pl

    data = read_text(path)
    head = header(data)
    epoch, notes = _epoch(head)
    names = [f"f{i}" for i in range(1, FIELDS + 1)]
    rows = split_rows(path, _squeeze(data), names, separator=" ", quoted=False, comment=";")
    submit_s, wait_s, run_s, allocated, requested, estimate_s = (
        number(pl.col(f"f{i}")) for i in (2, 3, 4, 5, 8, 9)
    )

    def label(field: str, prefix: str) -> pl.Expr:
        return pl.when(~pl.col(field).str.starts_with("-")).then(prefix + pl.col(field))

    frame = rows.frame.with_columns(
        pl.col("f1").alias("job_id"),
        submit_s.alias("submit_s"),
        pl.when(wait_s >= 0).then(submit_s + wait_s).alias("start_s"),
        run_s.alias("duration_s"),
        pl.when(estimate_s > 0).then(estimate_s).alias("estimate_s"),
        pl.when(allocated > 0).then(allocated).otherwise(requested).alias("gpus"),
        label("f13", "group-").fill_null("unknown").alias("tenant"),
        label("f12", "user-").alias("user"),
        pl.col("f11").replace_strict(_STATUS, default=None, return_dtype=pl.String).alias("status"),
        pl.format("{} allocated, {} requested", "f5", "f8").alias("processors"),
    )
    checks = [
        *(Check(f"field {i} is not a number", f"f{i}", number(pl.col(f"f{i}")).is_null()) for i in _NUMBERS),
        Check("part of a job (status 2, 3 or 4)", "f11", pl.col("f11").is_in(["2", "3", "4"]),
              "The job has a line of its own."),
        Check("run time is unknown", "f4", pl.col("duration_s") == -1),
        Check("processors are unknown or not above 0", "processors", pl.col("gpus") <= 0),
    ]  # fmt: skip
    draft = Draft(
        path=path,
        format="swf",
        frame=frame,
        checks=checks,
        misfits=rows.misfits,
        fields=FIELDS,
        epoch=epoch,
        notes=notes,
    )
    return finish(draft, bad_rows)


def header(data: bytes) -> dict[str, str]:
    """The directives ``; Key: value`` before the first job; a key given twice has its values joined."""
    found: dict[str, str] = {}
    for match in re.finditer(rb"[^\n]*\n?", data):
        line = match.group().decode(errors="replace").strip()
        if line and not line.startswith(";"):
            break
        key, colon, value = line.lstrip("; \t").partition(":")
        if colon and key.isidentifier():
            found[key] = f"{found[key]}; {value.strip()}" if key in found else value.strip()
    return found


def _epoch(head: dict[str, str]) -> tuple[datetime | None, list[str]]:
    text = head.get("UnixStartTime")
    about = [f"{key}: {head[key]}." for key in ("Computer", "Acknowledge") if head.get(key)]
    if text is None:
        return None, [*about, "The header gives no UnixStartTime: the date is unknown."]
    try:
        start_s = float(text)
        if not math.isfinite(start_s) or not 0 <= start_s <= MAX_TIME_S:
            raise ValueError
    except ValueError:
        return None, [*about, f"UnixStartTime {text[:40]!r} is not a time: the date is unknown."]
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=start_s), about


def _squeeze(data: bytes) -> bytes:
    """*data* with one blank between fields, none at the ends of lines; lines stay where they are."""
    data = data.replace(b"\t", b" ").replace(b"\r\n", b"\n")
    while b"  " in data:
        data = data.replace(b"    ", b" ").replace(b"  ", b" ")
    data = data.replace(b"\n ", b"\n").replace(b" \n", b"\n")
    return data.strip(b" ")
