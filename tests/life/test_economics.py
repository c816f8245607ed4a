"""Formulas of money and reliability: worked cases with their arithmetic, and what must hold for any numbers.

W01 to W36 are cases worked out by hand, rounded to the digits that stand here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fleetsim.life.economics import (
    RULES,
    Estimates,
    Market,
    PricePath,
    annuity_usd_per_kw_year,
    annuity_usd_per_year,
    availability,
    book_value,
    capital_recovery_factor,
    depreciation_usd_per_year,
    effective_training_ratio,
    energy_usd_per_year,
    failure_rate,
    holding_usd_per_kw_year,
    intrinsic_value,
    job_mttf_h,
    margin_usd_per_kw_year,
    ownership_usd_per_year,
    rent_at_margin,
    rent_usd_per_kwh,
    residual_share,
    sale_discount,
    scrap_share,
    sellable_share,
    usd_per_hour,
    utilisation_chain,
    years_until,
    young_interval_s,
)
from fleetsim.units import YEAR_S

MARKET = Market(floor=0.05, decay_per_year=0.40, per_successor=0.15)


def rounded(value: float | Sequence[float], decimals: int = 6) -> Any:
    """*value* as the worked cases give it: to six digits, or to half of its last decimal."""
    return pytest.approx(value, rel=1e-6, abs=0.5 * 10**-decimals)


# Depreciation


@pytest.mark.parametrize(
    ("life_y", "per_year", "per_hour"),
    [
        (17 / 12, 35_294.1176, 4.029009),  # 50,000 / (17 / 12), and that / 8,760
        (3, 16_666.6667, 1.902588),
        (4, 12_500.0, 1.426941),
        (5, 10_000.0, 1.141553),
        (5.5, 9_090.9091, 1.037775),
        (6, 8_333.3333, 0.951294),
    ],
)
def test_w01_straight_line(life_y: float, per_year: float, per_hour: float) -> None:
    charge = depreciation_usd_per_year(0.0, 50_000.0, [(0, life_y)])
    assert charge == rounded(per_year)
    assert usd_per_hour(charge) == rounded(per_hour)


@pytest.mark.parametrize(
    ("old_life_y", "new_life_y", "value", "old_charge", "new_charge"),
    [
        (6, 5, 33_333.3333, 8_333.3333, 11_111.1111),  # W02: 50,000 * 4 / 6, then / (5 - 2)
        (5, 5.5, 30_000.0, 10_000.0, 8_571.4286),  # W03: 50,000 * 3 / 5, then / (5.5 - 2)
    ],
)
def test_w02_w03_change_of_estimate_is_prospective(
    old_life_y: float, new_life_y: float, value: float, old_charge: float, new_charge: float
) -> None:
    estimates = [(0, old_life_y), (2, new_life_y)]
    assert book_value(2.0, 50_000.0, estimates) == rounded(value)
    assert depreciation_usd_per_year(1.99, 50_000.0, estimates) == rounded(old_charge)
    assert depreciation_usd_per_year(2.0, 50_000.0, estimates) == rounded(new_charge)
    ages = np.array([-1.0, 0.0, 1.0, 2.0, new_life_y - 1, new_life_y, 20.0])
    expected = [50_000.0, 50_000.0, 50_000.0 - old_charge, value, new_charge, 0.0, 0.0]
    assert book_value(ages, 50_000.0, estimates) == rounded(expected, 3)
    assert depreciation_usd_per_year(ages[[0, -1]], 50_000.0, estimates).tolist() == [0.0, 0.0]


def test_rounding_leaves_nothing_below_zero() -> None:
    assert book_value(math.nextafter(2.0, 0.0), 1.0, [(0, 4), (0.6, 2)]) == 0.0  # else -1e-16


def test_two_changes_of_estimate() -> None:
    estimates = [(0, 6), (2, 5), (3, 7)]
    # 60,000 * 4 / 6 = 40,000, over 3 years; at 3 there are 26,666.67, over 4 years
    expected = [60_000.0, 50_000.0, 40_000.0, 80_000 / 3, 20_000.0, 40_000 / 3, 20_000 / 3, 0.0]
    assert book_value(np.arange(8.0), 60_000.0, estimates) == pytest.approx(expected)


def test_what_is_written_off_stays_written_off() -> None:
    assert book_value(3.5, 1.0, [(0, 3), (4, 6)]) == 0.0
    assert book_value(4.5, 1.0, [(0, 3), (4, 6)]) == 0.0
    assert depreciation_usd_per_year(4.5, 1.0, [(0, 3), (4, 6)]) == 0.0


@pytest.mark.parametrize(
    "estimates", [[], [(1, 6)], [(0, 0)], [(0, 6), (0, 5)], [(0, 6), (3, 3)], [(0, 6), (3, 5), (2, 7)]]
)
def test_estimates_that_cannot_be(estimates: Estimates) -> None:
    with pytest.raises(ValueError, match="must start at age 0 and rise"):
        book_value(1.0, 1.0, estimates)


@st.composite
def schedules(draw: st.DrawFn) -> list[tuple[float, float]]:
    ages = sorted(draw(st.sets(st.floats(0.25, 8), max_size=3)))
    estimates = [(age, age + draw(st.floats(0.25, 8))) for age in [0.0, *ages]]
    assume(all(b - a > 1e-3 for a, b in pairwise([0.0, *ages])))
    return estimates


@given(schedules(), st.floats(1, 1e6))
def test_book_value_falls_to_zero_and_all_of_it_is_charged(
    estimates: list[tuple[float, float]], capex: float
) -> None:
    corners = [0.0]  # between them the charge is level
    end = estimates[0][1]
    for age, life in estimates[1:]:
        if age < end:
            corners.append(age)
            end = life
    corners.append(end)
    charged = sum(
        depreciation_usd_per_year((a + b) / 2, capex, estimates) * (b - a) for a, b in pairwise(corners)
    )
    assert charged == pytest.approx(capex, rel=1e-9)
    ages = np.sort([*np.linspace(0, end, 200), *np.nextafter(corners, 0)])
    values = book_value(ages, capex, estimates)
    assert values.min() >= 0
    assert (np.diff(values) <= 1e-9 * capex).all()
    assert book_value(end, capex, estimates) == 0


# Annuity and cost of ownership


def test_capital_recovery() -> None:
    assert capital_recovery_factor(0.1, 2) == pytest.approx(0.1 / (1 - 1 / 1.21))
    assert capital_recovery_factor(0.0, 4) == 0.25
    assert capital_recovery_factor(1e-9, 4) == pytest.approx(0.25)
    # 121 with a residual of 12.1 after 2 years at 10 %: (121 - 12.1 / 1.21) * CRF = 111 * CRF
    assert annuity_usd_per_year(121.0, 12.1, 0.1, 2) == pytest.approx(111 * capital_recovery_factor(0.1, 2))


@given(st.floats(0, 0.5), st.integers(1, 15), st.floats(0, 1))
def test_an_annuity_repays_its_part(rate: float, life: int, kept: float) -> None:
    annuity = annuity_usd_per_year(1000.0, 1000.0 * kept, rate, life)
    worth = sum(annuity / (1 + rate) ** year for year in range(1, life + 1))
    assert worth + 1000.0 * kept / (1 + rate) ** life == pytest.approx(1000.0)


def test_w15_cost_of_ownership() -> None:
    capex = 38_750 * (1 + 0.11 + 0.05)  # server, network, storage
    annuity = annuity_usd_per_year(capex, 3_875, 0.10, 5)
    energy = energy_usd_per_year(1.275, 0.8, 1.25, 0.08)  # 1.275 kW * 0.8 * 1.25 * 0.08 * 8,760 h
    total = ownership_usd_per_year(annuity, energy, 1.275, 150, 0.03 * capex)
    assert capex == rounded(44_950.0)
    assert annuity == rounded(11_222.9815)
    assert energy == rounded(893.52)
    assert total - annuity - energy == rounded(2_295.0 + 1_348.5)  # 150 * 1.275 * 12; 3 % of the capex
    assert total == rounded(15_760.0015)
    assert usd_per_hour(total) == rounded(1.799087)
    assert usd_per_hour(total, 0.85) == rounded(2.116573)


@pytest.mark.parametrize(
    ("price", "kw", "per_kwh", "per_kw_year"),
    [
        (0.30, 0.4, 0.75, 5_584.5),  # P100: 0.30 / 0.4; 0.75 * 0.85 * 8,760
        (0.40, 0.4375, 0.914286, 6_807.77),  # V100
        (1.20, 0.8125, 1.476923, 10_997.17),  # A100
        (2.35, 1.275, 1.843137, 13_724.0),  # H100
        (2.90, 1.275, 2.27451, 16_936.0),  # H200
        (4.00, 1.7875, 2.237762, 16_662.38),  # B200
        (4.50, 1.666667, 2.7, 20_104.2),  # GB200
    ],
)
def test_w28_rent_of_scarce_power(price: float, kw: float, per_kwh: float, per_kw_year: float) -> None:
    assert rent_usd_per_kwh(price, kw) == rounded(per_kwh)
    assert margin_usd_per_kw_year(price, 0.85, 0.0, 0.0, kw) == rounded(per_kw_year, 2)


def test_w12_rent_of_a_site_by_the_kwh() -> None:
    per_hour = 9.7e9 / 5 / 8760  # 9.7 bn USD over 5 years, for 200 MW
    assert rent_usd_per_kwh(per_hour, 200_000) == rounded(1.107306)


# The slot rule. Old: A100 at 1.50 USD, 20 % less each year. New: B200.

OLD_KW, NEW_KW, PUE, LOAD = 0.8125, 1.7875, 1.25, 0.7


def old_margin(years: float, usd_per_kwh: float = 0.08) -> float:
    energy = energy_usd_per_year(OLD_KW, LOAD, PUE, usd_per_kwh)
    return margin_usd_per_kw_year(1.50 * math.pow(0.8, years), 0.80, energy, 500.0, OLD_KW)


def new_margin(rent: float = 3.50, usd_per_kwh: float = 0.08) -> float:
    energy = energy_usd_per_year(NEW_KW, LOAD, PUE, usd_per_kwh)
    return margin_usd_per_kw_year(rent, 0.85, energy, 1200.0, NEW_KW)


def annuity(capex: float = 55_000.0, retrofit: float = 0.0) -> float:
    """The residual is a tenth of the price."""
    return annuity_usd_per_kw_year(capex, 0.1 * capex, NEW_KW, 0.10, 5, retrofit)


def obsolete(threshold: float, usd_per_kwh: float = 0.08) -> float:
    """Years until the old part's margin has come down to *threshold*."""
    energy = energy_usd_per_year(OLD_KW, LOAD, PUE, usd_per_kwh)
    return years_until(1.50, rent_at_margin(threshold, 0.80, energy, 500.0, OLD_KW), -0.2)


