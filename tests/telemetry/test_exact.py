"""Readings worked out by hand, and what drivers leave out."""

from __future__ import annotations

from math import exp
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from model.support import A100, H100, P100, T4, Job, cohort
from telemetry.support import readings, simulate

from fleetsim.catalog import load_catalog
from fleetsim.errors import InputError
from fleetsim.runfolder import Run
from fleetsim.telemetry import hardware, noise
from fleetsim.telemetry.placing import place
from fleetsim.telemetry.sensors import Telemetry
from fleetsim.telemetry.state import busy_s

HOUR_S = 3600.0

#: One A100 of two runs kernels for half of half an hour, with all SMs; then both are idle.
HALF = {"busy_share": 0.5, "sm_active": 1.0, "mfu": 0.4, "workload_class": "training"}


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("half")
    jobs = [Job(0, 1800, 1, tenant="red")]
    return simulate(folder, jobs, [cohort(A100, gpus_per_node=2)], workload=HALF, horizon="2h", seed=3)


def test_energy_is_the_integral_of_the_power(half: Run) -> None:
    """An A100 draws 58 W idle, 58 + 26 W with a process, and 400 W with all SMs active.

    What its sensor reads too much, +g of one GPU and -g of the other, is nothing at the limit.
    """
    found = Telemetry(half)
    g = found.gpus.gain[0]
    assert found.gpus.gain[1] == -g != 0
    used = found.at(np.array([HOUR_S])).values["energy_mj"]
    assert used[0] == pytest.approx(1000 * (900 * 400 + (1 + g) * (900 * 84 + 1800 * 58)), abs=2)
    assert used[1] == pytest.approx(1000 * (1 - g) * 3600 * 58, abs=2)


def test_the_seconds_of_an_attempt_add_up_to_its_busy_share(half: Run) -> None:
    """Seconds that end at 1, 2, ... 1800: kernels ran in half of them, cycle by cycle of 2 s."""
    busy = readings(half, 1, 1800, 1, gpus=[0])["gr_engine_active"].to_numpy().astype(np.float64)
    last = readings(half, 1799.9999, 1800, 1, gpus=[0])["gr_engine_active"][0]
    assert busy.sum() + last == pytest.approx(900, abs=1e-3)
    assert busy.min() < 0.01 and busy.max() > 0.99


def test_temperature_follows_power_with_one_time_constant(half: Run) -> None:
    """In equilibrium inlet + R x mean power; 40 s after the job a part 1/e of the difference is left."""
    found = Telemetry(half, gpus=[0], inlet_c=20)
    r, g = found.gpus.k_per_w[0], found.gpus.gain[0]
    assert 0.8 <= r / 0.0925 <= 1.2
    work_c, idle_c = 20 + r * (200 + 42 * (1 + g)), 20 + r * 58 * (1 + g)
    temps = found.at(np.array([900.0, 1840.0, 7000.0])).values["gpu_temp_c"].tolist()
    assert temps == [round(work_c), round(idle_c + (work_c - idle_c) * exp(-1)), round(idle_c)]


def test_a_held_and_a_free_gpu(half: Run) -> None:
    held, free = readings(half, 600, 601, 1).rows(named=True)
    assert (held["job"], held["tenant"], held["processes"], held["sm_clock_mhz"]) == (0, "red", 1, 1410)
    assert (free["job"], free["tenant"], free["processes"], free["sm_clock_mhz"]) == (None, None, 0, 210)
    assert free["gpu_util_pct"] == free["sm_active"] == free["fb_used_mib"] == 0
    assert (free["throttle_reasons"], held["pstate"], free["pstate"]) == (1, 0, 0)
    assert held["fb_total_mib"] == free["fb_total_mib"] == 81920
    assert held["fb_reserved_mib"] == 614  # 0.75 %
    assert 0.85 * 0.92 <= held["fb_used_mib"] / (81920 - 614) <= 0.85 * 1.08
    assert held["power_limit_w"] == free["power_limit_w"] == 400
    assert (held["hostname"], held["gpu_model"]) == ("node-00000", A100)
    assert (held["model_name"], held["driver_version"]) == ("NVIDIA A100-SXM4-80GB", "550.144.03")
    assert held["uuid"] != free["uuid"] and len(held["uuid"]) == 40
    assert (held["pci_bus_id"], free["pci_bus_id"]) == ("00000000:03:00.0", "00000000:06:00.0")


