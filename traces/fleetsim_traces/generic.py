"""Any CSV (plain or gzip) or Parquet file, given which of its columns feeds which of the job table's.

The mapping is :class:`~fleetsim_traces.mapping.ColumnMap`. Without one, columns are taken by name from a file
that already uses the job table's names. The earliest usable submission becomes ``submit_s = 0``; the epoch
is known for timestamps, and for numbers where the mapping says what their zero is.

Provenance, licence and defects are those of the file: cite its owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from fleetsim_traces import mapped
from fleetsim_traces.delimited import Misfit, open_sheet
from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.mapping import END, INSTANTS, REQUIRED, UNITS, ColumnMap, Source, absent_columns
from fleetsim_traces.parquet import is_parquet, open_file, read_table
from fleetsim_traces.rows import RAW, BadRows, Check, Draft, finish
from fleetsim_traces.table import BY_NAME, Trace
from fleetsim_traces.text import shorten

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class _Input:
    """A file as read: *cells* under the names ``0``, ``1``, ... in the order of *names*, and ``line``."""

    path: Path
    place: str  # of the header
    names: list[str]
    cells: pl.DataFrame
    columns: ColumnMap
    misfits: list[Misfit]

    def cell(self, spec: Source) -> tuple[pl.Expr, pl.DataType]:
        """The column that *spec* names, and its type."""
        import polars as pl

        key = str(self.names.index(spec.column or ""))
        return pl.col(key), self.cells.schema[key]


def read(path: Path, *, columns: ColumnMap | None = None, bad_rows: BadRows = "refuse") -> Trace:
    """Read the CSV or Parquet file at *path*; raises TraceError for what cannot be used.

    ``job_id`` is the line (Parquet: the row) where the mapping gives none.
    """
    import polars as pl

    given = _load_parquet(path, columns) if is_parquet(path) else _load_csv(path, columns)
    sources = given.columns.sources
    stamped = _require_types(given)

    made: list[pl.Expr] = [pl.col("line")]
    gaps: dict[str, Check] = {}  # what a null in a column may mean
    for name, spec in sources.items():
        if spec.column is None:
            made.append(pl.lit(spec.value).alias(name))
            continue
        cell, kind = given.cell(spec)
        factor = UNITS.get(name, {}).get(spec.unit or "", Fraction(1))
        made.append(cell.cast(pl.String).fill_null("").alias(name + RAW))
        unread = pl.col(name).is_null() & (pl.col(name + RAW).str.strip_chars() != "")
        if name in stamped:
            made.append(mapped.timestamp(cell, kind, spec).alias(name))
            was = f" that was in {spec.zone}" if spec.zone else ""
            form = spec.format or "ISO 8601, such as 2017-10-03T04:11:39Z"
            gaps[name] = Check(f"{name} is not a timestamp{was}", name + RAW, unread, f"Write {form}.")
        elif name in INSTANTS:
            made.append(mapped.quantity(cell, kind, spec, factor).alias(name))
            remedy = "Timestamps need `zone:` in the mapping."
            gaps[name] = Check(f"{name} is not a number", name + RAW, unread, remedy)
        elif BY_NAME[name].numeric:
            made.append(mapped.quantity(cell, kind, spec, factor).alias(name))
        else:
            made.append(mapped.name(cell.cast(pl.String), spec).alias(name))
    frame = given.cells.select(made)
    checks = [check for name, check in gaps.items() if frame[name].null_count()]
    if END in sources:
        frame = frame.with_columns((pl.col(END) - pl.col("start_s")).round(6).alias("duration_s"))
        checks += [
            Check(f"{name} is missing", name + RAW, pl.col(name).is_null()) for name in ("start_s", END)
        ]
        checks.append(Check("end_s is before start_s", END + RAW, pl.col(END) < pl.col("start_s")))
    draft = Draft(
        path=path,
        format="generic",
        frame=frame,
        checks=checks,
        misfits=given.misfits,
        fields=len(given.names),
        epoch=datetime(1970, 1, 1, tzinfo=UTC) if stamped else given.columns.epoch,
        rebase=True,
    )
    return finish(draft, bad_rows)


def _load_csv(path: Path, columns: ColumnMap | None) -> _Input:
    sheet, place = open_sheet(path, separator=columns.separator if columns else ","), f"{path}:1"
    names = sheet.names
    columns = columns or _by_name(place, names)
    if problems := absent_columns(place, columns, names):
        raise TraceError(problems)
    rows = sheet.rows([spec.column for spec in columns.sources.values() if spec.column is not None])
    return _Input(path, place, names, rows.frame, columns, rows.misfits)


def _load_parquet(path: Path, columns: ColumnMap | None) -> _Input:
    import polars as pl

    with open_file(path) as file:
        names = file.schema_arrow.names
        columns = columns or _by_name(str(path), names)
        wanted = list(dict.fromkeys(s.column for s in columns.sources.values() if s.column is not None))
        twice = [name for name in wanted if names.count(name) > 1]
        problems = [
            Problem(str(path), f"two columns are called {shorten(name)}", "Rename one.") for name in twice
        ]
        problems += absent_columns(path, columns, names)
        fields = file.schema_arrow
        problems += [
            Problem(str(path), f"column {shorten(name)} holds {shorten(fields.field(name).type)}", _KINDS)
            for name in wanted
            if name not in twice and name in names and not _is_readable(fields.field(name).type)
        ]
        if problems:
            raise TraceError(problems)
        cells = pl.DataFrame(pl.from_arrow(read_table(path, file, wanted)))
    cells = mapped.numbered(cells)
    return _Input(path, str(path), wanted, cells, columns, [])


_KINDS = "Numbers, text and timestamps can be read."


def _is_readable(kind: object) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type  # type: ignore[attr-defined]
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return bool(numeric or types.is_string(kind) or types.is_large_string(kind) or types.is_timestamp(kind))


def _by_name(place: str, names: list[str]) -> ColumnMap:
    """The mapping of a file that uses the job table's own names."""
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        found = shorten(", ".join(names), 200)
        raise TraceError(
            [
                Problem(
                    place,
                    f"the columns are {found}: none is called {' or '.join(missing)}",
                    "Say which column feeds which with `columns:` (`--columns MAPPING.yaml`).",
                )
            ]
        )
    return ColumnMap.from_dict({name: name for name in names if name in BY_NAME})


