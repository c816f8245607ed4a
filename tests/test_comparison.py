"""Runs side by side, worked out by hand from who held which GPU when; the bootstrap covers what it says."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from model.support import A100, V100, Job, cohort, text, trace, workload

from fleetsim import experiment, scenario
from fleetsim.catalog import load_catalog
from fleetsim.charts import comparison_charts, comparison_page
from fleetsim.comparison import (
    DEFINITIONS,
    FIGURES,
    best,
    compare,
    curves,
    differences,
    mean_levels,
    open_runs,
    run_names,
    sections,
    words,
)
from fleetsim.errors import InputError
from fleetsim.fairness import entitlement_met, jain, private_share_jct_s
from fleetsim.pairing import DEFINITIONS as PAIRING
from fleetsim.pairing import block_bootstrap
from fleetsim.runfolder import Run
from fleetsim.summary import summarise

HOUR_S = 3600.0
PUE = 1.5

#: One node of two A100, which durations are measured on.
#: hour            0   1   2   3   4   5   6   7
#: fifo      job 0 |===============|                  1 GPU, red
#:           job 1     |...........|=======|          2 GPUs, blue: waits for both
#:           job 2         |...............|===|      1 GPU, red: waits behind job 1, though it would fit
#: fifo_skip job 2         |===|                      starts at once; the others as above
JOBS = [
    Job(0, 4 * HOUR_S, 1, tenant="red"),
    Job(1 * HOUR_S, 2 * HOUR_S, 2, tenant="blue"),
    Job(2 * HOUR_S, 1 * HOUR_S, 1, tenant="red"),
]


def run_of(
    folder: Path,
    jobs: list[Job],
    queue: str = "fifo",
    fleet: list[dict[str, Any]] | None = None,
    workloads: list[dict[str, Any]] | None = None,
    **more: Any,
) -> Run:
    given = {"sites": [{"name": "main", "pue": PUE}], "scheduler": {"queue": queue}, **more}
    read = scenario.parse(
        text(fleet or [cohort(gpus_per_node=2, name="a")], workloads or [workload()], **given), "test"
    )
    names = [w.name for w in read.spec.workloads]
    return experiment.run(read, folder, traces={name: trace(jobs) for name in names})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    return [run_of(folder / queue, JOBS, queue) for queue in ("fifo", "fifo_skip")]


@pytest.fixture(scope="module")
def found(runs: list[Run]) -> dict[str, Any]:
    return compare(runs)


@pytest.fixture(scope="module")
def philly(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """The first days of the bundled scenario, two generations of GPUs, a delivery, under both queues."""
    folder = tmp_path_factory.mktemp("philly")
    read = [
        scenario.read("philly-small", [f"scheduler.queue={queue}", "horizon=9d"], ())
        for queue in ("fifo", "fifo_skip")
    ]
    return [experiment.run(one, folder / one.spec.scheduler.queue) for one in read]


def figures_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [one["figures"] for one in found["runs"]]


# The figures of one run


def test_jobs_and_waits_by_hand(found: dict[str, Any]) -> None:
    """Waits are 0, 3 and 4 h under fifo, and 0, 3 and 0 h with skip-ahead; quantiles are interpolated."""
    fifo, skip = figures_of(found)
    expected = {
        "completed": 3, "running": 0, "queued": 0, "rejected": 0,
        "work_gpu_hours": 4 * 1 + 2 * 2 + 1 * 1,
        "wait_mean_s": (0 + 3 + 4) / 3 * HOUR_S, "wait_p50_s": 3 * HOUR_S, "wait_max_s": 4 * HOUR_S,
        "wait_p95_s": (3 + 0.9) * HOUR_S, "wait_p99_s": (3 + 0.98) * HOUR_S,
        "queue_mean_jobs": (3 + 4) / 7,  # job hours in the queue over the 7 h of the run
    }  # fmt: skip
    assert {key: fifo[key] for key in expected} == pytest.approx(expected, rel=1e-12)
    assert (skip["wait_mean_s"], skip["wait_p50_s"]) == pytest.approx((1 * HOUR_S, 0))
    assert skip["queue_mean_jobs"] == pytest.approx(3 / 6)


def test_completion_by_hand(found: dict[str, Any]) -> None:
    """JCT 4, 5 and 5 h for work of 4, 2 and 1 h; with skip-ahead the last takes 1 h, and all ends at 6 h."""
    fifo, skip = figures_of(found)
    expected = {
        "jct_mean_s": 14 / 3 * HOUR_S, "jct_p50_s": 5 * HOUR_S, "jct_p95_s": 5 * HOUR_S,
        "slowdown_mean": (4 / 4 + 5 / 2 + 5 / 1) / 3, "slowdown_p50": 2.5, "slowdown_p95": 2.5 + 0.9 * 2.5,
        "makespan_s": 7 * HOUR_S,
    }  # fmt: skip
    assert {key: fifo[key] for key in expected} == pytest.approx(expected, rel=1e-12)
    assert skip["jct_mean_s"] == pytest.approx((4 + 5 + 1) / 3 * HOUR_S)
    assert skip["slowdown_mean"] == pytest.approx((1 + 2.5 + 1) / 3)
    assert skip["makespan_s"] == 6 * HOUR_S


def test_bounded_slowdown_takes_ten_minutes_for_shorter_jobs(tmp_path: Path) -> None:
    """One GPU, 60 s and then 1,140 s: the second is submitted at once too and waits 60 s.

    JCT 60 and 1,200 s: slowdown 1 and 1,200 / 1,140; bounded max(1, 60 / 600) and 1,200 / 1,140. A third of
    60 s that waits for both, 1,260 s, has slowdown 21, bounded 1,260 / 600 = 2.1.
    """
    jobs = [Job(0, 60), Job(0, 1140), Job(0, 60)]
    figures = compare_one(tmp_path, jobs, fleet=[cohort(gpus_per_node=1)])
    assert figures["slowdown_mean"] == pytest.approx((1 + 1200 / 1140 + 1260 / 60) / 3)
    assert figures["bounded_slowdown_mean"] == pytest.approx((1 + 1200 / 1140 + 2.1) / 3)


def compare_one(folder: Path, jobs: list[Job], **more: Any) -> dict[str, Any]:
    figures: dict[str, Any] = compare([run_of(folder / "one", jobs, **more)])["runs"][0]["figures"]
    return figures


def test_slowdown_is_against_the_gpu_that_ran_it(tmp_path: Path) -> None:
    """On a V100 the job takes longer than on the A100 of its trace; it did not wait, so nothing slowed it."""
    figures = compare_one(tmp_path, [Job(0, HOUR_S)], fleet=[cohort(V100)])
    speed = load_catalog()[V100].speed("training", load_catalog()[A100])
    assert figures["jct_mean_s"] == pytest.approx(HOUR_S / speed)
    assert figures["slowdown_mean"] == pytest.approx(1)


def test_fragmentation_by_hand(found: dict[str, Any]) -> None:
    """One GPU idles from 1 to 4 h while job 1 waits: 3 of 14 GPU h; with skip-ahead 1 h less, of 12."""
    fifo, skip = figures_of(found)
    assert fifo["fragmentation"] == pytest.approx(3 / 14, rel=1e-12)
    assert skip["fragmentation"] == pytest.approx(2 / 12, rel=1e-12)


def test_fragmentation_is_the_integral_of_the_change_points(philly: list[Run]) -> None:
    """Idle = up - held between any two change points; only where the queue is not empty. Every instant."""
    for run, figures in zip(philly, figures_of(compare(philly)), strict=True):
        end_s = run.manifest["end_s"]
        nodes = run.scan("node_states").select("time_s", "gpus", "state").collect()
        held = run.scan("allocations").select("start_s", "end_s", "gpus").collect()
        queue = run.scan("queue").select("time_s", "jobs_waiting").collect()
        assert set(nodes["state"].cast(pl.String)) == {"up"}
        times = np.unique(
            np.concatenate([[0.0, end_s], nodes["time_s"], held["start_s"], held["end_s"], queue["time_s"]])
        )
        change = np.zeros(len(times))
        for name, at_s, sign in (
            ("up", nodes["time_s"], 1),
            ("start", held["start_s"], -1),
            ("end", held["end_s"], 1),
        ):
            gpus = nodes["gpus"] if name == "up" else held["gpus"]
            np.add.at(change, np.searchsorted(times, at_s.to_numpy()), sign * gpus.to_numpy())
        idle, span_s = np.cumsum(change)[:-1], np.diff(times)
        place = np.searchsorted(queue["time_s"].to_numpy(), times[:-1], side="right") - 1
        waiting = (place >= 0) & (queue["jobs_waiting"].to_numpy()[place] > 0)
        up_gpu_s = float(np.sum(nodes["gpus"].to_numpy() * (end_s - nodes["time_s"].to_numpy())))
        assert figures["fragmentation"] > 0.001
        assert figures["fragmentation"] == pytest.approx(np.sum(idle * span_s * waiting) / up_gpu_s, rel=1e-9)


def test_losses_are_added_up(tmp_path: Path) -> None:
    """Two and one preemptions, 1.5 GPU h lost, half an hour spent on restarts."""
    run = run_of(tmp_path / "r", JOBS)
    replace_columns(
        run, "jobs", preemptions=[2, 0, 1], lost_gpu_s=[3600, 0, 1800], restart_gpu_s=[0, 0, 1800]
    )
    figures = compare([run])["runs"][0]["figures"]
    assert [figures[k] for k in ("preemptions", "lost_gpu_hours", "restart_gpu_hours")] == [3, 1.5, 0.5]


def test_a_preempted_job_by_hand(tmp_path: Path) -> None:
    """One GPU. Job 0 runs from 0 to 2 h of its 10, gives way to job 1 for an hour and loses what it did since
    its checkpoint at 1.5 h; then 0.1 h of restart and the other 8.5 h: it ends at 11.6 h, of 10 h alone.
    """
    restart = {"checkpoint": "90min", "costs": [{"cost": "6min"}]}
    run = run_of(
        tmp_path / "r",
        [Job(0, 10 * HOUR_S), Job(2 * HOUR_S, 1 * HOUR_S)],
        fleet=[cohort(gpus_per_node=1)],
        scheduler={"queue": "srtf", "restart": restart},
    )
    found = compare([run])
    assert found["notes"] == [
        "A wait ends at the first start: where jobs were preempted, completion times tell more."
    ]
    figures = found["runs"][0]["figures"]
    expected = {
        "preemptions": 1, "lost_gpu_hours": 0.5, "restart_gpu_hours": 0.1, "work_gpu_hours": 11,
        "wait_max_s": 0, "jct_mean_s": (11.6 + 1) / 2 * HOUR_S, "slowdown_mean": (1.16 + 1) / 2,
        "queue_mean_jobs": 1 / 11.6, "fragmentation": 0, "allocation": 1, "goodput": 11 / 11.5,
        "rho_worst_tenant": (11.6 + 1) / (10 + (11 - 2)),  # alone it queues too: job 1 is done at 11 h
    }  # fmt: skip
    assert {key: figures[key] for key in expected} == pytest.approx(expected, rel=1e-9)


def replace_columns(run: Run, table: str, **columns: Any) -> None:
    path = run.path / f"{table}.parquet"
    read = pq.read_table(path)
    for name, values in columns.items():
        at = read.schema.get_field_index(name)
        read = read.set_column(at, read.schema.field(at), pa.array(values, read.schema.field(at).type))
    pq.write_table(read, path)


def test_jain_by_hand(tmp_path: Path) -> None:
    """At 5 h red has 4 of the 5 GPU h it asked for, blue 2 of 4: (0.8 + 0.5)^2 / (2 (0.64 + 0.25))."""
    found = compare([run_of(tmp_path / "r", JOBS, horizon="5h")])
    rows = {row["tenant"]: row for row in found["runs"][0]["by_tenant"]}
    assert rows["red"]["received"] == pytest.approx(4 / 5)
    assert rows["blue"]["received"] == pytest.approx(2 / 4)
    assert [row["asked_gpu_hours"] for row in rows.values()] == pytest.approx([5, 4])
    figures = found["runs"][0]["figures"]
    assert figures["jain"] == pytest.approx(1.69 / 1.78)
    assert (figures["completed"], figures["running"], figures["queued"]) == (1, 1, 1)
    assert figures["makespan_s"] is None  # work is left
    assert found["notes"] == [note for note in found["notes"] if "never started have no wait" in note] != []


def test_who_completed_all_got_all(found: dict[str, Any]) -> None:
    assert [figures["jain"] for figures in figures_of(found)] == pytest.approx([1, 1])
    assert jain([]) is jain([0.0, 0.0]) is None


def test_what_unfinished_jobs_received_counts_as_on_the_reference_gpu(tmp_path: Path) -> None:
    """Five of ten hours of a job's work, on a GPU of another speed."""
    speed = load_catalog()[V100].speed("training", load_catalog()[A100])
    jobs = [Job(0, 10 * HOUR_S)]
    found = compare([run_of(tmp_path / "r", jobs, fleet=[cohort(V100)], horizon="5h")])
    assert found["runs"][0]["by_tenant"][0]["received"] == pytest.approx(5 * speed / 10)


