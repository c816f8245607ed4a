"""The bundled scenarios: all can be run, and show at a smaller size what seeds/SCENARIOS.md says they do."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fleetsim import experiment, safeyaml, scenario
from fleetsim.errors import InputError
from fleetsim.runfolder import Run
from fleetsim.sweeps import sweep
from fleetsim.units import UNIT_S, YEAR_S

PAGE = Path(__file__).parents[2] / "seeds" / "SCENARIOS.md"

#: Runs a bundled scenario, or a point of its sweep, with overrides.
Go = Callable[..., Run]


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Go:
    def run(name: str, *overrides: str, point: int | None = None) -> Run:
        if point is None:
            wanted = scenario.read(name, ("axes={}", "replications=1", *overrides), ())
        else:
            wanted = planned(name, *overrides).scenario(planned(name, *overrides).members[point])
        return experiment.run(wanted, tmp_path_factory.mktemp("runs") / "run")

    return run


def planned(name: str, *overrides: str) -> sweep.Sweep:
    made = sweep.plan(name, overrides)
    assert made is not None
    return made


def axis(name: str, path: str) -> list[Any]:
    return list(scenario.read(name, (), ()).spec.axes[path])


def raw(name: str) -> dict[str, Any]:
    made = safeyaml.load_yaml((scenario.folder() / f"{name}.yaml").read_text("utf-8"), name)
    assert isinstance(made, dict)
    return made


def ask(run: Run, sql: str) -> pl.DataFrame:
    tables = ("usage", "node_states", "jobs", "ledger", "sales", "failures", "events")
    frames = {t: run.scan(t).with_columns(pl.col(pl.Categorical).cast(pl.String)) for t in tables}
    return pl.SQLContext(frames).execute(sql).collect()


USED = "SUM(CASE WHEN state IN ('stalled', 'lost', 'productive') THEN gpu_hours ELSE 0 END)"


def shares(run: Run, by: str, where: str = "gpu_hours > 0") -> dict[Any, float]:
    """Allocated over installed GPU hours."""
    rows = ask(run, f"SELECT {by}, {USED} / SUM(gpu_hours) AS share FROM usage WHERE {where} GROUP BY {by}")
    return dict(rows.rows())


def left(run: Run, cohort: str) -> tuple[float, set[str]]:
    """When the first node of *cohort* left, in months of 1/12 year after the start, and why."""
    rows = ask(run, f"SELECT time_s, cause FROM node_states WHERE state = 'retired' AND cohort = '{cohort}'")
    assert rows.height, f"{cohort} never left"
    return min(rows["time_s"].to_list()) / UNIT_S["mo"], set(rows["cause"])


# All of them


@pytest.mark.parametrize("name", scenario.bundled())
def test_every_bundled_scenario_can_be_run_and_asks_a_question(name: str) -> None:
    read = scenario.read(name, (), ())  # raises with what is wrong
    assert read.spec.name == name
    assert read.spec.question.endswith("?")
    if read.spec.axes:
        assert len(planned(name).members) == read.spec.replications * math.prod(
            map(len, read.spec.axes.values())
        )


@pytest.mark.parametrize("name", [n for n in scenario.bundled() if n not in ("philly-small", "mixed-fleet")])
def test_every_scenario_says_its_claim_its_counter_case_and_what_it_showed(name: str) -> None:
    text = (scenario.folder() / f"{name}.yaml").read_text("utf-8")
    head = text[: text.index(f"name: {name}")]
    assert re.search(r"[Cc]laims? \d\.\d\d", head)
    assert re.search(r"(?i)counter-case", head)
    headings = re.findall(r"^## (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert any(name in heading.split(", ") for heading in headings)


def commands() -> list[list[str]]:
    """The overrides of every --set that the files offer, with the scenario they are for."""
    found: list[list[str]] = []
    for name in scenario.bundled():
        text = (scenario.folder() / f"{name}.yaml").read_text("utf-8")
        text = re.sub(r"\\\n#\s+", "", text)  # commands over several lines
        for line in re.findall(r"^# .*--set.*$", text, re.MULTILINE):
            words = re.findall(r"--set (?:'([^']*)'|(\S+))", line)
            found.append([name, *(quoted or bare for quoted, bare in words)])
    return found


REFUSED = "cohorts.gb200.site=air"


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_the_counter_cases_that_are_offered_are_sound(words: list[str]) -> None:
    name, *overrides = words
    if overrides == [REFUSED]:
        with pytest.raises(InputError) as error:
            scenario.read(name, overrides, ())
        assert [p.message for p in error.value.problems] == [
            "gb200-nvl72 needs liquid cooling, and air is cooled by air",
            "a rack of gb200-nvl72 takes 120 kW, and a rack of air 40 kW",
        ]
        return
    scenario.read(name, overrides, ())
    assert not {o.partition("=")[0] for o in overrides} & set(raw(name).get("axes", {}))


# The cascade


def test_cascade_off_is_cascade_on_but_for_the_switch() -> None:
    on, off = raw("cascade-on"), raw("cascade-off")
    assert (on.pop("name"), off.pop("name")) == ("cascade-on", "cascade-off")
    assert (on["cascade"].pop("enabled"), off["cascade"].pop("enabled")) == (True, False)
    assert on == off


def test_the_ladder_fills_hours_that_are_stranded_without_it(go: Go) -> None:
    on, off = (go(f"cascade-{switch}", "horizon=9y") for switch in ("on", "off"))
    counts = [ask(r, "SELECT status, COUNT(*) AS n FROM jobs GROUP BY status") for r in (on, off)]
    of = [dict(c.rows()) for c in counts]
    assert sum(of[0].values()) == sum(of[1].values())  # the same jobs ...
    assert of[0]["completed"] > 1.5 * of[1]["completed"]
    installed = [ask(r, "SELECT SUM(gpu_hours) AS h FROM usage")["h"][0] for r in (on, off)]
    assert installed[0] == pytest.approx(installed[1], rel=0.003)  # ... on the same nodes
    old_on, old_off = (shares(r, "generation", "age_band >= 3") for r in (on, off))
    assert old_on["Volta"] > old_off["Volta"] + 0.3
    assert old_on["Ampere"] > old_off["Ampere"] + 0.3
    # Tier shares of the allocated hours add up at every age, and lower rungs use older cards.
    tiers = ask(on, f"SELECT age_band, tier, {USED} AS h FROM usage GROUP BY age_band, tier")
    whole = ask(on, f"SELECT age_band, {USED} AS h FROM usage GROUP BY age_band")
    for age, hours in whole.rows():
        parts = tiers.filter(pl.col("age_band") == age)["h"]
        assert math.fsum(part / hours for part in parts) == pytest.approx(1, abs=1e-9)
    ages = ask(on, "SELECT tier, SUM((age_band + 0.5) * gpu_hours) / SUM(gpu_hours) AS age FROM usage "
               "WHERE state = 'productive' GROUP BY tier ORDER BY age")  # fmt: skip
    assert ages["tier"].to_list() == ["frontier", "training", "inference", "batch"]
    used = shares(off, "tier")
    assert set(used) == {"frontier", "inference"}  # where nodes were bought for
    assert left(on, "v100-1")[1] == {"sale"}
    assert left(off, "v100-1")[1] == {"fixed_age"}


def test_generations_stop_being_used_where_there_is_no_demand_below(go: Go) -> None:
    """Volta's break-even is a batch load of 0.06 where inference has a tenth; A100s serve others too."""
    low, high = (
        go("cascade-demand", "workloads.inference.load=0.0015", f"workloads.batch.load={load}")
        for load in (0.02, 0.16)
    )
    last = f"period_start_s >= {7 * YEAR_S - 1e5}"
    assert shares(low, "generation", last)["Volta"] < 0.05 < shares(high, "generation", last)["Volta"]
    assert shares(low, "generation", last)["Ampere"] > 0.05


