"""What holds for the readings of any run: values of one state agree, and sums agree with the books."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.support import A100, H100, P100, T4, V100, Job, cohort
from telemetry.support import frame, simulate

from fleetsim.catalog import load_catalog
from fleetsim.runfolder import Run
from fleetsim.telemetry import hardware
from fleetsim.telemetry.noise import keys
from fleetsim.telemetry.sensors import Telemetry
from fleetsim.telemetry.state import busy_s
from fleetsim_collectors.readings import COLUMNS

END_S = 4 * 3600.0

CLASSES = st.sampled_from(["training", "fine_tuning", "inference", "batch", "interactive"])
SHARES = st.sampled_from([0.0, 0.05, 0.3, 0.95, 1.0])
JOBS = st.lists(
    st.builds(
        Job,
        submit_s=st.sampled_from([0.0, 0.5, 600.0, 601.25, 5000.0]),
        duration_s=st.sampled_from([0.001, 0.7, 90.0, 1000.5, 9000.0]),
        gpus=st.integers(1, 6),
        tenant=st.sampled_from(["red", "blue"]),
        workload_class=CLASSES,
    ),
    max_size=12,
).map(lambda jobs: [Job(0, 0.5), *sorted(jobs, key=lambda job: job.submit_s)])  # time begins with the first


@st.composite
def scenarios(draw: st.DrawFn, failures: bool = True) -> dict[str, Any]:
    """Some nodes of some models, that fail and come back, and jobs that restart."""
    models = draw(
        st.lists(st.sampled_from([A100, H100, V100, P100, T4]), min_size=1, max_size=3, unique=True)
    )
    fails = {"name": "f", "script": [{"after": 1500, "down": 300}, {"after": 60, "down": 0.5}]}
    return {
        "jobs": draw(JOBS),
        "cohorts": [
            cohort(m, nodes=draw(st.integers(1, 2)), gpus_per_node=draw(st.integers(1, 4))) for m in models
        ],
        "workload": {"busy_share": draw(SHARES), "sm_active": draw(SHARES), "mfu": 0.4},
        "failures": [fails] if failures and draw(st.booleans()) else [],
        "scheduler": {
            "queue": "fifo_skip",
            "restart": {
                "setup": draw(st.sampled_from([0, 45])), "checkpoint": "10min", "costs": [{"cost": 30}],
            },
        },
        "seed": draw(st.integers(0, 3)),
        "horizon": END_S,
    }  # fmt: skip


GRIDS = st.tuples(st.sampled_from([0.0, 0.25, 599.5, 1400.0]), st.sampled_from([0.5, 7.0, 60.0, 333.3])).map(
    lambda grid: (grid[0], min(END_S, grid[0] + 120 * grid[1]), grid[1])
)


@contextmanager
def done(scenario: dict[str, Any]) -> Iterator[Run]:
    with tempfile.TemporaryDirectory() as folder:
        scenario = dict(scenario)
        yield simulate(Path(folder), scenario.pop("jobs"), scenario.pop("cohorts"), **scenario)


@settings(max_examples=40, deadline=None)
@given(scenarios(), GRIDS)
def test_values_of_one_state_agree(scenario: dict[str, Any], grid: tuple[float, float, float]) -> None:
    with done(scenario) as run:
        found = Telemetry(run)
        rows = frame(found, *grid)
    free, held = rows.filter(pl.col("processes") == 0), rows.filter(pl.col("processes") > 0)
    assert free["job"].null_count() == free["tenant"].null_count() == free.height
    assert held["job"].null_count() == held["tenant"].null_count() == 0
    for name in (
        "gpu_util_pct",
        "mem_copy_util_pct",
        "fb_used_mib",
        *[c.name for c in COLUMNS if "_active" in c.name],
    ):
        assert (free[name].fill_null(0) == 0).all(), name
    idle = {hardware.driver(m).name: hardware.driver(m).idle_mhz for m in load_catalog().values()}
    assert (free["sm_clock_mhz"] == free["model_name"].replace_strict(idle, return_dtype=pl.Int16)).all()
    assert (free["throttle_reasons"] == 1).all() and (held["throttle_reasons"] & 1 == 0).all()
    assert (held["sm_clock_mhz"] == held["sm_clock_max_mhz"]).all() and (held["fb_used_mib"] > 0).all()
    assert (rows["fb_used_mib"] + rows["fb_free_mib"] + rows["fb_reserved_mib"] == rows["fb_total_mib"]).all()
    assert rows["fb_free_mib"].min() >= 0 if rows.height else True  # type: ignore[operator]
    assert (rows["power_w"] <= rows["power_limit_w"] * (1 + hardware.NOISE + 1e-6)).all()
    assert (rows["power_w"] > 0).all() and rows["gpu_util_pct"].is_between(0, 100).all()
    known = rows.drop_nulls("sm_active")
    for less, more in (
        ("sm_active", "gr_engine_active"), ("tensor_active", "sm_active"), ("sm_occupancy", "sm_active"),
        ("dram_active", "gr_engine_active"), ("gr_engine_active", "one"),
    ):  # fmt: skip
        assert (known[less] <= known.with_columns(one=pl.lit(1.0))[more] + 1e-6).all(), (less, more)
    assert (known.filter(pl.col("sm_active") > 0)["processes"] == 1).all()
    nullable = {c.name for c in COLUMNS if c.nullable}
    assert all(rows[name].null_count() == 0 for name in rows.columns if name not in nullable)


@settings(max_examples=20, deadline=None)
@given(scenarios(), GRIDS)
def test_counters_never_fall_but_when_a_node_boots(
    scenario: dict[str, Any], grid: tuple[float, float, float]
) -> None:
    with done(scenario) as run:
        found = Telemetry(run)
        rows = frame(found, *grid)
    boots = found.history.spells.start_s[found.history.spells.boots]
    booted = pl.col("time_s").map_elements(
        lambda t: int(np.searchsorted(np.sort(boots), t, "right")), pl.Int64
    )
    for name in ("energy_mj", "nvlink_bytes"):
        falls = (
            rows.drop_nulls(name).with_columns(boots=booted)
            .with_columns(pl.col(name, "boots").diff().over("node", "gpu").name.suffix("_diff"))
            .filter(pl.col(f"{name}_diff") < 0)
        )  # fmt: skip
        assert (falls["boots_diff"] > 0).all()


@given(
    st.floats(0, 1),
    st.floats(0.1, 100),
    st.integers(0, 99),
    st.lists(st.floats(0, 1e8), min_size=2, max_size=40),
)
def test_busy_time_never_falls(busy: float, cycle_s: float, job: int, times: list[float]) -> None:
    """Nor does it exceed the time, nor differ by more than a quarter of a cycle from its share of it."""
    since_s = np.array(sorted([*times, *(t + d for t in times for d in (1e-9, 1e-3))]))
    key = keys(1, "attempt", np.full(len(since_s), job))
    ran_s = busy_s(since_s, np.full(len(since_s), busy), np.full(len(since_s), cycle_s), key)
    assert (np.diff(ran_s) >= 0).all() and ran_s[0] >= 0
    assert (np.abs(ran_s - busy * since_s) <= cycle_s / 4 + 1e-6).all()


@settings(max_examples=20, deadline=None)
@given(scenarios(), GRIDS)
def test_gpus_of_jobs_are_those_of_the_allocations(
    scenario: dict[str, Any], grid: tuple[float, float, float]
) -> None:
    """At every time and on every node: as many GPUs of a job as it has allocated, and all that are up."""
    with done(scenario) as run:
        rows = frame(Telemetry(run), *grid)
        held = run.scan("allocations").select("job", "node", "gpus", "start_s", "end_s").collect()
        states = run.scan("node_states").select("time_s", "node", "state", "gpus").collect()
    times = rows["time_s"].unique().sort().to_list()
    counted = dict.fromkeys(times, 0)
    for t in times[:: max(1, len(times) // 20)]:
        now = held.filter((pl.col("start_s") <= t) & (t < pl.col("end_s")))
        ours = (
            rows.filter((pl.col("time_s") == t) & pl.col("job").is_not_null())
            .group_by("job", "node")
            .len("gpus")
        )
        assert set(ours.rows()) == set(now.select("job", "node", "gpus").rows())
        last = states.filter(pl.col("time_s") <= t).group_by("node", maintain_order=True).last()
        up = last.filter(pl.col("state").cast(pl.String) == "up")
        counted[t] = rows.filter(pl.col("time_s") == t).height
        assert counted[t] == up["gpus"].sum()


@settings(max_examples=20, deadline=None)
@given(scenarios(), GRIDS, st.integers(1, 500), st.integers(1, 7))
def test_grid_selection_and_batches_change_nothing(
    scenario: dict[str, Any], grid: tuple[float, float, float], size: int, nth: int
) -> None:
    start_s, end_s, step_s = grid
    with done(scenario) as run:
        whole = frame(Telemetry(run), *grid)
        assert frame(Telemetry(run), *grid, size=size).equals(whole)
        sizes = dict(run.scan("node_states").select("node", "gpus").unique().collect().rows())
        node = max(sizes)
        gpu = sizes[node] - 1
        part = frame(Telemetry(run, nodes=[node], gpus=[gpu]), *grid)
        assert part.equals(whole.filter((pl.col("node") == node) & (pl.col("gpu") == gpu)))
        assert frame(Telemetry(run, until_s=end_s), *grid).equals(whole)
        every = Telemetry(run)
        times = np.asarray(start_s + step_s * np.arange(0, 120, nth), np.float64)
        times = times[times < end_s]
        assert np.concatenate(
            [every.at(times[i : i + 1]).values["power_w"] for i in range(len(times))]
        ).tolist() == (whole.filter(pl.col("time_s").is_in(times.tolist()))["power_w"].to_list())


def board_kwh(run: Run) -> float:
    """The energy of the books less the server's share: of GPUs alone, kWh.

    The server outside its GPUs draws ``server_idle_w`` and so much more for every watt of theirs above idle
    (``GpuModel.context_power_w``). That line is taken out of the energy of all states.
    """
    added = (
        run.scan("usage")
        .group_by(pl.col("gpu_model").cast(pl.String))
        .agg(pl.col("gpu_hours", "energy_kwh").sum())
    )
    found = 0.0
    for name, hours, kwh in added.collect().rows():
        m = load_catalog()[name]
        slope = (m.tdp_w - m.idle_w) / (m.slot_kw_per_gpu * 1000 - m.idle_power_w)
        found += m.idle_w * hours / 1000 + slope * (kwh - m.idle_power_w * hours / 1000)
    return found


def counted_kwh(run: Run) -> float:
    """What the energy counters say at the end of a run in which no node booted."""
    return float(Telemetry(run).at(np.array([END_S])).values["energy_mj"].sum()) / 3.6e9


@settings(max_examples=20, deadline=None)
@given(scenarios(failures=False))
def test_energy_counters_agree_with_the_books(scenario: dict[str, Any]) -> None:
    """Whole counters at the end, of sensors without a gain, against the books less the server's share."""
    with done(scenario) as run, pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "GAIN_SD", 1e-12)
        assert counted_kwh(run) == pytest.approx(board_kwh(run), rel=1e-6)


