"""One door to every format of requests: :func:`read_requests`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fleetsim_traces import (
    arena,
    azure_llm,
    burstgpt,
    gentd_requests,
    mooncake,
    request_generic,
    request_table,
    servegen,
    splitwise,
)
from fleetsim_traces.errors import TraceError
from fleetsim_traces.parquet import is_parquet
from fleetsim_traces.request_generic import REQUIRED, RequestMap
from fleetsim_traces.requests import VERSION_KEY, RequestTrace
from fleetsim_traces.rows import BadRows
from fleetsim_traces.text import check_text, fail, read_bytes, require_file

_PEEK_BYTES = 1 << 16


@dataclass(frozen=True)
class RequestFormat:
    """A reader and what it reads, in a line.

    A *rowwise* format is the same read in pieces, *header* says that its first line names the columns,
    *own_ids* that the source has identities of requests (otherwise they are lines).
    """

    read: Callable[..., RequestTrace]
    about: str
    rowwise: bool = True
    header: bool = True
    own_ids: bool = False


REQUEST_READERS: Mapping[str, RequestFormat] = {
    "requests": RequestFormat(
        request_table.read, "request table in Parquet, as fleetsim writes it", rowwise=False
    ),
    "azure-llm": RequestFormat(azure_llm.read, "Azure LLM inference 2023 and 2024"),
    "mooncake": RequestFormat(mooncake.read, "Mooncake, JSON lines with prefix hashes", header=False),
    "burstgpt": RequestFormat(burstgpt.read, "BurstGPT, releases 1 and 2"),
    "servegen": RequestFormat(
        servegen.read, "ServeGen client pool (a folder), requests drawn", rowwise=False
    ),
    "arena": RequestFormat(arena.read, "chatbot-arena load of VTC, as CSV", own_ids=True),
    "gentd-requests": RequestFormat(gentd_requests.read, "Alibaba GenTD26, image requests"),
    "splitwise": RequestFormat(splitwise.read, "request files of splitwise-sim", own_ids=True),
    "generic": RequestFormat(request_generic.read, "any CSV or Parquet file, with a column mapping"),
}
_HEADERS = {
    "azure-llm": (azure_llm.HEADER, ()),
    "burstgpt": (burstgpt.HEADER, burstgpt.LATER),
    "arena": (arena.HEADER, ()),
    "gentd-requests": (gentd_requests.HEADER, ()),
    "splitwise": (splitwise.HEADER, splitwise.MORE),
}


def read_requests(
    path: str | Path,
    format: str = "auto",  # noqa: A002  the word users know
    *,
    columns: RequestMap | Mapping[str, Any] | None = None,
    bad_rows: str = "refuse",
) -> RequestTrace:
    """Read the requests at *path* into the request table; arguments are those of ``read_trace``.

    *format* is a name in :data:`REQUEST_READERS`, or ``auto`` to look at the content. Raises TraceError
    listing every problem found.
    """
    path = Path(path)
    if bad_rows not in ("refuse", "drop"):
        raise fail("bad_rows", f"{bad_rows!r} is neither refuse nor drop")
    if format == "auto":
        format = "generic" if columns is not None else require_requests(path)  # noqa: A001
    if format not in REQUEST_READERS:
        near = get_close_matches(format, REQUEST_READERS, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise fail("format", f"no format {format!r}", f"{hint}There are auto, {', '.join(REQUEST_READERS)}.")
    choice: BadRows = "drop" if bad_rows == "drop" else "refuse"
    options: dict[str, Any] = {"bad_rows": choice}
    if format == "generic":
        is_map = columns is None or isinstance(columns, RequestMap)
        options["columns"] = columns if is_map else RequestMap.from_dict(columns)
    elif columns is not None:
        raise fail("columns", f"format {format} has columns of its own", "Leave the mapping out.")
    return _guarded(REQUEST_READERS[format].read, path, options)


def _guarded(read: Callable[..., RequestTrace], path: Path, options: dict[str, Any]) -> RequestTrace:
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


def require_requests(path: Path) -> str:
    """As :func:`detect_requests`, but raises TraceError where it finds none."""
    found = detect_requests(path)
    if found is None:
        formats = "; ".join(f"{name}: {known.about}" for name, known in REQUEST_READERS.items())
        raise fail(path, "not a format of requests that fleetsim knows", f"It knows {formats}.")
    return found


def detect_requests(path: str | Path) -> str | None:
    """The request format of *path*, told from its content and never from its name; None if it is none.

    Raises TraceError where the file cannot be read at all.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if path.is_dir() and next(path.glob("chunk-*-trace.csv"), None):
        return "servegen"
    if is_parquet(path):
        try:
            found = pq.read_schema(path)
        except (pa.ArrowException, OSError, ValueError):
            return None
        if VERSION_KEY in (found.metadata or {}):
            return "requests"
        return "generic" if set(REQUIRED) <= set(found.names) else None
    require_file(path)
    head = read_bytes(path, _PEEK_BYTES)
    check_text(path, head, final=False)
    text = head.decode("utf-8-sig", errors="replace")
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if line.startswith("{"):
        return "mooncake" if all(f'"{key}"' in line for key in mooncake.KEYS) else None
    names = [name.strip().strip('"') for name in line.split(",")]
    for form, (required, optional) in _HEADERS.items():
        if set(required) <= set(names) <= {*required, *optional}:
            return form
    if set(REQUIRED) <= set(names):
        return "generic"
    if len(names) == len(servegen.COLUMNS) and names[3] in ("", *servegen.PATTERNS):
        return "servegen" if all(map(_is_number, names[:3] + names[4:])) else None
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
