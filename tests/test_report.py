"""Reports: every measure worked out by hand from literal rows, and pages in which names are only text."""

from __future__ import annotations

import html
import json
import re
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import report_runs as hand
from hypothesis import given
from hypothesis import strategies as st
from report_runs import DAY_S, END_S, YEAR_S, P

from fleetsim import report as reporting
from fleetsim.errors import InputError
from fleetsim.gpu_model import GpuModel
from fleetsim.reporting import drawing, lifetimes, measures
from fleetsim.reporting.drawing import PALETTE, Axis, Series
from fleetsim.reporting.facts import FIGURES, Facts, say, short
from fleetsim.reporting.page import PAPER, Look, page, table
from fleetsim.reporting.words import assumes
from fleetsim.runfolder import open_run
from fleetsim.schema import STATES

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    return Facts("by-hand", open_run(hand.write(tmp_path_factory.mktemp("runs") / "by-hand")))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """A run in which nothing was installed and nothing happened."""
    folder = tmp_path_factory.mktemp("runs") / "empty"
    bare: dict[str, Any] = {k: [] for k in ("tiers", "failures", "workloads", "cohorts")}
    return Facts(
        "empty", open_run(hand.write(folder, {}, **bare, cascade=None, retirement=None, economics=None))
    )


# Measures


def test_states_over_time(facts: Facts) -> None:
    first, second = measures.states_over_time(facts.usage)
    assert (first["period_start_s"], second["period_end_s"]) == (0.0, END_S)
    # 2,400 hours a period: 4,800 productive GPU hours are 2 GPUs
    assert {s: first[s] for s in measures.STATES} == pytest.approx(
        {"productive": 2, "lost": 0, "stalled": 0.5, "idle_queue": 0, "idle_no_queue": 1, "down": 0.5}
    )
    assert second["productive"] == pytest.approx((3600 + 4320) / 2400)
    assert [sum(row[s] for s in STATES) for row in (first, second)] == pytest.approx([4, 5])
    by = measures.states_over_time(facts.usage, ["generation"])
    assert [(row["generation"], row["period_start_s"]) for row in by] == [
        ("Ampere", 0.0), ("Ampere", P), ("Hopper", P),
    ]  # fmt: skip


def test_tier_by_age(facts: Facts) -> None:
    assert measures.tier_by_age(facts.usage) == [
        {"tier": "low", "age_band": 1, "allocated": 4000, "idle": 3200, "down": 0},
        {"tier": "top", "age_band": 0, "allocated": 4800, "idle": 0, "down": 0},
        {"tier": "top", "age_band": 1, "allocated": 6000, "idle": 2400, "down": 1200},
    ]


def test_mean_ages(facts: Facts) -> None:
    low, top = facts.ages
    # top: 4 A100 from 1 y for 100 days, mean 1 y + 50 d; 2 H100 from 0 for 100 days, mean 50 d
    assert top["installed_gpu_hours"] == 4 * 2400 + 2 * 2400
    assert top["installed_age_y"] == pytest.approx((2 * (1 + 50 / 365) + 50 / 365) / 3)
    # rung low: 2 GPUs to day 200, mean 1 y + 150 d; 2 GPUs to day 150, mean 1 y + 125 d
    assert low["installed_gpu_hours"] == 2 * 2400 + 2 * 1200
    assert low["installed_age_y"] == pytest.approx(1 + (2 * 150 + 125) / 3 / 365)
    # allocations: 2 GPUs x 50 d at 1 y + 25 d; half of 2 GPUs x 20 d at 20 d
    assert top["allocated_gpu_hours"] == pytest.approx(2 * 1200 + 480)
    assert top["allocated_age_y"] == pytest.approx((2400 * (1 + 25 / 365) + 480 * 20 / 365) / 2880)
    assert (low["allocated_gpu_hours"], low["allocated_age_y"]) == (0, None)
    whole = (14_400 * top["installed_age_y"] + 7200 * low["installed_age_y"]) / 21_600
    assert facts.mean_age_y("installed") == pytest.approx(whole)
    assert facts.mean_age_y("allocated") == top["allocated_age_y"]


