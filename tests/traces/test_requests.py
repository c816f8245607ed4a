"""What every reader of requests promises, whatever it reads, and the table they make."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fleetsim_traces
from fleetsim_traces.errors import TraceError
from fleetsim_traces.request_reading import REQUEST_READERS, detect_requests, read_requests
from fleetsim_traces.request_rows import to_arrow
from fleetsim_traces.requests import (
    COLUMNS,
    PREFIX,
    RequestTrace,
    request_columns_markdown,
    request_schema,
    write_requests,
)

AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,0
soon,396,109
2023-11-16 18:15:46.0000001,-1,5
"""
AZURE_2024 = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:01+00:00,100,7
2024-05-10 02:00:00.5+02:00,100,2147483648
"""
MOONCAKE = """\
{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}
{"timestamp": 3000, "input_length": 512, "output_length": 50, "hash_ids": [0]}

{"timestamp": 3000, "input_length": 513, "output_length": 9, "hash_ids": [0, 9223372036854775807]}
{"timestamp": 3000, "input_length": 5, "input_length": 5, "output_length": 9, "hash_ids": []}
{"timestamp": 6000, "input_le
"""
BURSTGPT = """\
Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
105.0,a-1,43,GPT-4,906,446,1352,Conversation log
110.0,,2.5,ChatGPT,36,0,36,API log
111.0,,2,,36,9,45,API log
112.0,,2,ChatGPT,"36,5",9,45,API log
"""
ARENA = """\
req_id,model_dir,adapter_dir,prompt_len,output_len,req_time
0,m/llama-7b,adapter-13,13,199,0.0
1,m/llama-7b,adapter-2,36,137,0.2
1,m/llama-7b,adapter-2,36,137,0.3
"""
SPLITWISE = """\
request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size
0,0,2,1.0,1,374,44
1,0,2,inf,1,91,16
"""
GENTD = """\
gmt_create,predict_type,predict_status,exec_time_seconds,groupId,prompt_length,negative_prompt_length,\
num_images_per_prompt,num_inference_steps,checkpoint_model_version_id,num_lora
2024-11-15 16:57:50,TXT_2_IMG,SUCCEED,32.0,G0000,63.0,26.0,4.0,30.0,M0000,1
2024-11-15 16:57:51,TXT_2_IMG,PENDING,,G0001,,,,,,0
2024-11-15 25:57:51,TXT_2_IMG,FAILED,1.0,G0001,,,,,,0
"""
GENERIC = """\
when;in;out;who;took
2020-03-01T10:00:05+08:00;5;7;ann;1500
2020-03-01T02:00:00Z;5;;bob;
2020-03-01T02:00:00Z;1.5;2;bob;9
"""
MAPPING: dict[str, Any] = {
    "arrival_s": {"column": "when", "zone": "UTC"},
    "prompt_tokens": "in",
    "output_tokens": {"column": "out", "value": 0},
    "tenant": {"column": "who", "map": {"ann": "anna"}},
    "latency_s": {"column": "took", "unit": "ms"},
    "service": {"value": "llama"},
    "separator": ";",
}


def pool(folder: Path, name: str = "chunk-3") -> Path:
    """A ServeGen client of two windows of 600 s: 2 requests/s, then none; every request 10 in and 20 out."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-trace.csv").write_text("0,2,1.0,Gamma,1.0,0.5\n600,0,0,,0,0\n")
    law = {"input_tokens": "{10: 1.0}", "output_tokens": "{20: 1.0}", "reason_ratio": "{0.25: 1.0}"}
    idle = {"input_tokens": "{}", "output_tokens": "{}"}
    (folder / f"{name}-dataset.json").write_text(json.dumps({"0": law, "21600": idle}))
    return folder / f"{name}-trace.csv"


@dataclass(frozen=True)
class Case:
    """A file with *good* usable rows out of *rows*; None where they are drawn."""

    write: Callable[[Path], Any]
    detected: str
    rows: int | None
    good: int
    columns: dict[str, Any] | None = None


def text(content: str) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content.encode())


def native(path: Path) -> None:
    (path.parent / "azure").write_text(AZURE)
    write_requests(read_requests(path.parent / "azure", bad_rows="drop"), path)


