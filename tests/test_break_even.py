"""Break-even: the interpolation by hand, what has none, and the window that counts."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetsim.errors import InputError
from fleetsim.sweeps.break_even import (
    Crossing,
    break_even,
    crossing,
    find_axis,
    otherwise,
    window_shares,
    window_start_s,
)
from fleetsim.sweeps.folder import PointOf, Record, RunOf, SweepRun
from fleetsim.sweeps.table import student_t

DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("shares", "level"),
    [
        ([0.0, 0.10, 0.50], 0.5),  # half way from 0 to 0.10, between levels 0 and 1
        ([0.01, 0.04, 0.06], 2.0),  # 1 + (0.05 - 0.04) / (0.06 - 0.04) x (3 - 1)
        ([0.0, 0.05, 0.9], 1.0),  # at the threshold it is used
        ([0.02, 0.02, 0.08], 2.0),  # 1 + (0.05 - 0.02) / (0.08 - 0.02) x 2
        ([None, 0.03, 0.07], 2.0),  # 1 + (0.05 - 0.03) / (0.07 - 0.03) x 2
        ([0.0, None, 0.15], 1.0),  # 0 + 0.05 / 0.15 x 3: the level between is left out
    ],
)
def test_the_crossing_is_interpolated_between_neighbours(shares: list[float | None], level: float) -> None:
    found = crossing([0, 1, 3], shares, 0.05)
    assert found.kind == "crosses"
    assert found.level == pytest.approx(level, rel=1e-12)
    assert found.levels_gone == shares.count(None)


def test_what_has_no_crossing_says_why() -> None:
    levels = [0, 1]
    assert crossing(levels, [0.05, 0.5], 0.05).kind == "below"
    assert crossing(levels, [0.0, 0.049], 0.05).kind == "above"
    assert crossing(levels, [None, None], 0.05).kind == "retired"
    assert crossing(levels, [None, 0.2], 0.05) == Crossing("below", None, 1)


def test_of_several_crossings_the_highest_counts_and_is_marked() -> None:
    found = crossing([0, 1, 2, 3], [0.0, 0.2, 0.0, 0.1], 0.05)
    assert (found.kind, found.level, found.uneven) == ("crosses", 2.5, True)
    assert crossing([0, 1, 2], [0.0, 0.2, 0.01], 0.05).kind == "above"
    assert not crossing([0, 1, 2], [0.0, 0.2, 0.2], 0.05).uneven


RISING = st.lists(st.floats(0, 1), min_size=2, max_size=6).map(sorted)


@given(RISING, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_higher_threshold_is_crossed_at_a_higher_demand(
    shares: list[float], one: float, other: float
) -> None:
    levels = list(range(len(shares)))
    low, high = (crossing(levels, shares, t) for t in sorted((one, other)))
    order = ["below", "crosses", "above"]
    assert order.index(low.kind) <= order.index(high.kind)
    if low.level is not None and high.level is not None:
        assert low.level <= high.level + 1e-9


@given(RISING, st.floats(0.01, 0.99))
def test_at_the_crossing_the_share_is_the_threshold(shares: list[float], threshold: float) -> None:
    found = crossing(list(range(len(shares))), shares, threshold)
    if found.level is None:
        assert found.kind == ("below" if shares[0] >= threshold else "above")
        return
    low = min(int(found.level), len(shares) - 2)
    here = shares[low] + (found.level - low) * (shares[low + 1] - shares[low])
    assert here == pytest.approx(threshold, abs=1e-6)


def usage(*rows: tuple[float, float, str, str, float, float]) -> pl.DataFrame:
    """Periods in days, generation, tier, installed and allocated GPU hours."""
    names = [
        "period_start_s",
        "period_end_s",
        "generation",
        "tier",
        "installed_gpu_hours",
        "allocated_gpu_hours",
    ]
    table = pl.DataFrame(rows, names, orient="row")
    return table.with_columns(pl.col("period_start_s", "period_end_s") * DAY_S)


USAGE = usage(
    (0, 30, "Volta", "batch", 100, 90),
    (0, 30, "Ampere", "top", 100, 100),
    (30, 60, "Volta", "batch", 100, 10),
    (30, 60, "Ampere", "top", 60, 60),
    (30, 60, "Ampere", "batch", 40, 10),
    (60, 70, "Ampere", "top", 20, 10),
    (60, 70, "Ampere", "batch", 20, 0),
)


def test_the_window_is_whole_periods_that_cover_what_is_asked() -> None:
    assert window_start_s(USAGE, 5 * DAY_S) == 60 * DAY_S
    assert window_start_s(USAGE, 10 * DAY_S) == 60 * DAY_S
    assert window_start_s(USAGE, 11 * DAY_S) == 30 * DAY_S
    assert window_start_s(USAGE, 365 * DAY_S) == 0


def test_shares_are_of_installed_hours_in_the_window() -> None:
    """Ampere from day 30 on: (60 + 10 + 10 + 0) / (60 + 40 + 20 + 20); Volta 10 / 100, then nothing."""
    assert window_shares(USAGE, 40 * DAY_S, False) == pytest.approx(
        {("Volta", None): 0.1, ("Ampere", None): 80 / 140}
    )
    assert window_shares(USAGE, 10 * DAY_S, False) == {("Volta", None): None, ("Ampere", None): 0.25}
    by_tier = window_shares(USAGE, 10 * DAY_S, True)
    assert by_tier == {("Volta", "batch"): None, ("Ampere", "top"): 0.5, ("Ampere", "batch"): 0.0}


@dataclass(frozen=True)
class Runs(SweepRun):
    """A sweep whose runs are tables made by hand: by folder, the allocated hours of 100 installed."""

    hours: dict[str, dict[str, float | None]]

    def open(self, run: RunOf) -> Any:
        rows = [
            (0, 30, g, "general", 100.0 if h is not None else 0.0, h or 0.0)
            for g, h in self.hours[run.folder].items()
        ]
        return SimpleNamespace(manifest={"scenario": {}}, usage=usage(*rows))


def made(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, levels: list[Any], hours: list[list[dict[str, Any]]]
) -> Runs:
    """*hours* by replication and level."""
    monkeypatch.setattr("fleetsim.summary.usage_measures", lambda run: run.usage)
    points = [PointOf(point=i, name=f"x-{i}", values={"a.x": level}) for i, level in enumerate(levels)]
    runs = [
        RunOf(point=i, replication=r, seed=r, folder=f"x-{i}_r{r}", status="done")
        for i in range(len(levels))
        for r in range(len(hours))
    ]
    record = Record(
        sweep="1", scenario="s", question="", file="f", overrides=[], axes={"a.x": levels},
        replications=len(hours), seeds=list(range(len(hours))), points=points, runs=runs,
    )  # fmt: skip
    of = {f"x-{i}_r{r}": hours[r][i] for i in range(len(levels)) for r in range(len(hours))}
    return Runs(tmp_path, record, of)


def test_mean_and_interval_over_replications(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crossings at 0.5, 1.0 and 0.25: mean 7/12, s = sqrt(((1/12)^2 + (5/12)^2 + (4/12)^2) / 2)."""
    sweep = made(tmp_path, monkeypatch, [0, 1, 2], [
        [{"Volta": 0}, {"Volta": 10}, {"Volta": 20}],
        [{"Volta": 0}, {"Volta": 5}, {"Volta": 20}],
        [{"Volta": 0}, {"Volta": 20}, {"Volta": 20}],
    ])  # fmt: skip
    (row,) = break_even(sweep, "x")["rows"]
    s = ((1 / 144 + 25 / 144 + 16 / 144) / 2) ** 0.5
    half = student_t(2) * s / 3**0.5
    assert row["break_even"] == pytest.approx(
        {"mean": 7 / 12, "low": 7 / 12 - half, "high": 7 / 12 + half, "runs": 3}
    )
    assert (row["crosses"], row["below"], row["above"], row["retired"]) == (3, 0, 0, 0)
    assert [share["mean"] for share in row["shares"]] == pytest.approx([0, 35 / 300, 0.2])