def test_the_age_of_a_swapped_node_begins_again() -> None:
    # up from 2 y; swapped on day 100: of age 0 for 100 more days, on which one job runs all the time
    spells = measures.node_spells(
        pl.DataFrame(
            {"node": [0, 0], "time_s": [0.0, P], "age_s": [2 * YEAR_S, 0.0], "gpus": [1, 1],
             "state": ["up", "up"],
             "cohort": ["c"] * 2, "gpu_model": ["m"] * 2, "tier": ["t"] * 2, "cause": ["initial", "repair"]}
        ),
        END_S,
    )  # fmt: skip
    held = pl.DataFrame({"node": [0], "start_s": [P], "end_s": [END_S], "gpus": [1.0]})
    (row,) = measures.mean_ages(held, spells, ["tier"])
    assert row["allocated_age_y"] == pytest.approx(50 / 365)
    assert row["installed_age_y"] == pytest.approx((2 + 50 / 365 + 50 / 365) / 2)
    found = lifetimes.lives(spells, "tier")["t"]
    # the first was swapped away at 2 y + 100 d, the second is there still
    assert found.age_s.tolist() == [2 * YEAR_S + P, P]
    assert (found.entry_s.tolist(), found.died.tolist()) == ([2 * YEAR_S, 0.0], [True, False])


def test_used_by(facts: Facts) -> None:
    rows = measures.used_by(facts.usage, "tenant")
    assert [(r["owner"], r["generation"], r["gpu_hours"]) for r in rows] == [
        ("lab", "Ampere", 6000), ("lab", "Hopper", 4800), ("shop", "Ampere", 4000),
    ]  # fmt: skip
    assert [r["owner"] for r in measures.used_by(facts.usage, "workload_class")] == [
        "training", "training", "batch",
    ]  # fmt: skip


def test_small_owners_are_one() -> None:
    usage = pl.DataFrame(
        {"tenant": list("abcd"), "generation": ["Hopper"] * 4, "allocated_gpu_hours": [4.0, 1.0, 2.0, 3.0]}
    )
    rows = measures.used_by(usage, "tenant", most=2)
    assert [(r["owner"], r["owners"], r["gpu_hours"]) for r in rows] == [
        ("a", 1, 4),
        ("d", 1, 3),
        (None, 2, 3),
    ]
    assert len(measures.used_by(usage, "tenant", most=3)) == 4  # one other is shown by name


def test_funnel(facts: Facts) -> None:
    (row,) = measures.funnel(facts.usage)
    installed, model = 9600 + 12_000, 0.4 * (4800 + 4320) + 0.3 * 3600
    assert row == pytest.approx(
        {
            "installed": 1,
            "up": 1 - 1200 / installed,
            "allocated": (6000 + 4000 + 4800) / installed,
            "busy": (4800 + 4000 + 4320) / installed,
            "productive": (4800 + 3600 + 4320) / installed,
            "model FLOPs": model / installed,
        }
    )
    shares = [row[step] for step in measures.STEPS]
    assert shares == sorted(shares, reverse=True)
    old, new = measures.funnel(facts.usage, ["generation"])
    assert (old["generation"], new["generation"]) == ("Ampere", "Hopper")
    assert new["productive"] == pytest.approx(4320 / 4800)


