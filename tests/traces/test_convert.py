"""Converting in pieces gives what reading the whole gives; validating finds the faults; parts of a trace."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetsim_traces import pieces, runs
from fleetsim_traces.convert import convert, streams
from fleetsim_traces.either import AnyMap, find, load_mapping
from fleetsim_traces.errors import TraceError
from fleetsim_traces.generate import generate_jobs
from fleetsim_traces.mapping import ColumnMap
from fleetsim_traces.request_generic import RequestMap
from fleetsim_traces.request_reading import read_requests
from fleetsim_traces.requests import RequestTrace, write_requests
from fleetsim_traces.sampling import sample_rows, seconds, window
from fleetsim_traces.table import Trace, write_jobs
from fleetsim_traces.validate import validate

JOBS = {"submit_s": "t", "duration_s": "d", "gpus": "n", "user": "u"}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 4000)
    monkeypatch.setattr(pieces, "PIECE_ROWS", 100)
    monkeypatch.setattr(runs, "BATCH_ROWS", 32)
    monkeypatch.setattr(runs, "GROUP_ROWS", 150)


def same(path: Path, columns: AnyMap | None = None, bad_rows: str = "refuse") -> None:
    """The converted file is that of reading the whole and writing it: rows, types, facts."""
    found = find(path, columns=columns)
    assert streams(found)
    folder = path.parent / "out"
    folder.mkdir(exist_ok=True)
    totals = convert(found, folder / "pieces", bad_rows=bad_rows)
    whole = found.read(bad_rows)
    if isinstance(whole, RequestTrace):
        write_requests(whole, folder / "whole")
    else:
        write_jobs(whole, folder / "whole")
    ours, theirs = pq.read_table(folder / "pieces"), pq.read_table(folder / "whole")
    assert ours.schema.equals(theirs.schema)
    assert pl.from_arrow(ours).equals(pl.from_arrow(theirs))  # type: ignore[arg-type]
    mine, other = (json.loads(table.schema.metadata[b"fleetsim.trace"]) for table in (ours, theirs))
    assert mine == other
    assert totals.rejected == dict(whole.rejected)
    assert sorted(map(str, totals.samples)) == sorted(map(str, whole.samples))
    assert (totals.rows, totals.rows_read, totals.epoch) == (ours.num_rows, whole.rows_read, whole.epoch)
    assert sorted(p.name for p in folder.iterdir()) == ["pieces", "whole"]


def job_lines(count: int, seed: int = 0, *, sort: bool = False) -> list[str]:
    rng = random.Random(seed)
    times = [rng.randrange(10**7) / 100 + 1e6 for _ in range(count)]
    return [
        f'{t},{rng.randrange(999)},{rng.randint(1, 8)},"u,\n{rng.randrange(9)}"\n'
        for t in sorted(times)
        if sort
    ] or [f'{t},{rng.randrange(999)},{rng.randint(1, 8)},"u,\n{rng.randrange(9)}"\n' for t in times]


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("epoch", [None, "2020-02-03T00:00:00Z"])
def test_jobs_with_quoted_line_breaks(tmp_path: Path, sort: bool, epoch: str | None) -> None:
    path = tmp_path / "log"
    path.write_text("t,d,n,u\n" + "".join(job_lines(1000, sort=sort)))
    same(path, ColumnMap.from_dict({**JOBS, **({"epoch": epoch} if epoch else {})}))


def test_packed_with_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [f"{t},{t % 7},{t % 3 + 1},é{t % 5}\r\n" for t in range(1000, 0, -1)]
    path.write_bytes(gzip.compress(("\ufefft,d,n,u\r\n" + "".join(lines)).encode()))
    same(path, ColumnMap.from_dict(JOBS))


def test_identities_that_repeat_in_another_piece(tmp_path: Path) -> None:
    rng = random.Random(3)
    path = tmp_path / "log"
    lines = [f"{rng.randrange(600)},{rng.randrange(10**5)},{rng.randrange(9)},1\n" for _ in range(1000)]
    path.write_text("id,t,d,n\n" + "".join(lines))
    found = find(
        path, columns=ColumnMap.from_dict({"job_id": "id", "submit_s": "t", "duration_s": "d", "gpus": "n"})
    )
    totals = convert(found, tmp_path / "out", bad_rows="drop")
    whole = found.read("drop")
    assert isinstance(whole, Trace)
    assert totals.rejected == dict(whole.rejected)
    kept = pq.read_table(tmp_path / "out").select(["job_id", "submit_s", "duration_s"])
    assert kept.to_pylist() == whole.jobs.select(["job_id", "submit_s", "duration_s"]).to_pylist()
    with pytest.raises(TraceError, match=r"job_id repeats an earlier row: \d+"):
        convert(found, tmp_path / "out2")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("out2")] == []


def test_local_times_and_pieces_without_a_usable_row(tmp_path: Path) -> None:
    path = tmp_path / "log"
    good = [f"2020-03-{1 + i // 40:02d}T10:00:{i % 60:02d},5,1,a\n" for i in range(800)]
    bad = ["soon,5,1,a\n"] * 500 + ["2020-03-01T10:00:00,-5,0,a\n"] * 500 + ["1,2\n"] * 3
    columns = {**JOBS, "submit_s": {"column": "t", "zone": "Asia/Shanghai"}}
    path.write_text("t,d,n,u\n" + "".join(bad[:600] + good + bad[600:]))
    same(path, ColumnMap.from_dict(columns), bad_rows="drop")
    with pytest.raises(TraceError) as caught:
        convert(find(path, columns=ColumnMap.from_dict(columns)), tmp_path / "x")
    assert "1,003 of 1,803 rows cannot be used" in caught.value.problems[0].message
    path.write_text("t,d,n,u\n" + "".join(bad))
    with pytest.raises(TraceError, match="none of 1,003 rows can be used"):
        convert(find(path, columns=ColumnMap.from_dict(columns)), tmp_path / "x", bad_rows="drop")


def test_jobs_by_name_without_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("submit_s,duration_s,gpus\n" + "".join(f"{t * 7 % 1000},5,1\n" for t in range(1000)))
    same(path)


@pytest.mark.parametrize("stamps", [True, False])
def test_parquet(tmp_path: Path, stamps: bool) -> None:
    rng = random.Random(1)
    times: list[Any] = [rng.randrange(10**6) for _ in range(500)]
    if stamps:
        times = [datetime.fromtimestamp(t, UTC) for t in times]
    table = pa.table(
        {"t": times, "d": [1.5] * 500, "n": [1] * 500, "u": [f"u{i % 9}" for i in range(500)], "x": [1] * 500}
    )
    pq.write_table(table, tmp_path / "log")
    same(tmp_path / "log", ColumnMap.from_dict(JOBS))


REQUESTS: dict[str, Callable[[random.Random, int], str]] = {
    "TIMESTAMP,ContextTokens,GeneratedTokens": lambda rng, i: (
        f"2024-05-{1 + rng.randrange(20):02d} 00:{rng.randrange(60):02d}:00.5,{i},{i % 3}"
    ),
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type": lambda rng, i: (
        f"{rng.randrange(10**6) + 77},GPT-4,{i},{i % 5},0,API log"
    ),
    "request_id,arrival_timestamp,prompt_size,token_size": lambda rng, i: f"r{i},{i},5,6",
    "arrival_s,prompt_tokens,output_tokens,request_id": lambda rng, i: f"{rng.random()},5,6,r{i}",
    "": lambda rng, i: json.dumps(
        {"timestamp": rng.randrange(10**6), "input_length": i, "output_length": i, "hash_ids": [i, 5]}
    ),
}


@pytest.mark.parametrize("header", REQUESTS)
def test_requests(tmp_path: Path, header: str) -> None:
    rng = random.Random(2)
    path = tmp_path / "log"
    path.write_text("\n".join(([header] if header else []) + [REQUESTS[header](rng, i) for i in range(600)]))
    same(path)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(-(10**6), 10**6), st.integers(-2, 50), st.integers(0, 3)),
        min_size=1,
        max_size=300,
    ),
    st.integers(30, 400),
)
def test_any_rows_and_any_size_of_piece(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]], size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", size)
        path = tmp_path_factory.mktemp("any") / "log"
        path.write_text("t,d,n,u\n" + "".join(f'{t},{d},{n},"{d}"\n' for t, d, n in rows))
        columns = ColumnMap.from_dict(JOBS)
        try:
            find(path, columns=columns).read("drop")
        except TraceError:
            with pytest.raises(TraceError, match="none of"):
                convert(find(path, columns=columns), path.with_name("x"), bad_rows="drop")
        else:
            same(path, columns, bad_rows="drop")


def test_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(
        "t,d,n,u\n" + "".join(f"{i},1,1,a\n" for i in range(900)) + '901,1,1,"a\n' + "902,1,1,a\n" * 900
    )
    with pytest.raises(TraceError, match=r'log:902: a " is opened and never closed'):
        convert(find(path, columns=ColumnMap.from_dict(JOBS)), tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"t,d,n,u\n", "no jobs in it"),
        (b"t,d,n,u\n" + b"1,1,1,a\n" * 900 + b"1,1,1,\xff\n", ":902: byte 0xff is not UTF-8"),
        (
            gzip.compress(b"t,d,n,u\n" + random.Random(1).randbytes(9000).hex().encode())[:-30],
            "gzip data ends early",
        ),
        (b"PK\x03\x04", "a zip archive"),
        (b"t,d,n\n1,1,1\n", "no column 'u'"),
        (b"", "empty file"),
    ],
)
def test_file_that_cannot_be_converted(tmp_path: Path, content: bytes, expected: str) -> None:
    path, output = tmp_path / "log", tmp_path / "out"
    path.write_bytes(content)
    output.write_text("older")
    with pytest.raises(TraceError) as caught:
        convert(find(path, columns=ColumnMap.from_dict(JOBS)), output)
    assert expected in str(caught.value)
    assert f"{path}" in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "out"]
    assert output.read_text() == "older"


def test_interruption_leaves_the_older_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("t,d,n,u\n" + "1,1,1,a\n" * 2000)
    (tmp_path / "out").write_text("older")

    def interrupt(done: int, total: int | None) -> None:
        assert total == path.stat().st_size
        if done > 9000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(find(path, columns=ColumnMap.from_dict(JOBS)), tmp_path / "out", progress=interrupt)
    assert (tmp_path / "out").read_text() == "older"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "out"]


def test_formats_that_do_not_stream_are_read_whole(tmp_path: Path) -> None:
    made = generate_jobs(jobs=20)
    found = find(write_jobs(made, tmp_path / "jobs"))
    assert not streams(found)
    assert convert(found, tmp_path / "out").rows == 20
    assert pq.read_table(tmp_path / "out").equals(pq.read_table(tmp_path / "jobs"))


def test_text_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MAX_STREAM_BYTES", 5000)
    (tmp_path / "log").write_text("t,d,n,u\n" + "1,1,1,a\n" * 2000)
    with pytest.raises(TraceError, match="more than 5,000 bytes of text"):
        convert(find(tmp_path / "log", columns=ColumnMap.from_dict(JOBS)), tmp_path / "out")


# Which table a file becomes


def test_a_mapping_says_which_table(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("arrival_s: t\nprompt_tokens: p\noutput_tokens: o\n")
    (tmp_path / "j.yaml").write_text("submit_s: t\nduration_s: d\ngpus: n\n")
    (tmp_path / "x.yaml").write_text("a: [\n")
    (tmp_path / "log").write_text("t,p,o,d,n\n0,1,2,3,4\n")
    assert isinstance(load_mapping(tmp_path / "r.yaml"), RequestMap)
    assert isinstance(load_mapping(tmp_path / "j.yaml"), ColumnMap)
    with pytest.raises(TraceError, match="not YAML"):
        load_mapping(tmp_path / "x.yaml")
    assert find(tmp_path / "log", columns=load_mapping(tmp_path / "r.yaml")).kind == "requests"
    assert find(tmp_path / "log", columns=load_mapping(tmp_path / "j.yaml")).kind == "jobs"
    with pytest.raises(TraceError, match="has columns of its own"):
        find(tmp_path / "log", "philly", load_mapping(tmp_path / "j.yaml"))
    with pytest.raises(TraceError, match="Did you mean mooncake"):
        find(tmp_path / "log", "moncake")
    (tmp_path / "prose").write_text("this is a letter\nto a friend\n")
    with pytest.raises(TraceError, match="not a format that fleetsim knows"):
        find(tmp_path / "prose")


# Validating


def test_validate_counts_places_and_load(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("t,d,n,u\n0,3600,2,a\n100,-1,1,a\n200,oops,1,a\n3600,3600,4,a\n")
    report, problems = validate(find(tmp_path / "log", columns=ColumnMap.from_dict(JOBS)), gpus=12)
    assert report["rejected"] == {"duration_s is negative": 1, "duration_s is not a number": 1}
    assert (report["rows"], report["rows_read"], report["gpu_hours"]) == (2, 4, 6.0)
    assert report["offered_load"] == 0.5  # 6 GPU-hours in an hour of 12
    assert {problem.place for problem in problems} == {f"{tmp_path / 'log'}:3", f"{tmp_path / 'log'}:4"}
    with pytest.raises(TraceError, match="not above 0"):
        validate(find(tmp_path / "log", columns=ColumnMap.from_dict(JOBS)), gpus=0)


def test_validate_requests(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("arrival_s,prompt_tokens,output_tokens\n0,5,6\n10,7,0\n")
    report, problems = validate(find(tmp_path / "log"))
    assert (report["tokens"], report["gpu_hours"], problems) == (18, None, [])
    assert report["notes"] == ["1 requests have no output token; they are kept."]
    with pytest.raises(TraceError, match="say nothing of GPUs"):
        validate(find(tmp_path / "log"), gpus=8)


# Parts of a trace


def test_sample_is_seeded_and_in_order() -> None:
    trace = generate_jobs(jobs=500)
    one, two, other = (sample_rows(trace, 100, seed=seed).jobs for seed in (1, 1, 2))
    assert one.equals(two)
    assert not one.equals(other)
    assert one.num_rows == len(set(one["job_id"].to_pylist())) == 100
    assert one["submit_s"].to_pylist() == sorted(one["submit_s"].to_pylist())
    assert set(one["user"].chunk(0).dictionary.to_pylist()) == set(one["user"].to_pylist())
    for rows in (0, 501):
        with pytest.raises(TraceError, match="is not from 1 to 500"):
            sample_rows(trace, rows)


def test_every_row_is_as_likely() -> None:
    trace = generate_jobs(jobs=20)
    hits = dict.fromkeys(trace.jobs["job_id"].to_pylist(), 0)
    for seed in range(400):
        for name in sample_rows(trace, 5, seed=seed).jobs["job_id"].to_pylist():
            hits[name] += 1
    assert min(hits.values()) > 70  # 100 expected, standard deviation 8.7
    assert max(hits.values()) < 130


def test_window(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{i},1,1\n" for i in range(10))
    )
    trace = read_requests(tmp_path / "log")
    part = window(trace, 3, 6)
    assert part.requests["arrival_s"].to_pylist() == [3.0, 4.0, 5.0]
    assert part.rows_read == 3
    assert window(trace, None, 2).requests.num_rows == 2
    with pytest.raises(
        TraceError, match=r"no rows from 10 s to before 9 s\. The first is at 0 s, the last at 9 s"
    ):
        window(trace, 10, None)
    with pytest.raises(TraceError, match=r"is a date, and .* has none"):
        seconds(trace, "2024-01-01T00:00Z", "--from")
    jobs = generate_jobs(jobs=50)
    assert seconds(jobs, "2024-01-02T00:00+00:00", "--from") == 86400
    assert seconds(jobs, "86400", "--from") == 86400
    for text in ("2024-01-02", "soon"):
        with pytest.raises(TraceError, match=r"UTC offset|neither seconds nor"):
            seconds(jobs, text, "--from")


# Real files


@pytest.mark.parametrize(
    "name", ["azure-llm-2023/AzureLLMInferenceTrace_conv.csv", "mooncake-fast25/conversation_trace.jsonl"]
)
def test_real_requests_in_pieces(
    real_traces: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 200_000)
    convert(find(real_traces / name), tmp_path / "out")
    assert read_requests(tmp_path / "out").requests.equals(read_requests(real_traces / name).requests)
