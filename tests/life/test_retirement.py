"""When nodes leave the fleet by each rule, and what they are sold for, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log
from typing import Any

import polars as pl
import pytest
from life.history import DAY_S, MONTH_S, YEAR_S, events, story
from model.support import A100, H100, History, Job, cohort, simulate, workload

B200 = "b200-sxm-180"

#: Worked example W16: an A100 at 1.50 USD that loses a fifth of it a year, in a slot that a B200 could have.
ECONOMICS: dict[str, Any] = {
    "usd_per_kwh": 0.08,
    "load_factor": 0.7,
    "discount_rate": 0.1,
    "life": "5y",
    "gpu_models": [
        {"gpu_model": A100, "utilisation": 0.8, "opex_usd_per_gpu_year": 500.0},
        {
            "gpu_model": B200,
            "utilisation": 0.85,
            "opex_usd_per_gpu_year": 1200.0,
            "capex_usd_per_gpu": 55_000.0,
            "residual_usd_per_gpu": 5500.0,
        },
    ],
    "prices": [
        {"gpu_models": [A100], "usd_per_gpu_hour": 1.5, "change_per_year": -0.2},
        {"gpu_models": [B200], "usd_per_gpu_hour": 3.5},
    ],
}


def run(
    retirement: Mapping[str, Any], horizon: str, *fleet: Mapping[str, Any], jobs: list[Job] | None = None,
    **more: Any,
) -> History:  # fmt: skip
    """One node of A100 unless *fleet* says otherwise; B200 has been on sale for two weeks at the start."""
    keys = {"start": "2025-02-01", "sites": [{"name": "main", "pue": 1.25}], "usage_period": "year", **more}
    return simulate(
        jobs or [Job(0, DAY_S)],
        fleet or [cohort()],
        [workload()],
        retirement=retirement,
        horizon=horizon,
        **keys,
    )


def left(run: History, node: int = 0) -> tuple[float, str]:
    """When and why *node* left the fleet, s; or the end of the run."""
    time_s, state, cause, _ = story(run, node)[-1]
    return (time_s, cause) if state == "retired" else (run.manifest["end_s"], state)


# Fixed age


def test_fixed_age_is_of_the_node_earlier_life_included() -> None:
    fleet = cohort(name="new"), cohort(name="used", earlier_age="1y"), cohort(name="old", delivered="-2y")
    h = run({"rule": "fixed_age", "age": "3y"}, "4y", *fleet, cohort(name="later", delivered="18mo"))
    assert [left(h, n) for n in range(4)] == [
        (3 * YEAR_S, "fixed_age"), (2 * YEAR_S, "fixed_age"), (YEAR_S, "fixed_age"), (4 * YEAR_S, "up")
    ]  # fmt: skip
    assert h.hours("cohort") == pytest.approx(
        {"new": 8 * 8760 * 3, "used": 8 * 8760 * 2, "old": 8 * 8760, "later": 8 * 8760 * 2.5}, rel=1e-12
    )
    assert [(t, cohort_name) for t, cohort_name, _ in events(h, "retirement")] == [
        (YEAR_S, "old"), (2 * YEAR_S, "used"), (3 * YEAR_S, "new")
    ]  # fmt: skip
    assert events(h, "retirement")[0][2] == "1 nodes at the age of 3 y: fixed_age"


def test_what_is_older_leaves_at_once_and_a_contract_delays_it() -> None:
    fleet = cohort(name="old", delivered="-5y"), cohort(name="let", delivered="-5y", contract_until="90d")
    h = run({"rule": "fixed_age", "age": "3y"}, "1y", *fleet)
    assert [left(h, n)[0] for n in range(2)] == [0, 90 * DAY_S]


def test_a_node_that_retires_drains_and_stops_what_runs_then() -> None:
    """Due at 10 d with 2 days to drain: one job ends at 11 d, the other is stopped at 12 d, for good."""
    jobs = [Job(0, 11 * DAY_S, 8), Job(0, 20 * DAY_S, 8)]
    h = run({"rule": "fixed_age", "age": "10d", "drain": "2d"}, "30d", cohort(nodes=2), jobs=jobs)
    assert [left(h, n)[0] / DAY_S for n in range(2)] == [11, 12]
    assert h.jobs("status", "end_s") == [("completed", 11 * DAY_S), ("queued", 12 * DAY_S)]


# By what a slot earns


@pytest.mark.parametrize(
    ("rule", "month"),
    [
        # W16: M_new - A_new = 13,295 - 7,613 = 5,682 USD/kW/y; the A100 earns less from 2.810 y = 33.7 months
        ({"rule": "slot", "successor": B200, "sell": False}, 34),
        # W19: with 3,000 USD/kW for the slot it takes 3.355 y = 40.3 months
        ({"rule": "slot", "successor": B200, "sell": False, "retrofit_usd_per_kw": 3000.0}, 41),
        # if the B200 cost nothing, the A100 would have been obsolete for half a year
        ({"rule": "naive", "successor": B200}, 0),
        # it pays for its energy and upkeep for 10.551 y = 126.6 months
        ({"rule": "cash_out"}, 127),
    ],
)
def test_one_slot_by_three_rules(rule: dict[str, Any], month: int) -> None:
    """The rule and not the data decides: 0 months, 34, or 127 (worked examples W16 and W19)."""
    h = run(rule, "11y", economics=ECONOMICS)
    at_s, cause = left(h)
    assert at_s == pytest.approx(month * MONTH_S)
    assert cause == rule["rule"]


def test_energy_cancels_in_the_slot_rule_and_not_in_cash_out() -> None:
    """W17: at twice the price of energy the slot rule says the same, cash-out 8.736 y = 104.8 months."""
    for rule, month in (
        ({"rule": "slot", "successor": B200, "sell": False}, 34),
        ({"rule": "cash_out"}, 105),
    ):
        h = run(rule, "11y", economics=ECONOMICS | {"usd_per_kwh": 0.16})
        assert left(h)[0] == pytest.approx(month * MONTH_S)


def test_a_contract_delays_every_rule_to_the_review_after_it() -> None:
    """Let until day 1,100: 36.16 months, so 37 and not 34."""
    rule = {"rule": "slot", "successor": B200, "sell": False}
    h = run(rule, "5y", cohort(contract_until="1100d"), economics=ECONOMICS)
    assert left(h)[0] == pytest.approx(37 * MONTH_S)


def test_a_successor_that_is_not_to_be_had_takes_no_slot() -> None:
    """B200 ships on 2025-01-15. From 2024-12-01 on that is day 45, so the review of month 2 retires."""
    h = run({"rule": "naive", "successor": B200}, "1y", start="2024-12-01", economics=ECONOMICS)
    assert left(h)[0] == pytest.approx(2 * MONTH_S)


def test_reviews_are_as_often_as_the_rule_says() -> None:
    """2.810 y = 1,025.7 days: by the half year, the review of 6 x 182.5 = 1,095 days."""
    rule = {"rule": "slot", "successor": B200, "sell": False, "review": "6mo"}
    assert left(run(rule, "5y", economics=ECONOMICS))[0] == pytest.approx(3 * YEAR_S)


def test_resale_value_lost_by_waiting_speeds_the_slot_rule_up() -> None:
    """Selling: H = [(1 + r) S(t) - S(t + 1)] / k is what keeping it costs, so it leaves before month 34.

    An A100 of 20,000 USD, new at the start, when Blackwell had shipped. What M_o(t) - H(t) is, is computed
    month by month, against M_n - A_n = 5,682.1984 of the worked example."""
    capex = 20_000.0
    old, new = ECONOMICS["gpu_models"]
    economics = ECONOMICS | {"gpu_models": [old | {"capex_usd_per_gpu": capex}, new]}

    def value(years: float) -> float:
        return capex * (0.05 + 0.95 * exp(-0.4 * years))

    def margin(years: float) -> float:
        return (1.5 * exp(years * log(0.8)) * 0.8 * 8760 - 0.8125 * 0.7 * 1.25 * 0.08 * 8760 - 500) / 0.8125

    due = next(
        m for m in range(100)
        if margin(m / 12) - (1.1 * value(m / 12) - value(m / 12 + 1)) / 0.8125 < 5682.1984
    )  # fmt: skip
    assert due < 34
    h = run({"rule": "slot", "successor": B200}, "5y", economics=economics)
    assert left(h)[0] == pytest.approx(due * MONTH_S)


# By failures


def test_a_node_leaves_at_the_failure_that_is_one_too_many() -> None:
    """Written failures on days 10, 21 and 32: the second one is its last, and there is no repair."""
    script = [{"after": "10d", "down": "1d"}] * 3
    h = run(
        {"rule": "failure", "failures": 2}, "60d", jobs=[Job(0, 60 * DAY_S)],
        failures=[{"name": "f", "script": script}],
    )  # fmt: skip
    assert left(h) == (21 * DAY_S, "failure")
    assert h["failures"].select("time_s", "down_s").rows() == [(10 * DAY_S, DAY_S), (21 * DAY_S, None)]
    assert h.hours("state")["down"] == 8 * 24


def test_failures_of_chance_count_too_and_each_node_for_itself() -> None:
    h = run(
        {"rule": "failure", "failures": 3}, "1y", cohort(nodes=20),
        failures=[{"name": "f", "hazard": [{"per_year": 4.0}], "repairs": [{"name": "r", "median": "1h"}]}],
    )  # fmt: skip
    per_node = dict(h["failures"].group_by("node").len().rows())
    gone = {n for n in range(20) if left(h, n)[1] == "failure"}
    assert gone == {n for n, count in per_node.items() if count == 3}
    assert 0 < len(gone) < 20
    assert max(per_node.values()) == 3


# The secondary market


def market(depth: float = 0.1, **more: Any) -> dict[str, Any]:
    money = {"gpu_model": A100, "capex_usd_per_gpu": 20_000.0}
    return {"gpu_models": [money], "market": {"depth_per_month": depth, **more}}


def sales(run: History) -> list[Any]:
    """(month, cohort, GPUs, USD) of each sale."""
    rows = run["sales"].select("time_s", "cohort", "gpus", "usd_per_gpu").rows()
    return [(t / MONTH_S, name, gpus, usd) for t, name, gpus, usd in rows]


#: The A100 shipped in 2020; after 2025-02-01 no generation of the fleets here ships.
def value_usd(age_y: float) -> float:
    """The residual curve (worked example W36) of 20,000 USD: floor 5 %, 40 % a year."""
    return 20_000 * (0.05 + 0.95 * exp(-0.4 * age_y))


def test_what_leaves_is_sold_month_by_month_at_the_residual_curve() -> None:
    """80 GPUs leave at a year. A tenth of those ever in service finds buyers a month: 8 at a time, first in
    month 12, when they leave; ten sales in all, each at the value of its age."""
    h = run({"rule": "fixed_age", "age": "1y"}, "2y", cohort(nodes=10), economics=market())
    assert sales(h) == [(m, A100, 8, pytest.approx(value_usd(m / 12))) for m in range(12, 22)]
    assert h["sales"]["age_s"].to_list() == [m * MONTH_S for m in range(12, 22)]
    assert h["sales"]["discount"].to_list() == [0.0] * 10


def test_each_successor_that_ships_takes_its_part_of_the_price() -> None:
    """An H100 of 2022-10 in the fleet: bought new on 2022-01-01, an A100 has lost 15 % by it. One sold at a
    year: 20,000 x 0.6868 x 0.85."""
    h = run(
        {"rule": "fixed_age", "age": "1y"}, "13mo", cohort(nodes=10),
        cohort(H100, delivered="300d"), start="2022-01-01", economics=market(),
    )  # fmt: skip
    assert sales(h)[0] == (12, A100, 8, pytest.approx(value_usd(1.0) * 0.85))
    assert value_usd(1.0) * 0.85 == pytest.approx(20_000 * 0.686804 * 0.85, rel=1e-5)


def test_owners_who_accept_a_discount_sell_faster() -> None:
    """3 % for each further percent, 30 % accepted: 10 + 10 percent of 80 in a month, at 30 % off; what is
    left over in the last month, nothing."""
    h = run({"rule": "fixed_age", "age": "1y"}, "2y", cohort(nodes=10), economics=market(max_discount=0.3))
    assert [(m, gpus) for m, _, gpus, _ in sales(h)] == [(12, 16), (13, 16), (14, 16), (15, 16), (16, 16)]
    assert h["sales"]["discount"].to_list() == pytest.approx([0.3] * 5)
    assert sales(h)[0][3] == pytest.approx(0.7 * value_usd(1.0))


def test_a_smaller_lot_costs_less_discount() -> None:
    """8 of 80 GPUs would be sold in one month without any; the 12 that are left cost 5 x 3 %."""
    a, b = (cohort(name=name, nodes=nodes, gpus_per_node=4) for name, nodes in (("a", 3), ("b", 17)))
    a["earlier_age"] = "6mo"
    h = run({"rule": "fixed_age", "age": "1y"}, "2y", a, b, economics=market(max_discount=0.3))
    assert sales(h)[0] == (6, "a", 12, pytest.approx(0.85 * value_usd(1.0)))


def test_first_out_first_sold_whatever_the_cohort() -> None:
    """16 of a leave in month 6, 16 of b in month 12; 3.2 of 32 find a buyer a month: a's last in month 10."""
    fleet = cohort(name="a", nodes=2, earlier_age="6mo"), cohort(name="b", nodes=2)
    h = run({"rule": "fixed_age", "age": "1y"}, "2y", *fleet, economics=market())
    assert [(m, name, gpus) for m, name, gpus, _ in sales(h)][:7] == [
        (6, "a", 3), (7, "a", 3), (8, "a", 3), (9, "a", 3), (10, "a", 4), (12, "b", 3), (13, "b", 3)
    ]  # fmt: skip
    assert sales(h)[4][3] == pytest.approx(value_usd(16 / 12))


