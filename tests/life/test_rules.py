"""Each fault of the life of nodes alone: its path, and what its message and remedy hold."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from life.aging import AGING, ALL, CASCADES, RETIREMENTS, without_ages

from fleetsim.catalog import load_catalog
from fleetsim.errors import InputError, Problem
from fleetsim.life.ladder import below, computes, entry, ladder, meets
from fleetsim.life.spec import TierSpec
from fleetsim.scenario import Scenario, parse

CATALOG = load_catalog()

#: What leaves a key out.
GONE = object()


def changed(*changes: tuple[str, Any], of: dict[str, Any] = AGING) -> dict[str, Any]:
    """*of* with other values at these paths."""
    tree: Any = copy.deepcopy(of)
    for path, value in changes:
        at = tree
        *steps, last = path.split(".")
        for step in steps:
            at = at[int(step) if isinstance(at, list) else step]
        if value is GONE:
            del at[int(last) if isinstance(at, list) else last]
        elif isinstance(at, list):
            at[int(last) : int(last) + 1] = [value]  # the next one is appended
        else:
            at[last] = value
    return dict(tree)


def problems(given: dict[str, Any]) -> list[Problem]:
    with pytest.raises(InputError) as caught:
        parse(json.dumps(given), "f.yaml")
    return list(caught.value.problems)


def refused(fault: str, cases: dict[str, tuple[list[tuple[str, Any]], str, list[str]]], of: Any) -> None:
    changes, path, fragments = cases[fault]
    found = problems(changed(*changes, of=of))
    assert len(found) == 1, [str(p) for p in found]
    assert found[0].place.split(" ", 1)[1] == path
    said = f"{found[0].message} {found[0].remedy}"
    for fragment in fragments:
        assert fragment in said
    assert str(found[0]).isprintable() and found[0].remedy


@pytest.mark.parametrize("name", ALL)
def test_the_scenarios_are_sound(name: str) -> None:
    assert isinstance(parse(json.dumps(ALL[name]), "f.yaml"), Scenario)


def test_the_one_switch_may_be_either_way() -> None:
    for of in ALL.values():
        parse(json.dumps(changed(("cascade.enabled", False), of=of)), "f.yaml")


#: Of AGING. Rungs: frontier (fp8, 80 GB; H100 and B200), inference, batch, sold.
FAULTS: dict[str, tuple[list[tuple[str, Any]], str, list[str]]] = {
    "two rungs of a name": (
        [("tiers.4", {"name": "batch"})], "tiers", ["the name 'batch' occurs 2 times", "unique"],
    ),
    "two failures of a name": (
        [("failures.2.name", "wear")], "failures", ["the name 'wear' occurs 2 times"],
    ),
    "no such rung below": (
        [("tiers.0.next", "inferense")], "tiers[0].next",
        ["no tier 'inferense'", "Did you mean inference?", "Tiers are: frontier, inference, batch, sold."],
    ),
    "a ladder that goes round": (
        [("tiers.2.next", "frontier")], "tiers[2].next",
        ["the ladder goes round: frontier -> inference -> batch -> frontier", "It must end"],
    ),
    "a rung below itself": (
        [("tiers.2.next", "batch")], "tiers[2].next", ["the ladder goes round: batch -> batch"],
    ),
    "a rung for no job": (
        [("tiers.0.min_gpus", 65)], "tiers[0].max_gpus",
        ["min_gpus 65 is above max_gpus 64: it admits no job", "Raise it"],
    ),
    "a rung for an unknown tenant": (
        [("tiers.0.tenants", ["red", "rde"])], "tiers[0].tenants[1]",
        ["no tenant 'rde'", "Tenants are: red, blue."],
    ),
    "a rung that no cohort reaches": (
        [("tiers.2.min_memory_gb", 500)], "tiers[2]",
        ["no cohort may stand there: a100-sxm-80: 80 GB is less than 500 GB; h100-sxm-80: 80 GB is", "b200"],
    ),
    "a rung for sale that admits": (
        [("tiers.3.classes", ["batch"])], "tiers[3].classes", ["is sold, and runs nothing", "Leave it out."],
    ),
    "a rung for sale with one below": (
        [("tiers.3.next", "batch")], "tiers[3].next", ["is sold, and runs nothing"],
    ),
    "a cohort on no such rung": (
        [("cohorts.0.tier", "batsh")], "cohorts[0].tier", ["no tier 'batsh'", "Did you mean batch?"],
    ),
    "a cohort on a rung above it": (
        [("cohorts.0.tier", "frontier")], "cohorts[0].tier",
        ["a100-sxm-80 may not stand on 'frontier': no fp8", "Take another rung"],
    ),
    "a cohort for sale": (
        [("cohorts.0.tier", "sold")], "cohorts[0].tier", ["'sold' is for sale: nothing stands there"],
    ),
    "a cohort that fits no rung": (
        [("cohorts.3", {"name": "t4", "gpu_model": "t4", "nodes": 1}), ("tiers.1.min_memory_gb", 24),
         ("tiers.2.min_domain_gpus", 8)],
        "cohorts[3].gpu_model",
        ["t4 may stand on no rung", "inference: 16 GB is less than 24 GB",
         "batch: a domain of 4 is less than 8 GPUs"],
    ),
    "a ladder of one rung": (
        [("tiers", [{"name": "only"}]), ("cohorts.0.tier", "only"), ("sites.0.over_power", "wait"),
         ("economics.prices.1.tiers", ["only"])],
        "cascade", ["there is no rung to go down to", "Give two `tiers` or more"],
    ),
    "no ladder": (
        [("tiers", GONE), ("cohorts.0.tier", GONE), ("sites.0.over_power", "wait"),
         ("economics.prices.1.tiers", ["general"])],
        "cascade", ["there is no rung to go down to"],
    ),
    "a rung of no ladder": (
        [("tiers", GONE), ("cascade", GONE), ("sites.0.over_power", "wait"),
         ("economics.prices.1.tiers", ["general"])],
        "cohorts[0].tier", ["'inference', but the scenario has no ladder", "Give `tiers`"],
    ),
    "by age, at none": (
        [("tiers", without_ages())], "cascade.rule", ["age, but no rung says at which", "leave_at"],
    ),
    "a lower rung left earlier": (
        [("tiers.1.leave_at", "18mo")], "tiers[1].leave_at",
        ["'18mo', but frontier above it is left at '2y'", "A rung further down is left later."],
    ),
    "a rung with none below left": (
        [("tiers.3", GONE), ("tiers.2.leave_at", "5y")], "tiers[2].leave_at",
        ["there is no rung below batch"],
    ),
    "sold at an age": (
        [("tiers.3.leave_at", "9y")], "tiers[3].leave_at", ["is sold, and runs nothing"],
    ),
    "an option of successors": (
        [("cascade.successors", 2)], "cascade.successors",
        ["means nothing to rule `age`", "Leave it out, or take one of: successor."],
    ),
    "an option of reviews": (
        [("cascade.review", "2mo")], "cascade.review", ["means nothing to rule `age`", "pressure, margin"],
    ),
    "a step of no pressure": (
        [("cascade.step", 0.5)], "cascade.step", ["means nothing to rule `age`", "pressure"],
    ),
    "a wait of no pressure": ([("cascade.min_wait", "3h")], "cascade.min_wait", ["means nothing to rule"]),
    "a class that no rung admits": (
        [("workloads.0.workload_class", "batch"), ("tiers.2.classes", ["interactive"])],
        "workloads[0].workload_class",
        ["no rung admits batch", "The rungs admit: training, fine_tuning, inference, interactive."],
    ),
    "strict jobs on relaxed rungs": (
        [("tiers.1.latency", "relaxed"), ("tiers.2.latency", "relaxed")], "workloads[0].latency",
        ["strict, but the rungs that admit its inference jobs are relaxed: inference, batch"],
    ),
    "a tenant that no rung admits": (
        [("tiers.1.tenants", ["blue"]), ("tiers.2.tenants", ["blue"])], "workloads[0].tenant",
        ["no rung that admits its inference jobs admits 'red': inference, batch"],
    ),
    "a data type that nobody has": (
        [("cohorts", [{"name": "a", "gpu_model": "a100-sxm-80", "nodes": 1}]), ("tiers.0.data_type", GONE),
         ("workloads.0.data_type", "fp4"), ("failures", GONE), ("spares", GONE)],
        "workloads[0].data_type", ["no cohort computes with fp4 in hardware", "The fleet has: a100-sxm-80."],
    ),
    # Retirement
    "no age": ([("retirement.age", GONE)], "retirement.age", ["missing: `fixed_age` needs it", "age: 5y"]),
    "a successor of an age": (
        [("retirement.successor", "b200-sxm-180")], "retirement.successor",
        ["means nothing to rule `fixed_age`", "Leave it out, or take one of: naive, slot."],
    ),
    "failures of an age": ([("retirement.failures", 2)], "retirement.failures", ["take one of: failure"]),
    "a retrofit of an age": (
        [("retirement.retrofit_usd_per_kw", 3000)], "retirement.retrofit_usd_per_kw", ["take one of: slot"],
    ),
    "a review of an age": (
        [("retirement.review", "2mo")], "retirement.review", ["take one of: cash_out, naive, slot"],
    ),
    "an age of a slot": (
        [("retirement", {**RETIREMENTS[2], "age": "5y"})], "retirement.age", ["take one of: fixed_age"],
    ),
    "no successor": (
        [("retirement", {"rule": "naive"})], "retirement.successor", ["missing: `naive` needs it"],
    ),
    "no such successor": (
        [("retirement", {"rule": "naive", "successor": "b300"})], "retirement.successor",
        ["unknown GPU model 'b300'", "fleetsim gpu list"],
    ),
    "a successor without a price": (
        [("retirement", {"rule": "slot", "successor": "trainium2"})], "retirement.successor",
        ["nobody says what a GPU of trainium2 costs", "capex_usd_per_gpu"],
    ),
    "no number of failures": (
        [("retirement", {"rule": "failure"})], "retirement.failures", ["missing: `failure` needs it"],
    ),
    "failures that never come": (
        [("retirement", {"rule": "failure", "failures": 2}), ("failures", GONE), ("spares", GONE)],
        "retirement.rule", ["nothing in the scenario makes a node fail", "Give `failures`"],
    ),
    "failures of jobs alone": (
        [("retirement", {"rule": "failure", "failures": 2}), ("failures", [AGING["failures"][1]]),
         ("spares", GONE)],
        "retirement.rule", ["nothing in the scenario makes a node fail"],
    ),
    "no money to cash out": (
        [("retirement", {"rule": "cash_out"}), ("economics", GONE)], "economics",
        ["no rent of a100-sxm-80 on inference, a100-sxm-80 on batch, h100-sxm-80 on frontier",
         "which retirement by cash_out needs", "usd_per_gpu_hour"],
    ),
    "no rent of the successor": (
        [("retirement", {"rule": "slot", "successor": "gb300-nvl72"}),
         ("economics.prices", [{"gpu_models": ["a100-sxm-80", "h100-sxm-80", "b200-sxm-180"],
                                "usd_per_gpu_hour": 1}])],
        "economics.prices",
        ["no rent of gb300-nvl72 on inference, gb300-nvl72 on batch, gb300-nvl72 on frontier, which "
         "retirement by slot needs"],
    ),
    "no rent on a lower rung": (
        [("retirement", {"rule": "cash_out"}),
         ("economics.prices", [{"tiers": ["frontier", "inference"], "usd_per_gpu_hour": 1}])],
        "economics.prices", ["no rent of a100-sxm-80 on batch, h100-sxm-80 on batch, b200-sxm-180 on batch"],
    ),
    "no rent to compare": (
        [("cascade", CASCADES[2]), ("tiers", without_ages()), ("economics.prices", [])], "economics.prices",
        ["no rent of a100-sxm-80 on inference", "which cascade by margin needs"],
    ),
    # Failures
    "neither hazard nor script": (
        [("failures.2.script", [])], "failures[2]", ["needs one of `hazard` and `script`", "per_year: 0.1"],
    ),
    "both hazard and script": (
        [("failures.2.hazard", [{"per_year": 1}])], "failures[2]", ["needs one of `hazard` and `script`"],
    ),
    "a hazard of two kinds": (
        [("failures.0.hazard.0.curve", [[0, 1]])], "failures[0].hazard[0]",
        ["needs one of `per_year`, `shape` with `scale`, and `curve`"],
    ),
    "a hazard of no kind": ([("failures.0.hazard.0", {})], "failures[0].hazard[0]", ["needs one of"]),
    "a Weibull without a scale": (
        [("failures.0.hazard.1.scale", GONE)], "failures[0].hazard[1].scale",
        ["missing: a Weibull has a shape and a scale", "{shape: 3, scale: 8y}"],
    ),
    "a Weibull without a shape": (
        [("failures.0.hazard.1.shape", GONE)], "failures[0].hazard[1].shape", ["missing"],
    ),
    "a negative hazard": (
        [("failures.0.hazard.0.per_year", -0.5)], "failures[0].hazard[0].per_year",
        ["-0.5 failures a year", "Give 0 to 1e+06."],
    ),
    "a hazard beyond reason": (
        [("failures.0.hazard.0.per_year", 1e300)], "failures[0].hazard[0].per_year", ["1e+300 failures"],
    ),
    "no shape": ([("failures.0.hazard.1.shape", 0)], "failures[0].hazard[1].shape", ["a shape of 0"]),
    "a shape beyond reason": (
        [("failures.0.hazard.1.shape", 1e9)], "failures[0].hazard[1].shape", ["a shape of 1e+09", "most 20"],
    ),
    "a scale of a moment": (
        [("failures.0.hazard.1.scale", 1e-9)], "failures[0].hazard[1].scale", ["is shorter than 32 s"],
    ),
    "an empty curve": ([("failures.0.hazard.2.curve", [])], "failures[0].hazard[2].curve", ["no point"]),
    "a curve below zero": (
        [("failures.0.hazard.2.curve.1.1", -1)], "failures[0].hazard[2].curve[1][1]", ["-1 failures a year"],
    ),
    "a curve that goes back": (
        [("failures.0.hazard.2.curve", [["1y", 1], ["2y", 1], ["2y", 3]])],
        "failures[0].hazard[2].curve[2][0]", ["'2y' is not after '2y'", "Ages rise."],
    ),
    "shares that are not all": (
        [("failures.0.repairs.0.share", 0.5)], "failures[0].repairs", ["the shares add up to 0.9", "to 1."],
    ),
    "no repair": ([("failures.0.repairs", []), ("spares", GONE)], "failures[0].repairs", ["missing", "ends"]),
    "two repairs of a name": (
        [("failures.0.repairs.1.name", "reset")], "failures[0].repairs", ["the name 'reset' occurs 2 times"],
    ),
    "a repair of a job": (
        [("failures.1.repairs", [{"name": "r"}])], "failures[1].repairs", ["leaves its nodes up"],
    ),
    "a repair of a script": (
        [("failures.2.repairs", [{"name": "r"}])], "failures[2].repairs", ["the script says how long"],
    ),
    "replaced and gone": (
        [("failures.0.repairs.2.replaces", "node")], "failures[0].repairs[2].retires",
        ["replaces a node, but the node does not come back", "Keep one of"],
    ),
    "gone for a time": (
        [("failures.0.repairs.2.median", "4d")], "failures[0].repairs[2].median", ["does not come back"],
    ),
    "a spread of nothing": (
        [("failures.0.repairs.0.sigma", 0.5)], "failures[0].repairs[0].sigma", ["a median of zero"],
    ),
    "a weight of nothing": (
        [("failures.0.xids.79", 0)], "failures[0].xids.79", ["a weight of 0", "Give more than 0"],
    ),
    "lemons among jobs": (
        [("failures.1.lemons", {"share": 0.1, "factor": 9})], "failures[1].lemons", ["only nodes and GPUs"],
    ),
    "lemons of a script": (
        [("failures.2.lemons", {"share": 0.1, "factor": 9})], "failures[2].lemons", ["a script has no rate"],
    ),
    "an XID of a script": (
        [("failures.2.xids", {"79": 1})], "failures[2].xids", ["a script leaves nothing to chance"],
    ),
    "sizes of a node": (
        [("failures.0.jobs", {"max_gpus": 4})], "failures[0].jobs", ["the unit is gpu", "Take `unit: job`"],
    ),
    "sizes of no job": (
        [("failures.1.jobs", {"min_gpus": 9, "max_gpus": 4})], "failures[1].jobs",
        ["min_gpus 9 is above max_gpus 4", "No job is of such a size."],
    ),
    "a job that is powered": ([("failures.1.powered", True)], "failures[1].powered", ["leaves its nodes up"]),
    "an age of a job": (
        [("failures.1.hazard", [{"shape": 2.0, "scale": "1y"}])], "failures[1].hazard[0]",
        ["jobs have no age", "Give `per_year`."],
    ),
    "jobs of a model": (
        [("failures.1.gpu_models", ["h100-sxm-80"])], "failures[1].gpu_models", ["a job may run on several"],
    ),
    "a script of GPUs": (
        [("failures.2.unit", "gpu")], "failures[2].script", ["a script is of nodes, and the unit is gpu"],
    ),
    "a failure of no model": (
        [("failures.0.gpu_models", ["h100"])], "failures[0].gpu_models[0]",
        ["unknown GPU model 'h100'", "Did you mean h100-pcie-80"],
    ),
    "a failure of no cohort": (
        [("failures.0.cohorts", ["h100-9"])], "failures[0].cohorts[0]",
        ["no cohort 'h100-9'", "Cohorts are: a100, h100-1, h100-2, h100-3, b200, h100."],
    ),
    "a failure of what is not there": (
        [("failures.2.gpu_models", ["l4"]), ("failures.2.cohorts", GONE)], "failures[2].gpu_models",
        ["no cohort is of l4", "The fleet has: a100-sxm-80, b200-sxm-180, h100-sxm-80."],
    ),
    "spares of another model": (
        [("spares.0.gpu_model", "l4")], "spares[0].gpu_model",
        ["no cohort has 'l4'", "The fleet has: a100-sxm-80, h100-sxm-80, b200-sxm-180."],
    ),
    "spares that nobody takes": (
        [("spares.0.gpu_model", "b200-sxm-180")], "spares[0].gpu_model",
        ["no repair of b200-sxm-180 takes a spare", "`replaces`"],
    ),
    # Money
    "a residual above the price": (
        [("economics.gpu_models.0.residual_usd_per_gpu", 36001)],
        "economics.gpu_models[0].residual_usd_per_gpu",
        ["36,001 USD is above the price when new, 36,000 USD", "Give less"],
    ),
    "a residual above the catalogue's price": (
        [("economics.gpu_models.0.residual_usd_per_gpu", 38751),
         ("economics.gpu_models.0.capex_usd_per_gpu", GONE)],
        "economics.gpu_models[0].residual_usd_per_gpu", ["38,751 USD is above the price when new, 38,750"],
    ),
    "a cohort cheaper than its residual": (
        [("cohorts.1.capex_usd_per_gpu", 3999)], "cohorts[1].capex_usd_per_gpu",
        ["3,999 USD is below the residual of h100-sxm-80, 4,000 USD"],
    ),
    "money of no model": (
        [("economics.gpu_models.0.gpu_model", "h100")], "economics.gpu_models[0].gpu_model",
        ["unknown GPU model 'h100'"],
    ),
    "a change before the one before": (
        [("economics.book.changes.1", {"after": "2y", "life": "5y"})], "economics.book.changes[1].after",
        ["'2y' is not after the change before it", "Ages rise."],
    ),
    "a change of nothing": (
        [("economics.book.changes.1", {"after": "5y", "life": "7y"})], "economics.book.changes[1].after",
        ["'5y', but all is written off at '5y'", "Change the estimate before."],
    ),
    "a life that is over": (
        [("economics.book.changes.0.life", "2y")], "economics.book.changes[0].life",
        ["'2y' is over when it takes effect, at '2y'"],
    ),
    "a price of two kinds": (
        [("economics.prices.2.points", [[0, 1]])], "economics.prices[2]",
        ["needs one of `usd_per_gpu_hour` and `points`"],
    ),
    "a price of no kind": (
        [("economics.prices.1.usd_per_gpu_hour", GONE)], "economics.prices[1]", ["needs one of"],
    ),
    "points that change": (
        [("economics.prices.0.change_per_year", 0.1)], "economics.prices[0].change_per_year",
        ["not given by `usd_per_gpu_hour`"],
    ),
    "points that go back": (
        [("economics.prices.0.points", [["2y", 3], ["2027-01-01", 2]])], "economics.prices[0].points[1][0]",
        ["'2027-01-01' is not after the point before it", "Times rise."],
    ),
    "a point below zero": (
        [("economics.prices.0.points.1.1", -3)], "economics.prices[0].points[1][1]", ["-3 USD is negative"],
    ),
    "a price of no model": (
        [("economics.prices.0.gpu_models", ["b200"])], "economics.prices[0].gpu_models[0]",
        ["unknown GPU model 'b200'"],
    ),
    "a price on no rung": (
        [("economics.prices.1.tiers", ["bach"])], "economics.prices[1].tiers[0]",
        ["no tier 'bach'", "Did you mean batch?"],
    ),
    "a market without end": (
        [("economics.market.discount_per_percent", 0)], "economics.market.discount_per_percent",
        ["every card finds a buyer in a month without a discount"],
    ),
    # Sites
    "a policy of no limit": (
        [("sites.0.it_power_kw", GONE)], "sites[0].over_power",
        ["shed: the site has no limit of power", "Give `it_power_kw`"],
    ),
    "a limit below idle power": (  # 4 x 8 x 170.5 W = 5.456 kW at the start; one B200 node is elsewhere
        [("sites.0.it_power_kw", 5.4)], "sites[0].it_power_kw",
        ["5.4 kW, but what stands there at the start draws 5.5 kW when idle"],
    ),
    "a limit below a node": (
        [("sites.0.it_power_kw", 10)], "sites[0].it_power_kw",
        ["10 kW, but one node of h100-3 reserves 10.2 kW"],
    ),
    "a limit below a cap's idle power": (
        [("sites.0.over_power", "power_cap"), ("sites.0.it_power_kw", 5.4)], "sites[0].it_power_kw",
        ["draws 5.5 kW when idle"],
    ),
    "a start above the limit": (  # 4 x 6.5 kW stand there; the others may get slots that are freed
        [("sites.0.over_power", "refuse"), ("sites.0.it_power_kw", 25.9)], "sites[0].it_power_kw",
        ["25.9 kW, but its servers reserve 26.0 kW at the start"],
    ),
    "a cohort above the limit": (
        [("sites.0.over_power", "refuse"), ("sites.0.it_power_kw", 40.7), ("cohorts.1.nodes", 4)],
        "sites[0].it_power_kw", ["40.7 kW, but h100-1 alone reserves 40.8 kW"],
    ),
    "a fleet above the limit": (  # 26 + 3 x 20.4 = 87.2 kW, and nothing is freed
        [("sites.0.over_power", "refuse"), ("sites.0.it_power_kw", 87.1), ("retirement", GONE),
         ("cascade.enabled", False)],
        "sites[0].it_power_kw", ["87.1 kW, but its servers reserve 87.2 kW"],
    ),
    "nothing to shed": (
        [("tiers", GONE), ("cascade", GONE), ("cohorts.0.tier", GONE),
         ("economics.prices.1.tiers", ["general"])],
        "sites[0].over_power", ["shed: there is no lower rung whose nodes could leave"],
    ),
    "liquid where there is air": (
        [("cohorts.1.gpu_model", "gb200-nvl72"), ("sites.0.rack_kw", GONE), ("failures.0.gpu_models", GONE),
         ("spares", GONE)],
        "cohorts[1].site", ["gb200-nvl72 needs liquid cooling, and north is cooled by air"],
    ),
    "a rack too large": (
        [("cohorts.2.gpu_model", "gb200-nvl72"), ("sites.1.rack_kw", 100)], "cohorts[2].site",
        ["a rack of gb200-nvl72 takes 120 kW, and a rack of south 100 kW"],
    ),
    "a server too large": (
        [("sites.0.rack_kw", 10)], "cohorts[1].site",
        ["a server of h100-sxm-80 takes 10.2 kW, and a rack of north 10 kW"],
    ),
    "less than no carbon": (
        [("sites.0.carbon_g_per_kwh", -1)], "sites[0].carbon_g_per_kwh", ["-1 g is negative", "0 or more"],
    ),
    # Cohorts
    "a contract that is over": (
        [("cohorts.0.contract_until", "-3y")], "cohorts[0].contract_until",
        ["'-3y' is not after the delivery, '-2y'"],
    ),
    "tested for ever": (
        [("cohorts.1.burn_in", "5y")], "cohorts[1].burn_in", ["'5y' after delivery the horizon has ended"],
    ),
    "ordered too late": (
        [("cohorts.1.ordered", "91d")], "cohorts[1].ordered", ["'91d' is after the delivery, '90d'"],
    ),
    "a chance to be late that is past": (
        [("cohorts.0.delay", {"median": "30d", "sigma": 1})], "cohorts[0].delay",
        ["it stands there at the start, so chance cannot delay it"],
    ),
    "delivered twice": (
        [("cohorts.3", {"name": "h100-2", "gpu_model": "h100-sxm-80", "nodes": 1})], "cohorts",
        ["the name 'h100-2' occurs 2 times"],
    ),
    "more deliveries than a fleet has": (
        [(f"cohorts.{3 + n}", {"name": f"c{n}", "gpu_model": "t4", "nodes": 1,
                               "series": {"every": "1y", "count": 1000}}) for n in range(10)],
        "cohorts", ["10,005 cohorts in all", "At most 10,000"],
    ),
    # What does not go together
    "reserved, and moved": (
        [("reservations", [{"cohort": "a100", "tenant": "red", "nodes": 1, "at": "1d", "lasts": "1d"}]),
         ("retirement", GONE)],
        "reservations", ["nodes that are reserved cannot leave by `cascade`"],
    ),
    "reserved, and retired": (
        [("reservations", [{"cohort": "a100", "tenant": "red", "nodes": 1, "at": "1d", "lasts": "1d"}]),
         ("cascade", GONE), ("tiers", without_ages())],
        "reservations", ["nodes that are reserved cannot leave by `retirement`"],
    ),
    "maintained when chance has it": (
        [("maintenance", [{"cohort": "b200", "at": "4y", "lasts": "1d"}])], "maintenance[0].cohort",
        ["when b200 is delivered is left to chance", "fixed span"],
    ),
    "maintained before it comes": (
        [("horizon", "2y"), ("maintenance", [{"cohort": "h100-3", "at": "1y", "lasts": "1d"}])],
        "maintenance[0].cohort", ["h100-3 is not delivered before the horizon ends"],
    ),
    "maintained by the name of a series": (
        [("maintenance", [{"cohort": "h100", "at": "1y", "lasts": "1d"}])], "maintenance[0].cohort",
        ["no cohort 'h100'", "Did you mean h100-1 or h100-2 or h100-3?"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone(fault: str) -> None:
    refused(fault, FAULTS, AGING)


#: Of the cascade by successor: only age has ages, and whole cohorts are pushed.
SUCCESSOR: dict[str, tuple[list[tuple[str, Any]], str, list[str]]] = {
    "an age": (
        [("tiers.0.leave_at", "2y")], "tiers[0].leave_at",
        ["nothing goes down the ladder by age", "Give `cascade: {rule: age}`"],
    ),
    "single nodes": (
        [("cascade.unit", "node")], "cascade.unit", ["node, but a successor pushes whole cohorts down"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", SUCCESSOR)
def test_each_fault_by_successor(fault: str) -> None:
    refused(fault, SUCCESSOR, ALL["successor"])


def test_two_spares_of_a_model_are_two_problems() -> None:
    found = problems(changed(("spares.1", AGING["spares"][0])))
    assert [p.place.split(" ", 1)[1] for p in found] == ["spares[0].gpu_model", "spares[1].gpu_model"]
    assert {p.message for p in found} == {"h100-sxm-80 is listed 2 times"}


def test_money_of_a_model_twice_is_two_problems() -> None:
    found = problems(changed(("economics.gpu_models.1", AGING["economics"]["gpu_models"][0])))
    assert {p.message for p in found} == {"h100-sxm-80 is listed 2 times"} and len(found) == 2


SHARED: dict[str, Any] = {
    "name": "shared", "start": "2026-01-01", "horizon": "30d",
    "cohorts": [{"name": "a", "gpu_model": "a100-sxm-80", "nodes": 2, "burn_in": "1d", "delivered": "1d"}],
    "workloads": [{"name": "w", "trace": "philly-like-10k", "reference_gpu": "t4", "data_type": "bf16"}],
    "scheduler": {"placement": "fgd", "sharing": {}},
    "tiers": [{"name": "one"}],
    "failures": [{"name": "f", "script": [{"after": "1d", "down": "1h"}]}],
    "retirement": {"rule": "fixed_age", "age": "5y"},
}  # fmt: skip


def test_shared_gpus_have_no_life() -> None:
    """All of it at once, each at its own place."""
    found = problems(SHARED)
    assert {p.place.split(" ", 1)[1] for p in found} == {
        "tiers", "failures", "retirement", "cohorts[0].burn_in", "workloads[0].data_type",
    }  # fmt: skip
    assert all("where GPUs are shared" in p.message and p.remedy == "Leave it out." for p in found)


def test_all_faults_come_at_once() -> None:
    """One of each section: nothing hides what stands elsewhere."""
    some = [
        "a rung for an unknown tenant", "no age", "a negative hazard", "shares that are not all",
        "a residual above the price", "a point below zero", "a limit below idle power",
        "a contract that is over", "spares that nobody takes", "an option of successors",
    ]  # fmt: skip
    found = problems(changed(*(change for fault in some for change in FAULTS[fault][0])))
    assert sorted(p.place.split(" ", 1)[1] for p in found) == sorted(FAULTS[fault][1] for fault in some)


def test_a_section_at_fault_raises_no_false_alarm() -> None:
    """What cannot be read is told of once; what rests on it is not judged."""
    for path in (
        "tiers.0.min_memory_gb", "cascade.rule", "retirement.rule", "economics.usd_per_kwh",
        "failures.0.unit", "cohorts.1.nodes", "cohorts.1.gpu_model", "cohorts.1.site",
    ):  # fmt: skip
        found = problems(changed((path, "junk"), of=ALL["retire by slot"]))
        assert len(found) == 1, [str(p) for p in found]


def test_a_price_is_not_looked_for_on_a_rung_that_is_not_there() -> None:
    found = problems(changed(("tiers.0.next", "gone"), of=ALL["retire by cash_out"]))
    assert [p.message for p in found] == ["no tier 'gone'"]


# The ladder


def tier(name: str = "t", **words: Any) -> TierSpec:
    return TierSpec(name=name, **words)


def test_what_a_model_computes_with() -> None:
    assert computes(CATALOG["v100-sxm2-16"], "fp16") and not computes(CATALOG["v100-sxm2-16"], "bf16")
    assert computes(CATALOG["tpu-v4"], "fp16")  # it has bf16 alone, which serves
    assert CATALOG["tpu-v4"].fp16_tflops is None
    assert computes(CATALOG["h100-sxm-80"], "fp8") and not computes(CATALOG["h100-sxm-80"], "fp4")
    assert computes(CATALOG["p100-sxm2-16"], None)


def test_the_needs_of_a_rung() -> None:
    t4, a100, nvl72 = CATALOG["t4"], CATALOG["a100-sxm-80"], CATALOG["gb200-nvl72"]
    assert meets(a100, tier(min_memory_gb=80), 8) and not meets(a100, tier(min_memory_gb=80.1), 8)
    assert not meets(a100, tier(data_type="fp8"), 8)
    assert meets(t4, tier(min_domain_gpus=4), 4)  # no NVLink, but four in a node
    assert not meets(t4, tier(min_domain_gpus=5), 4)
    assert meets(nvl72, tier(min_domain_gpus=72), 4) and not meets(nvl72, tier(min_domain_gpus=73), 4)


def test_a_ladder_of_branches() -> None:
    """Two roots, a and b, meet in c; below the last there is nothing, nor below what is sold."""
    tiers = [tier("a", next="c"), tier("b"), tier("c"), tier("d", for_sale=True), tier("e")]
    assert ladder(tiers) == {"a": "c", "b": "c", "c": "d", "d": None, "e": None}
    assert below(tiers, "a") == ["c", "d"] and below(tiers, "e") == []
    assert ladder([]) == {}


def test_nodes_begin_on_the_first_rung_whose_needs_they_meet() -> None:
    tiers = [tier("new", data_type="fp8"), tier("for-sale", for_sale=True), tier("old", min_memory_gb=40)]
    assert entry(CATALOG["h100-sxm-80"], tiers, 8) == "new"
    assert entry(CATALOG["a100-sxm-80"], tiers, 8) == "old"
    assert entry(CATALOG["t4"], tiers, 4) is None


@given(st.permutations(range(5)), st.integers(0, 4))
def test_a_ladder_in_order_ends(order: list[int], first: int) -> None:
    """Whatever the names, a list without `next` goes down to its last rung, each once."""
    tiers = [tier(f"t{n}") for n in order]
    assert below(tiers, tiers[first].name) == [t.name for t in tiers[first + 1 :]]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([None, "t0", "t1", "t2", "t3", "t4"]), min_size=5, max_size=5))
def test_a_ladder_is_read_just_if_it_ends(following: list[str | None]) -> None:
    """Against a walk of six steps, which a ladder of five rungs must have left."""
    names = [f"t{n}" for n in range(5)]
    down = {
        n: f or (names[i + 1] if i < 4 else None)
        for i, (n, f) in enumerate(zip(names, following, strict=True))
    }
    ends = True
    for name in names:
        at: str | None = name
        for _ in range(6):
            at = down[at] if at is not None else None
        ends = ends and at is None
    given = {
        **SHARED, "cohorts": [{"name": "a", "gpu_model": "t4", "nodes": 1}], "scheduler": {},
        "workloads": [{"name": "w", "trace": "philly-like-10k", "reference_gpu": "t4"}],
        "tiers": [{"name": n, "next": f} for n, f in zip(names, following, strict=True)],
    }  # fmt: skip
    if ends:
        parse(json.dumps(given), "f.yaml")
    else:
        (problem,) = problems(given)
        assert problem.message.startswith("the ladder goes round: ")


PLAIN = {"name": "x", "start": "2026-01-01", "horizon": "1y"}


def test_a_cap_must_leave_gpus_more_than_they_draw_before_any_kernel_runs() -> None:
    """Two nodes of 8 A100: 16 x 812.5 W = 13 kW at most; 3.5 kW leave 218.75 W a GPU."""
    given: dict[str, Any] = {
        **PLAIN,
        "sites": [{"name": "s", "it_power_kw": 3.5, "over_power": "power_cap"}],
        "cohorts": [{"name": "a", "gpu_model": "a100-sxm-80", "nodes": 2}],
        "workloads": [{"name": "w", "trace": "philly-like-10k", "reference_gpu": "a100-sxm-80"}],
    }
    context_w = CATALOG["a100-sxm-80"].context_power_w
    assert CATALOG["a100-sxm-80"].idle_power_w * 16 < 3500 < context_w * 16
    (problem,) = problems(given)
    assert problem.message == (
        f"3.5 kW leave 219 W a GPU of a with its part of the server, and it draws {context_w:,.0f} W before "
        "any kernel runs"
    )
    given["sites"][0]["it_power_kw"] = 1.01 * context_w * 16 / 1000
    assert parse(json.dumps(given), "f.yaml").cohorts[0].site.it_power_kw


@pytest.mark.parametrize("policy", ["wait", "shed", "power_cap"])
def test_a_policy_of_power_means_nothing_where_gpus_are_shared(policy: str) -> None:
    given: dict[str, Any] = {
        **PLAIN,
        "sites": [{"name": "s", "it_power_kw": 100, "over_power": policy}],
        "cohorts": [{"name": "a", "gpu_model": "a100-sxm-80", "nodes": 2}],
        "workloads": [{"name": "w", "trace": "philly-like-10k", "reference_gpu": "a100-sxm-80"}],
        "scheduler": {"sharing": {}},
    }
    assert any("GPUs are shared" in p.message for p in problems(given) if "over_power" in p.place)


def test_what_would_go_on_for_ever_needs_a_horizon() -> None:
    found = problems(changed(("horizon", "drain"), of=ALL["pressure"]))
    endless = [p.place.split(" ", 1)[1] for p in found if "the horizon is `drain`" in p.message]
    assert endless == ["cascade.rule", "retirement.rule"]
    given: dict[str, Any] = {
        **PLAIN,
        "horizon": "drain",
        "cohorts": [{"name": "a", "gpu_model": "a100-sxm-80", "nodes": 2}],
        "workloads": [{"name": "w", "trace": "philly-like-10k", "reference_gpu": "a100-sxm-80"}],
        "failures": [{"name": "f", "hazard": [{"per_year": 1}], "repairs": [{"name": "r"}]}],
        "scheduler": {"restart": {"checkpoint": "never"}},
    }
    assert [p.place.split(" ", 1)[1] for p in problems(given)] == ["failures[0].hazard"]
    given["scheduler"]["restart"]["checkpoint"] = "1h"
    assert parse(json.dumps(given), "f.yaml").horizon_s is None
