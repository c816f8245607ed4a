"""Durations and instants as people write them: what is read, what is refused, and how they are shown."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetsim.units import UNIT_S, at, duration_s, human, instant, since, streamline

DAY_S = 86_400.0
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("2min", 120),
        ("36h", 36 * 3600),
        ("90d", 90 * DAY_S),
        ("2w", 14 * DAY_S),
        ("1y", 365 * DAY_S),
        ("1mo", 365 * DAY_S / 12),
        ("18mo", 1.5 * 365 * DAY_S),
        ("1y6mo", 1.5 * 365 * DAY_S),
        ("1m", None),  # a minute or a month: neither is guessed
        ("2h30min", 9000),
        ("1d 12h", 1.5 * DAY_S),
        (" 3 d ", 3 * DAY_S),
        ("0.5h", 1800),
        ("-3y", -3 * 365 * DAY_S),
        ("-2h30min", -9000),  # the sign is that of the whole
        ("+3d", 3 * DAY_S),
        ("0d", 0),
        (90, 90),
        (1.5, 1.5),
        (-7, -7),
    ],
)
def test_a_duration_in_seconds(text: str | float, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(ValueError, match=f"'{text}' is not a duration"):
            duration_s(text)
    else:
        assert duration_s(text) == seconds
        assert isinstance(duration_s(text), float)


PARTS = st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(sorted(UNIT_S))), min_size=1, max_size=5)


@given(PARTS, st.sampled_from(["", " "]), st.sampled_from(["", "-", "+"]))
def test_parts_of_a_duration_add_up(parts: list[tuple[int, str]], gap: str, sign: str) -> None:
    text = sign + gap.join(f"{amount}{gap}{unit}" for amount, unit in parts)
    total = sum(amount * UNIT_S[unit] for amount, unit in parts)
    assert duration_s(text) == pytest.approx(-total if sign == "-" else total, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "-", "+", "d", "3", "3.d", ".5d", "three days", "3 days", "3D", "3d-2h", "3d -2h", "--3d",
        "+-3d", "3dd", "3 d 4", "1e3d", "0x3d", "P3D", "2026-01-01", "drain", "inf", "nan",
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_the_units(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        duration_s(text)
    assert str(caught.value) == (
        f"{text!r} is not a duration: write seconds, or units as in 90d, 36h, 1y6mo (s, min, h, d, w, mo, y)"
    )


@pytest.mark.parametrize("value", [True, False, None, [], {}, b"3d"])
def test_only_numbers_and_text_are_durations(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        duration_s(value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, "9" * 400 + "d", "-" + "9" * 400 + "s"])
def test_a_duration_is_finite(value: str | float) -> None:
    """Not even digits without end make an endless one."""
    with pytest.raises(ValueError, match="is not a duration"):
        duration_s(value)


@given(st.text("0123456789.smhdwyoin+- ", max_size=12) | st.text(max_size=12))
def test_any_text_is_a_finite_duration_or_refused_by_its_value(text: str) -> None:
    try:
        assert math.isfinite(duration_s(text))
    except ValueError as error:
        assert str(error).startswith(f"{text!r} is not a duration")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 12:00:30", datetime(2026, 1, 31, 12, 0, 30, tzinfo=UTC)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T23:00:00-02:30", datetime(2026, 2, 1, 1, 30, tzinfo=UTC)),
    ],
)
def test_an_instant_in_utc(text: str, moment: datetime) -> None:
    """Without an offset it is UTC, never the zone of the machine."""
    assert instant(text) == moment
    assert instant(text).tzinfo is UTC


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone cannot be set here")
def test_the_zone_of_the_machine_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "America/New_York")
            time.tzset()
            assert instant("2026-07-01T12:00") == datetime(2026, 7, 1, 12, tzinfo=UTC)
            assert since(START, "2026-07-01") == 181 * DAY_S
    finally:
        time.tzset()


@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),
    st.integers(-23 * 60, 23 * 60),
)
def test_every_offset_is_undone(moment: datetime, minutes: int) -> None:
    there = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert instant(there.isoformat()) == there


@pytest.mark.parametrize(
    "text",
    ["", "today", "2026", "2026-13-01", "2026-02-30", "31.01.2026", "01/31/2026", "2026-01-31T25:00", "90d",
     "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"],
)  # fmt: skip
def test_what_is_no_date_is_refused_with_an_example(text: str) -> None:
    """An offset that leads out of the calendar is no date either."""
    with pytest.raises(ValueError) as caught:
        instant(text)
    assert str(caught.value) == f"{text!r} is not a date: write 2026-01-31 or 2026-01-31T12:00:00Z"


def test_since_takes_offsets_and_dates() -> None:
    assert since(START, "90d") == 90 * DAY_S
    assert since(START, "-3y") == -3 * 365 * DAY_S
    assert since(START, 12) == 12
    assert since(START, "2026-02-01") == 31 * DAY_S
    assert since(START, "2025-12-31T23:00:00-02:00") == 3600
    assert since(START, "2025-01-01") == -365 * DAY_S


@pytest.mark.parametrize("when", ["soon", "", "2026-13-01", "3 days", True, None, [1]])
def test_what_is_neither_is_refused_with_both(when: Any) -> None:
    with pytest.raises(ValueError) as caught:
        since(START, when)
    assert str(caught.value) == (
        f"{when!r} is neither a date (2026-01-31) nor an offset from the start (-3y, 90d)"
    )


@given(st.integers(-(10**10), 10**11))
def test_at_undoes_since(seconds: int) -> None:
    assert since(START, at(START, seconds).isoformat()) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "0.2 s"),
        (42, "42 s"),
        (60, "1 min"),
        (90, "1 min 30 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (86_399, "23 h 59 min"),
        (129_600, "1 d 12 h"),
        (364 * DAY_S, "364 d"),
        (365 * DAY_S, "1 y"),
        (400 * DAY_S, "1 y 35 d"),
        (20 * 365 * DAY_S + 3600, "20 y"),
        (6480 - 1e-9, "1 h 48 min"),  # what adding floats leaves of it
        (59.9999999, "1 min"),
        (-90, "-1 min 30 s"),
    ],
)
def test_a_duration_for_people(seconds: float, text: str) -> None:
    assert human(seconds) == text


@given(st.floats(-1e12, 1e12))
def test_every_duration_has_two_units_at_most(seconds: float) -> None:
    """Read back, it is off by less than one of the smaller unit shown."""
    shown = human(seconds)
    assert len(shown.split()) in (2, 4)
    smallest = UNIT_S[shown.split()[-1]]
    if len(shown.split()) == 2 and shown.split()[-1] != "s":  # "3 d": the hours are zero and not shown
        smallest = {"y": DAY_S, "d": 3600.0, "h": 60.0, "min": 1.0}[shown.split()[-1]]
    assert abs(duration_s(shown) - seconds) <= smallest


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0"), (7.0, "7.00"), (43.04, "43.0"), (123.456, "123"), (1234567.0, "1,234,567"),
     (-2500.4, "-2,500"), (0.00643, "0.00643")],
)  # fmt: skip
def test_a_number_for_people(number: float, text: str) -> None:
    assert streamline(number) == text


@given(st.floats(-1e15, 1e15))
def test_a_number_keeps_three_digits(number: float) -> None:
    assert float(streamline(number).replace(",", "")) == pytest.approx(number, rel=0.005, abs=1e-300)
