"""The job table itself, as :func:`fleetsim_traces.table.write_jobs` writes it.

Its metadata says where the rows first came from: format, epoch, notes and whether they are generated are
those of the trace that was written. ``source`` is the Parquet file.
"""

from __future__ import annotations

from pathlib import Path

from fleetsim_traces.parquet import open_file, read_table
from fleetsim_traces.rows import BadRows, Draft, finish
from fleetsim_traces.stored import origin, require_table
from fleetsim_traces.table import BY_NAME, LATER, VERSION, VERSION_KEY, Trace, schema


def read(path: Path, *, bad_rows: BadRows = "refuse") -> Trace:
    """Read the job table at *path*.

    Raises TraceError for another file, another schema version, columns of another type, and for rows that
    break the table's promises: it is checked like any other source.
    """
    import polars as pl

    with open_file(path) as file:
        found, target = file.schema_arrow, schema()
        require_table(path, found, target, VERSION_KEY, VERSION, "job table", LATER)
        names = [name for name in target.names if name in found.names]
        cells = pl.DataFrame(pl.from_arrow(read_table(path, file, names)))
    first = origin(found.metadata)
    draft = Draft(
        path=path,
        format=first.format or "jobs",
        frame=cells.select(
            pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("line"),
            *(pl.col(name).cast(pl.Float64 if BY_NAME[name].numeric else pl.String) for name in names),
        ),
        epoch=first.epoch,
        notes=first.notes,
        generated=first.generated,
    )
    return finish(draft, bad_rows)