def big(folder: Path, seed: int = 5) -> Run:
    """Sixteen nodes of eight H100, half busy with jobs of one to sixteen GPUs."""
    rng = np.random.default_rng(1)
    jobs = [
        Job(float(i * 60), float(rng.integers(300, 5000)), int(2 ** rng.integers(0, 5)),
            workload_class=("training", "inference", "batch")[i % 3])
        for i in range(120)
    ]  # fmt: skip
    return simulate(folder, jobs, [cohort(H100, nodes=16)], horizon=END_S, seed=seed)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return big(tmp_path_factory.mktemp("fleet"))


def test_energy_of_a_fleet_agrees_with_the_books(fleet: Run) -> None:
    """Likewise with gains, which are 0 in the mean over the GPUs of a node: to 1 %."""
    assert counted_kwh(fleet) == pytest.approx(board_kwh(fleet), rel=0.01)
    assert 0.02 < Telemetry(fleet).gpus.gain.std() < 0.04


def test_mean_power_is_the_increase_of_energy(fleet: Run) -> None:
    """Of each GPU over the third hour, to 1 %, sampled each second."""
    found = Telemetry(fleet)
    a, b = (found.at(np.array([t])).values["energy_mj"] for t in (7200.0, 10800.0))
    power_w = (
        frame(found, 7201, 10801, 1)
        .group_by("node", "gpu", maintain_order=True)
        .agg(pl.col("power_w").mean())
    )
    assert power_w["power_w"].to_numpy() == pytest.approx((b - a) / 3.6e6, rel=0.01)


