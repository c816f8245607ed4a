"""What a run shows, worked out by hand from who held which GPU when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from model.support import A100, H100, V100, Job, cohort, text, trace, workload

from fleetsim import experiment, scenario
from fleetsim.catalog import load_catalog
from fleetsim.experiment import Progress
from fleetsim.summary import DEFINITIONS, age_band, span, summarise

HOUR_S = 3600.0

#: Two A100 (new) and two V100 (three years old), ten hours, strict first in, first out, fastest card first.
FLEET = [
    cohort(A100, gpus_per_node=2, name="new"),
    cohort(V100, gpus_per_node=2, name="old", delivered="-3y"),
]
SESSION: dict[str, Any] = {"workload_class": "interactive", "gpu_model": V100}  # lasts as long on any card
#: hour        0   1   2   3   4   5   6   7   8   9  10
#: new  job 0  |===============|                          2 GPUs, red
#:      job 2          |.......|=======|                  2 GPUs, red: submitted at 2 h, waits for job 0
#:      job 5                                      |====  2 GPUs, blue: still running at the end
#: old  job 1      |=======|                              2 GPUs, blue
#:      job 4              |...|===|                      1 GPU, blue: waits behind job 2, though it would fit
#:      job 3                                             3 GPUs: more than any pool has
#:      job 6                                        |..  2 GPUs: waits for job 5 until the end
JOBS = [
    Job(0, 4 * HOUR_S, 2, tenant="red", gpu_model=A100),
    Job(1 * HOUR_S, 2 * HOUR_S, 2, tenant="blue", **SESSION),
    Job(2 * HOUR_S, 2 * HOUR_S, 2, tenant="red", gpu_model=A100),
    Job(2.5 * HOUR_S, HOUR_S, 3, tenant="red"),
    Job(3 * HOUR_S, HOUR_S, 1, tenant="blue", **SESSION),
    Job(9 * HOUR_S, 5 * HOUR_S, 2, tenant="blue", gpu_model=A100),
    Job(9.5 * HOUR_S, HOUR_S, 2, tenant="green", gpu_model=A100),
]


def summary_of(
    jobs: dict[str, list[Job]] | list[Job],
    folder: Path,
    fleet: list[dict[str, Any]],
    workloads: list[dict[str, Any]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    named = jobs if isinstance(jobs, dict) else {"w": jobs}
    read = scenario.parse(text(fleet, workloads or [workload(n) for n in named], **more), "test")
    return summarise(
        experiment.run(read, folder / "run", traces={n: trace(rows) for n, rows in named.items()})
    )


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return summary_of(
        JOBS,
        tmp_path_factory.mktemp("summary"),
        FLEET,
        horizon="10h",
        question="Who waits for whom?",
        sites=[{"name": "main", "pue": 1.5}],
        seed=5,
    )


def rows_by(rows: list[dict[str, Any]], key: str) -> dict[Any, dict[str, Any]]:
    return {row[key]: row for row in rows}


def test_what_was_run(summary: dict[str, Any]) -> None:
    assert summary["name"] == "test"
    assert summary["question"] == "Who waits for whom?"
    assert (summary["start"], summary["end_s"]) == ("2026-01-01T00:00:00+00:00", 36_000)
    assert summary["seed"] == 5
    rules = {"queue": "fifo", "placement": "best_fit", "prefer": "fastest"}
    assert rules.items() <= summary["scheduler"].items()
    assert summary["generated"] == []
    assert summary["left_out"] == {}


def test_jobs_are_counted_by_what_became_of_them(summary: dict[str, Any]) -> None:
    assert summary["jobs"] == {"submitted": 7, "completed": 4, "running": 1, "queued": 1, "rejected": 1}
    assert summary["rejected"] == {"larger than any pool": 1}


def test_the_chain_of_the_fleet(summary: dict[str, Any]) -> None:
    """4 GPUs x 10 h. Held: A100 2 x (4 + 2 + 1) = 14 h, V100 2 x 2 + 1 = 5 h.

    Busy 95 % of the hours in training and 30 % in interactive use: 13.3 + 1.5 h; MFU 40 % and 10 %.
    Jobs wait from 2 to 4 h and from 9.5 h on; both V100 idle from 3 to 4 h and from 9.5 to 10 h: 2 + 1 h.
    """
    fleet = summary["fleet"]
    expected = {
        "installed_gpu_hours": 40,
        "allocated_gpu_hours": 19,
        "productive_gpu_hours": 14.8,
        "idle_queue_gpu_hours": 3,
        "idle_no_queue_gpu_hours": 40 - 19 - 3,
        "allocation": 19 / 40,
        "busy": 14.8 / 19,
        "time_effective": 14.8 / 40,
        "mfu": (13.3 * 0.4 + 1.5 * 0.1) / 14.8,
        "fleet_mfu": (13.3 * 0.4 + 1.5 * 0.1) / 40,
        "idle_queue": 3 / 40,
    }
    assert {key: fleet[key] for key in expected} == pytest.approx(expected, rel=1e-12)
    assert fleet["time_effective"] == pytest.approx(fleet["allocation"] * fleet["busy"], rel=1e-12)
    assert fleet["fleet_mfu"] == pytest.approx(fleet["time_effective"] * fleet["mfu"], rel=1e-12)


def test_energy_of_the_fleet(summary: dict[str, Any]) -> None:
    """A100: 6 h idle, 0.7 h stalled and 13.3 h with 75 % of the SMs active. PUE 1.5.

    V100: 15 h idle, 3.5 h stalled and 1.5 h with 40 % of the SMs active.
    """
    a100, v100 = load_catalog()[A100], load_catalog()[V100]
    new_wh = 6 * a100.idle_power_w + 0.7 * a100.context_power_w + 13.3 * a100.busy_power_w(0.75)
    old_wh = 15 * v100.idle_power_w + 3.5 * v100.context_power_w + 1.5 * v100.busy_power_w(0.4)
    new_kwh, old_kwh = new_wh / 1000, old_wh / 1000
    cohorts = rows_by(summary["by_cohort"], "cohort")
    assert cohorts["new"]["energy_mwh"] == pytest.approx(new_kwh / 1000, rel=1e-12)
    assert cohorts["old"]["energy_mwh"] == pytest.approx(old_kwh / 1000, rel=1e-12)
    assert summary["fleet"]["energy_mwh"] == pytest.approx((new_kwh + old_kwh) / 1000, rel=1e-12)
    assert summary["fleet"]["facility_energy_mwh"] == pytest.approx(
        1.5 * (new_kwh + old_kwh) / 1000, rel=1e-12
    )


def test_utilisation_by_generation_and_age(summary: dict[str, Any]) -> None:
    rows = summary["by_generation_and_age"]
    assert [(row["generation"], row["age_band"]) for row in rows] == [("Volta", 3), ("Ampere", 0)]
    old, new = rows
    assert (old["installed_gpu_hours"], old["allocated_gpu_hours"]) == pytest.approx((20, 5))
    assert (new["installed_gpu_hours"], new["allocated_gpu_hours"]) == pytest.approx((20, 14))
    assert (old["allocation"], old["busy"], old["idle_queue"]) == pytest.approx((0.25, 0.3, 0.15))
    assert (new["allocation"], new["busy"], new["idle_queue"]) == pytest.approx((0.7, 0.95, 0))
    assert (old["mfu"], new["mfu"]) == pytest.approx((0.1, 0.4))
    assert (old["fleet_mfu"], new["fleet_mfu"]) == pytest.approx((0.15 / 20, 13.3 * 0.4 / 20))


def test_utilisation_by_cohort(summary: dict[str, Any]) -> None:
    rows = rows_by(summary["by_cohort"], "cohort")
    assert {name: row["gpu_model"] for name, row in rows.items()} == {"new": A100, "old": V100}
    assert {name: row["time_effective"] for name, row in rows.items()} == pytest.approx(
        {"new": 13.3 / 20, "old": 1.5 / 20}
    )


def test_who_held_how_much(summary: dict[str, Any]) -> None:
    """Red 2 x 4 + 2 x 2 = 12 h, blue 2 x 2 + 1 + 2 = 7 h, green nothing; largest first."""
    rows = summary["by_tenant"]
    assert [row["tenant"] for row in rows] == ["red", "blue"]
    assert [row["allocated_gpu_hours"] for row in rows] == pytest.approx([12, 7])
    assert [row["share"] for row in rows] == pytest.approx([12 / 19, 7 / 19])
    assert [row["productive_gpu_hours"] for row in rows] == pytest.approx([12 * 0.95, 1.5 + 2 * 0.95])
    classes = rows_by(summary["by_class"], "workload_class")
    assert list(classes) == ["training", "interactive"]
    assert [row["allocated_gpu_hours"] for row in classes.values()] == pytest.approx([14, 5])
    assert [row["share"] for row in classes.values()] == pytest.approx([14 / 19, 5 / 19])
    held_mwh = [sum(row["energy_mwh"] for row in summary[key]) for key in ("by_tenant", "by_class")]
    idle_mwh = (6 * load_catalog()[A100].idle_power_w + 15 * load_catalog()[V100].idle_power_w) / 1e6
    assert held_mwh == pytest.approx([summary["fleet"]["energy_mwh"] - idle_mwh] * 2)


def test_who_used_what(summary: dict[str, Any]) -> None:
    found = {(r["tenant"], r["generation"]): r["allocated_gpu_hours"] for r in summary["who_used_what"]}
    assert found == pytest.approx({("red", "Ampere"): 12, ("blue", "Ampere"): 2, ("blue", "Volta"): 5})


def test_waits_of_the_jobs_that_started(summary: dict[str, Any]) -> None:
    """0, 0, 0, 3,600 and 7,200 s; quantiles are interpolated linearly: p95 is 0.8 of the way to the last."""
    rows = rows_by(summary["waits"], "gpus")
    assert list(rows) == [None, 1, 2]
    expected: dict[int | None, dict[str, float]] = {
        None: {"jobs": 5, "share_waiting": 0.4, "mean_s": 2160, "p50_s": 0, "p95_s": 6480, "p99_s": 7056},
        1: {"jobs": 1, "share_waiting": 1, "mean_s": 3600, "p50_s": 3600, "p95_s": 3600, "p99_s": 3600},
        2: {"jobs": 4, "share_waiting": 0.25, "mean_s": 1800, "p50_s": 0, "p95_s": 6120, "p99_s": 6984},
    }
    for gpus, row in expected.items():
        assert {key: rows[gpus][key] for key in row} == pytest.approx(row, rel=1e-12), gpus
    assert [row["max_s"] for row in rows.values()] == [7200, 3600, 7200]


def test_warm_jobs_have_no_wait(tmp_path: Path) -> None:
    """A job that ran when the window opened is counted as a job and not as one that never waited."""
    jobs = [Job(0, 2 * HOUR_S), Job(HOUR_S, HOUR_S), Job(HOUR_S, HOUR_S)]
    window = {"start": "30min", "warm_start": True}
    found = summary_of(jobs, tmp_path, [cohort(gpus_per_node=1)], [workload(window=window)], horizon="5h")
    assert found["jobs"] == {"submitted": 3, "completed": 3}
    (everything, one) = found["waits"]
    assert everything["jobs"] == one["jobs"] == 2
    # the warm job ends at 1.5 h, an hour after the two others came; the second of them waits another hour
    assert one["mean_s"] == pytest.approx((1 + 2) / 2 * HOUR_S)


def test_every_workload_has_its_own_mfu(tmp_path: Path) -> None:
    """One GPU hour at MFU 20 % and three at 60 %, of one class: 50 % on average while productive."""
    jobs = {"a": [Job(0, HOUR_S)], "b": [Job(0, HOUR_S, 3)]}
    workloads = [workload("a", mfu=0.2, busy_share=1.0), workload("b", mfu=0.6, busy_share=1.0)]
    found = summary_of(jobs, tmp_path, [cohort(gpus_per_node=4)], workloads, horizon="2h")
    assert found["fleet"]["busy"] == 1
    assert found["fleet"]["mfu"] == pytest.approx(0.5)
    assert found["fleet"]["fleet_mfu"] == pytest.approx(0.25)


def test_generations_are_in_the_order_of_the_market(tmp_path: Path) -> None:
    fleet = [cohort(model) for model in (H100, V100, A100)]
    found = summary_of([], tmp_path, fleet, horizon="1h")
    assert [row["generation"] for row in found["by_generation_and_age"]] == ["Volta", "Ampere", "Hopper"]


def test_a_run_without_jobs(tmp_path: Path) -> None:
    """Installed and idle: shares of the installed hours are zero, shares of nothing are None."""
    found = summary_of([], tmp_path, FLEET, horizon="10h")
    fleet = found["fleet"]
    assert fleet["installed_gpu_hours"] == fleet["idle_no_queue_gpu_hours"] == pytest.approx(40)
    shares = ("allocation", "time_effective", "fleet_mfu", "idle_queue", "busy", "mfu")
    assert [fleet[key] for key in shares] == [0, 0, 0, 0, None, None]
    assert found["jobs"] == {"submitted": 0}
    assert found["by_tenant"] == found["by_class"] == found["who_used_what"] == found["waits"] == []


def test_a_run_in_which_nothing_starts(tmp_path: Path) -> None:
    """One job waits for ever: the idle hours have a queue, the waits of started jobs are those of none."""
    jobs = [Job(0, 10 * HOUR_S, 2), Job(0, HOUR_S, 1)]
    found = summary_of(jobs, tmp_path, [cohort(gpus_per_node=2, delivered="9h")], horizon="10h")
    assert found["jobs"] == {"submitted": 2, "queued": 1, "running": 1}
    assert found["fleet"]["installed_gpu_hours"] == pytest.approx(2)
    nothing = summary_of([Job(0, 10, 9)], tmp_path / "b", [cohort(gpus_per_node=2)], horizon="1h")
    assert nothing["jobs"] == {"submitted": 1, "rejected": 1}
    assert nothing["waits"] == []
    assert nothing["fleet"]["idle_queue"] == 0  # who is rejected does not wait


def test_a_run_without_length_has_no_shares(tmp_path: Path) -> None:
    """Nothing is selected and the run drains: it ends as it begins, and nothing is installed for any time."""
    found = summary_of(
        [Job(0, 10)], tmp_path, [cohort()], [workload(select={"min_gpus": 2})], horizon="drain"
    )
    assert found["end_s"] == 0
    assert found["left_out"] == {"w": {"not selected": 1}}
    shares = ("allocation", "time_effective", "fleet_mfu", "idle_queue", "busy", "mfu")
    assert [found["fleet"][key] for key in shares] == [None] * 6
    assert found["by_cohort"] == found["by_generation_and_age"] == []


def test_a_run_that_is_never_busy_has_no_mfu(tmp_path: Path) -> None:
    found = summary_of(
        [Job(0, HOUR_S)], tmp_path, [cohort(gpus_per_node=1)], [workload(busy_share=0.0)], horizon="2h"
    )
    shares = {
        key: found["fleet"][key] for key in ("allocation", "busy", "time_effective", "mfu", "fleet_mfu")
    }
    assert shares == {"allocation": 0.5, "busy": 0, "time_effective": 0, "mfu": None, "fleet_mfu": 0}


@pytest.mark.parametrize(
    ("jobs", "end_s"),
    [
        ([Job(0, 100), Job(50, 20)], 100),
        ([Job(0, 33.3), Job(10, 5)], 33.3),
        ([Job(0, 10), Job(1000, 0.5)], 1000.5),
        ([Job(0, 10), Job(1000, 7), Job(2000, 10, 9)], 2000),  # the last is rejected as it comes
    ],
)
def test_a_run_that_drains_ends_with_its_last_job(tmp_path: Path, jobs: list[Job], end_s: float) -> None:
    """Not when somebody next looks at it: installed hours, and every share of them, depend on it."""
    found = summary_of(jobs, tmp_path, [cohort(gpus_per_node=8)], horizon="drain")
    assert found["end_s"] == end_s
    assert found["fleet"]["installed_gpu_hours"] == pytest.approx(8 * end_s / HOUR_S, rel=1e-12)


def test_a_long_job_is_not_looked_at_for_ever(tmp_path: Path) -> None:
    """All is submitted at once and then runs for an hour: the looks stay few, and so does what they cost."""
    looks: list[Progress] = []
    read = scenario.parse(text([cohort()], [workload()], horizon="drain"), "test")
    experiment.run(read, tmp_path / "run", traces={"w": trace([Job(0, HOUR_S)])}, progress=looks.append)
    assert 1 <= len(looks) < 10_000
    assert (looks[-1].jobs_arrived, looks[-1].jobs_ended, looks[-1].jobs) == (1, 1, 1)


def test_generated_work_and_rows_left_out_are_told(tmp_path: Path) -> None:
    generated = {"name": "made", "generate": {"jobs": 50}, "reference_gpu": A100, "select": {"max_gpus": 1}}
    read = scenario.parse(text([cohort()], [generated], horizon="1d"), "test")
    found = summarise(experiment.run(read, tmp_path / "run"))
    assert found["generated"] == ["made"]
    submitted = found["jobs"]["submitted"]
    assert set(found["left_out"]["made"]) <= {"not selected", "submitted after the end"}
    assert submitted + sum(found["left_out"]["made"].values()) == 50


def test_figures_are_plain_json_values(summary: dict[str, Any]) -> None:
    """No NaN, no infinity, no type of a library: what `--json` prints, any program reads."""
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_every_figure_is_defined(summary: dict[str, Any]) -> None:
    """Shares and energies by name; the hours are the parts that their definitions name. None is left over."""
    states = ("down", "allocated", "lost", "productive", "idle_queue", "idle_no_queue")
    parts = {f"{state}_gpu_hours" for state in states}
    assert set(summary["fleet"]) - parts == set(DEFINITIONS) - {"wait"}
    assert summary["definitions"] == DEFINITIONS
    assert all(len(text.split()) >= 3 for text in DEFINITIONS.values())


def test_words_for_headings(summary: dict[str, Any]) -> None:
    assert age_band(0) == "0-1 y"
    assert age_band(12) == "12-13 y"
    assert span(summary) == "2026-01-01 to 2026-01-01 (10 h)"