# How long a part lives


TINY_HALL = ("cohorts.a100.nodes=11", "cohorts.b200.nodes=5", "sites.main.it_power_kw=71.5",
             "workloads.inference.load=0.02")  # fmt: skip


def test_the_rule_decides_how_long_a_part_lives(go: Go) -> None:
    """W16, at the first monthly review from t* on: -0.52 y, but the B200 ships after 14 days; 2.81; 10.55."""
    rules = axis("retirement-rules", "retirement")
    found = [left(go("retirement-rules", *TINY_HALL, point=i), "a100") for i in range(len(rules))]
    assert [causes for _, causes in found] == [{rule["rule"]} for rule in rules]
    months = [
        0,  # older than 17 months when the run begins
        12, 24,  # delivered four years before: 60 and 72 months
        1,
        math.ceil(12 * 2.810181),
        math.ceil(12 * 10.550581),
    ]  # fmt: skip
    assert [month for month, _ in found] == pytest.approx(months, abs=0.24)  # 7 days of draining


def test_the_price_of_power_moves_cash_out_but_not_the_slot_rule(go: Go) -> None:
    """W17: at 16 ct/kWh 2.81 and 8.74 years."""
    for point, years in ((4, 2.810181), (5, 8.736178)):
        run = go("retirement-rules", *TINY_HALL, "economics.usd_per_kwh=0.16", point=point)
        assert left(run, "a100")[0] == pytest.approx(math.ceil(12 * years), abs=0.24)


