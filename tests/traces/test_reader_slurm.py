"""Slurm accounting: GPUs in TRES lists, spans, states, requeues, arrays, zones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetsim_traces import TraceError, read_trace

DEFAULT = {
    "JobID": "1",
    "User": "ann",
    "Account": "ml",
    "State": "COMPLETED",
    "Submit": "2024-03-09T12:00:00",
    "Start": "2024-03-09T12:00:10",
    "End": "2024-03-09T12:01:10",
    "Elapsed": "00:01:00",
    "Timelimit": "02:00:00",
    "Priority": "4294901",
    "ReqTRES": "billing=8,cpu=8,gres/gpu=2,mem=64G,node=1",
    "AllocTRES": "billing=8,cpu=8,gres/gpu=2,mem=64G,node=1",
}


def log(path: Path, *changes: dict[str, str], drop: tuple[str, ...] = (), tail: str = "") -> Path:
    names = [name for name in DEFAULT if name not in drop]
    lines = ["|".join(names) + tail]
    lines += ["|".join(str({**DEFAULT, **change}[name]) for name in names) + tail for change in changes]
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path: Path, name: str, **options: Any) -> list[Any]:
    values: list[Any] = read_trace(path, **options).jobs[name].to_pylist()
    return values


@pytest.mark.parametrize(
    ("tres", "gpus"),
    [
        ("cpu=8,gres/gpu=4,node=1", 4),
        ("gres/gpu=16", 16),
        ("cpu=8,gres/gpu:a100=8", 8),
        ("cpu=8,gres/gpu:a100=8,gres/gpu=8,mem=500G", 8),  # both: one and the same
        ("gres/gpu=8,gres/gpu:a100=8", 8),
        ("gres/gpu:a=2,gres/gpu:b=3", 5),
        ("gres/gpumem=80,gres/gpu=1,gres/gpuutil=99", 1),
        ("gres/gpu:nvidia_h100_80gb_hbm3=4", 4),
    ],
)
def test_gpus_of_a_tres_list(tmp_path: Path, tres: str, gpus: int) -> None:
    assert read(log(tmp_path / "s", {"AllocTRES": tres}), "gpus") == [gpus]
    assert read(log(tmp_path / "s", {"AllocTRES": "", "ReqTRES": tres}), "gpus") == [gpus]


@pytest.mark.parametrize(
    "gres", ["gpu:3", "gpu:a100:3", "gpu:a100:3(S:0-1)", "gpu:a:1,gpu:b:2", "lscratch:1,gpu:3"]
)
def test_gpus_of_an_old_gres_list(tmp_path: Path, gres: str) -> None:
    text = "|".join(DEFAULT).replace("AllocTRES", "AllocGRES").replace("ReqTRES", "ReqGRES")
    values = {**DEFAULT, "AllocTRES": gres, "ReqTRES": ""}
    (tmp_path / "s").write_text(text + "\n" + "|".join(values.values()) + "\n")
    assert read(tmp_path / "s", "gpus") == [3]


def test_the_type_asked_for_is_the_model(tmp_path: Path) -> None:
    path = log(
        tmp_path / "s",
        {"ReqTRES": "gres/gpu:h100=2", "AllocTRES": "gres/gpu=2,gres/gpu:h100=2"},
        {"JobID": "2", "ReqTRES": "gres/gpu=2", "AllocTRES": "gres/gpu=2,gres/gpu:h100=2"},
        {"JobID": "3", "ReqTRES": "gres/gpu:a100_1g.5gb=1", "AllocTRES": "gres/gpu:a100_1g.5gb=1"},
        {"JobID": "4", "ReqTRES": "gres/gpu:2g.12gb=1", "AllocTRES": "gres/gpu:2g.12gb=1"},
    )
    assert read(path, "gpu_model") == ["h100", None, None, None]
    assert read(path, "gpu_share") == pytest.approx([1, 1, 1 / 7, 2 / 4])  # the A30 has four slices
    assert read(path, "min_memory_gb") == [None, None, 5, 12]


@pytest.mark.parametrize(
    ("tres", "cpu_milli", "memory_mib"),
    [
        ("billing=8,cpu=8,gres/gpu=2,mem=64G,node=1", 8000, 65536),
        ("mem=500M,cpu=1,gres/gpu=2", 1000, 500),
        ("gres/gpu=2,mem=1.5T", None, 1572864),
        ("gres/gpu=2,mem=1025K", None, 2),  # rounded up
        ("gres/gpu=2,mem=4000,gres/gpumem=80G", None, 4000),
    ],
)
def test_cpu_and_memory_of_a_tres_list(
    tmp_path: Path, tres: str, cpu_milli: int | None, memory_mib: int
) -> None:
    path = log(tmp_path / "s", {"AllocTRES": tres, "ReqTRES": ""})
    assert (read(path, "cpu_milli"), read(path, "memory_mib")) == ([cpu_milli], [memory_mib])
    path = log(tmp_path / "s", {"AllocTRES": "", "ReqTRES": tres})
    assert (read(path, "cpu_milli"), read(path, "memory_mib")) == ([cpu_milli], [memory_mib])


def test_jobs_of_cpu_alone_are_taken_where_they_are_wanted(tmp_path: Path) -> None:
    none = {"JobID": "2", "AllocTRES": "cpu=4,mem=8G", "ReqTRES": "cpu=4,mem=8G"}
    neither = {"JobID": "3", "AllocTRES": "node=1", "ReqTRES": "node=1"}
    path = log(tmp_path / "s", {}, none, neither)
    assert read(path, "job_id") == ["1"]
    assert read(path, "gpus", cpu_jobs=True) == [2, 0]
    assert read(path, "cpu_milli", cpu_jobs=True) == [8000, 4000]
    assert dict(read_trace(path, cpu_jobs=True).skipped) == {"no GPU asked for": 1}


@pytest.mark.parametrize(
    ("elapsed", "seconds"),
    [
        ("00:00:00", 0),
        ("01:00", 60),
        ("10:00:01", 36001),
        ("1-02:03:04", 93784),
        ("123-00:00:00.500", 10627200),
    ],
)
def test_elapsed(tmp_path: Path, elapsed: str, seconds: int) -> None:
    assert read(log(tmp_path / "s", {"Elapsed": elapsed}), "duration_s") == [seconds]


def test_end_minus_start_where_elapsed_is_absent(tmp_path: Path) -> None:
    assert read(log(tmp_path / "s", {}, drop=("Elapsed",)), "duration_s") == [60]


@pytest.mark.parametrize(
    ("limit", "seconds"), [("2-00:00:00", 172800), ("UNLIMITED", None), ("Partition_Limit", None), ("", None)]
)
def test_time_limit(tmp_path: Path, limit: str, seconds: int | None) -> None:
    assert read(log(tmp_path / "s", {"Timelimit": limit}), "estimate_s") == [seconds]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("CANCELLED by 1000", "cancelled"),
        ("CANCELLED+", "cancelled"),
        ("TIMEOUT", "timeout"),
        ("OUT_OF_MEMORY", "out_of_memory"),
        ("NODE_FAIL", "node_fail"),
        ("FAILED", "failed"),
    ],
)
def test_states(tmp_path: Path, state: str, status: str) -> None:
    assert read(log(tmp_path / "s", {"State": state}), "status") == [status]


def test_steps_arrays_and_pending_jobs(tmp_path: Path) -> None:
    path = log(
        tmp_path / "s",
        {"JobID": "12_1"},
        {"JobID": "12_2"},
        {"JobID": "12_[3-5%2]", "State": "PENDING", "Start": "Unknown", "End": "Unknown"},
        {"JobID": "12_1.batch", "AllocTRES": "", "ReqTRES": ""},
        {"JobID": "12_1.0", "Submit": "Unknown"},
        {"JobID": "13", "State": "CANCELLED by 0", "Start": "None", "End": "2024-03-09T12:01:10"},
        {"JobID": "14+0"},
        {"JobID": "15", "AllocTRES": "cpu=2", "ReqTRES": "cpu=2"},
    )
    trace = read_trace(path)
    assert trace.jobs["job_id"].to_pylist() == ["12_1", "12_2", "14+0"]
    assert trace.skipped == {"never started": 2, "no GPU asked for": 1}
    assert trace.notes[0] == "2 rows left out: steps of jobs."


def test_requeued_runs_become_one_job(tmp_path: Path) -> None:
    path = log(
        tmp_path / "s",
        {"State": "PREEMPTED"},
        {"JobID": "2"},
        {
            "State": "NODE_FAIL",
            "Submit": "2024-03-09T13:00:00",
            "Start": "2024-03-09T13:00:30",
            "Elapsed": "05:00",
        },
        {"Submit": "2024-03-09T14:00:00", "Start": "2024-03-09T14:00:30", "Elapsed": "1-00:00:00"},
    )
    trace = read_trace(path)
    assert trace.jobs.select(["job_id", "submit_s", "start_s", "duration_s", "status"]).to_pylist() == [
        {"job_id": "2", "submit_s": 0, "start_s": 10, "duration_s": 60, "status": "completed"},
        {"job_id": "1", "submit_s": 0, "start_s": 10, "duration_s": 60 + 300 + 86400, "status": "completed"},
    ]
    assert trace.skipped == {"an earlier run of a requeued job, counted in the last": 2}


def test_an_id_used_twice_is_no_requeue(tmp_path: Path) -> None:
    assert read_trace(log(tmp_path / "s", {}, {}), bad_rows="drop").rejected == {
        "job_id repeats an earlier row": 1
    }


def test_running_jobs_have_the_time_so_far(tmp_path: Path) -> None:
    trace = read_trace(log(tmp_path / "s", {"State": "RUNNING", "End": "Unknown"}))
    assert trace.jobs["status"].to_pylist() == ["running"]
    assert trace.notes[0] == "1 jobs were still running: their run time is so far."


def test_zone_and_clock_changes(tmp_path: Path) -> None:
    path = log(
        tmp_path / "s",
        {"Submit": "2024-03-10T01:30:00", "Start": "2024-03-10T03:00:00"},  # 02:00 to 03:00 never was
        {"JobID": "2", "Submit": "2024-03-10T02:30:00", "Start": "2024-03-10T03:00:00"},
    )
    trace = read_trace(path, zone="America/New_York", bad_rows="drop")
    assert trace.epoch == datetime(2024, 3, 10, 6, 30, tzinfo=UTC)
    assert trace.jobs["start_s"].to_pylist() == [1800]
    assert trace.rejected == {"Submit is not a timestamp": 1}
    assert trace.notes[-1] == "Times without an offset are in America/New_York."
    assert read_trace(path).jobs["start_s"].to_pylist() == [5400, 5400]  # UTC has no such hour
    with pytest.raises(TraceError, match=r"no time zone 'America/New_Yrok'\. Did you mean America/New_York"):
        read_trace(path, zone="America/New_Yrok")


def test_offsets_and_unix_seconds(tmp_path: Path) -> None:
    path = log(
        tmp_path / "s",
        {"Submit": "2024-03-09T12:00:00+0100", "Start": "2024-03-09T15:30:00+0400"},
        {"JobID": "2", "Submit": "2024-03-09T21:00:00", "Start": "2024-03-09T12:00:30Z"},
    )
    trace = read_trace(path, zone="Asia/Tokyo")
    assert trace.epoch == datetime(2024, 3, 9, 11, tzinfo=UTC)
    assert trace.jobs.select(["submit_s", "start_s"]).to_pylist() == [
        {"submit_s": 0, "start_s": 1800},
        {"submit_s": 3600, "start_s": 3630},
    ]
    stamps = {"Submit": "1700000000", "Start": "1700000005", "End": "1700000009"}
    trace = read_trace(log(tmp_path / "s", stamps, drop=("Elapsed",)))
    assert trace.epoch == datetime.fromtimestamp(1_700_000_000, UTC)
    assert trace.jobs.select(["start_s", "duration_s"]).to_pylist() == [{"start_s": 5, "duration_s": 4}]


def test_bar_at_the_end_of_each_line(tmp_path: Path) -> None:
    assert read(log(tmp_path / "s", {}, tail="|"), "gpus") == [2]


def test_columns_that_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"no column tells of GPUs\. Add AllocTRES"):
        read_trace(log(tmp_path / "s", {}, drop=("AllocTRES", "ReqTRES")))
    with pytest.raises(TraceError, match="no column State among"):
        read_trace(log(tmp_path / "s", {}, drop=("State",)), "sacct")


def test_overflowing_and_absurd_values(tmp_path: Path) -> None:
    path = log(
        tmp_path / "s",
        {"AllocTRES": "gres/gpu=4294967297"},
        {"JobID": "2", "Priority": "4294967296"},
        {"JobID": "3", "Elapsed": "99999999999-00:00:00"},
    )
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert "gpus is above 1,000,000: 1" in str(caught.value)
    assert "priority is above 2,147,483,647: 1" in str(caught.value)
    assert "duration_s is above 10,000,000,000 s: 1" in str(caught.value)


jobs = st.tuples(
    st.integers(0, 10**8),
    st.integers(0, 10**6),
    st.integers(0, 10**7),
    st.integers(1, 9999),
    st.sampled_from(["", "a100", "h100"]),
)


@given(st.lists(jobs, min_size=1, max_size=20))
@settings(deadline=None, max_examples=60)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, given_jobs: list[tuple[int, int, int, int, str]]
) -> None:
    path = tmp_path_factory.mktemp("sacct") / "s"
    lines, expected = [], []
    for i, (submit, wait, took, gpus, model) in enumerate(given_jobs):
        stamps = [
            datetime.fromtimestamp(s, UTC).strftime("%Y-%m-%dT%H:%M:%S") for s in (submit, submit + wait)
        ]
        days, rest = divmod(took, 86400)
        elapsed = f"{f'{days}-' if days else ''}{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
        tres = f"cpu=1,gres/gpu{f':{model}' if model else ''}={gpus}"
        lines.append(
            {
                "JobID": f"{i}",
                "Submit": stamps[0],
                "Start": stamps[1],
                "Elapsed": elapsed,
                "ReqTRES": tres,
                "AllocTRES": tres,
                "End": "Unknown",
            }
        )
        expected.append((submit, f"{i}", submit + wait, took, gpus, model or None))
    table = read_trace(log(path, *lines)).jobs
    zero = min(submit for submit, *_ in expected)
    names = ["submit_s", "job_id", "start_s", "duration_s", "gpus", "gpu_model"]
    assert [tuple(row.values()) for row in table.select(names).to_pylist()] == [
        (submit - zero, i, start - zero, took, gpus, model)
        for submit, i, start, took, gpus, model in sorted(expected, key=lambda row: row[0])
    ]
