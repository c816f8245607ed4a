"""Real public logs, where they are at hand: counts and sums against the files themselves."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetsim_traces import detect, read_trace
from fleetsim_traces.profile import profile


def test_philly(real_traces: Path) -> None:
    path = real_traces / "philly" / "philly.csv"
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["timestamp"]]
    trace = read_trace(path)
    assert (trace.format, trace.rows_read, trace.jobs.num_rows) == ("philly", len(rows), len(rows))
    assert trace.rejected == {}
    facts = profile(trace)
    assert facts["gpu_hours"] == pytest.approx(sum(float(row["gpu_time"]) for row in rows) / 3600, rel=1e-12)
    assert {t["tenant"] for t in facts["tenants"]["top"]} <= {row["cluster"] for row in rows}
    assert "6214e9" in {t["tenant"] for t in facts["tenants"]["top"]}
    repeats = len(rows) - len({tuple(row.values()) for row in rows})
    assert any(note.startswith(f"{repeats} rows repeat") for note in trace.notes)
    by_line = {row["job_id"]: row for row in trace.jobs.slice(0, 100).to_pylist()}
    assert trace.epoch is not None
    for line, job in by_line.items():  # the header is line 1
        assert float(rows[int(line) - 2]["duration"]) == job["duration_s"]


def test_nasa(real_traces: Path) -> None:
    path = real_traces / "swf" / "NASA-iPSC-1993-3.1-cln.swf.gz"
    assert detect(path) == "swf"
    trace = read_trace(path)
    assert (trace.jobs.num_rows, trace.rejected) == (18_239, {})
    assert trace.epoch == datetime(1993, 10, 1, 7, 0, 3, tzinfo=UTC)  # the header: 00:00:03 PDT
    assert max(trace.jobs["gpus"].to_pylist()) == 128
    assert trace.jobs.slice(1, 1).to_pylist()[0]["duration_s"] == 3726


def test_lublin(real_traces: Path) -> None:
    trace = read_trace(real_traces / "swf" / "lublin_256.swf")
    assert (trace.jobs.num_rows, trace.rejected, trace.epoch) == (10_000, {}, None)
    assert set(trace.jobs["status"].to_pylist()) == {"completed"}
    assert set(trace.jobs["user"].to_pylist()) == {None}
