"""Which source column feeds which job-table column: the ``columns:`` part of a scenario, or a YAML file.

::

    submit_s:   {column: submit_time, zone: Asia/Shanghai}   # ISO timestamps; zone of those without offset
    duration_s: {column: run_time, unit: min}
    gpus:       gpu_num                                      # short for {column: gpu_num}
    tenant:     {column: vc, value: nobody}                  # value where the cell is empty
    status:     {column: state, map: {COMPLETED: completed, FAILED: failed}}
    workload_class: {value: training}                        # the same for every row
    separator:  ";"                                          # of a CSV; comma unless said
    epoch:      1970-01-01T00:00:00Z                         # zero of numeric times, where known

A time column with ``zone`` holds timestamps, any other holds numbers (seconds unless ``unit`` says another).
``end_s`` with ``start_s`` may stand in for ``duration_s``. Names that are not in ``map`` stay as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path

from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.table import BY_NAME
from fleetsim_traces.text import fail, require_file, shorten
from fleetsim_traces.times import SECONDS, instant, is_zone, zone_hint

END = "end_s"
INSTANTS = ("submit_s", "start_s", END)
REQUIRED = ("submit_s", "duration_s", "gpus")
UNITS: Mapping[str, Mapping[str, Fraction]] = {
    **dict.fromkeys(("submit_s", "start_s", END, "duration_s", "estimate_s", "checkpoint_s"), SECONDS),
    "gpu_share": {"ratio": Fraction(1), "percent": Fraction(1, 100)},
    "min_memory_gb": {
        "GB": Fraction(1),
        "MB": Fraction(1, 1000),
        "GiB": Fraction(2**30, 10**9),
        "MiB": Fraction(2**20, 10**9),
    },
    "cpu_milli": {"core": Fraction(1000), "milli": Fraction(1)},
    "memory_mib": {"GiB": Fraction(1024), "MiB": Fraction(1)},
}
OPTIONS = ("separator", "epoch")
_KEYS = ("column", "value", "unit", "format", "zone", "map")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """Where one job-table column comes from.

    *column* of the source, *value* where it is empty or absent, *unit* of its numbers (:data:`UNITS`; None is
    the job table's own), *zone* of timestamps without an offset, *format* of those that are not ISO, as in
    strptime, *map* from the source's names to the job table's.
    """

    column: str | None = None
    value: str | float | None = None
    unit: str | None = None
    format: str | None = None
    zone: str | None = None
    map: Mapping[str, str] | None = None


@dataclass(frozen=True)
class ColumnMap:
    """The whole mapping; *epoch* is the UTC instant of zero on the clock of numeric times."""

    sources: Mapping[str, Source]
    separator: str = ","
    epoch: datetime | None = None

    @classmethod
    def from_dict(cls, data: object, place: str = "columns") -> ColumnMap:
        """Make a mapping from plain data (see the module); raises TraceError listing every problem."""
        problems: list[Problem] = []
        if not isinstance(data, Mapping):
            raise fail(
                place, f"must be a mapping, not {show(data)}", "Write `submit_s: column_name` and so on."
            )
        sources: dict[str, Source] = {}
        for key, spec in data.items():
            if key in BY_NAME or key == END:
                found = list(_problems(f"{place}.{key}", key, spec))
                problems += found
                if not found:
                    sources[key] = Source(column=spec) if isinstance(spec, str) else Source(**spec)
            elif key not in OPTIONS:
                remedy = meant(key, [*BY_NAME, END, *OPTIONS])
                problems.append(Problem(f"{place}.{key}", "not a column of the job table", remedy))
        separator, epoch = file_options(data, place, problems)
        for name in REQUIRED:
            if name not in data and not (name == "duration_s" and END in data and "start_s" in data):
                hint = " or start_s and end_s" if name == "duration_s" else ""
                problems.append(
                    Problem(place, f"nothing feeds {name}", f"Add `{name}: source_column`{hint}.")
                )
        if END in data and "duration_s" in data:
            problems.append(
                Problem(f"{place}.{END}", "given together with duration_s", "Keep one of the two.")
            )
        elif END in data and "start_s" not in data:
            problems.append(
                Problem(f"{place}.{END}", "given without start_s", "Add start_s, or use duration_s.")
            )
        if problems:
            raise TraceError(problems)
        return cls(sources, separator, epoch)


def file_options(
    data: Mapping[object, object], place: str, problems: list[Problem]
) -> tuple[str, datetime | None]:
    """The separator and the epoch that a mapping names; what is wrong with them is added to *problems*."""
    separator, epoch = data.get("separator", ","), instant(data.get("epoch"))
    if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n':
        problems.append(
            Problem(f"{place}.separator", f"{show(separator)} is not one character", 'Write ";" or "\\t".')
        )
    if data.get("epoch") is not None and epoch is None:
        problems.append(
            Problem(
                f"{place}.epoch",
                f"{show(data['epoch'])} is not an instant",
                "Write it with its offset, such as 1970-01-01T00:00:00Z.",
            )
        )
    return str(separator), epoch


def load_columns(path: str | Path) -> ColumnMap:
    """Read a mapping from a YAML file; raises TraceError with file, and line where YAML knows it."""
    import yaml

    path = Path(path)
    require_file(path)
    if path.stat().st_size > _MAX_BYTES:
        raise fail(path, f"over {_MAX_BYTES:,} bytes: not a column mapping")
    try:
        data = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise fail(
            place, f"not YAML ({getattr(error, 'problem', None) or 'unreadable characters'})"
        ) from None
    except (RecursionError, ValueError) as error:
        raise fail(path, f"not YAML ({error})") from None
    return ColumnMap.from_dict(data, str(path))


def meant(word: object, choices: list[str]) -> str:
    """What to write instead of *word*."""
    near = get_close_matches(str(word), choices, n=1)
    return f"Did you mean {near[0]}?" if near else f"Choose from {', '.join(choices)}."


def show(value: object) -> str:
    """*value* for a message; containers by kind alone, for YAML aliases can make them vast."""
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, (list, tuple, set)) else shorten(value)


def _problems(place: str, key: str, spec: object) -> Iterator[Problem]:
    """Everything wrong with the source given for *key*."""
    if isinstance(spec, str):
        if not spec:
            yield Problem(place, "an empty name", "Write the name of a column of the source.")
        return
    if not isinstance(spec, Mapping):
        yield Problem(place, f"{show(spec)} is not a column name", "A constant is written {value: ...}.")
        return
    for unknown in (k for k in spec if k not in _KEYS):
        yield Problem(f"{place}.{unknown}", "unknown key", meant(unknown, list(_KEYS)))
    column, value, unit = spec.get("column"), spec.get("value"), spec.get("unit")
    text, zone, names = spec.get("format"), spec.get("zone"), spec.get("map")
    if column is None and value is None:
        yield Problem(place, "neither column nor value", "Give one of them.")
    for name, given in (("column", column), ("unit", unit), ("format", text), ("zone", zone)):
        if given is not None and (not isinstance(given, str) or not given):
            yield Problem(f"{place}.{name}", f"{show(given)} is not text", "Quote it.")
    yield from _value_problems(place, key, value)
    if isinstance(unit, str) and unit not in (units := UNITS.get(key, {})):
        remedy = meant(unit, list(units)) if units else "Leave it out."
        yield Problem(f"{place}.unit", f"{show(unit)} is not a unit of {key}", remedy)
    for name, given in (("format", text), ("zone", zone)):
        if given is not None and key not in INSTANTS:
            yield Problem(f"{place}.{name}", f"{key} is not a point in time", "Leave it out.")
        elif given is not None and unit is not None:
            yield Problem(
                f"{place}.{name}", "given together with unit", "Timestamps have none, numbers have a unit."
            )
    if isinstance(text, str) and re.search("%[:#]*z", text):
        yield Problem(
            f"{place}.format",
            "an offset (%z) is not supported",
            "Offsets are read from ISO timestamps, without format.",
        )
    if text is not None and zone is None:
        yield Problem(f"{place}.format", "given without zone", "Add the zone the timestamps are in.")
    if isinstance(zone, str) and zone and not is_zone(zone):
        yield Problem(f"{place}.zone", f"no time zone {show(zone)}", zone_hint(zone))
    if names is not None and not (
        isinstance(names, Mapping) and all(isinstance(v, str) for v in names.values())
    ):
        yield Problem(f"{place}.map", f"{show(names)} is not a mapping to names", "Write {SOURCE: ours}.")
    elif names is not None and (key not in BY_NAME or BY_NAME[key].numeric):
        yield Problem(f"{place}.map", f"{key} is a number", "Only names can be mapped.")


def _value_problems(place: str, key: str, value: object) -> Iterator[Problem]:
    place = f"{place}.value"
    if value is None:
        return
    if key in INSTANTS or key == "job_id":
        yield Problem(place, f"{key} cannot be the same for every row", "Give a column.")
    elif BY_NAME[key].numeric:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            yield Problem(place, f"{show(value)} is not a number", f"Unit: {BY_NAME[key].unit or 'none'}.")
    elif not isinstance(value, str):
        yield Problem(place, f"{show(value)} is not text", "Quote it.")


def absent_columns(place: object, columns: ColumnMap, present: list[str]) -> list[Problem]:
    """A problem for each source column that the file does not have."""
    return [
        Problem(str(place), f"no column {shorten(spec.column)} (for {name})", meant(spec.column, present))
        for name, spec in columns.sources.items()
        if spec.column is not None and spec.column not in present
    ]
