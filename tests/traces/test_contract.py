"""What every reader promises, whatever it reads."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleetsim_traces import READERS, Trace, TraceError, detect, read_trace, schema, write_jobs
from fleetsim_traces.generate import generate_jobs

CSV = """\
when;took;cards;who;state
2020-03-01T10:00:05+08:00;1.5;2;ann;DONE
2020-03-01T02:00:00Z;oops;1;bob;DONE
2020-03-01T01:00:00Z;2;1;ann;KILLED
2020-03-01T01:00:00Z;0;0;bob;DONE
"""
COLUMNS = {
    "submit_s": {"column": "when", "zone": "UTC"},
    "duration_s": {"column": "took", "unit": "h"},
    "gpus": "cards",
    "tenant": "who",
    "status": {"column": "state", "map": {"DONE": "completed"}},
    "separator": ";",
}
PHILLY = """\
timestamp,duration,num_gpus,gpu_time,cluster
2017-10-09 07:01:55,66.0,1,66.0,6214e9
2017-10-09 06:13:03,2951.0,2,5902.0,11cb48
2017-10-09 06:13:03,-1,2,-2,11cb48

never,5.0,2,10.0,11cb48
"""
SWF = """\
; Version: 2.2
; UnixStartTime: 1000000000
  2  20  3  7  4 -1 -1  4 9 -1 1 5 6 -1 -1 -1 -1 -1
  1  10 -1  7 -1 -1 -1  8 -1 -1 0 -1 -1 -1 -1 -1 -1 -1
  3  30 -1 -1  4 -1 -1  4 -1 -1 5 -1 -1 -1 -1 -1 -1 -1
  4  40 -1  5  0 -1 -1 -1 -1 -1 5 -1 -1 -1 -1 -1 -1 -1
  5  50
"""


@dataclass(frozen=True)
class Case:
    """A file with *good* usable rows out of *rows*."""

    write: Callable[[Path], Any]
    rows: int
    good: int
    columns: dict[str, Any] | None = None
    detected: str = ""


def text(content: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(content)


CASES = {
    "generic": Case(text(CSV), 4, 2, COLUMNS, "generic"),
    "philly": Case(text(PHILLY), 4, 2, detected="philly"),
    "philly gzip": Case(lambda p: p.write_bytes(gzip.compress(PHILLY.encode())), 4, 2, detected="philly"),
    "swf": Case(text(SWF), 5, 2, detected="swf"),
    "swf gzip": Case(lambda p: p.write_bytes(gzip.compress(SWF.encode())), 5, 2, detected="swf"),
    "jobs": Case(lambda p: write_jobs(generate_jobs(jobs=50), p), 50, 50, detected="jobs"),
}


def test_every_reader_has_a_case() -> None:
    assert {case.detected for case in CASES.values()} == set(READERS)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def path(case: Case, tmp_path: Path) -> Path:
    path = tmp_path / "workload.dat"  # a name that says nothing
    case.write(path)
    return path


@pytest.fixture
def trace(case: Case, path: Path) -> Trace:
    return read_trace(path, columns=case.columns, bad_rows="drop")


def test_format_is_told_from_content(case: Case, path: Path) -> None:
    assert detect(path) == case.detected


def test_schema_is_exact(trace: Trace) -> None:
    assert trace.jobs.schema.equals(schema(), check_metadata=True)
    trace.jobs.validate(full=True)


def test_no_null_where_forbidden(trace: Trace) -> None:
    for field in schema():
        assert field.nullable or trace.jobs[field.name].null_count == 0, field.name


def test_rows_are_sorted_unique_and_in_range(trace: Trace) -> None:
    submit_s = trace.jobs["submit_s"].to_pylist()
    assert submit_s == sorted(submit_s)
    assert submit_s[0] >= 0
    assert len(set(trace.jobs["job_id"].to_pylist())) == trace.jobs.num_rows
    assert min(trace.jobs["gpus"].to_pylist()) >= 1
    assert min(trace.jobs["duration_s"].to_pylist()) >= 0


def test_epoch_is_utc(trace: Trace) -> None:
    assert trace.epoch is not None
    assert trace.epoch.utcoffset() == timedelta(0)


def test_counts_add_up(case: Case, trace: Trace) -> None:
    assert (trace.jobs.num_rows, trace.rows_read) == (case.good, case.rows)
    assert sum(trace.rejected.values()) == case.rows - case.good
    assert len(trace.samples) == case.rows - case.good  # all of these few are shown


def test_reading_again_gives_the_same(case: Case, path: Path, trace: Trace) -> None:
    again = read_trace(path, columns=case.columns, bad_rows="drop")
    assert again.jobs.equals(trace.jobs, check_metadata=True)
    assert (again.epoch, again.rejected, again.notes) == (trace.epoch, trace.rejected, trace.notes)


def test_written_table_reads_back_the_same(trace: Trace, tmp_path: Path) -> None:
    again = read_trace(write_jobs(trace, tmp_path / "jobs.parquet"))
    assert again.jobs.equals(trace.jobs, check_metadata=True)
    assert (again.epoch, again.format, again.generated) == (trace.epoch, trace.format, trace.generated)
    assert set(trace.notes) <= set(again.notes)
    for reason in trace.rejected:
        assert any(reason in note for note in again.notes)


def test_refusing_shows_counts_places_and_remedy(case: Case, path: Path, trace: Trace) -> None:
    if not trace.rejected:
        assert read_trace(path, columns=case.columns).jobs.equals(trace.jobs)
        return
    with pytest.raises(TraceError) as caught:
        read_trace(path, columns=case.columns)
    summary, *examples = caught.value.problems
    assert f"{case.rows - case.good} of {case.rows} rows" in summary.message
    assert "drop" in summary.remedy
    assert all(reason in summary.message for reason in trace.rejected)
    assert tuple(examples) == trace.samples
