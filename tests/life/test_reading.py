"""What a scenario's words about its cohorts and sites mean: series, delays, rungs, prices, carbon."""

from __future__ import annotations

import json
from math import exp, inf, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetsim import scenario
from fleetsim.errors import InputError, Problem
from fleetsim.records import GENERAL, Cohort
from fleetsim.scenario import Scenario, parse
from fleetsim.streams import stream

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S

WORKLOAD = {"name": "w", "trace": "philly-like-10k", "reference_gpu": "t4"}


def read(*cohorts: dict[str, Any], overrides: tuple[str, ...] = (), **sections: Any) -> Scenario:
    """A scenario of five years from 2026 on, with cohorts of one T4 node each unless they say more."""
    given = {
        "name": "x", "start": "2026-01-01", "horizon": "5y", "workloads": [WORKLOAD],
        "cohorts": [{"gpu_model": "t4", "nodes": 1, **c} for c in cohorts], **sections,
    }  # fmt: skip
    return parse(json.dumps(given), "f.yaml", overrides)


def problems(*cohorts: dict[str, Any], **sections: Any) -> list[Problem]:
    with pytest.raises(InputError) as caught:
        read(*cohorts, **sections)
    return list(caught.value.problems)


def one(cohort: dict[str, Any], **sections: Any) -> Cohort:
    (only,) = read({"name": "a", **cohort}, **sections).cohorts
    return only


# Series


def test_a_series_is_a_cohort_of_each_delivery() -> None:
    """Every 18 months from day 90: 90, 637.5 and 1185; contract and order go with it."""
    found = read(
        {
            "name": "a", "nodes": 2, "delivered": "90d", "series": {"every": "18mo", "count": 3},
            "ordered": "-1d", "contract_until": "2y", "burn_in": "1d",
        },
        {"name": "b", "nodes": 3},
    )  # fmt: skip
    assert [c.name for c in found.cohorts] == ["a-1", "a-2", "a-3", "b"]
    assert [c.delivered_s / DAY_S for c in found.cohorts[:3]] == [90, 90 + 547.5, 90 + 1095]
    assert [c.contract_until_s / DAY_S for c in found.cohorts[:3]] == [730, 730 + 547.5, 730 + 1095]
    assert [c.ordered_s for c in found.cohorts] == [-DAY_S, 546.5 * DAY_S, 1094 * DAY_S, None]
    assert [c.burn_in_s for c in found.cohorts] == [DAY_S, DAY_S, DAY_S, 0]
    assert [c.series for c in found.cohorts] == ["a", "a", "a", None]
    assert [[*c.node_numbers] for c in found.cohorts] == [[0, 1], [2, 3], [4, 5], [6, 7, 8]]
    assert [(c.name, c.nodes) for c in found.cohort_words] == [("a-1", 2), ("a-2", 2), ("a-3", 2), ("b", 3)]
    assert [c.name for c in found.spec.cohorts] == ["a", "b"]  # as written


def test_deliveries_from_the_horizon_on_are_left_out() -> None:
    """Yearly from year 2 on, within five years: 2, 3 and 4. That of year 5 comes as the run ends."""
    found = read({"name": "a", "delivered": "2y", "series": {"every": "1y", "count": 9}}, {"name": "b"})
    assert [c.name for c in found.cohorts] == ["a-1", "a-2", "a-3", "b"]
    assert [c.first_node for c in found.cohorts] == [0, 1, 2, 3]
    (problem,) = problems({"name": "a", "delivered": "5y", "series": {"every": "1y", "count": 9}})
    assert problem.place.endswith("cohorts[0].delivered")


def test_a_run_that_drains_has_every_delivery() -> None:
    found = read({"name": "a", "series": {"every": "100y", "count": 4}}, horizon="drain")
    assert [c.delivered_s / YEAR_S for c in found.cohorts] == [0, 100, 200, 300]


def test_an_override_changes_the_purchase() -> None:
    series = {"name": "a", "series": {"every": "1y", "count": 3}}
    assert [c.nodes for c in read(series, overrides=("cohorts.a.nodes=7",)).cohorts] == [7, 7, 7]
    assert len(read(series, overrides=("cohorts.a.series.count=2",)).cohorts) == 2