@given(st.lists(st.tuples(st.sampled_from(STATES), st.floats(0.001, 1e6)), min_size=1, max_size=30))
def test_the_funnel_only_narrows_and_states_add_up(parts: list[tuple[str, float]]) -> None:
    rows = [hand.usage_row(0, hand.OLD, "top", 1, state, hours, hand.TRAIN) for state, hours in parts]
    frame = pl.DataFrame(rows).with_columns(pl.col("carbon_kg").cast(pl.Float64))
    hours, state = pl.col("gpu_hours"), pl.col("state")
    parts_of = {"down": ["down"], "allocated": ["stalled", "lost", "productive"], "lost": ["lost"],
                "productive": ["productive"], "idle_queue": ["idle_queue"],
                "idle_no_queue": ["idle_no_queue"]}  # fmt: skip
    usage = frame.with_columns(
        installed_gpu_hours=hours,
        model_gpu_hours=pl.when(state == "productive").then(hours).otherwise(0.0) * 0.4,
        energy_mwh=pl.lit(0.0),
        facility_energy_mwh=pl.lit(0.0),
        **{f"{k}_gpu_hours": pl.when(state.is_in(v)).then(hours).otherwise(0.0) for k, v in parts_of.items()},
    )
    (row,) = measures.funnel(usage)
    shares = [row[step] for step in measures.STEPS]
    assert all(a >= b - 1e-12 for a, b in pairwise(shares))
    (gpus,) = measures.states_over_time(usage)
    assert sum(gpus[s] for s in STATES) * 2400 == pytest.approx(sum(h for _, h in parts), rel=1e-9)


def test_waits_by_size(facts: Facts) -> None:
    one, two, four = facts.waits
    assert (one["size"], one["started"], one["waited"], one["queued"]) == (0, 3, 2, 0)
    # of 0, 100 and 200 s: the quantile 0.9 lies at 1.8 of the way, 180 s
    assert (one["p50_s"], one["p90_s"], one["p99_s"]) == pytest.approx((100, 180, 198))
    assert (two["size"], two["p50_s"]) == (1, 5)
    assert (four["size"], four["started"], four["queued"], four["p50_s"]) == (2, 0, 1, None)


@pytest.mark.parametrize(
    ("gpus", "label"), [(1, "1"), (2, "2"), (3, "3-4"), (8, "5-8"), (9, "9-16"), (2000, "1025+")]
)
def test_sizes(gpus: int, label: str) -> None:
    jobs = pl.DataFrame({"gpus": [gpus], "wait_s": [1.0], "status": ["completed"]})
    assert measures.size_label(measures.waits_by_size(jobs)[0]["size"]) == label


def test_queue_over_time(facts: Facts) -> None:
    rows = measures.queue_over_time(facts.run.scan("queue").collect(), END_S, points=4)
    assert [row["jobs"] for row in rows] == pytest.approx([2, 2, 0, 1])
    assert [row["gpus"] for row in rows] == pytest.approx([8, 8, 0, 4])
    assert rows[0]["period_end_s"] == END_S / 4


def test_power_by_site(facts: Facts) -> None:
    assert facts.sites == {"old": "north", "new": "south"}
    north, later, south = measures.power_by_site(facts.usage, facts.sites)
    assert (north["site"], later["site"], south["site"]) == ("north", "north", "south")
    assert north["it_kw"] == pytest.approx(2400 / 2400)  # kWh / h
    assert south["it_kw"] == pytest.approx(4200 / 2400)
    assert (south["facility_kw"], south["pue"]) == pytest.approx((1.5 * 4200 / 2400, 1.5))
    assert north["carbon_kg"] == pytest.approx(600)


def test_carbon_is_none_where_no_site_has_an_intensity(facts: Facts) -> None:
    unknown = facts.usage.with_columns(carbon_kg=pl.lit(None, pl.Float64))
    assert {row["carbon_kg"] for row in measures.power_by_site(unknown, facts.sites)} == {None}


def test_reserved_kw(facts: Facts) -> None:
    edges = np.array([0.0, P, END_S])
    rows = measures.reserved_kw(facts.spells, facts.sites, {hand.A: 0.8, hand.H: 1.25}, edges)
    # 4 A100, then 4 for 50 days and 2 for 50; 2 H100 in the second period.
    # A node that is down keeps its slot.
    assert [(r["site"], r["kw"]) for r in rows] == [
        ("north", pytest.approx(3.2)), ("north", pytest.approx(2.4)),
        ("south", 0.0), ("south", pytest.approx(2.5)),
    ]  # fmt: skip