CASES = {
    "azure 2023": Case(text(AZURE.replace("\n", "\r\n")), "azure-llm", 4, 2),
    "azure 2024": Case(text(AZURE_2024), "azure-llm", 3, 2),
    "azure gzip": Case(lambda path: path.write_bytes(gzip.compress(AZURE.encode())), "azure-llm", 4, 2),
    "mooncake": Case(text(MOONCAKE), "mooncake", 5, 3),
    "burstgpt": Case(text(BURSTGPT), "burstgpt", 4, 2),
    "arena": Case(text(ARENA), "arena", 3, 2),
    "splitwise": Case(text(SPLITWISE), "splitwise", 2, 1),
    "gentd": Case(text(GENTD), "gentd-requests", 3, 2),
    "generic": Case(text(GENERIC), "generic", 3, 2, MAPPING),
    "requests": Case(native, "requests", 2, 2),
    "servegen": Case(lambda path: pool(path), "servegen", None, 0),
}


def test_every_reader_has_a_case() -> None:
    assert {case.detected for case in CASES.values()} == set(REQUEST_READERS)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def path(case: Case, tmp_path: Path) -> Path:
    path = tmp_path / "workload.dat"  # a name that says nothing
    case.write(path)
    return path


@pytest.fixture
def trace(case: Case, path: Path) -> RequestTrace:
    return read_requests(path, columns=case.columns, bad_rows="drop")


def test_format_is_told_from_content(case: Case, path: Path) -> None:
    assert case.columns is not None or detect_requests(path) == case.detected


def test_schema_is_exact(trace: RequestTrace) -> None:
    assert trace.requests.schema.equals(request_schema(), check_metadata=True)
    trace.requests.validate(full=True)
    for field in request_schema():
        assert field.nullable or trace.requests[field.name].null_count == 0, field.name


def test_rows_are_sorted_unique_and_in_range(trace: RequestTrace) -> None:
    arrival_s = trace.requests["arrival_s"].to_pylist()
    assert arrival_s == sorted(arrival_s)
    assert arrival_s[0] >= 0
    assert len(set(trace.requests["request_id"].to_pylist())) == trace.requests.num_rows
    for name in ("prompt_tokens", "output_tokens"):
        assert all(value is None or value >= 0 for value in trace.requests[name].to_pylist())
    assert trace.epoch is None or trace.epoch.utcoffset() == timedelta(0)


def test_counts_add_up(case: Case, trace: RequestTrace) -> None:
    assert trace.rows_read == trace.requests.num_rows + sum(trace.rejected.values())
    if case.rows is None:
        assert trace.generated
        return
    assert (trace.requests.num_rows, trace.rows_read) == (case.good, case.rows)
    assert len(trace.samples) == case.rows - case.good  # all of these few are shown


def test_reading_again_gives_the_same(case: Case, path: Path, trace: RequestTrace) -> None:
    again = read_requests(path, columns=case.columns, bad_rows="drop")
    assert again.requests.equals(trace.requests, check_metadata=True)
    assert (again.epoch, again.rejected, again.notes) == (trace.epoch, trace.rejected, trace.notes)


def test_written_table_reads_back_the_same(trace: RequestTrace, tmp_path: Path) -> None:
    again = read_requests(write_requests(trace, tmp_path / "requests.parquet"))
    assert again.requests.equals(trace.requests, check_metadata=True)
    assert (again.epoch, again.format, again.generated) == (trace.epoch, trace.format, trace.generated)
    assert again.zero_s == trace.zero_s
    assert set(trace.notes) <= set(again.notes)
    for reason in trace.rejected:
        assert any(reason in note for note in again.notes)


def test_refusing_shows_counts_places_and_remedy(case: Case, path: Path, trace: RequestTrace) -> None:
    if not trace.rejected:
        assert read_requests(path, columns=case.columns).requests.equals(trace.requests)
        return
    with pytest.raises(TraceError) as caught:
        read_requests(path, columns=case.columns)
    summary, *examples = caught.value.problems
    assert f"{sum(trace.rejected.values())} of {trace.rows_read} rows" in summary.message
    assert all(reason in summary.message for reason in trace.rejected)
    assert tuple(examples) == trace.samples


def test_every_reader_tells_where_its_data_come_from() -> None:
    import sys

    for name, known in REQUEST_READERS.items():
        about = sys.modules[known.read.__module__].__doc__ or ""
        if name not in ("requests", "generic"):
            for word in ("*Citation.*", "*Licence.*", "*How to obtain.*", "*Known defects.*"):
                assert word in about, (name, word)


def test_schema_carries_units_and_descriptions() -> None:
    made = request_schema()
    assert made.metadata == {b"fleetsim.requests.version": b"1"}
    for column in COLUMNS:
        assert made.field(column.name).metadata[b"description"].decode() == column.description != ""
        assert column.name.endswith("_s") == (column.unit == "s")
    required = [field.name for field in made if not field.nullable]
    assert required == ["request_id", "arrival_s", "service", "tenant"]
    assert made.field(PREFIX).type == pa.list_(pa.int64())


