"""Laws of every life of a fleet: random scenarios with all of it at once, judged from their tables alone."""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from life.history import DAY_S, HOUR_S, MONTH_S, stays
from model.support import (
    A100,
    H100,
    V100,
    History,
    Job,
    cohort,
    columns_trace,
    simulate,
    text,
    trace,
    workload,
)

from fleetsim import experiment, scenario
from fleetsim.catalog import load_catalog

HORIZON_S = 100 * DAY_S

#: What queues need, or may be told, beside their names; each may be combined with failures and the ladder.
QUEUES: list[dict[str, Any]] = [
    *({"queue": name} for name in ("fifo", "fifo_skip", "priority", "qssf", "srtf", "srsf", "las")),
    *({"queue": name} for name in ("gittins", "quota", "fair_share", "drf")),
    {"queue": "sjf", "on_misfit": "skip"},
    {"queue": "smallest", "preemptive": True},
    {"queue": "srtf", "admit": "afresh"},
    {"queue": "easy", "estimate": {"source": "duration"}},
    {"queue": "conservative", "estimate": {"source": "duration", "factor": 2}},
    {"queue": "max_min", "interval": "6h"},
    {"queue": "fifo_skip", "defragment": {"every": "1d"}},
]

CLASSES = ("training", "inference", "batch")

TIERS: list[dict[str, Any]] = [
    {"name": "top", "classes": ["training"], "min_gpus": 2, "min_memory_gb": 40, "latency": "relaxed"},
    {"name": "middle", "classes": ["training", "inference"], "tenants": ["a", "b"]},
    {"name": "low", "classes": ["batch", "inference"], "max_gpus": 6},
]

CASCADES: list[dict[str, Any] | None] = [
    None,
    {"enabled": False, "rule": "successor"},
    {"rule": "age", "drain": "1d"},
    {"rule": "age", "drain": 0},
    {"rule": "successor", "drain": "12h"},
    {"rule": "pressure", "unit": "node", "review": "2d", "step": 0.4, "drain": "1d"},
    {"rule": "pressure", "unit": "cohort", "review": "3d", "min_wait": 0},
    {"rule": "margin", "review": "5d", "drain": "3h"},
]

RETIREMENTS: list[dict[str, Any] | None] = [
    None,
    {"rule": "fixed_age", "age": "60d", "drain": "1d"},
    {"rule": "cash_out", "review": "4d", "sell": False},
    {"rule": "naive", "successor": "b200-sxm-180", "review": "7d"},
    {"rule": "slot", "successor": "b200-sxm-180", "review": "7d", "drain": 0},
    {"rule": "failure", "failures": 2},
]

FAILURES: list[dict[str, Any]] = [
    {
        "name": "node",
        "hazard": [{"per_year": 15.0}, {"shape": 2.0, "scale": "60d"}],
        "lemons": {"share": 0.3, "factor": 4.0},
        "repairs": [
            {"name": "reboot", "share": 0.6, "median": "2h", "sigma": 1.0},
            {"name": "swap", "share": 0.3, "median": "1d", "replaces": "node"},
            {"name": "scrap", "share": 0.1, "retires": True},
        ],
        "powered": True,
    },
    {
        "name": "gpu",
        "unit": "gpu",
        "hazard": [{"curve": [[0, 5.0], ["30d", 1.0], ["50d", 8.0]]}],
        "xids": {"79": 2.0, "48": 1.0},
        "repairs": [
            {"name": "reset", "share": 0.5, "median": 0},
            {"name": "swap", "share": 0.5, "median": "8h", "replaces": "gpu"},
        ],
    },
    {"name": "job", "unit": "job", "hazard": [{"per_year": 40.0}], "jobs": {"min_gpus": 2}},
    {"name": "script", "script": [{"after": "9d", "down": "1d"}, {"after": "1d", "down": "12h"}]},
]

SPARES = [{"gpu_model": A100, "gpus": 1, "nodes": 1, "rma": "5d"}]