def test_kernels_say_what_they_do(half: Run) -> None:
    """All SMs: tensor 0.4 x 1.15, occupancy 0.28, DRAM 0.40 of the time; 400 W is the limit."""
    gain = Telemetry(half).gpus.gain[0]
    for row in readings(half, 1, 30, 1, gpus=[0]).rows(named=True):
        share = row["gr_engine_active"]
        assert (row["gpu_util_pct"], row["throttle_reasons"]) == (round(100 * share), 4)
        assert row["mem_copy_util_pct"] == round(40 * share)
        names = ("sm_active", "tensor_active", "sm_occupancy", "dram_active", "fp32_active", "fp64_active")
        expected = [share * x for x in (1, 0.46, 0.28, 0.4, 0.15, 0)]
        assert [row[n] for n in names] == pytest.approx(expected, rel=1e-6)
        low_w = 84 * (1 + gain)
        assert row["power_w"] == pytest.approx(low_w + (400 - low_w) * share, rel=hardware.NOISE)


def test_while_a_session_pauses_no_kernel_runs_and_the_clock_stays(tmp_path: Path) -> None:
    """30 s of each minute: a process is there, and nothing says that the GPU is free or limited."""
    work = {**HALF, "workload_class": "interactive"}
    run = simulate(tmp_path, [Job(0, 3600)], [cohort(A100, gpus_per_node=1)], horizon="1h", workload=work)
    rows = readings(run, 1, 3600, 1)
    still = rows.filter(pl.col("gr_engine_active") == 0)
    assert still.height > 1600
    assert still["gpu_util_pct"].max() == still["throttle_reasons"].max() == still["sm_active"].max() == 0
    assert still["processes"].min() == 1 and still["sm_clock_mhz"].min() == 1410
    assert still["power_w"].to_numpy() == pytest.approx(84, rel=hardware.NOISE)
    full = rows.filter(pl.col("gr_engine_active") == 1)
    assert full.height > 1600 and set(full["throttle_reasons"]) == {4}
    assert full["power_w"].to_numpy() == pytest.approx(400, rel=hardware.NOISE)


def test_the_lowest_free_gpus_in_order_of_start(tmp_path: Path) -> None:
    """time      0   100   200   300
    GPU 0     job 0 | job 3       |      3 starts when 0 ends, on what 0 leaves
    GPU 1, 2  job 1       | free         1 ends at 200
    GPU 3     job 2             |        from 50 s on
    """
    jobs = [Job(0, 100), Job(0, 200, 2), Job(50, 250), Job(60, 200, 1), Job(260, 40, 2)]
    run = simulate(tmp_path, jobs, [cohort(A100, gpus_per_node=4)], horizon="1h")
    held = readings(run, 0, 300, 50).pivot("gpu", index="time_s", values="job").rows()
    assert held == [
        (0, 0, 1, 1, None),
        (50, 0, 1, 1, 2),
        (100, 3, 1, 1, 2),
        (150, 3, 1, 1, 2),
        (200, 3, None, None, 2),
        (250, 3, None, None, 2),
    ]
    assert readings(run, 260, 261, 1)["job"].to_list() == [3, 4, 4, 2]


def test_a_gang_holds_gpus_of_every_node_alike(tmp_path: Path) -> None:
    run = simulate(tmp_path, [Job(0, 600, 6)], [cohort(A100, nodes=3, gpus_per_node=2)], horizon="1h")
    rows = readings(run, 30, 31, 1)
    assert rows["job"].to_list() == [0] * 6
    assert rows["gr_engine_active"].n_unique() == rows["fb_used_mib"].n_unique() == 1
    assert rows["power_w"].n_unique() == 6  # each sensor is its own


def test_set_up_is_a_process_without_kernels(tmp_path: Path) -> None:
    """The restart after the failure at 10 min takes 5 min."""
    run = simulate(
        tmp_path, [Job(0, 1800)], [cohort(A100, gpus_per_node=1)], horizon="2h", workload=HALF,
        failures=[{"name": "f", "script": [{"after": "10min", "down": "10min"}]}],
        scheduler={"restart": {"checkpoint": "never", "costs": [{"cost": "5min"}]}},
    )  # fmt: skip
    found = Telemetry(run)
    restart_s = found.history.attempts.restart_s.max()
    assert restart_s == 300
    set_up = readings(run, 1200, 1500, 1)
    assert set_up["processes"].to_list() == [1] * 300
    assert set_up["gpu_util_pct"].max() == 0 and set_up["sm_clock_mhz"].min() == 1410
    assert set_up["power_w"].to_numpy() == pytest.approx(84, rel=hardware.NOISE)
    assert set_up["fb_used_mib"].n_unique() == 1 and set_up["fb_used_mib"][0] > 60_000
    assert readings(run, 1501, 1700, 1)["gr_engine_active"].mean() == pytest.approx(0.5, abs=0.02)