def test_series_and_lists_of_nodes_have_sites(tmp_path: Path) -> None:
    rows = [{**row, "cohort": "h-2" if row["cohort"] == "new" else "listed"} for row in hand.NODE_STATES]
    cohorts = [{"name": "h", "site": "south", "series": {"every": "1y", "count": 3}}]
    folder = hand.write(
        tmp_path / "r", {**hand.TABLES, "node_states": rows}, cohorts=cohorts, node_list={"site": "north"}
    )
    assert Facts("r", open_run(folder)).sites == {"h-2": "south", "listed": "north"}


def test_offered(facts: Facts) -> None:
    serve, train = facts.offered
    assert (serve["workload"], serve["jobs"], serve["hours"]) == ("serve", 1, 1)
    # 2 x 1 h, 2 GPUs x 1,000 s, 4 GPUs x 2 h
    assert (train["jobs"], train["hours"]) == (4, pytest.approx(2 + 2000 / 3600 + 8))
    assert train["mean_gpus"] == pytest.approx(train["hours"] / 4800)


# Lives and money


def test_survival(facts: Facts) -> None:
    found = lifetimes.lives(facts.spells, "gpu_model")
    old, new = found[hand.A], found[hand.H]
    assert (old.entry_s.tolist(), old.died.tolist()) == ([YEAR_S, YEAR_S], [False, True])
    assert old.age_s.tolist() == pytest.approx([YEAR_S + 200 * DAY_S, YEAR_S + 150 * DAY_S])
    assert (new.age_s.tolist(), new.died.tolist()) == ([P], [False])
    curve, points = lifetimes.survival(old)
    assert curve.survival.tolist() == [0.5]
    assert [round(p["age_y"], 4) for p in points] == [1.0, round(1 + 150 / 365, 4), round(1 + 200 / 365, 4)]
    assert [p["share"] for p in points] == [1, 0.5, 0.5]
    assert all(p["low"] <= p["share"] <= p["high"] for p in points)


def test_nodes_that_never_served_have_no_life(facts: Facts) -> None:
    stored = facts.spells.with_columns(state=pl.lit("stored"))
    assert lifetimes.lives(stored, "gpu_model") == {}


def test_retirements(facts: Facts) -> None:
    assert lifetimes.retirements(facts.spells) == [{"cause": "slot", "age_band": 1, "gpus": 2, "nodes": 1}]


def test_failures(facts: Facts) -> None:
    gpu, crash = lifetimes.failures_by(facts.failures, ["failure"])
    assert (gpu["failure"], gpu["failures"], gpu["jobs_stopped"], gpu["lost"]) == ("gpu", 3, 2, 1)
    # 1 h and 2 h, and one that never came back
    assert (gpu["mean_down_h"], gpu["median_down_h"], gpu["p95_down_h"]) == pytest.approx((1.5, 1.5, 1.95))
    assert (crash["mean_down_h"], crash["lost"]) == (600, 0)
    xids = {row["xid"]: row["failures"] for row in lifetimes.failures_by(facts.failures, ["xid"])}
    assert xids == {48: 2, 79: 1, None: 1}
    by_repair = lifetimes.failures_by(facts.failures, ["failure", "repair"])
    assert by_repair[0]["repair"] == "reset" and by_repair[-1]["mean_down_h"] is None


def test_ettr(facts: Facts) -> None:
    one, two, every = lifetimes.ettr_by_size(facts.jobs)
    assert (one["size"], one["jobs"], one["ettr"]) == (0, 3, 1)
    # of 2 GPUs x 1,000 s, 1,600 GPU s were held, less 100 + 200 + 100
    assert (two["jobs"], two["failures"], two["ettr"]) == (1, 1, pytest.approx(1200 / 2000))
    assert every["size"] is None
    assert every["ettr"] == pytest.approx((3 * 3600 + 1200) / (3 * 3600 + 2000))


