"""The figures of a sweep: intervals and paired differences by hand, and what charts draw."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_support import write

from fleetsim.errors import InputError
from fleetsim.sweeps import folder as sweep_folder
from fleetsim.sweeps import sweep
from fleetsim.sweeps import table as sweep_table
from fleetsim.sweeps.charts import _PALETTE, MOST_LINES, Charts, find_x
from fleetsim.sweeps.folder import SweepRun
from fleetsim.sweeps.table import Estimate, difference, estimate, student_t, words

LOAD, QUEUE = "workloads.w.load", "scheduler.queue"


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062047), (2, 4.3026527), (3, 3.1824463), (4, 2.7764451), (9, 2.2621572), (30, 2.0422725),
     (60, 2.0002978), (999, 1.9623415)],
)  # fmt: skip
def test_student_t_is_that_of_the_tables(freedom: int, quantile: float) -> None:
    assert student_t(freedom) == pytest.approx(quantile, abs=5e-8)


def test_an_interval_by_hand() -> None:
    """1, 2, 6: mean 3, s = sqrt((4 + 1 + 9) / 2) = sqrt(7), half = 4.3026527 x sqrt(7 / 3)."""
    found = estimate([1.0, None, 2.0, 6.0])
    assert (found.mean, found.runs) == (3.0, 3)
    assert found.high == pytest.approx(3 + 4.3026527 * math.sqrt(7 / 3), abs=1e-6)
    assert found.low == pytest.approx(3 - 4.3026527 * math.sqrt(7 / 3), abs=1e-6)
    assert estimate([4.0]) == Estimate(4.0, None, None, 1)
    assert estimate([None, None]) == Estimate(None, None, None, 0)
    assert estimate([0.1] * 7).high == pytest.approx(0.1, abs=1e-15)


def test_differences_are_paired_by_replication() -> None:
    """The spread between replications is large, that of the differences (1, 2, 3) is not."""
    found = difference({0: 11.0, 1: 102.0, 2: 1003.0, 3: 5.0}, {0: 10.0, 1: 100.0, 2: 1000.0, 4: 7.0})
    assert (found.mean, found.runs) == (2.0, 3)
    assert found.high == pytest.approx(2 + 4.3026527 / math.sqrt(3), abs=1e-6)
    assert difference({0: 1.0, 1: None}, {0: None, 1: 1.0}) == Estimate(None, None, None, 0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8), st.floats(-1e3, 1e3))
def test_intervals_hold_their_mean_and_move_with_it(values: list[float], shift: float) -> None:
    found, moved = estimate(values), estimate([value + shift for value in values])
    assert found.mean is not None and found.low is not None and found.high is not None
    assert found.low <= found.mean <= found.high
    assert moved.mean == pytest.approx(found.mean + shift, abs=1e-6)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> SweepRun:
    """Three loads x two queues x two replications."""
    folder = tmp_path_factory.mktemp("swept")
    made = sweep.plan(str(write(folder, {LOAD: [0.5, 2, 4], QUEUE: ["fifo_skip", "fifo"]}, 2)))
    assert made is not None
    return sweep_folder.run(made, folder / "out", jobs=2)


def test_the_table_is_made_of_the_runs(swept: SweepRun) -> None:
    found = sweep_table.table(swept, ["allocated", "wait_mean_s"])
    runs = {(row["point"], row["replication"]): row for row in swept.runs.iter_rows(named=True)}
    assert len(found["points"]) == 6
    for point in found["points"]:
        n = point["point"]
        for name in ("allocated", "wait_mean_s"):
            values = [runs[n, r][name] for r in (0, 1)]
            first = [runs[0, r][name] for r in (0, 1)]
            of = point["figures"][name]
            assert of["mean"] == pytest.approx(sum(values) / 2)
            assert of["difference"]["mean"] == pytest.approx(
                (values[0] - first[0] + values[1] - first[1]) / 2
            )
            assert of["runs"] == of["difference"]["runs"] == 2
    assert {g["figure"] for g in found["generations"]} == {"allocated"}  # a generation has no wait
    (volta,) = [g for g in found["generations"] if (g["point"], g["generation"]) == (5, "Volta")]
    own = swept.generations.filter(point=5, generation="Volta", figure="allocated")["value"]
    assert volta["mean"] == pytest.approx(own.mean()) and volta["runs"] == 2
    assert set(found["definitions"]["figures"]) == {"allocated", "wait_mean_s"}
    assert found["notes"] == []
    json.dumps(found, allow_nan=False)


def test_notes_say_what_is_missing_and_what_replications_cannot_show(swept: SweepRun, tmp_path: Path) -> None:
    runs = [run.model_copy(update={"status": "failed"}) for run in swept.record.runs[:2]]
    some = SweepRun(swept.path, swept.record.model_copy(update={"runs": [*runs, *swept.record.runs[2:]]}))
    assert sweep_table.notes(some)[0].startswith("2 of 12 runs are missing")
    fixed = {"name": "w", "generate": {"family": "philly", "jobs": 20, "seed": 1}, "reference_gpu": "t4"}
    made = sweep.plan(str(write(tmp_path, {}, 2, workloads=[fixed])))
    assert made is not None
    assert (
        "All replications are alike" in sweep_table.notes(sweep_folder.run(made, tmp_path / "o", jobs=2))[0]
    )


def test_estimates_in_words() -> None:
    assert words("share", {"mean": 0.1234, "low": None}) == "12.3 %"
    assert words("share", {"mean": 0.1234, "low": 0.1}, sign=True) == "+12.3 ± 2.3 %"
    assert words("s", {"mean": 5400.0, "low": 5100.0}) == "1 h 30 min ± 5 min"
    assert words("MWh", {"mean": 1234.0, "low": 1230.6}) == "1,234 ± 3"
    assert words("x", {"mean": None, "low": None}) == "-"


# Charts


def panels(found: dict[str, Any], axis: str | None = None) -> dict[str, Any]:
    charts = Charts(found, find_x(found, axis))
    return {panel.title: panel for panel in charts.panels}


def test_charts_draw_the_table(swept: SweepRun) -> None:
    found = sweep_table.table(swept, ["allocated", "wait_mean_s"])
    made = panels(found)
    assert list(made) == [
        "Allocated, by generation: queue fifo_skip",
        "Allocated, by generation: queue fifo",
        "Allocated, whole fleet",
        "Wait, mean, whole fleet",
    ]
    rows = made["Allocated, by generation: queue fifo"].rows
    assert {row["by"] for row in rows} == {"Volta", "Ampere"} and {row["x"] for row in rows} == {0.5, 2, 4}
    for generation in found["generations"]:
        values = found["points"][generation["point"]]["values"]
        if values[QUEUE] == "fifo":
            (row,) = [r for r in rows if (r["x"], r["by"]) == (values[LOAD], generation["generation"])]
            assert row["y"] == pytest.approx(generation["mean"], rel=1e-4)
            assert row["low"] == pytest.approx(max(0, generation["low"]), rel=1e-4)
            assert row["high"] == pytest.approx(min(1, generation["high"]), rel=1e-4)
    waits = made["Wait, mean, whole fleet"]
    assert re.fullmatch(r"wait, mean \((s|min|h|days)\)", waits.y)
    assert {row["by"] for row in waits.rows} == {"queue fifo_skip", "queue fifo"}


def test_the_break_even_is_drawn_from_the_shares_it_is_read_from(swept: SweepRun) -> None:
    """A chart for each combination and tier, with the threshold; a line looks the same in all of them."""
    found = sweep_table.table(swept, ["allocated"])
    shares = [
        {"level": level, "mean": 0.2 * level, "low": -1.0, "high": 9.0, "runs": 2} for level in (0.5, 2, 4)
    ]
    rows = [
        {"values": {QUEUE: "fifo"}, "generation": generation, "tier": tier, "shares": shares,
         "break_even": {"mean": 0.25, "low": None, "high": None, "runs": 1}, "crosses": 1, "replications": 2,
         "below": 1, "above": 0, "retired": 0, "lowest": 0.5, "highest": 4}
        for generation, tier in (("Volta", "top"), ("Ampere", "top"), ("Ampere", "batch"))
    ]  # fmt: skip
    found["break_even"] = {"axis": LOAD, "threshold": 0.05, "last": "1y", "rows": rows, "definitions": {}}
    charts = Charts(found, find_x(found, None))
    drawn = {panel.title: panel for panel in charts.panels if panel.threshold == 0.05}
    assert list(drawn) == [
        f"Allocated in the last 1y, by generation on {tier}: queue fifo" for tier in ("top", "batch")
    ]
    batch = drawn["Allocated in the last 1y, by generation on batch: queue fifo"]
    assert batch.rows[-1] == {"x": 4, "by": "Ampere", "y": 0.8, "low": 0.0, "high": 1.0}
    assert "rule: 5 %" in batch.y
    specs = [charts._spec(panel, _look()) for panel in drawn.values()]
    scales = [spec["layer"][1]["encoding"]["color"]["scale"] for spec in specs]
    assert scales[0]["domain"] == ["Volta", "Ampere"] and scales[1]["domain"] == ["Ampere"]
    assert scales[0]["range"][1:] == scales[1]["range"]
    assert "1 of 2" in charts.page() and "1 used at every level (below 0.5)" in charts.page()


def test_an_axis_of_words_is_drawn_too(swept: SweepRun) -> None:
    found = sweep_table.table(swept, ["allocated"])
    made = panels(found, "queue")
    assert "Allocated, by generation: load 0.5" in made
    charts = Charts(found, QUEUE)
    (spec, *_) = (json.loads(json.dumps(charts._spec(p, _look()))) for p in charts.panels)
    assert spec["layer"][0]["encoding"]["x"]["sort"] == ["fifo_skip", "fifo"]
    assert "line" not in [layer["mark"]["type"] for layer in spec["layer"]]


def _look() -> Any:
    from fleetsim.reporting.page import Look

    return Look(_PALETTE, dark=False)


def test_without_an_axis_there_is_nothing_to_draw_against() -> None:
    with pytest.raises(InputError, match="no axis to draw against"):
        find_x({"axes": {}}, None)
    assert find_x({"axes": {QUEUE: ["a"], LOAD: [1, 2]}}, None) == LOAD
    assert find_x({"axes": {QUEUE: ["a", "b"]}}, None) == QUEUE


def test_of_very_many_combinations_some_are_drawn(swept: SweepRun) -> None:
    found = sweep_table.table(swept, ["allocated"])
    points = [{**p, "values": {LOAD: p["point"], QUEUE: f"q{p['point']}"}} for p in found["points"] * 4]
    for n, point in enumerate(points):
        point["values"] = {LOAD: 1, QUEUE: f"q{n}"}
    charts = Charts({**found, "points": points, "generations": []}, LOAD)
    assert len(charts.shown) == MOST_LINES and charts.left_out
    assert f"first {MOST_LINES} combinations" in charts.page()


def test_the_page_loads_nothing_and_escapes(swept: SweepRun) -> None:
    found = sweep_table.table(swept, ["allocated"])
    page = Charts({**found, "question": "<b>who</b>"}, LOAD).page()
    assert "&lt;b&gt;who" in page and "<b>who" not in page
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"src\s*=|href\s*=|@import|url\(", markup.replace("default-src 'none'", ""))
    assert "All points" in page and "Student" in page
    assert Charts(found, LOAD).png().startswith(b"\x89PNG")


def test_money_and_retirements_are_figures_where_there_are_any(swept: SweepRun, tmp_path: Path) -> None:
    """8 V100 of 4 y and 8 A100 of 0 y, retired at 4 y + 1 d: the V100 leave after a day, at that age."""
    assert sweep_table.headlines(swept) == list(sweep_table.HEADLINES[:4])
    made = sweep.plan(str(write(
        tmp_path, {LOAD: [0, 1]}, retirement={"rule": "fixed_age", "age": "4y1d", "sell": False},
        economics={"prices": [{"usd_per_gpu_hour": 2.0}]},
    )))  # fmt: skip
    assert made is not None
    done = sweep_folder.run(made, tmp_path / "out", jobs=2)
    assert sweep_table.headlines(done) == list(sweep_table.HEADLINES)
    nothing, some = done.runs.iter_rows(named=True)
    assert (nothing["retired_gpus"], nothing["failed"]) == (8, 0)
    assert nothing["retired_age_s"] == pytest.approx((4 * 365 + 1) * 86_400, abs=86_400)
    assert nothing["allocated"] == 0 and nothing["rent_usd"] == 0
    hours = some["allocated"] * some["installed_gpu_hours"]
    assert some["rent_usd"] == pytest.approx(2.0 * hours, rel=1e-9)
    assert some["margin_usd"] < some["rent_usd"]
