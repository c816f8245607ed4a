"""Sweeps: which runs they are, that each is the run it would be alone, and what is not done twice."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model.support import V100, Job, trace
from sweep_support import EndsWhoeverReadsIt, double, odd_fails, one_dies, slow, write

from fleetsim import experiment, safeyaml, scenario
from fleetsim.errors import FleetsimError, InputError
from fleetsim.schema import TABLES
from fleetsim.sweeps import folder as sweep_folder
from fleetsim.sweeps import sweep, workers
from fleetsim.sweeps.folder import SweepRun, open_sweep
from fleetsim.sweeps.sweep import Sweep
from fleetsim_traces import write_jobs

LOAD, QUEUE = "workloads.w.load", "scheduler.queue"


def plan(path: Path, *overrides: str) -> Sweep:
    made = sweep.plan(str(path), overrides)
    assert made is not None
    return made


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(InputError) as error:
        sweep.plan(str(path), overrides)
    return list(map(str, error.value.problems))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, SweepRun]:
    """Two loads x two queues x two replications, only to be read."""
    folder = tmp_path_factory.mktemp("swept")
    made = plan(write(folder, {LOAD: [0.5, 2], QUEUE: ["fifo_skip", "fifo"]}, 2))
    return made, sweep_folder.run(made, folder / "out", jobs=2)


# Which runs a sweep is


def test_points_are_all_combinations_the_last_axis_fastest(tmp_path: Path) -> None:
    made = plan(write(tmp_path, {LOAD: [0.5, 2.0], QUEUE: ["fifo", "sjf"]}, 3))
    assert [point.values for point in made.points] == [
        {LOAD: 0.5, QUEUE: "fifo"}, {LOAD: 0.5, QUEUE: "sjf"},
        {LOAD: 2.0, QUEUE: "fifo"}, {LOAD: 2.0, QUEUE: "sjf"},
    ]  # fmt: skip
    assert [member.folder for member in made.members[:4]] == [
        "load-0.5_queue-fifo_r0", "load-0.5_queue-fifo_r1", "load-0.5_queue-fifo_r2", "load-0.5_queue-sjf_r0"
    ]  # fmt: skip
    assert len(made.members) == 2 * 2 * 3


def test_a_scenario_without_axes_and_replications_is_no_sweep(tmp_path: Path) -> None:
    assert sweep.plan("philly-small") is None
    path = write(tmp_path, {LOAD: [1, 2]}, 3)
    assert sweep.plan(str(path), ["axes={}", "replications=1"]) is None
    assert [member.folder for member in plan(path, "axes={}").members] == ["r0", "r1", "r2"]


def test_axes_can_come_from_the_command_line(tmp_path: Path) -> None:
    made = plan(write(tmp_path, {}), "axes={scheduler.queue: [fifo, sjf]}")
    assert [point.name for point in made.points] == ["queue-fifo", "queue-sjf"]


def test_replications_have_the_same_seeds_at_every_point(tmp_path: Path) -> None:
    """Number 0 has the scenario's own, and more replications change nothing of those before."""
    made = plan(write(tmp_path, {LOAD: [1, 2]}, 4))
    assert made.seeds[0] == 3
    assert made.seeds[:2] == plan(write(tmp_path, {LOAD: [1, 2]}, 2)).seeds
    for point in (0, 1):
        assert [m.seed for m in made.members if m.point == point] == made.seeds
    assert len(set(sweep.seeds(0, 1000))) == 1000
    assert plan(write(tmp_path, {LOAD: [1, 2]}, 2), "seed=9").seeds[0] == 9


def test_a_value_more_renames_no_run(tmp_path: Path) -> None:
    before = {m.folder for m in plan(write(tmp_path, {LOAD: [1, 2]}, 2)).members}
    assert before < {m.folder for m in plan(write(tmp_path, {LOAD: [0.5, 1, 2]}, 3)).members}


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
    | st.sampled_from(["1", "true", "null", "A", "a", "1e5", "2026-01-01", "x" * 60]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
)


