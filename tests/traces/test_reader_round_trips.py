"""Rows written in the layout of each source and read back; files packed and bent in every way."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetsim_traces import TraceError, packed, read_trace, text
from fleetsim_traces.nodes import read_nodes
from fleetsim_traces.states import read_states

Row = tuple[int, int, int, int, str]  # submitted, waited, ran, GPUs, tenant
SHANGHAI = timedelta(hours=8)
names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
names = names.map(str.strip).filter(bool)
rows = st.lists(
    st.tuples(
        st.integers(0, 10**8), st.integers(0, 10**6), st.integers(0, 10**7), st.integers(1, 4096), names
    ),
    min_size=1,
    max_size=20,
)


def table(header: str, lines: list[list[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([header.split(","), *lines])
    return out.getvalue()


def local(second: int) -> str:
    return (datetime.fromtimestamp(second, UTC) + SHANGHAI).strftime("%Y-%m-%d %H:%M:%S")


def helios(given_rows: list[Row]) -> str:
    header = "job_id,user,vc,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration,queue"
    return table(
        header,
        [
            [i, "u", who, n, 1, 1, "COMPLETED", local(s), local(s + w), local(s + w + d), d, w]
            for i, (s, w, d, n, who) in enumerate(given_rows)
        ],
    )


def acme(given_rows: list[Row]) -> str:
    header = "job_id,user,node_num,gpu_num,type,state,submit_time,start_time,end_time,duration,queue,gpu_time"
    return table(
        header,
        [
            [
                i,
                who,
                1,
                n,
                "SFT",
                "COMPLETED",
                *(local(t) + "+08:00" for t in (s, s + w, s + w + d)),
                d,
                w,
                n * d,
            ]
            for i, (s, w, d, n, who) in enumerate(given_rows)
        ],
    )


def openb(given_rows: list[Row]) -> str:
    header = (
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,"
        "creation_time,deletion_time,scheduled_time"
    )
    return table(
        header,
        [
            [i, 1, 1, n, 1000, "", "LS", "Succeeded", s, s + w + d, s + w]
            for i, (s, w, d, n, _) in enumerate(given_rows)
        ],
    )


def dlrm(given_rows: list[Row]) -> str:
    header = "instance_sn,role,app_name,gpu_request,creation_time,scheduled_time,deletion_time"
    lines = [[i, "HN", who, n, s, s + w, s + w + d] for i, (s, w, d, n, who) in enumerate(given_rows)]
    return table(header, lines)


def spot(given_rows: list[Row]) -> str:
    header = (
        "job_name,organization,gpu_model,cpu_request,gpu_request,worker_num,submit_time,duration,job_type"
    )
    return table(
        header, [[i, who, "A10", 1, 1, n, s, d, "HP"] for i, (s, _, d, n, who) in enumerate(given_rows)]
    )


def supercloud(given_rows: list[Row]) -> str:
    header = (
        "id_job,id_user,partition,priority,state,timelimit,time_submit,time_start,time_end,"
        "tres_alloc,tres_req,nodelist"
    )
    tres = "1=20,1002={}"
    return table(
        header,
        [
            [i, 1, who, 1, 3, 60, s + 1, s + w + 1, s + w + d + 1, tres.format(n), "", "['a', 'b']"]
            for i, (s, w, d, n, who) in enumerate(given_rows)
        ],
    )


def philly_log(given_rows: list[Row]) -> str:
    def stamp(second: int) -> str:  # a summer without clock changes
        return (datetime(2017, 5, 1) + timedelta(seconds=second % 10**7)).strftime("%Y-%m-%d %H:%M:%S")

    jobs = []
    for i, (s, w, d, n, who) in enumerate(given_rows):
        begin = s % 10**6 + w
        attempt = {
            "start_time": stamp(begin),
            "end_time": stamp(begin + d % 10**6),
            "detail": [{"ip": "m", "gpus": ["gpu0"] * (n % 9 + 1)}],
        }
        jobs.append(
            {
                "jobid": str(i),
                "vc": who,
                "user": "u",
                "status": "Pass",
                "submitted_time": stamp(s % 10**6),
                "attempts": [attempt, attempt],
            }
        )
    return json.dumps(jobs)


def pai(given_rows: list[Row]) -> str:
    lines = [
        [f"j{i}", "w", n, "Terminated", s, s + d, 600, 29, 50, "T4"]
        for i, (s, _, d, n, _) in enumerate(given_rows)
    ]
    return table("", lines).lstrip("\r\n").lstrip('"\r\n')


# layout -> (writer, whether starts are known, whether tenants are, the row as read)
LAYOUTS: dict[str, tuple[Callable[[list[Row]], str], bool, bool]] = {
    "helios": (helios, True, True),
    "acme": (acme, True, False),
    "openb": (openb, True, False),
    "dlrm": (dlrm, True, True),
    "spot": (spot, False, True),
    "supercloud": (supercloud, True, True),
    "philly-log": (philly_log, True, True),
    "pai": (pai, False, False),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@given(given_rows=rows)
@settings(deadline=None, max_examples=30)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, layout: str, given_rows: list[Row]) -> None:
    write, starts, tenants = LAYOUTS[layout]
    path = tmp_path_factory.mktemp(layout) / "log"
    path.write_text(write(given_rows), encoding="utf-8", newline="")
    trace = read_trace(path)
    assert trace.format == layout
    if layout == "philly-log":
        given_rows = [(s % 10**6, w, 2 * (d % 10**6), n % 9 + 1, who) for s, w, d, n, who in given_rows]
    zero = min(row[0] for row in given_rows) if trace.epoch else 0
    columns = ["submit_s", "start_s", "duration_s", "gpus", "tenant"]
    expected = [
        (s - zero, s + w - zero if starts else None, d, n, who if tenants else "default")
        for s, w, d, n, who in sorted(given_rows, key=lambda row: row[0])
    ]
    found = [tuple(row.values()) for row in trace.jobs.select(columns).to_pylist()]
    if layout == "pai":  # its start is its submission where there is no job table
        found = [(row[0], None, *row[2:]) for row in found]
        assert set(trace.jobs["gpu_share"].to_pylist()) == {0.5}
    assert found == expected


OWN = "submit_s,duration_s,gpus,tenant\n0,60,1,6214e9\n5,60,2,0042\n"


def pack(data: bytes, how: str) -> bytes:
    if how == "xz":
        return lzma.compress(data)
    return gzip.compress(data) if how == "gzip" else bytes(pa.Codec(how).compress(data, asbytes=True))


@pytest.mark.parametrize("how", ["gzip", "zstd", "xz"])
def test_packed_files(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace.csv"  # the name says nothing
    data = OWN.encode() + b"9,9,9,z\n" * 50_000
    whole = pack(data, how)
    path.write_bytes(whole + pack(b"10,9,9,last\n", how))  # two streams, one after the other
    assert read_trace(path).jobs.num_rows == 50_003
    for end in (len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:end])
        with pytest.raises(TraceError, match=f"{how} data"):
            read_trace(path)
    path.write_bytes(whole[:20] + b"junk" * 9 + whole[56:])
    with pytest.raises(TraceError, match=f"{how} data is damaged"):
        read_trace(path)
    path.write_bytes(whole)
    monkeypatch.setattr(text, "MAX_BYTES", 1 << 17)
    with pytest.raises(TraceError, match="more than 131,072 bytes of text"):
        read_trace(path)


def test_an_xz_dictionary_may_not_eat_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "XZ_MEMORY_BYTES", 1 << 20)
    (tmp_path / "x").write_bytes(lzma.compress(OWN.encode(), preset=9))
    with pytest.raises(TraceError, match="xz data is damaged"):
        read_trace(tmp_path / "x")


FOREIGN = {
    "pickle": (
        pickle.dumps({"jobs": [1]}),
        "a Python pickle. Loading a pickle runs code, so it is never loaded",
    ),
    "old pickle": (pickle.dumps([1], 0), "a Python pickle"),
    "packed pickle": (gzip.compress(pickle.dumps([1])), "a Python pickle"),
    "zip": (b"PK\x03\x04rest", "a zip archive. Unpack it"),
    "bzip2": (b"BZh91AY", "bzip2 data"),
    "UTF-16": (b"\xff\xfea\0b\0", "UTF-16 text"),
    "web page": (b"<!DOCTYPE html>\n<html>", "a web page, not the file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer"),
    "tar": (gzip.compress(b"x" * 257 + b"ustar" + b"x" * 99), "a tar archive"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_plainly_no_trace_is_named(tmp_path: Path, name: str) -> None:
    content, said = FOREIGN[name]
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    for read in (read_trace, read_nodes, read_states):
        with pytest.raises(TraceError) as caught:
            read(path)
        assert said in str(caught.value)


HEADER = "job_id,user,vc,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration,queue"
LINE = "1,u1,vcA,8,64,1,COMPLETED,2020-04-01 00:00:10,2020-04-01 00:00:20,2020-04-01 00:01:20,60,10"


def helios_file(path: Path, *lines: str, header: str = HEADER) -> Path:
    path.write_bytes("\n".join([header, *lines]).encode())
    return path


def test_bent_but_sound(tmp_path: Path) -> None:
    plain = read_trace(helios_file(tmp_path / "a", LINE)).jobs
    quoted = ",".join(f'"{cell}"' for cell in LINE.split(","))
    for lines, header in (
        ((LINE,), "\ufeff" + HEADER),
        ((LINE + "\r",), HEADER + "\r"),
        (("", LINE, "", ""), HEADER),
        ((quoted,), HEADER),
        ((LINE,), HEADER.replace(",", " , ")),
    ):
        assert read_trace(helios_file(tmp_path / "b", *lines, header=header)).jobs.equals(plain)


def test_quoted_line_breaks_keep_the_place_of_faults(tmp_path: Path) -> None:
    lines = (LINE.replace("u1", '"two\nlines"'), LINE.replace("1,u1", "2,u1").replace(",8,", ",-8,"))
    trace = read_trace(helios_file(tmp_path / "a", *lines), bad_rows="drop")
    assert trace.jobs["user"].to_pylist() == ["two\nlines"]
    assert trace.samples[0].place == f"{tmp_path / 'a'}:4"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (LINE.replace(",60,", ',"60,5",'), "duration_s is not a number: '60,5'"),  # a comma for the point
        (LINE.replace(",8,", ",4294967304,"), "gpus is above 1,000,000: '4294967304'"),  # 8 in 32 bits
        (LINE.replace(",60,", ",-4294967236,"), "duration_s is negative"),
        (LINE.replace(",60,", ",1e400,"), "duration_s is not finite"),
        (LINE.replace("2020-04-01 00:00:10", "01/04/2020 00:00"), "submit_time is not a date and time"),
        (LINE.replace("2020-04-01 00:00:10", "1585670410"), "submit_time is not a date and time"),
    ],
)
def test_values_are_never_guessed(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_trace(helios_file(tmp_path / "a", line))
    assert f"{tmp_path / 'a'}:2: {said}" in str(caught.value)


def test_identifiers_that_look_like_numbers_stay_as_they_are(tmp_path: Path) -> None:
    ids = ["007", "1e5", "0x10", "12345678901234567890123", "1.0", "+1", "NaN", "null", "True", "٣"]
    lines = [LINE.replace("1,u1,vcA", f"{i},{i},{i}", 1) for i in ids]
    table = read_trace(helios_file(tmp_path / "a", *lines)).jobs
    for name in ("job_id", "user", "tenant"):
        assert table[name].to_pylist() == ids


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    path = helios_file(tmp_path / "a", LINE + ",1", header=HEADER + ",vc")
    with pytest.raises(TraceError, match="two columns are called 'vc'"):
        read_trace(path)