def test_every_delivery_knows_how_its_nodes_are_connected() -> None:
    series = {
        "name": "a",
        "nodes": 4,
        "topology": {"nodes_per_rack": 2},
        "series": {"every": "1y", "count": 2},
    }
    found = read(series, scheduler={"placement": "topology"})
    assert [c.topology.nodes_per_rack for c in found.cohort_words if c.topology] == [2, 2]


def test_too_many_nodes_are_counted_over_all_deliveries() -> None:
    (problem,) = problems({"name": "a", "nodes": 600_000, "series": {"every": "1y", "count": 5}})
    assert problem.message == "3,000,000 nodes in all"


# Delays


def test_a_fixed_delay_is_added() -> None:
    late = {"delivered": "90d", "delay": "30d", "contract_until": "1y", "ordered": "1d"}
    found = one(late)
    assert found.delivered_s == 120 * DAY_S
    assert (found.contract_until_s, found.ordered_s) == (YEAR_S, DAY_S)  # dates stay
    assert one({"delivered": "90d"}).delivered_s == 90 * DAY_S


@given(st.integers(0, 2**40), st.floats(0, 2))
def test_a_delay_of_chance_is_log_normal_and_of_its_own_stream(seed: int, sigma: float) -> None:
    """Of the cohort's name alone: what else is bought does not shift it."""
    chance = {"name": "b", "delivered": "1d", "delay": {"median": "2d", "sigma": sigma}}
    *_, found = read({"name": "a"}, chance, seed=seed, horizon="drain").cohorts
    drawn = stream(seed, "delay", "b").standard_normal()
    assert found.delivered_s == DAY_S + 2 * DAY_S * exp(sigma * drawn)
    alone = read(chance, seed=seed, horizon="drain").cohorts[0]
    assert alone.delivered_s == found.delivered_s


def test_half_of_the_delays_are_below_the_median() -> None:
    """And the logarithm spreads by sigma: 1,000 deliveries, each drawn for itself."""
    chance = {"median": "30d", "sigma": 0.8}
    found = read(
        {"name": "a", "delivered": "1d", "series": {"every": "1d", "count": 1000}, "delay": chance},
        horizon="drain",
    )
    delays = [log((c.delivered_s / DAY_S - n) / 30) for n, c in enumerate(found.cohorts, 1)]
    assert abs(np.median(delays)) < 3 * 0.8 * 1.2533 / 1000**0.5  # standard error of a median
    assert abs(np.std(delays) - 0.8) < 3 * 0.8 / 2000**0.5


def test_chance_has_no_say_in_what_is_there_at_the_start() -> None:
    """Deliveries at -1 y, 0 and 1 y: only the last one is late."""
    found = read(
        {"name": "a", "delivered": "-1y", "series": {"every": "1y", "count": 3},
         "delay": {"median": "30d", "sigma": 0}},
    )  # fmt: skip
    assert [c.delivered_s / DAY_S for c in found.cohorts] == [-365, 0, 395]


def test_what_is_delayed_beyond_the_horizon_never_comes() -> None:
    """Without an error, and nodes are numbered without it."""
    found = read({"name": "a", "delivered": "4y", "delay": "1y"}, {"name": "b"})
    assert [(c.name, c.first_node) for c in found.cohorts] == [("b", 0)]
    assert [c.name for c in found.cohort_words] == ["b"]
    (problem,) = problems({"name": "a", "delivered": "4y", "delay": "1y"})
    assert problem.message == "none is delivered before the horizon ends, as late as they are"


# Rungs


TIERS = [
    {"name": "frontier", "data_type": "fp8", "min_domain_gpus": 8},
    {"name": "sold", "for_sale": True},
    {"name": "inference", "min_memory_gb": 40},
    {"name": "batch"},
]


