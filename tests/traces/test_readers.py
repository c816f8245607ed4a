"""Exact readings of tiny files, with the arithmetic in sight."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fleetsim_traces import TraceError, read_trace

HEADER = "timestamp,duration,num_gpus,gpu_time,cluster\n"
HOUR_S = 3600


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def column(path: Path, name: str, **options: Any) -> list[Any]:
    values: list[Any] = read_trace(path, **options).jobs[name].to_pylist()
    return values


# Philly


def test_philly_row_by_row(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p",
        HEADER + "2017-10-09 07:01:55,66.0,1,66.0,6214e9\n2017-10-09 06:01:55,100.5,4,402.0,103959\n\n",
    )
    trace = read_trace(path)
    assert trace.epoch == datetime(2017, 10, 9, 13, 1, 55, tzinfo=UTC)  # 06:01:55 PDT is UTC-7
    assert trace.jobs.select(["job_id", "submit_s", "duration_s", "gpus", "tenant"]).to_pylist() == [
        {"job_id": "3", "submit_s": 0.0, "duration_s": 100.5, "gpus": 4, "tenant": "103959"},
        {"job_id": "2", "submit_s": 3600.0, "duration_s": 66.0, "gpus": 1, "tenant": "6214e9"},
    ]
    assert trace.jobs["workload_class"].to_pylist() == ["training"] * 2
    assert trace.jobs["gpu_share"].to_pylist() == [1.0] * 2
    assert "Rows were not in order of submission; they were sorted." in trace.notes


def test_philly_clocks_go_back(tmp_path: Path) -> None:
    rows = "2017-11-05 00:30:00,1,1,1,a\n2017-11-05 01:30:00,1,1,1,a\n2017-11-05 02:30:00,1,1,1,a\n"
    path = write(tmp_path / "p", HEADER + rows)
    # 00:30 and 01:30 are PDT (01:30 the first time), 02:30 is PST: 1 h, then 2 h later
    assert column(path, "submit_s") == [0, HOUR_S, 3 * HOUR_S]
    assert any(note.startswith("1 timestamps happened twice") for note in read_trace(path).notes)


def test_philly_time_that_never_was(tmp_path: Path) -> None:
    path = write(tmp_path / "p", HEADER + "2018-03-11 02:30:00,1,1,1,a\n2018-03-11 03:30:00,1,1,1,a\n")
    trace = read_trace(path, bad_rows="drop")
    assert trace.rejected == {"timestamp never was in America/Los_Angeles": 1}
    assert trace.samples[0].place == f"{path}:2"


def test_philly_keeps_and_notes_equal_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "p", HEADER + "2017-10-09 07:00:00,1,1,1,a\n" * 3)
    trace = read_trace(path)
    assert trace.jobs["job_id"].to_pylist() == ["2", "3", "4"]
    assert trace.notes[0].startswith("2 rows repeat another row exactly")


def test_philly_notes_gpu_time_that_does_not_multiply(tmp_path: Path) -> None:
    path = write(tmp_path / "p", HEADER + "2017-10-09 07:00:00,10,2,21,a\n2017-10-09 07:00:00,10,2,20,a\n")
    assert read_trace(path).notes == ("1 rows have a gpu_time that is not duration x num_gpus; not used.",)


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "p", "\ufeff" + HEADER.replace("\n", "\r\n") + "2017-10-09 07:00:00,1,1,1,a\r\n")
    assert column(path, "tenant") == ["a"]


# Standard Workload Format


def test_swf_row_by_row(tmp_path: Path) -> None:
    text = (
        "; UnixStartTime: 1000000000\n; Computer: Toy\n"
        "\n  7\t100  30  50  8 -1 -1 16 60 -1 1 3 4 -1 0 -1 -1 -1  \r\n"
        "8 200 -1 0 -1 -1 -1 16 -1 -1 -1 -1 -1 -1 0 -1 -1 -1"
    )
    trace = read_trace(write(tmp_path / "s", text))
    assert trace.epoch == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    assert trace.notes == ("Computer: Toy.",)
    first, second = trace.jobs.to_pylist()
    assert (first["job_id"], first["submit_s"], first["start_s"]) == ("7", 100, 100 + 30)
    assert (first["duration_s"], first["estimate_s"], first["gpus"]) == (
        50,
        60,
        8,
    )  # allocated, not requested
    assert (first["tenant"], first["user"], first["status"]) == ("group-4", "user-3", "completed")
    assert (second["start_s"], second["duration_s"], second["estimate_s"]) == (None, 0, None)
    assert (second["gpus"], second["tenant"], second["user"], second["status"]) == (16, "unknown", None, None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1 0 -1 -1 4 -1 -1 4 -1 -1 5 -1 -1 -1 -1 -1 -1 -1", "run time is unknown"),
        ("1 0 -1 5 0 -1 -1 -1 -1 -1 5 -1 -1 -1 -1 -1 -1 -1", "processors are unknown or not above 0"),
        ("1 0 -1 5 4 -1 -1 4 -1 -1 3 -1 -1 -1 -1 -1 -1 -1", "part of a job (status 2, 3 or 4)"),
        ("1 0 -1 five 4 -1 -1 4 -1 -1 1 -1 -1 -1 -1 -1 -1 -1", "field 4 is not a number"),
        ("1 -9 -1 5 4 -1 -1 4 -1 -1 1 -1 -1 -1 -1 -1 -1 -1", "submit_s is negative"),
        ("1 0 -1 5 1.5 -1 -1 4 -1 -1 1 -1 -1 -1 -1 -1 -1 -1", "gpus is not a whole number"),
        ("1 0 -1 5 4", "wrong number of fields"),
        ("1 0 -1 5 4 -1 -1 4 -1 -1 1 -1 -1 -1 -1 -1 -1 -1 99", "wrong number of fields"),
        ("2 9 -1 5 4 -1 -1 4 -1 -1 1 -1 -1 -1 -1 -1 -1 -1", "job_id repeats an earlier row"),
    ],
)
def test_swf_rejects_by_reason(tmp_path: Path, row: str, reason: str) -> None:
    good = "2 9 -1 5 4 -1 -1 4 -1 -1 1 -1 -1 -1 -1 -1 -1 -1"
    path = write(tmp_path / "s", f"; comment with: eighteen\n{good}\n; remark\n{row}\n")
    trace = read_trace(path, bad_rows="drop")
    assert trace.rejected == {reason: 1}
    assert trace.samples[0].place == f"{path}:4"


def test_swf_without_a_date(tmp_path: Path) -> None:
    row = "1 5 -1 5 4 -1 -1 4 -1 -1 1 -1 -1 -1 -1 -1 -1 -1\n"
    for header, said in (("", "no UnixStartTime"), ("; UnixStartTime: soon\n", "'soon' is not a time")):
        trace = read_trace(write(tmp_path / "s", header + row), "swf")
        assert trace.epoch is None
        assert said in trace.notes[0]
        assert trace.jobs["submit_s"].to_pylist() == [5]  # the log's own zero


# Generic


def test_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "g", "submit_s,gpus,duration_s\n" + "1,1,1\n0,1,1\n" * 5000)
    lines = [int(job_id) for job_id in column(path, "job_id")]
    assert lines == [*range(3, 10_002, 2), *range(2, 10_002, 2)]


@pytest.mark.parametrize(
    ("unit", "cell", "seconds"),
    [
        ("ns", "1500000000", 1.5), ("us", "3000", 0.003), ("ms", "3", 0.003), ("s", "1.5", 1.5),
        ("min", "1.5", 90), ("h", "2", 7200), ("d", "1", 86400),
    ],
)  # fmt: skip
def test_generic_units(tmp_path: Path, unit: str, cell: str, seconds: float) -> None:
    path = write(tmp_path / "g", f"t,d,n\n0,{cell},1\n{cell},{cell},1\n")
    columns = {
        "submit_s": {"column": "t", "unit": unit},
        "duration_s": {"column": "d", "unit": unit},
        "gpus": "n",
    }
    assert column(path, "duration_s", columns=columns) == [seconds, seconds]
    assert column(path, "submit_s", columns=columns) == [0, seconds]


def test_generic_numbers_with_and_without_an_epoch(tmp_path: Path) -> None:
    path = write(tmp_path / "g", "t,d,n\n1500.5,1,1\n1000.25,1,1\n")
    columns = {"submit_s": {"column": "t"}, "duration_s": "d", "gpus": "n"}
    assert read_trace(path, columns=columns).epoch is None
    trace = read_trace(path, columns={**columns, "epoch": "1970-01-01T01:00:00+01:00"})
    assert trace.epoch == datetime(1970, 1, 1, 0, 16, 40, tzinfo=UTC)  # 1000 s: whole second of the first
    assert trace.jobs["submit_s"].to_pylist() == [0.25, 500.5]


def test_generic_timestamps(tmp_path: Path) -> None:
    path = write(
        tmp_path / "g",
        "t,d,n\n"
        "2020-01-01T00:00:00Z,1,1\n"
        "2020-01-01 00:00:00-0100,2,1\n"  # 01:00 UTC
        "2020-01-01 04:30:00.25,3,1\n",  # +02:30 by the zone: 02:00:00.25 UTC
    )
    columns = {"submit_s": {"column": "t", "zone": "Etc/GMT-2"}, "duration_s": "d", "gpus": "n"}
    assert column(path, "submit_s", columns=columns) == [0, HOUR_S, 2.5 * HOUR_S + 0.25]


def test_generic_own_timestamp_format(tmp_path: Path) -> None:
    path = write(tmp_path / "g", "t,d,n\n31/12/2019 23:00,1,1\n01/01/2020 00:30,1,1\n")
    when = {"column": "t", "zone": "UTC", "format": "%d/%m/%Y %H:%M"}
    assert column(path, "submit_s", columns={"submit_s": when, "duration_s": "d", "gpus": "n"}) == [0, 5400]


def test_generic_end_minus_start(tmp_path: Path) -> None:
    path = write(tmp_path / "g", "a,b,c,n\n10,15,40,1\n10,15,14,1\n10,,14,1\n")
    columns = {"submit_s": "a", "start_s": "b", "end_s": "c", "gpus": "n"}
    trace = read_trace(path, columns=columns, bad_rows="drop")
    assert trace.jobs.select(["submit_s", "start_s", "duration_s"]).to_pylist() == [
        {"submit_s": 0, "start_s": 5, "duration_s": 40 - 15}
    ]
    assert trace.rejected == {"end_s is before start_s": 1, "start_s is missing": 1}


def test_generic_constants_defaults_maps_and_shares(tmp_path: Path) -> None:
    path = write(tmp_path / "g", 'id,t,d,n,vc,st,sh,mem\nx,0,1,2,,DONE,50,16\n"y,""z""",0,1,2,b,ODD,,32\n')
    columns = {
        "job_id": "id",
        "submit_s": "t",
        "duration_s": "d",
        "gpus": "n",
        "tenant": {"column": "vc", "value": "nobody"},
        "status": {"column": "st", "map": {"DONE": "completed"}},
        "gpu_share": {"column": "sh", "unit": "percent", "value": 0.25},
        "min_memory_gb": {"column": "mem", "unit": "GiB"},
        "workload_class": {"value": "inference"},
        "priority": {"value": -3},
    }
    first, second = read_trace(path, columns=columns).jobs.to_pylist()
    assert (first["job_id"], first["tenant"], first["status"], first["gpu_share"]) == (
        "x",
        "nobody",
        "completed",
        0.5,
    )
    assert (second["job_id"], second["tenant"], second["status"]) == ('y,"z"', "b", "ODD")
    assert second["gpu_share"] == 0.25
    assert first["min_memory_gb"] == pytest.approx(16 * 2**30 / 1e9, rel=1e-6)
    assert [(r["workload_class"], r["priority"]) for r in (first, second)] == [("inference", -3)] * 2