def test_values_and_money(facts: Facts) -> None:
    first, second = lifetimes.values_over_time(facts.ledger)
    assert (first["book_value_usd"], second["book_value_usd"]) == (40_000, 70_000)
    assert (second["market_value_usd"], second["intrinsic_value_usd"]) == (68_000, 72_000)
    assert [row["margin_usd"] for row in lifetimes.money_over_time(facts.ledger)] == [2000, 2000]
    ampere, hopper = lifetimes.margin_per_kw_year(facts.ledger, ["generation"])
    years = 100 / 365
    assert ampere["margin_usd_per_kw_year"] == pytest.approx(2500 / (7 * years))
    assert hopper["margin_usd_per_kw_year"] == pytest.approx(1500 / (2.5 * years))
    total = lifetimes.money(facts.ledger)
    assert total["rent_usd"] == 2000 + 500 + 1500 + 3 * 150
    assert total["margin_usd_per_kw_year"] == pytest.approx(4000 / (9.5 * years))
    assert total["book_value_usd"] == 70_000


def test_a_sum_with_something_unknown_is_unknown(tmp_path: Path) -> None:
    rows = [
        hand.LEDGER[0],
        {**hand.LEDGER[1], "book_value_usd": None},
        {**hand.LEDGER[2], "margin_usd": None},
    ]
    ledger = Facts("r", open_run(hand.write(tmp_path / "r", {**hand.TABLES, "ledger": rows}))).ledger
    assert [row["book_value_usd"] for row in lifetimes.values_over_time(ledger)] == [40_000, None]
    assert lifetimes.money(ledger)["margin_usd"] is None
    assert lifetimes.money(ledger)["rent_usd"] == 4450


def test_stock(facts: Facts) -> None:
    rows = lifetimes.unsold(facts.spells, facts.sales, END_S)
    assert [(r["time_s"] / DAY_S, r["retired"], r["sold"], r["unsold"]) for r in rows] == [
        (0, 0, 0, 0), (150, 2, 0, 2), (160, 2, 1, 1), (200, 2, 1, 1),
    ]  # fmt: skip
    (sale,) = lifetimes.sold(facts.sales)
    assert (sale["gpus"], sale["usd"], sale["usd_per_gpu"], sale["age_y"]) == (1, 6000, 6000, 1.4)


def test_headline(facts: Facts) -> None:
    h = facts.headline
    assert h["installed_gpu_hours"] == 21_600
    assert h["time_effective"] == pytest.approx(12_720 / 21_600)
    chain = [h[k] for k in ("availability", "allocation", "busy", "goodput", "mfu")]
    assert np.prod(np.array(chain, float)) == pytest.approx(h["fleet_mfu"])
    assert (h["jobs"], h["completed"], h["queued"], h["failures"]) == (5, 4, 1, 4)
    assert (h["retired_gpus"], h["retired:slot"], h["sold_gpus"], h["sales_usd"]) == (2, 2, 1, 6000)
    assert [h["pue"], h["carbon_t"]] == pytest.approx([1.5, 2.1])
    assert h["wait_p50_s"] == pytest.approx(52.5)  # of 0, 5, 100 and 200 s
    assert set(FIGURES) <= set(h)
    assert all(value is not None for value in h.values())


def test_a_run_of_nothing_has_no_figures(empty: Facts) -> None:
    known = {key for key, value in empty.headline.items() if value}
    assert known == set()
    assert all(
        empty.headline[key] is None for key in ("availability", "ettr", "carbon_t", "margin_usd", "pue")
    )


# The page