def test_entitlement_by_hand() -> None:
    """It deserves 4 GPUs and wants 2 until 10 s, then 6 until 40 s: a right to 2 x 10 + 4 x 30 = 140 GPU s.

    It holds nothing until 5 s, then 2 until 20 s, then 6: 2 x 15 + 4 x 20 = 110 of them.
    """
    wanted = np.array([0.0, 10.0]), np.array([2.0, 4.0])
    held = np.array([20.0, 5.0]), np.array([4.0, 2.0])
    assert entitlement_met(4, held, wanted, 40.0) == pytest.approx(110 / 140, rel=1e-15)
    nothing = np.zeros(0), np.zeros(0)
    assert entitlement_met(4, nothing, wanted, 40.0) == 0
    assert entitlement_met(4, nothing, nothing, 40.0) is None


def test_a_part_of_a_gpu_counts_as_a_part(tmp_path: Path) -> None:
    """Two jobs of half a GPU for an hour: one GPU hour of work, and each tenant got what it asked for."""
    jobs = [Job(0, 3600, gpu_share=0.5, tenant=tenant) for tenant in ("a", "b")]
    rules = {"placement": "best_fit", "sharing": {}}
    tenants = [{"name": "a", "deserved_gpus": 4}, {"name": "b"}]
    words = text([cohort(gpus_per_node=1)], [workload()], scheduler=rules, tenants=tenants)
    run = experiment.run(scenario.parse(words, "t"), tmp_path / "run", traces={"w": trace(jobs)})
    found = compare([run, run])["runs"][0]
    assert found["figures"]["work_gpu_hours"] == pytest.approx(1.0, rel=1e-12)
    assert [row["received"] for row in found["by_tenant"]] == pytest.approx([1.0, 1.0], rel=1e-12)
    assert found["figures"]["entitlement_met"] == pytest.approx(1.0, rel=1e-12)


