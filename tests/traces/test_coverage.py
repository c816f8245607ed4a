"""Every data file of the real traces is read by a named reader, or listed with the reason why not."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from traces.coverage import COVERAGE, Covered  # noqa: TID251  of tests

import fleetsim_traces
from fleetsim_traces import READERS, detect, nodes, read_trace, request_reading, states

README = Path(fleetsim_traces.__file__).parent.parent / "README.md"
BEGIN, END = "<!-- coverage: begin -->\n", "<!-- coverage: end -->\n"


def markdown() -> str:
    rows = ["| file | table | reader, or why none |", "|---|---|---|"]
    rows += [f"| `{row.glob}` | {row.kind} | {row.told()} |" for row in COVERAGE]
    return "\n".join(rows) + "\n"


def test_table_of_the_documentation(request: pytest.FixtureRequest) -> None:
    if not README.exists():
        pytest.skip("an installed wheel has no README of the folder")
    text = README.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    if request.config.getoption("--update-golden"):
        README.write_text(head + BEGIN + markdown() + END + tail, encoding="utf-8")
    else:
        assert BEGIN + markdown() + END in text, "run this test with --update-golden"


def test_documentation_lists_every_format() -> None:
    if README.exists():
        text = README.read_text(encoding="utf-8")
        assert [name for name in READERS if f"| `{name}` |" not in text] == []
        assert nodes_and_states() in text


def nodes_and_states() -> str:
    from fleetsim_traces.table import columns_markdown

    return columns_markdown(nodes.NODE_COLUMNS) + "\n" + columns_markdown(states.STATE_COLUMNS)


def test_rows_are_whole() -> None:
    for row in COVERAGE:
        assert bool(row.reader) != bool(row.reason), row
        assert not row.reader or row.kind in ("jobs", "nodes", "states", "requests"), row


def owner(name: str) -> Covered | None:
    """The first row that matches: specific rows come first."""
    return next((row for row in COVERAGE if fnmatchcase(name, row.glob)), None)


def files(root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            yield path.relative_to(root).as_posix(), path


def test_every_real_file_is_listed(real_traces: Path) -> None:
    assert [name for name, _ in files(real_traces) if owner(name) is None] == []


def test_every_row_of_the_table_has_files(real_traces: Path) -> None:
    used = {id(owner(name)) for name, _ in files(real_traces)}
    assert [row.glob for row in COVERAGE if id(row) not in used] == []


def read(row: Covered, path: Path) -> tuple[str, int, Any]:
    """The format found, the rows, and the table."""
    options: Any = {"bad_rows": "drop" if row.rejected else "refuse"}
    if row.kind == "jobs":
        assert detect(path) == row.reader
        trace = read_trace(path, **options)
        return trace.format, trace.jobs.num_rows, trace
    if row.kind == "nodes":
        found = nodes.read_nodes(path, **options)
        return found.format, found.nodes.num_rows, found
    if row.kind == "states":
        state = states.read_states(path, **options)
        return state.format, state.states.num_rows, state
    form = request_reading.detect_requests(path)
    if form == "servegen":  # draws requests, more than is sensible for some clients
        return form, 0, None
    requests = request_reading.read_requests(path, **options)
    return requests.format, requests.requests.num_rows, requests


def test_named_readers_read_the_real_files(real_traces: Path) -> None:
    for name, path in files(real_traces):
        row = owner(name)
        if row is None or not row.reader:
            continue
        found, count, table = read(row, path)
        assert found == row.reader, name
        assert row.rows is None or count == row.rows, name
        if row.kind == "jobs":
            assert table.rejected == row.rejected, name
            assert table.rows_read == count + sum(row.rejected.values()), name
            if row.reader in HOURS:
                want = [HOURS[row.reader](cells) for cells in rows_of(path)]
                hours = [h for h in want if h is not None]
                assert len(hours) == count, name
                assert gpu_hours(table) == pytest.approx(sum(hours), rel=1e-6), name


def gpu_hours(trace: Any) -> float:
    columns = [trace.jobs[name].to_numpy() for name in ("gpus", "gpu_share", "duration_s")]
    return float((columns[0] * columns[1].astype(float) * columns[2]).sum() / 3600)


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        yield from csv.DictReader(file)


def _openb(r: dict[str, str]) -> float | None:
    if r["num_gpu"] == "0" or r.get("pod_phase") == "Pending":
        return None
    took = float(r["deletion_time"]) - float(r["scheduled_time"]) if "pod_phase" in r else 0.0
    return int(r["num_gpu"]) * int(r["gpu_milli"]) / 1000 * took / 3600


def _supercloud(r: dict[str, str]) -> float | None:
    counts = dict(part.split("=") for part in r["tres_alloc"].split(",") if part)
    gpus = int(counts.get("1001", 0)) + int(counts.get("1002", 0))
    return gpus * (float(r["time_end"]) - float(r["time_start"])) / 3600 if gpus else None


def _dlrm(r: dict[str, str]) -> float | None:
    if r["gpu_request"] == "0":
        return None
    return (float(r["deletion_time"] or 2678400) - float(r["scheduled_time"] or 0)) / 3600


# the GPU-hours of a row of each source, by plain arithmetic; None where it is no GPU job
HOURS: dict[str, Callable[[dict[str, str]], float | None]] = {
    "philly": lambda r: float(r["gpu_time"]) / 3600 if r["timestamp"] else None,
    "acme-converted": lambda r: (
        int(r["gpu_workers"]) * float(r["gpu_per_worker"]) * int(r["num_iteration"]) * 0.5 / 3600
    ),
    "openb": _openb,
    "dlrm": _dlrm,
    "spot": lambda r: float(r["gpu_request"]) * int(r["worker_num"]) * float(r["duration"]) / 3600,
    "supercloud": _supercloud,
    "gen-parallel": lambda r: (
        int(r["gpu_num"]) * float(r["run_time"]) / 3600 if r["gpu_num"] != "0" else None
    ),
    "muri": lambda r: int(r["num_gpu"]) * float(r["duration_s"]) / 3600,
    "shockwave": lambda r: int(r["num_gpu"]) * float(r["duration_s"]) / 3600,
    "sia": lambda r: int(r["gpu_num"]) * float(r["duration"]) / 3600,
}
