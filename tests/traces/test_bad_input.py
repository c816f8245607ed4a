"""Whatever is wrong with an input: a TraceError that says where, what and the remedy; exit code 2."""

from __future__ import annotations

import gzip
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from fleetsim.cli.main import Root
from fleetsim.cli.trace import trace as trace_group
from fleetsim_traces import TraceError, read_trace, schema, text, write_jobs
from fleetsim_traces.generate import generate_jobs

HEADER = b"timestamp,duration,num_gpus,gpu_time,cluster\n"
ROW = b"2017-10-09 07:01:55,66.0,1,66.0,11cb48\n"
root = Root("root", commands={"trace": trace_group})


def rows(*bad: bytes) -> bytes:
    return HEADER + ROW + b"".join(line + b"\n" for line in bad)


# name -> (content, what the message must contain)
WHOLE = {
    "empty": (b"", "empty file"),
    "blank": (b"\n\n \n", "empty file"),
    "no rows": (HEADER, "no jobs in it"),
    "no rows, blank lines": (HEADER + b"\n\n", "no jobs in it"),
    "only comments": (b"; Version: 2\n;\n", "no jobs in it"),
    "truncated gzip": (gzip.compress(rows() * 500)[:-20], "gzip data ends early"),
    "damaged gzip": (b"\x1f\x8b\x08\x00junk" + bytes(range(256)), "gzip data"),
    "gzip of nothing": (gzip.compress(b""), "empty file"),
    "binary": (bytes(range(1, 256)) * 9 + b"\0", ":10: binary data"),
    "NUL in a late line": (rows() + b"\0\n", ":3: binary data"),
    "NUL beyond the first look": (rows() + ROW * 3000 + b"\0", ":3003: binary data"),
    "not UTF-8": (rows(b"2017-10-09 07:01:55,66.0,1,66.0,M\xfcnchen"), ":3: byte 0xfc is not UTF-8 text"),
    "prose": (b"this is a letter\nto a friend\n", "not a format that fleetsim knows"),
    "missing columns": (
        b"timestamp,duration,cluster\n2017-10-09 07:01:55,66.0,a\n",
        "none is called submit_s or",
    ),
    "two equal columns": (
        b"submit_s,submit_s,gpus,duration_s\n1,1,1,1\n",
        "two columns are called 'submit_s'",
    ),
    "unclosed quote": (
        b'submit_s,gpus,duration_s,user\n1,1,1,a\n1,1,1,"a\n2,2,2,b\n',
        ':3: a " is opened and never closed',
    ),
    "old Macintosh line ends": (b"submit_s,gpus,duration_s\r1,1,1\r", ":1: not a header"),
    "endless header": (b"submit_s," * 20_000 + b"\n1,1\n", "a header of 180,000 characters"),
    "endless line": (
        b"submit_s,gpus,duration_s\n1,1," + b"9" * (3 << 20) + b"\n",
        "cannot be split into rows",
    ),
    "Parquet magic alone": (b"PAR1junk", "not a whole Parquet file"),
}
ROWS = {
    "negative duration": (b"2017-10-09 07:01:55,-5,1,1,a", "duration_s is negative: '-5'"),
    "NaN duration": (b"2017-10-09 07:01:55,nan,1,1,a", "duration_s is not finite: 'nan'"),
    "infinite duration": (b"2017-10-09 07:01:55,inf,1,1,a", "duration_s is not finite: 'inf'"),
    "overflowing duration": (b"2017-10-09 07:01:55,1e999,1,1,a", "duration_s is not finite: '1e999'"),
    "absurd duration": (b"2017-10-09 07:01:55,1e11,1,1,a", "duration_s is above 10,000,000,000 s: '1e11'"),
    "empty duration": (b"2017-10-09 07:01:55,,1,1,a", "duration_s is missing: ''"),
    "words for duration": (b"2017-10-09 07:01:55,long,1,1,a", "duration_s is not a number: 'long'"),
    "zero GPUs": (b"2017-10-09 07:01:55,5,0,1,a", "gpus is below 1: '0'"),
    "absurd GPUs": (b"2017-10-09 07:01:55,5,1000001,1,a", "gpus is above 1,000,000: '1000001'"),
    "huge GPUs": (b"2017-10-09 07:01:55,5,1e300,1,a", "gpus is above 1,000,000: '1e300'"),
    "part of a GPU": (b"2017-10-09 07:01:55,5,0.5,1,a", "gpus is not a whole number: '0.5'"),
    "no timestamp": (b"yesterday,5,1,1,a", "timestamp is not a date and time: 'yesterday'"),
    "impossible date": (b"2017-13-45 07:01:55,5,1,1,a", "timestamp is not a date and time"),
    "no tenant": (b"2017-10-09 07:01:55,5,1,1,", "tenant is missing: ''"),
    "few fields": (b"2017-10-09 07:01:55,5", "2 fields in"),
    "many fields": (b"2017-10-09 07:01:55,5,1,1,a,b", "6 fields in"),
    "terminal codes": (b"2017-10-09 07:01:55,\x1b[31m,1,1,a", r"duration_s is not a number: '\x1b[31m'"),
    "long name": (b"2017-10-09 07:01:55,5,1,1," + b"a" * 1001, "tenant is over 1,000 characters"),
}


