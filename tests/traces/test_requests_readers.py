"""Exact readings of tiny request files, real ones where they are at hand, and whatever is wrong with one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces.test_requests import (  # noqa: TID251  the folder of these tests
    AZURE,
    BURSTGPT,
    GENERIC,
    GENTD,
    MAPPING,
    MOONCAKE,
    pool,
)

from fleetsim_traces import servegen, text
from fleetsim_traces.errors import TraceError
from fleetsim_traces.request_generic import RequestMap
from fleetsim_traces.request_reading import REQUEST_READERS, detect_requests, read_requests
from fleetsim_traces.requests import PREFIX, write_requests


def rows(path: Path, *names: str, **options: Any) -> list[tuple[Any, ...]]:
    found = read_requests(path, **options).requests.select(list(names)).to_pylist()
    return [tuple(row.values()) for row in found]


# Tiny files, with the arithmetic in sight


def test_azure(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(AZURE)
    trace = read_requests(path, bad_rows="drop")
    assert trace.epoch == datetime(2023, 11, 16, 18, 15, 46, tzinfo=UTC)
    assert rows(path, "request_id", "arrival_s", "prompt_tokens", "output_tokens", bad_rows="drop") == [
        ("2", 0.68059, 374, 44),
        ("3", 4.995169, 396, 0),
    ]
    assert trace.rejected == {"TIMESTAMP is not a date and time": 1, "prompt_tokens is negative": 1}
    assert trace.notes[-1] == "1 requests have no output token; they are kept."


def test_mooncake(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_text(MOONCAKE)
    assert rows(path, "request_id", "arrival_s", "prompt_tokens", PREFIX, bad_rows="drop") == [
        ("1", 0.0, 600, [0, 1]),
        ("2", 3.0, 512, [0]),
        ("4", 3.0, 513, [0, 2**63 - 1]),
    ]
    reason = "not a JSON object of timestamp, input_length, output_length, hash_ids"
    assert read_requests(path, bad_rows="drop").rejected == {reason: 2}


def test_mooncake_notes_hashes_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "m").write_text(MOONCAKE.splitlines()[0].replace("600", "5000"))
    assert read_requests(tmp_path / "m").notes[0].startswith("1 requests have not one hash")


@pytest.mark.parametrize(
    "line",
    [
        '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [1.5]}',
        '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [9223372036854775808]}',
        '{"timestamp": true, "input_length": 1, "output_length": 1, "hash_ids": []}',
        '{"timestamp": NaN, "input_length": 1, "output_length": 1, "hash_ids": []}',
        '{"timestamp": 0, "input_length": "1", "output_length": 1, "hash_ids": []}',
        '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [], "chat_id": 1}',
        '{"timestamp": ' + "9" * 5000 + ', "input_length": 1, "output_length": 1, "hash_ids": []}',
        "[" * 100_000,
        "[1, 2]",
        "5",
    ],
)
def test_mooncake_line_that_is_none(tmp_path: Path, line: str) -> None:
    (tmp_path / "m").write_text(MOONCAKE.splitlines()[0] + "\n" + line)
    trace = read_requests(tmp_path / "m", "mooncake", bad_rows="drop")
    assert (trace.requests.num_rows, sum(trace.rejected.values())) == (1, 1)
    assert trace.samples[0].place == f"{tmp_path / 'm'}:2"


def test_huge_line(tmp_path: Path) -> None:
    (tmp_path / "m").write_text('{"timestamp": 0, "hash_ids": [' + "1," * (1 << 20))
    with pytest.raises(TraceError, match=r"m:1: a line of 2,097,\d+ bytes"):
        read_requests(tmp_path / "m", "mooncake")


def test_burstgpt(tmp_path: Path) -> None:
    path = tmp_path / "b"
    path.write_text(BURSTGPT)
    names = ("arrival_s", "service", "kind", "session", "output_tokens", "status", "latency_s")
    assert rows(path, *names, bad_rows="drop") == [
        (0.0, "GPT-4", "Conversation log", "a-1", 446, "completed", 43.0),
        (5.0, "ChatGPT", "API log", None, 0, "failed", 2.5),
    ]
    trace = read_requests(path, bad_rows="drop")
    assert (trace.zero_s, trace.epoch) == (105.0, None)
    assert set(trace.rejected) == {"service is missing", "prompt_tokens is not a number"}
    old = "\n".join(
        ",".join(c for i, c in enumerate(row.split(",")) if i not in (1, 2))
        for row in BURSTGPT.split("\n")[:3]
    )
    path.write_text(old)
    assert rows(path, "prompt_tokens", "latency_s") == [(906, None), (36, None)]


def test_gentd_counts_no_tokens(tmp_path: Path) -> None:
    (tmp_path / "g").write_text(GENTD)
    names = ("service", "tenant", "kind", "images", "steps", "prompt_tokens", "status", "latency_s")
    assert rows(tmp_path / "g", *names, bad_rows="drop") == [
        ("M0000", "G0000", "TXT_2_IMG", 4, 30, None, "completed", 32.0),
        ("unknown", "G0001", "TXT_2_IMG", None, None, None, "pending", None),
    ]


def test_generic(tmp_path: Path) -> None:
    (tmp_path / "g").write_text(GENERIC)
    names = ("arrival_s", "tenant", "output_tokens", "latency_s", "service")
    assert rows(tmp_path / "g", *names, columns=MAPPING, bad_rows="drop") == [
        (0.0, "bob", 0, None, "llama"),
        (5.0, "anna", 7, 1.5, "llama"),
    ]


def test_generic_by_name_and_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "c").write_text("arrival_s,prompt_tokens,output_tokens,x\n7.5,1,2,9\n8.25,3,4,9\n")
    assert rows(tmp_path / "c", "arrival_s", "prompt_tokens") == [(0.5, 1), (1.25, 3)]
    stamps = pa.array([datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)])
    pq.write_table(
        pa.table({"arrival_s": stamps, "prompt_tokens": [1, 2], "output_tokens": [3, 4]}), tmp_path / "p"
    )
    trace = read_requests(tmp_path / "p")
    assert (trace.format, trace.epoch) == ("generic", datetime(2024, 1, 1, tzinfo=UTC))
    assert trace.requests["arrival_s"].to_pylist() == [0.0, 86400.0]


def test_a_mapping_tells_all_its_faults() -> None:
    with pytest.raises(TraceError) as caught:
        RequestMap.from_dict(
            {
                "arrival_s": {"column": "t", "zone": "Mars/Olympus"},
                "prompt_tokens": {"column": "n", "unit": "ms"},
                "latency_s": {"column": "l", "unit": "weeks"},
                "tenant": {"value": 5},
                "service": {},
                "outputs": "x",
                "separator": "::",
                "epoch": "yesterday",
            }
        )
    places = [problem.place for problem in caught.value.problems]
    assert places == [
        "columns.arrival_s.zone", "columns.prompt_tokens.unit", "columns.latency_s.unit",
        "columns.tenant.value", "columns.service", "columns.outputs", "columns.separator",
        "columns.epoch", "columns",
    ]  # fmt: skip


# ServeGen: parameters, and requests drawn from them


def test_servegen_pool_is_read_as_it_is(tmp_path: Path) -> None:
    pool(tmp_path / "deep")
    found = servegen.read_pool(tmp_path / "deep")
    assert found.model == "deep"
    assert found.windows.select("client", "start_s", "rate_per_s", "pattern").rows() == [
        ("client-3", 0.0, 2.0, "Gamma"),
        ("client-3", 600.0, 0.0, ""),
    ]
    assert set(found.lengths["client-3"]) == {0.0}


def test_servegen_draws_at_the_stated_rate(tmp_path: Path) -> None:
    pool(tmp_path / "deep")
    trace = servegen.read(tmp_path / "deep", seed=1)
    assert trace.requests.num_rows == pytest.approx(1200, abs=150)  # 2/s x 600 s, Poisson: sd 35
    row = trace.requests.to_pylist()[0]
    assert (row["prompt_tokens"], row["output_tokens"], row["reasoning_tokens"]) == (10, 20, 5)
    assert (row["tenant"], row["service"]) == ("client-3", "deep")
    assert trace.requests["arrival_s"][-1].as_py() < 600
    assert not servegen.read(tmp_path / "deep", seed=2).requests.equals(trace.requests)
    thin = servegen.draw(servegen.read_pool(tmp_path / "deep"), factor=0.1)
    assert 80 < thin.requests.num_rows < 165


@pytest.mark.parametrize(("pattern", "shape"), [("Gamma", 0.2), ("Weibull", 0.5), ("Gamma", 3.0)])
def test_servegen_windows_are_stationary(pattern: str, shape: float) -> None:
    """A renewal process seen from any instant: arrivals in each part of a window at the same rate."""
    rng = np.random.default_rng(7)
    row = {"rate_per_s": 0.5, "shape": shape, "pattern": pattern}
    at = np.concatenate([servegen._arrivals(rng, row, 1.0) for _ in range(2000)])
    parts = np.histogram(at, bins=6, range=(0, 600))[0]
    assert parts / 2000 / 100 == pytest.approx(0.5, rel=0.05)


def test_servegen_client_without_lengths_borrows_them(tmp_path: Path) -> None:
    pool(tmp_path / "p")
    (tmp_path / "p" / "chunk-10-trace.csv").write_text("0,1,1,Weibull,1.0,1.0\n")
    trace = read_requests(tmp_path / "p")
    assert set(trace.requests["tenant"].to_pylist()) == {"client-3", "client-10"}
    assert set(trace.requests["prompt_tokens"].to_pylist()) == {10}
    assert trace.notes[-1].startswith("1 clients have no lengths of their own")
    with pytest.raises(TraceError, match="no client has lengths"):
        read_requests(tmp_path / "p" / "chunk-10-trace.csv")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("chunk-3-trace.csv", "0,2,1,Gamma,-1,1\n", "chunk-3-trace.csv:1: not a window"),
        ("chunk-3-trace.csv", "0,2,1,Gauss,1,1\n", "not a window"),
        ("chunk-3-trace.csv", "5,2,1,Gamma,1,1\n", "not a window"),
        ("chunk-3-trace.csv", "0,2,1,Gamma,1\n", "5 fields in"),
        ("chunk-3-trace.csv", "0,2,1,Gamma,1,1\n0,2,1,Gamma,1,1\n", "a window starts twice"),
        ("chunk-3-trace.csv", "0,999999,1,Gamma,1,1\n", "599,999,400 requests would be drawn"),
        ("chunk-3-trace.csv", "0,0,0,,0,0\n", "about 0 requests"),
        ("chunk-3-dataset.json", "{", "not JSON"),
        ("chunk-3-dataset.json", "[1]", "not a JSON object"),
        ("chunk-3-dataset.json", '{"0": {"input_tokens": "{}"}}', "no input_tokens and output_tokens"),
        ("chunk-3-dataset.json", '{"0": {"input_tokens": "{-5: 1}", "output_tokens": "{}"}}', "out of range"),
        (
            "chunk-3-dataset.json",
            '{"0": {"input_tokens": "{__import__(1): 1}", "output_tokens": "{}"}}',
            "not {value: probability}",
        ),
    ],
)
def test_servegen_faults(tmp_path: Path, name: str, content: str, expected: str) -> None:
    pool(tmp_path / "p")
    (tmp_path / "p" / name).write_text(content)
    with pytest.raises(TraceError) as caught:
        read_requests(tmp_path / "p")
    assert expected in str(caught.value)


# Whatever is wrong with a file


HEAD = b"TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW = b"2023-11-16 18:15:46.6805900,374,44\n"
BAD = {
    "overflowing tokens": (
        b"2023-11-16 18:15:46,2147483648,4",
        "prompt_tokens is above 2,147,483,647: '2147483648'",
    ),
    "negative tokens": (b"2023-11-16 18:15:46,5,-4", "output_tokens is negative: '-4'"),
    "decimal comma": (b'2023-11-16 18:15:46,"5,5",4', "prompt_tokens is not a number: '5,5'"),
    "part of a token": (b"2023-11-16 18:15:46,5.5,4", "prompt_tokens is not a whole number: '5.5'"),
    "NaN tokens": (b"2023-11-16 18:15:46,nan,4", "prompt_tokens is not finite: 'nan'"),
    "no tokens": (b"2023-11-16 18:15:46,,4", "prompt_tokens is missing: ''"),
    "words": (b"2023-11-16 18:15:46,many,4", "prompt_tokens is not a number: 'many'"),
    "no time": (b",5,4", "TIMESTAMP is not a date and time: ''"),
    "few fields": (b"2023-11-16 18:15:46,5", "2 fields in"),
}


@pytest.mark.parametrize("name", BAD)
def test_row_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    line, expected = BAD[name]
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD + ROW + line + b"\n")
    with pytest.raises(TraceError) as caught:
        read_requests(path)
    assert f"{path}:3: {expected}" in str(caught.value)
    assert read_requests(path, bad_rows="drop").requests.num_rows == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty file"),
        (HEAD, "no requests in it"),
        (HEAD + b"x,1,1\n", "none of 1 rows"),
        (HEAD.replace(b"Gen", b"Con").replace(b"erated", b"text"), "not a format of requests"),
        (HEAD + ROW + b"\0", "binary data"),
        (b"\x80\x04\x95junk", "pickle"),
    ],
)
def test_file_that_cannot_be_used(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(TraceError) as caught:
        read_requests(tmp_path / "a", bad_rows="drop")
    assert expected in str(caught.value)
    with pytest.raises(TraceError, match="a folder, not a file"):
        read_requests(tmp_path, "azure-llm")


def test_unpacking_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_BYTES", 1000)
    (tmp_path / "a").write_bytes(HEAD + ROW * 100)
    with pytest.raises(TraceError, match="more than 1,000 bytes"):
        read_requests(tmp_path / "a", "azure-llm")


# Round trips


tokens = st.integers(0, 2**31 - 1)
plain = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("round")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**9), tokens, tokens), min_size=1, max_size=20))
def test_azure_round_trip(folder: Path, given_rows: list[tuple[int, int, int]]) -> None:
    start = datetime(2023, 11, 16, tzinfo=UTC)
    lines = [
        f"{start + timedelta(microseconds=us):%Y-%m-%d %H:%M:%S.%f}0,{p},{o}\r\n" for us, p, o in given_rows
    ]
    (folder / "a").write_bytes(HEAD.replace(b"\n", b"\r\n") + "".join(lines).encode())
    zero = min(us for us, _, _ in given_rows) // 10**6
    expected = [
        (pytest.approx(us / 1e6 - zero, abs=1e-6), p, o)
        for us, p, o in sorted(given_rows, key=lambda r: r[0])
    ]
    assert rows(folder / "a", "arrival_s", "prompt_tokens", "output_tokens") == expected


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**9), tokens, tokens, st.lists(st.integers(-(2**63) + 1, 2**63 - 1), max_size=5)
        ),
        min_size=1,
        max_size=20,
    )
)
def test_mooncake_round_trip(folder: Path, given_rows: list[tuple[int, int, int, list[int]]]) -> None:
    keys = ("timestamp", "input_length", "output_length", "hash_ids")
    (folder / "m").write_text("\n".join(json.dumps(dict(zip(keys, row, strict=True))) for row in given_rows))
    ordered = sorted(given_rows, key=lambda row: row[0])
    found = rows(folder / "m", "arrival_s", "prompt_tokens", "output_tokens", PREFIX)
    assert found == [(ms / 1000, p, o, hashes) for ms, p, o, hashes in ordered]
    trace = read_requests(folder / "m")
    assert read_requests(write_requests(trace, folder / "m.parquet")).requests.equals(trace.requests)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**9), plain, plain, tokens, tokens), min_size=1, max_size=20))
def test_burstgpt_round_trip(folder: Path, given_rows: list[tuple[int, str, str, int, int]]) -> None:
    lines = [BURSTGPT.splitlines()[0]]
    lines += [f"{t}.0,{s},1,{m},{p},{o},{p + o},API log" for t, s, m, p, o in given_rows]
    (folder / "b").write_text("\n".join(lines), encoding="utf-8")
    zero = min(row[0] for row in given_rows)
    expected = [(t - zero, s, m, p, o) for t, s, m, p, o in sorted(given_rows, key=lambda row: row[0])]
    assert rows(folder / "b", "arrival_s", "session", "service", "prompt_tokens", "output_tokens") == expected


@settings(deadline=None)
@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda junk: HEAD + junk))
def test_bytes_never_crash(folder: Path, junk: bytes) -> None:
    (folder / "junk").write_bytes(junk)
    for form in ("auto", *REQUEST_READERS):
        try:
            trace = read_requests(folder / "junk", form, bad_rows="drop")
        except TraceError as error:
            assert error.problems
        else:
            assert trace.rows_read == trace.requests.num_rows + sum(trace.rejected.values())


# Real files: counts of their READMEs, means of the published parameters


@pytest.mark.parametrize(
    ("name", "form", "count", "means"),
    [
        ("azure-llm-2023/AzureLLMInferenceTrace_conv.csv", "azure-llm", 19_366, (1154.7, 211.1)),
        ("mooncake-fast25/conversation_trace.jsonl", "mooncake", 12_031, (12035.1, 342.6)),
        ("vtc-arena/real_trace.csv", "arena", 1_080, None),  # the first 450 of 600 s
        ("scheduler-inputs/splitwise_requests.csv", "splitwise", 482, None),
        ("alibaba-v2026-genai/lora_request_trace.csv", "gentd-requests", 17_764, None),
    ],
)
def test_real_file(
    real_traces: Path, name: str, form: str, count: int, means: tuple[float, float] | None
) -> None:
    path = real_traces / name
    assert detect_requests(path) == form
    trace = read_requests(path)
    assert (trace.requests.num_rows, trace.rows_read, trace.rejected) == (count, count, {})
    if means:
        for column, mean in zip(("prompt_tokens", "output_tokens"), means, strict=True):
            assert np.mean(trace.requests[column].to_numpy()) == pytest.approx(mean, abs=0.05)


def test_real_mooncake_ticks_and_prefixes(real_traces: Path) -> None:
    table = read_requests(real_traces / "mooncake-fast25" / "conversation_trace.jsonl").requests
    gaps = np.diff(table["arrival_s"].to_numpy())
    assert (gaps == 0).mean() == pytest.approx(0.902, abs=0.001)
    hashes = table[PREFIX].to_pylist()
    tokens_in = table["prompt_tokens"].to_pylist()
    assert all(len(ids) == -(-n // 512) for ids, n in zip(hashes, tokens_in, strict=True))


def test_real_servegen(real_traces: Path) -> None:
    folder = real_traces / "servegen" / "data"
    small = servegen.read_pool(folder / "language" / "m-small")
    assert small.windows["client"].n_unique() == 43
    # 14 days of windows; the mean rate is that of the published parameters
    assert small.windows["rate_per_s"].sum() * 600 / (14 * 86400) == pytest.approx(1174.4, abs=0.05)
    reason = servegen.read_pool(folder / "reason" / "deepseek-r1")
    assert reason.windows["client"].n_unique() == 73
    assert reason.windows["rate_per_s"].sum() * 600 / 86400 == pytest.approx(16.01, abs=0.01)
    trace = servegen.draw(reason, to_s=7200)
    expected = reason.windows.filter(reason.windows["start_s"] < 7200)["rate_per_s"].sum() * 600
    assert trace.requests.num_rows == pytest.approx(expected, rel=0.05)