def test_entitlement_of_the_worst_tenant_of_a_run(tmp_path: Path) -> None:
    """Eight GPUs. The other tenant has all of them until 100 s; the entitled one asks for 4 from 0 to 150 s.

    Under fifo it holds them from 100 to 150 s, a third of its right; with reclaim from the start, all of it.
    """
    jobs = [Job(0, 100, 1, tenant="other") for _ in range(8)] + [Job(0, 50, 4, tenant="mine")]
    tenants = [{"name": "mine", "deserved_gpus": 4}, {"name": "other"}]

    def met(queue: str, **more: Any) -> float:
        rules = {"queue": queue, **more}
        words = text([cohort()], [workload()], tenants=tenants, scheduler=rules)
        run = experiment.run(scenario.parse(words, "t"), tmp_path / queue, traces={"w": trace(jobs)})
        return float(compare([run, run])["runs"][0]["figures"]["entitlement_met"])

    assert met("fifo") == pytest.approx(1 / 3, rel=1e-12)
    assert met("quota", preemptive=True) == 1


def test_finish_time_fairness_by_hand(found: dict[str, Any]) -> None:
    """Two tenants, two GPUs: each has one on its own. Red: 4 h of work from 0, done at 4; then 1 h, done at
    5, 3 h after its submission. Blue: 2 h on two GPUs are 4 h on one. Private JCT 4, 4, 3 h; JCT 4, 5, 5 h.
    """
    fifo, skip = figures_of(found)
    assert fifo["rho_p50"] == pytest.approx(5 / 4)
    assert fifo["rho_p95"] == pytest.approx(5 / 4 + 0.9 * (5 / 3 - 5 / 4))
    assert fifo["rho_worst_tenant"] == pytest.approx(max((4 + 5) / (4 + 3), 5 / 4))
    assert fifo["rho_above_1"] == pytest.approx(2 / 3)
    assert skip["rho_p50"] == pytest.approx(1)  # of 4 / 4, 5 / 4 and 1 / 3
    assert skip["rho_worst_tenant"] == pytest.approx(5 / 4)
    assert skip["rho_above_1"] == pytest.approx(1 / 3)