def both_doors(runner: CliRunner, path: Path, *options: str) -> str:
    """The message of the API, having checked that the command says the same and exits with 2."""
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    result = runner.invoke(root, ["trace", "info", str(path), *options])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert "unexpected" not in result.output
    for problem in caught.value.problems:
        assert problem.place.startswith(str(path))
        assert str(problem) in result.output
    return str(caught.value)


@pytest.mark.parametrize("name", WHOLE)
def test_file_that_cannot_be_used(name: str, tmp_path: Path, runner: CliRunner) -> None:
    content, expected = WHOLE[name]
    path = tmp_path / "trace.csv"
    path.write_bytes(content)
    assert expected in both_doors(runner, path)


@pytest.mark.parametrize("name", ROWS)
def test_row_that_cannot_be_used(name: str, tmp_path: Path, runner: CliRunner) -> None:
    line, expected = ROWS[name]
    path = tmp_path / "trace.csv"
    path.write_bytes(rows(line))
    message = both_doors(runner, path)
    assert f"{path}:3: {expected}" in message
    assert "1 of 2 rows" in message
    dropped = read_trace(path, bad_rows="drop")
    assert (dropped.jobs.num_rows, sum(dropped.rejected.values())) == (1, 1)
    assert runner.invoke(root, ["trace", "info", str(path), "--bad-rows", "drop"]).exit_code == 0