def test_documentation_has_the_declared_columns_and_formats() -> None:
    page = Path(fleetsim_traces.__file__).parent.parent / "REQUESTS.md"
    if not page.exists():
        pytest.skip("an installed wheel has no pages of the folder")
    text = page.read_text(encoding="utf-8")
    assert request_columns_markdown() in text
    assert [name for name in REQUEST_READERS if f"| `{name}` |" not in text] == []


def test_another_table_of_requests_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(ARENA)
    table = read_requests(tmp_path / "a", bad_rows="drop").requests
    path = tmp_path / "r.parquet"
    odd = table.drop(["tenant"]).append_column("colour", pa.array(["red"] * 2))
    pq.write_table(odd.set_column(1, "arrival_s", pa.array([1, 2])), path)
    with pytest.raises(TraceError) as caught:
        read_requests(path)
    assert [problem.message for problem in caught.value.problems] == [
        "column arrival_s is int64, not double",
        "no column tenant",
        "column 'colour' is not of the request table",
    ]
    pq.write_table(table.replace_schema_metadata({b"fleetsim.requests.version": b"99"}), path)
    with pytest.raises(TraceError, match="request table version '99', not 1"):
        read_requests(path)
    wrong = table.set_column(6, request_schema().field("prompt_tokens"), pa.array([1, -5], pa.int32()))
    pq.write_table(wrong, path)
    with pytest.raises(TraceError, match=r"r\.parquet:2: prompt_tokens is negative: -5"):
        read_requests(path)


def test_metadata_is_untrusted(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(ARENA)
    table = read_requests(tmp_path / "a", bad_rows="drop").requests
    path = tmp_path / "r.parquet"
    for junk in (
        b"\xff",
        b"[]",
        b'{"epoch": 5, "notes": {"a": 1}, "format": [], "zero_s": "x"}',
        b"[" * 99_999,
    ):
        metadata = {**table.schema.metadata, b"fleetsim.trace": junk}
        pq.write_table(table.replace_schema_metadata(metadata), path)
        trace = read_requests(path)
        assert (trace.format, trace.epoch, trace.notes, trace.zero_s) == ("requests", None, (), 0.0)


def test_failed_write_leaves_the_older_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text(ARENA)
    trace = read_requests(tmp_path / "a", bad_rows="drop")
    path = write_requests(trace, tmp_path / "r.parquet")
    before = path.read_bytes()

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_requests(trace, path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "r.parquet"]


def test_absent_columns_have_their_defaults() -> None:
    import polars as pl

    table = to_arrow(pl.DataFrame({"line": [2], "arrival_s": [0.0]}))
    row = table.to_pylist()[0]
    assert (row["request_id"], row["service"], row["tenant"], row[PREFIX]) == (
        "2",
        "unknown",
        "default",
        None,
    )


def test_arguments(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(ARENA)
    with pytest.raises(TraceError, match=r"no format 'arenas'\. Did you mean arena\?"):
        read_requests(path, "arenas")
    with pytest.raises(TraceError, match="neither refuse nor drop"):
        read_requests(path, bad_rows="keep")
    with pytest.raises(TraceError, match="format arena has columns of its own"):
        read_requests(path, "arena", columns=MAPPING)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(TraceError, match="not a format of requests that fleetsim knows"):
        read_requests(path)
    assert detect_requests(path) is None


def test_epochs(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(AZURE_2024)
    trace = read_requests(tmp_path / "a", bad_rows="drop")
    assert trace.epoch == datetime(2024, 5, 10, tzinfo=UTC)
    assert trace.zero_s == trace.epoch.timestamp()


def test_requests_have_the_same_doors_as_jobs(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("t,p,o\n5,1,2\n")
    columns = {"arrival_s": "t", "prompt_tokens": "p", "output_tokens": "o"}
    trace = fleetsim_traces.read_requests(path, columns=fleetsim_traces.RequestMap.from_dict(columns))
    again = fleetsim_traces.write_requests(trace, tmp_path / "r.parquet")
    assert fleetsim_traces.detect_requests(again) == "requests"
    assert fleetsim_traces.read_requests(again).requests.schema.equals(fleetsim_traces.request_schema())
    assert set(fleetsim_traces.__all__) <= set(dir(fleetsim_traces))
