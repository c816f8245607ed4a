"""Write rows in a format, read them back: what comes out is what went in."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetsim_traces import READERS, TraceError, read_trace, write_jobs
from fleetsim_traces.philly import HEADER, ZONE

Row = tuple[float, float, int, str]
seconds = st.integers(0, 10**9)
gpus = st.integers(1, 10**6)
words = (
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
    .map(str.strip)
    .filter(bool)
)
rows = st.lists(st.tuples(seconds, seconds, gpus, words), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("round")


def read_back(path: Path, **options: Any) -> list[Row]:
    table = read_trace(path, **options).jobs
    return [
        tuple(row.values()) for row in table.select(["submit_s", "duration_s", "gpus", "tenant"]).to_pylist()
    ]


def from_first(given_rows: list[Row]) -> list[Row]:
    """Sorted by submission, ties in file order, counted from the first."""
    zero = min(row[0] for row in given_rows)
    return [(s - zero, d, n, who) for s, d, n, who in sorted(given_rows, key=lambda row: row[0])]


@given(rows)
@settings(deadline=None)
def test_generic_csv(folder: Path, given_rows: list[Row]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("t", "d", "n", "who"), *given_rows])
    path = folder / "g"
    path.write_bytes(gzip.compress(text.getvalue().encode()))
    columns = {"submit_s": "t", "duration_s": "d", "gpus": "n", "tenant": "who"}
    assert read_back(path, columns=columns) == from_first(given_rows)


@given(rows)
@settings(deadline=None)
def test_philly_local_time(folder: Path, given_rows: list[Row]) -> None:
    start = datetime(2017, 8, 1, tzinfo=UTC)
    local, expected = [], []
    for submit_s, duration_s, n, _ in given_rows:
        instant = (start + timedelta(seconds=submit_s)).astimezone(ZoneInfo(ZONE)).replace(fold=0)
        local.append(f"{instant:%Y-%m-%d %H:%M:%S},{duration_s},{n},{duration_s * n},6214e9")
        expected.append((instant.timestamp(), duration_s, n, "6214e9"))
    path = folder / "p"
    path.write_text(",".join(HEADER) + "\n" + "\n".join(local))
    assert read_back(path) == from_first(expected)


@given(st.lists(st.tuples(seconds, seconds, gpus, st.integers(0, 99)), min_size=1, max_size=30))
@settings(deadline=None)
def test_swf(folder: Path, given_rows: list[tuple[int, int, int, int]]) -> None:
    lines = [
        f"{i} {s} -1 {d} {n} -1 -1 -1 -1 -1 1 -1 {g} -1 -1 -1 -1 -1"
        for i, (s, d, n, g) in enumerate(given_rows)
    ]
    path = folder / "s"
    path.write_text("\n".join(["; UnixStartTime: 0", *lines]))
    expected = [(s, d, n, f"group-{g}") for s, d, n, g in sorted(given_rows, key=lambda row: row[0])]
    assert read_back(path) == expected


@given(rows)
@settings(deadline=None)
def test_job_table(folder: Path, given_rows: list[Row]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("submit_s", "duration_s", "gpus", "tenant"), *given_rows])
    path = folder / "t"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    first = read_trace(path)
    assert read_trace(write_jobs(first, folder / "t.parquet")).jobs.equals(first.jobs, check_metadata=True)


@given(
    st.binary(max_size=400)
    | st.binary(max_size=200).map(lambda junk: b",".join(map(str.encode, HEADER)) + b"\n" + junk)
)
@settings(max_examples=100, deadline=None)
def test_bytes_never_crash(folder: Path, junk: bytes) -> None:
    path = folder / "junk"
    path.write_bytes(junk)
    for form in ("auto", *READERS):
        try:
            trace = read_trace(path, form, bad_rows="drop")
        except TraceError as error:
            assert error.problems
        else:
            assert trace.rows_read == trace.jobs.num_rows + sum(trace.rejected.values())