def slot_years(rent: float = 3.5, usd: float = 0.08, capex: float = 55_000.0, retrofit: float = 0.0) -> float:
    return obsolete(new_margin(rent, usd) - annuity(capex, retrofit), usd)


def calendar(years: float) -> date:
    """To the nearest day, at 365.25 days a year."""
    return date(2025, 1, 1) + timedelta(days=round(years * 365.25))


def test_w16_three_rules_one_asset() -> None:
    # (3.50 * 0.85 * 8,760 - 1.7875 * 0.7 * 1.25 * 0.08 * 8,760 - 1,200) / 1.7875
    assert new_margin() == rounded(13_295.0517)
    # [55,000 / 1.7875 - 5,500 / 1.7875 / 1.1^5] * CRF(10 %, 5)
    assert annuity() == rounded(7_612.8533)
    assert new_margin() - annuity() == rounded(5_682.1984)
    margins = [11_709.2615, 9_121.6923, 7_051.6369, 5_395.5926, 4_070.7572, 3_010.8888]
    assert [old_margin(year) for year in range(6)] == rounded(margins, 4)
    slot, naive, cash_out = slot_years(), obsolete(new_margin()), obsolete(0.0)
    assert [slot, naive, cash_out] == rounded([2.810181, -0.518144, 10.550581])
    assert [1.50 * 0.8**slot, 1.50 * 0.8**cash_out] == rounded([0.801229, 0.142441])
    assert [calendar(slot), calendar(cash_out)] == [date(2027, 10, 24), date(2035, 7, 22)]