def test_the_private_share_has_the_mean_speed_of_the_fleet(tmp_path: Path) -> None:
    """One tenant, one A100 and one V100: two GPUs of the mean of their speeds are its own."""
    speed = load_catalog()[V100].speed("training", load_catalog()[A100])
    fleet = [cohort(A100, gpus_per_node=1), cohort(V100, gpus_per_node=1)]
    figures = compare_one(tmp_path, [Job(0, HOUR_S)], fleet=fleet)  # runs on the A100
    assert figures["rho_p50"] == pytest.approx(1 * (1 + speed) / 2)


def test_a_private_share_is_a_queue_of_its_own() -> None:
    """Against the recursion of the definition, job by job."""
    draws = np.random.default_rng(5)
    submit_s = np.sort(draws.uniform(0, 1000, 300))
    duration_s, gpus, tenant = (
        draws.exponential(20, 300),
        draws.integers(1, 9, 300),
        draws.integers(0, 4, 300),
    )
    done, expected = dict.fromkeys(range(4), 0.0), []
    for submit, duration, width, who in zip(submit_s, duration_s, gpus, tenant, strict=True):
        done[who] = max(done[who], submit) + width * duration / 6
        expected.append(max(done[who] - submit, duration))
    found = private_share_jct_s(submit_s, gpus * duration_s, duration_s, tenant, 6.0)
    assert found == pytest.approx(expected, rel=1e-9)


