"""The request table itself, as :func:`fleetsim_traces.requests.write_requests` writes it.

Its metadata says where the rows first came from; it is checked like any other source.
"""

from __future__ import annotations

from pathlib import Path

from fleetsim_traces.parquet import open_file, read_table
from fleetsim_traces.request_rows import finish, is_silent_note
from fleetsim_traces.requests import COLUMNS, PREFIX, VERSION, VERSION_KEY, RequestTrace, request_schema
from fleetsim_traces.rows import BadRows, Check, Draft
from fleetsim_traces.stored import origin, require_table
from fleetsim_traces.table import MAX_TIME_S


def read(path: Path, *, bad_rows: BadRows = "refuse") -> RequestTrace:
    """Read the request table at *path*.

    Raises TraceError for another file, another schema version, columns of another type, and for rows that
    break the table's promises.
    """
    import polars as pl

    with open_file(path) as file:
        found, target = file.schema_arrow, request_schema()
        require_table(path, found, target, VERSION_KEY, VERSION, "request table")
        cells = pl.DataFrame(pl.from_arrow(read_table(path, file, target.names)))
    first = origin(found.metadata)
    hole = pl.col(PREFIX).list.eval(pl.element().is_null()).list.any()
    zero_s = first.zero_s or 0.0
    return finish(
        Draft(
            path=path,
            format=first.format or "requests",
            frame=cells.select(
                pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("line"),
                *(pl.col(c.name).cast(pl.Float64 if c.numeric else pl.String) for c in COLUMNS),
                PREFIX,
            ),
            checks=[Check(f"{PREFIX} has an empty place", "request_id", hole)],
            epoch=first.epoch,
            notes=[note for note in first.notes if not is_silent_note(note)],
            generated=first.generated,
        ),
        bad_rows,
        tokens=False,
        zero_s=zero_s if abs(zero_s) <= MAX_TIME_S else 0.0,
    )