def test_w16_the_rules_say_so_at_monthly_reviews() -> None:
    def first_month(rule: str) -> int:
        return next(
            month for month in range(200) if RULES[rule](old_margin(month / 12), 0.0, new_margin(), annuity())
        )

    # 2.810181 y = 33.7 months; already; 10.550581 y = 126.6 months
    assert [first_month(rule) for rule in ("slot", "naive", "cash_out")] == [34, 0, 127]


def test_the_holding_cost_counts_against_the_old_part() -> None:
    # resale 10,000 now and 7,000 in a year at 10 %: (11,000 - 7,000) / 0.8125 kW
    holding = holding_usd_per_kw_year(10_000.0, 7_000.0, 0.10, 0.8125)
    assert holding == pytest.approx(4_000 / 0.8125)
    assert not RULES["slot"](100.0, 0.0, 150.0, 60.0)  # 90 > 100
    assert RULES["slot"](100.0, 11.0, 150.0, 60.0)  # 90 > 89
    assert not RULES["naive"](100.0, 0.0, 100.0, 60.0)  # 100 > 100
    assert RULES["naive"](100.0, 1.0, 100.0, 60.0)  # 100 > 99
    assert not RULES["cash_out"](0.0, 11.0, 150.0, 60.0)
    assert RULES["cash_out"](-1.0, 0.0, 0.0, 60.0)