def test_an_axis_can_set_several_keys_to_one_value(tmp_path: Path) -> None:
    both = "workloads.w.load, workloads.w.time_scale"
    made = plan(write(tmp_path, {both: [0.5, 2]}))
    assert [member.folder for member in made.members] == [
        "load-time_scale-0.5_r0", "load-time_scale-2_r0"
    ]  # fmt: skip
    (spec,) = made.scenario(made.members[1]).spec.workloads
    assert (spec.load, spec.time_scale) == (2, 2)
    twice = {both: [1], "workloads.0.load": [1]}
    assert "workloads.w.load is workloads.0.load, which is swept too" in "".join(
        problems(write(tmp_path, twice))
    )


@given(VALUES, VALUES)
def test_names_are_safe_and_differ_where_values_do(one: Any, other: Any) -> None:
    names = [point.name for point in sweep._points({"a.x": [one, other]})]
    for name in names:
        assert re.fullmatch(r"x-[a-z0-9._+-]+", name), name
        assert len(name) < 120
    assert (names[0] == names[1]) == (sweep._canonical(one) == sweep._canonical(other))


@given(VALUES)
def test_a_value_comes_through_its_override_unchanged(value: Any) -> None:
    (point,) = sweep._points({"a": [value]})
    read = safeyaml.load_yaml(point.overrides[0].removeprefix("a="), "")
    assert json.dumps(read) == json.dumps(value)


# What is refused, before anything runs


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({LOAD: []}, ["axes.workloads.w.load: has no values. Give it at least one"]),
        ({LOAD: [1, 2, 1.0]}, ["axes.workloads.w.load: has the value 1 2 times. Give each value once"]),
        ({"scheduler.quue": ["fifo"]}, ["axes.scheduler.quue = 'fifo': unknown key. Did you mean queue?"]),
        ({"workloads.x.load": [1]}, ["workloads.x.load", "no element 'x' in workloads. There are: w."]),
        ({"seed": [1, 2]}, ["axes.seed: seed cannot be an axis. Give `replications`"]),
        ({"name": ["a", "b"]}, ["axes.name: name cannot be an axis"]),
        ({"scheduler": [{"queue": "sjf"}], QUEUE: ["fifo"]}, ["scheduler.queue lies within scheduler"]),
        ({LOAD: [1], "workloads.0.load": [2]}, ["is workloads.w.load, which", "is workloads.0.load, which"]),
        ({LOAD: [*range(1, 203)], "workloads.w.time_scale": [*range(1, 51)]}, ["10,100 runs. At most"]),
        ({LOAD: 3}, ["axes"]),
        ([LOAD], ["axes"]),
    ],
)  # fmt: skip
def test_axes_that_cannot_be_swept_are_refused(tmp_path: Path, axes: Any, words: list[str]) -> None:
    found = "\n".join(problems(write(tmp_path, axes)))
    assert all(word in found for word in words), found


def test_runs_are_counted_with_their_replications(tmp_path: Path) -> None:
    loads = [n / 10 for n in range(1, 102)]
    assert "10,100 runs" in problems(write(tmp_path, {LOAD: loads}, 100))[0]


def test_what_an_axis_sweeps_cannot_be_set(tmp_path: Path) -> None:
    path = write(tmp_path, {LOAD: [1, 2], "scheduler": [{"queue": "fifo"}, {"queue": "sjf"}]})
    found = problems(path, f"{LOAD}=3", "workloads.0.load=4", "scheduler.queue=sjf")
    assert [text.partition(":")[0] for text in found] == [
        f"--set {LOAD}=3", "--set workloads.0.load=4", "--set scheduler.queue=sjf"
    ]  # fmt: skip
    assert "is on the axis workloads.w.load. Leave one of the two out" in found[0]
    above = plan(write(tmp_path, {QUEUE: ["fifo", "sjf"]}), "scheduler={placement: worst_fit}")
    read = [above.scenario(member).spec.scheduler for member in above.members]
    assert [(rules.queue, rules.placement) for rules in read] == [("fifo", "worst_fit"), ("sjf", "worst_fit")]


