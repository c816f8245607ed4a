"""The words of scenario files: the base of all their parts, and the kinds of values that keys take."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fleetsim import units
from fleetsim.safeyaml import suggest

WorkloadClass = Literal["training", "fine_tuning", "inference", "batch", "interactive"]

#: No duration of a scenario is longer.
MAX_SPAN_Y = 1000


def _within_reason(value: str | float, span_s: float) -> str | float:
    if abs(span_s) > MAX_SPAN_Y * units.YEAR_S:
        raise ValueError(f"{value!r} is more than {MAX_SPAN_Y} years")
    return value


def _positive(value: str | float) -> str | float:
    if (span_s := units.duration_s(value)) <= 0:
        raise ValueError(f"{value!r} must be longer than zero")
    return _within_reason(value, span_s)


def _not_negative(value: str | float) -> str | float:
    if (span_s := units.duration_s(value)) < 0:
        raise ValueError(f"{value!r} must not be negative")
    return _within_reason(value, span_s)


def _instant(value: str) -> str:
    units.instant(value)
    return value


def _rising(values: list[float]) -> list[float]:
    if any(b <= a for a, b in pairwise([0.0, *values])):
        raise ValueError(f"{values} must be above zero and rise")
    return values


def _when(value: str | float) -> str | float:
    return _within_reason(value, units.since(units.instant("2000-01-01"), value))


def _horizon(value: str | float) -> str | float:
    return value if value == "drain" else _positive(value)


def known(names: Collection[str]) -> AfterValidator:
    """Values that are one of *names*, and no other."""

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"{value!r} is not known. {suggest(value, names)}Known: {', '.join(names)}")
        return value

    return AfterValidator(check)


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Span = Annotated[str | float, AfterValidator(_positive)]
Age = Annotated[str | float, AfterValidator(_not_negative)]
When = Annotated[str | float, AfterValidator(_when)]
Share = Annotated[float, Field(ge=0, le=1)]
Instant = Annotated[str, AfterValidator(_instant)]
Horizon = Annotated[str | float, AfterValidator(_horizon)]
RisingList = Annotated[list[float], AfterValidator(_rising)]


class Spec(BaseModel):
    """Base of all parts: unknown keys and wrong types are errors; nothing changes once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