@pytest.mark.parametrize(
    ("usd_per_kwh", "cash_out"), [(0.04, 11.837149), (0.08, 10.550581), (0.16, 8.736178)]
)
def test_w17_the_price_of_power_cancels_in_the_slot_rule(usd_per_kwh: float, cash_out: float) -> None:
    assert slot_years(usd=usd_per_kwh) == rounded(2.810181)
    assert obsolete(0.0, usd_per_kwh) == rounded(cash_out)


@pytest.mark.parametrize(
    ("rent", "years"),
    [(2.50, 6.947577), (3.00, 4.417459), (3.50, 2.810181), (4.00, 1.62965), (4.50, 0.696153)],
)
def test_w18_a_dearer_successor_makes_obsolete_sooner(rent: float, years: float) -> None:
    assert slot_years(rent) == rounded(years)


@pytest.mark.parametrize(("years", "rent"), [(17 / 12, 4.105086), (5, 2.858721), (6, 2.655174)])
def test_w18_the_rent_that_makes_obsolete_after(years: float, rent: float) -> None:
    energy = energy_usd_per_year(NEW_KW, LOAD, PUE, 0.08)
    threshold = old_margin(years) + annuity()
    assert rent_at_margin(threshold, 0.85, energy, 1200.0, NEW_KW) == rounded(rent)


@pytest.mark.parametrize(
    ("capex", "years"), [(35_000, 1.300457), (45_000, 1.992042), (55_000, 2.810181), (65_000, 3.811802)]
)
def test_w19_capex(capex: float, years: float) -> None:
    assert slot_years(capex=capex) == rounded(years)


def test_w19_a_retrofit_delays() -> None:
    assert slot_years(retrofit=3_000.0) == rounded(3.355214)


@given(st.floats(0.0, 0.5), st.floats(2.5, 4.5))
def test_the_price_of_power_cancels(usd_per_kwh: float, rent: float) -> None:
    assert slot_years(rent, usd=usd_per_kwh) == pytest.approx(slot_years(rent, usd=0.0), abs=1e-9)
    assert obsolete(0.0, usd_per_kwh + 0.01) < obsolete(0.0, usd_per_kwh)


@given(st.floats(2.2, 5.0), st.floats(0.01, 1.0), st.floats(1.0, 3_000.0))
def test_rent_hastens_and_retrofit_delays(rent: float, more: float, retrofit: float) -> None:
    assert slot_years(rent + more) < slot_years(rent)
    assert slot_years(rent, retrofit=retrofit) > slot_years(rent)


def test_a_rent_that_never_comes_down() -> None:
    assert obsolete(-1e6) == math.inf  # no rent is low enough
    for usd, change in [(1.5, 0.0), (1.5, 0.1), (1.5, -1.0), (0.0, -0.2)]:
        with pytest.raises(ValueError, match="must be positive"):
            years_until(usd, 1.0, change)


# Prices over time


def test_a_path_between_points() -> None:
    path = PricePath((100.0, 200.0, 400.0), (4.0, 2.0, 3.0))
    times = np.array([0.0, 100.0, 150.0, 200.0, 300.0, 400.0, 900.0])
    assert path.at(times).tolist() == [4.0, 4.0, 3.0, 2.0, 2.5, 3.0, 3.0]
    assert path.at(150.0) == 3.0
    assert path.mean(0.0, 100.0) == pytest.approx(4.0)
    assert path.mean(150.0, 200.0) == pytest.approx(2.5)
    # 100 s at 4, 100 s at 3 on average, 200 s at 2.5, 100 s at 3
    assert path.mean(0.0, 500.0) == pytest.approx((400 + 300 + 500 + 300) / 500)
    means = path.mean(np.array([0.0, 400.0]), np.array([200.0, 500.0]))
    assert means.tolist() == pytest.approx([3.5, 3.0])


