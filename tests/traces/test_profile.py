"""Numbers of a profile that can be checked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleetsim_traces import Trace, TraceError, read_trace
from fleetsim_traces.profile import profile

# Thursday 2020-01-02 03:30 UTC and after; GPU-hours 1, 3, 0, 4
ROWS = """\
t,d,n,who,u,st,sh
2020-01-02T03:30:00Z,3600,1,a,x,ok,1
2020-01-02T03:59:59Z,5400,2,b,y,ok,1
2020-01-02T04:00:00Z,0,8,b,y,bad,1
2020-01-03T03:30:00Z,7200,4,b,,ok,0.5
2020-01-03T03:30:00Z,-1,4,b,,ok,0.5
"""
COLUMNS = {
    "submit_s": {"column": "t", "zone": "UTC"},
    "duration_s": "d", "gpus": "n", "tenant": "who", "user": "u", "status": "st", "gpu_share": "sh",
}  # fmt: skip


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    path = tmp_path / "g.csv"
    path.write_text(ROWS)
    return read_trace(path, columns=COLUMNS, bad_rows="drop")


def test_totals(trace: Trace) -> None:
    facts = profile(trace)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert (facts["jobs"], facts["rows_read"], facts["rejected"]) == (4, 5, {"duration_s is negative": 1})
    assert facts["span_s"] == 86400
    assert facts["gpu_hours"] == pytest.approx(1 * 1 + 2 * 1.5 + 8 * 0 + 4 * 0.5 * 2)  # 8
    assert facts["mean_gpus"] == pytest.approx(8 / 24)
    assert facts["users"] == 2
    assert (facts["epoch"], facts["format"], facts["generated"]) == (
        "2020-01-02T03:30:00+00:00",
        "generic",
        False,
    )


def test_gpu_counts(trace: Trace) -> None:
    rows = profile(trace)["gpus"]
    assert [(r["gpus"], r["jobs"], r["jobs_share"]) for r in rows] == [
        (1, 1, 0.25), (2, 1, 0.25), (4, 1, 0.25), (8, 1, 0.25),
    ]  # fmt: skip
    assert [r["gpu_hours"] for r in rows] == pytest.approx([1, 3, 4, 0])
    assert [r["gpu_hours_share"] for r in rows] == pytest.approx([1 / 8, 3 / 8, 4 / 8, 0])


def test_duration_quantiles(trace: Trace) -> None:
    facts = profile(trace)["duration_s"]
    assert facts["mean"] == (3600 + 5400 + 0 + 7200) / 4
    # sorted 0, 3600, 5400, 7200: half of the jobs are no longer than 3600 s
    assert (facts["by_jobs"]["p25"], facts["by_jobs"]["p50"], facts["by_jobs"]["p75"]) == (0, 3600, 5400)
    # GPU-hours 0, 1, 3, 4 of 8: half of them is reached at 5400 s exactly, 5 % in the first hour
    assert (facts["by_gpu_time"]["p5"], facts["by_gpu_time"]["p50"], facts["by_gpu_time"]["max"]) == (
        3600,
        5400,
        7200,
    )


def test_arrivals_in_a_zone(trace: Trace) -> None:
    utc = profile(trace)["arrivals"]
    assert (utc["zone"], utc["by_hour"][3], utc["by_hour"][4], sum(utc["by_hour"])) == ("UTC", 3, 1, 4)
    assert utc["by_weekday"] == [0, 0, 0, 3, 1, 0, 0]  # Thursday, Friday
    there = profile(trace, zone="America/Los_Angeles")["arrivals"]  # UTC-8: the evening before
    assert (there["by_hour"][19], there["by_hour"][20]) == (3, 1)
    assert there["by_weekday"] == [0, 0, 3, 1, 0, 0, 0]
    for zone in ("Mars/Base", "*", "", "../etc/passwd", "localtime"):
        with pytest.raises(TraceError, match="no time zone"):
            profile(trace, zone=zone)


def test_concentration(trace: Trace) -> None:
    facts = profile(trace)["tenants"]
    assert facts["count"] == 2
    assert [(t["tenant"], t["jobs"]) for t in facts["top"]] == [("b", 3), ("a", 1)]
    # two tenants with shares p and 1-p: Gini |p - 1/2|, HHI p^2 + (1-p)^2
    assert facts["gini_jobs"] == pytest.approx(0.75 - 0.5)
    assert facts["gini_gpu_hours"] == pytest.approx(7 / 8 - 0.5)
    assert facts["hhi_jobs"] == pytest.approx(0.75**2 + 0.25**2)
    assert facts["hhi_gpu_hours"] == pytest.approx((49 + 1) / 64)
    assert [t["tenant"] for t in profile(trace, top=1)["tenants"]["top"]] == ["b"]


def test_status(trace: Trace) -> None:
    rows = profile(trace)["status"]
    assert [(r["status"], r["jobs"], r["gpu_hours"]) for r in rows] == [("ok", 3, 8.0), ("bad", 1, 0.0)]


def test_one_job_that_does_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.swf"
    path.write_text("1 7200 -1 0 4 -1 -1 4 -1 -1 1 -1 -1 -1 -1 -1 -1 -1\n")
    facts = profile(read_trace(path))
    json.dumps(facts, allow_nan=False)
    assert (facts["gpu_hours"], facts["mean_gpus"], facts["users"], facts["epoch"]) == (0, None, None, None)
    assert facts["gpus"][0]["gpu_hours_share"] == 0
    assert facts["arrivals"] == {"zone": None, "by_hour": [0, 0, 1] + [0] * 21, "by_weekday": None}
    assert (facts["tenants"]["gini_gpu_hours"], facts["tenants"]["hhi_gpu_hours"]) == (0, 0)
    assert set(facts["duration_s"]["by_gpu_time"].values()) == {0}
