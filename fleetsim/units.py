"""Durations and instants as people write them, in seconds.

One year is 365 days (8,760 h), one month a twelfth of it (730 h): the convention of the cost figures
that fleetsim works with. Calendars matter only at the edges; inside a run time is seconds as float.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import isfinite

MINUTE_S = 60.0
HOUR_S = 3600.0
DAY_S = 86_400.0
YEAR_S = 365 * DAY_S

UNIT_S = {
    "s": 1.0,
    "min": MINUTE_S,
    "h": HOUR_S,
    "d": DAY_S,
    "w": 7 * DAY_S,
    "mo": YEAR_S / 12,
    "y": YEAR_S,
}

_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(mo|min|[shdwy])")


def duration_s(text: str | float) -> float:
    """Return *text* in seconds: a number, or numbers with units as in ``90d``, ``1y6mo``, ``-2h30min``.

    Raises ``ValueError`` with the value and the units that are known.

    >>> duration_s("1d12h"), duration_s("-3y"), duration_s(90)
    (129600.0, -94608000.0, 90.0)
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool) and isfinite(text):
        return float(text)
    if isinstance(text, str):
        body = text.strip()
        sign = -1.0 if body.startswith("-") else 1.0
        rest = body.lstrip("+-") if body[:1] in "+-" and body[1:2] not in "+-" else body
        total, at = 0.0, 0
        while match := _PART.match(rest, at):
            total += float(match[1]) * UNIT_S[match[2]]
            at = match.end()
        if at and at == len(rest) and isfinite(total):
            return sign * total
    raise ValueError(
        f"{text!r} is not a duration: write seconds, or units as in 90d, 36h, 1y6mo ({', '.join(UNIT_S)})"
    )


def instant(text: str) -> datetime:
    """Return an ISO 8601 date or date-time as a UTC instant; without an offset it is taken as UTC.

    Raises ``ValueError`` with the value.

    >>> instant("2026-01-01").isoformat(), instant("2026-01-01T02:00:00+02:00").isoformat()
    ('2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00')
    """
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a date: write 2026-01-31 or 2026-01-31T12:00:00Z") from None


def since(start: datetime, when: str | float) -> float:
    """Seconds from *start* to *when*: an offset (``-3y``, ``90d``) or a date.

    Raises ``ValueError`` if it is neither.

    >>> since(instant("2026-01-01"), "2026-01-02"), since(instant("2026-01-01"), "-1h")
    (86400.0, -3600.0)
    """
    try:
        return duration_s(when)
    except ValueError:
        try:
            return (instant(str(when)) - start).total_seconds()
        except ValueError:
            raise ValueError(
                f"{when!r} is neither a date (2026-01-31) nor an offset from the start (-3y, 90d)"
            ) from None


def at(start: datetime, seconds: float) -> datetime:
    """The calendar instant *seconds* after *start*."""
    return start + timedelta(seconds=seconds)


def human(seconds: float) -> str:
    """A duration for people, two significant units at most.

    >>> human(42.0), human(5_400), human(90_000), human(0.25)
    ('42 s', '1 h 30 min', '1 d 1 h', '0.2 s')
    """
    if seconds < 0:
        return "-" + human(-seconds)
    seconds = round(seconds, 6)  # 6479.9999999 s is 1 h 48 min
    if seconds < MINUTE_S:
        return f"{seconds:.3g} s" if seconds >= 10 or seconds == int(seconds) else f"{seconds:.1f} s"
    scale = (("y", YEAR_S), ("d", DAY_S), ("h", HOUR_S), ("min", MINUTE_S), ("s", 1.0))
    for (big, big_s), (small, small_s) in pairwise(scale):
        whole, rest = divmod(int(seconds // small_s), round(big_s / small_s))
        if whole:
            return f"{whole} {big} {rest} {small}" if rest else f"{whole} {big}"
    raise AssertionError(seconds)  # unreachable: a minute or more has matched


def streamline(number: float) -> str:
    """Three or more significant digits, thousands separated.

    >>> [streamline(x) for x in (1234567.0, 43.04, 9.786, 0.00643, 0.0)]
    ['1,234,567', '43.0', '9.79', '0.00643', '0']
    """
    size = abs(number)
    if size >= 100:
        return f"{number:,.0f}"
    if size >= 1:
        return f"{number:.1f}" if size >= 10 else f"{number:.2f}"
    return f"{number:.3g}"