def test_a_path_that_falls_by_a_fifth_each_year() -> None:
    path = PricePath((0.0,), (1.5,), -0.2)
    assert path.at(0.0) == 1.5
    assert path.at(YEAR_S) == pytest.approx(1.2)
    assert path.at(2.810181 * YEAR_S) == rounded(0.801229)
    # the integral of 1.5 * 0.8^t from 1 to 3 is 1.5 * (0.8^3 - 0.8) / ln 0.8
    expected = 1.5 * (0.8**3 - 0.8) / math.log(0.8) / 2
    assert path.mean(YEAR_S, 3 * YEAR_S) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("times", "usd", "change", "text"),
    [
        ((), (), 0.0, "0 times and 0 prices"),
        ((0.0, 1.0), (2.0,), 0.0, "2 times and 1 prices"),
        ((1.0, 1.0), (2.0, 3.0), 0.0, "must rise"),
        ((0.0,), (2.0,), -1.0, "must be above -1"),
    ],
)
def test_paths_that_cannot_be(
    times: tuple[float, ...], usd: tuple[float, ...], change: float, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        PricePath(times, usd, change)


@given(
    st.lists(st.tuples(st.floats(0.01, 3), st.floats(0, 10)), min_size=1, max_size=5),
    st.floats(-0.9, 2),
    st.floats(-1, 6),
    st.floats(0.01, 6),
)
def test_the_mean_of_a_path_is_that_of_its_values(
    steps: list[tuple[float, float]], change: float, start_y: float, length_y: float
) -> None:
    times = np.cumsum([step for step, _ in steps]) * YEAR_S
    path = PricePath(tuple(times.tolist()), tuple(usd for _, usd in steps), change)
    edges = np.linspace(start_y, start_y + length_y, 20_001) * YEAR_S
    middles = path.at((edges[1:] + edges[:-1]) / 2)
    assert path.mean(edges[0], edges[-1]) == pytest.approx(middles.mean(), rel=1e-4, abs=1e-6)


# What a used part is worth


def test_w36_residual_value() -> None:
    # age 2, the first successor ships: (0.05 + 0.95 * exp(-0.8)) * 0.85
    expected = [1.0, 0.686804, 0.405333, 0.285714, 0.174702, 0.129016, 0.098392]
    assert residual_share(np.arange(7.0), [2.0, 4.0], MARKET) == rounded(expected)
    assert residual_share(2.0, [2.0, 4.0], MARKET) == rounded(0.405333)


def test_successors_that_had_shipped_are_in_the_price() -> None:
    assert residual_share(0.0, [-1.0, 0.0], MARKET) == 1.0
    assert scrap_share(3.0, [-1.0, 2.0, 4.0], MARKET) == pytest.approx(0.05 * 0.85)


@given(
    st.lists(st.floats(-2, 12), max_size=4),
    st.builds(Market, floor=st.floats(0, 1), decay_per_year=st.floats(0, 3), per_successor=st.floats(0, 1)),
)
def test_a_used_part_only_loses_value(successors: list[float], market: Market) -> None:
    ages = np.linspace(0.0, 15.0, 301)
    shares, scrap = residual_share(ages, successors, market), scrap_share(ages, successors, market)
    assert (np.diff(shares) <= 1e-12).all()
    assert shares[0] == pytest.approx(1.0)
    assert (scrap >= 0).all() and (shares >= scrap - 1e-12).all()


def test_intrinsic_value_keeps_for_as_long_as_it_pays() -> None:
    margins, scraps = np.array([300.0, 100.0, -50.0]), np.full(4, 20.0)
    # without interest: after two years 300 + 100 + 20
    assert intrinsic_value(margins, scraps, 1.0, 0.0) == pytest.approx(420.0)
    # at 10 %: a year's margin of 1 earned evenly is worth (1 - 1 / 1.1) / ln 1.1 at its beginning
    earning = (1 - 1 / 1.1) / math.log(1.1)
    expected = 300 * earning + 100 * earning / 1.1 + 20 / 1.21
    assert intrinsic_value(margins, scraps, 1.0, 0.1) == pytest.approx(expected)
    # a bad year before a good one is worth going through, if the good one is good enough
    rows = np.array([[-50.0, 100.0, 0.0], [-50.0, 40.0, 0.0]])
    assert intrinsic_value(rows, np.full((2, 4), 20.0), 1.0, 0.0).tolist() == [70.0, 20.0]


def test_intrinsic_value_of_the_old_part_ends_with_the_cash_out_rule() -> None:
    """The best sale without scrap is where the margin is zero: 10.55 years, case W16."""
    months = np.arange(240)
    margins = np.array([old_margin((month + 0.5) / 12) for month in months]) * OLD_KW
    value = intrinsic_value(margins, np.zeros(241), 1 / 12, 0.10)
    # integral of [10,512 * 0.8^t - 998.225] * 1.1^-t from 0 to 10.550581
    end, pull, rate = 10.550581, math.log(0.8 / 1.1), math.log(1.1)
    expected = 10_512 * (math.exp(pull * end) - 1) / pull - 998.225 * (1 - math.exp(-rate * end)) / rate
    assert value == pytest.approx(expected, rel=1e-4)


@given(
    st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=30),
    st.floats(0, 1e4),
    st.floats(0, 0.3),
    st.floats(0, 1e3),
)
def test_intrinsic_value_is_not_below_scrap_and_rises_with_margins(
    margins: list[float], scrap: float, rate: float, more: float
) -> None:
    flow, scraps = np.array(margins), np.full(len(margins) + 1, scrap)
    value = intrinsic_value(flow, scraps, 1 / 12, rate)
    assert value >= scrap
    assert intrinsic_value(flow + more, scraps, 1 / 12, rate) >= value