def test_counting_readings_gives_the_gpu_hours_of_the_books(fleet: Run) -> None:
    """In the middle of every minute, so that a job counts half a minute too much or too little, as it comes.

    To 0.5 % of the hours of 120 jobs on 128 GPUs. Hours up are exact: no node comes or goes.
    """
    rows = frame(Telemetry(fleet), 30, END_S, 60)
    usage = (
        fleet.scan("usage").group_by(pl.col("state").cast(pl.String)).agg(pl.col("gpu_hours").sum()).collect()
    )
    hours = dict(usage.rows())
    allocated = hours.get("stalled", 0) + hours.get("lost", 0) + hours["productive"]
    assert rows.height / 60 == pytest.approx(sum(hours.values()), rel=1e-9)
    assert rows["job"].count() / 60 == pytest.approx(allocated, rel=0.005)


def test_the_activity_of_every_second_gives_the_busy_hours_of_the_books(fleet: Run) -> None:
    """The mean of the engine's activity x GPU hours. To 0.1 %: jobs begin and end within a second."""
    busy_h = sum(
        float(batch.values["gr_engine_active"].sum(dtype=np.float64)) / 3600
        for _, batch in Telemetry(fleet).batches(1, END_S + 1, 1)
    )
    usage = fleet.scan("usage").filter(pl.col("state").cast(pl.String).is_in(["lost", "productive"]))
    assert busy_h == pytest.approx(usage.collect()["gpu_hours"].sum(), rel=1e-3)


def test_memory_does_not_grow_with_the_grid(fleet: Run) -> None:
    """A hundred batches take no more room than ten."""
    found = Telemetry(fleet)

    def peak(batches: int) -> int:
        tracemalloc.start()
        for _ in found.batches(0, batches * 10.0, 1.0, size=1280):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)  # what is made once
    assert peak(100) < 1.2 * peak(10)


def test_the_same_seed_gives_the_same_readings_and_another_does_not(tmp_path: Path, fleet: Run) -> None:
    runs = fleet, big(tmp_path / "again"), big(tmp_path / "other", seed=6)
    first, again, other = (frame(Telemetry(run), 0, 600, 60) for run in runs)
    assert first.equals(again)
    assert first["job"].equals(other["job"])
    assert not set(first["uuid"]) & set(other["uuid"])
    assert (first["power_w"] != other["power_w"]).all()