ECONOMICS: dict[str, Any] = {
    "prices": [
        {"gpu_models": ["b200-sxm-180"], "usd_per_gpu_hour": 4.0},
        {"gpu_models": [V100], "usd_per_gpu_hour": 0.3, "change_per_year": -0.9},
        {"tiers": ["low"], "usd_per_gpu_hour": 1.2},
        {"usd_per_gpu_hour": 2.0, "change_per_year": -0.99},
    ],
    "market": {"depth_per_month": 0.1, "max_discount": 0.4},
}


@st.composite
def job_lists(draw: st.DrawFn) -> dict[str, list[Job]]:
    """Up to 25 jobs within 90 days, by class; many at the same instants."""
    jobs: dict[str, list[Job]] = {name: [] for name in CLASSES}
    now = 0.0
    for _ in range(draw(st.integers(1, 25))):
        which = draw(st.sampled_from(CLASSES))
        runs_s = draw(st.sampled_from([0.0, HOUR_S, DAY_S, 3 * DAY_S, 10 * DAY_S, 30 * DAY_S]))
        gpus = draw(st.sampled_from([1, 1, 2, 2, 3, 4, 6, 9]))
        jobs[which].append(Job(now, runs_s, gpus, tenant=draw(st.sampled_from("abc"))))
        now = min(90 * DAY_S, now + draw(st.sampled_from([0.0, 0.0, 1800.0, HOUR_S, DAY_S, 5 * DAY_S])))
    jobs["batch"].append(Job(90 * DAY_S, HOUR_S, tenant="a"))
    return {name: of_class for name, of_class in jobs.items() if of_class}


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    """Keywords of ``simulate``: everything that can happen to nodes, some of it left out."""
    jobs = draw(job_lists())
    laddered = draw(st.sampled_from([True, True, True, False]))
    cascade = draw(st.sampled_from(CASCADES)) if laddered else None
    power = draw(st.sampled_from([None, "wait", "shed" if laddered else "wait"]))
    site = {"name": "main", "it_power_kw": 12.0, "over_power": power} if power else {"name": "main"}
    cohorts = []
    for n in range(draw(st.integers(1, 4))):
        delivered = draw(st.sampled_from([0.0, "-40d", "-200d"] + ["10d", "30d", "30d", "61d"] * (n > 0)))
        more: dict[str, Any] = {"name": f"c{n}", "delivered": delivered}
        if draw(st.booleans()):
            more["burn_in"] = "2d"
        if draw(st.sampled_from([False, False, True])):
            more["contract_until"] = "70d"
        if n and draw(st.sampled_from([False, False, True])):
            more |= {"delivered": "12d", "delay": {"median": "3d", "sigma": 1.0}}
        if n and draw(st.sampled_from([False, False, True])):
            more["series"] = {"every": "15d", "count": 3}
        models = [A100, H100] + [V100] * (n > 0)
        cohorts.append(cohort(draw(st.sampled_from(models)), draw(st.integers(1, 3)), 4, **more))
    keys: dict[str, Any] = {
        "traces": jobs,
        "cohorts": cohorts,
        "workloads": [
            workload(name, workload_class=name, latency="strict" if name == "inference" else "relaxed")
            for name in jobs
        ],
        "sites": [site],
        "horizon": HORIZON_S,
        "seed": draw(st.integers(0, 3)),
        "economics": ECONOMICS,
        "failures": [f for f in FAILURES if draw(st.booleans())],
        "retirement": draw(st.sampled_from(RETIREMENTS)),
        "cascade": cascade,
        "scheduler": {
            **draw(st.sampled_from(QUEUES)),
            "restart": {
                **draw(st.sampled_from([{}, {"checkpoint": "never"}, {"checkpoint": "7h"}])),
                "costs": [{"cost": draw(st.sampled_from([0, "20min"]))}],
            },
        },
    }
    if keys["scheduler"]["restart"].get("checkpoint") == "7h":
        keys["scheduler"]["restart"]["checkpoint_cost"] = draw(st.sampled_from([0, "10min"]))
    if not laddered:
        keys["economics"] = {"prices": [p for p in ECONOMICS["prices"] if "tiers" not in p]}
    if laddered:
        tiers = [*TIERS, {"name": "sold", "for_sale": True}] if draw(st.booleans()) else TIERS
        if cascade is not None and cascade["rule"] == "age":
            ages = {"top": "25d", "middle": "50d", "low": "80d"}
            tiers = [
                t | ({"leave_at": ages[t["name"]]} if t["name"] in ages and t is not tiers[-1] else {})
                for t in tiers
            ]
        keys["tiers"] = tiers
        keys["tenants"] = [{"name": name} for name in "abc"]
    if draw(st.booleans()):
        at = draw(st.sampled_from(["25d", "35d"]))
        stop = draw(st.booleans())
        keys["maintenance"] = [
            {"cohort": "c0", "at": at, "lasts": "2d", "every": "20d", "drain": "6h", "stop": stop}
        ]
    if any(f["name"] == "gpu" for f in keys["failures"]) and any(c["gpu_model"] == A100 for c in cohorts):
        keys["spares"] = SPARES
    nodes_fail = any(f["name"] != "job" for f in keys["failures"])
    if keys["retirement"] is not None and keys["retirement"]["rule"] == "failure" and not nodes_fail:
        keys["retirement"] = None
    return {key: value for key, value in keys.items() if value is not None}