def test_folder_missing_file_and_pipe(tmp_path: Path, runner: CliRunner) -> None:
    assert "a folder, not a file" in both_doors(runner, tmp_path)
    assert "no such file" in runner.invoke(root, ["trace", "info", str(tmp_path / "none")]).output
    with pytest.raises(TraceError, match="no such file"):
        read_trace(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in both_doors(runner, tmp_path / "pipe")


def test_at_most_five_examples_of_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(rows(*[b"2017-10-09 07:01:55,-5,1,1,a"] * 20, *[b"x,5,1,1,a"] * 3, *[b"1,2"] * 9))
    trace = read_trace(path, bad_rows="drop")
    assert trace.rejected == {
        "wrong number of fields": 9,
        "timestamp is not a date and time": 3,
        "duration_s is negative": 20,
    }
    assert len(trace.samples) == 5 + 3 + 5


def test_no_usable_row_is_an_error_even_when_dropping(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(HEADER + b"2017-10-09 07:01:55,-5,1,1,a\n")
    with pytest.raises(TraceError, match="none of 1 rows can be used"):
        read_trace(path, bad_rows="drop")


def test_decompression_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_BYTES", 1 << 20)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(HEADER + ROW * 100_000))
    assert path.stat().st_size < 1 << 16
    with pytest.raises(TraceError, match="more than 1,048,576 bytes of text"):
        read_trace(path, "philly")
    pq.write_table(pa.table({"a": pa.array([0] * 1_000_000)}), path)
    with pytest.raises(TraceError, match="more than 1,048,576 bytes once unpacked"):
        read_trace(path, "generic", columns={"submit_s": "a", "duration_s": "a", "gpus": "a"})


def test_repeated_text_in_parquet_stays_small(tmp_path: Path) -> None:
    # 200 kB of text 100,000 times would be 20 GB if it were laid out row by row
    path, n = tmp_path / "bomb", 100_000
    name = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array(["a" * 200_000]))
    ones = pa.array([1] * n)
    pq.write_table(pa.table({"submit_s": ones, "duration_s": ones, "gpus": ones, "tenant": name}), path)
    with pytest.raises(TraceError, match=r"tenant is over 1,000 characters: 100,000"):
        read_trace(path)


class Bomb:
    """Touches a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::FutureWarning")  # pyarrow 17 tells of it
def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "evil", tmp_path / "mark"
    payload = pickle.dumps(Bomb(mark))
    ones = pa.array([1, 1])
    table = pa.table(
        {"submit_s": ones, "duration_s": ones, "gpus": ones, "tenant": ["=1+1", "__import__('os')"]}
    )
    fields = [
        field.with_metadata(
            {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": payload}
        )
        for field in table.schema
    ]
    pq.write_table(table.cast(pa.schema(fields, metadata={b"pandas": payload})), path)
    try:
        assert read_trace(path).jobs["tenant"].to_pylist() == ["=1+1", "__import__('os')"]
    except TraceError as error:  # pyarrow 17 keeps the extension, which no column may have
        assert "extension" in str(error)
    assert not mark.exists()


def test_damaged_parquet_pages(tmp_path: Path) -> None:
    path = write_jobs(generate_jobs(jobs=2000), tmp_path / "jobs.parquet")
    whole = path.read_bytes()
    for start in range(4, len(whole) - 200, len(whole) // 40):
        damaged = bytearray(whole)
        damaged[start : start + 64] = os.urandom(64)
        path.write_bytes(damaged)
        try:  # noise may leave a table that is still valid: then every promise was checked again
            assert read_trace(path, bad_rows="drop").jobs.schema.equals(schema())
        except TraceError as error:
            assert str(path) in str(error)


def test_text_in_parquet_that_is_not_utf8(tmp_path: Path) -> None:
    ones = pa.array([1])
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")]
    )
    path = tmp_path / "jobs"
    pq.write_table(pa.table({"submit_s": ones, "duration_s": ones, "gpus": ones, "tenant": broken}), path)
    with pytest.raises(TraceError, match="damaged Parquet"):
        read_trace(path)


def test_job_table_of_another_shape(tmp_path: Path) -> None:
    path = write_jobs(generate_jobs(jobs=5), tmp_path / "jobs.parquet")
    table = pq.read_table(path)
    odd = table.drop(["tenant"]).append_column("colour", pa.array(["red"] * 5))
    pq.write_table(odd.set_column(odd.column_names.index("gpus"), "gpus", pa.array([1.0] * 5)), path)
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert [p.message for p in caught.value.problems] == [
        "column gpus is double, not int32",
        "no column tenant",
        "column 'colour' is not of the job table",
    ]
    pq.write_table(table.replace_schema_metadata({b"fleetsim.jobs.version": b"99"}), path)
    with pytest.raises(TraceError, match="job table version '99', not 1"):
        read_trace(path)


def test_job_table_with_bad_rows(tmp_path: Path) -> None:
    made = generate_jobs(jobs=3)
    table = made.jobs.set_column(5, schema().field("gpus"), pa.array([1, 0, 2], pa.int32()))
    path = tmp_path / "jobs.parquet"
    pq.write_table(table, path)
    with pytest.raises(TraceError, match=f"{path}:2: gpus is below 1: 0"):
        read_trace(path)


def test_metadata_of_a_job_table_is_untrusted(tmp_path: Path) -> None:
    table = generate_jobs(jobs=3).jobs
    path = tmp_path / "jobs.parquet"
    for junk in (
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b'{"epoch": "0001-01-01T00:00+14:00"}',
        b'{"epoch": 5, "notes": {"a": 1}, "format": [], "rejected": 3}',
    ):
        pq.write_table(
            table.replace_schema_metadata({**table.schema.metadata, b"fleetsim.trace": junk}), path
        )
        trace = read_trace(path)
        assert (trace.format, trace.epoch, trace.notes, trace.generated) == ("jobs", None, (), False)


def test_arguments(tmp_path: Path) -> None:
    path = write_jobs(generate_jobs(jobs=3), tmp_path / "jobs.parquet")
    with pytest.raises(TraceError, match=r"no format 'phily'\. Did you mean philly\? There are auto, jobs"):
        read_trace(path, "phily")
    with pytest.raises(TraceError, match="'keep' is neither refuse nor drop"):
        read_trace(path, bad_rows="keep")
    with pytest.raises(TraceError, match="format jobs has columns of its own"):
        read_trace(path, "jobs", columns={})
    with pytest.raises(TraceError, match="not a job table"):
        pq.write_table(pa.table({"a": [1]}), tmp_path / "other")
        read_trace(tmp_path / "other", "jobs")
    with pytest.raises(TraceError, match="not a whole Parquet file"):
        (tmp_path / "text").write_text("hello")
        read_trace(tmp_path / "text", "jobs")