def test_replications_without_a_break_even_are_counted_apart(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = made(tmp_path, monkeypatch, [2, 1], [  # levels in any order
        [{"Volta": 10, "Kepler": None, "Ampere": 90}, {"Volta": 0, "Kepler": None, "Ampere": 80}],
        [{"Volta": 4, "Kepler": None, "Ampere": 90}, {"Volta": 0, "Kepler": None, "Ampere": 80}],
    ])  # fmt: skip
    found = break_even(sweep, "a.x", threshold=0.05)
    assert found["levels"] == [1, 2]
    rows = {row["generation"]: row for row in found["rows"]}
    kinds = {g: tuple(row[k] for k in ("crosses", "below", "above", "retired")) for g, row in rows.items()}
    assert kinds == {"Volta": (1, 0, 1, 0), "Ampere": (0, 2, 0, 0), "Kepler": (0, 0, 0, 2)}
    assert rows["Volta"]["break_even"] == {"mean": 1.5, "low": None, "high": None, "runs": 1}
    assert rows["Ampere"]["break_even"]["mean"] is None
    assert rows["Kepler"]["levels_gone"] == 2
    assert otherwise(rows["Volta"]) == "1 not used at the highest level (above 2)"
    assert otherwise(rows["Ampere"]) == "2 used at every level (below 1)"
    assert otherwise(rows["Kepler"]) == "2 retired before"


def test_a_level_that_is_missing_bounds_nothing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run at level 0 failed: used at every level is then below 1, not below 0."""
    sweep = made(tmp_path, monkeypatch, [0, 1, 2], [[{"Volta": 0}, {"Volta": 30}, {"Volta": 90}]])
    failed = sweep.record.runs[0].model_copy(update={"status": "failed"})
    record = sweep.record.model_copy(update={"runs": [failed, *sweep.record.runs[1:]]})
    (row,) = break_even(Runs(sweep.path, record, sweep.hours), "x")["rows"]
    assert otherwise(row) == "1 used at every level (below 1)"
    assert [share["mean"] for share in row["shares"]] == [None, 0.3, 0.9]


def test_an_axis_goes_by_its_path_or_its_last_words() -> None:
    axes: dict[str, list[Any]] = {
        "workloads.a.load": [1, 2],
        "workloads.b.load": [1, 2],
        "scheduler.queue": ["fifo"],
    }
    assert find_axis(axes, "queue") == find_axis(axes, "scheduler.queue") == "scheduler.queue"
    assert find_axis(axes, "b.load") == "workloads.b.load"
    with pytest.raises(
        InputError, match=r"'load' may be workloads.a.load or workloads.b.load. Axes are: a.load"
    ):
        find_axis(axes, "load")
    with pytest.raises(InputError, match="'quue' is no axis"):
        find_axis(axes, "quue")


@pytest.mark.parametrize("levels", [["a", "b"], [1], [1, "b"]])
def test_an_axis_without_two_numbers_has_no_break_even(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, levels: list[Any]
) -> None:
    sweep = made(tmp_path, monkeypatch, levels, [[{"Volta": 1}] * len(levels)])
    with pytest.raises(InputError, match="has no two numbers"):
        break_even(sweep, "x")
