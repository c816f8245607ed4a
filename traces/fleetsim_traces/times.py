"""Times as logs write them: units, ISO timestamps, and local time with its clock changes.

Policy for local time: where clocks go back, an hour happens twice, and a time in it is read as the earlier
one (summer time), because the log cannot tell; where clocks go forward, a time in the hour that never was is
a fault of the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from fractions import Fraction
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

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


def scaled(value: pl.Expr, factor: Fraction) -> pl.Expr:
    """*value* times *factor*; a fraction because 3 / 1000 is nearer to 0.003 than 3 * 0.001."""
    return value * float(factor.numerator) / float(factor.denominator)


def unix_s(naive: pl.Expr, zone: str) -> pl.Expr:
    """Seconds since 1970 UTC of a datetime in *zone*; null where clocks skipped it."""
    import polars as pl

    aware = naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return aware.dt.convert_time_zone("UTC").dt.epoch("us").cast(pl.Float64) / 1e6


def is_repeated(naive: pl.Expr, zone: str) -> pl.Expr:
    """True where *naive* happened twice in *zone*."""
    early, late = (
        naive.dt.replace_time_zone(zone, ambiguous=which, non_existent="null").dt.epoch("us")
        for which in ("earliest", "latest")
    )
    return early != late


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