def markup(text: str) -> str:
    return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def specs(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="specs">(.*?)</script>', text, re.DOTALL)
    assert found
    read: dict[str, Any] = json.loads(found[1])
    return read


def test_a_report_has_every_section_that_there_are_data_for(facts: Facts, empty: Facts) -> None:
    made = reporting.report([facts.run])
    names = [section.name for section in made.sections]
    assert names == [
        "headline", "assumptions", "utilisation", "tiers", "who", "funnel", "queue", "survival", "power",
        "value", "failures", "scenario",
    ]  # fmt: skip
    assert made.left_out == []
    charts = [chart.name for chart, _ in made.charts()]
    assert len(charts) == len(set(charts)) and {"utilisation", "tiers-by-age", "values", "carbon"} <= set(
        charts
    )
    page = made.page()
    assert set(specs(page)) == set(charts)
    for name in (*charts, *(f"about-{name}" for name in names)):
        assert page.count(f'id="{name}"') == 1
    bare = reporting.report([empty.run])
    assert [s.name for s in bare.sections] == ["headline", "assumptions", "scenario"]
    text = markup(bare.page())
    for one in bare.left_out:
        assert f"{one.title} ({one.reason})" in text
    assert "Survival of nodes (no node was retired)" in text and "Money (no run has economics)" in text


def test_a_rung_that_nothing_ran_on_is_not_drawn_and_colours_stay(facts: Facts, tmp_path: Path) -> None:
    """A rung that is for sale stands between the two others: in the table of the ladder, not in the chart."""
    top, low = hand.SCENARIO["tiers"]
    tiers = [top, {"name": "yard", "for_sale": True}, low]
    made = reporting.report([open_run(hand.write(tmp_path / "sale", tiers=tiers))])
    (chart,) = (chart for chart, _ in made.charts() if chart.name == "tiers-by-age")
    assert [(s.label, s.colour) for s in chart.series] == [
        ("top", "tier-0"), ("low", "tier-2"), ("idle", "state-idle_no_queue"), ("down", "state-down"),
    ]  # fmt: skip
    assert "yard" in markup(made.page())


def test_the_page_says_what_life_and_tier_figures_rest_on(facts: Facts) -> None:
    line = assumes(facts)
    assert "slot kW would earn more with h100-sxm-80" in line
    assert "Cascade: by age, whole cohorts, drained for at most 7d" in line
    # demand of the lower rungs, also where there is none
    assert "batch 1.00 GPU h" in line and "training 10.6 GPU h" in line and "inference 0 GPU h" in line
    made = reporting.report([facts.run])
    for section in made.sections:
        said = sum(isinstance(part, str) and part.count('class="assumes"') for part in section.parts)
        assert said == (section.name in ("headline", "tiers", "survival", "value")), section.name


def test_the_page_defines_its_figures_and_names_units(facts: Facts) -> None:
    text = markup(reporting.report([facts.run]).page())
    for figure in FIGURES.values():
        assert figure.label in text and html.escape(figure.meaning) in text
    for shown in ("21.6 k GPU h", "58.9 %", "12.6 MWh", "2.10 t", "4,000 USD", "93.8 %", "seed 7", "north"):
        assert shown in text, shown
    assert "hours &lt;balance&gt;" in text and "question: Who keeps the old ones busy?" in text
    assert all(chart.unit for chart, _ in reporting.report([facts.run]).charts())


def test_a_page_loads_nothing_and_is_small(facts: Facts) -> None:
    made = reporting.report([facts.run], title="<b>mine</b> & yours")
    text = made.page()
    assert "<title>&lt;b&gt;mine&lt;/b&gt; &amp; yours</title>" in text and "<b>mine" not in text
    assert not re.search(r"src\s*=|href\s*=\s*\"?[^#\"]|@import|url\(", markup(text))
    assert "default-src 'none'" in text and text.count("</script>") == 2
    assert len(text) < 1_300_000
    assert made.page() == reporting.report([facts.run], title="<b>mine</b> & yours").page()


def test_ten_years_by_month_stay_under_3_mb(tmp_path: Path) -> None:
    """120 months of 6 cohorts, 3 owners and all states: 12,960 rows of usage."""
    generations = ["Volta", "Ampere", "Hopper", "Blackwell", "Blackwell Ultra", "Ada"]
    train = {"workload": "train", "workload_class": "training"}
    rows = [
        hand.usage_row(
            month, {**hand.OLD, "cohort": f"c{g}", "generation": name}, f"rung {g % 3}", month // 12, state,
            1234.5678 + month * g, {"tenant": f"t{t}", **train}, 98.76543, 1.234567,
        )
        for month in range(120)
        for g, name in enumerate(generations)
        for state in STATES
        for t in range(3)
    ]  # fmt: skip
    months = {"usage": rows, **{k: hand.TABLES[k] for k in ("jobs", "queue")}}
    page = reporting.report([open_run(hand.write(tmp_path / "ten", months))]).page()
    assert 1_000_000 < len(page) < 3_000_000


def test_names_of_strangers_stay_text(tmp_path: Path) -> None:
    def evil(row: dict[str, Any]) -> dict[str, Any]:
        names = ("tenant", "cohort", "workload", "tier", "failure", "repair", "generation", "cause")
        return {k: f"{v}{HOSTILE}" if k in names and v is not None else v for k, v in row.items()}

    tables = {name: [evil(dict(row)) for row in rows] for name, rows in hand.TABLES.items()}
    scenario = {
        "name": HOSTILE, "question": HOSTILE,
        "sites": [{"name": f"north{HOSTILE}", "it_power_kw": 20.0}],
        "cohorts": [{"name": f"old{HOSTILE}"}, {"name": f"new{HOSTILE}"}],
        "tiers": [{"name": f"top{HOSTILE}", "classes": ["training"]}, {"name": f"low{HOSTILE}"}],
        "workloads": [{"name": f"train{HOSTILE}", "trace": HOSTILE}],
    }  # fmt: skip
    (tmp_path / "a").mkdir()
    folder = hand.write(tmp_path / "a" / "run<img src=y>", tables, **scenario)
    runs = [open_run(folder), open_run(hand.write(tmp_path / "b"))]
    text = reporting.report(runs).page()
    block = re.search(r'id="specs">(.*?)</script>', text, re.DOTALL)
    assert block and "<" not in block[1]
    assert "<img" not in markup(text) and text.count("</script>") == 2
    assert "&lt;img src=x onerror=alert(1)&gt;" in markup(text)
    assert HOSTILE in json.dumps(specs(text), ensure_ascii=False).replace('\\"', '"')


def test_several_runs_stand_side_by_side(facts: Facts, tmp_path: Path) -> None:
    half = [{**row, "gpu_hours": row["gpu_hours"] / 2} for row in hand.USAGE]
    other = open_run(hand.write(tmp_path / "half", {**hand.TABLES, "usage": half}, retirement=None))
    made = reporting.report([facts.run, other])
    charts = {chart.name: chart for chart, _ in made.charts()}
    labels = {chart.name: label for chart, label in made.charts()}
    assert {"utilisation-1", "utilisation-2", "funnel-by-generation-2-1"} <= set(charts)
    assert (labels["utilisation-1"], labels["utilisation-2"]) == ("by-hand", "half")
    look = Look(PALETTE)
    scales = [
        charts[f"utilisation-{i}"].draw(look)["layer"][0]["encoding"]["y"]["scale"]["domain"] for i in (1, 2)
    ]
    assert scales[0] == scales[1] == [0, pytest.approx(5)]
    text = markup(made.page())
    assert "<b>10.8 k GPU h</b><small>-50.0 %</small>" in text  # installed
    assert "<small>=</small>" in text  # jobs
    assert "retirement.rule" in text and "fleetsim compare" in text


def test_generations_that_a_run_lacks_do_not_break_the_others(facts: Facts, empty: Facts) -> None:
    made = reporting.report([facts.run, empty.run])
    names = {chart.name for chart, _ in made.charts()}
    assert names >= {"utilisation-1", "values-1"} and "utilisation-2" not in names
    assert "empty: simulated 2026-01-01" in made.page()


def test_pictures(facts: Facts) -> None:
    made = reporting.report([facts.run])
    pictures = dict(islice(made.pictures(), 3))
    assert list(pictures) == [f"{chart.name}.png" for chart, _ in islice(made.charts(), 3)]
    assert all(data.startswith(b"\x89PNG") and len(data) > 5_000 for data in pictures.values())


def test_runs_that_cannot_be_reported(tmp_path: Path, facts: Facts) -> None:
    with pytest.raises(InputError, match="same folder"):
        reporting.open_runs([facts.run.path, facts.run.path])
    with pytest.raises(InputError, match="no such folder"):
        reporting.open_runs([tmp_path / "none"])
    with pytest.raises(InputError, match="13 given"):
        reporting.open_runs([tmp_path / str(i) for i in range(13)])


# Drawing


def test_shares_add_up_and_nothing_is_nothing() -> None:
    series = [Series("a", "A", "blue"), Series("b", "B", "red")]
    rows = [{"t": 0, "u": 1, "a": 3, "b": 1}, {"t": 1, "u": 2, "a": 0, "b": 0}]
    spec = drawing.stacked(rows, series, Axis((0, 2)), Look(PALETTE), share=True)
    assert [(r["t"], r["a"], r["b"]) for r in spec["data"]["values"]] == [
        (0, 0.75, 0.25),
        (1, 0, 0),
        (2, 0, 0),
    ]


def test_floats_are_rounded_and_counts_are_not() -> None:
    assert drawing.plain([{"t": 1_767_225_600_000, "v": 1234.5678, "n": "x"}]) == [
        {"t": 1_767_225_600_000, "v": 1234.6, "n": "x"}
    ]


def test_colours_are_fixed_and_differ() -> None:
    assert drawing.generation("Hopper") == drawing.generation("Hopper") != drawing.generation("Ampere")
    for name in ("generation", "tier", "state", "cause"):
        pairs = [pair for token, pair in PALETTE.items() if token.startswith(f"{name}-")]
        for i in (0, 1):
            assert len({pair[i] for pair in pairs}) == len(pairs) > 5
    assert drawing.state("unheard-of") == drawing.generation("unheard-of") == drawing.cause("?") == "other"
    for state in STATES:
        assert drawing.state(state) == f"state-{state}"
    assert {drawing.tier(i) for i in range(20)} <= set(PALETTE)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1) of #RRGGBB."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("dark", [0, 1])