def test_generic_cpu_and_memory_and_jobs_of_cpu_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "g", "t,d,n,c,m\n0,1,1,0.5,16\n1,1,0,2,\n2,1,0,0,4\n3,1,0,,4\n4,1,-1,2,1\n")
    columns = {
        "submit_s": "t",
        "duration_s": "d",
        "gpus": "n",
        "cpu_milli": {"column": "c", "unit": "core"},
        "memory_mib": {"column": "m", "unit": "GiB"},
    }
    trace = read_trace(path, columns=columns, bad_rows="drop")
    found = [(row["gpus"], row["cpu_milli"], row["memory_mib"]) for row in trace.jobs.to_pylist()]
    assert found == [(1, 500, 16384), (0, 2000, None)]
    assert trace.rejected == {"gpus is below 1": 2, "gpus is negative": 1}


def test_generic_lines_count_breaks_inside_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "g", 't,d,n,vc\n0,1,1,"two\nlines"\n0,1,0,a\n0,1\n\n0,x,1,a\n')
    columns = {"submit_s": "t", "duration_s": "d", "gpus": "n", "tenant": "vc"}
    places = [problem.place for problem in read_trace(path, columns=columns, bad_rows="drop").samples]
    assert sorted(places) == [f"{path}:{line}" for line in (4, 5, 7)]