# The laws


def states_follow(keys: dict[str, Any], run: History) -> None:
    """Nodes come once, into service or into store; what has been retired stays so; times rise."""
    for node, of_node in stays(run).items():
        assert of_node[0].cause in ("initial", "delivery", "burn_in"), node
        for before, after in pairwise(of_node):
            assert before.start_s <= after.start_s
            assert before.state != "retired"
            if after.cause == "cascade":
                assert (before.tier, before.state) != (after.tier, after.state)
                assert before.state == after.state
            else:
                assert before.tier == after.tier
            if after.state == "stored":
                raise AssertionError("stored again")
            if before.state == "stored":
                assert after.cause in ("slot", "burn_in")


def jobs_run_where_they_may(keys: dict[str, Any], run: History) -> None:
    """On nodes that are up from start to end, and on one rung, which admits the job."""
    lives = stays(run)
    tiers = {t["name"]: t for t in keys.get("tiers", [{"name": "general"}])}
    jobs = {row["job"]: row for row in run["jobs"].rows(named=True)}
    for row in run["allocations"].rows(named=True):
        of_node = lives[row["node"]]
        covered_s = 0.0
        for stay in of_node:
            a, b = max(stay.start_s, row["start_s"]), min(stay.end_s, row["end_s"])
            if a < b:
                assert (stay.state, stay.tier) == ("up", row["tier"])
                covered_s += b - a
        assert covered_s == pytest.approx(row["end_s"] - row["start_s"], rel=1e-12, abs=1e-6)
        job, tier = jobs[row["job"]], tiers[row["tier"]]
        assert job["workload_class"] in tier.get("classes", CLASSES)
        assert tier.get("min_gpus", 1) <= job["gpus"] <= tier.get("max_gpus", math.inf)
        assert job["tenant"] in tier.get("tenants", "abc")
        assert not (tier.get("latency") == "relaxed" and job["workload"] == "inference")
        assert load_catalog()[row["gpu_model"]].memory_gb >= tier.get("min_memory_gb", 0)


def no_gpu_is_held_twice(keys: dict[str, Any], run: History) -> None:
    changes: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for node, start_s, end_s, gpus in run["allocations"].select("node", "start_s", "end_s", "gpus").rows():
        if start_s < end_s:
            changes[node] += [(start_s, gpus), (end_s, -gpus)]
    for of_node in changes.values():
        held = 0
        for _, gpus in sorted(of_node):
            held += gpus
            assert held <= 4