def test_seventeen_months_and_six_years_are_a_rent_apart(go: Go) -> None:
    """W18: 4.105 $/h gives 17 months, 2.859 five years, 2.655 six."""
    assert axis("life-span", "economics.prices.1.usd_per_gpu_hour") == [4.11, 3.50, 2.86, 2.66]
    found = [left(go("life-span", *TINY_HALL, point=i), "a100")[0] for i in range(4)]
    assert found == pytest.approx([17, 34, 60, 72], abs=0.24)


@pytest.mark.parametrize("point", range(3))
def test_a_retrofit_puts_off_the_end_of_old_cards(go: Go, point: int) -> None:
    run = go("slots-air-liquid", "workloads.inference.load=0.02", point=point)
    retrofit = axis("slots-air-liquid", "retirement.retrofit_usd_per_kw")[point]
    kw = 120 / 72
    crf = 0.1 / (1 - 1.1**-5)
    annuity = ((55_000 / kw + retrofit) - 5_500 / kw / 1.1**5) * crf
    net = (3.50 * 0.85 * 8760 - 1200) / kw - annuity  # energy is the same for both, per kW
    rent = (net * 0.8125 + 500) / (0.80 * 8760)  # of an A100 that earns as much
    years = math.log(rent / 1.50) / math.log(0.8)
    assert years == pytest.approx([2.5236, 3.0329, 3.6076][point], abs=1e-3)
    month, causes = left(run, "a100-air")
    assert month == pytest.approx(math.ceil(12 * years), abs=0.24)
    assert causes == {"slot"}
    # 240 kW hold 20 A100 servers (130 kW) and 7 of 14.3 kW; nine wait until A100s leave.
    came = ask(run, "SELECT cause, COUNT(*) AS n FROM node_states WHERE cohort = 'b200' AND "
               "(cause = 'slot' OR state = 'up' AND cause = 'delivery') GROUP BY cause")  # fmt: skip
    assert dict(came.rows()) == {"delivery": 7, "slot": 9}


@pytest.mark.parametrize("months", [12, 24])
def test_a_generation_lives_three_cadences_where_power_holds_three(go: Go, months: int) -> None:
    dates = {"p100": -months, "a100": months, "h100": 2 * months, "b200": 3 * months}
    later = [f"cohorts.{cohort}.delivered={date}mo" for cohort, date in dates.items()]
    small = [f"workloads.{w}.load=0.005" for w in ("training", "inference", "batch")]
    run = go("cadence", *later, *small)
    rows = ask(run, "SELECT cohort, cause, MIN(age_s) AS young, MAX(age_s) AS old, COUNT(*) AS n "
               "FROM node_states WHERE state = 'retired' GROUP BY cohort, cause ORDER BY cohort")  # fmt: skip
    assert rows.select("cohort", "cause", "n").rows() == [("p100", "power", 62), ("v100", "power", 57)]
    for bound in ("young", "old"):
        assert [age / UNIT_S["mo"] for age in rows[bound]] == pytest.approx([3 * months] * 2, abs=0.24)
    plenty = go("cadence", *later, *small, "sites.main.it_power_kw=1100")
    assert not ask(plenty, "SELECT node FROM node_states WHERE state = 'retired'").height


