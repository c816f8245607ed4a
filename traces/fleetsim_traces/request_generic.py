"""Any CSV or Parquet file of requests, given which of its columns feeds which of the request table's.

::

    arrival_s:     {column: time, zone: UTC}           # timestamps have a zone, numbers a unit
    prompt_tokens: n_in                                # short for {column: n_in}
    output_tokens: {column: n_out, value: 0}           # value where the cell is empty
    service:       {column: model, map: {m1: llama-70b}}
    tenant:        {value: acme}                       # the same for every row
    latency_s:     {column: took, unit: ms}
    separator:     ";"
    epoch:         1970-01-01T00:00:00Z                # zero of numeric times, where known

Without a mapping, columns are taken by name from a file that already uses the request table's names.
Provenance, licence and defects are those of the file: cite its owner.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from fleetsim_traces import mapped
from fleetsim_traces.delimited import Misfit, open_sheet
from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.mapping import OPTIONS, Source, file_options, meant, show
from fleetsim_traces.parquet import is_parquet, open_file, read_table
from fleetsim_traces.request_rows import UNIX, finish
from fleetsim_traces.requests import BY_NAME, RequestTrace
from fleetsim_traces.rows import RAW, BadRows, Check, Draft
from fleetsim_traces.text import fail, shorten
from fleetsim_traces.times import SECONDS, is_zone, zone_hint

if TYPE_CHECKING:
    import polars as pl

REQUIRED = ("arrival_s", "prompt_tokens", "output_tokens")
_KEYS = ("column", "value", "unit", "zone", "map")


@dataclass(frozen=True)
class RequestMap:
    """The mapping; *epoch* is the UTC instant of zero on the clock of numeric times."""

    sources: Mapping[str, Source]
    separator: str = ","
    epoch: datetime | None = None

    @classmethod
    def from_dict(cls, data: object, place: str = "columns") -> RequestMap:
        """Make a mapping from plain data (see the module); raises TraceError listing every problem."""
        if not isinstance(data, Mapping):
            raise fail(
                place, f"must be a mapping, not {show(data)}", "Write `arrival_s: column_name` and so on."
            )
        problems: list[Problem] = []
        sources: dict[str, Source] = {}
        for key, spec in data.items():
            if key in BY_NAME:
                spec = {"column": spec} if isinstance(spec, str) else spec
                found = _problems(f"{place}.{key}", str(key), spec)
                problems += found
                if not found:
                    sources[str(key)] = Source(**spec)
            elif key not in OPTIONS:
                remedy = meant(key, [*BY_NAME, *OPTIONS])
                problems.append(Problem(f"{place}.{key}", "not a column of the request table", remedy))
        separator, epoch = file_options(data, place, problems)
        for name in REQUIRED:
            if name not in data:
                problems.append(Problem(place, f"nothing feeds {name}", f"Add `{name}: source_column`."))
        arrival = sources.get("arrival_s")
        if arrival and arrival.zone and epoch:
            problems.append(Problem(f"{place}.epoch", "times are timestamps", "Leave it out."))
        if problems:
            raise TraceError(problems)
        return cls(sources, separator, epoch)


def _problems(place: str, key: str, spec: object) -> list[Problem]:
    """Everything wrong with the source given for *key*."""
    if not isinstance(spec, Mapping):
        return [Problem(place, f"{show(spec)} is not a column name", "A constant is written {value: ...}.")]
    found = [
        Problem(f"{place}.{unknown}", "unknown key", meant(unknown, list(_KEYS)))
        for unknown in spec
        if unknown not in _KEYS
    ]
    column, value, unit, zone = (spec.get(name) for name in ("column", "value", "unit", "zone"))
    about, names = BY_NAME[key], spec.get("map")
    if column is None and value is None:
        found.append(Problem(place, "neither column nor value", "Give one of them."))
    if column is not None and (not isinstance(column, str) or not column):
        found.append(Problem(f"{place}.column", f"{show(column)} is not a name", "Quote it."))
    if value is not None and key in ("arrival_s", "request_id"):
        found.append(Problem(f"{place}.value", f"{key} cannot be the same for every row", "Give a column."))
    elif value is not None and about.numeric:
        number_like = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not number_like:
            found.append(Problem(f"{place}.value", f"{show(value)} is not a number"))
    elif value is not None and not isinstance(value, str):
        found.append(Problem(f"{place}.value", f"{show(value)} is not text", "Quote it."))
    if unit is not None and (about.unit != "s" or unit not in SECONDS):
        remedy = meant(unit, list(SECONDS)) if about.unit == "s" else "Leave it out."
        found.append(Problem(f"{place}.unit", f"{show(unit)} is not a unit of {key}", remedy))
    if zone is not None and key != "arrival_s":
        found.append(Problem(f"{place}.zone", f"{key} is not a point in time", "Leave it out."))
    elif zone is not None and (not isinstance(zone, str) or not is_zone(zone)):
        found.append(Problem(f"{place}.zone", f"no time zone {show(zone)}", zone_hint(str(zone))))
    elif zone is not None and unit is not None:
        found.append(Problem(f"{place}.zone", "given together with unit", "Timestamps have none."))
    if names is not None and (
        about.numeric or not isinstance(names, Mapping) or not all(isinstance(v, str) for v in names.values())
    ):
        found.append(Problem(f"{place}.map", f"{show(names)} cannot rename {key}", "Write {SOURCE: ours}."))
    return found


def read(
    path: Path,
    *,
    columns: RequestMap | None = None,
    bad_rows: BadRows = "refuse",
) -> RequestTrace:
    """Read the CSV or Parquet file at *path*; ``request_id`` is the line where the mapping gives none."""
    import polars as pl

    names, cells, columns, misfits = _parquet(path, columns) if is_parquet(path) else _csv(path, columns)
    made: list[pl.Expr] = [pl.col("line")]
    checks: list[Check] = []
    stamped = False
    for name, spec in columns.sources.items():
        about = BY_NAME[name]
        if spec.column is None:
            made.append(pl.lit(spec.value, dtype=pl.Float64 if about.numeric else pl.String).alias(name))
            continue
        key = str(names.index(spec.column))
        cell, kind = pl.col(key), cells.schema[key]
        text = cell.cast(pl.String).fill_null("")
        if name == "arrival_s" and (spec.zone or isinstance(kind, pl.Datetime)):
            stamped = True
            if isinstance(kind, pl.Datetime) and kind.time_zone is None and spec.zone is None:
                raise fail(path, f"column {shorten(spec.column)} has no zone", "Add `zone:` to arrival_s.")
            made += [mapped.timestamp(cell, kind, spec).alias(name), text.alias(name + RAW)]
            was = f" that was in {spec.zone}" if spec.zone else ""
            unread = pl.col(name).is_null() & (pl.col(name + RAW).str.strip_chars() != "")
            remedy = "Write ISO 8601, such as 2024-05-10T00:00:00Z."
            checks.append(Check(f"{name} is not a timestamp{was}", name + RAW, unread, remedy))
        elif about.numeric:
            value = mapped.quantity(cell, kind, spec, SECONDS.get(spec.unit or "", Fraction(1)))
            made += [value.alias(name), text.alias(name + RAW)]
        else:
            made.append(mapped.name(text, spec).alias(name))
    if stamped and columns.epoch:
        raise fail(path, "an epoch, but times are timestamps", "Leave `epoch:` out.")
    return finish(
        Draft(
            path=path,
            format="generic",
            frame=cells.select(made),
            checks=checks,
            misfits=misfits,
            fields=len(names),
            rebase=True,
            epoch=UNIX if stamped else columns.epoch,
        ),
        bad_rows,
    )


Input = tuple[list[str], "pl.DataFrame", RequestMap, list[Misfit]]


def _csv(path: Path, columns: RequestMap | None) -> Input:
    sheet = open_sheet(path, separator=columns.separator if columns else ",")
    names = sheet.names
    columns = columns or _by_name(f"{path}:1", names)
    _require(f"{path}:1", columns, names)
    rows = sheet.rows([spec.column for spec in columns.sources.values() if spec.column is not None])
    return names, rows.frame, columns, rows.misfits


def _parquet(path: Path, columns: RequestMap | None) -> Input:
    import polars as pl

    with open_file(path) as file:
        names = file.schema_arrow.names
        columns = columns or _by_name(str(path), names)
        _require(str(path), columns, names)
        wanted = list(dict.fromkeys(s.column for s in columns.sources.values() if s.column is not None))
        cells = pl.DataFrame(pl.from_arrow(read_table(path, file, wanted)))
    for name, kind in cells.schema.items():
        if not (kind.is_numeric() or kind in (pl.String, pl.Categorical) or isinstance(kind, pl.Datetime)):
            raise fail(
                path, f"column {shorten(name)} holds {kind}", "Numbers, text and timestamps can be read."
            )
    return wanted, mapped.numbered(cells), columns, []


def _by_name(place: str, names: list[str]) -> RequestMap:
    """The mapping of a file that uses the request table's own names."""
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise fail(
            place,
            f"the columns are {shorten(', '.join(names), 200)}: none is called {' or '.join(missing)}",
            "Say which column feeds which with a mapping (`--columns MAPPING.yaml`).",
        )
    return RequestMap.from_dict({name: name for name in names if name in BY_NAME})


def _require(place: str, columns: RequestMap, present: list[str]) -> None:
    """Raise TraceError unless every column of the mapping is there, once."""
    problems = [
        Problem(place, f"no column {shorten(spec.column)} (for {name})", meant(spec.column, present))
        if spec.column not in present
        else Problem(place, f"two columns are called {shorten(spec.column)}", "Rename one.")
        for name, spec in columns.sources.items()
        if spec.column is not None and present.count(spec.column) != 1
    ]
    if problems:
        raise TraceError(problems)
