"""The ledger: one fleet worked out by hand, and laws that hold for any: money and value add up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetsim import schema
from fleetsim.catalog import load_catalog
from fleetsim.life.economics import Market, PricePath, Terms
from fleetsim.life.ledger import ledger
from fleetsim.records import Cohort, Site
from fleetsim.schema import STATES
from fleetsim.units import YEAR_S

A100, H100 = load_catalog()["a100-sxm-80"], load_catalog()["h100-sxm-80"]
SITE = Site("here", 1.25)
HALF = YEAR_S / 2  # 4,380 h

#: 3 years old at the start; and delivered after half a year.
OLD = Cohort("old", A100, SITE, 2, 8, -3 * YEAR_S, 0.0, 0)
NEW = Cohort("new", H100, SITE, 1, 8, HALF, 0.0, 2)

TERMS = Terms(
    usd_per_kwh=0.10,
    load_factor=0.7,
    discount_rate=0.0,
    life_y=5,
    book=((0, 6), (3.75, 5)),
    market=Market(floor=0.05, decay_per_year=0.4, per_successor=0.15),
    utilisation={A100.id: 0.8, H100.id: 0.85},
    opex_usd_per_gpu_year={A100.id: 500.0, H100.id: 1000.0},
    capex_usd_per_gpu={"old": 24_000.0, "new": 36_000.0},
    successors_s={A100.id: [-2 * YEAR_S, 0.75 * YEAR_S], H100.id: []},
)
PRICES = {
    (A100.id, "train"): PricePath((0.0, YEAR_S), (2.0, 1.0)),
    (A100.id, "batch"): PricePath((0.0,), (0.5,)),
    (H100.id, "train"): PricePath((0.0,), (3.0,), -0.2),
}


def price(gpu_model: str, tier: str) -> PricePath | None:
    return PRICES.get((gpu_model, tier))


LABELS = ("cohort", "tier", "state")


def usage(*rows: tuple[float, float, str, str, str, float, float]) -> pl.DataFrame:
    """Rows of the usage table: period, cohort, tier, state, GPU hours, kWh at the meter."""
    columns = [
        "period_start_s",
        "period_end_s",
        "cohort",
        "tier",
        "state",
        "gpu_hours",
        "facility_energy_kwh",
    ]
    return pl.DataFrame([*rows], columns, orient="row").cast(dict.fromkeys(LABELS, pl.Categorical))


def states(*rows: tuple[float, int, str, str, str]) -> pl.DataFrame:
    """Rows of node_states: time, node, state, cohort, tier; every node has 8 GPUs."""
    frame = pl.DataFrame([*rows], ["time_s", "node", "state", "cohort", "tier"], orient="row")
    return frame.cast(dict.fromkeys(LABELS, pl.Categorical)).with_columns(gpus=pl.lit(8, pl.Int32))


def rows_of(columns: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.table(columns).to_pylist()
    return rows


#: Node 0 stays; node 1 goes down to batch after a quarter and is retired at the end of the year. Node 2 comes
#: after half a year.
NODES = states(
    (0.0, 0, "up", "old", "train"),
    (0.0, 1, "up", "old", "train"),
    (HALF / 2, 1, "up", "old", "batch"),
    (HALF, 2, "up", "new", "train"),
    (1.5 * HALF, 0, "down", "old", "train"),
    (2 * HALF, 1, "retired", "old", "batch"),
)
#: Of 4,380 h. Old on train: 8 GPUs, and 8 for half of the first period.
HOURS = usage(
    (0.0, HALF, "old", "train", "productive", 30_000.0, 9_000.0),
    (0.0, HALF, "old", "train", "stalled", 5_000.0, 1_000.0),
    (0.0, HALF, "old", "train", "idle_no_queue", 17_560.0, 2_000.0),
    (0.0, HALF, "old", "batch", "lost", 10_000.0, 3_000.0),
    (0.0, HALF, "old", "batch", "idle_queue", 7_520.0, 500.0),
    (HALF, 2 * HALF, "old", "train", "productive", 17_520.0, 6_000.0),
    (HALF, 2 * HALF, "old", "train", "down", 17_520.0, 0.0),
    (HALF, 2 * HALF, "old", "batch", "productive", 35_040.0, 10_000.0),
    (HALF, 2 * HALF, "new", "train", "productive", 35_040.0, 40_000.0),
)


def test_a_year_worked_out_by_hand() -> None:
    out = rows_of(ledger(HOURS, NODES, [OLD, NEW], TERMS, price))
    places = [(row["period_start_s"], row["cohort"], row["tier"]) for row in out]
    assert places == [
        (0.0, "old", "batch"),
        (0.0, "old", "train"),
        (HALF, "old", "batch"),
        (HALF, "old", "train"),
        (HALF, "new", "train"),
    ]
    assert [row["period_end_s"] for row in out] == [HALF, HALF, 2 * HALF, 2 * HALF, 2 * HALF]
    assert [row["gpu_model"] for row in out] == [A100.id] * 4 + [H100.id]
    assert [row["generation"] for row in out] == ["Ampere"] * 4 + ["Hopper"]
    first = out[1]
    assert first["allocated_gpu_hours"] == 35_000.0
    assert first["rent_usd"] == pytest.approx(35_000 * 1.75)  # from 2.00 to 1.50 in a straight line
    assert first["energy_usd"] == pytest.approx(12_000 * 0.10)
    assert first["opex_usd"] == pytest.approx(52_560 / 8_760 * 500)  # 6 GPU years
    assert first["margin_usd"] == pytest.approx(61_250 - 1_200 - 3_000)
    assert first["slot_kw"] == pytest.approx(12 * 0.8125)  # 16 GPUs, then 8; 6.5 kW / 8
    assert first["margin_usd_per_kw_year"] == pytest.approx(57_050 / (12 * 0.8125) / 0.5)
    # 8 GPUs at the age of 3.5: 2.5 of 6 years are left
    assert first["book_value_usd"] == pytest.approx(8 * 24_000 * 2.5 / 6)
    # the successor of age 1 has shipped, that of age 3.75 has not
    assert first["market_value_usd"] == pytest.approx(8 * 24_000 * (0.05 + 0.95 * math.exp(-1.4)) * 0.85)

    batch = out[0]
    assert batch["rent_usd"] == pytest.approx(10_000 * 0.5)  # lost work is paid too
    assert batch["slot_kw"] == pytest.approx(4 * 0.8125)  # 8 GPUs for half the time

    last = out[3]
    assert last["allocated_gpu_hours"] == 17_520.0
    assert last["rent_usd"] == pytest.approx(17_520 * 1.25)
    assert last["slot_kw"] == pytest.approx(8 * 0.8125)  # nodes that are down keep their slot
    # at 3.75: 2.25 / 6 are left, to be written off by 5; at 4 a fifth of that is gone
    assert last["book_value_usd"] == pytest.approx(8 * 24_000 * 2.25 / 6 * 0.8)
    assert last["market_value_usd"] == pytest.approx(8 * 24_000 * (0.05 + 0.95 * math.exp(-1.6)) * 0.85**2)

    # retired at the end of the period: its values still count, just before
    assert out[2]["book_value_usd"] == last["book_value_usd"]

    new = out[4]
    mean = 3.0 * (0.8**1.0 - 0.8**0.5) / math.log(0.8) / 0.5
    assert new["rent_usd"] == pytest.approx(35_040 * mean)
    assert new["book_value_usd"] == pytest.approx(8 * 36_000 * 5.5 / 6)


def test_intrinsic_value_of_the_years_to_come() -> None:
    terms = replace(TERMS, horizon_y=2.0, discount_rate=0.0)
    out = rows_of(ledger(HOURS, NODES, [OLD, NEW], terms, price))
    # expected of a GPU and year but for rent: 0.8125 kW * 0.7 * 1.25 * 0.10 * 8,760 + 500
    cost = 622.78125 + 500
    # train, after half a year: the rent falls from 1.50 to 1.00 in half a year and stays; scrap after two
    # years is 5 % of the price, less 15 % for each of two successors
    earned = (0.5 * 1.25 + 1.5 * 1.0) * 0.8 * 8_760 - 2 * cost
    assert out[1]["intrinsic_value_usd"] == pytest.approx(8 * (earned + 24_000 * 0.05 * 0.85**2))
    # batch: 0.50 * 0.8 * 8,760 is more than its cost
    assert out[0]["intrinsic_value_usd"] == pytest.approx(
        8 * (2 * (0.5 * 0.8 * 8_760 - cost) + 24_000 * 0.05 * 0.85**2)
    )
    # where nothing is earned it is scrap at once: the second successor comes a quarter later
    free = rows_of(ledger(HOURS, NODES, [OLD, NEW], terms, lambda model, tier: PricePath((0.0,), (0.0,))))
    assert free[1]["intrinsic_value_usd"] == pytest.approx(8 * 24_000 * 0.05 * 0.85)
    assert free[1]["rent_usd"] == 0.0


def test_what_is_not_known_is_null() -> None:
    terms = replace(TERMS, capex_usd_per_gpu={"new": 36_000.0})

    def no_batch(gpu_model: str, tier: str) -> PricePath | None:
        return None if tier == "batch" else price(gpu_model, tier)

    out = rows_of(ledger(HOURS, NODES, [OLD, NEW], terms, no_batch))
    unknown = [{name for name, value in row.items() if value is None} for row in out]
    rent = {"rent_usd", "margin_usd", "margin_usd_per_kw_year"}
    capex = {"book_value_usd", "market_value_usd", "intrinsic_value_usd"}
    assert unknown == [rent | capex, capex, rent | capex, capex, set()]


def test_the_columns_are_those_of_the_table() -> None:
    columns = ledger(HOURS, NODES, [OLD, NEW], TERMS, price)
    fields = schema.schema("ledger")
    assert set(columns) == set(fields.names)
    batch = pa.record_batch([pa.array(columns[f.name], type=f.type) for f in fields], schema=fields)
    batch.validate(full=True)
    assert batch.num_rows == 5


def test_a_run_of_no_length_has_no_rows() -> None:
    columns = ledger(HOURS.clear(), NODES.clear(), [OLD, NEW], TERMS, price)
    assert rows_of(columns) == []
    assert rows_of(ledger(HOURS.clear(), NODES, [OLD, NEW], TERMS, price)) == []


def test_the_order_of_changes_at_one_time_is_that_of_the_table() -> None:
    nodes = states(
        (0.0, 0, "stored", "old", "train"), (0.0, 0, "up", "old", "train"), (0.0, 1, "stored", "old", "train")
    )
    out = rows_of(ledger(HOURS[:1], nodes, [OLD], TERMS, price))
    assert [row["book_value_usd"] for row in out] == [pytest.approx(8 * 24_000 * 2.5 / 6)]  # node 1 is not in


# Laws

TIERS = ("train", "batch", "archive")
EDGES = (0.0, 0.1 * YEAR_S, 0.5 * YEAR_S, YEAR_S)


def path_of(gpu_model: str, tier: str) -> PricePath | None:
    return PricePath((0.0,), (1.0 + TIERS.index(tier),), -0.1 if gpu_model == A100.id else 0.0)


@st.composite
def used(draw: st.DrawFn) -> pl.DataFrame:
    amount = st.floats(0.01, 1e6)
    row = st.tuples(
        st.sampled_from([*pairwise(EDGES)]), st.sampled_from(["old", "new"]), st.sampled_from(TIERS),
        st.sampled_from(STATES), amount, amount,
    )  # fmt: skip
    rows = draw(st.lists(row, min_size=1, max_size=30))
    return usage(*((*period, *rest) for period, *rest in rows))


@st.composite
def lived(draw: st.DrawFn) -> pl.DataFrame:
    rows = []
    for node in range(draw(st.integers(0, 6))):
        cohort = draw(st.sampled_from(["old", "new"]))
        for time_s in sorted(draw(st.lists(st.sampled_from([*EDGES, 1.0, 0.3 * YEAR_S]), max_size=5))):
            state = draw(st.sampled_from(schema.NODE_STATES))
            rows.append((time_s, node, state, cohort, draw(st.sampled_from(TIERS))))
    return states(*sorted(rows, key=lambda row: row[0])) if rows else NODES.clear()


@given(used(), lived())
def test_money_adds_up(hours: pl.DataFrame, nodes: pl.DataFrame) -> None:
    out = rows_of(ledger(hours, nodes, [OLD, NEW], TERMS, path_of))
    raw = hours.to_dicts()
    model = {"old": A100.id, "new": H100.id}

    def summed(value: Callable[[dict[str, Any]], float], rows: Sequence[dict[str, Any]]) -> float:
        return math.fsum(map(value, rows))

    rented = [row for row in raw if row["state"] in ("stalled", "lost", "productive")]

    def rent(row: dict[str, Any]) -> float:
        path = path_of(model[row["cohort"]], row["tier"])
        assert path is not None
        return float(path.mean(row["period_start_s"], row["period_end_s"])) * float(row["gpu_hours"])

    totals = {
        "allocated_gpu_hours": summed(lambda r: r["gpu_hours"], rented),
        "rent_usd": summed(rent, rented),
        "energy_usd": 0.10 * summed(lambda r: r["facility_energy_kwh"], raw),
        "opex_usd": summed(
            lambda r: r["gpu_hours"] / 8760 * TERMS.opex_usd_per_gpu_year[model[r["cohort"]]], raw
        ),
    }
    for name, total in totals.items():
        assert summed(lambda r, name=name: r[name], out) == pytest.approx(total, rel=1e-9)  # type: ignore[misc]
    margin = totals["rent_usd"] - totals["energy_usd"] - totals["opex_usd"]
    assert summed(lambda r: r["margin_usd"], out) == pytest.approx(margin, rel=1e-9, abs=1e-6)
    # kW years and margins by kW year give the margins back
    for row in out:
        years = (row["period_end_s"] - row["period_start_s"]) / YEAR_S
        if row["slot_kw"]:
            again = row["margin_usd_per_kw_year"] * row["slot_kw"] * years
            assert again == pytest.approx(row["margin_usd"], rel=1e-9, abs=1e-6)
        else:
            assert row["margin_usd_per_kw_year"] is None


@given(used(), lived())
def test_values_are_those_of_the_nodes_that_are_in(hours: pl.DataFrame, nodes: pl.DataFrame) -> None:
    """Node by node: its last change before the end of each period says whether it is in, and where."""
    terms = replace(TERMS, book=((0, 1000),), capex_usd_per_gpu={"old": 1000.0, "new": 1000.0})
    out = rows_of(ledger(hours, nodes, [OLD, NEW], terms, path_of))
    found = {(row["period_end_s"], row["cohort"], row["tier"]): row["book_value_usd"] for row in out}
    expected: dict[tuple[float, str, str], float] = dict.fromkeys(found, 0.0)
    for end_s in {row["period_end_s"] for row in hours.to_dicts()}:
        last: dict[int, dict[str, Any]] = {}
        for row in sorted(nodes.to_dicts(), key=lambda row: row["time_s"]):
            if row["time_s"] < end_s:
                last[row["node"]] = row
        for row in last.values():
            if row["state"] in ("up", "down"):
                key = end_s, row["cohort"], row["tier"]
                born_s = (OLD if row["cohort"] == "old" else NEW).born_s
                value = 8 * 1000 * (1 - max(0.0, end_s - born_s) / YEAR_S / 1000)
                expected[key] = expected.get(key, 0.0) + value
    assert found == pytest.approx(expected)


@given(used(), lived(), st.randoms(use_true_random=False))
def test_cutting_the_usage_finer_changes_nothing(
    hours: pl.DataFrame, nodes: pl.DataFrame, random: Any
) -> None:
    """As when tenants are told apart: the same hours in more rows, in any order."""
    halves = hours.with_columns(pl.col("gpu_hours", "facility_energy_kwh") / 2)
    finer = pl.concat([halves, halves])
    order = list(range(finer.height))
    random.shuffle(order)
    whole, cut = (
        rows_of(ledger(frame, nodes, [OLD, NEW], TERMS, path_of)) for frame in (hours, finer[order])
    )
    for a, b in zip(whole, cut, strict=True):
        for name, value in a.items():
            assert b[name] == (
                pytest.approx(value, rel=1e-9, abs=1e-6) if isinstance(value, float) else value
            )