def test_the_market_has_a_depth() -> None:
    market = Market(depth_per_month=0.02, discount_per_percent=0.03, max_discount=0.12)
    assert sale_discount(0.01, market) == 0.0
    assert sale_discount(0.02, market) == 0.0
    assert sale_discount(0.05, market) == pytest.approx(0.09)  # three further percent
    assert sellable_share(market) == pytest.approx(0.06)  # 2 % + 12 / 3 further percent
    assert sale_discount(sellable_share(market), market) == pytest.approx(0.12)
    assert sellable_share(Market(max_discount=0.0)) == 0.02
    assert sellable_share(Market(discount_per_percent=0.0)) == 1.0
    assert sellable_share(Market(discount_per_percent=1e-6, max_discount=0.5)) == 1.0


# Utilisation and reliability


def test_w22_utilisation_chain() -> None:
    mfu = 0.60 * 0.60  # SM active * tensor efficiency
    chain = utilisation_chain(0.97, 0.85, 0.80, 0.95, mfu)
    assert mfu == rounded(0.36)
    assert chain == rounded([0.97, 0.8245, 0.6596, 0.62662, 0.225583])


@pytest.mark.parametrize(("gpus", "hours"), [(1_024, 28.846154), (16_384, 1.802885), (131_072, 0.225361)])
def test_w23_mttf_of_jobs(gpus: int, hours: float) -> None:
    assert job_mttf_h(gpus / 8, 0.0065) == rounded(hours)  # 24 / (128 * 0.0065)


def test_w24_observed_failure_rates() -> None:
    assert 1000 * failure_rate(419, 16_384 / 8, 54) == rounded(3.788701)
    assert failure_rate(0.587 * 419, 16_384, 54 / 365.25) == rounded(0.101538)


def test_w25_checkpoint_interval_and_ettr() -> None:
    mttf = 103_846.154  # 28.846154 h
    interval = young_interval_s(60.0, mttf)
    assert interval == rounded(3_530.0904)  # sqrt(2 * 60 * 103,846.154)
    assert effective_training_ratio(mttf, interval, 60.0, 600.0) == rounded(0.960229)


@given(st.floats(1, 1e3), st.floats(1e4, 1e7), st.floats(0.2, 5))
def test_no_other_interval_loses_less(checkpoint_s: float, mttf_s: float, factor: float) -> None:
    best = young_interval_s(checkpoint_s, mttf_s)
    at_best = effective_training_ratio(mttf_s, best, checkpoint_s, 0.0)
    assert effective_training_ratio(mttf_s, best * factor, checkpoint_s, 0.0) <= at_best + 1e-12


@pytest.mark.parametrize(
    ("mttr_days", "share"), [(0.5, 0.996761), (1, 0.993542), (3, 0.980873), (7, 0.95648)]
)
def test_w26_availability(mttr_days: float, share: float) -> None:
    assert availability(153.8462, mttr_days) == rounded(share)  # 153.8462 / (153.8462 + 0.5)
