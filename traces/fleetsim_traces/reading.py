"""One door to every format: :func:`read_trace`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fleetsim_traces import generic, jobs, philly, swf
from fleetsim_traces.errors import TraceError
from fleetsim_traces.mapping import ColumnMap
from fleetsim_traces.parquet import is_parquet
from fleetsim_traces.rows import BadRows
from fleetsim_traces.table import VERSION_KEY, Trace
from fleetsim_traces.text import check_text, fail, read_bytes

_PEEK_BYTES = 1 << 16


@dataclass(frozen=True)
class Format:
    """A reader and what it reads, in a line."""

    read: Callable[..., Trace]
    about: str


READERS: Mapping[str, Format] = {
    "jobs": Format(jobs.read, "job table in Parquet, as fleetsim writes it"),
    "philly": Format(philly.read, "Microsoft Philly 2017, flattened CSV"),
    "swf": Format(swf.read, "Standard Workload Format, Parallel Workloads Archive"),
    "generic": Format(generic.read, "any CSV or Parquet file, with a column mapping"),
}


def read_trace(
    path: str | Path,
    format: str = "auto",  # noqa: A002  the word users know
    *,
    columns: ColumnMap | Mapping[str, Any] | None = None,
    bad_rows: str = "refuse",
) -> Trace:
    """Read the workload at *path* into the job table.

    *format* is a name in :data:`READERS`, or ``auto`` to look at the content. *columns* maps the columns of
    a ``generic`` file. *bad_rows* says what to do with rows at fault: ``refuse`` the trace, or ``drop`` them
    and count them in ``Trace.rejected``. Plain and gzip files are told apart by content.

    Raises TraceError listing every problem found.
    """
    path = Path(path)
    if bad_rows not in ("refuse", "drop"):
        raise fail("bad_rows", f"{bad_rows!r} is neither refuse nor drop")
    if format != "auto" and format not in READERS:
        near = get_close_matches(format, READERS, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise fail("format", f"no format {format!r}", f"{hint}There are auto, {', '.join(READERS)}.")
    if format == "auto":
        return read_trace(
            path, "generic" if columns is not None else detect(path), columns=columns, bad_rows=bad_rows
        )
    choice: BadRows = "drop" if bad_rows == "drop" else "refuse"
    options: dict[str, Any] = {"bad_rows": choice}
    if format == "generic":
        options["columns"] = columns if isinstance(columns, ColumnMap) or columns is None else _map(columns)
    elif columns is not None:
        raise fail(
            "columns", f"format {format} has columns of its own", "Leave the mapping out, or use generic."
        )
    return _guarded(READERS[format].read, path, options)


def _map(columns: Mapping[str, Any]) -> ColumnMap:
    return ColumnMap.from_dict(columns)


def _guarded(read: Callable[..., Trace], path: Path, options: dict[str, Any]) -> Trace:
    """Call a reader; what the table libraries still object to becomes a TraceError."""
    import polars as pl
    import pyarrow as pa

    try:
        return read(path, **options)
    except TraceError:
        raise
    except MemoryError:
        raise fail(path, "too large for this machine's memory", "Split it.") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise fail(path, f"cannot be read: {reason[:200]}") from None


def detect(path: str | Path) -> str:
    """The format of *path*, told from its content and never from its name.

    Raises TraceError where it is no trace that fleetsim knows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if is_parquet(path):
        try:
            metadata = pq.read_schema(path).metadata or {}
        except (pa.ArrowException, OSError, ValueError):
            return "jobs"  # its reader says what is damaged
        return "jobs" if VERSION_KEY in metadata else "generic"
    head = read_bytes(path, _PEEK_BYTES)
    check_text(path, head, final=False)
    text = head.decode("utf-8-sig", errors="replace")
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if not line:
        raise fail(path, "empty file", "Fetch it again: a trace has at least one job.")
    if line.startswith(";") or (len(line.split()) == swf.FIELDS and _is_number(line.split()[0])):
        return "swf"
    names = [name.strip().strip('"') for name in line.split(",")]
    if sorted(names) == sorted(philly.HEADER):
        return "philly"
    if len(names) > 1 or any(separator in line for separator in ";\t|"):
        return "generic"
    formats = "; ".join(f"{name}: {known.about}" for name, known in READERS.items())
    raise fail(path, "not a format that fleetsim knows", f"It knows {formats}.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