def test_a_node_that_is_down_has_no_readings_and_counts_from_its_boot(tmp_path: Path) -> None:
    run = simulate(
        tmp_path, [Job(0, 60)], [cohort(A100, gpus_per_node=1)], horizon="2h",
        failures=[{"name": "f", "script": [{"after": "1h", "down": "10min"}]}],
    )  # fmt: skip
    rows = readings(run, 3000, 4800, 300)
    assert rows["time_s"].to_list() == [3000, 3300, 4200, 4500]
    before, just, boot, later = rows["energy_mj"].to_list()
    assert boot == 0 and later == pytest.approx(300 * 58_000, abs=2)  # one GPU: no sensor to differ from
    assert just - before == later - boot


def test_what_is_not_reported_is_null_and_never_zero(tmp_path: Path) -> None:
    """Pascal: no profiling, no energy counter, no row remapping. T4: no HBM, no NVLink. MI300X: no NVML."""
    fleet = [cohort(P100, gpus_per_node=1), cohort(T4, gpus_per_node=1), cohort("mi300x", gpus_per_node=1)]
    run = simulate(tmp_path, [Job(0, 60)], [*fleet, cohort("tpu-v4", gpus_per_node=1)], horizon="1h")
    for row in readings(run, 30, 31, 1).rows(named=True):
        model = load_catalog()[row["gpu_model"]]
        gone = {name for name, value in row.items() if value is None} - {"job", "tenant"}
        assert gone == hardware.unreported(model)
    pascal, turing, amd, tpu = readings(run, 30, 31, 1).rows(named=True)
    assert pascal["sm_active"] is pascal["energy_mj"] is pascal["row_remap_failure"] is None
    assert pascal["mem_temp_c"] and pascal["nvlink_bytes"] == 0 and pascal["xid"] == 0
    assert turing["mem_temp_c"] is turing["nvlink_bytes"] is None
    assert turing["sm_active"] is not None and turing["pstate"] == (0 if turing["processes"] else 8)
    assert amd["throttle_reasons"] is amd["xid"] is amd["driver_version"] is None
    assert amd["gpu_util_pct"] is not None and amd["power_w"] > 0
    assert tpu["sm_clock_mhz"] is None and tpu["fb_total_mib"] == 32768


def test_every_model_of_the_catalogue_has_a_driver() -> None:
    assert hardware.listed() == set(load_catalog())
    for model in load_catalog().values():
        about = hardware.driver(model)
        assert abs(about.total_mib / (model.memory_gb * 1000) - 1) < 0.06, model.id
        assert (about.boost_mhz is None) == (about.memory_mhz is None)
        assert about.slows_c < about.halves_c
        assert (about.version is not None) == (model.vendor == "NVIDIA")


def test_heat_slows_the_clock_and_lowers_the_power(tmp_path: Path) -> None:
    """At an inlet of 60 C an A100 may be 23 K warmer, 23 / 0.0925 = 249 W, more or less by its place.

    Work that would draw 400 W draws that on average, and its clock is (W above 84 / 316)^(1/3) of the boost.
    """
    run = simulate(tmp_path, [Job(0, 3000)], [cohort(A100, gpus_per_node=1)], horizon="1h",
                   workload={**HALF, "busy_share": 1.0})  # fmt: skip
    found = Telemetry(run, inlet_c=60)
    cool_w = 23 / found.gpus.k_per_w[0]
    row = readings(run, 1000, 1001, 1, inlet_c=60).row(0, named=True)
    assert (row["throttle_reasons"], row["gpu_temp_c"]) == (0x20, 83)
    assert row["power_w"] == pytest.approx(cool_w, rel=hardware.NOISE)
    assert row["sm_clock_mhz"] == round(1410 * ((cool_w - 84) / 316) ** (1 / 3))
    hotter = readings(run, 1000, 1001, 1, inlet_c=85).row(0, named=True)
    assert hotter["throttle_reasons"] == 0x68 and hotter["gpu_temp_c"] >= 87
    assert readings(run, 1000, 1001, 1)["throttle_reasons"][0] == 0x4