def gangs_are_whole(keys: dict[str, Any], run: History) -> None:
    """All GPUs of an attempt at once, on one rung of one model; attempts of a job follow each other."""
    rows = run["allocations"].group_by("job", "attempt").agg(
        pl.col("gpus").sum(), pl.col("start_s").min(), pl.col("end_s").max(),
        same=(pl.col("start_s").n_unique() + pl.col("end_s").n_unique() + pl.col("tier").n_unique()
              + pl.col("gpu_model").n_unique() + pl.col("outcome").n_unique()),
        nodes=pl.col("node").n_unique() == pl.len(),
    )  # fmt: skip
    assert set(rows["same"]) <= {5}
    assert rows["nodes"].all()
    asked = dict(run["jobs"].select("job", "gpus").rows())
    at: dict[int, float] = {}
    for job, _, gpus, start_s, end_s in (
        rows.sort("job", "attempt").select("job", "attempt", "gpus", "start_s", "end_s").rows()
    ):
        assert gpus == asked[job]
        assert at.get(job, -1.0) <= start_s <= end_s
        at[job] = end_s


def work_is_done_once(keys: dict[str, Any], run: History) -> None:
    """What a completed job kept of all its attempts, at the speed of the GPUs, is what it asked for."""
    reference = load_catalog()[A100]
    kept: dict[int, float] = defaultdict(float)
    whole = run["allocations"].unique(["job", "attempt"])
    for row in whole.rows(named=True):
        speed = load_catalog()[row["gpu_model"]].speed(row["workload_class"], reference)
        spent_s = row["restart_s"] + row["lost_s"] + row["checkpoint_s"]
        assert spent_s <= (row["end_s"] - row["start_s"]) * (1 + 1e-9) + 1e-6
        kept[row["job"]] += (row["end_s"] - row["start_s"] - spent_s) * speed
    for job in run["jobs"].rows(named=True):
        assert job["submit_s"] <= (job["start_s"] if job["start_s"] is not None else math.inf)
        if job["status"] == "completed":
            assert kept[job["job"]] == pytest.approx(job["reference_duration_s"], rel=1e-9, abs=1e-3)
        else:
            assert kept[job["job"]] <= job["reference_duration_s"] * (1 + 1e-9) + 1e-3
    asked = sum(len(jobs) for jobs in keys["traces"].values())
    assert run["jobs"].height == asked


def hours_add_up(keys: dict[str, Any], run: History) -> None:
    """Of each cohort on each rung: hours of all states = hours of its nodes that are up or down there."""
    installed: dict[tuple[str, str, bool], float] = defaultdict(float)
    cohort_of = dict(run["node_states"].select("node", "cohort").rows())
    for node, of_node in stays(run).items():
        for stay in of_node:
            if stay.state in ("up", "down"):
                key = cohort_of[node], stay.tier, stay.state == "down"
                installed[key] += 4 * (stay.end_s - stay.start_s) / HOUR_S
    booked: dict[tuple[str, str, bool], float] = defaultdict(float)
    for cohort_name, tier, state, gpu_hours in (
        run["usage"].select("cohort", "tier", "state", "gpu_hours").rows()
    ):
        booked[cohort_name, tier, state == "down"] += gpu_hours
    for key in {*installed, *booked}:
        assert booked[key] == pytest.approx(installed[key], rel=1e-9, abs=1e-9)