def test_text_can_be_read_and_lines_can_be_seen(dark: int) -> None:
    def contrast(one: str, other: str) -> float:
        high, low = sorted((luminance(one), luminance(other)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    paper = PAPER["paper"][dark]
    assert all(contrast(PAPER[ink][dark], paper) >= 4.5 for ink in ("ink", "quiet"))
    assert contrast(PAPER["quiet"][dark], PAPER["card"][dark]) >= 4.5
    lines = [pair[dark] for token, pair in PALETTE.items() if token in ("blue", "red", "green", "other")]
    assert all(contrast(colour, paper) >= 3 for colour in lines)


def test_rungs_go_from_dark_to_light() -> None:
    shades = [luminance(PALETTE[f"tier-{i}"][0]) for i in range(5)]
    assert shades == sorted(shades)


# Words


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [("share", 0.1234, "12.3 %"), ("USD", 1.5e9, "1.50 bn USD"), ("GPUs", 1, "1 GPU"),
     ("GPUs", 80, "80 GPUs"),
     ("1", 1.25, "1.250"), ("y", 0.9234, "0.92 y"), ("jobs", 126_696, "127 k"),
     ("MWh", 18_600, "18.6 GWh"), ("t", None, "-")],
)  # fmt: skip
def test_say(unit: str, value: float | None, text: str) -> None:
    assert say(unit, value) == text


def test_short_keeps_the_sign() -> None:
    assert short(-43_210) == "-43.2 k"


def test_tables_escape_and_align() -> None:
    text = table(["<a>", "b"], [("<n>", "<x>", "1")], "<t>", words=1)
    assert "&lt;a&gt;" in text and "&lt;n&gt;" in text and "&lt;t&gt;" in text
    assert "<td class=text>&lt;x&gt;</td><td>1</td>" in text


def test_data_cannot_leave_their_block() -> None:
    text = page("t", "<p>body</p>", {"a": {"title": "<!--<script></script>"}}, PALETTE)
    assert text.count("<!--") == 0 and text.count("<script") == 2
    assert specs(text) == {"a": {"title": "<!--<script></script>"}}


def test_slots_are_those_of_the_catalogue(facts: Facts) -> None:
    from fleetsim.catalog import load_catalog

    model = load_catalog()[hand.H]
    assert isinstance(model, GpuModel)
    assert facts.slot_kw[hand.H] == model.slot_kw_per_gpu
