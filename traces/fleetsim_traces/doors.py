"""What the doors to jobs, requests, nodes and states share: a look at a file, and a guarded call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from fleetsim_traces.errors import TraceError
from fleetsim_traces.parquet import is_parquet
from fleetsim_traces.rows import BadRows
from fleetsim_traces.text import check_text, fail, read_bytes

T = TypeVar("T")
_PEEK_BYTES = 1 << 16


def require_format(name: str, formats: Mapping[str, object]) -> None:
    """Raise TraceError unless *name* is ``auto`` or one of *formats*."""
    if name != "auto" and name not in formats:
        near = get_close_matches(name, formats, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise fail("format", f"no format {name!r}", f"{hint}There are auto, {', '.join(formats)}.")


def choice(bad_rows: str) -> BadRows:
    """*bad_rows* as the readers take it; raises TraceError for another word."""
    if bad_rows not in ("refuse", "drop"):
        raise fail("bad_rows", f"{bad_rows!r} is neither refuse nor drop")
    return "drop" if bad_rows == "drop" else "refuse"


def guarded(read: Callable[..., T], path: Path, options: Mapping[str, Any]) -> T:
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


def parquet_schema(path: Path) -> tuple[set[str], Mapping[bytes, bytes]] | None:
    """Column names and metadata of a Parquet file; nothing in them where it is damaged, None for another."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not is_parquet(path):
        return None
    try:
        found = pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError):
        return set(), {}
    return set(found.names), found.metadata or {}


def peek(path: Path) -> tuple[str, str]:
    """The beginning of a text file, plain or packed, and its first line with something in it."""
    head = read_bytes(path, _PEEK_BYTES)
    check_text(path, head, final=False)
    text = head.decode("utf-8-sig", errors="replace")
    return text, next((line.strip() for line in text.splitlines() if line.strip()), "")


def by_header(line: str, headers: Mapping[str, tuple[tuple[str, ...], str]]) -> str:
    """The format with the most column names of those whose names are all in *line*; empty where none is."""
    fits = {
        name: len(header)
        for name, (header, separator) in headers.items()
        if header and set(header) <= {cell.strip().strip('"') for cell in line.split(separator)}
    }
    return max(fits, key=lambda name: fits[name], default="")


def is_number(text: str) -> bool:
    """True for what ``float`` takes."""
    try:
        float(text)
    except ValueError:
        return False
    return True