@pytest.mark.parametrize(
    ("model", "rung"),
    [("h100-sxm-80", "frontier"), ("a100-sxm-80", "inference"), ("t4", "batch"), ("l40s", "frontier")],
)
def test_a_cohort_begins_on_the_first_rung_that_it_fits(model: str, rung: str) -> None:
    """The L40S has no NVLink, but eight in a node are a domain of eight."""
    fleet = ["h100-sxm-80", "a100-sxm-80", "t4", "l40s"]
    found = read(*({"name": m, "gpu_model": m} for m in fleet), tiers=TIERS)
    assert {c.name: c.tier for c in found.cohorts}[model] == rung


def test_a_cohort_begins_where_it_says() -> None:
    fleet = [{"name": m, "gpu_model": m} for m in ("h100-sxm-80", "a100-sxm-80")]
    low = {"name": "low", "gpu_model": "h100-sxm-80", "tier": "batch"}
    assert [c.tier for c in read(*fleet, low, tiers=TIERS).cohorts] == ["frontier", "inference", "batch"]


def test_without_a_ladder_there_is_one_rung() -> None:
    assert one({}).tier == GENERAL == "general"


def listed(tmp_path: Path, **sections: Any) -> Scenario:
    (tmp_path / "nodes.csv").write_text("sn,cpu_milli,memory_mib,gpu,model\nn1,8000,65536,8,T4\nn2,1,1,8,A\n")
    given = {
        "name": "x", "start": "2026-01-01", "horizon": "5y", "workloads": [WORKLOAD],
        "node_list": {"file": "nodes.csv", "gpu_names": {"T4": "t4", "A": "a100-sxm-80"}}, **sections,
    }  # fmt: skip
    (tmp_path / "s.yaml").write_text(json.dumps(given))
    return scenario.read(str(tmp_path / "s.yaml"))


def test_listed_nodes_begin_on_their_rungs_too(tmp_path: Path) -> None:
    tiers = [TIERS[2], TIERS[3]]
    found = listed(tmp_path, tiers=tiers)
    assert {c.model.id: c.tier for c in found.cohorts} == {"t4": "batch", "a100-sxm-80": "inference"}
    assert {c.capex_usd_per_gpu for c in found.cohorts} == {3800.0, 28000.0}
    with pytest.raises(InputError) as caught:
        listed(tmp_path, tiers=tiers[:1])
    (problem,) = caught.value.problems
    assert problem.place.endswith(" node_list.file")
    assert problem.message == "t4 may stand on no rung: inference: 16 GB is less than 40 GB"


# Sites and prices


@pytest.mark.parametrize(
    ("words", "pue"),
    [({}, 1.25), ({"cooling": "air"}, 1.25), ({"cooling": "liquid"}, 1.12),
     ({"cooling": "liquid", "pue": 1.4}, 1.4), ({"pue": 1}, 1.0)],
)  # fmt: skip
def test_pue_is_that_of_the_cooling(words: dict[str, Any], pue: float) -> None:
    assert one({}, sites=[{"name": "s", **words}]).site.pue == pue


def test_a_site_is_what_it_says() -> None:
    site = one({}, sites=[{"name": "s", "it_power_kw": 9, "over_power": "wait"}]).site
    assert (site.it_power_kw, site.over_power, site.carbon_g_per_kwh) == (9, "wait", ())


def test_the_nearest_price_counts() -> None:
    """The cohort's own, else that of `economics`, else the catalogue's with the server (T4: 3,800)."""
    money = {"gpu_models": [{"gpu_model": "t4", "capex_usd_per_gpu": 3000}]}
    assert one({"capex_usd_per_gpu": 2000}, economics=money).capex_usd_per_gpu == 2000
    assert one({}, economics=money).capex_usd_per_gpu == 3000
    assert one({}).capex_usd_per_gpu == 3800
    assert one({"gpu_model": "tpu-v5e"}).capex_usd_per_gpu is None  # nobody says


def test_without_a_contract_anything_goes() -> None:
    found = one({})
    assert (found.contract_until_s, found.ordered_s, found.burn_in_s) == (-inf, None, 0)


# Carbon


