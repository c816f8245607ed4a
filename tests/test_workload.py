"""From the workloads of a scenario to one table of jobs: what is kept, counted, mapped, merged and refused.

The figures of single runs (windows, warm starts, scaling, repetition, growth) are in ``model``; here are the
counts of what is left out, draws over many seeds, tenants, classes, several workloads, and what is refused.
"""

from __future__ import annotations

import hashlib
import json
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from model.support import A100, H100, P100, V100, Job, cohort, columns_trace, text, trace, workload

from fleetsim import experiment, scenario
from fleetsim.errors import InputError, Problem
from fleetsim.records import Jobs
from fleetsim.spec import CLASS_ACTIVITY
from fleetsim.workload import Source, load_jobs
from fleetsim_traces import read_trace, transform_load, write_jobs
from fleetsim_traces.samples import sample
from fleetsim_traces.table import Trace

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S

Traces = Sequence[Job] | Trace | Mapping[str, Sequence[Job] | Trace]


def load(traces: Traces, *workloads: dict[str, Any], **more: Any) -> tuple[Jobs, list[Source]]:
    """The jobs of a scenario whose traces are given: of one workload `w`, or by the workload's name."""
    named = traces if isinstance(traces, Mapping) else {"w": traces}
    read = scenario.parse(text([cohort()], workloads or [workload(n) for n in named], **more), "f.yaml")
    return load_jobs(read, {n: t if isinstance(t, Trace) else trace(t) for n, t in named.items()})


def refused(traces: Traces, *workloads: dict[str, Any], **more: Any) -> list[Problem]:
    with pytest.raises(InputError) as caught:
        load(traces, *workloads, **more)
    assert all(str(problem).isprintable() and len(str(problem)) < 2000 for problem in caught.value.problems)
    return list(caught.value.problems)


def ids(jobs: Jobs) -> list[str]:
    found: list[str] = jobs.job_id.to_pylist()
    return found


def tenants(jobs: Jobs) -> list[str]:
    return [jobs.tenants[i] for i in jobs.tenant]