def test_all_problems_of_all_points_come_at_once_each_once(tmp_path: Path) -> None:
    """What all points have is said once; what some have, with these points and the line of the value."""
    path = write(
        tmp_path,
        {QUEUE: ["fifo", "easy", "nonsense"], LOAD: [1, -1]},
        sites=[{"name": "main", "pue": 9}],
    )
    found = problems(path)
    assert len(found) == 4, found
    assert sum("pue" in text for text in found) == 1
    assert not any("(point" in text for text in found if "pue" in text)
    (load,) = [text for text in found if "greater than or equal to 0, not -1" in text]
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if LOAD in text)
    assert re.search(rf"small.yaml:{line}:\d+ axes.workloads.w.load = -1: ", load)
    assert "(points queue-fifo_load--1, queue-easy_load--1, queue-nonsense_load--1)" in load
    (estimate,) = [text for text in found if "plans with run times" in text]
    assert (
        "(points queue-easy_load-1, queue-easy_load--1)" in estimate
        or "(point queue-easy_load-1)" in estimate
    )
    assert any(
        "axes.scheduler.queue = 'nonsense': " in text and "'nonsense' is not known" in text for text in found
    )


def test_of_very_many_problems_a_hundred_are_said(tmp_path: Path) -> None:
    found = problems(write(tmp_path, {LOAD: [-n for n in range(1, 251)]}))
    assert len(found) == 101
    assert found[-1] == "sweep: and 150 more problems. See to these first."


def test_a_trace_that_is_not_there_is_found_before_anything_runs(tmp_path: Path) -> None:
    path = write(tmp_path, {"workloads.w.trace": ["philly-like-10k", "mine.csv"]},
                 workloads=[{"name": "w", "trace": "philly-like-10k", "reference_gpu": V100}])  # fmt: skip
    (found,) = problems(path)
    assert "no trace 'mine.csv'" in found and "(point trace-mine.csv)" in found


# What the runs are


def tables(folder: Path) -> Mapping[str, bytes]:
    return {name: (folder / f"{name}.parquet").read_bytes() for name in TABLES}


def test_a_run_of_a_sweep_is_the_run_it_would_be_alone(swept: tuple[Sweep, SweepRun], tmp_path: Path) -> None:
    made, done = swept
    for member in (made.members[0], made.members[7]):
        values = made.points[member.point].values
        words = [f"{LOAD}={values[LOAD]}", f"{QUEUE}={values[QUEUE]}", f"seed={member.seed}"]
        alone = scenario.read(made.place, ["axes={}", "replications=1", *words])
        run = experiment.run(alone, tmp_path / member.folder)
        assert tables(run.path) == tables(done.path / member.folder)
        other = done.open(done.record.runs[made.members.index(member)])
        assert run.manifest["scenario"] == other.manifest["scenario"]


def test_points_differ_by_their_axes_only(swept: tuple[Sweep, SweepRun]) -> None:
    """In one replication the queues face the same jobs; in another they are others."""
    _, done = swept
    columns = ["job_id", "submit_s", "gpus", "reference_duration_s"]

    def jobs(folder: str) -> list[Any]:
        return pl.read_parquet(done.path / folder / "jobs.parquet").select(columns).rows()

    assert jobs("load-2_queue-fifo_r0") == jobs("load-2_queue-fifo_skip_r0")
    assert jobs("load-2_queue-fifo_r0") != jobs("load-2_queue-fifo_r1")
    assert set(jobs("load-0.5_queue-fifo_r0")) < set(jobs("load-2_queue-fifo_r0"))


def test_the_record_says_what_ran(swept: tuple[Sweep, SweepRun]) -> None:
    made, done = swept
    record = done.record
    assert record.axes == {LOAD: [0.5, 2], QUEUE: ["fifo_skip", "fifo"]}
    assert [run.status for run in record.runs] == ["done"] * 8
    assert [run.seed for run in record.runs] == made.seeds * 4
    assert {path.name for path in done.path.iterdir()} == {
        "sweep.json", "sweep.parquet", "generations.parquet", *(run.folder for run in record.runs)
    }  # fmt: skip


