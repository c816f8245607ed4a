"""GPU hours and energy of tiny runs, added up by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from model.support import A100, H100, V100, Job, cohort, columns_trace, simulate, workload

HOUR_S = 3600.0

#: Two GPUs, whose first birthday is three hours into the run; the month ends after two.
SCENARIO: dict[str, Any] = {"start": "2026-01-31T22:00:00Z", "horizon": "6h"}
PAIR = [cohort(gpus_per_node=2, delivered="-364d21h")]
BUSY = [workload(busy_share=0.8, sm_active=0.5)]
#: hour            0   1   2   3   4   5   6
#: job 0, 1 GPU    |---------------|             held to 4 h
#: job 1, 2 GPUs       |...........|---|         submitted at 1 h, runs 4 h to 5 h
JOBS = [Job(0, 4 * HOUR_S, 1), Job(HOUR_S, HOUR_S, 2)]


def test_hours_by_period_age_and_state() -> None:
    """Free GPUs: one from 0 to 4 h (from 1 h on while job 1 waits), none to 5 h, two to 6 h.

    January (0 to 2 h), age 0: held 1 x 2 = 2; idle 1 x 1 without and 1 x 1 with a queue.
    February, age 0 (2 to 3 h): held 1; idle with a queue 1.
    February, age 1 (3 to 6 h): held 1 x 1 + 2 x 1 = 3; idle with a queue 1, without 2 x 1 = 2.
    Of the hours held a fifth is stalled (busy share 0.8).
    """
    run = simulate(JOBS, PAIR, BUSY, **SCENARIO)
    found = run.hours("period_start_s", "period_end_s", "age_band", "state")
    january, february = (0, 2 * HOUR_S), (2 * HOUR_S, 6 * HOUR_S)
    expected = {
        (*january, 0, "stalled"): 0.4,
        (*january, 0, "productive"): 1.6,
        (*january, 0, "idle_no_queue"): 1,
        (*january, 0, "idle_queue"): 1,
        (*february, 0, "stalled"): 0.2,
        (*february, 0, "productive"): 0.8,
        (*february, 0, "idle_queue"): 1,
        (*february, 1, "stalled"): 0.6,
        (*february, 1, "productive"): 2.4,
        (*february, 1, "idle_queue"): 1,
        (*february, 1, "idle_no_queue"): 2,
    }
    assert found == pytest.approx(expected, rel=1e-12)
    assert sum(found.values()) == pytest.approx(2 * 6, rel=1e-12)


def test_hours_belong_to_their_owners() -> None:
    """Job 0 is tenant a's, training; job 1 tenant b's, inference. Idle hours have no owner."""
    a, b = (vars(job) for job in JOBS)
    jobs = [Job(**{**a, "tenant": "a"}), Job(**{**b, "tenant": "b", "workload_class": "inference"})]
    run = simulate(jobs, PAIR, BUSY, **SCENARIO)
    assert run.hours("tenant", "workload", "workload_class") == pytest.approx(
        {("a", "w", "training"): 4, ("b", "w", "inference"): 2, (None, None, None): 6}, rel=1e-12
    )


#: A100: idle 58, context 26, limit 400 W; server 6,500 W at most, 900 W idle, for 8 GPUs; exponent 0.7.
IDLE_W = 170.5  # 58 + 900 / 8
SLOT_W = 812.5  # 6500 / 8
CONTEXT_W = IDLE_W + (SLOT_W - IDLE_W) * 26 / (400 - 58)  # 219.307
BUSY_W = CONTEXT_W + (SLOT_W - CONTEXT_W) * 0.5**0.7  # 584.460, with half of the SMs active


def test_energy_from_the_figures_of_the_catalogue() -> None:
    """6 h idle; 6 h held: a fifth, 1.2 h, stalled and 4.8 h productive. PUE 1.5."""
    run = simulate(JOBS, PAIR, BUSY, sites=[{"name": "main", "pue": 1.5}], **SCENARIO)
    energy = run["usage"].group_by("state").agg(pl.col("energy_kwh").sum()).cast({"state": pl.String})
    assert dict(energy.rows()) == pytest.approx(
        {
            "idle_no_queue": 3 * IDLE_W / 1000,
            "idle_queue": 3 * IDLE_W / 1000,
            "stalled": 1.2 * CONTEXT_W / 1000,
            "productive": 4.8 * BUSY_W / 1000,
        },
        rel=1e-12,
    )
    total_kwh = (6 * IDLE_W + 1.2 * CONTEXT_W + 4.8 * BUSY_W) / 1000  # 4.0916
    assert run["usage"]["energy_kwh"].sum() == pytest.approx(total_kwh, rel=1e-12)
    assert run["usage"]["facility_energy_kwh"].sum() == pytest.approx(1.5 * total_kwh, rel=1e-12)


def test_power_of_an_allocation() -> None:
    """Busy four fifths of the time: 0.8 x 584.460 + 0.2 x 219.307 = 511.429 W a GPU, twice for two."""
    run = simulate(JOBS, PAIR, BUSY, **SCENARIO)
    rows = run["allocations"].select("gpus", "activity", "power_w").rows()
    assert [row[0] for row in rows] == [1, 2]
    assert [row[1] for row in rows] == pytest.approx([0.8 * 0.5] * 2, rel=1e-6)
    mean_w = 0.8 * BUSY_W + 0.2 * CONTEXT_W
    assert [row[2] for row in rows] == pytest.approx([mean_w, 2 * mean_w], rel=1e-12)
    assert mean_w == pytest.approx(511.429, abs=1e-3)


def test_power_of_set_up_and_of_lost_work() -> None:
    """One GPU, set-up of 1 h, busy share 0.8: set-up is stalled and draws what a GPU draws that is held.

    The job of 3 h sets up to 1 h, works to 2 h and yields to one of 30 min, which sets up to 3 h and works
    to 3.5 h. No checkpoint was written, so 1 h is lost, of it 0.8 h busy, and 3 h of work follow to 6.5 h.
    """
    run = simulate(
        [Job(0, 3 * HOUR_S), Job(2 * HOUR_S, 0.5 * HOUR_S)],
        [cohort(gpus_per_node=1)],
        BUSY,
        queue="srtf",
        scheduler={"restart": {"setup": "1h", "checkpoint": "2h"}},
        horizon="8h",
    )
    expected = {
        "stalled": 1 + 1 + 0.2 * 4.5,
        "lost": 0.8 * 1,
        "productive": 0.8 * 3.5,
        "idle_no_queue": 1.5,
    }
    assert run.hours("state") == pytest.approx(expected, rel=1e-12)
    energy = run["usage"].group_by("state").agg(pl.col("energy_kwh").sum()).cast({"state": pl.String})
    power_w = {state: 1000 * kwh / expected[state] for state, kwh in energy.rows()}
    assert power_w == pytest.approx(
        {"stalled": CONTEXT_W, "lost": BUSY_W, "productive": BUSY_W, "idle_no_queue": IDLE_W}, rel=1e-12
    )


def test_the_class_sets_what_the_workload_leaves_open() -> None:
    """Inference is busy 60 % of the allocated time; the workload may say otherwise, also nothing at all."""
    jobs = [Job(0, HOUR_S, workload_class="inference")]
    one = [cohort(gpus_per_node=1)]
    run = simulate(jobs, one, horizon="1h")
    assert run.hours("state") == pytest.approx({"stalled": 0.4, "productive": 0.6})
    run = simulate(jobs, one, [workload(busy_share=0.0)], horizon="1h")
    assert run.hours("state") == {"stalled": 1.0}


def test_sites_have_their_own_pue() -> None:
    """An idle hour of one A100 (0.1705 kWh) at PUE 1.1 and of one H100 (70 + 1300 / 8 W) at PUE 2."""
    run = simulate(
        [],
        [cohort(gpus_per_node=1), cohort(H100, gpus_per_node=1, site="south")],
        sites=[{"name": "north", "pue": 1.1}, {"name": "south", "pue": 2.0}],
        horizon="1h",
    )
    rows = run["usage"].select("cohort", "energy_kwh", "facility_energy_kwh").cast({"cohort": pl.String})
    assert rows.rows() == [
        (A100, pytest.approx(0.1705), pytest.approx(0.1705 * 1.1)),
        (H100, pytest.approx(0.2325), pytest.approx(0.2325 * 2)),
    ]


def test_age_counts_an_earlier_life() -> None:
    """Bought at the age of 18 months (547.5 d) and delivered on day 100: two years old 182.5 days after."""
    fleet = [cohort(gpus_per_node=1, delivered="100d", earlier_age="18mo")]
    run = simulate([], fleet, horizon="365d", usage_period="year")
    assert run.hours("age_band") == pytest.approx({1: 24 * 182.5, 2: 24 * (365 - 100 - 182.5)}, rel=1e-12)


def test_years_are_of_365_days_and_periods_of_the_calendar() -> None:
    """2028 is a leap year: a node new on 1 January is a year old on 31 December, a day before its end."""
    run = simulate([], [cohort(gpus_per_node=1)], start="2028-01-01", horizon="367d", usage_period="year")
    assert run.hours("period_start_s", "age_band") == pytest.approx(
        {(0, 0): 24 * 365, (0, 1): 24 * 1, (366 * 24 * HOUR_S, 1): 24 * 1}, rel=1e-12
    )


@pytest.mark.parametrize(
    ("period", "hours"),  # from Wednesday 2026-12-30 18:30 to Tuesday 2027-01-05 03:00: 128.5 h
    [
        ("year", [29.5, 99]),
        ("quarter", [29.5, 99]),
        ("month", [29.5, 99]),
        ("week", [101.5, 27]),  # Monday 4 January, 00:00
        ("day", [5.5, 24, 24, 24, 24, 24, 3]),
        ("hour", [0.5, *[1] * 128]),
    ],
)
def test_periods_end_where_the_calendar_says(period: str, hours: list[float]) -> None:
    run = simulate(
        [],
        [cohort(gpus_per_node=1)],
        start="2026-12-30T18:30:00Z",
        horizon=128.5 * HOUR_S,
        usage_period=period,
    )
    assert list(run.hours("period_start_s").values()) == pytest.approx(hours, rel=1e-12)


def test_months_have_their_lengths() -> None:
    """From 31 January: a day, 28 days of February, 31 of March, one of April."""
    run = simulate([], [cohort(gpus_per_node=1)], start="2026-01-31", horizon="61d")
    assert list(run.hours("period_start_s").values()) == pytest.approx([24, 24 * 28, 24 * 31, 24])


def test_a_delivery_counts_from_its_instant() -> None:
    """Two GPUs from the start, four more from 90 min on: in 4 h 2 x 4 + 4 x 2.5 = 18 GPU hours."""
    fleet = [cohort(gpus_per_node=2), cohort(name="b", gpus_per_node=4, delivered="90min")]
    run = simulate([], fleet, horizon="4h")
    assert run.hours("cohort") == pytest.approx({A100: 8, "b": 10}, rel=1e-12)


def test_a_gang_across_cohorts_is_booked_where_it_ran() -> None:
    """12 GPUs for 2 h: 8 on the node of the first cohort, 4 on that of the second; 4 stay idle."""
    run = simulate(
        [Job(0, 2 * HOUR_S, 12)], [cohort(), cohort(name="b", delivered="-1y")], BUSY, horizon="2h"
    )
    assert run.hours("cohort", "age_band", "state") == pytest.approx(
        {
            (A100, 0, "stalled"): 8 * 2 * 0.2,
            (A100, 0, "productive"): 8 * 2 * 0.8,
            ("b", 1, "stalled"): 4 * 2 * 0.2,
            ("b", 1, "productive"): 4 * 2 * 0.8,
            ("b", 1, "idle_no_queue"): 4 * 2,
        },
        rel=1e-12,
    )


def test_idle_while_jobs_wait_is_told_apart_in_every_cohort() -> None:
    """A gang of 8 waits from 1 h to 3 h for A100s; the idle H100s, which it may not use, count as well."""
    jobs = [Job(0, 3 * HOUR_S, 1, gpu_model=A100), Job(HOUR_S, HOUR_S, 8, gpu_model=A100)]
    run = simulate(jobs, [cohort(), cohort(H100)], horizon="4h")
    #   A100: 7 free to 3 h, of it 1 h without and 2 h with a queue; from 3 h to 4 h all are held
    #   H100: 8 free for 4 h, 2 h of it while a job waits
    idle = {key: hours for key, hours in run.hours("cohort", "state").items() if key[1].startswith("idle")}
    assert idle == pytest.approx(
        {
            (A100, "idle_no_queue"): 7,
            (A100, "idle_queue"): 14,
            (H100, "idle_no_queue"): 16,
            (H100, "idle_queue"): 16,
        },
        rel=1e-12,
    )


def test_jobs_that_still_wait_at_the_end_count_to_the_end() -> None:
    """A gang of 2 waits from 1 h on and never gets both GPUs: the free one idles with a queue for 3 h."""
    run = simulate([Job(0, 9 * HOUR_S), Job(HOUR_S, 1, 2)], [cohort(gpus_per_node=2)], BUSY, horizon="4h")
    assert run.hours("state") == pytest.approx(
        {"stalled": 0.8, "productive": 3.2, "idle_no_queue": 1, "idle_queue": 3}, rel=1e-12
    )


@pytest.mark.parametrize("seed", range(4))
def test_no_row_is_the_noise_of_rounding(seed: int) -> None:
    """A full hour has no idle row of 1e-14 GPU hours: every row is at least a billionth of an hour."""
    draws = np.random.default_rng(seed)
    submit_s = np.cumsum(draws.exponential(300.0, 3000))
    jobs = columns_trace(
        submit_s=submit_s, duration_s=draws.lognormal(8, 1.5, 3000), gpus=draws.choice([1, 2, 4, 8], 3000)
    )
    fleet = [cohort(V100, 2), cohort(nodes=3, delivered="2d")]
    run = simulate(jobs, fleet, queue="fifo_skip", usage_period="hour", horizon="20d")
    assert run["usage"]["gpu_hours"].min() > 1e-9  # type: ignore[operator]


def test_every_check_of_the_manifest_holds() -> None:
    """The laws are there by name, and each was met."""
    run = simulate(JOBS, PAIR, BUSY, **SCENARIO)
    checks = run.manifest["checks"]
    assert len(checks) >= 7
    assert all(check["holds"] and check["relative_error"] <= 1e-9 for check in checks)
    assert run.manifest["rows"] == {name: table.height for name, table in run.tables.items()}