def carbon(tmp_path: Path, text: str, name: str = "c.csv") -> tuple[float, ...]:
    (tmp_path / "c.csv").write_text(text)
    given = {
        "name": "x", "start": "2026-01-01", "horizon": "5y", "workloads": [WORKLOAD],
        "sites": [{"name": "s", "carbon_g_per_kwh": name}],
        "cohorts": [{"name": "a", "gpu_model": "t4", "nodes": 1}],
    }  # fmt: skip
    (tmp_path / "s.yaml").write_text(json.dumps(given))
    return scenario.read(str(tmp_path / "s.yaml")).cohorts[0].site.carbon_g_per_kwh


def test_carbon_is_a_figure_or_a_file(tmp_path: Path) -> None:
    assert one({}, sites=[{"name": "s", "carbon_g_per_kwh": 400}]).site.carbon_g_per_kwh == (400,)
    assert carbon(tmp_path, "hour,g_per_kwh\n0,412.5\n1,0\n2,3e2\n") == (412.5, 0.0, 300.0)
    assert carbon(tmp_path, "g_per_kwh,hour\n5,0\n") == (5.0,)


@pytest.mark.parametrize(
    ("text", "line", "fragments"),
    [
        ("hour,g_per_kwh\n0,1\n2,1\n3,1\n", ":3", ["hour '2'", "It must be 1: 0, 1, 2 ..., none left out."]),
        ("hour,g_per_kwh\n1,1\n", ":2", ["hour '1'", "It must be 0"]),
        ("hour,g_per_kwh\n0,1\n0,1\n", ":3", ["hour '0'", "It must be 1"]),
        ("hour,g_per_kwh\n0,many\n", ":2", ["g_per_kwh 'many'", "A number, 0 or more."]),
        ("hour,g_per_kwh\n0,-1\n", ":2", ["g_per_kwh '-1'"]),
        ("hour,g_per_kwh\n0,nan\n", ":2", ["g_per_kwh 'nan'"]),
        ("hour,g_per_kwh\n0,inf\n", ":2", ["g_per_kwh 'inf'"]),
        ("hour,g_per_kwh\n0,\n", ":2", ["g_per_kwh ''"]),
        ("hour,g_per_kwh\n0,1,5\n", ":2", ["3 fields", "A row is an hour and its grams of CO2 per kWh"]),
        ("hour,g_per_kwh\n", "", ["no hour at all"]),
        ("", "", ["an empty file", "0,412.5"]),
        ("time,g_per_kwh\n0,1\n", ":1", ["the columns are time, g_per_kwh", "must be hour and g_per_kwh."]),
    ],
)
def test_a_fault_of_the_carbon_is_told_with_its_line(
    tmp_path: Path, text: str, line: str, fragments: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        carbon(tmp_path, text)
    (problem,) = caught.value.problems
    assert problem.place.startswith(f"{tmp_path.resolve() / 'c.csv'}{line}")
    for fragment in fragments:
        assert fragment in f"{problem.message} {problem.remedy}"


def test_all_faults_of_the_carbon_come_at_once_up_to_twenty(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        carbon(tmp_path, "hour,g_per_kwh\n" + "".join(f"{n},-1\n" for n in range(50)))
    assert [p.place.rsplit(":", 1)[1] for p in caught.value.problems] == [str(n) for n in range(2, 22)]


def test_a_century_of_carbon_is_the_most(tmp_path: Path) -> None:
    assert len(carbon(tmp_path, "hour,g_per_kwh\n" + "".join(f"{n},1\n" for n in range(876_000)))) == 876_000
    with pytest.raises(InputError) as caught:
        carbon(tmp_path, "hour,g_per_kwh\n" + "".join(f"{n},1\n" for n in range(876_001)))
    assert caught.value.problems[0].message == "876,001 hours"


@pytest.mark.parametrize("name", ["../secret.csv", "/etc/passwd", "gone.csv", "a\0b"])
def test_carbon_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.csv").write_text("hour,g_per_kwh\n0,1\n")
    with pytest.raises(InputError) as caught:
        carbon(inside, "hour,g_per_kwh\n0,1\n", name)
    (problem,) = caught.value.problems
    assert problem.message == f"no file {name!r}" and "--traces" in problem.remedy
    assert problem.place.endswith(" sites[0].carbon_g_per_kwh")
