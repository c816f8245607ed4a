"""Hazards: exact cases with the arithmetic visible, laws of any component, draws against exact survival."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetsim.life.hazards import Constant, Curve, Hazard, Weibull, next_failure
from fleetsim.streams import stream
from fleetsim.units import YEAR_S as Y

AGES = st.integers(0, int(50 * Y)).map(float)
RATES = st.one_of(st.just(0.0), st.floats(1e-6, 100))
CONSTANTS = st.builds(Constant, RATES)
WEIBULLS = st.builds(Weibull, st.floats(0.2, 12), st.floats(0.01 * Y, 100 * Y))
CURVES = st.builds(
    lambda ages, rates: Curve(list(zip(sorted(ages), rates, strict=False))),
    st.sets(st.integers(0, 10_000).map(lambda days: days * 86_400.0), min_size=1, max_size=6),
    st.lists(RATES, min_size=6, max_size=6),
)
ANY = st.one_of(CONSTANTS, WEIBULLS, CURVES)
DRAWS = st.floats(1e-3, 40)

#: Infant mortality, chance and wear.
BATHTUB = (Weibull(0.5, 400 * Y), Constant(0.02), Weibull(6, 8 * Y))
TITAN_LIKE = Curve([(0, 0.001), (1.5 * Y, 0.0145), (2 * Y, 0.08), (2.5 * Y, 0.16)])


def survival(components: Sequence[Hazard], age_s: float, since_s: float = 0.0, factor: float = 1.0) -> float:
    return math.exp(-factor * math.fsum(c.cumulative(age_s) - c.cumulative(since_s) for c in components))


def test_a_constant_by_hand() -> None:
    half = Constant(0.5)
    assert half.rate(3 * Y) == 0.5 / Y
    assert half.cumulative(3 * Y) == pytest.approx(1.5)
    assert half.age_at(1.5) == pytest.approx(3 * Y)
    assert Constant(0).age_at(1e-9) == math.inf
    assert Constant(0).age_at(0) == 0


def test_a_weibull_by_hand() -> None:
    """(t / 2 y)**3: at 4 y 8 failures are expected, and 3 / 2 x 2**2 = 6 a year."""
    wear = Weibull(3, 2 * Y)
    assert wear.cumulative(4 * Y) == pytest.approx(8)
    assert wear.rate(4 * Y) * Y == pytest.approx(6)
    assert wear.age_at(8) == pytest.approx(4 * Y)
    assert wear.rate(0) == 0
    assert Weibull(1, 2 * Y).rate(0) * Y == pytest.approx(0.5)
    assert Weibull(0.5, Y).rate(0) == math.inf


def test_a_curve_by_hand() -> None:
    """0.1 a year up to 1 y, none up to 3 y, then 0.5 for ever: 0.1 + 0 + 0.5 x 2 at 5 y."""
    curve = Curve([(0, 0.1), (Y, 0.0), (3 * Y, 0.5)])
    assert [curve.rate(a * Y) * Y for a in (0, 0.5, 1, 2.9, 3, 90)] == pytest.approx(
        [0.1, 0.1, 0, 0, 0.5, 0.5]
    )
    assert [curve.cumulative(a * Y) for a in (1, 2, 3, 5)] == pytest.approx([0.1, 0.1, 0.1, 1.1])
    assert [curve.age_at(h) / Y for h in (0, 0.05, 0.1, 0.2, 1.1)] == pytest.approx([0, 0.5, 1, 3.2, 5])
    late = Curve([(2 * Y, 0.25)])  # nothing before its first age
    assert [late.rate(Y), late.cumulative(2 * Y), late.age_at(0.5) / Y] == pytest.approx([0, 0, 4])
    assert Curve([(0, 0.1), (Y, 0)]).age_at(0.1001) == math.inf


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: Constant(-0.1), "rate of -0.1"),
        (lambda: Constant(math.inf), "rate of inf"),
        (lambda: Constant(math.nan), "rate of nan"),
        (lambda: Weibull(0, Y), "shape of 0"),
        (lambda: Weibull(2, -Y), "scale of -"),
        (lambda: Weibull(math.nan, Y), "shape of nan"),
        (lambda: Curve([]), "at least one point"),
        (lambda: Curve([(0, 1), (0, 2)]), "rise"),
        (lambda: Curve([(-1, 1)]), "0 or more"),
        (lambda: Curve([(math.nan, 1)]), "finite"),
        (lambda: Curve([(0, 1), (math.inf, 2)]), "finite"),
        (lambda: Curve([(0, 1), (Y, -2)]), "rate of -2"),
    ],
)
def test_what_makes_no_sense_is_refused(make: object, fault: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=fault):
        make()


@settings(deadline=None)
@given(ANY, st.floats(1e-6, 1e3))
def test_the_age_of_a_cumulative_hazard_has_that_cumulative_hazard(hazard: Hazard, reached: float) -> None:
    age_s = hazard.age_at(reached)
    if age_s < math.inf:
        assert hazard.cumulative(age_s) == pytest.approx(reached, rel=1e-9)
        assert hazard.cumulative(age_s * (1 - 1e-6)) <= reached * (1 + 1e-9)  # and no earlier age has it


@settings(deadline=None)
@given(ANY, AGES)
def test_a_cumulative_hazard_is_reached_by_that_age(hazard: Hazard, age_s: float) -> None:
    assert hazard.age_at(hazard.cumulative(age_s)) <= age_s * (1 + 1e-9)


@settings(deadline=None)
@given(st.one_of(CONSTANTS, WEIBULLS), AGES, st.floats(0, 5 * Y))
def test_the_cumulative_hazard_is_the_integral_of_the_rate(
    hazard: Hazard, age_s: float, span_s: float
) -> None:
    """It grows by at least the lower and at most the higher rate at the ends of each of 200 parts."""
    age_s += 1.0  # a rate may be infinite at 0
    rates = np.array([hazard.rate(edge) for edge in np.linspace(age_s, age_s + span_s, 201)])
    low, high = (pick(rates[1:], rates[:-1]).sum() * span_s / 200 for pick in (np.minimum, np.maximum))
    grown = hazard.cumulative(age_s + span_s) - hazard.cumulative(age_s)
    slack = 1e-9 * hazard.cumulative(age_s + span_s) + 1e-12
    assert low - slack <= grown <= high + slack


@settings(deadline=None)
@given(st.floats(1e-3, 100), AGES, DRAWS)
def test_a_constant_has_no_memory(per_year: float, age_s: float, draw: float) -> None:
    new, _ = next_failure([Constant(per_year)], 0.0, (draw,))
    used, _ = next_failure([Constant(per_year)], age_s, (draw,))
    assert used - age_s == pytest.approx(new, rel=1e-6, abs=1e-5)  # s


@settings(deadline=None)
@given(WEIBULLS, AGES, DRAWS)
def test_a_used_weibull_survives_as_a_new_one_that_got_so_far(
    hazard: Weibull, age_s: float, draw: float
) -> None:
    """S(x) / S(a) = exp(-E) at the failure x of a unit of age a."""
    at_s, place = next_failure([hazard], age_s, (draw,))
    assert place == 0
    assert at_s >= age_s
    assert hazard.cumulative(at_s) - hazard.cumulative(age_s) == pytest.approx(
        draw, rel=1e-6, abs=1e-9 * hazard.cumulative(age_s)
    )


@settings(deadline=None)
@given(st.lists(st.tuples(ANY, DRAWS), min_size=1, max_size=5), AGES, st.floats(0.1, 10))
def test_the_first_component_to_strike_is_the_failure(
    parts: list[tuple[Hazard, float]], age_s: float, factor: float
) -> None:
    components, draws = zip(*parts, strict=True)
    alone = [next_failure([c], age_s, (e,), factor)[0] for c, e in parts]
    at_s, place = next_failure(components, age_s, draws, factor)
    assert at_s == min(alone)
    assert place == (alone.index(at_s) if at_s < math.inf else -1)


@settings(deadline=None)
@given(ANY, AGES, DRAWS, st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_a_factor_on_the_rate_is_a_shorter_draw(
    hazard: Hazard, age_s: float, draw: float, factor: float
) -> None:
    assert next_failure([hazard], age_s, (draw,), factor) == next_failure([hazard], age_s, (draw / factor,))


def test_a_factor_on_rates_by_hand() -> None:
    """A lemon of factor 4 at 0.5 a year fails E / 2 years on."""
    assert next_failure([Constant(0.5)], Y, (3.0,), 4.0)[0] / Y == pytest.approx(1 + 3 / 2)


def test_what_never_fails() -> None:
    assert next_failure([], Y, ()) == (math.inf, -1)
    assert next_failure([Constant(0), Curve([(0, 1), (Y, 0)])], 2 * Y, (1e-9, 1e-9)) == (math.inf, -1)


def test_no_failure_lies_in_the_past() -> None:
    """Rounding takes age_at(cumulative(age)) below the age for most days of a life."""
    wear = Weibull(3.2, 5 * Y)
    days = [day * 86_400.0 for day in range(1, 200)]
    assert any(wear.age_at(wear.cumulative(age)) < age for age in days)
    assert all(next_failure([wear], age, (1e-20,))[0] >= age for age in days)


def test_a_hazard_beyond_floats_strikes_at_once() -> None:
    """(10 y / 1 h)**100 is above 1e308."""
    assert Weibull(100, 3600.0).cumulative(10 * Y) == math.inf
    assert Weibull(100, 3600.0).rate(10 * Y) == math.inf
    assert Weibull(0.001, Y).age_at(2) == math.inf
    assert next_failure([Constant(0.1), Weibull(100, 3600.0)], 10 * Y, (1.0, 1.0)) == (10 * Y, 1)


def test_draws_and_components_go_together() -> None:
    with pytest.raises(ValueError, match="shorter"):
        next_failure(BATHTUB, 0.0, (1.0, 1.0))


def test_a_bathtub_is_three_components() -> None:
    """High at first, low in between, high in the end; its survival is the product of the three."""
    rates = [sum(c.rate(age * Y) for c in BATHTUB) * Y for age in (0.01, 3, 10)]
    # at 10 y: 0.5 / 400 x (400 / 10)**0.5 + 0.02 + 6 / 8 x 1.25**5
    assert rates[2] == pytest.approx(0.5 / 400 * 40**0.5 + 0.02 + 0.75 * 1.25**5)
    assert rates[0] > 2 * rates[1] and rates[2] > 20 * rates[1]
    assert survival(BATHTUB, 8 * Y) == pytest.approx(math.exp(-((8 / 400) ** 0.5) - 0.16 - 1))


@pytest.mark.parametrize(
    ("name", "components", "since_s", "factor"),
    [
        ("constant", (Constant(0.3),), 0.0, 1.0),
        ("weibull", (Weibull(3.2, 5 * Y),), 0.0, 1.0),
        ("weibull, used", (Weibull(3.2, 5 * Y),), 4 * Y, 1.0),
        ("curve, used", (TITAN_LIKE,), 1.75 * Y, 1.0),
        ("bathtub", BATHTUB, 0.0, 1.0),
        ("bathtub, used", BATHTUB, 6 * Y, 1.0),
        ("bathtub of a lemon", BATHTUB, Y, 5.0),
    ],
)
def test_draws_are_distributed_as_the_exact_survival(
    name: str, components: tuple[Hazard, ...], since_s: float, factor: float
) -> None:
    """Kolmogorov and Smirnov's distance of 20,000 draws is below 1.95 / sqrt(20,000) = 0.0138.

    Right draws exceed it once in 1,000 seeds (the seed is fixed); a rate that is 8 % wrong always does.
    """
    n = 20_000
    draws = stream(11, "hazards", name).standard_exponential((n, len(components))).tolist()
    ages = sorted(next_failure(components, since_s, draw, factor)[0] for draw in draws)
    exact = 1 - np.array([survival(components, age, since_s, factor) for age in ages])
    steps = np.arange(n + 1) / n
    distance = max(np.abs(exact - steps[1:]).max(), np.abs(exact - steps[:-1]).max())
    assert distance < 1.95 / math.sqrt(n)


def test_which_component_strikes_follows_its_share_of_the_rate() -> None:
    """Of constants of 0.1 and 0.3 a year the second strikes in 75 % of cases: 4 standard errors of 10,000."""
    draws = stream(11, "hazards", "shares").standard_exponential((10_000, 2)).tolist()
    struck = [next_failure([Constant(0.1), Constant(0.3)], 0.0, draw)[1] for draw in draws]
    assert sum(struck) / 10_000 == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 / 10_000))