def energy_adds_up(keys: dict[str, Any], run: History) -> None:
    """What allocations draw, and nodes with nothing running on them: idle, or down with power."""
    joules, idle_w = 0.0, {}
    for node, of_node in stays(run).items():
        joules += sum(s.idle_w * (s.end_s - s.start_s) for s in of_node if s.state in ("up", "down"))
        idle_w[node] = max(s.idle_w for s in of_node) / 4
    for row in run["allocations"].rows(named=True):
        free_w = row["gpus"] * idle_w[row["node"]]
        joules += (row["power_w"] - free_w) * (row["end_s"] - row["start_s"])
    assert run["usage"]["energy_kwh"].sum() == pytest.approx(joules / 3.6e6, rel=1e-9, abs=1e-9)
    of_jobs = run["allocations"]["power_w"] * (run["allocations"]["end_s"] - run["allocations"]["start_s"])
    assert run["jobs"]["energy_kwh"].sum() == pytest.approx(float(of_jobs.sum()) / 3.6e6, rel=1e-9, abs=1e-9)


def failures_stop_what_runs(keys: dict[str, Any], run: History) -> None:
    """A node that fails goes down, or leaves, with all that ran on it; a job that fails leaves it up."""
    lives = stays(run)
    stopped = run["allocations"].filter(pl.col("outcome").cast(pl.String) == "failed")
    assert run["jobs"]["failures"].sum() == stopped.unique(["job", "attempt"]).height
    ends = {(job, end_s) for job, end_s in stopped.select("job", "end_s").rows()}
    count = 0
    for row in run["failures"].rows(named=True):
        count += row["jobs_stopped"]
        assert row["unit_age_s"] >= 0
        if row["job"] is not None:
            assert (row["job"], row["time_s"]) in ends
            continue
        at = [s for s in lives[row["node"]] if s.start_s <= row["time_s"] <= s.end_s]
        assert any(s.state == "down" or s.start_s == row["time_s"] for s in at)
        if row["failure"] in ("node", "gpu"):  # not scripts, which come whatever the node's state is
            assert any(s.state == "up" and s.end_s == row["time_s"] for s in at)
            assert any(s.state in ("down", "retired") and s.start_s == row["time_s"] for s in at)
    assert count == len(ends)


def sales_are_of_what_left(keys: dict[str, Any], run: History) -> None:
    """Once a month, no more of a cohort than have left but by failure, no more than the market takes."""
    cohort_of = dict(run["node_states"].select("node", "cohort").rows())
    left: dict[str, list[float]] = defaultdict(list)
    for node, of_node in stays(run).items():
        last = of_node[-1]
        if last.state == "retired" and last.cause != "failure":
            left[cohort_of[node]] += [last.start_s] * 4
    sold: dict[str, int] = defaultdict(int)
    for row in run["sales"].rows(named=True):
        assert row["time_s"] % MONTH_S == 0
        assert 0 <= row["discount"] <= 0.4
        sold[row["cohort"]] += row["gpus"]
        assert sold[row["cohort"]] <= sum(at_s <= row["time_s"] for at_s in left[row["cohort"]])
    if keys.get("retirement", {}).get("sell") is False and "sold" not in [
        t["name"] for t in keys.get("tiers", [])
    ]:
        assert not sold or keys["sites"][0].get("over_power") == "shed"


LAWS = (
    states_follow,
    jobs_run_where_they_may,
    no_gpu_is_held_twice,
    gangs_are_whole,
    work_is_done_once,
    hours_add_up,
    energy_adds_up,
    failures_stop_what_runs,
    sales_are_of_what_left,
)


@settings(deadline=None, max_examples=70)
@given(keys=scenarios())
def test_laws_of_every_life(keys: dict[str, Any]) -> None:
    run = simulate(**keys)
    assert all(check["holds"] for check in run.manifest["checks"])
    for law in LAWS:
        law(keys, run)


# What is not there changes nothing

#: A life in which nothing happens.
NOTHING: dict[str, Any] = {
    "tiers": [{"name": "general"}],
    "retirement": {"rule": "fixed_age", "age": "900y"},
    "failures": [
        {"name": "never", "hazard": [{"per_year": 0.0}], "repairs": [{"name": "none", "median": 0}]},
        {"name": "no-job", "unit": "job", "hazard": [{"per_year": 0.0}]},
        {"name": "later", "script": [{"after": "900y", "down": "1d"}]},
    ],
}