def _require_types(given: _Input) -> set[str]:
    """Which columns are timestamps; raises TraceError where numbers and timestamps do not go together."""
    import polars as pl

    stamped, problems, sources = set(), [], given.columns.sources
    for name, spec in sources.items():
        if spec.column is None:
            continue
        kind = given.cell(spec)[1]
        column = f"column {shorten(spec.column)}"
        if isinstance(kind, pl.Datetime) and name not in INSTANTS:
            problems.append(Problem(given.place, f"{column} holds timestamps, {name} needs another kind"))
        elif isinstance(kind, pl.Datetime) and kind.time_zone is None and spec.zone is None:
            problems.append(
                Problem(given.place, f"{column} holds timestamps without a zone", f"Add `zone:` to {name}.")
            )
        elif isinstance(kind, pl.Datetime) and (spec.unit or spec.format):
            problems.append(
                Problem(given.place, f"{column} holds timestamps", f"Leave unit and format out of {name}.")
            )
        elif kind.is_numeric() and spec.zone is not None:
            problems.append(Problem(given.place, f"{column} holds numbers", f"Leave `zone:` out of {name}."))
        if isinstance(kind, pl.Datetime) or spec.zone is not None:
            stamped.add(name)
    numbers = [name for name in INSTANTS if name in sources and name not in stamped]
    if stamped and numbers:
        mixed = f"{', '.join(sorted(stamped))} are timestamps, {', '.join(numbers)} numbers"
        problems.append(Problem(given.place, mixed, "All times must be on one clock."))
    if stamped and given.columns.epoch is not None:
        problems.append(Problem(given.place, "an epoch, but times are timestamps", "Leave `epoch:` out."))
    if problems:
        raise TraceError(problems)
    return stamped
