"""Which table a file becomes, jobs or requests, and reading it as that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from fleetsim_traces.mapping import ColumnMap, load_columns
from fleetsim_traces.reading import READERS, detect, read_trace
from fleetsim_traces.request_generic import RequestMap
from fleetsim_traces.request_reading import REQUEST_READERS, detect_requests, read_requests
from fleetsim_traces.requests import RequestTrace
from fleetsim_traces.table import Trace
from fleetsim_traces.text import fail

Kind = Literal["jobs", "requests"]
AnyMap = ColumnMap | RequestMap


@dataclass(frozen=True)
class Found:
    """A file and how to read it."""

    path: Path
    kind: Kind
    format: str
    columns: AnyMap | None = None

    def read(self, bad_rows: str = "refuse") -> Trace | RequestTrace:
        """All of it; raises TraceError listing every problem found."""
        if self.kind == "jobs":
            columns = self.columns if isinstance(self.columns, ColumnMap) else None
            return read_trace(self.path, self.format, columns=columns, bad_rows=bad_rows)
        mapping = self.columns if isinstance(self.columns, RequestMap) else None
        return read_requests(self.path, self.format, columns=mapping, bad_rows=bad_rows)


def find(path: str | Path, format: str = "auto", columns: AnyMap | None = None) -> Found:  # noqa: A002
    """How to read *path*: a name in READERS or REQUEST_READERS, or ``auto`` to look at the content.

    A mapping says by its columns which table it feeds. Raises TraceError where nothing reads the file.
    """
    path = Path(path)
    names = {**READERS, **REQUEST_READERS}
    if format != "auto" and format not in names:
        near = get_close_matches(format, names, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise fail("format", f"no format {format!r}", f"{hint}There are auto, {', '.join(names)}.")
    if columns is not None:
        kind: Kind = "requests" if isinstance(columns, RequestMap) else "jobs"
        if format not in ("auto", "generic"):
            raise fail("columns", f"format {format} has columns of its own", "Leave the mapping out.")
        return Found(path, kind, "generic", columns)
    if format == "generic":
        return Found(path, "requests" if detect_requests(path) == format else "jobs", format)
    if format in REQUEST_READERS:
        return Found(path, "requests", format)
    if format != "auto":
        return Found(path, "jobs", format)
    if (found := detect_requests(path)) is not None:
        return Found(path, "requests", found)
    return Found(path, "jobs", detect(path))


def load_mapping(path: str | Path) -> AnyMap:
    """Read a column mapping from YAML: one with ``arrival_s`` is of requests, any other of jobs."""
    import yaml

    path = Path(path)
    data: Any = None
    if path.is_file() and path.stat().st_size <= 1 << 20:
        try:
            data = yaml.safe_load(path.read_bytes())
        except (yaml.YAMLError, RecursionError, ValueError):
            data = None  # reported below
    if isinstance(data, Mapping) and "arrival_s" in data and "submit_s" not in data:
        return RequestMap.from_dict(data, str(path))
    return load_columns(path)