def minutes(count: int) -> Trace:
    """One job a minute."""
    return columns_trace(submit_s=60.0 * np.arange(count), duration_s=np.ones(count))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail where the block would go on for ever: after so many seconds of processor time."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"still not done after {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


# What is kept, and the count of what is not

MIXED = [
    Job(0, 10, 1, tenant="a", status="completed"),
    Job(10, 10, 2, tenant="a", status="failed"),
    Job(20, 10, 4, tenant="b", status="completed"),
    Job(30, 10, 8, tenant="b"),
    Job(40, 10, 8, tenant="c", status="killed"),
]


@pytest.mark.parametrize(
    ("select", "kept"),
    [
        ({}, "01234"),
        ({"min_gpus": 2}, "1234"),  # bounds are inclusive
        ({"max_gpus": 2}, "01"),
        ({"min_gpus": 4, "max_gpus": 4}, "2"),
        ({"tenants": ["a", "c"]}, "014"),
        ({"statuses": ["completed"]}, "02"),
        ({"statuses": ["failed", "killed"]}, "14"),  # job 3 has no status and is of no list
        ({"tenants": ["b"], "min_gpus": 8}, "3"),
        ({"tenants": ["b"], "statuses": ["killed"]}, ""),
        ({"tenants": []}, ""),
    ],
)
def test_a_selection_keeps_what_meets_all_of_it(select: dict[str, Any], kept: str) -> None:
    jobs, (source,) = load(MIXED, workload(select=select))
    assert "".join(ids(jobs)) == kept
    assert source.left_out == ({"not selected": 5 - len(kept)} if len(kept) < 5 else {})


@pytest.mark.parametrize(
    ("select", "message", "remedy"),
    [
        ({"tenants": ["b", "aa"]}, "the trace has no tenant 'aa'", "It has: a, b, c."),
        ({"statuses": ["complete"]}, "the trace has no status 'complete'", "Did you mean completed?"),
    ],
)
def test_a_selection_of_what_the_trace_does_not_have_is_a_slip(
    select: dict[str, Any], message: str, remedy: str
) -> None:
    """It would leave an empty run, or one that lacks a tenant, without a word."""
    (problem,) = refused(MIXED, workload(select=select))
    assert problem.place.startswith("f.yaml workloads[0].select")
    assert problem.message == message
    assert remedy in problem.remedy


def test_every_job_is_kept_or_counted_once() -> None:
    """Of ten: two not selected, three before and one after the window, one after the end; three remain."""
    jobs = [Job(10.0 * n, 5, 2 if n in (4, 9) else 1) for n in range(10)]
    window = {"start": 30, "end": 80}
    found, (source,) = load(jobs, workload(select={"max_gpus": 1}, window=window), horizon=40)
    assert ids(found) == ["3", "5", "6"]  # at 0, 20 and 30; job 7 comes at 40, as the run ends
    assert found.submit_s.tolist() == [0, 20, 30]
    assert source.left_out == {"not selected": 2, "outside the window": 4, "submitted after the end": 1}


def test_a_window_is_written_in_any_unit() -> None:
    jobs = [Job(3600.0 * n, 5) for n in range(72)]
    found, _ = load(jobs, workload(window={"start": "1d", "end": "1d12h"}))
    assert ids(found) == [str(n) for n in range(24, 36)]


def test_a_window_after_the_trace_leaves_nothing() -> None:
    jobs, (source,) = load(MIXED, workload(window={"start": "9d"}, repeat={"every": "1d"}), horizon="30d")
    assert len(jobs) == 0
    assert source.left_out == {"outside the window": 5}


def test_no_jobs_are_jobs_too() -> None:
    """An empty trace gives columns of no length and the activity that the scenario speaks of."""
    jobs, (source,) = load([])
    assert len(jobs) == len(jobs.job_id) == len(jobs.gpus) == len(jobs.warm) == 0
    assert [a.workload_class for a in jobs.activities] == ["training"]
    assert (jobs.tenants, jobs.users, jobs.gpu_models) == ((), (), ())
    assert source.left_out == {}


@pytest.mark.parametrize(("horizon", "kept"), [(59, 1), (60, 1), (61, 2), ("drain", 3)])
def test_submissions_from_the_horizon_on_are_cut_and_counted(horizon: float | str, kept: int) -> None:
    jobs, (source,) = load([Job(0, 5), Job(60, 5), Job(120, 5)], horizon=horizon)
    assert len(jobs) == kept
    assert source.left_out.get("submitted after the end", 0) == 3 - kept


def test_what_starts_later_is_cut_by_the_same_end() -> None:
    jobs, (source,) = load(
        [Job(0, 5), Job(60, 5)], workload(starts="2026-01-02T00:00:30"), horizon=DAY_S + 60
    )
    assert jobs.submit_s.tolist() == [DAY_S + 30]
    assert source.left_out == {"submitted after the end": 1}


def test_an_end_of_repetition_before_its_beginning_leaves_nothing() -> None:
    jobs, (source,) = load([Job(0, 5), Job(60, 5)], workload(repeat={"every": 100, "until": "-1d"}))
    assert len(jobs) == 0
    assert source.left_out == {}  # where a repetition ends is its word, not a loss of the trace


# Draws


@pytest.mark.parametrize("load_", [0.1, 0.5, 1.3, 2.75])
def test_a_fractional_load_is_right_over_seeds(load_: float) -> None:
    """40 seeds, 1,000 jobs of one owner in batches of an hour, the last of 40: off by less than a batch, and
    right on average. The spread of a draw that is off by up to 60 is at most 30."""
    given = minutes(1000)
    counts = np.array([len(load(given, workload(load=load_), seed=seed)[0]) for seed in range(40)])
    assert np.abs(counts - 1000 * load_).max() < 60
    assert counts.mean() == pytest.approx(1000 * load_, abs=4 * 30 / np.sqrt(40))
    assert len(set(counts.tolist())) > 1


def test_thinning_keeps_jobs_as_they_are() -> None:
    """What is left is whole batches of the trace, at their own times and in their order."""
    jobs, _ = load(minutes(30_000), workload(load=0.4))
    numbers = np.array(ids(jobs)).astype(int)
    assert (np.diff(numbers) > 0).all()
    assert jobs.submit_s.tolist() == (60.0 * numbers).tolist()
    assert set(np.bincount(numbers // 60)) == {0, 60}
    thirds = np.bincount(numbers * 3 // 30_000, minlength=3) / 60  # everywhere alike: 167 hours in each
    assert np.abs(thirds - 0.4 * 500 / 3).max() < 4 * np.sqrt(500 / 3 * 0.24)


def test_copies_are_busy_when_the_log_is_not() -> None:
    """One burst in four weeks, four times: at the same hour of the same weekday of each week."""
    burst = columns_trace(submit_s=np.repeat([0.0, 30 * DAY_S], [100, 1]), duration_s=np.ones(101))
    jobs, _ = load(burst, workload(load=4.0, window={"end": "28d"}))
    assert Counter(jobs.submit_s.tolist()) == {7 * DAY_S * week: 100 for week in range(4)}


def test_more_load_is_more_users() -> None:
    given = [Job(60.0 * n, 1, user="uv"[n % 2]) for n in range(50)]
    jobs, _ = load(given, workload(load=2.0))
    assert Counter(jobs.users[i] for i in jobs.user) == dict.fromkeys(("u", "u.1", "v", "v.1"), 25)


def test_the_seed_decides_and_nothing_else() -> None:
    given = minutes(500)
    first = ids(load(given, workload(load=0.5), seed=1)[0])
    assert ids(load(given, workload(load=0.5), seed=1, name="other")[0]) == first
    assert ids(load(given, workload(load=0.5), seed=2)[0]) != first
    assert ids(load({"v": given}, workload("v", load=0.5), seed=1)[0]) != first  # a workload of its own


@pytest.mark.parametrize("other", [{"load": 0.3}, {"load": 4.2, "starts": "1d", "repeat": {"every": "3d"}}])
@pytest.mark.parametrize("first", [True, False])
def test_another_workload_shifts_no_draw(other: dict[str, Any], first: bool) -> None:
    """Paired scenarios share their draws: what stands beside a workload leaves it as it is."""
    mine = workload(load=1.5, repeat={"every": "2d", "growth_per_year": 5.0})
    alone, _ = load(minutes(500), mine, seed=3, horizon="9d")
    pair = (mine, workload("v", **other)) if first else (workload("v", **other), mine)
    jobs, _ = load({"w": minutes(500), "v": minutes(500)}, *pair, seed=3, horizon="9d")
    of_w = [jobs.activities[a].workload == "w" for a in jobs.activity]
    assert [name for name, is_mine in zip(ids(jobs), of_w, strict=True) if is_mine] == ids(alone)
    assert jobs.submit_s[of_w].tolist() == alone.submit_s.tolist()


def test_passes_of_a_repetition_are_drawn_apart() -> None:
    """Two passes at half the load do not keep the same of 144 jobs: 36 are in both, with a deviation of 3."""
    day = columns_trace(submit_s=600.0 * np.arange(144), duration_s=np.ones(144))  # batches of one
    jobs, _ = load(day, workload(load=0.5, repeat={"every": "1d"}), horizon="2d")
    first = {name for name in ids(jobs) if "~" not in name}
    second = {name.split("~")[0] for name in ids(jobs) if "~" in name}
    assert len(first) == len(second) == 72
    assert len(first & second) == pytest.approx(36, abs=12)


def test_negative_growth_shrinks_the_load() -> None:
    """A hundred jobs a day, half as many after a year: 100 x (0.5 - 1) / (0.5^(1/365) - 1) in the first.

    Each day is right but for a last job, drawn with a variance of at most 1 / 4: four deviations of a year
    are 4 sqrt(365 / 4) = 38.
    """
    day = columns_trace(submit_s=800.0 * np.arange(100), duration_s=np.ones(100))
    jobs, _ = load(day, workload(repeat={"every": "1d", "growth_per_year": -0.5}), horizon="2y")
    year = 100 * -0.5 / (0.5 ** (1 / 365) - 1)
    assert year == pytest.approx(26_354, abs=1)
    first = int(np.sum(jobs.submit_s < YEAR_S))
    assert first == pytest.approx(year, abs=38)
    assert len(jobs) - first == pytest.approx(year / 2, abs=38)


def test_repetition_without_load_or_growth_draws_nothing() -> None:
    jobs, _ = load([Job(0, 5), Job(30, 6)], workload(repeat={"every": "1h"}), horizon="3h", seed=9)
    assert ids(jobs) == ["0", "1", "0~1", "1~1", "0~2", "1~2"]
    assert jobs.submit_s.tolist() == [0, 30, 3600, 3630, 7200, 7230]
    assert jobs.duration_s.tolist() == [5, 6] * 3


def test_passes_that_overlap_are_in_order_of_submission() -> None:
    jobs, _ = load([Job(0, 5), Job(150, 5)], workload(repeat={"every": 100, "until": 300}))
    assert ids(jobs) == ["0", "0~1", "1", "0~2", "1~1"]
    assert jobs.submit_s.tolist() == [0, 100, 150, 200, 250]


# Too much of it


def test_a_load_beyond_reason_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transform_load, "MAX_JOBS", 1000)
    assert len(load(minutes(500), workload(load=2.0))[0]) == 1000
    (problem,) = refused(minutes(501), workload(load=2.0))
    assert problem == Problem(
        "f.yaml workloads[0].load",
        "load, repetition and growth make more than 1,000 jobs",
        "Lower one of them.",
    )
    assert refused(minutes(101), workload(repeat={"every": "1d"}), horizon="10d") == [problem]


@pytest.mark.parametrize(
    ("more", "horizon"),
    [
        ({"load": 10_000.0}, "1d"),
        ({"repeat": {"every": "1y", "growth_per_year": 100.0}}, "50y"),
        ({"repeat": {"every": "10y", "growth_per_year": 100.0}}, "90y"),
        ({"repeat": {"every": "500y", "growth_per_year": 100.0}}, "1000y"),
        ({"load": 0.001, "repeat": {"every": 0.001}}, "50y"),  # hardly a job, and passes without end
        ({"repeat": {"every": 1, "growth_per_year": -0.99}}, "50y"),
    ],
)
def test_work_without_end_is_refused_at_once(more: dict[str, Any], horizon: str) -> None:
    """Growth beyond every number, and a billion passes with hardly a job in them."""
    with within(seconds=5):
        (problem,) = refused(minutes(20_000), workload(**more), horizon=horizon)
    assert problem.place.startswith("f.yaml workloads[0]")
    assert problem.remedy


# Tenants

THREE = [Job(n, 1, tenant=name) for n, name in enumerate("xyz")]


def test_tenants_are_those_of_the_trace_unless_said() -> None:
    assert tenants(load(THREE)[0]) == ["x", "y", "z"]
    assert load(THREE)[0].tenants == ("x", "y", "z")
    assert tenants(load(THREE, workload(tenant="all"))[0]) == ["all"] * 3
    everyone = load(THREE, workload(tenant="all"), tenants=[{"name": "all"}])[0]
    assert everyone.tenants == ("all",)


def test_a_map_sends_tenants_where_it_says() -> None:
    one_by_one = workload(tenants={"one": ["x", "z"], "two": ["y"]})
    assert tenants(load(THREE, one_by_one)[0]) == ["one", "two", "one"]
    assert tenants(load(THREE, workload(tenants={"one": ["y"], "rest": ["*"]}))[0]) == ["rest", "one", "rest"]
    assert tenants(load(THREE, workload(tenants={"all": ["*"]}))[0]) == ["all"] * 3
    assert tenants(load(THREE, workload(tenants={"y": ["x"], "x": ["y"], "z": ["z"]}))[0]) == ["y", "x", "z"]


def test_a_map_that_leaves_a_tenant_out_is_refused() -> None:
    assert refused(THREE, workload(tenants={"one": ["y"]})) == [
        Problem(
            "f.yaml workloads[0].tenants",
            "no tenant for x, z",
            "Name them, or send all the rest to one tenant with '*'.",
        )
    ]


def test_a_map_of_a_tenant_that_is_not_there_is_refused() -> None:
    jobs = [Job(0, 1, tenant="research"), Job(1, 1, tenant="product")]
    assert refused(jobs, workload(tenants={"one": ["reserch", "*"]})) == [
        Problem(
            "f.yaml workloads[0].tenants",
            "the trace has no tenant 'reserch'",
            "Did you mean research? It has: product, research.",
        )
    ]


def test_a_map_may_name_a_tenant_whose_jobs_are_not_chosen() -> None:
    """It is in the trace, if not in the window or the selection: the map stays right when they change."""
    chosen = workload(tenants={"one": ["x", "y"], "two": ["z"]}, window={"start": 2})
    assert tenants(load(THREE, chosen)[0]) == ["two"]
    chosen = workload(tenants={"one": ["x", "y"], "two": ["z"]}, select={"tenants": ["x"]})
    assert tenants(load(THREE, chosen)[0]) == ["one"]


def test_declared_tenants_are_all_there_are() -> None:
    declared = [{"name": "x"}, {"name": "y"}]
    assert refused(THREE, tenants=declared) == [
        Problem(
            "f.yaml workloads[0].tenants",
            "the trace has tenants the scenario lacks: z",
            "Declare them under `tenants`, or map them with the workload's `tenant` or `tenants`.",
        )
    ]
    assert tenants(load(THREE, tenants=[*declared, {"name": "z"}, {"name": "idle"}])[0]) == ["x", "y", "z"]
    assert tenants(load(THREE, workload(select={"tenants": ["x"]}), tenants=declared)[0]) == ["x"]


def test_a_thousand_tenants_are_not_all_named() -> None:
    jobs = [Job(n, 1, tenant=f"tenant-{n:04}") for n in range(3000)]
    (strange,) = refused(jobs, tenants=[{"name": "x"}])
    assert strange.message.endswith("tenant-0008, tenant-0009 and 2990 more")
    (lost,) = refused(jobs, workload(tenants={"one": ["tenant-0000"]}))
    assert lost.message.startswith("no tenant for tenant-0001")
    (unknown,) = refused(jobs, workload(tenants={"one": ["nobody", "*"]}))
    assert unknown.message == "the trace has no tenant 'nobody'"


def test_tenants_of_a_stranger_command_no_terminal() -> None:
    """Names are written out in messages (see `refused`), and kept as they are in the jobs."""
    jobs = [Job(0, 1, tenant="\x1b[31mred\n"), Job(1, 1, tenant="b")]
    (strange,) = refused(jobs, tenants=[{"name": "b"}])
    assert "red" in strange.message
    (lost,) = refused(jobs, workload(tenants={"one": ["b"]}))
    assert "red" in lost.message
    assert tenants(load(jobs)[0]) == ["\x1b[31mred\n", "b"]


# Classes and what they do


def test_the_class_of_the_scenario_goes_before_that_of_the_trace() -> None:
    """Given, it holds for all jobs; not given, each job has its own, and training where it has none."""
    jobs = [Job(0, 1, workload_class="inference"), Job(1, 1), Job(2, 1, workload_class="batch")]

    def classes(found: Jobs) -> list[str]:
        return [found.activities[i].workload_class for i in found.activity]

    assert classes(load(jobs)[0]) == ["inference", "training", "batch"]
    assert classes(load(jobs, workload(workload_class="interactive"))[0]) == ["interactive"] * 3


def test_every_class_brings_what_its_gpus_do() -> None:
    jobs = [Job(n, 1, workload_class=name) for n, name in enumerate(CLASS_ACTIVITY)]
    found, _ = load(jobs)
    for i, (name, expected) in enumerate(CLASS_ACTIVITY.items()):
        activity = found.activities[found.activity[i]]
        assert activity.workload_class == name
        assert (activity.busy_share, activity.sm_active, activity.mfu) == expected
        busy, active, mfu = expected
        assert 0 < mfu < active <= 1 and 0 < busy <= 1
    found, _ = load(jobs, workload(mfu=0.0, sm_active=1.0))
    assert {(a.mfu, a.sm_active) for a in found.activities} == {(0.0, 1.0)}
    assert {a.workload_class: a.busy_share for a in found.activities} == {
        name: figures[0] for name, figures in CLASS_ACTIVITY.items()
    }


def test_each_workload_keeps_its_own_activities_and_reference() -> None:
    """Two workloads of one class are two activities, measured on different cards."""
    found, _ = load(
        {"b": [Job(0, 1), Job(2, 1, workload_class="batch")], "a": [Job(1, 1)]},
        workload("b", reference_gpu=V100, busy_share=0.5),
        workload("a"),
    )
    said = [
        (a.workload, a.workload_class, a.reference.id, a.busy_share)
        for a in (found.activities[i] for i in found.activity)
    ]
    assert said == [
        ("b", "training", V100, 0.5),
        ("a", "training", A100, 0.95),
        ("b", "batch", V100, 0.5),
    ]
    assert len(found.activities) == 3


def test_memory_is_that_of_the_job_or_else_of_the_workload() -> None:
    jobs = [Job(0, 1, min_memory_gb=4), Job(1, 1), Job(2, 1, min_memory_gb=0)]
    assert load(jobs, workload(min_memory_gb=32))[0].min_memory_gb.tolist() == [4, 32, 0]
    assert load(jobs)[0].min_memory_gb.tolist() == [4, 0, 0]


def test_codes_name_what_the_trace_named() -> None:
    jobs = [
        Job(0, 1, user="u2", gpu_model=V100, gpu_share=0.5),
        Job(1, 1, 3),
        Job(2, 1, user="u1", gpu_model="abacus"),
    ]
    found, _ = load(jobs)
    assert [found.users[i] if i >= 0 else None for i in found.user] == ["u2", None, "u1"]
    assert [found.gpu_models[i] if i >= 0 else None for i in found.gpu_model] == [(V100,), None, ()]
    assert found.users == ("u1", "u2")
    assert found.gpu_models == ((), (V100,))
    assert found.gpus.tolist() == [1, 3, 1]
    assert found.gpu_share.tolist() == [0.5, 1, 1]


# GPU models


def asking(*models: str | None) -> list[Job]:
    return [Job(n, 1, gpu_model=model) for n, model in enumerate(models)]


def wanted(jobs: Jobs) -> list[tuple[str, ...] | None]:
    """The models of the catalogue of which each job insists on one; None for any."""
    return [jobs.gpu_models[i] if i >= 0 else None for i in jobs.gpu_model]


OPENB = {"V100M16": [V100], "V100M32": ["v100-sxm2-32"], "T4": ["t4"], "G2": ["a10", "a30"]}


@pytest.mark.parametrize(
    ("names", "asked", "meant"),
    [
        (OPENB, "V100M16", (V100,)),
        (OPENB, "V100M16|V100M32", (V100, "v100-sxm2-32")),
        (OPENB, "V100M32|G2|V100M32 | T4", ("a10", "a30", "t4", "v100-sxm2-32")),
        (OPENB, None, None),
        (OPENB, "G3", ()),
        (OPENB, "G3|T4", ("t4",)),  # one of them will do
        ({**OPENB, "*": ["l4"]}, "G3|T4", ("l4", "t4")),
        ({**OPENB, "*": []}, "G3|T4", None),  # an alternative that any model meets
        ({**OPENB, "*": []}, "a100-sxm-80", None),  # every other name, those of the catalogue too
        ({"*": [H100]}, "Tesla V100-SXM2-32GB", (H100,)),
        ({"a100-sxm-80": [H100]}, "a100-sxm-80", (H100,)),
        ({}, "a100-sxm-80|t4", ("a100-sxm-80", "t4")),
        (None, "t4", ("t4",)),
        (None, "T4", ()),
        (None, "|", None),
    ],
)
def test_a_name_of_the_trace_stands_for_models_of_the_catalogue(
    names: dict[str, list[str]] | None, asked: str | None, meant: tuple[str, ...] | None
) -> None:
    jobs, _ = load(asking(asked, *OPENB, "a100-sxm-80"), workload(gpu_names=names))
    assert wanted(jobs)[0] == meant


def test_names_that_stand_for_nothing_are_counted() -> None:
    """By the jobs of the window that ask for them, alone or among others."""
    given = asking("G3", "G1|G3", "T4", "G1|t4", None, "V100M16", "G3")
    _, (source,) = load(given, workload(gpu_names={"V100M16": [V100]}, window={"end": 6}))
    assert source.facts["unknown_gpu_models"] == {"G1": 2, "G3": 2, "T4": 1}
    _, (source,) = load(given, workload(gpu_names={"*": []}))
    assert source.facts["unknown_gpu_models"] == {}


def test_a_name_that_no_job_asks_for_is_a_slip() -> None:
    """With '*' its jobs would go elsewhere without a word. A log that asks for none takes any dictionary."""
    slip = workload(gpu_names={"V100M61": [V100], "*": []})
    assert refused(asking("V100M16|T4", None, "V100M32"), slip) == [
        Problem(
            "f.yaml workloads[0].gpu_names",
            "no job of the trace asks for a GPU model 'V100M61'",
            "Did you mean V100M16? They ask for: T4, V100M16, V100M32.",
        )
    ]
    assert wanted(load(asking(None, None), slip)[0]) == [None, None]


def test_two_workloads_mean_different_models_by_one_name() -> None:
    given = {"v": asking("G"), "w": asking("G")}
    jobs, _ = load(given, workload("v", gpu_names={"G": [A100, V100]}), workload("w", gpu_names={"G": []}))
    assert wanted(jobs) == [(A100, V100), None]


def test_pods_of_a_real_cluster_run_on_the_models_they_ask_for(real_traces: Path, tmp_path: Path) -> None:
    """Without a mapping every pod that asks is rejected; with one, those that want part of a GPU alone."""
    file = "openb_pod_list_gpuspec33.csv"
    fleet = [cohort(model, 100) for model in (V100, "v100-sxm2-32", "t4", "a10", P100)]
    names = {**OPENB, "P100": [P100], "A10": ["a10"], "*": []}
    more = {"horizon": "150d", "usage_period": "year"}

    def rejected(gpu_names: dict[str, list[str]] | None) -> tuple[dict[str, int], dict[str, int]]:
        mine = workload(trace=file, gpu_names=gpu_names)
        read = scenario.parse(
            text(fleet, [mine], **more), "f.yaml", roots=[real_traces / "alibaba-gpu-v2023-openb"]
        )
        manifest = experiment.run(read, tmp_path / "run", force=True).manifest
        return manifest["rejected"], manifest["sources"]["w"]["unknown_gpu_models"]

    pods = pl.DataFrame(read_trace(real_traces / "alibaba-gpu-v2023-openb" / file).jobs)
    parts = pods.filter(pl.col("gpu_share") < 1)
    whole_and_asking = pods.filter((pl.col("gpu_share") == 1) & pl.col("gpu_model").is_not_null())
    reasons, unknown = rejected(None)
    assert reasons == {"needs part of a GPU": parts.height, "no allowed GPU model": whole_and_asking.height}
    assert set(unknown) == {"A10", "G2", "G3", "P100", "T4", "V100M16", "V100M32"}
    assert unknown["G3"] == 77
    assert rejected(names) == ({"needs part of a GPU": parts.height}, {})


# What else a trace says of its jobs


def test_what_schedulers_go_by_is_carried_along() -> None:
    """Values where a trace has them, 0 or NaN where it has none of a job; no column where none has any."""
    given = {"v": [Job(0, 9, priority=5, estimate_s=60), Job(2, 9)], "w": [Job(1, 9, checkpoint_s=3)]}
    jobs, _ = load(given)
    assert jobs.priority is not None and jobs.estimate_s is not None and jobs.checkpoint_s is not None
    assert jobs.priority.tolist() == [5, 0, 0]
    assert jobs.priority.dtype == np.int32
    assert np.array_equal(jobs.estimate_s, [60, np.nan, np.nan], equal_nan=True)
    assert np.array_equal(jobs.checkpoint_s, [np.nan, 3, np.nan], equal_nan=True)
    plain, _ = load([Job(0, 9)])
    assert (plain.priority, plain.estimate_s, plain.checkpoint_s) == (None, None, None)


def test_copies_and_repetitions_are_as_urgent_as_their_originals() -> None:
    given = [Job(10.0 * n, 9, job_id=f"{n}", priority=n, estimate_s=100.0 * n) for n in range(1, 9)]
    jobs, _ = load(given, workload(load=2.5, repeat={"every": "1d"}), horizon="3d")
    assert jobs.priority is not None and jobs.estimate_s is not None
    assert jobs.priority.tolist() == [int(name.split("~")[0]) for name in ids(jobs)]
    assert jobs.estimate_s.tolist() == [100.0 * p for p in jobs.priority]


def test_a_warm_job_has_the_rest_of_its_estimate() -> None:
    window = {"start": 40, "warm_start": True}
    jobs, _ = load([Job(0, 100, estimate_s=300), Job(50, 10, estimate_s=30)], workload(window=window))
    assert jobs.duration_s.tolist() == [60, 10]
    assert jobs.estimate_s is not None
    assert jobs.estimate_s.tolist() == [260, 30]


# Several workloads


def test_workloads_are_merged_by_time_and_then_as_listed() -> None:
    given = {"z": [Job(0, 1), Job(20, 1)], "a": [Job(0, 2), Job(10, 2), Job(20, 2)]}
    jobs, sources = load(given, workload("z"), workload("a"))
    merged = [(jobs.activities[a].workload, s) for a, s in zip(jobs.activity, jobs.submit_s, strict=True)]
    assert merged == [("z", 0), ("a", 0), ("a", 10), ("z", 20), ("a", 20)]
    assert jobs.duration_s.tolist() == [1, 2, 2, 1, 2]
    assert [s.workload for s in sources] == ["z", "a"]
    turned, _ = load(given, workload("a"), workload("z"))
    assert [turned.activities[a].workload for a in turned.activity] == ["a", "z", "a", "a", "z"]


def test_thousands_of_one_instant_keep_their_order() -> None:
    """A batch submitted at midnight goes as the trace lists it, workload by workload."""
    together = columns_trace(submit_s=np.zeros(5000), duration_s=np.arange(5000.0))
    jobs, _ = load({"z": together, "a": together}, workload("z"), workload("a"))
    assert [jobs.activities[a].workload for a in jobs.activity] == ["z"] * 5000 + ["a"] * 5000
    assert jobs.duration_s.tolist() == 2 * list(range(5000))
    jobs, _ = load(together, workload(repeat={"every": 100, "until": 250}, time_scale=2.0))
    assert jobs.duration_s.tolist() == 3 * list(range(5000))


def test_each_workload_counts_what_it_left_out() -> None:
    given = {"a": MIXED, "b": MIXED}
    jobs, sources = load(given, workload("a", select={"min_gpus": 4}), workload("b", starts=30), horizon=50)
    assert [s.left_out for s in sources] == [{"not selected": 2}, {"submitted after the end": 3}]
    assert len(jobs) == 3 + 2


def test_a_trace_may_be_used_twice() -> None:
    jobs, _ = load({"a": MIXED, "b": MIXED}, workload("a", tenant="one"), workload("b", tenant="two"))
    assert Counter(tenants(jobs)) == {"one": 5, "two": 5}


def test_faults_of_all_workloads_come_together() -> None:
    given = {"a": THREE, "b": THREE, "c": THREE}
    problems = refused(
        given,
        workload("a", tenants={"one": ["x"]}),
        workload("b"),
        workload("c", tenants={"one": ["q", "*"]}),
    )
    assert [p.place for p in problems] == ["f.yaml workloads[0].tenants", "f.yaml workloads[2].tenants"]


# Where jobs come from


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scenario with a CSV of four rows, of which one has no duration and one half a GPU too many."""
    rows = ["when,long,cards,who", "0,100,1,ann", "10,,1,ann", "20,50,2,bob", "30,60,1.5,bob"]
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    columns = {"submit_s": "when", "duration_s": "long", "gpus": "cards", "tenant": "who"}
    mine = {"name": "w", "trace": "log.csv", "columns": columns, "reference_gpu": A100}
    (tmp_path / "s.yaml").write_text(text([cohort()], [mine], horizon="1h"))
    return tmp_path


def test_bad_rows_are_refused_with_their_lines(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_jobs(scenario.read(str(folder / "s.yaml")))
    summary, *rows = caught.value.problems
    assert summary.place == str(folder / "log.csv")
    assert summary.message.startswith("2 of 4 rows cannot be used")
    assert "`bad_rows: drop`" in summary.remedy
    assert [row.place for row in rows] == [f"{folder / 'log.csv'}:{line}" for line in (3, 5)]


def test_bad_rows_dropped_are_counted_into_the_manifest(folder: Path) -> None:
    read = scenario.read(str(folder / "s.yaml"), ["workloads.w.bad_rows=drop"])
    manifest = experiment.run(read, folder / "run").manifest
    source = manifest["sources"]["w"]
    assert manifest["jobs"] == source["jobs"] == 2
    assert source["rows_read"] == 4
    assert sorted(source["left_out"].values()) == [1, 1]
    assert any("gpus" in reason for reason in source["left_out"])
    assert any("duration_s" in reason for reason in source["left_out"])
    assert source["source"] == "log.csv"  # where the folder lies is nobody's business
    assert source["format"] == "generic"
    assert source["sha256"] == hashlib.sha256((folder / "log.csv").read_bytes()).hexdigest()
    assert source["generated"] is False


def test_rows_dropped_and_jobs_left_out_are_counted_beside_each_other(folder: Path) -> None:
    overrides = ["workloads.w.bad_rows=drop", "workloads.w.select.max_gpus=1"]
    _, (source,) = load_jobs(scenario.read(str(folder / "s.yaml"), overrides))
    assert source.left_out["not selected"] == 1
    assert sum(source.left_out.values()) == 3


def test_a_trace_given_is_not_looked_for() -> None:
    """By the name of its workload, whatever file the scenario names; the others are read."""
    read = scenario.parse(text([cohort()], [workload("w"), workload("v", trace="philly-like-10k")]), "f.yaml")
    jobs, sources = load_jobs(read, {"w": trace([Job(0, 1), Job(5, 1)])})
    assert [s.facts["jobs"] for s in sources] == [2, 10_000]
    assert len(jobs) == 10_002
    with pytest.raises(InputError, match="no trace 'given by the test'"):
        load_jobs(read)


def test_a_job_table_gives_what_the_trace_in_memory_gives(tmp_path: Path) -> None:
    made = trace(MIXED)
    write_jobs(made, tmp_path / "t.parquet")
    (tmp_path / "s.yaml").write_text(text([cohort()], [workload(trace="t.parquet")]))
    from_file, _ = load_jobs(scenario.read(str(tmp_path / "s.yaml")))
    given, _ = load(made)
    assert ids(from_file) == ids(given)
    for name in ("submit_s", "duration_s", "gpus", "gpu_share", "min_memory_gb", "tenant", "warm"):
        assert getattr(from_file, name).tolist() == getattr(given, name).tolist()
    assert from_file.tenants == given.tenants


def test_facts_of_a_sample_say_that_it_is_generated() -> None:
    read = scenario.parse(text([cohort()], [workload(trace="philly-like-10k")]), "f.yaml")
    _, (source,) = load_jobs(read)
    known = read_trace(sample("philly-like-10k"))
    assert source.facts["generated"] is True
    assert source.facts["epoch"] == (known.epoch.isoformat() if known.epoch else None)
    assert source.facts["notes"] == list(known.notes)
    assert source.facts["rows_read"] == source.facts["jobs"] == 10_000
    json.dumps(dict(source.facts), allow_nan=False)


def test_generated_jobs_follow_the_seed_of_the_scenario_or_their_own() -> None:
    def made(seed: int, own: int | None = None) -> list[float]:
        mine = {"name": "w", "generate": {"jobs": 50, "seed": own}, "reference_gpu": A100}
        found, (source,) = load_jobs(scenario.parse(text([cohort()], [mine], seed=seed), "f.yaml"))
        assert source.facts["generated"] is True
        assert len(found) == 50
        return [*found.submit_s.tolist(), *found.duration_s.tolist()]

    assert made(1) == made(1) != made(2)
    assert made(1, own=7) == made(2, own=7) != made(1)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ({"generate": {"jobs": 100_000_000}}, "100,000,000"),
        ({"trace": "philly-like-10k", "columns": {"submit_s": "x"}}, "columns"),
        ({"trace": "philly-like-10k", "format": "jobs", "columns": {"a": "b"}}, "format jobs"),
        ({"trace": "philly-like-10k", "format": "swf"}, "not text"),
    ],
)
def test_a_source_that_cannot_be_used_names_its_workload_or_file(source: dict[str, Any], what: str) -> None:
    """Among ten workloads one must find the one: the place is its path in the scenario, or the trace's."""
    bad = {"name": "bad", "reference_gpu": A100, **source}
    read = scenario.parse(text([cohort()], [workload("ok", trace="philly-like-10k"), bad]), "f.yaml")
    with pytest.raises(InputError) as caught:
        load_jobs(read)
    for problem in caught.value.problems:
        assert "workloads[1]" in problem.place or "philly-like-10k" in problem.place, problem
    assert what in str(caught.value)
