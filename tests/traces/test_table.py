"""The declaration of the job table, what is made from it, and writing."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fleetsim_traces
from fleetsim_traces import COLUMNS, read_trace, schema, write_jobs
from fleetsim_traces.generate import generate_jobs
from fleetsim_traces.table import columns_markdown

README = Path(fleetsim_traces.__file__).parent.parent / "README.md"


def test_schema_carries_units_and_descriptions() -> None:
    made = schema()
    assert made.metadata == {b"fleetsim.jobs.version": b"1"}
    for column in COLUMNS:
        metadata = made.field(column.name).metadata
        assert metadata[b"description"].decode() == column.description != ""
        assert metadata[b"unit"].decode() == column.unit
        assert column.name.endswith("_s") == (column.unit == "s")
    assert made.field("submit_s").type == pa.float64()
    assert made.field("gpus").type == pa.int32()
    assert made.field("gpu_share").type == pa.float32()
    assert made.field("job_id").type == pa.string()
    assert made.field("tenant").type == pa.dictionary(pa.int32(), pa.string())
    required = [f.name for f in made if not f.nullable]
    assert required == ["job_id", "submit_s", "duration_s", "gpus", "gpu_share", "tenant"]


def test_documentation_has_the_declared_columns() -> None:
    if not README.exists():
        pytest.skip("an installed wheel has no README of the folder")
    assert columns_markdown() in README.read_text(encoding="utf-8")


def test_file_says_that_it_is_generated(tmp_path: Path) -> None:
    path = write_jobs(generate_jobs(jobs=10), tmp_path / "jobs.parquet")
    assert b'"generated": true' in pq.read_schema(path).metadata[b"fleetsim.trace"]
    assert read_trace(path).generated


def test_columns_that_came_later_may_be_absent(tmp_path: Path) -> None:
    path = write_jobs(generate_jobs(jobs=5), tmp_path / "jobs.parquet")
    whole = read_trace(path)
    pq.write_table(pq.read_table(path).drop(["cpu_milli", "memory_mib"]), path)
    assert read_trace(path).jobs.equals(whole.jobs)
    assert whole.jobs["cpu_milli"].null_count == 5


def test_same_table_same_bytes(tmp_path: Path) -> None:
    one, two = (write_jobs(generate_jobs(jobs=1000, seed=1), tmp_path / name) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_failed_write_leaves_the_older_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jobs(generate_jobs(jobs=10), tmp_path / "jobs.parquet")
    before = path.read_bytes()

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_jobs(generate_jobs(jobs=20), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["jobs.parquet"]
