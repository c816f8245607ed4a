"""Failures and repair: exact where they are written down, against closed forms where chance has its way.

Bounds of Monte-Carlo figures are three standard deviations or more; seeds are fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
import polars as pl
import pytest
from life.history import DAY_S, HOUR_S, YEAR_S, story
from model.support import A100, H100, History, Job, cohort, simulate

#: Node failures per node and day: Meta's RSC-1, and Llama 3 (419 in 54 days on 2,048 nodes).
RSC, LLAMA = 0.0065, 419 / 54 / 2048


def rate(per_year: float, **more: Any) -> dict[str, Any]:
    """A failure of nodes at a constant rate, over in no time unless *more* says otherwise."""
    return {
        "name": "f", "hazard": [{"per_year": per_year}], "repairs": [{"name": "reset", "median": 0}], **more
    }  # fmt: skip


def run(
    failures: Sequence[Mapping[str, Any]],
    nodes: int = 1,
    horizon: str = "1y",
    jobs: Sequence[Job] = (),
    gpus_per_node: int = 8,
    fleet: Sequence[Mapping[str, Any]] | None = None,
    **more: Any,
) -> History:
    """*nodes* of A100, new at the start."""
    fleet = fleet or [cohort(nodes=nodes, gpus_per_node=gpus_per_node)]
    keys = {"horizon": horizon, "usage_period": "year", "failures": list(failures), **more}
    return simulate(list(jobs) or [Job(0, HOUR_S)], fleet, **keys)


def times(run: History, failure: str = "f") -> dict[int, list[float]]:
    """When each node failed, s."""
    rows = run["failures"].filter(pl.col("failure").cast(pl.String) == failure)
    found: dict[int, list[float]] = {}
    for node, time_s in rows.sort("time_s").select("node", "time_s").rows():
        found.setdefault(node, []).append(time_s)
    return found


def within(found: float, expected: float, deviation: float, times: float = 3.0) -> bool:
    """Whether *found* lies within so many standard deviations."""
    return abs(found - expected) <= times * deviation


def follows(sample: Any, cdf: Callable[[Any], Any]) -> bool:
    """Whether *sample* is of the distribution *cdf*, at the 1 % level (Kolmogorov and Smirnov)."""
    ranks = np.arange(len(sample) + 1) / len(sample)
    at = cdf(np.sort(sample))
    return bool(np.max([at - ranks[:-1], ranks[1:] - at]) * sqrt(len(sample)) < 1.628)


def splits(counts: Any, weights: Sequence[float] | None = None) -> bool:
    """Whether *counts* go by *weights*, or evenly, at the 1 % level (chi-square; Wilson and Hilferty)."""
    counts = np.array(counts, float)
    parts = np.ones(len(counts)) if weights is None else np.array(weights)
    expected = parts / parts.sum() * counts.sum()
    spread = 2 / (9 * (len(counts) - 1))
    most = (len(counts) - 1) * (1 - spread + 2.326 * sqrt(spread)) ** 3
    return bool(((counts - expected) ** 2 / expected).sum() < most)


# Rates


@pytest.mark.parametrize("per_node_day", [RSC, LLAMA])
def test_nodes_fail_as_often_as_the_rate_says(per_node_day: float) -> None:
    """400 nodes for a year are 146,000 node-days: 949 failures at 6.50 per 1,000, 553 at 3.79."""
    h = run([rate(per_node_day * 365)], 400)
    expected = per_node_day * 400 * 365
    assert within(h["failures"].height, expected, sqrt(expected))


def test_llama_3() -> None:
    """One job on 2,048 nodes, 16,384 GPUs, for 54 days: 419 interruptions, and one attempt more (W24)."""
    jobs = [Job(0, 300 * DAY_S, 16_384)]
    h = run([rate(LLAMA * 365)], 2048, "54d", jobs)
    assert within(h["failures"].height, 419, sqrt(419))
    assert h["jobs"]["failures"].to_list() == [h["failures"].height]
    assert h["jobs"]["attempts"].to_list() == [h["failures"].height + 1]


@pytest.mark.parametrize(("gpus", "mttf_h"), [(16_384, 1.802885), (131_072, 0.225361)])
def test_the_mttf_of_a_job_is_that_of_its_nodes_over_their_number(gpus: int, mttf_h: float) -> None:
    """W23: 24 h / (nodes x 0.0065). On one node with the rate of all, for 2,000 times as long: the sum of
    their failures is a Poisson process of that rate."""
    nodes = gpus // 8
    hours = 2000 * mttf_h
    h = run([rate(RSC * 365 * nodes)], 1, f"{round(hours * 3600)}s", [Job(0, 10 * YEAR_S, 8)])
    ends = np.array(times(h)[0]) / HOUR_S
    gaps = np.diff(ends, prepend=0)
    assert within(float(gaps.mean()), mttf_h, mttf_h / sqrt(len(gaps)))
    assert follows(gaps, lambda t: 1 - np.exp(-t / mttf_h))


def test_a_gang_over_many_nodes_fails_as_often_as_all_of_them() -> None:
    """256 nodes at 0.0065 a day for 60 days: 99.84 failures, each of which stops the one job."""
    h = run([rate(RSC * 365)], 256, "60d", [Job(0, 100 * DAY_S, 2048)])
    stopped = sum(h["failures"]["jobs_stopped"].to_list())
    assert stopped == h["failures"].height == h["jobs"]["failures"][0]
    assert within(stopped, 99.84, sqrt(99.84))


@pytest.mark.parametrize(("mttr_days", "expected"), [(1, 0.993542), (7, 0.95648)])
def test_availability_is_mtbf_over_mtbf_and_mttr(mttr_days: int, expected: float) -> None:
    """W26: MTBF 153.8462 d. Each of n failures takes mttr: the share of time up has a deviation of about
    mttr x sqrt(n) / time."""
    repairs = [{"name": "r", "median": f"{mttr_days}d"}]
    h = run([rate(365 / 153.8462, repairs=repairs)], 300, "4y")
    hours = h.hours("state")
    up = 1 - hours["down"] / sum(hours.values())
    node_days = 300 * 4 * 365
    failures = node_days / (153.8462 + mttr_days)
    assert within(up, expected, mttr_days * sqrt(failures) / node_days)


def test_ettr_is_that_of_young() -> None:
    """W25: 1,024 GPUs, MTTF 28.85 h, 60 s to checkpoint every 3,530 s, 600 s to restart: ETTR 0.96023.

    One node with the rate of all. Each failure costs 600 s and half an interval, give or take 0.29 of one:
    in 2,400 failures a deviation of 20 s of 103,846 s each."""
    mttf_s, every_s = 103_846.154, 3530.0904
    h = run(
        [rate(YEAR_S / mttf_s)], 1, "8y", [Job(0, 10 * YEAR_S, 8)],
        scheduler={"restart": {"checkpoint": every_s, "checkpoint_cost": 60, "costs": [{"cost": 600}]}},
    )  # fmt: skip
    spent = h["jobs"].select("restart_gpu_s", "lost_gpu_s", "checkpoint_gpu_s", "allocated_gpu_s").row(0)
    ettr = 1 - sum(spent[:3]) / spent[3]
    # the formula is one of first order: it counts no failure that hits a restart
    assert ettr == pytest.approx(0.960229, abs=0.0015)


def test_jobs_fail_by_their_size_alone() -> None:
    """Jobs of 1, 2 and 8 GPUs; a rate of 50 a year for those of 2 to 4: thinning hits no other, and 40 such
    jobs for a year have 2,000 failures. Which of them is hit is even."""
    jobs = [Job(0, 3 * YEAR_S, gpus) for gpus in [1] * 8 + [8] * 4 + [2] * 40]
    fail = {"name": "j", "unit": "job", "hazard": [{"per_year": 30.0}, {"per_year": 20.0}],
            "jobs": {"min_gpus": 2, "max_gpus": 4}, "xids": {"31": 3.0, "94": 1.0}}  # fmt: skip
    h = run([fail], 20, "1y", jobs)
    by_job = np.bincount(h["failures"]["job"], minlength=len(jobs))
    assert by_job[:12].sum() == 0
    assert within(by_job.sum(), 2000, sqrt(2000))
    assert splits(by_job[12:])
    assert h["jobs"]["failures"].to_list() == by_job.tolist()
    assert "down" not in h.hours("state")
    xids = h["failures"]["xid"].value_counts().sort("xid").rows()
    assert within(xids[0][1], 0.75 * by_job.sum(), sqrt(0.75 * 0.25 * by_job.sum()))
    assert set(h["failures"]["down_s"]) == {0.0}


def test_jobs_that_do_not_run_do_not_fail() -> None:
    """Half the time one job runs, the other half none: half of the 1,000 failures a year."""
    fail = {"name": "j", "unit": "job", "hazard": [{"per_year": 1000.0}]}
    h = run([fail], 1, "1y", [Job(0, YEAR_S / 2, 8)])
    assert within(h["failures"].height, 500, sqrt(500))
    assert max(h["failures"]["time_s"].to_list()) <= YEAR_S / 2


# Hazards by age


def test_a_weibull_fails_by_age() -> None:
    """Shape 3, scale 2 y, gone for good: lives of 1,000 nodes are of that distribution."""
    wear = rate(0, hazard=[{"shape": 3.0, "scale": "2y"}], repairs=[{"name": "none", "retires": True}])
    h = run([wear], 1000, "10y")
    lives_y = h["failures"]["unit_age_s"].to_numpy() / YEAR_S
    assert len(lives_y) == 1000
    assert follows(lives_y, lambda t: 1 - np.exp(-((t / 2) ** 3)))


def test_used_nodes_fail_as_of_their_age() -> None:
    """Three years old at the start: P(life > 3 + t | life > 3) = exp((3/5)^3 - ((3 + t)/5)^3)."""
    wear = rate(0, hazard=[{"shape": 3.0, "scale": "5y"}], repairs=[{"name": "none", "retires": True}])
    fleet = [cohort(nodes=500, earlier_age="1y", delivered="-2y")]
    h = run([wear], horizon="20y", fleet=fleet)
    lives_y = h["failures"]["unit_age_s"].to_numpy() / YEAR_S
    assert (lives_y >= 3).all()
    assert follows(lives_y, lambda t: 1 - np.exp(0.6**3 - (t / 5) ** 3))


def test_a_curve_fails_in_steps() -> None:
    """0.5 a year, from six months on 3, from a year on none; of 1,000 nodes, 250 and 1,500."""
    curve = rate(0, hazard=[{"curve": [[0, 0.5], ["6mo", 3.0], ["12mo", 0]]}])
    h = run([curve], 1000, "2y")
    ages_y = h["failures"]["unit_age_s"].to_numpy() / YEAR_S
    early, late, never = ((ages_y >= a) & (ages_y < b) for a, b in ((0, 0.5), (0.5, 1), (1, 2)))
    assert within(early.sum(), 250, sqrt(250))
    assert within(late.sum(), 1500, sqrt(1500))
    assert never.sum() == 0


def test_hazards_add_up() -> None:
    parts = [{"per_year": 2.0}, {"curve": [[0, 3.0]]}, {"shape": 1.0, "scale": "6mo"}]
    h = run([rate(0, hazard=parts)], 300)
    assert within(h["failures"].height, 300 * 7, sqrt(300 * 7))


def test_gpus_fail_each_for_itself() -> None:
    """8 GPUs at one failure a year: 8 of the node, evenly over its places, and the node is down for each."""
    h = run([rate(1.0, unit="gpu")], 200, horizon="1y")
    assert within(h["failures"].height, 1600, sqrt(1600))
    assert splits(np.bincount(h["failures"]["gpu"], minlength=8))


# Lemons, repairs, XIDs


def test_lemons_fail_more_often_for_life() -> None:
    """A tenth of 1,000 nodes at 20 times 1 a year: 100 +- 9.5 of them, and 900 + 2,000 failures."""
    h = run([rate(1.0, lemons={"share": 0.1, "factor": 20.0})], 1000, "1y")
    per_node = np.bincount(h["failures"]["node"], minlength=1000)
    lemons = per_node > 8  # P(Poisson(1) > 8) = 1e-6, P(Poisson(20) <= 8) = 0.002
    assert within(int(lemons.sum()), 100, sqrt(1000 * 0.1 * 0.9))
    assert within(per_node[~lemons].mean(), 1.0, 1 / sqrt(900))
    assert within(per_node[lemons].mean(), 20.0, sqrt(20 / lemons.sum()))


def test_a_node_that_is_swapped_is_a_lemon_no_more_than_any_other() -> None:
    """All nodes are swapped at their first failure. With a share of 0.2 at 100 times 1 a year, a swapped one
    is again a lemon in 20 % of the cases: the time to the second failure is as the time to the first."""
    swap = [{"name": "swap", "median": 0, "replaces": "node"}]
    h = run([rate(1.0, lemons={"share": 0.2, "factor": 100.0}, repairs=swap)], 600, "5y")
    of_node = times(h)
    second = np.array([t[1] - t[0] for t in of_node.values() if len(t) > 1]) / YEAR_S

    def mixed(t: Any) -> Any:
        return 1 - 0.2 * np.exp(-100 * t) - 0.8 * np.exp(-t)

    first = np.array([t[0] for t in of_node.values()]) / YEAR_S
    for gaps in (first, second):
        early = gaps[gaps < 1]  # those of more than a year are missing where the run ends before
        assert len(early) > 300
        assert follows(early, lambda t: mixed(t) / mixed(1.0))


def test_repairs_have_their_shares_and_their_lengths() -> None:
    """70 % take 20 minutes, 30 % a day with sigma 0.5: the median is a day, the mean exp(0.125) days."""
    repairs = [
        {"name": "reboot", "share": 0.7, "median": "20min"},
        {"name": "swap", "share": 0.3, "median": "1d", "sigma": 0.5},
    ]
    h = run([rate(10.0, repairs=repairs)], 300)
    rows = h["failures"].filter(pl.col("down_s").is_not_null())
    by = {name: part["down_s"].to_numpy() for (name,), part in rows.group_by("repair")}
    count = sum(map(len, by.values()))
    assert within(len(by["reboot"]), 0.7 * count, sqrt(0.21 * count))
    assert by["reboot"] == pytest.approx(1200.0)
    logs = np.log(by["swap"] / DAY_S)
    assert within(logs.mean(), 0.0, 0.5 / sqrt(len(logs)))
    assert within(logs.std(), 0.5, 0.5 / sqrt(2 * len(logs)))


def test_xids_by_their_weights() -> None:
    h = run([rate(5.0, xids={"79": 2.0, "48": 1.0, "63": 1.0})], 300)
    counts = dict(h["failures"]["xid"].value_counts().rows())
    assert splits([counts[79], counts[48], counts[63]], [2, 1, 1])


# Ages after a swap


def test_a_gpu_that_is_swapped_is_new_and_its_neighbours_are_not() -> None:
    """GPUs fail at the age of a year and a bit (5 y, shape 20 would do; here a curve): all 8 of each node
    once between 365 d and 369 d, each being swapped then; nothing else in the year that follows, since the
    swapped ones are too young, and then each of them again, a year after its swap."""
    wear = rate(
        0, unit="gpu", hazard=[{"curve": [[0, 0], ["365d", 2000.0], ["370d", 0]]}],
        repairs=[{"name": "swap", "median": 0, "replaces": "gpu"}],
    )  # fmt: skip
    h = run([wear], 20, "720d")
    rows = h["failures"]
    assert rows.height == 160
    assert rows.group_by("node", "gpu").len()["len"].to_list() == [1] * 160
    assert rows["unit_age_s"].to_list() == rows["time_s"].to_list()
    again = run([wear], 20, "750d")["failures"]
    assert again.height == 320
    second = again.sort("node", "gpu", "time_s").group_by("node", "gpu", maintain_order=True)
    for _, of_gpu in second:
        first_s, second_s = of_gpu["time_s"]
        assert 365 * DAY_S <= of_gpu["unit_age_s"][1] == pytest.approx(second_s - first_s)


def test_a_node_that_is_swapped_is_new_with_all_its_gpus() -> None:
    """The node is swapped on day 300; its GPUs, which fail at a year, do so 365 days later, all of them."""
    swap = {
        "name": "n", "hazard": [{"curve": [[0, 0], ["300d", 1e6], ["301d", 0]]}],
        "repairs": [{"name": "swap", "median": 0, "replaces": "node"}],
    }  # fmt: skip
    wear = rate(
        0, unit="gpu", hazard=[{"curve": [[0, 0], ["365d", 2000.0], ["370d", 0]]}],
        repairs=[{"name": "swap", "median": 0, "replaces": "gpu"}],
    )  # fmt: skip
    h = run([swap, wear], 10, "400d")
    assert (h["failures"]["failure"].cast(pl.String) == "n").all()
    h = run([swap, wear], 10, "680d")
    at = times(h, "n")
    assert [len(at[n]) for n in range(10)] == [2] * 10  # the new node is swapped at 300 d too
    assert times(h) == {}


def test_a_gpu_swapped_by_one_rule_is_new_to_the_others() -> None:
    """Rule a swaps a GPU of each node on day 100. By rule b GPUs fail at a year: 7, one 100 days later."""
    a = {
        "name": "a", "hazard": [{"curve": [[0, 0], ["100d", 1e6], ["100d6h", 0]]}],
        "repairs": [{"name": "swap", "median": "1d", "replaces": "gpu"}],
    }  # fmt: skip
    b = rate(
        0, unit="gpu", hazard=[{"curve": [[0, 0], ["365d", 2000.0], ["370d", 0]]}],
        repairs=[{"name": "reset", "median": 0}],
    )  # fmt: skip
    h = run([a, b], 10, "460d", seed=1)
    first = h["failures"].filter(pl.col("failure").cast(pl.String) == "f")
    gpus = first.group_by("node").agg(pl.col("gpu").unique())
    assert [len(of_node) for of_node in gpus["gpu"]] == [7] * 10
    h = run([a, b], 10, "480d", seed=1)
    later = h["failures"].filter(
        (pl.col("failure").cast(pl.String) == "f") & (pl.col("time_s") > 460 * DAY_S)
    )
    assert later.group_by("node").agg(pl.col("gpu").n_unique())["gpu"].to_list() == [1] * 10
    assert max(later["unit_age_s"].to_list()) < 371 * DAY_S


# Spares


def test_without_a_spare_a_node_waits_for_one_to_come_back() -> None:
    """One spare GPU, 30 days of RMA. Three nodes lose a GPU each at 10, 11 and 12 days; a swap takes a day.

    The first takes the spare on day 11, and sends its own away: back on day 41, for the second, whose own
    has been away since day 12 and is back on day 42, for the third."""
    fleet = [cohort(name=f"c{n}") for n in range(3)]
    fails = [
        {
            "name": f"f{n}", "cohorts": [f"c{n}"],
            "hazard": [{"curve": [[0, 0], [f"{10 + n}d", 1e6], [f"{10 + n}d6h", 0]]}],
            "repairs": [{"name": "swap", "median": "1d", "replaces": "gpu"}],
        }
        for n in range(3)
    ]  # fmt: skip
    spares = [{"gpu_model": A100, "gpus": 1, "rma": "30d"}]
    h = run(fails, horizon="90d", fleet=fleet, spares=spares)
    at = [story(h, n)[1][0] for n in range(3)]
    assert at == pytest.approx([10 * DAY_S, 11 * DAY_S, 12 * DAY_S], abs=600)
    back = [story(h, n)[2] for n in range(3)]
    assert [b[1:3] for b in back] == [("up", "repair")] * 3
    assert [b[0] for b in back] == [at[0] + DAY_S, at[0] + 31 * DAY_S, at[1] + 31 * DAY_S]


def test_models_that_are_not_listed_never_lack_spares() -> None:
    swap = [{"name": "swap", "median": "1d", "replaces": "node"}]
    spares = [{"gpu_model": H100, "nodes": 0, "rma": "1000d"}]
    fleet = [cohort(nodes=20), cohort(H100, nodes=20)]
    h = run([rate(3.0, repairs=swap)], fleet=fleet, spares=spares)
    by = {model: part["down_s"] for (model,), part in h["failures"].group_by("gpu_model")}
    assert by[A100].drop_nulls().to_list() == pytest.approx([DAY_S] * by[A100].drop_nulls().len())
    assert by[H100].null_count() == len(by[H100])


def test_a_node_that_has_left_takes_no_spare() -> None:
    """Node 0 fails on day 10, node 1 on day 15; each swap takes 8 days and there is one spare, and no more
    within the run. Node 0 retires on day 16: the spare is for node 1, on day 23."""
    fleet = [cohort(name="a", earlier_age="20d"), cohort(name="b")]
    fails = [
        {
            "name": name, "cohorts": [name], "hazard": [{"curve": [[0, 0], [age, 1e6], [age + "6h", 0]]}],
            "repairs": [{"name": "swap", "median": "8d", "replaces": "node"}],
        }
        for name, age in (("a", "30d"), ("b", "15d"))
    ]  # fmt: skip
    h = run(
        fails, horizon="36d", fleet=fleet, spares=[{"gpu_model": A100, "nodes": 1, "rma": "1y"}],
        retirement={"rule": "fixed_age", "age": "36d"},
    )  # fmt: skip
    assert story(h, 0)[-1][:3] == (16 * DAY_S, "retired", "fixed_age")
    time_s, *last, _ = story(h, 1)[-1]
    assert last == ["up", "repair"]
    assert time_s == pytest.approx(23 * DAY_S, abs=600)


# Exactly


def test_scripts_count_from_service_and_from_repair() -> None:
    """A node of day 5: fails on days 15 (for 2) and 20 (for 1), since 3 days pass after the repair of 17."""
    script = [{"after": "10d", "down": "2d"}, {"after": "3d", "down": "1d"}]
    h = run([{"name": "f", "script": script}], horizon="30d", fleet=[cohort(delivered="5d")])
    assert [(t / DAY_S, state) for t, state, _, _ in story(h, 0)] == [
        (5, "up"), (15, "down"), (17, "up"), (20, "down"), (21, "up")
    ]  # fmt: skip
    columns = ("time_s", "down_s", "unit_age_s", "repair", "jobs_stopped")
    assert h["failures"].select(columns).rows() == [
        (15 * DAY_S, 2 * DAY_S, 10 * DAY_S, "script", 0),
        (20 * DAY_S, DAY_S, 15 * DAY_S, "script", 0),
    ]


def test_two_failures_at_once_keep_a_node_down_until_both_are_over() -> None:
    two = [
        {"name": "a", "script": [{"after": "10d", "down": "4d"}]},
        {"name": "b", "script": [{"after": "12d", "down": "5d"}]},
    ]
    h = run(two, horizon="30d")
    assert [(t / DAY_S, state) for t, state, _, _ in story(h, 0)] == [(0, "up"), (10, "down"), (17, "up")]
    assert h["failures"].select("failure", "down_s").rows() == [("a", 4 * DAY_S), ("b", 5 * DAY_S)]


def test_power_of_a_node_that_is_down() -> None:
    """Off, or as if idle: 8 idle A100 and their share of the server for two days."""
    fail = {"name": "f", "script": [{"after": "10d", "down": "2d"}]}
    off, on = (run([fail | {"powered": powered}], horizon="30d") for powered in (False, True))
    down, up = (
        sum(h["usage"].filter(pl.col("state").cast(pl.String) == "down")["energy_kwh"].to_list())
        for h in (off, on)
    )
    idle_w = float(on["node_states"]["idle_power_w"][0])
    assert down == 0
    assert up == pytest.approx(idle_w * 48 / 1000)


# Paired draws

A = {"name": "a", "hazard": [{"per_year": 6.0}], "repairs": [{"name": "r", "median": "6h", "sigma": 1.0}]}
B = {
    "name": "b", "unit": "gpu", "hazard": [{"shape": 2.0, "scale": "1y"}],
    "lemons": {"share": 0.2, "factor": 4.0}, "xids": {"79": 1.0, "31": 1.0},
    "repairs": [
        {"name": "r", "share": 0.5, "median": "6h", "sigma": 1.0},
        {"name": "s", "share": 0.5, "median": 0},
    ],
}  # fmt: skip


def facts(run: History, failure: str) -> set[tuple[Any, ...]]:
    rows = run["failures"].filter(pl.col("failure").cast(pl.String) == failure)
    return set(rows.select("time_s", "node", "gpu", "xid", "repair").rows())


def test_a_cause_more_does_not_shift_the_others() -> None:
    """Each strikes at the times at which it strikes alone, but for those at which the node is down."""
    alone = {name: run([rule], 60) for name, rule in (("a", A), ("b", B))}
    both = run([B, A], 60)
    other = run([A, B, rate(20.0, name="c", cohorts=[A100])], 60)
    for h in (both, other):
        for name in "ab":
            mine, here = facts(alone[name], name), facts(h, name)
            assert here <= mine
            assert len(here) > 0.9 * len(mine)
            down: dict[int, list[tuple[float, float]]] = {}
            for row in h["failures"].rows(named=True):
                until_s = row["time_s"] + (row["down_s"] if row["down_s"] is not None else YEAR_S)
                down.setdefault(row["node"], []).append((row["time_s"], until_s))
            for time_s, node, *_ in mine - here:
                assert any(a <= time_s <= b for a, b in down[node])


def test_more_nodes_and_other_jobs_do_not_shift_the_failures_of_a_node() -> None:
    few = run([A, B], 20)
    many = run([A, B], 40, jobs=[Job(0, 100 * DAY_S, 64), Job(0, DAY_S)])
    for name in "ab":
        assert facts(few, name) == {fact for fact in facts(many, name) if fact[1] < 20}


def test_longer_repairs_do_not_shift_what_comes_after() -> None:
    """Only those are missing that would have come in a repair."""
    quick, slow = (run([A | {"repairs": [{"name": "r", "median": median}]}], 60) for median in ("1h", "5d"))
    assert facts(slow, "a") < facts(quick, "a")


def test_the_seed_decides() -> None:
    assert facts(run([A], 20, seed=1), "a") == facts(run([A], 20, seed=1), "a")
    assert not facts(run([A], 20, seed=1), "a") & facts(run([A], 20, seed=2), "a")
