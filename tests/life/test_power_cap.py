"""Power limits: a site with more servers than power for them slows them down, and never draws more."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.support import A100, H100, History, Job, cohort, read, simulate, text, trace, workload

from fleetsim import experiment, scenario
from fleetsim.catalog import load_catalog
from fleetsim.errors import FleetsimError
from fleetsim.life.power import capped_sites, limit_w, pace
from fleetsim.records import Activity
from fleetsim.schema import TABLES

#: 800 W of a slot, and nothing while no kernel runs: an eighth of the power is half the speed.
PLAIN: dict[str, Any] = {
    "idle_w": 0.0, "context_w": 0.0, "tdp_w": 800.0, "power_exponent": 1.0, "gpus_per_server": 1,
    "server_max_w": 800.0, "server_idle_w": 0.0,
}  # fmt: skip

#: One GPU, for which alone there is power.
OLD = cohort(name="old", gpus_per_node=1, delivered="-1y", contract_until="2030-01-01")
#: Seven more from 100 s to 300 s: an eighth of the power each.
NEW = cohort(name="new", gpus_per_node=1, nodes=7, delivered=100)
FULL = workload(busy_share=1.0, sm_active=1.0)
#: Time begins with the first job.
FIRST = Job(0, 1)


def capped(
    jobs: Sequence[Job],
    cohorts: Sequence[Mapping[str, Any]] = (OLD, NEW),
    works: Mapping[str, Any] = FULL,
    kw: float = 0.8,
    figures: Mapping[str, Any] = PLAIN,
    retire: bool = True,
    **more: Any,
) -> History:
    """Run *jobs* at a site of *kw*, where all GPUs have *figures*; with *retire* nodes leave after 200 s."""
    if retire:
        more["retirement"] = {"rule": "fixed_age", "age": 200}
    # The scenario is checked by the catalogue's figures: the limit is lowered afterwards.
    sites = [{"name": "s", "it_power_kw": 100 * kw, "over_power": "power_cap"}]
    parsed = scenario.parse(text(list(cohorts), [works], sites=sites, **more), "test")
    site = replace(parsed.cohorts[0].site, it_power_kw=kw)
    given_models = (replace(c, site=site, model=replace(c.model, **figures)) for c in parsed.cohorts)
    parsed = replace(parsed, cohorts=tuple(given_models))
    with tempfile.TemporaryDirectory() as folder:
        return read(experiment.run(parsed, Path(folder) / "run", traces={"w": trace(jobs)}).path)


def rows(run: History, job: int, *columns: str) -> list[Any]:
    """Rows of the allocations of *job*: start, end, and *columns*."""
    found = run["allocations"].filter(pl.col("job") == job).sort("start_s", "end_s")
    return found.select("start_s", "end_s", *columns).rows()


def caps(run: History) -> list[Any]:
    return run["events"].filter(pl.col("kind") == "power_cap").select("time_s", "subject", "detail").rows()


def energy(run: History) -> dict[str, float]:
    """kWh by state."""
    by_state = run["usage"].group_by("state").agg(pl.col("energy_kwh").sum()).cast({"state": pl.String})
    return dict(by_state.rows())


def most_kw(run: History, site_of: Mapping[str, str], idle_w: Mapping[str, float]) -> dict[str, float]:
    """The highest IT power of every site at any instant, from the change points of nodes and jobs.

    *site_of* and *idle_w*, of a GPU that is up with nothing on it, are by cohort.
    """
    changes: dict[str, list[tuple[float, float]]] = {site: [] for site in site_of.values()}
    nodes = run["node_states"].cast({"cohort": pl.String})
    for _, of_node in nodes.group_by("node", maintain_order=True):
        before = 0.0
        for time_s, name, watts in of_node.select("time_s", "cohort", "idle_power_w").rows():
            changes[site_of[name]].append((time_s, watts - before))
            before = watts
    columns = "start_s", "end_s", "cohort", "gpus", "power_w"
    for start_s, end_s, name, gpus, watts in (
        run["allocations"].cast({"cohort": pl.String}).select(columns).rows()
    ):
        more = watts - gpus * idle_w[name]
        changes[site_of[name]] += [(start_s, more), (end_s, -more)]
    most = {}
    for site, of_site in changes.items():
        times_s, at = np.unique([t for t, _ in of_site], return_inverse=True)
        level = np.cumsum(np.bincount(at, [w for _, w in of_site], len(times_s)))
        most[site] = float(level.max(initial=0.0)) / 1000
    return most


# One job, to the second


def test_slowed_by_a_delivery_and_sped_up_by_a_retirement() -> None:
    """400 s of work: 100 by 100 s, 200 x 1/2 = 100 by 300 s, 200 by 500 s.

    0.8 kW for 8 x 0.8 kW is an eighth: 100 W a GPU, and the clock goes with the cube root, 1/2.
    """
    run = capped([Job(0, 400)])
    assert rows(run, 0, "power_w", "outcome", "attempt") == [
        (0, 100, 800, "continued", 1), (100, 300, 100, "continued", 1), (300, 500, 800, "completed", 1),
    ]  # fmt: skip
    assert caps(run) == [(100, "s", "limit 12.5 % of the maximum"), (300, "s", "limit 100 % of the maximum")]
    columns = "start_s", "end_s", "wait_s", "attempts", "preemptions", "allocated_gpu_s", "energy_kwh"
    kwh = (300 * 800 + 200 * 100) / 3.6e6
    assert run.jobs(*columns) == [(0, 500, 0, 1, 0, 500, pytest.approx(kwh, rel=1e-12))]
    assert energy(run)["productive"] == pytest.approx(kwh, rel=1e-12)
    assert run.hours("state")["productive"] == pytest.approx(500 / 3600, rel=1e-12)
    assert run["queue"].is_empty()


def test_a_job_that_draws_less_than_the_limit_is_left_alone() -> None:
    """Half of the SMs draw 400 W. Two GPUs for the power of one: 400 W each, and nothing happens.

    Eight: 100 W, a quarter of 400 W, so the job goes at (1/4) ** (1/3) = 0.63 of its speed.
    """
    half = workload(busy_share=1.0, sm_active=0.5)
    two = capped([Job(0, 400)], [OLD, {**NEW, "nodes": 1}], half)
    assert rows(two, 0, "power_w", "outcome") == [(0, 400, 400, "completed")]
    assert caps(two)[0] == (100, "s", "limit 50 % of the maximum")
    eight = capped([Job(0, 400)], [OLD, NEW], half, retire=False)
    slow = 0.25 ** (1 / 3)
    assert rows(eight, 0, "power_w") == [
        (0, 100, 400),
        (100, pytest.approx(100 + 300 / slow, rel=1e-12), 100),
    ]


def test_the_limit_counts_above_what_a_process_draws() -> None:
    """Context 160 W: at 240 W, 80 of 640 W are left for the clock, an eighth: half the speed.

    A quarter of the time no kernel runs: 0.75 x 800 + 0.25 x 160 = 640 W before, 220 W after.
    """
    figures = {**PLAIN, "context_w": 160.0}
    new = {**NEW, "nodes": 3, "delivered": 100}
    run = capped([Job(0, 200)], [OLD, new], workload(busy_share=0.75, sm_active=1.0), 0.96, figures, False)
    assert rows(run, 0, "power_w") == [(0, 100, 640), (100, 300, pytest.approx(220, rel=1e-12))]
    stalled, productive = 300 * 0.25 * 160, 0.75 * (100 * 800 + 200 * 240)
    assert energy(run)["stalled"] == pytest.approx(stalled / 3.6e6, rel=1e-12)
    assert energy(run)["productive"] == pytest.approx(productive / 3.6e6, rel=1e-12)


def test_a_session_lasts_as_long_as_the_person() -> None:
    """It draws less, and ends when it would."""
    run = capped([Job(0, 400, workload_class="interactive")])
    assert rows(run, 0, "power_w") == [(0, 100, 800), (100, 300, 100), (300, 400, 800)]


def test_a_job_that_starts_below_the_limit() -> None:
    """From 150 s at half speed: 75 by 300 s, 125 more at full speed."""
    run = capped([FIRST, Job(150, 200)])
    assert rows(run, 1, "power_w") == [(150, 300, 100), (300, 425, 800)]


def test_what_comes_at_the_time_of_the_change_starts_at_the_new_speed() -> None:
    run = capped([FIRST, Job(100, 50), Job(300, 50)])
    assert rows(run, 1) == [(100, 200)]
    assert rows(run, 2) == [(300, 350)]


def test_all_that_comes_at_once_makes_one_change() -> None:
    """Four GPUs in two cohorts at the start: 200 W each. At 100 s all of one leave, and as many come."""
    cohorts = [OLD, {**NEW, "nodes": 3, "delivered": 0}, {**NEW, "nodes": 3, "name": "newer"}]
    cohorts[1]["contract_until"] = "2026-01-01T00:01:40Z"
    leave = {"rule": "fixed_age", "age": 60}
    run = capped([Job(0, 63)], cohorts, retire=False, horizon=200, retirement=leave)
    assert caps(run) == [(0, "s", "limit 25 % of the maximum"), (160, "s", "limit 100 % of the maximum")]
    assert rows(run, 0, "power_w") == [(0, pytest.approx(63 * 4 ** (1 / 3), rel=1e-12), 200)]


def test_what_ends_at_the_time_of_the_change_is_not_cut() -> None:
    run = capped([Job(0, 100)])
    assert rows(run, 0, "outcome") == [(0, 100, "completed")]


# Restarts, checkpoints, gangs


def test_set_up_goes_on() -> None:
    """20 s of set-up from 90 s: 10 by 100 s, 10 by 110 s; then 60 s of work at half speed, by 230 s."""
    run = capped([FIRST, Job(90, 60)], scheduler={"restart": {"setup": 20}})
    mean_w = pytest.approx(100 * 120 / 130, rel=1e-12)
    assert rows(run, 1, "restart_s", "power_w") == [(90, 100, 10, 0), (100, 230, 10, mean_w)]
    assert run.jobs("restart_gpu_s")[1] == 20
    assert run.jobs("energy_kwh")[1] == pytest.approx(120 * 100 / 3.6e6, rel=1e-12)


CHECKPOINTS = {"restart": {"checkpoint": 20, "checkpoint_cost": 5}}


def test_checkpoints_are_written_by_the_new_clock() -> None:
    """From 70 s: 20 s of work, 5 s of writing, 5 s of work by 100 s; 60 - 25 = 35 s are left.

    They take 70 s at half speed, with a checkpoint after 20, 40 and 60 s: 85 s.
    """
    run = capped([FIRST, Job(70, 60)], scheduler=CHECKPOINTS)
    assert rows(run, 1, "checkpoint_s", "lost_s") == [(70, 100, 5, 0), (100, 185, 15, 0)]
    lost_j = 5 * 800 + 15 * 100
    assert energy(run)["lost"] == pytest.approx(lost_j / 3.6e6, rel=1e-12)


def test_a_change_while_a_checkpoint_is_written() -> None:
    """From 78 s: 20 s of work and 2 s of writing by 100 s: 40 s are left, 80 s and three checkpoints."""
    run = capped([FIRST, Job(78, 60)], scheduler=CHECKPOINTS)
    assert rows(run, 1, "checkpoint_s") == [(78, 100, 2), (100, 195, 15)]


def test_what_was_done_before_the_change_is_safe() -> None:
    """As above, 35 s are left at 100 s. The node fails at 160 s: since then 2 x (20 + 5) s, and 10 s lost.

    Of 35 s, 40 / 2 = 20 s are done. Back at 170 s: 15 s take 30 s, and one checkpoint.
    """
    script = [{"after": 160, "down": 10}]
    run = capped(
        [FIRST, Job(70, 60)],
        scheduler=CHECKPOINTS,
        failures=[{"name": "f", "cohorts": ["old"], "script": script}],
        works={**FULL, "gpu_models": [A100]},
        cohorts=[OLD, {**NEW, "gpu_model": H100}],
    )
    assert rows(run, 1, "checkpoint_s", "lost_s", "attempt", "outcome") == [
        (70, 100, 5, 0, 1, "continued"), (100, 160, 10, 10, 1, "failed"), (170, 205, 5, 0, 2, "completed"),
    ]  # fmt: skip
    assert run.jobs("start_s", "attempts", "failures", "lost_gpu_s")[1] == (70, 2, 1, 10)
    waiting = run["queue"].select("time_s", "jobs_waiting").rows()
    assert waiting == [(160, 1), (170, 0)]


def test_a_job_stopped_at_the_time_of_the_change_has_been_stopped() -> None:
    """At 100 s a shorter job takes its GPU, and it has 300 s left: at half speed from 120 to 300 s 90 s."""
    only = {**FULL, "gpu_models": [A100]}
    run = capped(
        [Job(0, 400), Job(100, 10)],
        [OLD, {**NEW, "gpu_model": H100}],
        only,
        scheduler={"queue": "srtf", "restart": {"costs": [{"cost": 8}]}},
    )
    assert rows(run, 1) == [(100, 120)]
    assert rows(run, 0, "outcome", "attempt", "restart_s") == [
        (0, 100, "continued", 1, 0), (100, 100, "preempted", 1, 0), (120, 300, "continued", 2, 8),
        (300, 300 + 300 - 86, "completed", 2, 0),
    ]  # fmt: skip
    assert run.jobs("preemptions") == [1, 0]


def test_a_gang_over_nodes_and_a_run_that_ends() -> None:
    """Two GPUs on two nodes; the run ends at 250 s with 100 + 150 / 2 of 400 s done."""
    run = capped([Job(0, 400, 2)], [{**OLD, "nodes": 2}, {**NEW, "nodes": 14}], kw=1.6, horizon=250)
    assert rows(run, 0, "node", "power_w", "outcome") == [
        (0, 100, 0, 800, "continued"), (0, 100, 1, 800, "continued"),
        (100, 250, 0, 100, "running"), (100, 250, 1, 100, "running"),
    ]  # fmt: skip


def test_backfilling_goes_by_the_speeds_of_now() -> None:
    """Two GPUs. Job 2 wants both, and job 0 is to end at 1,000 s; job 3, 700 s, waits for one.

    At half speed from 100 s job 1 ends at 200 s. Job 3 would then end at 1,600 s, so it does not start.
    Job 0 ends at 1,900 s after all, and job 2 takes 20 s from there.
    """
    jobs = [Job(0, 1000), Job(0, 150), Job(1, 10, 2), Job(50, 700)]
    run = capped(
        jobs,
        [{**OLD, "gpus_per_node": 2}, {**NEW, "nodes": 14, "gpu_model": H100}],
        {**FULL, "gpu_models": [A100]},
        1.6,
        retire=False,
        scheduler={"queue": "easy", "estimate": {"source": "duration"}},
    )
    assert run.jobs("start_s", "end_s") == [(0, 1900), (0, 200), (1900, 1920), (1920, 3320)]


def test_the_shortest_remaining_time_counts_the_speed() -> None:
    """Job 0 is to end at 200 s, but has 95 s left at 110 s, 190 s of time: job 1, 150 s, goes first.

    What runs is compared by what it needs where it runs, what waits by what it needs on the reference GPU.
    """
    run = capped(
        [Job(0, 200), Job(110, 150)],
        [OLD, {**NEW, "gpu_model": H100}],
        {**FULL, "gpu_models": [A100]},
        retire=False,
        scheduler={"queue": "srtf"},
    )
    assert run.jobs("start_s", "end_s") == [(0, 600), (110, 410)]


def test_a_job_that_is_made_to_last_reaches_its_level_of_service() -> None:
    """Job 0 was to end at 190 s, before 200 GPU s; at half the speed from 100 s on it gets there, and job 1,
    whose 50 s take 100, goes first. Then it goes on: 90 - 50 = 40 s are left, which take 80."""
    run = capped(
        [Job(0, 190), Job(110, 50)],
        [OLD, {**NEW, "gpu_model": H100}],
        {**FULL, "gpu_models": [A100]},
        retire=False,
        scheduler={"queue": "las", "las_thresholds_gpu_s": [200.0]},
    )
    assert run.jobs("start_s", "end_s") == [(0, 380), (200, 300)]


# Models, sites, limits


def test_two_models_at_a_site_and_another_without_limit() -> None:
    """6.5 + 10.2 kW for 12 kW: 12 / 16.7 = 71.9 %, of 812.5 and of 1275 W a GPU."""
    sites = [{"name": "tight", "it_power_kw": 12, "over_power": "power_cap"}, {"name": "wide"}]
    cohorts = [
        cohort(name="a", site="tight"),
        cohort(H100, name="h", site="tight", delivered=1000),
        cohort(H100, name="free", site="wide"),
    ]
    works = [
        {**workload(name, busy_share=1.0, sm_active=1.0), "gpu_models": [model]}
        for name, model in (("w", A100), ("v", H100))
    ]
    jobs = {"w": [Job(0, 3600, 8)], "v": [Job(0, 36000, 8), Job(2000, 3600, 8)]}
    run = simulate(jobs, cohorts, works, sites=sites)
    share = 12 / 16.7
    models = load_catalog()
    act = Activity("w", "training", models[A100], 1.0, 1.0, 0.4)
    a, h = (pace(models[name], act, share) for name in (A100, H100))
    context_w = 58 + 112.5 + (812.5 - 170.5) * 26 / 342  # as in tests/model/test_exact_books.py
    assert a == pytest.approx(((share * 812.5 - context_w) / (812.5 - context_w)) ** (1 / 3), rel=1e-12)
    assert 0 < h < 1 and h != a
    by_cohort = {
        name: run["allocations"].filter(pl.col("cohort").cast(pl.String) == name).select(
            "start_s", "end_s", "power_w"
        ).rows()
        for name in ("a", "h", "free")
    }  # fmt: skip
    full = models[H100].speed("training", models[A100])
    assert by_cohort["a"] == [
        (0, 1000, pytest.approx(6500)), (1000, pytest.approx(1000 + 2600 / a), pytest.approx(share * 6500)),
    ]  # fmt: skip
    assert by_cohort["free"] == [(0, pytest.approx(36000 / full), pytest.approx(10200))]
    assert by_cohort["h"] == [
        (2000, pytest.approx(2000 + 3600 / full / h), pytest.approx(share * 10200))
    ]  # fmt: skip
    idle_w = {name: models[model].idle_power_w for name, model in (("a", A100), ("h", H100), ("free", H100))}
    drawn = most_kw(run, {"a": "tight", "h": "tight", "free": "wide"}, idle_w)
    assert drawn["tight"] == pytest.approx(12, rel=1e-12)  # both run full
    assert drawn["wide"] == pytest.approx(10.2, rel=1e-12)
    hourly = run["usage"].filter(pl.col("cohort").cast(pl.String) != "free")
    assert hourly["energy_kwh"].sum() <= 12 * run.manifest["end_s"] / 3600


def test_pace_follows_the_cube_root() -> None:
    """H100: 1,275 W a slot. Idle 70 + 162.5 W; formulas in fleetsim.life.power."""
    model = load_catalog()[H100]
    act = Activity("w", "inference", model, 0.6, 0.45, 0.16)
    busy_w, context_w = model.busy_power_w(0.45), model.context_power_w
    assert pace(model, act, 1.001 * busy_w / 1275) == 1.0
    assert limit_w(model, 0.5) == pytest.approx(637.5)
    assert busy_w > 637.5
    assert pace(model, act, 0.5) ** 3 == pytest.approx((637.5 - context_w) / (busy_w - context_w), rel=1e-12)
    assert pace(model, replace(act, workload_class="interactive"), 0.5) == 1.0


def test_energy_with_carbon() -> None:
    """1,000 g a kWh and PUE 1: as many kg as kWh."""
    jobs = [Job(0, 400)]
    sites = [{"name": "s", "it_power_kw": 6.5, "over_power": "power_cap", "pue": 1, "carbon_g_per_kwh": 1000}]
    cohorts = [cohort(name="a", delivered="-1y"), cohort(name="b", delivered=100)]
    run = simulate(jobs, cohorts, [FULL], sites=sites)
    usage = run["usage"]
    assert caps(run) == [(100, "s", "limit 50 % of the maximum")]
    assert usage["carbon_kg"].to_list() == pytest.approx(usage["energy_kwh"].to_list(), rel=1e-12)
    of_job = run.jobs("energy_kwh")[0]
    assert energy(run)["productive"] == pytest.approx(of_job, rel=1e-12)


def test_a_limit_below_what_a_process_draws() -> None:
    """Context 160 W, and 100 W a GPU."""
    with pytest.raises(FleetsimError, match=r"site s: .* 12.5% .* a100-sxm-80 draws more before any kernel"):
        capped([Job(0, 400)], figures={**PLAIN, "context_w": 160.0})


def test_sites_that_can_never_draw_too_much_are_not_capped() -> None:
    words = [{"name": s, "it_power_kw": kw, "over_power": "power_cap"} for s, kw in (("x", 13), ("y", 12.9))]
    cohorts = [
        cohort(name=f"{s}{i}", site=s, delivered=at) for s in "xy" for i, at in enumerate(("-1y", 100))
    ]
    parsed = scenario.parse(text(cohorts, [workload()], sites=words), "test")
    assert capped_sites(parsed.cohorts) == ["y"]


@pytest.mark.parametrize("retire", [False, True])
def test_a_limit_that_never_binds_changes_no_byte(tmp_path: Path, retire: bool) -> None:
    """Room for both; or for one, and the second comes when the first has left."""
    jobs = trace([Job(10.0 * i, 37.0 + i % 5, 1 + i % 8) for i in range(40)])
    cohorts = [cohort(name="a", delivered="-1y"), cohort(name="b", delivered=250)]
    more: dict[str, Any] = {"scheduler": {"restart": {"checkpoint": 20, "checkpoint_cost": 1}}}
    if retire:
        cohorts[0]["contract_until"] = "2026-01-01T00:04:10Z"
        more["retirement"] = {"rule": "fixed_age", "age": "30d"}
    folders: list[Path] = []
    for policy in ({"it_power_kw": 6.5 if retire else 13, "over_power": "power_cap"}, {}):
        words = text(cohorts, [workload()], sites=[{"name": "s", **policy}], **more)
        folders.append(tmp_path / str(len(folders)))
        experiment.run(scenario.parse(words, "test"), folders[-1], traces={"w": jobs})
    for table in TABLES:
        first, second = ((folder / f"{table}.parquet").read_bytes() for folder in folders)
        assert first == second, table


# Anything goes

QUEUES = (
    "fifo", "fifo_skip", "sjf", "easy", "conservative", "srtf", "las", "gittins", "max_min", "fair_share",
    "quota",
)  # fmt: skip


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    """Scenarios in which nodes come and go at a site that has not power for all of them."""
    times = st.integers(0, 3000)
    cohorts = [cohort(name="c0", nodes=2, gpus_per_node=4, delivered="-1y", contract_until="2030-01-01")]
    for i in range(draw(st.integers(1, 3))):
        model, nodes = draw(st.sampled_from([A100, H100])), draw(st.integers(1, 3))
        at = {"delivered": draw(times), "burn_in": draw(st.sampled_from([0, 50]))}
        cohorts.append(cohort(model, nodes, 4, name=f"c{i + 1}", **at))
    queue = draw(st.sampled_from(QUEUES))
    restart: dict[str, Any] = {
        "setup": draw(st.sampled_from([0, 30])),
        "costs": [{"cost": draw(st.sampled_from([0, 20]))}],
        "checkpoint": draw(st.sampled_from(["when_stopped", "never", 100])),
    }
    if restart["checkpoint"] == 100:
        restart["checkpoint_cost"] = draw(st.sampled_from([0, 7]))
    rules: dict[str, Any] = {"queue": queue, "restart": restart}
    if queue in ("easy", "conservative"):
        rules["estimate"] = {"source": "duration", "factor": draw(st.sampled_from([0.5, 1, 3]))}
    if queue == "max_min":
        rules["interval"] = 60
    more: dict[str, Any] = {"scheduler": rules}
    if draw(st.booleans()):
        more["retirement"] = {"rule": "fixed_age", "age": draw(st.integers(100, 2000)), "drain": draw(times)}
    if draw(st.booleans()):
        more["failures"] = [
            {"name": "f", "script": [{"after": draw(st.integers(1, 900)), "down": draw(st.integers(1, 300))}]}
        ]
    if draw(st.booleans()):
        more["maintenance"] = [{"cohort": "c0", "at": draw(times), "lasts": 200}]
    more["horizon"] = draw(st.integers(3100, 40000))
    classes = st.sampled_from(["training", "batch", "interactive"])
    jobs = [
        Job(float(at), draw(st.floats(1, 2000)), draw(st.sampled_from([1, 2, 4, 8])), workload_class=name)
        for at, name in draw(st.lists(st.tuples(times, classes), min_size=1, max_size=25).map(sorted))
    ]
    # An A100 that holds a process draws 219 of 812.5 W, 27 %; an H100 less of its maximum.
    slots_kw = sum(c["nodes"] * 4 * (0.8125 if c["gpu_model"] == A100 else 1.275) for c in cohorts)
    return {"cohorts": cohorts, "jobs": jobs, "kw": slots_kw * draw(st.floats(0.3, 1.0)), **more}


@settings(deadline=None, max_examples=60)
@given(given_run=runs())
def test_books_balance_and_no_site_draws_more_than_it_has(given_run: dict[str, Any]) -> None:
    """The run itself checks its books: hours, energy, and that the work done is the work asked for."""
    cohorts, jobs, kw = (given_run.pop(key) for key in ("cohorts", "jobs", "kw"))
    sites = [{"name": "s", "it_power_kw": kw, "over_power": "power_cap"}]
    words = text(cohorts, [workload()], sites=sites, **given_run)
    parsed = scenario.parse(words, "test")
    with tempfile.TemporaryDirectory() as folder:
        run = read(experiment.run(parsed, Path(folder) / "run", traces={"w": trace(jobs)}).path)
    assert all(check["holds"] for check in run.manifest["checks"])
    models = load_catalog()
    idle_w = {c["name"]: models[c["gpu_model"]].idle_power_w for c in cohorts}
    drawn = most_kw(run, dict.fromkeys(idle_w, "s"), idle_w)
    assert drawn["s"] <= kw * (1 + 1e-9)
    of_rows_j = run["allocations"].select((pl.col("end_s") - pl.col("start_s")) * pl.col("power_w"))
    of_jobs_kwh: list[float] = run.jobs("energy_kwh")
    assert sum(of_jobs_kwh) * 3.6e6 == pytest.approx(sum(of_rows_j.to_series().to_list()), rel=1e-9)