def tables(keys: dict[str, Any], folder: Path, name: str) -> dict[str, bytes]:
    """The Parquet files of a run of *keys*."""
    words = text(**{key: value for key, value in keys.items() if key != "traces"})
    given = {workload_name: trace(jobs) for workload_name, jobs in keys["traces"].items()}
    run = experiment.run(scenario.parse(words, "test"), folder / name, traces=given)
    return {path.name: path.read_bytes() for path in sorted(run.path.glob("*.parquet"))}


@settings(deadline=None, max_examples=25)
@given(keys=scenarios(), with_rules=st.booleans())
def test_a_life_in_which_nothing_happens_is_no_life_at_all(keys: dict[str, Any], with_rules: bool) -> None:
    """One rung that admits all, and rules that never strike: the files of the run without, to the byte."""
    dropped = ("tiers", "cascade", "retirement", "failures", "spares", "economics", "tenants")
    plain = {key: value for key, value in keys.items() if key not in dropped}
    plain["sites"] = [{"name": "main"}]
    tier = {"tiers": NOTHING["tiers"]}
    with tempfile.TemporaryDirectory() as folder:
        without = tables(plain, Path(folder), "without")
        assert len(without) == 9
        assert tables(plain | (NOTHING if with_rules else tier), Path(folder), "with") == without


# What the ladder is for


def test_the_ladder_fills_hours_that_are_stranded_without_it() -> None:
    """Three yearly generations, 3 years. Training keeps the newest busy; batch work, which only the lowest
    rung admits, would fill everything. On, what is older than a year does batch work; off, it is left with
    what training leaves over, and all batch work is refused. Same seed, trace and failures."""
    draws = np.random.default_rng(5)
    traces = {}
    for name, jobs, hours in (("training", 900, 12.0), ("batch", 3000, 24.0)):
        traces[name] = columns_trace(
            submit_s=np.sort(draws.uniform(0, 3 * 8760 * HOUR_S, jobs)),
            duration_s=draws.lognormal(math.log(hours * HOUR_S), 1.0, jobs),
            gpus=draws.choice([1, 2, 4, 8], jobs).astype(np.int32),
        )

    def run(enabled: bool) -> History:
        return simulate(
            traces,
            [cohort(A100, 4, name=f"y{y}", delivered=f"{y}y") for y in range(3)],
            [workload(name, workload_class=name) for name in traces],
            queue="fifo_skip",
            horizon="3y",
            usage_period="year",
            tiers=[
                {"name": "new", "classes": ["training"], "leave_at": "1y"},
                {"name": "old", "classes": ["batch"]},
            ],
            cascade={"rule": "age", "enabled": enabled},
            failures=[FAILURES[0] | {"repairs": [{"name": "reboot", "median": "2h"}]}],
        )

    on, off = run(True), run(False)
    assert on["jobs"].select("submit_s", "gpus").equals(off["jobs"].select("submit_s", "gpus"))
    times = [h["failures"].select("time_s", "node").rows() for h in (on, off)]
    assert times[0] == times[1]

    def share(h: History, *states: str) -> float:
        hours = h.hours("state")
        return sum(hours.get(state, 0.0) for state in states) / sum(hours.values())

    idle_on, idle_off = (share(h, "idle_no_queue", "idle_queue") for h in (on, off))
    assert idle_on < 0.75 * idle_off
    assert set(on.hours("tier")) == {"new", "old"}
    assert set(off.hours("tier")) == {"new"}
    done = {
        name: [
            sum(h["jobs"].filter(pl.col("workload").cast(pl.String) == name)["allocated_gpu_s"].to_list())
            for h in (on, off)
        ]
        for name in traces
    }
    assert done["batch"][0] > 0 == done["batch"][1]
    assert sum(done[name][0] for name in done) > 1.3 * sum(done[name][1] for name in done)
