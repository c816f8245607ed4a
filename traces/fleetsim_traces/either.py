"""Which table a file becomes, jobs or requests, and reading it as that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fleetsim_traces.doors import require_format
from fleetsim_traces.mapping import ColumnMap, load_columns
from fleetsim_traces.reading import READERS, detect, options_of, read_trace
from fleetsim_traces.request_generic import RequestMap
from fleetsim_traces.request_reading import REQUEST_READERS, detect_requests, read_requests
from fleetsim_traces.requests import RequestTrace
from fleetsim_traces.table import Trace
from fleetsim_traces.text import fail
from fleetsim_traces.times import is_zone, zone_hint

Kind = Literal["jobs", "requests"]
AnyMap = ColumnMap | RequestMap


@dataclass(frozen=True)
class Found:
    """A file and how to read it; *zone* is that of its local times, where its format has such an option."""

    path: Path
    kind: Kind
    format: str
    columns: AnyMap | None = None
    zone: str | None = None

    def read(self, bad_rows: str = "refuse") -> Trace | RequestTrace:
        """All of it; raises TraceError listing every problem found."""
        if self.kind == "jobs":
            columns = self.columns if isinstance(self.columns, ColumnMap) else None
            options = {} if self.zone is None else {"zone": self.zone}
            return read_trace(self.path, self.format, columns=columns, bad_rows=bad_rows, **options)
        mapping = self.columns if isinstance(self.columns, RequestMap) else None
        return read_requests(self.path, self.format, columns=mapping, bad_rows=bad_rows)


def find(path: str | Path, format: str = "auto", columns: AnyMap | None = None) -> Found:  # noqa: A002
    """How to read *path*: a name in READERS or REQUEST_READERS, or ``auto`` to look at the content.

    A mapping says by its columns which table it feeds. Raises TraceError where nothing reads the file.
    """
    path = Path(path)
    require_format(format, {**READERS, **REQUEST_READERS})
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


def zoned(found: Found, zone: str, *, needed: bool = True) -> Found:
    """*found* with its local times read as those of *zone*.

    Raises TraceError for a word that is no zone and, if *needed*, for a format without that option.
    """
    if not is_zone(zone):
        raise fail("zone", f"no time zone {zone!r}", zone_hint(zone))
    if found.kind == "jobs" and "zone" in options_of(found.format):
        return replace(found, zone=zone)
    if needed:
        mapped = found.format == "generic"
        remedy = "Say it in the mapping, as `zone:` of a column." if mapped else "Leave it out."
        raise fail("zone", f"format {found.format} has no such option", remedy)
    return found


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
