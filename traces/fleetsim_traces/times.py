"""Times as logs write them: units, ISO timestamps, and local time with its clock changes.

Policy for local time: where clocks go back, an hour happens twice, and a time in it is read as the earlier
one (summer time), because the log cannot tell; where clocks go forward, a time in the hour that never was is
a fault of the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from difflib import get_close_matches
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

if TYPE_CHECKING:
    import polars as pl

SECONDS: Mapping[str, Fraction] = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
_MANY_DAYS = 3660  # beyond these, offsets are looked up row by row
_ISO = r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d{1,9})?) ?(Z|[+-]\d\d:?\d\d)?$"


def is_zone(name: str) -> bool:
    """True for an IANA time zone. polars is only ever given these: it aborts on some other words."""
    return name in available_timezones() - {"Factory", "localtime"}


def zone_hint(name: str) -> str:
    """What to write instead of *name*."""
    near = get_close_matches(name, sorted(available_timezones()), n=1)
    return f"Did you mean {near[0]}?" if near else "Use an IANA name such as America/New_York."


def number(text: pl.Expr) -> pl.Expr:
    """*text* as Float64, null where it is not a number."""
    import polars as pl

    return text.str.strip_chars().cast(pl.Float64, strict=False)


def by_value(cells: pl.Series, made: pl.Expr) -> pl.Series:
    """*made* of the text *cells*, reckoned once for each different value: for columns with few of them."""
    import polars as pl
    import pyarrow as pa

    coded = cells.to_arrow().cast(pa.string()).dictionary_encode()
    values = pl.DataFrame({cells.name: pl.Series(coded.dictionary.to_pylist(), dtype=pl.String)}).select(made)
    return values.to_series().gather(pl.Series(coded.indices)).alias(cells.name)


def scaled(value: pl.Expr, factor: Fraction) -> pl.Expr:
    """*value* times *factor*; a fraction because 3 / 1000 is nearer to 0.003 than 3 * 0.001."""
    return value * float(factor.numerator) / float(factor.denominator)


def unix_s(naive: pl.Expr, zone: str) -> pl.Expr:
    """Seconds since 1970 UTC of a datetime in *zone*; null where clocks skipped it."""
    import polars as pl

    if zone == "UTC":
        return naive.dt.epoch("us").cast(pl.Float64) / 1e6
    aware = naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return aware.dt.convert_time_zone("UTC").dt.epoch("us").cast(pl.Float64) / 1e6


def is_repeated(naive: pl.Expr, zone: str) -> pl.Expr:
    """True where *naive* happened twice in *zone*."""
    early, late = (
        naive.dt.replace_time_zone(zone, ambiguous=which, non_existent="null").dt.epoch("us")
        for which in ("earliest", "latest")
    )
    return early != late


def unix_seconds(naive: pl.Series, zone: str) -> pl.Series:
    """As :func:`unix_s`, quicker: between the days on which clocks change, an offset is one subtraction."""
    import polars as pl

    cell, first, last = pl.col(naive.name), naive.dt.date().min(), naive.dt.date().max()
    if not isinstance(first, date) or not isinstance(last, date) or (last - first).days > _MANY_DAYS:
        return naive.to_frame().select(unix_s(cell, zone)).to_series()
    offsets = [_midnight(first + timedelta(days=i), zone) for i in range((last - first).days + 2)]
    changes = [i for i, (offset, after) in enumerate(pairwise(offsets)) if offset != after]
    days = [first + timedelta(days=i) for i in changes]  # on which clocks change
    offset_s = pl.lit(offsets[0].total_seconds())
    for i in changes:
        begin = datetime.combine(first + timedelta(days=i + 1), time())
        later = pl.lit(offsets[i + 1].total_seconds())
        offset_s = pl.when(cell >= begin).then(later).otherwise(offset_s)
    made = naive.to_frame().select(cell.dt.epoch("us").cast(pl.Float64) / 1e6 - offset_s).to_series()
    if days:
        odd = naive.dt.date().is_in(days).fill_null(False).arg_true()
        made = made.scatter(odd, naive.gather(odd).to_frame().select(unix_s(cell, zone)).to_series())
    return made


def shift_days(naive: pl.Series, zone: str) -> list[date]:
    """The days of the datetimes *naive* on which the clocks of *zone* change."""
    days = naive.dt.date().unique().drop_nulls().to_list()
    return [day for day in days if _midnight(day, zone) != _midnight(day + timedelta(days=1), zone)]


def _midnight(day: date, zone: str) -> timedelta:
    return datetime.combine(day, time(), ZoneInfo(zone)).utcoffset() or timedelta()


def instants(cells: pl.Series, zone: str) -> pl.Series:
    """Seconds since 1970 UTC of ISO timestamps, in *zone* where they have no offset of their own.

    Null where a cell is empty, has another form, or was skipped by the clocks of *zone*.
    """
    import polars as pl

    head = cells.filter(cells.str.contains(r"^\d{4}-\d\d-\d\d[T ]")).head(1)
    form = "%Y-%m-%dT%H:%M:%S" if len(head) and head[0][10] == "T" else "%Y-%m-%d %H:%M:%S"
    cell = pl.col(cells.name)
    # most logs have one form, which is quick to read; the others go the slow way
    quick = cell.str.to_datetime(form, strict=False, time_unit="us", cache=False)
    frame = cells.to_frame().select(cell, quick.alias("naive"))
    if frame["naive"].null_count() == cells.is_in(["", "None", "Unknown"]).sum():
        return unix_seconds(frame["naive"], zone).alias(cells.name)
    naive, offset_s = iso(cell)
    frame = frame.select(naive.alias("naive"), offset_s.alias("offset_s"))
    local, stamped = unix_s(pl.col("naive"), zone), unix_s(pl.col("naive"), "UTC") - pl.col("offset_s")
    return (
        frame.select(pl.when(pl.col("offset_s").is_null()).then(local).otherwise(stamped))
        .to_series()
        .alias(cells.name)
    )


def iso(text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """*text* such as ``2017-10-03T04:11:39.5+08:00`` as (naive datetime, its UTC offset in seconds).

    Both are null where the text has another form, the offset also where it has none.
    """
    import polars as pl

    parts = text.str.strip_chars().str.extract_groups(_ISO)
    day, clock, offset = (parts.struct.field(str(i)) for i in (1, 2, 3))
    naive = (day + " " + clock).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")
    digits = offset.str.replace(":", "", literal=True)
    hours = digits.str.slice(1, 2).cast(pl.Int64, strict=False)
    minutes = digits.str.slice(3, 2).cast(pl.Int64, strict=False)
    sign = pl.when(offset.str.starts_with("-")).then(-1).otherwise(1)
    offset_s = pl.when(offset == "Z").then(0).otherwise(sign * (hours * 3600 + minutes * 60))
    return naive, offset_s