def test_generic_takes_the_job_tables_own_names(tmp_path: Path) -> None:
    path = write(tmp_path / "g", "line,submit_s,gpus,duration_s,estimate_s\n9,1,2,3,\n9,2,2,3,4\n")
    trace = read_trace(path)
    assert trace.jobs.select(["job_id", "submit_s", "estimate_s"]).to_pylist() == [
        {"job_id": "2", "submit_s": 0, "estimate_s": None},
        {"job_id": "3", "submit_s": 1, "estimate_s": 4},
    ]


def test_generic_parquet(tmp_path: Path) -> None:
    path = tmp_path / "g"
    times = [datetime(2020, 1, 1, 0, 0, 2, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), None]
    table = {
        "t": pa.array(times, pa.timestamp("ms", "Asia/Tokyo")),
        "d": pa.array([1, 2, 3], pa.int16()),
        "n": pa.array(["1", "2", "3"]),
        "vc": pa.array(["a", "b", "a"]).dictionary_encode(),
    }
    pq.write_table(pa.table(table), path)
    trace = read_trace(
        path, columns={"submit_s": "t", "duration_s": "d", "gpus": "n", "tenant": "vc"}, bad_rows="drop"
    )
    assert trace.epoch == datetime(2020, 1, 1, tzinfo=UTC)
    assert trace.jobs.select(["job_id", "submit_s", "duration_s", "gpus", "tenant"]).to_pylist() == [
        {"job_id": "2", "submit_s": 0, "duration_s": 2, "gpus": 2, "tenant": "b"},
        {"job_id": "1", "submit_s": 2, "duration_s": 1, "gpus": 1, "tenant": "a"},
    ]
    assert trace.rejected == {"submit_s is missing": 1}