# Money


def test_books_change_nothing_but_the_books(go: Go) -> None:
    small = ("cohorts.h100.nodes=2", "workloads.inference.load=0.03")
    sql = (
        "SELECT period_end_s, SUM(book_value_usd) AS book, SUM(market_value_usd) AS market, "
        "SUM(intrinsic_value_usd) AS intrinsic, SUM(margin_usd) AS margin FROM ledger "
        "GROUP BY period_end_s ORDER BY period_end_s"
    )
    three, four, five, six, cut = (ask(go("book-life", *small, point=i), sql) for i in range(5))
    for other in (three, four, five, cut):
        assert other.drop("book").equals(six.drop("book"))
    years = (six["period_end_s"] / YEAR_S).to_list()
    price = 16 * 50_000

    def line(life: float) -> list[float]:
        return [price * max(0.0, 1 - y / life) for y in years]

    assert six["book"].to_list() == pytest.approx(line(6), abs=1e-6)
    assert three["book"].to_list() == pytest.approx(line(3), abs=1e-6)
    # W02: 33,333 of 50,000 are left after two years, and written off over the three to come.
    changed = [price * (1 - y / 6 if y <= 2 else max(0.0, 2 / 3 * (5 - y) / 3)) for y in years]
    assert cut["book"].to_list() == pytest.approx(changed, abs=1e-6)
    worth = [max(pair) for pair in zip(six["market"], six["intrinsic"], strict=True)]
    over = [y for y, book, value in zip(years, six["book"], worth, strict=True) if book > value]
    assert (over[0], over[-1]) == pytest.approx((0.25, 4.75), abs=0.02)
    over = [y for y, book, value in zip(years, three["book"], worth, strict=True) if book > value]
    assert over[-1] == pytest.approx(0.5, abs=0.02)


def test_the_market_takes_as_many_cards_as_it_is_deep(go: Go) -> None:
    deep, thin, closed = (go("secondary-market", "workloads.inference.load=0.02", point=i) for i in range(3))
    sql = "SELECT SUM(gpus) AS gpus, SUM(gpus * usd_per_gpu) AS usd FROM sales WHERE cohort = 'a100'"
    many, few = ask(deep, sql).rows()[0], ask(thin, sql).rows()[0]
    assert many[0] == 1024  # 20 a month: sold out after 52 of the 60 months
    assert 60 * 2 <= few[0] <= 60 * 0.002 * 1024
    assert many[1] > 8 * few[1]
    assert not closed.scan("sales").collect().height
    for run in (deep, thin, closed):
        month, causes = left(run, "a100")
        assert month == pytest.approx(60, abs=0.24)
        assert causes == {"fixed_age"}


# Failures


def test_availability_is_mtbf_over_mtbf_and_time_to_repair(go: Go) -> None:
    """W26, within four standard errors of the number of failures."""
    rates, repairs = (2.3725, 0.8541), (1, 3, 7)
    small = "workloads.training.load=0.01"
    down: list[list[float]] = []
    for regime in range(3):
        found: list[float] = []
        for k in range(3):
            run = go("failure-regimes", small, point=3 * regime + k)
            rows = ask(run, "SELECT SUM(CASE WHEN state = 'down' THEN gpu_hours ELSE 0 END) / "
                       "SUM(gpu_hours) AS down FROM usage")  # fmt: skip
            found.append(rows["down"][0])
        down.append(found)
    for rate, of_rate in zip(rates, down, strict=False):
        for days, share in zip(repairs, of_rate, strict=True):
            mtbf = 365 / rate
            error = 4 / math.sqrt(64 * 6 * rate)
            assert share == pytest.approx(days / (mtbf + days), rel=error)
    for constant, worn in zip(down[0], down[2], strict=True):
        # Four years at one rate and two at twice that: 8 / 6.
        assert worn / constant == pytest.approx(8 / 6, rel=0.2)
