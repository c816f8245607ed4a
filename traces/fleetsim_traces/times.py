"""Times as logs write them: units, ISO timestamps, and local time with its clock changes.

Policy for local time: where clocks go back, an hour happens twice, and a time in it is read as the earlier
one (summer time), because the log cannot tell; where clocks go forward, a time in the hour that never was is
a fault of the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
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


def instant(value: object) -> datetime | None:
    """*value* (text, or the datetime YAML makes of it) as a UTC instant, None unless it has an offset."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(moment, datetime) and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (OverflowError, ValueError):  # year 0 in UTC; not ISO
        pass
    return None


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

    return _read(text, pl.Float64(), lambda cells: cells.cast(pl.Float64, strict=False))


def datetimes(text: pl.Expr, form: str) -> pl.Expr:
    """*text* in *form* (as in strptime) as datetimes without a zone, null where it has another form."""
    import polars as pl

    def read(cells: pl.Series) -> pl.Series:
        return cells.str.to_datetime(form, strict=False, time_unit="us", cache=False)

    return _read(text, pl.Datetime("us"), read)


def _read(text: pl.Expr, kind: pl.DataType, read: Callable[[pl.Series], pl.Series]) -> pl.Expr:
    """*text* without blanks around it, read; stripping is slow, so only where a filled cell needs it."""

    def made(cells: pl.Series) -> pl.Series:
        quick = read(cells)
        unread = quick.null_count()
        if unread and unread > cells.null_count() + (cells == "").sum():
            return read(cells.str.strip_chars())
        return quick

    return text.map_batches(made, return_dtype=kind, is_elementwise=True)


def by_value(cells: pl.Series, *made: pl.Expr) -> list[pl.Series]:
    """*made* of the text *cells*, reckoned once for each different value: for columns with few of them."""
    import polars as pl

    coded = cells.to_arrow().dictionary_encode("encode")
    codes = pl.Series(coded.indices)
    values = pl.DataFrame({cells.name: pl.Series(coded.dictionary, dtype=pl.String)})
    return [values.select(expr).to_series().gather(codes).alias(cells.name) for expr in made]


def scaled(value: pl.Expr, factor: Fraction) -> pl.Expr:
    """*value* times *factor*; a fraction because 3 / 1000 is nearer to 0.003 than 3 * 0.001.

    The division is Arrow's: polars would multiply by the inverse, which is often a bit off.
    """
    import polars as pl

    def divided(cells: pl.Series) -> pl.Series:
        import pyarrow.compute as pc

        return pl.Series(cells.name, pc.divide(cells.to_arrow(), float(factor.denominator)))

    times = value * float(factor.numerator) if factor.numerator != 1 else value
    if factor.denominator == 1:
        return times
    return times.map_batches(divided, return_dtype=pl.Float64, is_elementwise=True)


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

    cell, days = pl.col(naive.name), _every_day(naive)
    if not days:
        return naive.to_frame().select(unix_s(cell, zone)).to_series()
    offsets = [_midnight(day, zone) for day in (*days, days[-1] + timedelta(days=1))]
    changes = [i for i, (offset, after) in enumerate(pairwise(offsets)) if offset != after]
    offset_s = pl.lit(offsets[0].total_seconds())
    for i in changes:
        begin = datetime.combine(days[i] + timedelta(days=1), time())
        offset_s = pl.when(cell >= begin).then(pl.lit(offsets[i + 1].total_seconds())).otherwise(offset_s)
    made = naive.to_frame().select(cell.dt.epoch("us").cast(pl.Float64) / 1e6 - offset_s).to_series()
    if changes:
        odd = naive.to_frame().select(is_on(cell, [days[i] for i in changes])).to_series().arg_true()
        made = made.scatter(odd, naive.gather(odd).to_frame().select(unix_s(cell, zone)).to_series())
    return made


def is_on(naive: pl.Expr, days: Sequence[date]) -> pl.Expr:
    """True where *naive* is on one of a few *days*; False where it is null."""
    import polars as pl

    begin = [datetime.combine(day, time()) for day in days]
    return pl.any_horizontal(
        pl.lit(False), *((naive >= at) & (naive < at + timedelta(days=1)) for at in begin)
    ).fill_null(False)


def shift_days(naive: pl.Series, zone: str) -> list[date]:
    """The days among those of the datetimes *naive* on which the clocks of *zone* change."""
    days = _every_day(naive) or naive.dt.date().unique().drop_nulls().to_list()
    pairs = ((day, day + timedelta(days=1)) for day in days if day < date.max)
    return [day for day, after in pairs if _midnight(day, zone) != _midnight(after, zone)]


def _every_day(naive: pl.Series) -> list[date]:
    """Every day from the first to the last of the datetimes *naive*; none where they are too many."""
    first, last = naive.min(), naive.max()
    if not isinstance(first, datetime) or not isinstance(last, datetime) or last.date() == date.max:
        return []
    count = (last.date() - first.date()).days + 1
    return [first.date() + timedelta(days=i) for i in range(count)] if count <= _MANY_DAYS else []


def _midnight(day: date, zone: str) -> timedelta:
    return datetime.combine(day, time(), ZoneInfo(zone)).utcoffset() or timedelta()


def moments(cells: pl.DataFrame, zone: str, **columns: str) -> list[pl.Series]:
    """:func:`instants` of several columns, ``ours="theirs"``."""
    return [instants(cells[theirs], zone).alias(ours) for ours, theirs in columns.items()]


def instants(cells: pl.Series, zone: str) -> pl.Series:
    """Seconds since 1970 UTC of ISO timestamps, in *zone* where they have no offset of their own.

    Null where a cell is empty, has another form, or was skipped by the clocks of *zone*.
    """
    import polars as pl

    cell = pl.col(cells.name)
    # most logs have one form, which is quick to read; the others go the slow way
    long = cells.filter(cells.str.len_bytes() >= len("2017-10-03T04:11:39")).head(1).to_list()
    example = long[0] if long else ""
    form = f"%Y-%m-%d{'T' if example[10:11] == 'T' else ' '}%H:%M:%S{'Z' * example.endswith('Z')}"
    naive = cells.str.to_datetime(form, strict=False, time_unit="us", cache=False)
    alike = (cells.str.len_bytes() == len(example)).sum()
    read = len(cells) - naive.null_count()
    if read == alike and (
        read == len(cells) or cells.is_in(["", "None", "Unknown"]).sum() == len(cells) - read
    ):
        return unix_seconds(naive, "UTC" if form.endswith("Z") else zone).alias(cells.name)
    local, offset_s = iso(cell)
    frame = cells.to_frame().select(local.alias("naive"), offset_s.alias("offset_s"))
    own, stamped = unix_s(pl.col("naive"), zone), unix_s(pl.col("naive"), "UTC") - pl.col("offset_s")
    made = frame.select(pl.when(pl.col("offset_s").is_null()).then(own).otherwise(stamped))
    return made.to_series().alias(cells.name)


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
