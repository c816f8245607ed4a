"""Jobs from lists, scenarios from keywords, and runs read back whole: what the tests of the model share."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from fleetsim import experiment, scenario
from fleetsim.schema import TABLES
from fleetsim_traces.table import COLUMNS, Trace, schema

A100, H100, V100, P100, T4 = "a100-sxm-80", "h100-sxm-80", "v100-sxm2-16", "p100-sxm2-16", "t4"


@dataclass(frozen=True)
class Job:
    """One row of a trace; durations are seconds on the workload's reference GPU."""

    submit_s: float
    duration_s: float
    gpus: int = 1
    job_id: str | None = None  # default: the row's number, from 0
    tenant: str = "t"
    user: str | None = None
    status: str | None = None
    start_s: float | None = None
    workload_class: str | None = None
    gpu_model: str | None = None
    min_memory_gb: float | None = None
    gpu_share: float = 1.0
    priority: int | None = None
    estimate_s: float | None = None
    checkpoint_s: float | None = None
    cpu_milli: int | None = None
    memory_mib: int | None = None


def trace(jobs: Sequence[Job]) -> Trace:
    """The job table of *jobs*, in the order given: it must be that of submission."""
    rows = [{**vars(job), "job_id": job.job_id or str(i)} for i, job in enumerate(jobs)]
    table = schema()
    arrays = [pa.array([row.get(c.name) for row in rows], table.field(c.name).type) for c in COLUMNS]
    data = pa.Table.from_arrays(arrays, schema=table)
    return Trace(data, format="test", source="test", epoch=None, rows_read=len(rows))


def columns_trace(**columns: Any) -> Trace:
    """The job table of NumPy *columns* ``submit_s`` and ``duration_s`` (and ``gpus``): for many jobs."""
    count = len(columns["submit_s"])
    text = pa.DictionaryArray.from_arrays(pa.nulls(count, pa.int32()).fill_null(0), pa.array(["t"]))
    given = {
        "job_id": pa.array(range(count)).cast(pa.string()),
        "gpus": pa.nulls(count, pa.int32()).fill_null(1),
        "gpu_share": pa.nulls(count, pa.float32()).fill_null(1.0),
        "tenant": text,
        **{name: pa.array(values) for name, values in columns.items()},
    }
    table = schema()
    arrays = [
        given[c.name].cast(table.field(c.name).type)
        if c.name in given
        else pa.nulls(count, table.field(c.name).type)
        for c in COLUMNS
    ]
    jobs = pa.Table.from_arrays(arrays, schema=table)
    return Trace(jobs, format="test", source="test", epoch=None, rows_read=count)


def cohort(model: str = A100, nodes: int = 1, gpus_per_node: int = 8, **more: Any) -> dict[str, Any]:
    """One cohort of a scenario; it is named after its model unless *more* names it."""
    return {"name": model, "gpu_model": model, "nodes": nodes, "gpus_per_node": gpus_per_node, **more}


def workload(name: str = "w", **more: Any) -> dict[str, Any]:
    """One workload of a scenario, of the trace that is handed over under its name."""
    return {"name": name, "trace": "given by the test", "reference_gpu": A100, **more}


@dataclass(frozen=True)
class History:
    """A finished run, read into memory."""

    tables: Mapping[str, pl.DataFrame]
    manifest: dict[str, Any]

    def __getitem__(self, table: str) -> pl.DataFrame:
        return self.tables[table]

    def jobs(self, *columns: str) -> list[Any]:
        """Values of one column of the jobs table, or tuples of several, in order of arrival."""
        rows = self.tables["jobs"].select(columns).rows()
        return [row[0] for row in rows] if len(columns) == 1 else rows

    @property
    def starts(self) -> list[float | None]:
        """Start of every job by its row, None where it never started."""
        return self.jobs("start_s")

    def where(self, job: int) -> list[tuple[int, int]]:
        """Nodes and GPUs that *job* held, lowest node first."""
        rows = self.tables["allocations"].filter(pl.col("job") == job).select("node", "gpus")
        return [(int(node), int(gpus)) for node, gpus in sorted(rows.rows())]

    def hours(self, *by: str) -> dict[Any, float]:
        """GPU hours of the usage table added up by columns."""
        rows = self.tables["usage"].with_columns(pl.col(pl.Categorical).cast(pl.String))
        added = rows.group_by(by).agg(pl.col("gpu_hours").sum()).sort(by).rows()
        return {row[0] if len(by) == 1 else row[:-1]: row[-1] for row in added}


def read(path: Path) -> History:
    """The run in the folder *path*."""
    tables = {name: pl.read_parquet(path / f"{name}.parquet") for name in TABLES}
    return History(tables, json.loads((path / "manifest.json").read_text("utf-8")))


def text(cohorts: Sequence[Mapping[str, Any]], workloads: Sequence[Mapping[str, Any]], **more: Any) -> str:
    """The text of a scenario; *more* are its other keys. JSON is YAML."""
    whole = {"name": "test", "start": "2026-01-01", "horizon": "drain", **more}
    return json.dumps({**whole, "cohorts": list(cohorts), "workloads": list(workloads)})


def simulate(
    traces: Sequence[Job] | Trace | Mapping[str, Sequence[Job] | Trace],
    cohorts: Sequence[Mapping[str, Any]] | None = None,
    workloads: Sequence[Mapping[str, Any]] | None = None,
    *,
    queue: str = "fifo",
    placement: str = "best_fit",
    prefer: str = "fastest",
    scheduler: Mapping[str, Any] | None = None,
    **more: Any,
) -> History:
    """Replay *traces* (of one workload, or by name) on *cohorts* through the public door and read the run.

    By default: one node of eight A100, durations measured on an A100, until the last job has ended.
    """
    named = traces if isinstance(traces, Mapping) else {"w": traces}
    rules = {"queue": queue, "placement": placement, "prefer": prefer, **(scheduler or {})}
    words = text(cohorts or [cohort()], workloads or [workload(n) for n in named], scheduler=rules, **more)
    given = {name: jobs if isinstance(jobs, Trace) else trace(jobs) for name, jobs in named.items()}
    with tempfile.TemporaryDirectory() as folder:
        run = experiment.run(scenario.parse(words, "test"), Path(folder) / "run", traces=given)
        return read(run.path)
