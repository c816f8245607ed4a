"""One door to every format of requests: :func:`read_requests`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from fleetsim_traces.doors import choice, guarded, is_number, parquet_schema, peek, require_format
from fleetsim_traces.request_generic import REQUIRED, RequestMap
from fleetsim_traces.requests import VERSION_KEY, RequestTrace
from fleetsim_traces.text import fail, require_file


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
    options: dict[str, Any] = {"bad_rows": choice(bad_rows)}
    require_format(format, REQUEST_READERS)
    if format == "auto":
        format = "generic" if columns is not None else require_requests(path)  # noqa: A001
    if format == "generic":
        is_map = columns is None or isinstance(columns, RequestMap)
        options["columns"] = columns if is_map else RequestMap.from_dict(columns)
    elif columns is not None:
        raise fail("columns", f"format {format} has columns of its own", "Leave the mapping out.")
    return guarded(REQUEST_READERS[format].read, path, options)


def require_requests(path: Path) -> str:
    """As :func:`detect_requests`, but raises TraceError where it finds none."""
    found = detect_requests(path)
    if found is None:
        require_file(path)
        formats = "; ".join(f"{name}: {known.about}" for name, known in REQUEST_READERS.items())
        raise fail(path, "not a format of requests that fleetsim knows", f"It knows {formats}.")
    return found


def detect_requests(path: str | Path) -> str | None:
    """The request format of *path*, told from its content and never from its name; None if it is none.

    Raises TraceError where the file cannot be read at all.
    """
    path = Path(path)
    if path.is_dir():
        return "servegen" if next(path.glob("chunk-*-trace.csv"), None) else None
    if (schema := parquet_schema(path)) is not None:
        columns, metadata = schema
        return "requests" if VERSION_KEY in metadata else "generic" if set(REQUIRED) <= columns else None
    _, line = peek(path)
    if line.startswith("{"):
        return "mooncake" if all(f'"{key}"' in line for key in mooncake.KEYS) else None
    names = [name.strip().strip('"') for name in line.split(",")]
    for form, (required, optional) in _HEADERS.items():
        if set(required) <= set(names) <= {*required, *optional}:
            return form
    if set(REQUIRED) <= set(names):
        return "generic"
    if len(names) == len(servegen.COLUMNS) and names[3] in ("", *servegen.PATTERNS):
        return "servegen" if all(map(is_number, names[:3] + names[4:])) else None
    return None