def test_a_power_cap_is_the_limit_the_clock_and_the_throttle_reason(tmp_path: Path) -> None:
    """Two DGX A100 of 6.5 kW at 10 kW: each GPU may draw 10 / 13 of its slot of 812.5 W.

    The server outside goes in a straight line with the GPUs, so the limit of the board does too.
    """
    model = load_catalog()[A100]
    run = simulate(
        tmp_path, [Job(0, 3000, 8), Job(0, 3000, 4)], [cohort(A100, nodes=2)], horizon="1h",
        workload={**HALF, "busy_share": 1.0},
        sites=[{"name": "s", "it_power_kw": 10, "over_power": "power_cap"}],
    )  # fmt: skip
    slot_w = model.slot_kw_per_gpu * 1000
    line = (10 / 13 * slot_w - model.idle_power_w) / (slot_w - model.idle_power_w)
    limit_w = model.idle_w + line * (model.tdp_w - model.idle_w)
    rows = readings(run, 1000, 1001, 1)
    assert rows["power_limit_w"].to_numpy() == pytest.approx(limit_w, rel=1e-6)
    held = rows.filter(pl.col("processes") == 1)
    assert held.height == 12 and held["throttle_reasons"].to_list() == [4] * 12
    assert held["power_w"].to_numpy() == pytest.approx(limit_w, rel=hardware.NOISE)
    pace = ((limit_w - 84) / (400 - 84)) ** (1 / 3)
    assert held["sm_clock_mhz"].to_list() == [round(1410 * pace)] * 12
    assert rows.filter(pl.col("processes") == 0)["throttle_reasons"].to_list() == [1] * 4


def test_a_job_keeps_its_gpu_and_its_memory_when_the_limit_changes(tmp_path: Path) -> None:
    """Job 0 leaves GPU 0 at 500 s. A second node comes at 1000 s: both are limited; 1 goes on at GPU 1."""
    run = simulate(
        tmp_path, [Job(0, 500), Job(0, 3000)], [cohort(A100), cohort(A100, name="new", delivered=1000)],
        horizon="1h", workload={**HALF, "busy_share": 1.0},
        sites=[{"name": "s", "it_power_kw": 10, "over_power": "power_cap"}],
    )  # fmt: skip
    assert run.scan("allocations").select("job").collect()["job"].to_list().count(1) == 2
    rows = readings(run, 600, 1500, 300, nodes=[0]).filter(pl.col("job") == 1)
    assert rows.select("time_s", "gpu", "throttle_reasons").rows() == [(600, 1, 4), (900, 1, 4), (1200, 1, 4)]
    assert rows["fb_used_mib"].n_unique() == 1
    assert (
        rows["sm_clock_mhz"].to_list() == [1410, 1410, rows["sm_clock_mhz"].min()]
        and rows[2, "power_w"] < 330
    )
    assert rows["power_limit_w"].to_list()[:2] == [400, 400] and rows[2, "power_limit_w"] < 330
    assert rows[2, "sm_clock_mhz"] < 1400


def test_a_node_that_gives_out_more_than_it_has_is_a_damaged_run() -> None:
    two, none = np.array([0, 0]), np.array([-1, -1])
    times = np.array([0.0, 1.0]), np.array([5.0, 5.0])
    with pytest.raises(InputError, match="more than the 3 GPUs of a node after 1 s"):
        place(two, *times, np.array([2, 2]), none, [3], "run/allocations.parquet")
    rows, gpus = place(two, *times, np.array([2, 1]), none, [3], "run/allocations.parquet")
    assert (rows.tolist(), gpus.tolist()) == ([0, 0, 1], [0, 1, 2])


def test_shared_gpus_are_refused(tmp_path: Path) -> None:
    run = simulate(tmp_path, [Job(0, 60, gpu_share=0.5)], horizon="1h", scheduler={
        "queue": "fifo", "sharing": {}, "placement": "best_fit"})  # fmt: skip
    with pytest.raises(InputError, match="shares GPUs among jobs"):
        Telemetry(run)


def test_a_run_without_jobs_and_without_gpus(tmp_path: Path) -> None:
    run = simulate(tmp_path, [Job(0, 60, 9)], [cohort(H100, gpus_per_node=1)], horizon="1h")
    assert readings(run, 0, 60, 15)["processes"].to_list() == [0] * 4
    assert readings(run, 0, 60, 15, nodes=[]).height == 0
    assert readings(run, 60, 60, 15).height == 0


def test_a_pause_is_met_as_often_by_samples_at_a_multiple_of_the_cycle() -> None:
    """A pause of 0.3 of each of 20,000 cycles of 2 s, looked for at one place of the cycle every time."""
    key = noise.keys(1, "attempt", np.array([7]), np.array([1]))
    one, cycles = np.ones(20_000), np.arange(0.0, 40_000.0, 2.0)
    for phase_s in (0.0, 0.4, 1.0, 1.9):
        a, b = (busy_s(cycles + phase_s + d, 0.7 * one, 2 * one, key) for d in (0.0, 0.05))
        assert np.mean(b - a) / 0.05 == pytest.approx(0.7, abs=0.015)
    assert busy_s(np.array([40.0]), np.array([0.7]), np.array([2.0]), key)[0] == pytest.approx(28, rel=1e-12)