def test_tables_have_a_row_for_each_run_and_figure(swept: tuple[Sweep, SweepRun]) -> None:
    _, done = swept
    assert done.runs.select(LOAD, QUEUE, "replication").rows() == [
        (load, queue, r) for load in (0.5, 2.0) for queue in ("fifo_skip", "fifo") for r in (0, 1)
    ]
    usage = pl.read_parquet(done.path / "load-2_queue-fifo_r1" / "usage.parquet")
    usage = usage.with_columns(pl.col(pl.Categorical).cast(pl.String))
    held = usage.filter(pl.col("state").is_in(["stalled", "lost", "productive"]))
    row = done.runs.row(7, named=True)
    hours = [sum(table["gpu_hours"].to_list()) for table in (held, usage)]
    assert row["allocated"] == pytest.approx(hours[0] / hours[1], abs=1e-12)
    of = done.generations.filter(point=3, replication=1, figure="allocated")
    assert of["tier"].is_null().all() and of["generation"].to_list() == ["Volta", "Ampere"]
    volta = sum(held.filter(generation="Volta")["gpu_hours"].to_list()) / (8 * 96)
    assert of["value"][0] == pytest.approx(volta, abs=1e-12)


# What is not done twice


def stamps(folder: Path) -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in sorted(folder.glob("*/manifest.json"))}