def test_few_gpus_are_sold_too() -> None:
    """8 of 8 leave in month 12; 0.8 a month find a buyer: 1 in month 13 (1.6), 14 (0.6 + 0.8), 15..."""
    h = run({"rule": "fixed_age", "age": "1y"}, "2y", cohort(nodes=1), economics=market())
    assert [(m, gpus) for m, _, gpus, _ in sales(h)][:5] == [(13, 1), (14, 1), (15, 1), (16, 1), (18, 1)]
    assert h["sales"]["discount"].to_list() == [0.0] * h["sales"].height


def test_in_a_closed_market_the_stock_stays() -> None:
    h = run({"rule": "fixed_age", "age": "1y"}, "3y", cohort(nodes=10), economics=market(0.0))
    assert sales(h) == []
    assert h["node_states"].filter(pl.col("state").cast(pl.String) == "retired").height == 10


def test_what_is_not_offered_is_scrapped_and_so_is_what_broke() -> None:
    rule = {"rule": "fixed_age", "age": "1y"}
    assert sales(run(rule | {"sell": False}, "3y", cohort(nodes=10), economics=market())) == []
    broken = [{"name": "f", "script": [{"after": "30d", "down": "1d"}]}]
    h = run({"rule": "failure", "failures": 1}, "3y", cohort(nodes=10), failures=broken, economics=market())
    assert (left(h)[1], sales(h)) == ("failure", [])


def test_a_rung_for_sale_sells_though_retired_nodes_are_scrapped() -> None:
    tiers = [{"name": "top", "leave_at": "1y"}, {"name": "sold", "for_sale": True}]
    h = run(
        {"rule": "fixed_age", "age": "5y", "sell": False}, "2y", cohort(nodes=10), economics=market(),
        tiers=tiers, cascade={"rule": "age"},
    )  # fmt: skip
    assert left(h) == (YEAR_S, "sale")
    assert [gpus for _, _, gpus, _ in sales(h)] == [8] * 10
