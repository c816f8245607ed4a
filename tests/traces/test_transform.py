"""Scenario arithmetic: tables worked out by hand, and what must hold for any table."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fleetsim_traces import TraceError
from fleetsim_traces.generate import generate_jobs
from fleetsim_traces.quality import dispersion
from fleetsim_traces.table import schema
from fleetsim_traces.transform import (
    assign_class,
    clip,
    frame,
    groups,
    map_tenants,
    merge,
    multiply,
    rebase,
    repeat,
    select,
    shift,
    stretch,
    thin,
    to_trace,
    window,
)  # fmt: skip

DAY = 86_400.0


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(**columns: list[Any]) -> pl.DataFrame:
    n = len(columns["submit_s"])
    whole: dict[str, list[Any]] = {
        "job_id": [f"j{i}" for i in range(n)], "start_s": [None] * n, "duration_s": [10.0] * n,
        "gpus": [1] * n, "tenant": ["a"] * n, "user": [None] * n,
        "status": ["completed"] * n, "workload_class": [None] * n,
    }  # fmt: skip
    kinds = {"start_s": pl.Float64, "submit_s": pl.Float64, "duration_s": pl.Float64, "user": pl.String,
             "workload_class": pl.String}  # fmt: skip
    return pl.DataFrame({**whole, **columns}, schema_overrides=kinds)


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    n = draw(st.integers(1, 40))
    times = sorted(draw(st.lists(st.integers(0, 30 * 86_400), min_size=n, max_size=n)))
    waits = draw(st.lists(st.none() | st.integers(0, 5000), min_size=n, max_size=n))
    users = draw(st.lists(st.sampled_from([None, "u", "v"]), min_size=n, max_size=n))
    return made(
        submit_s=[float(t) for t in times],
        start_s=[None if w is None else float(t + w) for t, w in zip(times, waits, strict=True)],
        duration_s=[float(d) for d in draw(st.lists(st.integers(0, 90_000), min_size=n, max_size=n))],
        gpus=draw(st.lists(st.integers(1, 64), min_size=n, max_size=n)),
        tenant=draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=n, max_size=n)),
        user=users,
    )


def test_select() -> None:
    jobs = made(
        submit_s=[0, 1, 2, 3], gpus=[1, 2, 4, 8], tenant=["a", "b", "a", "c"], duration_s=[5, 50, 500, 5],
        user=["x", None, "y", "x"],
    )  # fmt: skip

    def ids(found: pl.DataFrame) -> list[str]:
        return found["job_id"].to_list()

    assert ids(select(jobs, min_gpus=2, max_gpus=4)) == ["j1", "j2"]
    assert ids(select(jobs, tenants=["a", "zz"])) == ["j0", "j2"]
    assert ids(select(jobs, users=["x"], max_duration_s=5)) == ["j0", "j3"]
    assert ids(select(jobs, classes=["batch"])) == []
    assert_frame_equal(select(jobs), jobs)


def test_window_by_hand() -> None:
    jobs = made(
        submit_s=[100, 110, 120, 130, 140], start_s=[100, 125, None, 131, None], duration_s=[15, 10, 40, 1, 1]
    )
    plain = window(jobs, 20, 40)
    assert plain["submit_s"].to_list() == [0, 10]  # 120 and 130 of the first submission at 100; 140 is out
    assert plain["start_s"].to_list() == [None, 11]
    assert plain["duration_s"].to_list() == [40, 1]
    # opened at 112: the first still has 3 s to run; the second had not begun
    warm = window(jobs, 12, 40, warm_start=True)
    assert warm["job_id"].to_list() == ["j0", "j2", "j3"]
    assert warm["submit_s"].to_list() == [0, 8, 18]
    assert warm["start_s"].to_list() == [0, None, 19]
    assert warm["duration_s"].to_list() == [3, 40, 1]
    assert warm["warm"].to_list() == [True, False, False]
    # at 135: of the third, begun at its submission for want of a better, 25 s are left
    assert window(jobs, 35, warm_start=True)["duration_s"].to_list() == [25, 1]
    assert window(jobs, 0, 5, origin_s=125)["submit_s"].to_list() == []
    assert window(jobs, 0, 6, origin_s=125)["submit_s"].to_list() == [5]
    assert window(jobs.drop("start_s"), 12, 40, warm_start=True)["duration_s"].to_list() == [3, 8, 40, 1]
    asked = jobs.with_columns(estimate_s=pl.Series([20.0, 9.0, None, 5.0, 5.0]))
    assert window(asked, 12, warm_start=True)["estimate_s"].to_list() == [
        8,
        None,
        5,
        5,
    ]  # 12 of 20 s are over
    assert window(asked, 35, warm_start=True)["estimate_s"].to_list() == [None, 5]
    late = asked.with_columns(duration_s=pl.lit(60.0))
    assert window(late, 35, warm_start=True)["estimate_s"].to_list() == [0, 0, None, 1, 5]  # never below 0
    with pytest.raises(TraceError, match="not after 5 s"):
        window(jobs, 5, 5)


@given(tables(), st.integers(0, 10**6), st.integers(1, 10**6))
def test_windows_part_the_trace(jobs: pl.DataFrame, start: int, length: int) -> None:
    origin = float(jobs["submit_s"][0])
    cut = window(jobs, start, start + length)
    before = jobs.filter(pl.col("submit_s") < origin + start).height
    after = jobs.filter(pl.col("submit_s") >= origin + start + length).height
    assert before + cut.height + after == jobs.height
    warm = window(jobs, start, start + length, warm_start=True)
    assert warm["submit_s"].is_sorted()
    assert warm["warm"].sum() <= before
    # a warm job ends when it would have ended
    ends = jobs.select(end=pl.coalesce("start_s", "submit_s") + pl.col("duration_s"), job_id="job_id")
    running = warm.filter(pl.col("warm")).join(ends, on="job_id")
    assert ((running["duration_s"] + origin + start - running["end"]).abs() < 1e-6).all()


def test_clip_shift_stretch() -> None:
    jobs = made(submit_s=[0, 10], start_s=[5, None], duration_s=[1, 900], gpus=[1, 64])
    found = clip(jobs, min_duration_s=60, max_duration_s=600, max_gpus=8)
    assert (found["duration_s"].to_list(), found["gpus"].to_list()) == ([60, 600], [1, 8])
    later = shift(jobs, 7)
    assert (later["submit_s"].to_list(), later["start_s"].to_list()) == ([7, 17], [12, None])
    slow = stretch(jobs, 3)
    assert (slow["submit_s"].to_list(), slow["start_s"].to_list()) == ([0, 30], [5, None])
    for seconds in (-1, float("nan")):
        with pytest.raises(TraceError, match="before 0"):
            shift(jobs, seconds)
    with pytest.raises(TraceError, match="0 is not above 0"):
        stretch(jobs, 0)


def test_groups_by_hand() -> None:
    jobs = made(submit_s=[0, 10, 15, 400, 410, 2000], user=["u", "v", "u", "u", "v", "u"])
    batch = groups(jobs, gap_s=300)
    assert batch[0] == batch[2] != batch[3]  # 15 is within 300 s of 0; 400 is 385 s after
    assert batch[1] != batch[4]
    assert len(set(batch)) == 5
    chain = groups(jobs, gap_s=385)
    assert chain[0] == chain[2] == chain[3]
    assert len(set(groups(jobs, "user"))) == 2
    assert len(set(groups(jobs, "tenant"))) == 1
    assert groups(jobs, "job").tolist() == [0, 1, 2, 3, 4, 5]
    # an owner who never pauses has batches of an hour; jobs that ran before the opening are alone
    steady = made(submit_s=[60.0 * i for i in range(150)])
    assert groups(steady).tolist() == [i // 60 for i in range(150)]
    opening = made(submit_s=[0.0] * 4, user=["u", "u", "v", "u"])
    warm = opening.with_columns(warm=pl.Series([True, True, True, False]))
    assert len(set(groups(opening))) == 2
    assert len(set(groups(warm))) == 4


def test_groups_do_not_depend_on_what_polars_has_seen() -> None:
    """It numbers names by first use in the process: the draws of a run must not."""
    jobs = made(submit_s=[0.0] * 3, user=["first", "second", "third"])
    alone = groups(jobs.with_columns(pl.col("user").cast(pl.Categorical)), "user").tolist()
    pl.Series(["later-b", "later-a"]).cast(pl.Categorical)
    other = jobs.with_columns(user=pl.Series(["later-a", "later-b", None]).cast(pl.Categorical))
    assert groups(other, "user").tolist() == alone == [0, 1, 2]


@given(tables(), st.floats(0, 1), st.sampled_from(["batch", "user", "tenant", "job"]), st.integers(0, 99))
@settings(deadline=None)  # the first call imports pyarrow
def test_thin_keeps_whole_groups(jobs: pl.DataFrame, share: float, by: Any, seed: int) -> None:
    found = thin(jobs, share, rng(seed), by=by)
    group = groups(jobs, by)
    size = np.bincount(group)
    kept = jobs["job_id"].is_in(found["job_id"].to_list()).to_numpy()
    for g in range(len(size)):
        assert kept[group == g].all() or not kept[group == g].any()
    assert abs(found.height - share * jobs.height) < size.max()
    assert_frame_equal(found, jobs.filter(kept))  # order and values as they were


@given(tables(), st.floats(0.05, 4), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_multiply_counts_orders_and_sums(jobs: pl.DataFrame, load: float, seed: int) -> None:
    found = multiply(jobs, load, rng(seed))
    assert abs(found.height - load * jobs.height) < np.bincount(groups(jobs)).max()
    assert found["submit_s"].is_sorted()
    assert found["job_id"].n_unique() == found.height
    assert (found["submit_s"] <= max(float(jobs["submit_s"][-1]), 1.0)).all()
    copies = multiply(jobs, 3.0, rng(seed))
    assert copies["gpus"].sum() == 3 * jobs["gpus"].sum()
    assert copies["duration_s"].sum() == pytest.approx(3 * jobs["duration_s"].sum())
    waits = [(t["start_s"] - t["submit_s"]).drop_nulls().sum() for t in (jobs, copies)]
    assert waits[1] == pytest.approx(3 * waits[0])
    assert_frame_equal(copies.filter(~pl.col("job_id").str.contains(".", literal=True)), jobs)


def test_copies_keep_weekday_and_hour() -> None:
    jobs = made(submit_s=[3 * DAY + 9 * 3600, 24 * DAY], user=["u", None])
    found = multiply(jobs, 2, rng(), length_s=28 * DAY)
    copy = found.filter(pl.col("job_id").str.ends_with(".1"))
    assert sorted((copy["submit_s"] % (7 * DAY)).to_list()) == [3 * DAY, 3 * DAY + 9 * 3600]
    assert not set(copy["submit_s"]) & set(jobs["submit_s"])
    assert set(copy["user"]) == {"u.1", None}
    # three copies of four weeks are in three different places
    four = multiply(made(submit_s=[0.0]), 4, rng(), length_s=28 * DAY)
    assert four["submit_s"].to_list() == [0, 7 * DAY, 14 * DAY, 21 * DAY]
    # more than there are weeks: by days, and then by any time
    many = multiply(made(submit_s=[0.0]), 31, rng(), length_s=28 * DAY)["submit_s"]
    assert many.n_unique() == 31
    assert sorted(many.filter(many % DAY == 0)) == [DAY * day for day in range(28)]
    # what would come after the end, in the rest of the last day, is turned again
    last = made(submit_s=[0.9 * DAY, 3.5 * DAY])
    for seed in range(20):
        found = multiply(last, 2, rng(seed), length_s=3.6 * DAY).filter(pl.col("job_id").str.ends_with(".1"))
        assert (found["submit_s"] < 3.6 * DAY).all()
        assert sorted((found["submit_s"] % DAY).round()) == [0.5 * DAY, 0.9 * DAY]


def test_copies_do_not_pile_up_at_the_opening() -> None:
    """What a copy would bring before the opening comes at the end: as many at the first hour as at any."""
    jobs = made(submit_s=[600.0 * i for i in range(144)])
    found = multiply(jobs, 40, rng())["submit_s"]
    by_hour = np.bincount((found.to_numpy() // 3600).astype(int))  # the log ends at 23:50
    assert by_hour[:-1] == pytest.approx(40 * 6, rel=0.1)
    assert (found == 0).sum() == 1


def test_a_higher_load_keeps_what_a_lower_one_has() -> None:
    """Scenarios that differ in load or growth share their draws."""
    jobs = frame(generate_jobs("philly-tenants", jobs=500, seed=2))
    loads = [0.2, 0.5, 1.0, 1.4, 2.0, 2.7]
    kept = [set(multiply(jobs, load, rng(4)).select("job_id", "submit_s").rows()) for load in loads]
    assert all(less < more for less, more in pairwise(kept))
    slow, fast = (
        set(repeat(jobs, 300 * DAY, rng(4), every_s=30 * DAY, growth_per_year=g)["job_id"])
        for g in (0.3, 0.6)
    )
    assert slow < fast


def test_thinning_is_right_on_average() -> None:
    """A batch of a hundred and a single job: the tenth of them is 10.1, though no draw gives that."""
    jobs = made(submit_s=[0.0] * 100 + [DAY])
    heights = [thin(jobs, 0.1, rng(seed)).height for seed in range(4000)]
    assert set(heights) <= {0, 1, 100, 101}
    assert np.mean(heights) == pytest.approx(10.1, abs=4 * 30 / np.sqrt(4000))


def test_load_without_losing_bursts() -> None:
    """Thinned and multiplied by batches a log stays as bursty; job by job it does not."""
    jobs = frame(generate_jobs("philly-tenants", jobs=60_000, seed=2))
    own = dispersion(jobs["submit_s"].to_numpy(), 600)
    assert own is not None
    assert own > 15

    def of(found: pl.DataFrame) -> float:
        return float(dispersion(found["submit_s"].to_numpy(), 600) or np.nan)

    whole = np.mean([of(thin(jobs, 0.2, rng(s))) for s in range(5)])
    single = np.mean([of(thin(jobs, 0.2, rng(s), by="job")) for s in range(5)])
    assert whole == pytest.approx(own, rel=0.4)
    assert single == pytest.approx(1 + (own - 1) * 0.2, rel=0.2)  # the law of random thinning
    assert of(multiply(jobs, 3, rng())) == pytest.approx(own, rel=0.25)
    in_place = pl.concat([jobs] * 3).sort("submit_s")
    assert of(in_place) == pytest.approx(3 * own, rel=0.05)


def test_merge() -> None:
    one, two = made(submit_s=[0, 10]), made(submit_s=[0, 5])
    found = merge([one, two], [0, 5])
    assert found["submit_s"].to_list() == [0, 5, 10, 10]
    assert found["job_id"].to_list() == ["j0", "2:j0", "j1", "2:j1"]  # ties: the first part first
    other = made(submit_s=[3], job_id=["mine"]).with_columns(warm=pl.lit(True))
    mixed = merge([one, other])
    assert mixed["job_id"].to_list() == ["j0", "mine", "j1"]
    assert mixed["warm"].to_list() == [None, True, None]
    with pytest.raises(TraceError, match="1 for 2 tables"):
        merge([one, two], [0])
    with pytest.raises(TraceError, match="no tables"):
        merge([])


@given(st.lists(tables(), min_size=1, max_size=3), st.integers(0, 1000))
@settings(max_examples=40)
def test_merge_keeps_every_job(parts: list[pl.DataFrame], first_s: int) -> None:
    shifts = [float(first_s * k) for k in range(len(parts))]
    found = merge(parts, shifts)
    assert found.height == sum(p.height for p in parts)
    assert found["submit_s"].is_sorted()
    assert found["job_id"].n_unique() == found.height
    total = sum(float(p["submit_s"].sum()) + s * p.height for p, s in zip(parts, shifts, strict=True))
    assert found["submit_s"].sum() == pytest.approx(total)


def test_repeat_by_hand() -> None:
    jobs = made(submit_s=[0, 100]).with_columns(warm=pl.Series([True, False]))
    found = repeat(jobs, 2.5 * DAY, rng())
    assert found["submit_s"].to_list() == [0, 100, DAY + 100, 2 * DAY + 100]
    assert found["job_id"].to_list() == ["j0", "j1", "j1~1", "j1~2"]
    cut = repeat(jobs, 250, rng(), every_s=100)
    assert cut["submit_s"].to_list() == [0, 100, 200]
    grown = repeat(jobs, 150, rng(), every_s=100, load=2, length_s=100)
    assert grown["job_id"].n_unique() == grown.height
    assert sorted(grown["job_id"])[:3] == ["j0", "j0~0.1", "j1"]
    with pytest.raises(TraceError, match="until inf"):
        repeat(jobs, float("inf"), rng())


def test_repeat_grows() -> None:
    jobs = made(submit_s=[float(i * 3600) for i in range(24)])
    found = repeat(jobs, 2 * 365 * DAY, rng(), growth_per_year=1.0)
    by_year = np.bincount((found["submit_s"].to_numpy() // (365 * DAY)).astype(int))
    # 24 jobs a day times the integral of 2^t over each year: 1 / ln 2 and 2 / ln 2
    assert by_year == pytest.approx(24 * 365 / np.log(2) * np.array([1, 2]), rel=0.01)
    assert found["job_id"].n_unique() == found.height


def test_tenants_and_classes() -> None:
    jobs = made(submit_s=[0, 1, 2], tenant=["a", "b", "c"], workload_class=["batch", None, None])
    assert map_tenants(jobs, {"a": "x", "b": "x"})["tenant"].to_list() == ["x", "x", "c"]
    assert map_tenants(jobs, {"a": "x"}, rest="y")["tenant"].to_list() == ["x", "y", "y"]
    assert map_tenants(jobs, {}, rest="y")["tenant"].to_list() == ["y"] * 3
    assert assign_class(jobs, "training")["workload_class"].to_list() == ["batch", "training", "training"]
    both = assign_class(jobs, "training", only_missing=False)
    assert both["workload_class"].to_list() == ["training"] * 3
    with pytest.raises(TraceError, match="no class 'trainings'"):
        assign_class(jobs, "trainings")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda j: thin(j, 1.1, rng()), "share: 1.1 is not from 0 to 1"),
        (lambda j: multiply(j, 0, rng()), "load: 0 is not above 0"),
        (lambda j: multiply(j, 1e9, rng()), "make more than 100,000,000 jobs"),
        (lambda j: repeat(j, 1e9, rng(), growth_per_year=1e300), "make more than 100,000,000 jobs"),
        (lambda j: repeat(j, 3e7, rng(), load=1.7e308), "make more than 100,000,000 jobs"),
        (lambda j: multiply(j, 2, rng(), length_s=5), "shorter than the 9 s"),
        (lambda j: repeat(j, 1e9, rng(), every_s=0.001), "every 0.001 s until 1e"),
        (lambda j: repeat(j, 1e9, rng(), growth_per_year=-1), "growing by -1"),
    ],
)
def test_arguments_out_of_range(call: Any, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        call(made(submit_s=[0, 9]))


def test_from_trace_to_trace_and_back() -> None:
    trace = generate_jobs("philly-tenants", jobs=5000, seed=1)
    jobs = frame(trace)
    assert_frame_equal(frame(to_trace(jobs, trace, "as it was")), jobs)
    later = to_trace(shift(multiply(jobs, 1.5, rng()), 100.5), trace, "half as much again")
    assert later.jobs.schema.equals(schema(), check_metadata=True)
    assert later.notes[-1] == "half as much again"
    assert later.rows_read == later.jobs.num_rows == pytest.approx(7500, abs=150)
    again = rebase(later)
    assert again.epoch is not None
    assert again.epoch >= datetime(2024, 1, 1, 0, 1, 40, tzinfo=UTC)
    assert 0 <= again.jobs["submit_s"][0].as_py() < 1


def test_empty_tables_stay_empty() -> None:
    none = made(submit_s=[0.0]).head(0)
    for found in (window(none), thin(none, 0.5, rng()), multiply(none, 3, rng()), repeat(none, 9, rng()),
                  shift(none, -5), merge([none, none])):  # fmt: skip
        assert found.height == 0
