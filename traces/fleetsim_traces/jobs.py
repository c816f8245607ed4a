"""The job table itself, as :func:`fleetsim_traces.table.write_jobs` writes it.

Its metadata says where the rows first came from: format, epoch, notes and whether they are generated are
those of the trace that was written. ``source`` is the Parquet file.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.parquet import open_file, read_table
from fleetsim_traces.rows import BadRows, Draft, finish
from fleetsim_traces.table import COLUMNS, VERSION, VERSION_KEY, Trace, schema, trace_facts
from fleetsim_traces.text import fail, shorten

if TYPE_CHECKING:
    import pyarrow.parquet as pq


def read(path: Path, *, bad_rows: BadRows = "refuse") -> Trace:
    """Read the job table at *path*.

    Raises TraceError for another file, another schema version, columns of another type, and for rows that
    break the table's promises: it is checked like any other source.
    """
    with open_file(path) as file:
        return _read(path, file, bad_rows)


def _read(path: Path, file: pq.ParquetFile, bad_rows: BadRows) -> Trace:
    import polars as pl

    found = file.schema_arrow
    version = (found.metadata or {}).get(VERSION_KEY)
    if version is None:
        raise fail(path, "Parquet, but not a job table", "Read it with format generic and a column mapping.")
    if version != VERSION.encode():
        text = shorten(version.decode(errors="replace"))
        raise fail(path, f"job table version {text}, not {VERSION}", "Write it again with this fleetsim.")
    target = schema()
    problems = [
        Problem(str(path), f"column {field.name} is {found.field(field.name).type}, not {field.type}")
        if field.name in found.names
        else Problem(str(path), f"no column {field.name}")
        for field in target
        if found.names.count(field.name) != 1 or not _is_same(found.field(field.name).type, field.type)
    ]
    problems += [
        Problem(str(path), f"column {shorten(name)} is not of the job table")
        for name in sorted(set(found.names) - set(target.names))
    ]
    if problems:
        raise TraceError(problems)
    frame = pl.DataFrame(pl.from_arrow(read_table(path, file, target.names))).select(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("line"),
        *(pl.col(c.name).cast(pl.Float64 if c.numeric else pl.String) for c in COLUMNS),
    )
    facts = trace_facts(found.metadata)
    dropped = facts.get("rejected")
    notes = [note for note in _list(facts.get("notes")) if isinstance(note, str)]
    if isinstance(dropped, dict) and dropped:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped.items())
        notes.append(f"Rows left out when it was first read: {reasons}.")
    origin = facts.get("format")
    draft = Draft(
        path=path,
        format=origin if isinstance(origin, str) else "jobs",
        frame=frame,
        epoch=_instant(facts.get("epoch")),
        notes=notes,
        generated=facts.get("generated") is True,
    )
    return finish(draft, bad_rows)


def _is_same(found: Any, wanted: Any) -> bool:
    """Equal types; text may or may not be dictionary-encoded, for that is how the file was opened."""
    import pyarrow as pa

    plain = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in (found, wanted)]
    return bool(plain[0] == plain[1])


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _instant(value: object) -> datetime | None:
    """An ISO instant with its offset; None for anything else: metadata is untrusted too."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return moment.astimezone(UTC) if moment and moment.tzinfo else None
    except (OverflowError, ValueError):
        return None