def test_generic_parquet_types_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "g"
    naive = pa.array([datetime(2020, 1, 1)], pa.timestamp("us"))
    pq.write_table(pa.table({"t": naive, "d": naive, "n": pa.array([[1]]), "m": pa.array([1])}), path)
    columns = {"submit_s": "t", "duration_s": "d", "gpus": "n"}
    with pytest.raises(TraceError, match=r"column 'n' holds 'list<"):
        read_trace(path, columns=columns)
    with pytest.raises(TraceError) as caught:
        read_trace(path, columns={**columns, "gpus": "m"})
    assert [p.message for p in caught.value.problems] == [
        "column 't' holds timestamps without a zone",
        "column 'd' holds timestamps, duration_s needs another kind",
    ]


def test_generic_clocks_must_agree(tmp_path: Path) -> None:
    path = write(tmp_path / "g", "t,s,d,n\n2020-01-01T00:00:00Z,1,1,1\n")
    stamped = {"column": "t", "zone": "UTC"}
    columns = {
        "submit_s": stamped,
        "start_s": "s",
        "duration_s": "d",
        "gpus": "n",
        "epoch": "2020-01-01T00:00Z",
    }
    with pytest.raises(TraceError) as caught:
        read_trace(path, columns=columns)
    assert [p.message for p in caught.value.problems] == [
        "submit_s are timestamps, start_s numbers",
        "an epoch, but times are timestamps",
    ]