def test_utilisation_and_energy_are_those_of_the_summary(runs: list[Run], found: dict[str, Any]) -> None:
    """One definition of each, and the chain multiplies to its end. The meter shows 1.5 times IT energy."""
    for run, figures in zip(runs, figures_of(found), strict=True):
        fleet = summarise(run)["fleet"]
        chain = ("availability", "allocation", "busy", "goodput", "mfu")
        for key in (*chain, "fleet_mfu", "energy_mwh", "facility_energy_mwh"):
            assert figures[key] == fleet[key], key
        assert np.prod([figures[key] for key in chain]) == pytest.approx(figures["fleet_mfu"], rel=1e-12)
        assert figures["kwh_per_gpu_hour"] == pytest.approx(PUE * 1000 * figures["energy_mwh"] / 9)
    assert figures_of(found)[0]["allocation"] == pytest.approx(9 / 14)


def test_warm_jobs_have_no_wait_and_no_completion_time(tmp_path: Path) -> None:
    jobs = [Job(0, 2 * HOUR_S), Job(HOUR_S, HOUR_S)]
    window = {"start": "30min", "warm_start": True}
    found = compare(
        [run_of(tmp_path / q, jobs, q, workloads=[workload(window=window)]) for q in ("fifo", "fifo_skip")]
    )
    figures = found["runs"][0]["figures"]
    assert figures["completed"] == 2
    assert figures["jct_mean_s"] == HOUR_S
    assert found["paired"][0]["jobs_in_both"] == 2
    assert found["paired"][0]["jobs_paired"] == 1


@pytest.mark.parametrize("horizon", ["1h", "drain"])
def test_a_run_without_jobs_has_no_times(tmp_path: Path, horizon: str) -> None:
    runs = [run_of(tmp_path / name, [], horizon=horizon) for name in "ab"]
    found = compare(runs)
    figures = found["runs"][0]["figures"]
    assert {figures[key] for key in figures if key.endswith("_s")} == {None}
    assert figures["completed"] == figures["preemptions"] == 0
    assert figures["jain"] is figures["rho_p50"] is figures["kwh_per_gpu_hour"] is None
    assert found["paired"][0]["faster"] is None
    assert all(len(row.cells) == 2 for section in sections(found)[:-1] for row in section.rows)
    drawn = comparison_charts(curves(runs))
    assert list(drawn) == ([] if horizon == "drain" else ["queue", "gpus"])