def test_what_is_done_is_kept_and_what_is_new_is_done(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = sweep_folder.run(plan(write(tmp_path, {LOAD: [1]}, 2)), out, jobs=2).runs
    before = stamps(out)
    again = sweep_folder.run(plan(write(tmp_path, {LOAD: [0.5, 1]}, 2)), out, jobs=2)
    after = stamps(out)
    assert before.items() < after.items() and len(after) == 4
    assert len(again.done) == 4
    same = pl.col("point") == 1
    assert again.runs.filter(same).drop("point").equals(first.drop("point"))
    shutil.rmtree(out / "load-0.5_r1")
    (out / "load-1_r0" / "usage.parquet").unlink()
    with pytest.raises(InputError, match=r"load-1_r0: cannot be kept: lacks usage.*--force"):
        sweep_folder.run(plan(write(tmp_path, {LOAD: [0.5, 1]}, 2)), out)
    sweep_folder.run(plan(write(tmp_path, {LOAD: [0.5, 1]}, 2)), out, jobs=2, force=True)
    last = stamps(out)
    assert {name for name in after if last[name] != after[name]} == {"load-0.5_r1", "load-1_r0"}


def test_a_run_that_differs_is_replaced_only_if_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep_folder.run(plan(write(tmp_path, {LOAD: [1, 2]})), out, jobs=1)
    before = stamps(out)
    changed = plan(write(tmp_path, {LOAD: [1, 2]}, horizon="3d", seed=4))
    with pytest.raises(InputError) as error:
        sweep_folder.run(changed, out)
    assert [p.message for p in error.value.problems] == [
        "is of another scenario: it differs in horizon, seed"
    ] * 2
    assert stamps(out) == before
    done = sweep_folder.run(changed, out, jobs=1, force=True)
    assert all(done.open(run).manifest["end_s"] == 3 * 86400 for run in done.done)


def test_a_run_of_another_version_or_trace_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, log = tmp_path / "out", tmp_path / "t.parquet"
    write_jobs(trace([Job(0, 3600)]), log)
    workloads = [{"name": "w", "trace": "t.parquet", "reference_gpu": V100}]
    made = plan(write(tmp_path, {LOAD: [1]}, workloads=workloads))
    sweep_folder.run(made, out, jobs=1)
    assert sweep_folder._kept(made, out) == ({made.members[0]}, [])
    monkeypatch.setattr(experiment, "versions", lambda: {"fleetsim": "0"})
    assert "other versions" in sweep_folder._kept(made, out)[1][0].message
    monkeypatch.undo()
    write_jobs(trace([Job(0, 7200)]), log)
    assert "is of another trace t.parquet" in sweep_folder._kept(made, out)[1][0].message


def test_a_folder_that_is_no_sweep_is_left_alone(tmp_path: Path) -> None:
    made = plan(write(tmp_path, {LOAD: [1]}))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("")
    for force in (False, True):
        with pytest.raises(InputError, match="exists already and is no sweep"):
            sweep_folder.run(made, mine, force=force)
    experiment.run(made.base, tmp_path / "run")
    with pytest.raises(InputError, match="is a run"):
        sweep_folder.run(made, tmp_path / "run")
    assert sorted(path.name for path in mine.iterdir()) == ["notes.txt"]


def test_a_run_that_fails_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    workloads = [{"name": "w", "trace": "philly-like-10k", "reference_gpu": V100}]
    path = write(tmp_path, {"workloads.w.trace": ["bad.csv", "philly-like-10k"]}, workloads=workloads)
    done = sweep_folder.run(plan(path), tmp_path / "out", jobs=1)
    assert [run.status for run in done.record.runs] == ["failed", "done"]
    assert "bad.csv" in (done.record.runs[0].error or "")
    assert done.runs["point"].to_list() == [1]
    assert not (tmp_path / "out" / "trace-bad.csv_r0").exists()


def test_a_record_that_was_tampered_with_leads_nowhere(swept: tuple[Sweep, SweepRun], tmp_path: Path) -> None:
    words = json.loads((swept[1].path / "sweep.json").read_text())
    for key, value in (("folder", "../other"), ("folder", ".hidden"), ("point", 99)):
        words["runs"][0] = {**words["runs"][0], key: value}
        (tmp_path / "sweep.json").write_text(json.dumps(words))
        with pytest.raises(InputError, match="is damaged"):
            open_sweep(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        open_sweep(tmp_path / "nowhere")


# Processes


def test_outcomes_come_from_several_processes() -> None:
    told: list[dict[int, float]] = []
    found = list(workers.run_all(double, range(20), 2, lambda shares: told.append(dict(shares))))
    assert sorted((one.task, one.result, one.error) for one in found) == [(n, 2 * n, None) for n in range(20)]
    assert max(map(len, told)) <= 2


def test_an_exception_fails_its_task_alone() -> None:
    found = sorted(workers.run_all(odd_fails, range(5), 2, lambda _: None), key=lambda one: one.task)
    assert [one.result for one in found] == [0, None, 2, None, 4]
    assert found[1].error == "unexpected ValueError: 1 is odd. This is a fault of fleetsim"


def test_the_end_of_a_process_fails_its_task_alone() -> None:
    found = sorted(workers.run_all(one_dies, range(4), 2, lambda _: None), key=lambda one: one.task)
    assert [one.result for one in found] == [0, None, 2, 3]
    assert found[1].error == "its process was ended by SIGKILL (out of memory? try fewer --jobs)"


def test_processes_that_cannot_start_are_one_error() -> None:
    with pytest.raises(FleetsimError, match="did not start: ended with exit code 7"):
        list(workers.run_all(EndsWhoeverReadsIt(), [1, 2], 1, lambda _: None))


def test_when_it_is_given_up_nothing_is_left(tmp_path: Path) -> None:
    tasks = [tmp_path / "a", tmp_path / "b"]
    outcomes = workers.run_all(slow, tasks, 2, _stop_when(lambda: all(task.exists() for task in tasks)))
    with pytest.raises(KeyboardInterrupt):
        next(outcomes)
    assert not any(task.exists() for task in tasks)


def _stop_when(ready: Callable[[], bool]) -> Callable[[dict[int, float]], None]:
    def tell(shares: dict[int, float]) -> None:
        if ready():
            raise KeyboardInterrupt

    return tell
