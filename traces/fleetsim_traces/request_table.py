"""The request table itself, as :func:`fleetsim_traces.requests.write_requests` writes it.

Its metadata says where the rows first came from; it is checked like any other source.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.jobs import _instant, _is_same, _list
from fleetsim_traces.parquet import open_file, read_table
from fleetsim_traces.request_rows import finish, is_silent_note
from fleetsim_traces.requests import COLUMNS, PREFIX, VERSION, VERSION_KEY, RequestTrace, request_schema
from fleetsim_traces.rows import BadRows, Check, Draft
from fleetsim_traces.table import MAX_TIME_S, trace_facts
from fleetsim_traces.text import fail, shorten

if TYPE_CHECKING:
    import pyarrow.parquet as pq


def read(path: Path, *, bad_rows: BadRows = "refuse") -> RequestTrace:
    """Read the request table at *path*.

    Raises TraceError for another file, another schema version, columns of another type, and for rows that
    break the table's promises.
    """
    import polars as pl

    with open_file(path) as file:
        _require_table(path, file)
        names = [c.name for c in COLUMNS]
        frame = pl.DataFrame(pl.from_arrow(read_table(path, file, [*names, PREFIX])))
        facts = trace_facts(file.schema_arrow.metadata)
    frame = frame.select(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("line"),
        *(pl.col(c.name).cast(pl.Float64 if c.numeric else pl.String) for c in COLUMNS),
        pl.col(PREFIX),
    )
    notes = [n for n in _list(facts.get("notes")) if isinstance(n, str) and not is_silent_note(n)]
    dropped = facts.get("rejected")
    if isinstance(dropped, dict) and dropped:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped.items())
        notes.append(f"Rows left out when it was first read: {reasons}.")
    origin, zero_s = facts.get("format"), facts.get("zero_s")
    known = isinstance(zero_s, (int, float)) and abs(zero_s) <= MAX_TIME_S
    return finish(
        Draft(
            path=path,
            format=origin if isinstance(origin, str) else "requests",
            frame=frame,
            checks=[
                Check(
                    f"{PREFIX} has an empty place",
                    "request_id",
                    pl.col(PREFIX).list.eval(pl.element().is_null()).list.any(),
                )
            ],
            epoch=_instant(facts.get("epoch")),
            notes=notes,
            generated=facts.get("generated") is True,
        ),
        bad_rows,
        tokens=False,
        zero_s=float(zero_s) if known else 0.0,  # type: ignore[arg-type]
    )


def _require_table(path: Path, file: pq.ParquetFile) -> None:
    """Raise TraceError unless *file* is a request table of this version."""
    found = file.schema_arrow
    version = (found.metadata or {}).get(VERSION_KEY)
    if version is None:
        raise fail(path, "Parquet, but not a request table", "Read it with a column mapping.")
    if version != VERSION.encode():
        text = shorten(version.decode(errors="replace"))
        raise fail(path, f"request table version {text}, not {VERSION}", "Write it again with this fleetsim.")
    target = request_schema()
    problems = [
        Problem(str(path), f"column {field.name} is {found.field(field.name).type}, not {field.type}")
        if field.name in found.names
        else Problem(str(path), f"no column {field.name}")
        for field in target
        if found.names.count(field.name) != 1 or not _is_same(found.field(field.name).type, field.type)
    ]
    problems += [
        Problem(str(path), f"column {shorten(name)} is not of the request table")
        for name in sorted(set(found.names) - set(target.names))
    ]
    if problems:
        raise TraceError(problems)