def test_every_figure_is_defined_and_plain(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for figures in figures_of(found):
        assert list(figures) == list(FIGURES)
    for figure in FIGURES.values():
        assert len(figure.meaning.split()) >= 3 and figure.unit and figure.better in ("low", "high", "")
    assert set(PAIRING) < set(DEFINITIONS)
    assert set(found["definitions"]) == {"figures", *DEFINITIONS}


# What differs


def test_keys_that_differ_go_by_their_names(runs: list[Run], tmp_path: Path) -> None:
    other = run_of(
        tmp_path / "r",
        JOBS,
        fleet=[cohort(gpus_per_node=2, name="a", nodes=3), cohort(V100, name="old")],
        seed=4,
    )
    rows = {row["key"]: row["values"] for row in differences([*runs, other])}
    assert rows["scheduler.queue"] == ["fifo", "fifo_skip", "fifo"]
    assert rows["cohorts.a.nodes"] == [1, 1, 3]
    assert rows["cohorts.old.gpu_model"] == [None, None, V100]
    assert rows["seed"] == [0, 0, 4]
    assert not any(key.startswith(("workloads", "sites", "horizon")) for key in rows)
    assert differences([runs[0], runs[0]]) == []
    policy = {row.label: row.cells for row in sections(compare([runs[0], other]))[0].rows}
    assert policy["cohorts.a.nodes"] == ["1", "3"]
    assert policy["cohorts.old.gpu_model"] == ["-", V100]


def test_another_file_of_the_same_name_is_a_difference(runs: list[Run], tmp_path: Path) -> None:
    shutil.copytree(runs[0].path, tmp_path / "copy")
    manifest = json.loads((tmp_path / "copy" / "manifest.json").read_text())
    manifest["sources"]["w"]["sha256"] = "0123"
    manifest["versions"]["fleetsim"] = "9.9"
    assert manifest["scenario"].pop("tenants") == []
    (tmp_path / "copy" / "manifest.json").write_text(json.dumps(manifest))
    found = compare(open_runs([runs[0].path, tmp_path / "copy"]))
    assert [row["key"] for row in found["differences"]] == ["sources.w.sha256"]  # an empty list is none
    assert any("9.9" in note for note in found["notes"])


def test_runs_go_by_the_last_part_of_their_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_names([Path(), Path("x/")]) == [tmp_path.name, "x"]


# Which runs


def test_problems_are_told_all_at_once(runs: list[Run], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    first = runs[0].path
    with pytest.raises(InputError) as error:
        open_runs([first, tmp_path / "empty", first / ".." / first.name, tmp_path / "none"])
    empty, same, none = map(str, error.value.problems)
    assert empty.startswith(f"{tmp_path / 'empty'}: no usable manifest.json")
    assert same.startswith(f"{first / '..' / first.name}: is the same folder as {first}")
    assert none.startswith(f"{tmp_path / 'none'}: no such folder")
    assert all(text.endswith(".") for text in (empty, same, none))


@pytest.mark.parametrize("count", [0, 1])
def test_one_run_is_nothing_to_compare(runs: list[Run], count: int) -> None:
    with pytest.raises(InputError, match=f"RUN: {count} given"):
        open_runs([run.path for run in runs[:count]])


# Jobs in pairs


def test_pairs_by_hand(found: dict[str, Any]) -> None:
    """Only job 2 changed: it waits 4 h less of the 7 h that three jobs waited."""
    (pair,) = found["paired"]
    assert (pair["run"], pair["jobs_in_both"], pair["jobs_not_alike"], pair["jobs_paired"]) == (
        "fifo_skip", 3, 0, 3,
    )  # fmt: skip
    assert pair["wait"]["baseline_mean_s"] == pytest.approx(7 / 3 * HOUR_S)
    assert pair["wait"]["difference_s"] == pytest.approx(-4 / 3 * HOUR_S)
    assert pair["jct"]["baseline_mean_s"] == pytest.approx(14 / 3 * HOUR_S)
    assert pair["jct"]["difference_s"] == pytest.approx(-4 / 3 * HOUR_S)
    assert pair["wait"]["low_s"] is pair["jct"]["high_s"] is None  # three jobs show nothing
    assert (pair["faster"], pair["slower"]) == pytest.approx((1 / 3, 0))


def test_the_baseline_is_the_first(runs: list[Run]) -> None:
    found = compare(runs[::-1])
    assert found["baseline"] == "fifo_skip"
    assert (found["paired"][0]["faster"], found["paired"][0]["slower"]) == pytest.approx((0, 1 / 3))
    assert found["paired"][0]["wait"]["difference_s"] == pytest.approx(4 / 3 * HOUR_S)


def test_only_jobs_completed_in_both_are_paired(runs: list[Run], tmp_path: Path) -> None:
    """At 5 h job 0 only has ended."""
    short = run_of(tmp_path / "short", JOBS, horizon="5h")
    (pair,) = compare([runs[0], short])["paired"]
    assert (pair["jobs_in_both"], pair["jobs_paired"]) == (3, 1)
    assert pair["jct"]["difference_s"] == 0


def test_a_job_of_the_same_name_may_be_another_job(runs: list[Run], tmp_path: Path) -> None:
    """Another length or width under the same id: not compared, and counted."""
    changed = [JOBS[0], Job(1 * HOUR_S, 3 * HOUR_S, 2, tenant="blue"), JOBS[2]]
    found = compare([runs[0], run_of(tmp_path / "r", changed)])
    (pair,) = found["paired"]
    assert (pair["jobs_in_both"], pair["jobs_not_alike"], pair["jobs_paired"]) == (3, 1, 2)
    assert "1 jobs of r have other GPUs or durations" in found["notes"][0]


def test_runs_of_different_workloads_have_no_pairs(runs: list[Run], tmp_path: Path) -> None:
    """The same ids in a workload of another name are other jobs."""
    found = compare([runs[0], run_of(tmp_path / "r", JOBS, workloads=[workload("other")])])
    assert found["paired"][0]["jobs_in_both"] == found["paired"][0]["jobs_paired"] == 0
    assert found["paired"][0]["wait"]["difference_s"] is None
    assert found["notes"] == ["r has no job in common with fifo: not paired."]


def series(draws: np.random.Generator, count: int, coefficient: float) -> Any:
    """An AR(1) series of mean 0: neighbours depend on each other."""
    weights = coefficient ** np.arange(300)
    return np.convolve(draws.normal(size=count + 300), weights)[300 : count + 300]


@pytest.mark.parametrize("coefficient", [0.0, 0.9])
def test_the_interval_covers_the_truth_where_neighbours_depend_on_each_other(coefficient: float) -> None:
    """Of 200 series 95 % should hold the mean 0; a third of dependent ones, if taken as independent."""
    draws = np.random.default_rng(7)
    hits, naive = 0, 0
    for _ in range(200):
        values = series(draws, 3000, coefficient)
        interval = block_bootstrap(values)
        assert interval is not None
        hits += interval[0] <= 0 <= interval[1]
        naive += abs(values.mean()) <= 1.96 * values.std() / np.sqrt(len(values))
    assert 0.89 <= hits / 200 <= 0.985
    assert (naive / 200 < 0.5) == (coefficient > 0)


def test_the_interval_is_the_same_every_time_and_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(10, 1, 10_000)
    interval = block_bootstrap(values)
    assert interval is not None and interval == block_bootstrap(values)
    assert interval[1] - interval[0] == pytest.approx(2 * 1.96 / 100, rel=0.25)
    assert sum(interval) / 2 == pytest.approx(values.mean(), abs=0.005)
    assert block_bootstrap(np.full(1000, 3.0)) == pytest.approx((3, 3))
    assert block_bootstrap(values[:99]) is None
    assert block_bootstrap(values[:100]) is not None


def test_an_interval_of_real_runs_holds_its_difference(philly: list[Run]) -> None:
    (pair,) = compare(philly)["paired"]
    for name in ("wait", "jct"):
        part = pair[name]
        assert part["low_s"] < part["difference_s"] < part["high_s"] < 0
    assert pair["faster"] > 0.3 > pair["slower"]


# Words


def test_the_best_of_a_row_is_what_reads_best() -> None:
    wait, plain = FIGURES["wait_mean_s"], FIGURES["busy"]
    assert best(wait, [60.0, 30.0, None]) == {1}
    assert best(wait, [60.0, None]) == set()
    assert best(wait, [60.0, 30.0, 30.0000001]) == {1, 2}  # no difference that can be read
    assert best(wait, [30.0, 30.0]) == best(wait, [None, None]) == set()
    assert best(FIGURES["jain"], [0.5, 0.9]) == {1}
    assert best(plain, [0.5, 0.9]) == set()  # neither is better by itself


def test_figures_as_words() -> None:
    assert words("GPU h", 1234.5) == "1,234"
    assert words("1", 0.98765) == "0.988"
    assert words("jobs", 1_000_000) == "1,000,000"
    assert words("s", -5400.0, sign=True) == "-1 h 30 min"
    assert words("s", 0.0, sign=True) == "0 s"


def test_sections_have_every_figure_and_the_pairs(found: dict[str, Any]) -> None:
    policy, *groups, paired = sections(found)
    assert policy.runs == ["fifo", "fifo_skip"]
    assert [(row.label, row.cells) for row in policy.rows] == [
        ("queue", ["fifo", "fifo_skip"]),
        ("placement", ["best_fit", "best_fit"]),
    ]
    rows = {row.label: row for group in groups for row in group.rows}
    assert len(rows) == len(FIGURES)
    assert rows["wait, mean"].cells == ["2 h 20 min", "1 h"] and rows["wait, mean"].best == {1}
    assert rows["completed"].best == set()
    assert rows["energy per work (kWh/GPU h)"].best == {1}
    assert "IT energy (MWh)" in rows
    assert (paired.title, paired.runs) == ("Job by job against fifo", ["fifo_skip"])
    cells = {row.label: row.cells for row in paired.rows}
    assert cells["mean wait, change"] == ["-1 h 20 min"]
    assert cells["jobs faster"] == ["33.3 %"]


# Charts


def test_mean_levels_by_hand() -> None:
    """Two from 1, three more from 2, none from 5; halves of 0 to 4 and of 4 to 8; order does not matter."""
    time_s, change = np.array([5.0, 1, 2]), np.array([-5.0, 2, 3])
    edges = np.array([0.0, 2, 4, 8])
    assert mean_levels(time_s, change, edges) == pytest.approx([2 * 1 / 2, 5, 5 * 1 / 4])
    assert mean_levels(time_s, change, np.array([0.0, 1.5])) == pytest.approx([2 * 0.5 / 1.5])
    assert mean_levels(np.zeros(0), np.zeros(0), edges).tolist() == [0, 0, 0]


def test_curves_by_hand(runs: list[Run]) -> None:
    drawn = curves(runs)
    at_s, share = drawn["waits"]["fifo"]
    assert (at_s[0], at_s[-1]) == pytest.approx((1, 4 * HOUR_S))
    assert share[0] == pytest.approx(1 / 3) and share[-1] == 1
    assert share[np.searchsorted(at_s, 3 * HOUR_S * 1.01)] == pytest.approx(2 / 3)
    middle_s, waiting = drawn["queue"]["fifo"]
    assert np.interp(np.array([0.5, 1.5, 3, 5, 6.5]) * HOUR_S, middle_s, waiting) == pytest.approx(
        [0, 1, 2, 1, 0]
    )
    middle_s, gpus = drawn["gpus"]["fifo"]
    assert np.interp(np.array([0.5, 3, 5, 6.5]) * HOUR_S, middle_s, gpus) == pytest.approx([1, 1, 2, 1])
    assert list(drawn["changes"]) == ["fifo_skip"]
    ratio, share = drawn["changes"]["fifo_skip"]
    assert share.tolist() == pytest.approx([1 / 3])  # one of three jobs takes a fifth of the time
    assert ratio == pytest.approx([0.2], rel=0.13)


def test_jobs_that_nothing_changed_for_are_not_drawn(runs: list[Run], tmp_path: Path) -> None:
    drawn = curves([runs[0], run_of(tmp_path / "same", JOBS)])
    assert [len(part) for part in drawn["changes"]["same"]] == [0, 0]
    assert list(comparison_charts(drawn)) == ["waits", "queue", "gpus"]


def test_charts_tell_runs_apart_without_colour_and_name_their_units(philly: list[Run]) -> None:
    for dark in (False, True):
        charts = {
            name: chart.to_dict() for name, chart in comparison_charts(curves(philly), dark=dark).items()
        }
        assert list(charts) == ["waits", "changes", "queue", "gpus"]
        for name, chart in charts.items():
            lines = chart["layer"][1] if name == "changes" else chart
            encoding = lines["encoding"]
            runs = ["fifo_skip"] if name == "changes" else ["fifo", "fifo_skip"]
            assert encoding["color"]["scale"]["domain"] == runs
            assert encoding["strokeDash"]["scale"]["domain"] == runs
            dashes = encoding["strokeDash"]["scale"]["range"]
            assert len({tuple(dash) for dash in dashes}) == len(runs)
            assert encoding["x"]["title"] and encoding["y"]["title"]
        assert charts["waits"]["encoding"]["x"]["scale"]["type"] == "log"
        assert "(s, log scale" in charts["waits"]["encoding"]["x"]["title"]
        assert charts["queue"]["encoding"]["y"]["axis"]["format"] == ",~r"  # 2,500 jobs, not 2.5k or 2.5e+3
        assert "(days)" in charts["queue"]["encoding"]["x"]["title"]
        # the second run looks the same in every chart, also where the baseline is not drawn
        colours = [c["layer"][1] if "layer" in c else c for c in charts.values()]
        assert len({c["encoding"]["color"]["scale"]["range"][-1] for c in colours}) == 1


def test_the_page_has_all_and_loads_nothing(philly: list[Run]) -> None:
    found = compare(philly)
    page = comparison_page(found, curves(philly), title="<b>mine</b> & yours")
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "&lt;b&gt;mine&lt;/b&gt; &amp; yours" in markup and "<b>mine" not in page
    assert not re.search(r"src\s*=|href\s*=|@import|url\(", markup)
    assert "default-src 'none'" in page and page.count("</script>") == 2
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page
    for section in sections(found):
        assert f"<h2>{section.title}</h2>" in markup
        for row in section.rows:
            assert html.escape(row.label) in markup
    assert len(re.findall(r"<td><b>[^<]+ \*</b></td>", markup)) == sum(
        len(row.best) for section in sections(found) for row in section.rows
    )
    assert markup.count("<dt>") == markup.count("<dd>") > len(FIGURES)
    assert all(f'id="{name}"' in markup for name in ("waits", "changes", "queue", "gpus"))
    assert len(page) < 1_500_000


def test_names_on_the_page_are_only_text(runs: list[Run], tmp_path: Path) -> None:
    """Folders and scenarios of strangers do not become markup."""
    evil = tmp_path / "<img src=x onerror=alert(1)>"
    shutil.copytree(runs[0].path, evil)
    opened = open_runs([runs[1].path, evil])
    page = comparison_page(compare(opened), curves(opened), title="t")
    assert "<img" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
